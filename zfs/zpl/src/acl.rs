//! The ACL that says exactly what the mode says (a *trivial* ACL). OpenZFS demands that every file has one.
//!
//! Entries are 8 bytes: u16 type, u16 flags, u32 mask. The three for owner, group and everyone allow what the mode
//! allows; before them come entries for modes in which a class may do what a more specific one may not.
use alloc::vec::Vec;

const ALLOW: u16 = 0;
const DENY: u16 = 1;
const OWNER: u16 = 0x1000;
const OWNING_GROUP: u16 = 0x2000 | 0x40;
const EVERYONE: u16 = 0x4000;

const READ_DATA: u32 = 0x1;
const WRITE_DATA: u32 = 0x2;
const APPEND_DATA: u32 = 0x4;
const READ_NAMED_ATTRS: u32 = 0x8;
const WRITE_NAMED_ATTRS: u32 = 0x10;
const EXECUTE: u32 = 0x20;
const DELETE_CHILD: u32 = 0x40;
const READ_ATTRIBUTES: u32 = 0x80;
const WRITE_ATTRIBUTES: u32 = 0x100;
const READ_ACL: u32 = 0x2_0000;
const WRITE_ACL: u32 = 0x4_0000;
const WRITE_OWNER: u32 = 0x8_0000;
const SYNCHRONIZE: u32 = 0x10_0000;

const EVERYONES: u32 = READ_ACL | READ_ATTRIBUTES | READ_NAMED_ATTRS | SYNCHRONIZE;
const OWNERS: u32 = EVERYONES | WRITE_ATTRIBUTES | WRITE_OWNER | WRITE_ACL | WRITE_NAMED_ATTRS;

/// Most entries a trivial ACL has.
const ENTRIES_MAX: usize = 6;

/// Number of entries and their bytes.
pub(crate) fn trivial(mode: u32, is_dir: bool) -> (u64, Vec<u8>) {
    let write = WRITE_DATA | APPEND_DATA | if is_dir { DELETE_CHILD } else { 0 };
    let masks = [(4, READ_DATA), (2, write), (1, EXECUTE)];
    let (mut allow0, mut deny1, mut deny2) = (0, 0, 0);
    let (mut owner, mut group, mut everyone) = (OWNERS, EVERYONES, EVERYONES);
    for (bit, mask) in masks {
        let (u, g, o) = (mode >> 6 & bit != 0, mode >> 3 & bit != 0, mode & bit != 0);
        allow0 |= if u && !g && o { mask } else { 0 };
        deny1 |= if !u && (g || o) { mask } else { 0 };
        deny2 |= if !g && o { mask } else { 0 };
        owner |= if u { mask } else { 0 };
        group |= if g { mask } else { 0 };
        everyone |= if o { mask } else { 0 };
    }
    let entries = [
        (ALLOW, OWNER, allow0),
        (DENY, OWNER, deny1),
        (DENY, OWNING_GROUP, deny2),
        (ALLOW, OWNER, owner),
        (ALLOW, OWNING_GROUP, group),
        (ALLOW, EVERYONE, everyone),
    ];
    let mut bytes = Vec::with_capacity(ENTRIES_MAX * 8);
    for (kind, flags, mask) in entries.into_iter().filter(|(_, _, mask)| *mask != 0) {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&mask.to_le_bytes());
    }
    ((bytes.len() / 8) as u64, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_modes_have_three_entries() {
        for mode in [0o644, 0o755, 0o600, 0o777, 0o000] {
            let (count, bytes) = trivial(mode, false);
            assert_eq!((count, bytes.len()), (3, 24), "{mode:o}");
        }
        let (_, bytes) = trivial(0o644, false);
        // As OpenZFS writes it for a file of mode 644.
        assert_eq!(bytes[..8], [0, 0, 0, 0x10, 0x9f, 0x01, 0x1e, 0x00]);
        assert_eq!(bytes[8..16], [0, 0, 0x40, 0x20, 0x89, 0x00, 0x12, 0x00]);
        assert_eq!(bytes[16..], [0, 0, 0, 0x40, 0x89, 0x00, 0x12, 0x00]);
    }

    #[test]
    fn odd_modes_need_denials() {
        assert_eq!(trivial(0o077, false).0, 4);
        assert_eq!(trivial(0o707, false).0, 5);
    }
}
