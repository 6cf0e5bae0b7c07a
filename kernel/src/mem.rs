//! The memory functions the compiler calls, and stubs for symbols the prebuilt `core` and `alloc` mention.
//!
//! Copies go through XMM registers in 128-byte rounds: `rep movsb` is slow under emulation (one round per byte) and
//! no faster on real CPUs below a page.
use core::arch::global_asm;

global_asm!(
    r#"
.section .text.memory,"ax",@progbits
.global memcpy, memmove, memset, memcmp, bcmp, strlen
.global rust_eh_personality, _Unwind_Resume

.balign 16
memmove:
    mov rax, rdi
    sub rax, rsi
    cmp rax, rdx
    jb 20f
memcpy:
    mov rax, rdi
    cmp rdx, 16
    jb 10f
    cmp rdx, 32
    ja 2f
    movups xmm0, [rsi]
    movups xmm1, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + rdx - 16], xmm1
    ret
    # from both ends, overlapping; everything is loaded before anything is stored, so memmove may come here too
2:  movups xmm8, [rsi + rdx - 16]
    movups xmm9, [rsi + rdx - 32]
    lea r8, [rdi + rdx]
    cmp rdx, 64
    ja 3f
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [r8 - 16], xmm8
    movups [r8 - 32], xmm9
    ret
3:  movups xmm10, [rsi + rdx - 48]
    movups xmm11, [rsi + rdx - 64]
    cmp rdx, 128
    ja 9f
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
    jmp 8f
    # more than 128: rounds of 128, one of 64 if as much is left, then the last 64 overlapping
9:  mov rcx, rdx
    and rcx, -128
    add rsi, rcx
    add rdi, rcx
    neg rcx
4:  movups xmm0, [rsi + rcx]
    movups xmm1, [rsi + rcx + 16]
    movups xmm2, [rsi + rcx + 32]
    movups xmm3, [rsi + rcx + 48]
    movups xmm4, [rsi + rcx + 64]
    movups xmm5, [rsi + rcx + 80]
    movups xmm6, [rsi + rcx + 96]
    movups xmm7, [rsi + rcx + 112]
    movups [rdi + rcx], xmm0
    movups [rdi + rcx + 16], xmm1
    movups [rdi + rcx + 32], xmm2
    movups [rdi + rcx + 48], xmm3
    movups [rdi + rcx + 64], xmm4
    movups [rdi + rcx + 80], xmm5
    movups [rdi + rcx + 96], xmm6
    movups [rdi + rcx + 112], xmm7
    add rcx, 128
    jnz 4b
    and edx, 127
    jz 7f
    cmp edx, 64
    jbe 8f
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
8:  movups [r8 - 16], xmm8
    movups [r8 - 32], xmm9
    movups [r8 - 48], xmm10
    movups [r8 - 64], xmm11
7:  ret
    # less than 16
10: cmp edx, 8
    jb 11f
    mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
11: cmp edx, 4
    jb 12f
    mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
12: test edx, edx
    jz 13f
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + rdx - 1]
    mov r10, rdx
    shr r10, 1
    movzx r9d, byte ptr [rsi + r10]
    mov [rdi], cl
    mov [rdi + r10], r9b
    mov [rdi + rdx - 1], r8b
13: ret

    # destination inside the source range: from the end
20: mov rax, rdi
    mov rcx, rdx
21: cmp rcx, 16
    jb 22f
    movups xmm0, [rsi + rcx - 16]
    movups [rdi + rcx - 16], xmm0
    sub rcx, 16
    jmp 21b
22: test rcx, rcx
    jz 23f
    movzx r8d, byte ptr [rsi + rcx - 1]
    mov [rdi + rcx - 1], r8b
    dec rcx
    jmp 22b
23: ret

.balign 16
memset:
    mov rax, rdi
    movzx esi, sil
    mov r8, 0x0101010101010101
    imul rsi, r8
    cmp rdx, 16
    jb 6f
    movq xmm0, rsi
    punpcklqdq xmm0, xmm0
    lea r8, [rdi + rdx - 16]
    and rdx, -128
    jz 4f
    add rdi, rdx
    neg rdx
3:  movups [rdi + rdx], xmm0
    movups [rdi + rdx + 16], xmm0
    movups [rdi + rdx + 32], xmm0
    movups [rdi + rdx + 48], xmm0
    movups [rdi + rdx + 64], xmm0
    movups [rdi + rdx + 80], xmm0
    movups [rdi + rdx + 96], xmm0
    movups [rdi + rdx + 112], xmm0
    add rdx, 128
    jnz 3b
4:  cmp rdi, r8
    jae 5f
    movups [rdi], xmm0
    add rdi, 16
    jmp 4b
5:  movups [r8], xmm0
    ret
6:  test rdx, rdx
    jz 7f
    mov [rdi + rdx - 1], sil
    dec rdx
    jmp 6b
7:  ret

.balign 16
memcmp:
bcmp:
    xor ecx, ecx
1:  lea r8, [rcx + 8]
    cmp r8, rdx
    ja 2f
    mov rax, [rdi + rcx]
    mov r9, [rsi + rcx]
    cmp rax, r9
    jne 4f
    mov rcx, r8
    jmp 1b
2:  cmp rcx, rdx
    jae 3f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    jz 2b
    ret
3:  xor eax, eax
    ret
4:  bswap rax
    bswap r9
    cmp rax, r9
    sbb eax, eax
    or eax, 1
    ret

.balign 16
strlen:
    xor eax, eax
1:  cmp byte ptr [rdi + rax], 0
    je 2f
    inc rax
    jmp 1b
2:  ret

rust_eh_personality:
_Unwind_Resume:
    ud2
.text
"#
);
