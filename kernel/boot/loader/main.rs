//! The BIOS loader: a boot sector that reads the second stage, and the second stage that reads the memory map, the
//! command line and the kernel, and enters the kernel at its PVH entry point as QEMU's own loader would.
//!
//! Memory it uses: 0x5000 start information, 0x5100 memory map, 0x6000 command line, 0x7c00 itself, 0x10000 buffer
//! for 127 sectors, 2 MiB and up the kernel. The values at fixed places are filled in by `kernel_boot::install`.
#![no_std]
#![no_main]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

core::arch::global_asm!(
    r#"
.section .stage1,"ax"
.code16
.global stage1
stage1:
    jmp 1f
.org 4
stage2_lba: .quad 0
1:  cli
    xorw %ax,%ax
    movw %ax,%ds
    movw %ax,%es
    movw %ax,%ss
    movw $0x7c00,%sp
    ljmp $0,$1f
1:  sti
    cld
    movb %dl, drive
    movl stage2_lba, %eax
    movl %eax, packet1 + 8
    movl stage2_lba + 4, %eax
    movl %eax, packet1 + 12
    movw $packet1, %si
    movb $0x42,%ah
    int $0x13
    jc fail
    jmp stage2
fail:
    movw $message, %si
1:  lodsb
    testb %al,%al
    jz 2f
    pushw %ax
    movb $0xe,%ah
    xorw %bx,%bx
    int $0x10
    popw %ax
    movw $0x3f8,%dx
    outb %al,%dx
    jmp 1b
2:  hlt
    jmp 2b
message: .asciz "zeolite: cannot read the boot disk\r\n"
drive: .byte 0
.align 4
packet1: .byte 16,0
    .word 8
    .word 0x7e00,0
    .quad 0
.org 440

.section .stage2,"ax"
.global stage2
stage2: jmp s2
.org 4
command_lba:    .quad 0
kernel_lba:     .quad 0
kernel_sectors: .long 0
kernel_entry:   .long 0
kernel_target:  .long 0x200000
.align 4
packet2: .byte 16,0
count: .word 0
    .word 0,0x1000
lba2: .quad 0
packet3: .byte 16,0
    .word 8
    .word 0x6000,0
lba3: .quad 0
gdt: .quad 0
    .quad 0x00cf9a000000ffff
    .quad 0x00cf92000000ffff
    .quad 0x00009a000000ffff
gdt_pointer: .word 31
    .long gdt
nr_regions: .long 0
s2:
    # address line 20 on, by BIOS and by the fast gate
    movw $0x2401,%ax
    int $0x15
    inb $0x92,%al
    orb $2,%al
    andb $0xfe,%al
    outb %al,$0x92
    # memory map: at most 100 entries
    xorl %ebx,%ebx
    movw $0x5100,%di
1:  movl $0xe820,%eax
    movl $24,%ecx
    movl $0x534d4150,%edx
    movl $1,20(%di)
    int $0x15
    jc 2f
    movl $0,20(%di)
    addw $24,%di
    incl nr_regions
    cmpl $100,nr_regions
    jae 2f
    testl %ebx,%ebx
    jnz 1b
2:
    movl command_lba,%eax
    movl %eax,lba3
    movl command_lba+4,%eax
    movl %eax,lba3+4
    movw $packet3,%si
    movb drive,%dl
    movb $0x42,%ah
    int $0x13
    jc fail
    movb $0,0x6fff
    movl kernel_lba,%eax
    movl %eax,lba2
    movl kernel_lba+4,%eax
    movl %eax,lba2+4
next:
    movl kernel_sectors,%eax
    testl %eax,%eax
    jz done
    cmpl $127,%eax
    jbe 1f
    movl $127,%eax
1:  movw %ax,count
    movw $packet2,%si
    movb drive,%dl
    movb $0x42,%ah
    int $0x13
    jc fail
    # copy high in protected mode
    cli
    lgdtl gdt_pointer
    movl %cr0,%eax
    orb $1,%al
    movl %eax,%cr0
    ljmp $8,$in_protected
.code32
in_protected:
    movw $0x10,%ax
    movw %ax,%ds
    movw %ax,%es
    movl $0x10000,%esi
    movl kernel_target,%edi
    movzwl count,%ecx
    shll $7,%ecx
    rep movsl
    movl %edi,kernel_target
    # back through a 16-bit code segment
    ljmp $0x18,$leaving_protected
.code16
leaving_protected:
    movl %cr0,%eax
    andb $0xfe,%al
    movl %eax,%cr0
    ljmp $0,$1f
1:  xorw %ax,%ax
    movw %ax,%ds
    movw %ax,%es
    movw %ax,%ss
    sti
    movzwl count,%eax
    addl %eax,lba2
    adcl $0,lba2+4
    subl %eax,kernel_sectors
    jmp next
done:
    cli
    lgdtl gdt_pointer
    movl %cr0,%eax
    orb $1,%al
    movl %eax,%cr0
    ljmp $8,$1f
.code32
1:  movw $0x10,%ax
    movw %ax,%ds
    movw %ax,%es
    movw %ax,%ss
    movl $0x7c00,%esp
    # start information, version 1, without modules and without ACPI root: the kernel looks for that itself
    movl $0x5000,%edi
    xorl %eax,%eax
    movl $14,%ecx
    rep stosl
    movl $0x5000,%ebx
    movl $0x336ec578,(%ebx)
    movl $1,4(%ebx)
    movl $0x6000,24(%ebx)
    movl $0x5100,40(%ebx)
    movl nr_regions,%eax
    movl %eax,48(%ebx)
    movl kernel_entry,%eax
    jmp *%eax
.org 4096
"#,
    options(att_syntax)
);
