//! Whose account an object is charged to.
//!
//! The first attributes of every file lie at fixed places after the header, whatever the layout's number: mode 0, size
//! 8, gen 16, uid 24, gid 32, parent 40, flags 48, and the project at 128 if the flag says so.
use crate::dmu::Owner;
use ondisk::DmuType;
use ondisk::sa::{SA_MAGIC, SaHeader};

/// The flag that says that a file has a project.
pub const HAS_PROJECT: u64 = 1 << 47;

const UID: usize = 24;
const GID: usize = 32;
const FLAGS: usize = 48;
const PROJECT: usize = 128;
const LEGACY_UID: usize = 128;
const LEGACY_GID: usize = 136;

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

/// The owner recorded in a bonus; `None` for objects that are no files. This is what `ObjsetHooks::owner_of` asks of
/// a file system's dataset.
pub fn owner_of(bonus_kind: DmuType, bonus: &[u8]) -> Option<Owner> {
    match bonus_kind {
        DmuType::ZNODE => {
            Some(Owner { uid: word(bonus, LEGACY_UID)?, gid: word(bonus, LEGACY_GID)?, project: 0 })
        }
        DmuType::SA => {
            // A file made in this group whose attributes are not there yet: root's.
            let magic = bonus.first_chunk().map(|b| u32::from_le_bytes(*b))?;
            if magic != SA_MAGIC {
                return (magic == 0).then_some(Owner { uid: 0, gid: 0, project: 0 });
            }
            let header = SaHeader::parse(bonus).ok()?;
            let bytes = bonus.get(header.size..)?;
            let has_project = word(bytes, FLAGS)? & HAS_PROJECT != 0;
            let project = if has_project { word(bytes, PROJECT)? } else { 0 };
            Some(Owner { uid: word(bytes, UID)?, gid: word(bytes, GID)?, project })
        }
        _ => None,
    }
}
