//! Access to application memory that survives a bad address.
//!
//! The routines here are one contiguous piece of code. A fault in it that the fault hook does not resolve (no such
//! mapping, wrong protection, or the kernel may not sleep now) continues at its landing, which returns how much was
//! not done. Everyone else who touches application memory must know that it is mapped.
//!
//! Convention inside: RCX holds what is left, the stack is not used.
use crate::addr::USER_END;
use crate::trap::TrapFrame;
use core::arch::global_asm;

/// The address or range is not accessible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress;

global_asm!(
    r#"
    .section .text.hal_uaccess,"ax",@progbits
    .balign 16
    .global hal_uaccess_start, hal_uaccess_end, hal_uaccess_landing
    .global hal_uaccess_copy, hal_uaccess_zero, hal_uaccess_load32, hal_uaccess_cas32, hal_uaccess_strnlen
    .global hal_uaccess_load64, hal_uaccess_store64, hal_uaccess_load8
hal_uaccess_landing:
    mov rax, rcx
    ret
hal_uaccess_start:
    // (rdi destination, rsi source, rdx bytes) -> bytes left
hal_uaccess_copy:
    mov rcx, rdx
    cmp rcx, 64
    jb 3f
2:  movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
    add rsi, 64
    add rdi, 64
    sub rcx, 64
    cmp rcx, 64
    jae 2b
3:  cmp rcx, 8
    jb 5f
4:  mov rax, [rsi]
    mov [rdi], rax
    add rsi, 8
    add rdi, 8
    sub rcx, 8
    cmp rcx, 8
    jae 4b
5:  test rcx, rcx
    jz 7f
6:  movzx eax, byte ptr [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec rcx
    jnz 6b
7:  mov rax, rcx
    ret
    // (rdi destination, rsi bytes) -> bytes left
hal_uaccess_zero:
    mov rcx, rsi
    xorps xmm0, xmm0
    cmp rcx, 16
    jb 3f
2:  movups [rdi], xmm0
    add rdi, 16
    sub rcx, 16
    cmp rcx, 16
    jae 2b
3:  test rcx, rcx
    jz 5f
4:  mov byte ptr [rdi], 0
    inc rdi
    dec rcx
    jnz 4b
5:  mov rax, rcx
    ret
    // (rdi source, rsi place for the value) -> 0 or 1
hal_uaccess_load8:
    mov ecx, 1
    movzx eax, byte ptr [rdi]
    mov [rsi], al
    xor eax, eax
    ret
hal_uaccess_load32:
    mov ecx, 1
    mov eax, [rdi]
    mov [rsi], eax
    xor eax, eax
    ret
hal_uaccess_load64:
    mov ecx, 1
    mov rax, [rdi]
    mov [rsi], rax
    xor eax, eax
    ret
    // (rdi destination, rsi value) -> 0 or 1
hal_uaccess_store64:
    mov ecx, 1
    mov [rdi], rsi
    xor eax, eax
    ret
    // (rdi word, esi expected, edx new, rcx place for the old value) -> 0 or 1
hal_uaccess_cas32:
    mov r8, rcx
    mov ecx, 1
    mov eax, esi
    lock cmpxchg [rdi], edx
    mov [r8], eax
    xor eax, eax
    ret
    // (rdi string, rsi most bytes, rdx place for the length) -> 0 or 1
hal_uaccess_strnlen:
    mov ecx, 1
    mov r8, rdi
    add rsi, rdi
    // to a multiple of 16: such a group never reaches into the next page
1:  cmp rdi, rsi
    jae 3f
    test dil, 15
    jz 2f
    cmp byte ptr [rdi], 0
    je 3f
    inc rdi
    jmp 1b
2:  pxor xmm0, xmm0
    pcmpeqb xmm0, [rdi]
    pmovmskb eax, xmm0
    test eax, eax
    jnz 4f
    add rdi, 16
    cmp rdi, rsi
    jb 2b
    jmp 5f
4:  bsf eax, eax
    add rdi, rax
5:  cmp rdi, rsi
    cmova rdi, rsi
3:  sub rdi, r8
    mov [rdx], rdi
    xor eax, eax
    ret
hal_uaccess_end:
    .text
    "#
);

unsafe extern "C" {
    static hal_uaccess_start: u8;
    static hal_uaccess_end: u8;
    static hal_uaccess_landing: u8;
    fn hal_uaccess_copy(to: *mut u8, from: *const u8, len: usize) -> usize;
    fn hal_uaccess_zero(to: *mut u8, len: usize) -> usize;
    fn hal_uaccess_load8(from: *const u8, value: *mut u8) -> usize;
    fn hal_uaccess_load32(from: *const u32, value: *mut u32) -> usize;
    fn hal_uaccess_load64(from: *const u64, value: *mut u64) -> usize;
    fn hal_uaccess_store64(to: *mut u64, value: u64) -> usize;
    fn hal_uaccess_cas32(word: *mut u32, expected: u32, new: u32, old: *mut u32) -> usize;
    fn hal_uaccess_strnlen(string: *const u8, len: usize, found: *mut usize) -> usize;
}

/// Continues a faulting access at its landing; false if the fault was elsewhere.
pub(crate) fn fix_up(frame: &mut TrapFrame) -> bool {
    let range = (&raw const hal_uaccess_start as u64)..(&raw const hal_uaccess_end as u64);
    if !range.contains(&frame.rip) {
        return false;
    }
    frame.rip = &raw const hal_uaccess_landing as u64;
    true
}

/// Whether `len` bytes at `addr` lie in the application's half.
pub const fn is_user_range(addr: usize, len: usize) -> bool {
    match addr.checked_add(len) {
        Some(end) => end <= USER_END,
        None => false,
    }
}

const fn check(addr: usize, len: usize) -> Result<(), BadAddress> {
    if is_user_range(addr, len) { Ok(()) } else { Err(BadAddress) }
}

const fn outcome(left: usize) -> Result<(), BadAddress> {
    if left == 0 { Ok(()) } else { Err(BadAddress) }
}

/// Copies `to.len()` bytes from the application; what cannot be read leaves the rest of `to` as it was.
///
/// # Errors
/// Part of the range is not readable.
pub fn copy_in(to: &mut [u8], from: usize) -> Result<(), BadAddress> {
    check(from, to.len())?;
    // SAFETY: the destination is ours; a fault at the source ends the copy.
    outcome(unsafe { hal_uaccess_copy(to.as_mut_ptr(), from as *const u8, to.len()) })
}

/// Copies `from` to the application.
///
/// # Errors
/// Part of the range is not writable.
pub fn copy_out(to: usize, from: &[u8]) -> Result<(), BadAddress> {
    outcome(copy_out_partly(to, from)?)
}

/// Copies `from` to the application as far as possible; the number of bytes not copied.
///
/// # Errors
/// The range is not in the application's half.
pub fn copy_out_partly(to: usize, from: &[u8]) -> Result<usize, BadAddress> {
    check(to, from.len())?;
    // SAFETY: the source is ours; application memory is no Rust object; a fault ends the copy.
    Ok(unsafe { hal_uaccess_copy(to as *mut u8, from.as_ptr(), from.len()) })
}

/// Copies from the application as far as possible; the number of bytes not copied.
///
/// # Errors
/// The range is not in the application's half.
pub fn copy_in_partly(to: &mut [u8], from: usize) -> Result<usize, BadAddress> {
    check(from, to.len())?;
    // SAFETY: as in copy_in.
    Ok(unsafe { hal_uaccess_copy(to.as_mut_ptr(), from as *const u8, to.len()) })
}

/// Zeroes `len` bytes of the application.
///
/// # Errors
/// Part of the range is not writable.
pub fn zero(to: usize, len: usize) -> Result<(), BadAddress> {
    check(to, len)?;
    // SAFETY: application memory is no Rust object; a fault ends it.
    outcome(unsafe { hal_uaccess_zero(to as *mut u8, len) })
}

/// Loads a byte.
///
/// # Errors
/// It is not readable.
pub fn load_u8(from: usize) -> Result<u8, BadAddress> {
    check(from, 1)?;
    let mut value = 0;
    // SAFETY: a fault at the source ends it.
    outcome(unsafe { hal_uaccess_load8(from as *const u8, &mut value) })?;
    Ok(value)
}

/// Loads a word in one access (aligned words: atomically).
///
/// # Errors
/// It is not readable.
pub fn load_u32(from: usize) -> Result<u32, BadAddress> {
    check(from, 4)?;
    let mut value = 0;
    // SAFETY: a fault at the source ends it.
    outcome(unsafe { hal_uaccess_load32(from as *const u32, &mut value) })?;
    Ok(value)
}

/// Loads a double word in one access.
///
/// # Errors
/// It is not readable.
pub fn load_u64(from: usize) -> Result<u64, BadAddress> {
    check(from, 8)?;
    let mut value = 0;
    // SAFETY: a fault at the source ends it.
    outcome(unsafe { hal_uaccess_load64(from as *const u64, &mut value) })?;
    Ok(value)
}

/// Stores a double word in one access.
///
/// # Errors
/// It is not writable.
pub fn store_u64(to: usize, value: u64) -> Result<(), BadAddress> {
    check(to, 8)?;
    // SAFETY: application memory is no Rust object; a fault ends it.
    outcome(unsafe { hal_uaccess_store64(to as *mut u64, value) })
}

/// Atomically replaces the word by `new` if it is `expected`; what it was.
///
/// # Errors
/// It is not writable.
pub fn compare_exchange_u32(word: usize, expected: u32, new: u32) -> Result<u32, BadAddress> {
    check(word, 4)?;
    let mut old = 0;
    // SAFETY: application memory is no Rust object; a fault ends it.
    outcome(unsafe { hal_uaccess_cas32(word as *mut u32, expected, new, &mut old) })?;
    Ok(old)
}

/// Length of the string at `from`, at most `len_max`.
///
/// # Errors
/// A byte before its end is not readable.
pub fn strnlen(from: usize, len_max: usize) -> Result<usize, BadAddress> {
    check(from, 0)?;
    let mut found = 0;
    // SAFETY: a fault ends it.
    outcome(unsafe { hal_uaccess_strnlen(from as *const u8, len_max.min(USER_END - from), &mut found) })?;
    Ok(found)
}
