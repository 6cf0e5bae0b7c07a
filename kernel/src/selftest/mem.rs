//! The memory functions, over every length and offset that takes another path through them.
use alloc::vec::Vec;

const LEN_MAX: usize = 300;

fn pattern(n: usize) -> u8 {
    (n * 7 + n / 251) as u8
}

/// True if copies, overlapping moves, fills and comparisons do what they should and no more.
pub fn run() -> bool {
    let lengths: Vec<usize> = (0..LEN_MAX).chain([4095, 4096, 4097]).collect();
    lengths.iter().all(|&len| (0..3).all(|offset| copies(len, offset) && fills(len, offset)))
        && lengths.iter().all(|&len| [1, 7, 16, 33].iter().all(|&by| moves(len, by)))
        && (1..LEN_MAX).all(compares)
}

fn copies(len: usize, offset: usize) -> bool {
    let source: Vec<u8> = (0..len + 8).map(pattern).collect();
    let mut target = alloc::vec![0xee_u8; len + 16];
    target[offset..offset + len].copy_from_slice(&source[8 - offset..8 - offset + len]);
    let is_copied = (0..len).all(|n| target[offset + n] == pattern(8 - offset + n));
    is_copied && target[..offset].iter().chain(&target[offset + len..]).all(|b| *b == 0xee)
}

fn fills(len: usize, offset: usize) -> bool {
    let mut target = alloc::vec![0xee_u8; len + 16];
    target[offset..offset + len].fill(0x5a);
    let is_filled = target[offset..offset + len].iter().all(|b| *b == 0x5a);
    is_filled && target[..offset].iter().chain(&target[offset + len..]).all(|b| *b == 0xee)
}

fn moves(len: usize, by: usize) -> bool {
    let original: Vec<u8> = (0..len + by).map(pattern).collect();
    let (mut up, mut down) = (original.clone(), original.clone());
    up.copy_within(..len, by);
    down.copy_within(by.., 0);
    up[by..] == original[..len] && down[..len] == original[by..]
}

fn compares(len: usize) -> bool {
    let a: Vec<u8> = (0..len).map(pattern).collect();
    let mut b = a.clone();
    let is_same = a == b && a.cmp(&b).is_eq();
    let at = len - 1 - len / 3;
    b[at] = b[at].wrapping_add(1).max(1);
    let is_right = a.cmp(&b) == a[at].cmp(&b[at]) && a != b;
    is_same && is_right
}
