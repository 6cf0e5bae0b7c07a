//! Who an object of a file system belongs to: user, group and project, read from its bonus for space accounting.
//!
//! Reads just enough of a znode to book its space when its dnode is synced; everything else about znodes is `zpl`'s.
//! The leading attributes of a file have fixed places (mode, size, gen, uid, gid, parent, flags, ... project) on
//! which OpenZFS relies in the same way.
use crate::dmu::Owner;
use ondisk::DmuType;

const SA_MAGIC: u32 = 0x002f_505a;
const SA_UID: usize = 24;
const SA_GID: usize = 32;
const SA_FLAGS: usize = 48;
const SA_PROJECT: usize = 128;
/// The znode has a project id.
const FLAG_PROJECT: u64 = 1 << 47;
const ZNODE_FLAGS: usize = 120;
const ZNODE_UID: usize = 128;
const ZNODE_GID: usize = 136;

/// The owner, if the bonus is a znode's.
pub(crate) fn of(bonus_kind: DmuType, bonus: &[u8]) -> Option<Owner> {
    let word =
        |at: usize| -> Option<u64> { Some(u64::from_le_bytes(bonus.get(at..at + 8)?.try_into().ok()?)) };
    match bonus_kind {
        DmuType::ZNODE => {
            word(ZNODE_FLAGS)?;
            Some(Owner { uid: word(ZNODE_UID)?, gid: word(ZNODE_GID)?, project: 0 })
        }
        DmuType::SA => {
            let magic = u32::from_le_bytes(bonus.get(..4)?.try_into().ok()?);
            let info = u16::from_le_bytes(bonus.get(4..6)?.try_into().ok()?);
            if magic != SA_MAGIC {
                return None;
            }
            let start = usize::from(info >> 10) * 8;
            let has_project = word(start + SA_FLAGS)? & FLAG_PROJECT != 0;
            let project = if has_project { word(start + SA_PROJECT)? } else { 0 };
            Some(Owner { uid: word(start + SA_UID)?, gid: word(start + SA_GID)?, project })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_sa_bonus() {
        let mut bonus = [0u8; 8 + 136];
        bonus[..4].copy_from_slice(&SA_MAGIC.to_le_bytes());
        bonus[4..6].copy_from_slice(&(2u16 | 1 << 10).to_le_bytes());
        bonus[8 + SA_UID] = 7;
        bonus[8 + SA_GID] = 9;
        bonus[8 + SA_PROJECT] = 11;
        assert_eq!(of(DmuType::SA, &bonus), Some(Owner { uid: 7, gid: 9, project: 0 }));
        bonus[8 + SA_FLAGS..8 + SA_FLAGS + 8].copy_from_slice(&FLAG_PROJECT.to_le_bytes());
        assert_eq!(of(DmuType::SA, &bonus), Some(Owner { uid: 7, gid: 9, project: 11 }));
        assert_eq!(of(DmuType::SA, &bonus[..40]), None);
        assert_eq!(of(DmuType::PLAIN_FILE_CONTENTS, &bonus), None);
    }
}
