//! The first instructions: from the loader's 32-bit world to the first Rust function, on every CPU.
//!
//! There is one way in, the PVH entry point (32-bit, paging off, EBX points at the start information): QEMU's
//! `-kernel` uses it, and our own BIOS loader ends by jumping to it. The code builds page tables for the first 4 GiB
//! (1:1, and at the direct map) and for 64 MiB at the image's place, all in 2 MiB pages, turns on long mode and
//! calls [`crate::boot_cpu_main`]. Other CPUs come through the trampoline, copied below 1 MiB, and call
//! [`crate::other_cpu_main`].
use core::arch::global_asm;
use core::sync::atomic::AtomicU64;

global_asm!(
    r#"
.set IMAGE_BASE, 0xffffffff80000000
.section .note.Xen,"a",@note
.align 4
.long 4, 4, 18            # sizes of name and value, XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.long pvh_start - IMAGE_BASE
.align 4

.section .boot,"ax"
.code32
.global pvh_start
pvh_start:
    cli
    cld
    rdtsc
    movl %eax, (BOOT_TSC - IMAGE_BASE)
    movl %edx, (BOOT_TSC - IMAGE_BASE + 4)
    movl %ebx, (BOOT_INFO - IMAGE_BASE)
    # top level: 0 and 256 -> the first 4 GiB, 511 -> the image
    movl $(boot_pml4 - IMAGE_BASE), %edi
    movl $(boot_pdpt_low - IMAGE_BASE + 3), %eax
    movl %eax, (%edi)
    movl %eax, 2048(%edi)
    movl $(boot_pdpt_image - IMAGE_BASE + 3), %eax
    movl %eax, 4088(%edi)
    movl $(boot_pdpt_low - IMAGE_BASE), %edi
    movl $(boot_pds - IMAGE_BASE + 3), %eax
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $4096, %eax
    loop 1b
    movl $(boot_pd_image - IMAGE_BASE + 3), %eax
    movl %eax, (boot_pdpt_image - IMAGE_BASE + 4080)
    movl $(boot_pds - IMAGE_BASE), %edi
    movl $0x83, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    loop 1b
    movl $(boot_pd_image - IMAGE_BASE), %edi
    movl $0x83, %eax
    movl $32, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    loop 1b
    movl $(start64_boot - IMAGE_BASE), %esi
    jmp enter64

# esi = low address of the 64-bit entry
enter64:
    movl %cr4, %eax
    orl $0x6a0, %eax          # PAE PGE OSFXSR OSXMMEXCPT
    movl %eax, %cr4
    movl $(boot_pml4 - IMAGE_BASE), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax          # SCE LME NXE
    wrmsr
    movl %cr0, %eax
    andl $0x9ffffffb, %eax    # not EM, caches on
    orl $0x80010023, %eax     # PG WP NE MP PE
    movl %eax, %cr0
    lgdt (boot_gdt_pointer - IMAGE_BASE)
    ljmp $8, $(in_long_mode - IMAGE_BASE)
.code64
in_long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movl %esi, %esi
    movabsq $IMAGE_BASE, %rax
    addq %rax, %rsi
    jmp *%rsi
start64_boot:
    leaq boot_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    call {boot_cpu}
    ud2
start64_other:
    movq OTHER_CPU_STACK(%rip), %rsp
    movq OTHER_CPU_BLOCK(%rip), %rdi
    xorl %ebp, %ebp
    call {other_cpu}
    ud2

# copied to physical 0x8000
.code16
.global trampoline_start, trampoline_end
trampoline_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl (0x8000 + (trampoline_gdt_pointer - trampoline_start))
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x18, $(0x8000 + (trampoline_32 - trampoline_start))
.code32
trampoline_32:
    movw $0x20, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $(start64_other - IMAGE_BASE), %esi
    movl $(enter64 - IMAGE_BASE), %eax
    jmp *%eax
.align 8
trampoline_gdt_pointer: .word 39
    .long boot_gdt - IMAGE_BASE
trampoline_end:

.code64
.section .data
.align 16
boot_gdt: .quad 0
    .quad 0x00209a0000000000   # 08 64-bit code
    .quad 0x0000920000000000   # 10 data
    .quad 0x00cf9a000000ffff   # 18 32-bit code
    .quad 0x00cf92000000ffff   # 20 32-bit data
boot_gdt_pointer: .word 39
    .quad boot_gdt - IMAGE_BASE
.section .bss
.align 4096
.global boot_pml4
boot_pml4: .skip 4096
boot_pdpt_low: .skip 4096
boot_pdpt_image: .skip 4096
boot_pd_image: .skip 4096
boot_pds: .skip 16384
.skip 49152
boot_stack_top:
.text
"#,
    boot_cpu = sym crate::boot_cpu_main,
    other_cpu = sym crate::other_cpu_main,
    options(att_syntax)
);

/// TSC at the first instruction.
#[unsafe(no_mangle)]
pub static BOOT_TSC: AtomicU64 = AtomicU64::new(0);
/// Physical address of the loader's start information.
#[unsafe(no_mangle)]
pub static BOOT_INFO: AtomicU64 = AtomicU64::new(0);
/// Stack of the CPU being started.
#[unsafe(no_mangle)]
pub static OTHER_CPU_STACK: AtomicU64 = AtomicU64::new(0);
/// Block of the CPU being started.
#[unsafe(no_mangle)]
pub static OTHER_CPU_BLOCK: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    static boot_pml4: u8;
    static trampoline_start: u8;
    static trampoline_end: u8;
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
}

/// Code for other CPUs, to be copied to [`hal::smp::TRAMPOLINE`].
pub fn trampoline() -> &'static [u8] {
    let (start, end) = (&raw const trampoline_start, &raw const trampoline_end);
    // SAFETY: the bytes between two labels of the code above.
    unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// Virtual address of the boot page table.
pub fn boot_root() -> usize {
    &raw const boot_pml4 as usize
}

/// Where the image's parts begin and end.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// First byte of code.
    pub start: usize,
    /// Past the code.
    pub text_end: usize,
    /// Past the constants.
    pub rodata_end: usize,
    /// Past everything, without the symbol table.
    pub end: usize,
}

/// The image's extent.
pub fn image() -> Image {
    Image {
        start: &raw const __image_start as usize,
        text_end: &raw const __text_end as usize,
        rodata_end: &raw const __rodata_end as usize,
        end: &raw const __image_end as usize,
    }
}
