//! The compact symbol table, as `hal::backtrace` reads it.
//!
//! `b"ZSYM"`, count (u32), per symbol the offset of its address from the image base (u32, ascending), count + 1
//! offsets of names (u32), the names without terminators. Little-endian.
use crate::elf::Symbol;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Where the kernel is linked; symbols elsewhere are left out.
pub const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Generic functions have endless names.
const NAME_MAX: usize = 100;

/// Builds the table from a kernel's function symbols.
pub fn build(symbols: &[Symbol<'_>]) -> Vec<u8> {
    let mut list: Vec<(u32, String)> = symbols.iter().filter_map(entry).collect();
    list.sort();
    list.dedup_by_key(|entry| entry.0);
    let mut table = Vec::from(*b"ZSYM");
    table.extend((list.len() as u32).to_le_bytes());
    for (offset, _) in &list {
        table.extend(offset.to_le_bytes());
    }
    let mut at = 0_u32;
    table.extend(at.to_le_bytes());
    for (_, name) in &list {
        at += name.len() as u32;
        table.extend(at.to_le_bytes());
    }
    for (_, name) in &list {
        table.extend(name.as_bytes());
    }
    table
}

fn entry(symbol: &Symbol<'_>) -> Option<(u32, String)> {
    let offset = u32::try_from(symbol.address.checked_sub(IMAGE_BASE)?).ok()?;
    let mangled = core::str::from_utf8(symbol.name).ok()?;
    // The alternate form leaves out the hash.
    let mut name = format!("{:#}", rustc_demangle::demangle(mangled));
    if name.len() > NAME_MAX {
        let end = (0..=NAME_MAX).rev().find(|&n| name.is_char_boundary(n)).unwrap_or(0);
        name.truncate(end);
    }
    Some((offset, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_and_demangles() {
        let symbol = |address: u64, name: &'static [u8]| Symbol { address: IMAGE_BASE + address, name };
        let table = build(&[
            symbol(0x20, b"_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            symbol(0x10, b"plain"),
        ]);
        let expected = [
            &b"ZSYM\x02\0\0\0\x10\0\0\0\x20\0\0\0"[..],
            &[0, 0, 0, 0, 5, 0, 0, 0, 32, 0, 0, 0],
            b"plaincore::fmt::Write::write_fmt",
        ];
        assert_eq!(table, expected.concat());
    }

    #[test]
    fn leaves_out_what_lies_elsewhere() {
        let below = Symbol { address: 5, name: b"x" };
        assert_eq!(build(&[below]), b"ZSYM\0\0\0\0\0\0\0\0");
    }
}
