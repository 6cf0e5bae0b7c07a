//! Unpredictable bytes: ChaCha20 keyed from RDSEED, RDRAND and timing jitter, rekeyed after every request.
//!
//! Rekeying (fast key erasure) means that whoever learns the state later cannot compute what was handed out before.
//! The generator is one for all CPUs: requests are rare and short.
use crate::{clock, cpu};
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

type Key = [u32; 8];

struct Generator {
    is_locked: AtomicBool,
    is_seeded: AtomicBool,
    key: UnsafeCell<Key>,
}

// SAFETY: the key is touched only under the lock.
unsafe impl Sync for Generator {}

static GENERATOR: Generator = Generator {
    is_locked: AtomicBool::new(false),
    is_seeded: AtomicBool::new(false),
    key: UnsafeCell::new([0; 8]),
};

/// Fills `buf`.
pub fn fill(buf: &mut [u8]) {
    with_key(|key| {
        if !GENERATOR.is_seeded.swap(true, Ordering::Relaxed) {
            mix_in(key, &gather());
        }
        generate(key, buf);
    });
}

/// Mixes entropy from elsewhere (a device, the wall clock) into the generator.
pub fn add_entropy(bytes: &[u8]) {
    with_key(|key| {
        for chunk in bytes.chunks(32) {
            let mut words = [0_u32; 8];
            for (n, &byte) in chunk.iter().enumerate() {
                words[n / 4] |= u32::from(byte) << (8 * (n % 4));
            }
            mix_in(key, &words);
        }
    });
}

fn with_key(f: impl FnOnce(&mut Key)) {
    cpu::preempt_disable();
    while GENERATOR.is_locked.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    // SAFETY: the lock is held.
    f(unsafe { &mut *GENERATOR.key.get() });
    GENERATOR.is_locked.store(false, Ordering::Release);
    cpu::preempt_enable();
}

/// Absorbs `words`: xor into the key, then one block makes the next key of it.
fn mix_in(key: &mut Key, words: &Key) {
    for (k, w) in key.iter_mut().zip(words) {
        *k ^= w;
    }
    let next = block(key, u64::MAX);
    key.copy_from_slice(&next[..8]);
}

/// Output from counter 1 on; counter 0 becomes the next key.
fn generate(key: &mut Key, buf: &mut [u8]) {
    for (n, chunk) in buf.chunks_mut(64).enumerate() {
        let words = block(key, n as u64 + 1);
        for (byte, value) in chunk.iter_mut().zip(words.iter().flat_map(|w| w.to_le_bytes())) {
            *byte = value;
        }
    }
    let next = block(key, 0);
    key.copy_from_slice(&next[..8]);
}

/// The ChaCha20 block function with a 64-bit counter and nonce 0.
fn block(key: &Key, counter: u64) -> [u32; 16] {
    let mut start = [0; 16];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    start[4..12].copy_from_slice(key);
    (start[12], start[13]) = (counter as u32, (counter >> 32) as u32);
    permute(&start)
}

fn permute(start: &[u32; 16]) -> [u32; 16] {
    let mut state = *start;
    for _ in 0..10 {
        for column in 0..4 {
            quarter(&mut state, [column, column + 4, column + 8, column + 12]);
        }
        for diagonal in 0..4_usize {
            let at = |row: usize| 4 * row + (diagonal + row) % 4;
            quarter(&mut state, [at(0), at(1), at(2), at(3)]);
        }
    }
    for (word, first) in state.iter_mut().zip(start) {
        *word = word.wrapping_add(*first);
    }
    state
}

fn quarter(s: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(16);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(12);
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(8);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(7);
}

/// Seed material: hardware where there is any, and always the clock and its jitter.
fn gather() -> Key {
    let mut seed = [0; 8];
    for (n, word) in seed.iter_mut().enumerate() {
        let mut jitter = 0_u64;
        for _ in 0..16 {
            jitter = jitter.rotate_left(5) ^ clock::tsc();
            core::hint::spin_loop();
        }
        let hardware = hardware_word().unwrap_or(0);
        *word = jitter as u32 ^ (jitter >> 32) as u32 ^ hardware as u32 ^ (hardware >> 32) as u32 ^ n as u32;
    }
    seed[0] ^= clock::wall_ns() as u32;
    seed[1] ^= (clock::wall_ns() >> 32) as u32;
    seed
}

fn hardware_word() -> Option<u64> {
    const TRIES_MAX: usize = 10;
    let features = cpu::features();
    for _ in 0..TRIES_MAX {
        let (value, is_valid): (u64, u8);
        // SAFETY: only executed where the instruction exists.
        unsafe {
            if features.has_rdseed {
                asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) is_valid, options(nomem, nostack));
            } else if features.has_rdrand {
                asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) is_valid, options(nomem, nostack));
            } else {
                return None;
            }
        }
        if is_valid != 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_matches_rfc_8439() {
        // RFC 8439, section 2.3.2: key 00..1f, counter 1, nonce 00000009 0000004a 00000000.
        let mut start = [0_u32; 16];
        start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
        for (n, word) in start[4..12].iter_mut().enumerate() {
            let b = 4 * n as u32;
            *word = b | (b + 1) << 8 | (b + 2) << 16 | (b + 3) << 24;
        }
        start[12..].copy_from_slice(&[1, 0x0900_0000, 0x4a00_0000, 0]);
        let out = permute(&start);
        assert_eq!(out[..4], [0xe4e7_f110, 0x1559_3bd1, 0x1fdd_0f50, 0xc471_20a3]);
        assert_eq!(out[15], 0x4e3c_50a2);
    }

    #[test]
    fn every_request_changes_the_key() {
        let mut key = [7; 8];
        let (mut a, mut b) = ([0; 100], [0; 100]);
        generate(&mut key, &mut a);
        generate(&mut key, &mut b);
        assert_ne!(a, b);
        assert_ne!(key, [7; 8]);
    }
}
