//! Intent log records: what each kind says, decoded and encoded.
//!
//! All fields of the fixed parts are 64-bit words; offsets in the tables below count from the record's start, whose first
//! 32 bytes are the [`crate::zil::RawRecordHead`]. Names end with a NUL and are raw bytes in either byte order.
//!
//! | kind | words from 32 on | then |
//! |---|---|---|
//! | create, mkdir, mkxattr, symlink | directory, object (bits 56-63: dnode slots - 1), mode, uid, gid, generation, crtime\[2\], rdev | name; a symlink's target |
//! | `_attr` variants | as create | 104: [attribute block], name |
//! | `_acl` variants | as create; 104: entries, domains, fuids, bytes, flags | 144: \[attribute block\], ACL, fuids, domains, name |
//! | remove, rmdir | directory | name |
//! | link | directory, object | name |
//! | rename, exchange | from directory, to directory | from name, to name |
//! | whiteout | as rename; 48: object, mode, uid, gid, generation, crtime\[2\], rdev | names |
//! | write | object, offset, length, 0, block pointer (64) | 192: data, unless the pointer has it |
//! | write2, truncate | object, offset, length | |
//! | setattr | object, mask, mode, uid, gid, size, atime\[2\], mtime\[2\] | attribute block if the mask says so |
//! | acl v0 | object, entries | old entries |
//! | acl | object, entries, domains, fuids, bytes, flags | ACL, fuids, domains |
//! | setsaxattr | object, size | name; value of that size, none: removed |
//! | clone range | object, offset, length, block size, pointers | block pointers |
//!
//! What it is not: applying them. Nothing here trusts a length: what reaches beyond the record is an error.

use crate::blkptr::{BLKPTR_SIZE, BlkPtr};
use crate::byteswap::swap_u64s;
use crate::error::{OndiskError, Result};
use crate::ids::ObjectId;
use crate::zil::{RECORD_HEAD_SIZE, RecordHead, RecordKind};
use alloc::vec::Vec;

/// Fixed part of creates.
const CREATE_SIZE: usize = 104;
/// Fixed part of creates with an ACL.
const CREATE_ACL_SIZE: usize = 144;
/// Fixed part of a write: data follows.
pub const WRITE_SIZE: usize = 192;
/// Position of a write's block pointer.
const WRITE_BP: usize = 64;
const TRUNCATE_SIZE: usize = 56;
const SETATTR_SIZE: usize = 112;
const ACL_SIZE: usize = 80;
/// Fixed part of a cloned range: block pointers follow.
pub const CLONE_SIZE: usize = 72;
const WHITEOUT_SIZE: usize = 112;
const OBJECT_BITS: u32 = 48;
const SLOTS_SHIFT: u32 = 56;
/// Largest number of 32-bit words in the bit map of an attribute block.
const ATTR_MAP_MAX: u32 = 16;

/// A new object's facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewObjectRecord {
    /// Its number.
    pub object: u64,
    /// Slots of its dnode, 1 to 32.
    pub slots: u8,
    /// Type and permission bits.
    pub mode: u64,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Generation.
    pub generation: u64,
    /// Time of creation: seconds, nanoseconds.
    pub crtime: [u64; 2],
    /// Device number.
    pub rdev: u64,
}

/// The optional attributes of a create or setattr: which of them are meant, and their flag bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrBlock {
    /// Bit map of the attributes that are meant, first word.
    pub requested: u32,
    /// Their values, by the log's own numbering.
    pub values: u64,
    /// Time of creation, if meant.
    pub crtime: [u64; 2],
}

/// An ACL in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclBlock<'a> {
    /// Entries.
    pub count: u64,
    /// The form of a version before fuids: entries of 12 bytes with plain ids.
    pub is_old: bool,
    /// Flags of the ACL.
    pub flags: u64,
    /// The entries: `{u32 who, u32 mask, u16 flags, u16 type}`.
    pub entries: &'a [u8],
}

/// How a rename is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameKind {
    /// The target, if any, is replaced.
    Replace,
    /// Both names exchange what they stand for.
    Exchange,
    /// A whiteout with these facts takes the source's place.
    Whiteout(NewObjectRecord),
}

/// Where a write's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteData<'a> {
    /// In the record.
    Inline(&'a [u8]),
    /// In a block of its own that holds the whole block of the file.
    Block(BlkPtr),
}

/// A decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A new name with a new object: file, directory, link or attribute directory, by the kind.
    Create {
        /// Which of the creating kinds, without `Acl` and `Attr`.
        kind: RecordKind,
        /// Directory.
        dir: u64,
        /// The object.
        new: NewObjectRecord,
        /// Optional attributes.
        attrs: Option<AttrBlock>,
        /// Its ACL, if not what the mode says.
        acl: Option<AclBlock<'a>>,
        /// Name.
        name: &'a [u8],
        /// A symbolic link's target.
        target: &'a [u8],
    },
    /// A name goes away.
    Remove {
        /// It is a directory.
        is_dir: bool,
        /// Directory.
        dir: u64,
        /// Name.
        name: &'a [u8],
    },
    /// A new name for an object.
    Link {
        /// Directory.
        dir: u64,
        /// Object.
        object: u64,
        /// Name.
        name: &'a [u8],
    },
    /// A name moves.
    Rename {
        /// How.
        kind: RenameKind,
        /// From this directory.
        from_dir: u64,
        /// To this one.
        to_dir: u64,
        /// Name before.
        from: &'a [u8],
        /// Name after.
        to: &'a [u8],
    },
    /// Content.
    Write {
        /// File.
        object: u64,
        /// Byte offset.
        offset: u64,
        /// Bytes.
        length: u64,
        /// The data.
        data: WriteData<'a>,
    },
    /// Content whose block was being written already: only the size may have grown.
    Write2 {
        /// File.
        object: u64,
        /// Byte offset.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// Content cut off (`length` 0) or a hole punched.
    Truncate {
        /// File.
        object: u64,
        /// From this byte on.
        offset: u64,
        /// Bytes; 0: to the end.
        length: u64,
    },
    /// Attributes.
    SetAttr {
        /// File.
        object: u64,
        /// Which.
        mask: u64,
        /// Mode.
        mode: u64,
        /// Owner.
        uid: u64,
        /// Group.
        gid: u64,
        /// Size.
        size: u64,
        /// Access time.
        atime: [u64; 2],
        /// Modification time.
        mtime: [u64; 2],
        /// Optional attributes.
        attrs: Option<AttrBlock>,
    },
    /// An ACL.
    Acl {
        /// File.
        object: u64,
        /// The ACL.
        acl: AclBlock<'a>,
    },
    /// An extended attribute that lives in a system attribute.
    SetSaXattr {
        /// File.
        object: u64,
        /// Name.
        name: &'a [u8],
        /// Value; `None`: removed.
        value: Option<&'a [u8]>,
    },
    /// Blocks shared from elsewhere.
    CloneRange {
        /// File.
        object: u64,
        /// Byte offset.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Block size.
        block_size: u64,
        /// Raw block pointers.
        pointers: &'a [u8],
    },
}

/// Bits of a setattr's mask (as Linux numbers them).
pub mod mask {
    /// Permission bits.
    pub const MODE: u64 = 1;
    /// Owner.
    pub const UID: u64 = 1 << 1;
    /// Group.
    pub const GID: u64 = 1 << 2;
    /// Size.
    pub const SIZE: u64 = 1 << 3;
    /// Access time.
    pub const ATIME: u64 = 1 << 4;
    /// Modification time.
    pub const MTIME: u64 = 1 << 5;
    /// Change time.
    pub const CTIME: u64 = 1 << 6;
    /// Access time as given, not now.
    pub const ATIME_SET: u64 = 1 << 7;
    /// Modification time as given, not now.
    pub const MTIME_SET: u64 = 1 << 8;
    /// An attribute block follows.
    pub const XVATTR: u64 = 1 << 31;
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(OndiskError::Truncated)?;
    Ok(u64::from_le_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(OndiskError::Truncated)?;
    Ok(u32::from_le_bytes(*word))
}

fn from(bytes: &[u8], at: usize) -> Result<&[u8]> {
    bytes.get(at..).ok_or(OndiskError::Truncated)
}

/// A name that ends with a NUL, and what comes after that.
fn name(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == 0).ok_or(OndiskError::Truncated)?;
    Ok((bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default()))
}

impl NewObjectRecord {
    /// From nine words with the object's first; the second word group is without a directory.
    fn parse(bytes: &[u8], at: usize) -> Result<Self> {
        let word = |i: usize| u64_at(bytes, at + 8 * i);
        let object = word(0)?;
        Ok(Self {
            object: object & ((1 << OBJECT_BITS) - 1),
            slots: ((object >> SLOTS_SHIFT) as u8).saturating_add(1).min(32),
            mode: word(1)?,
            uid: word(2)?,
            gid: word(3)?,
            generation: word(4)?,
            crtime: [word(5)?, word(6)?],
            rdev: word(7)?,
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        let slots = u64::from(self.slots.clamp(1, 32) - 1);
        put(out, &[self.object | slots << SLOTS_SHIFT, self.mode, self.uid, self.gid, self.generation]);
        put(out, &[self.crtime[0], self.crtime[1], self.rdev]);
    }
}

/// An attribute block, and its length.
fn attr_block(bytes: &[u8]) -> Result<(AttrBlock, usize)> {
    let words = u32_at(bytes, 0)?;
    if words == 0 || words > ATTR_MAP_MAX {
        return Err(OndiskError::BadSize);
    }
    let values_at = 8 + 4 * (words as usize - 1);
    let block = AttrBlock {
        requested: u32_at(bytes, 4)?,
        values: u64_at(bytes, values_at)?,
        crtime: [u64_at(bytes, values_at + 8)?, u64_at(bytes, values_at + 16)?],
    };
    Ok((block, values_at + 56))
}

/// ACL entries at the start of `rest`, and what follows them, fuids and domains included.
fn acl_block<'a>(fixed: &[u8], at: usize, rest: &'a [u8]) -> Result<(AclBlock<'a>, &'a [u8])> {
    let word = |i: usize| u64_at(fixed, at + 8 * i);
    let (count, nr_domains, nr_fuids, len, flags) = (word(0)?, word(1)?, word(2)?, word(3)?, word(4)?);
    let len = usize::try_from(len).map_err(|_| OndiskError::BadSize)?;
    let entries = rest.get(..len).ok_or(OndiskError::Truncated)?;
    let fuids_at = len.checked_next_multiple_of(8).ok_or(OndiskError::BadSize)?;
    let fuids_len =
        usize::try_from(nr_fuids).ok().and_then(|n| n.checked_mul(8)).ok_or(OndiskError::BadSize)?;
    let mut after = from(rest, fuids_at)?.get(fuids_len..).ok_or(OndiskError::Truncated)?;
    for _ in 0..nr_domains {
        after = name(after)?.1;
    }
    Ok((AclBlock { count, is_old: false, flags, entries }, after))
}

impl<'a> Record<'a> {
    /// Decodes the record at the start of `bytes`, whose head has been parsed.
    ///
    /// # Errors
    /// `Truncated` when something reaches beyond the record, `BadSize` for impossible lengths, what a block pointer's
    /// own parsing gives.
    pub fn parse(head: &RecordHead, bytes: &'a [u8]) -> Result<Self> {
        use RecordKind as K;
        let b = bytes.get(..head.reclen).ok_or(OndiskError::Truncated)?;
        let word = |at: usize| u64_at(b, at);
        let object = || word(32).map(|w| w & ((1 << OBJECT_BITS) - 1));
        Ok(match head.kind {
            K::Create | K::Mkdir | K::MkXattr | K::Symlink | K::CreateAttr | K::MkdirAttr => {
                Self::parse_create(head.kind, b)?
            }
            K::CreateAcl | K::MkdirAcl | K::CreateAclAttr | K::MkdirAclAttr => {
                Self::parse_create(head.kind, b)?
            }
            K::Remove | K::Rmdir => {
                Self::Remove { is_dir: head.kind == K::Rmdir, dir: word(32)?, name: name(from(b, 40)?)?.0 }
            }
            K::Link => Self::Link { dir: word(32)?, object: word(40)?, name: name(from(b, 48)?)?.0 },
            K::Rename | K::RenameExchange | K::RenameWhiteout => Self::parse_rename(head.kind, b)?,
            K::Write => {
                let data = if b.len() == WRITE_SIZE {
                    let raw = b.get(WRITE_BP..WRITE_BP + BLKPTR_SIZE).ok_or(OndiskError::Truncated)?;
                    WriteData::Block(BlkPtr::from_bytes(raw)?)
                } else {
                    let len = usize::try_from(word(48)?).map_err(|_| OndiskError::BadSize)?;
                    WriteData::Inline(from(b, WRITE_SIZE)?.get(..len).ok_or(OndiskError::Truncated)?)
                };
                Self::Write { object: object()?, offset: word(40)?, length: word(48)?, data }
            }
            K::Write2 => Self::Write2 { object: object()?, offset: word(40)?, length: word(48)? },
            K::Truncate => Self::Truncate { object: object()?, offset: word(40)?, length: word(48)? },
            K::SetAttr => Self::SetAttr {
                object: object()?,
                mask: word(40)?,
                mode: word(48)?,
                uid: word(56)?,
                gid: word(64)?,
                size: word(72)?,
                atime: [word(80)?, word(88)?],
                mtime: [word(96)?, word(104)?],
                attrs: match word(40)? & mask::XVATTR {
                    0 => None,
                    _ => Some(attr_block(from(b, SETATTR_SIZE)?)?.0),
                },
            },
            K::AclV0 => {
                let acl = AclBlock { count: word(40)?, is_old: true, flags: 0, entries: from(b, 48)? };
                Self::Acl { object: object()?, acl }
            }
            K::Acl => Self::Acl { object: object()?, acl: acl_block(b, 40, from(b, ACL_SIZE)?)?.0 },
            K::SetSaXattr => {
                let (name, rest) = name(from(b, 48)?)?;
                let len = usize::try_from(word(40)?).map_err(|_| OndiskError::BadSize)?;
                let value = rest.get(..len).ok_or(OndiskError::Truncated)?;
                Self::SetSaXattr { object: object()?, name, value: (len > 0).then_some(value) }
            }
            K::CloneRange => {
                let nr = usize::try_from(word(64)?).map_err(|_| OndiskError::BadSize)?;
                let len = nr.checked_mul(BLKPTR_SIZE).ok_or(OndiskError::BadSize)?;
                let pointers = from(b, CLONE_SIZE)?.get(..len).ok_or(OndiskError::Truncated)?;
                let (offset, length, block_size) = (word(40)?, word(48)?, word(56)?);
                Self::CloneRange { object: object()?, offset, length, block_size, pointers }
            }
        })
    }

    fn parse_create(kind: RecordKind, b: &'a [u8]) -> Result<Self> {
        use RecordKind as K;
        let new = NewObjectRecord::parse(b, 40)?;
        let has_acl = matches!(kind, K::CreateAcl | K::MkdirAcl | K::CreateAclAttr | K::MkdirAclAttr);
        let has_attrs = matches!(kind, K::CreateAttr | K::MkdirAttr | K::CreateAclAttr | K::MkdirAclAttr);
        let mut rest = from(b, if has_acl { CREATE_ACL_SIZE } else { CREATE_SIZE })?;
        let (mut attrs, mut acl) = (None, None);
        if has_attrs {
            let (block, len) = attr_block(rest)?;
            attrs = Some(block);
            rest = from(rest, len)?;
        }
        if has_acl {
            let (block, after) = acl_block(b, CREATE_SIZE, rest)?;
            acl = Some(block);
            rest = after;
        }
        let (own_name, rest) = name(rest)?;
        let target = if kind == K::Symlink { name(rest)?.0 } else { &[] };
        let kind = match kind {
            K::Mkdir | K::MkdirAcl | K::MkdirAttr | K::MkdirAclAttr => K::Mkdir,
            K::MkXattr | K::Symlink => kind,
            _ => K::Create,
        };
        Ok(Self::Create { kind, dir: u64_at(b, 32)?, new, attrs, acl, name: own_name, target })
    }

    fn parse_rename(kind: RecordKind, b: &'a [u8]) -> Result<Self> {
        let (kind, names_at) = match kind {
            RecordKind::RenameExchange => (RenameKind::Exchange, 48),
            RecordKind::RenameWhiteout => {
                (RenameKind::Whiteout(NewObjectRecord::parse(b, 48)?), WHITEOUT_SIZE)
            }
            _ => (RenameKind::Replace, 48),
        };
        let (from_name, rest) = name(from(b, names_at)?)?;
        let (to, _) = name(rest)?;
        Ok(Self::Rename { kind, from_dir: u64_at(b, 32)?, to_dir: u64_at(b, 40)?, from: from_name, to })
    }

    /// The object a record is about, for those that may come after the object is gone: their order is kept only among
    /// the records of one object.
    #[must_use]
    pub fn unordered_object(&self) -> Option<ObjectId> {
        match self {
            Self::Write { object, .. }
            | Self::Write2 { object, .. }
            | Self::Truncate { object, .. }
            | Self::SetAttr { object, .. }
            | Self::Acl { object, .. }
            | Self::SetSaXattr { object, .. }
            | Self::CloneRange { object, .. } => Some(ObjectId(*object)),
            _ => None,
        }
    }

    /// The record as it goes to disk; sequence number and group are still 0. Records of other systems only (ACLs,
    /// optional attributes) and writes of nothing have no encoding here.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = alloc::vec![0; RECORD_HEAD_SIZE];
        let kind = match self {
            Self::Create { kind, dir, new, attrs: None, acl: None, name, target } => {
                put(&mut out, &[*dir]);
                new.put(&mut out);
                put_name(&mut out, name);
                if *kind == RecordKind::Symlink {
                    put_name(&mut out, target);
                }
                *kind
            }
            Self::Remove { is_dir, dir, name } => {
                put(&mut out, &[*dir]);
                put_name(&mut out, name);
                if *is_dir { RecordKind::Rmdir } else { RecordKind::Remove }
            }
            Self::Link { dir, object, name } => {
                put(&mut out, &[*dir, *object]);
                put_name(&mut out, name);
                RecordKind::Link
            }
            Self::Rename { kind, from_dir, to_dir, from, to } => {
                put(&mut out, &[*from_dir, *to_dir]);
                if let RenameKind::Whiteout(new) = kind {
                    new.put(&mut out);
                }
                put_name(&mut out, from);
                put_name(&mut out, to);
                match kind {
                    RenameKind::Replace => RecordKind::Rename,
                    RenameKind::Exchange => RecordKind::RenameExchange,
                    RenameKind::Whiteout(_) => RecordKind::RenameWhiteout,
                }
            }
            // Of the length of one that names a block. (With a length it is the head of one whose data follows.)
            Self::Write { length: 0, data: WriteData::Inline([]), .. } => return None,
            Self::Write { object, offset, length, data } => {
                put(&mut out, &[*object, *offset, *length, 0]);
                match data {
                    WriteData::Block(bp) => out.extend_from_slice(&bp.to_bytes()),
                    WriteData::Inline(data) => {
                        out.resize(WRITE_SIZE, 0);
                        out.extend_from_slice(data);
                    }
                }
                RecordKind::Write
            }
            Self::Truncate { object, offset, length } => {
                put(&mut out, &[*object, *offset, *length]);
                debug_assert_eq!(out.len(), TRUNCATE_SIZE);
                RecordKind::Truncate
            }
            Self::SetAttr { object, mask, mode, uid, gid, size, atime, mtime, attrs: None } => {
                put(&mut out, &[*object, *mask, *mode, *uid, *gid, *size]);
                put(&mut out, &[atime[0], atime[1], mtime[0], mtime[1]]);
                RecordKind::SetAttr
            }
            Self::SetSaXattr { object, name, value } => {
                let value = value.unwrap_or_default();
                put(&mut out, &[*object, value.len() as u64]);
                put_name(&mut out, name);
                out.extend_from_slice(value);
                RecordKind::SetSaXattr
            }
            Self::CloneRange { object, offset, length, block_size, pointers } => {
                let nr = (pointers.len() / BLKPTR_SIZE) as u64;
                put(&mut out, &[*object, *offset, *length, *block_size, nr]);
                debug_assert_eq!(out.len(), CLONE_SIZE);
                out.extend_from_slice(pointers);
                RecordKind::CloneRange
            }
            _ => return None,
        };
        out.resize(out.len().next_multiple_of(8), 0);
        let len = out.len() as u64;
        set_word(&mut out, 0, kind as u64);
        set_word(&mut out, 8, len);
        Some(out)
    }
}

/// Gives an encoded record its group and its number.
pub fn stamp(record: &mut [u8], txg: u64, seq: u64) {
    set_word(record, 16, txg);
    set_word(record, 24, seq);
}

fn set_word(record: &mut [u8], at: usize, value: u64) {
    if let Some(place) = record.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn put(out: &mut Vec<u8>, words: &[u64]) {
    words.iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(name);
    out.push(0);
}

/// Turns a record of foreign byte order, as it lies on disk, into one of ours, in place. Gives its length.
///
/// # Errors
/// `Truncated`, `BadSize`, `BadType`, as parsing a head; then the record is half swapped and of no use.
pub fn swap_record(bytes: &mut [u8]) -> Result<usize> {
    let head = bytes.get_mut(..RECORD_HEAD_SIZE).ok_or(OndiskError::Truncated)?;
    swap_u64s(head);
    let head = RecordHead::parse(bytes)?;
    let record = bytes.get_mut(..head.reclen).ok_or(OndiskError::Truncated)?;
    use RecordKind as K;
    let fixed = match head.kind {
        K::Create | K::Mkdir | K::MkXattr | K::Symlink | K::CreateAttr | K::MkdirAttr => CREATE_SIZE,
        K::CreateAcl | K::MkdirAcl | K::CreateAclAttr | K::MkdirAclAttr => CREATE_ACL_SIZE,
        K::Remove | K::Rmdir => 40,
        K::Link | K::Rename | K::RenameExchange | K::AclV0 | K::SetSaXattr => 48,
        K::RenameWhiteout => WHITEOUT_SIZE,
        K::Write => WRITE_SIZE,
        K::Write2 | K::Truncate => TRUNCATE_SIZE,
        K::SetAttr => SETATTR_SIZE,
        K::Acl => ACL_SIZE,
        // Block pointers are words throughout.
        K::CloneRange => head.reclen,
    };
    swap_u64s(record.get_mut(RECORD_HEAD_SIZE..fixed).ok_or(OndiskError::Truncated)?);
    let word = |at: usize| u64_at(record, at);
    let has_attrs = match head.kind {
        K::CreateAttr | K::MkdirAttr | K::CreateAclAttr | K::MkdirAclAttr => true,
        K::SetAttr => word(40)? & mask::XVATTR != 0,
        _ => false,
    };
    // Bytes of entries, and fuids behind them.
    let acl = match head.kind {
        K::AclV0 => Some((head.reclen.saturating_sub(fixed) as u64, 0)),
        K::Acl => Some((word(64)?, word(56)?)),
        K::CreateAcl | K::MkdirAcl | K::CreateAclAttr | K::MkdirAclAttr => Some((word(128)?, word(120)?)),
        _ => None,
    };
    let mut rest = record.get_mut(fixed..).ok_or(OndiskError::Truncated)?;
    if has_attrs {
        let len = swap_attr_block(rest)?;
        rest = rest.get_mut(len..).ok_or(OndiskError::Truncated)?;
    }
    if let Some((len, nr_fuids)) = acl {
        swap_acl(rest, len, nr_fuids)?;
    }
    Ok(head.reclen)
}

fn swap_acl(rest: &mut [u8], len: u64, nr_fuids: u64) -> Result<()> {
    let len = usize::try_from(len).ok().filter(|n| *n <= rest.len()).ok_or(OndiskError::BadSize)?;
    for ace in rest.get_mut(..len).unwrap_or_default().as_chunks_mut::<12>().0 {
        ace[0..4].reverse();
        ace[4..8].reverse();
        ace[8..10].reverse();
        ace[10..12].reverse();
    }
    let fuids_at = len.next_multiple_of(8);
    let fuids = usize::try_from(nr_fuids).ok().and_then(|n| n.checked_mul(8)).ok_or(OndiskError::BadSize)?;
    let end = fuids_at.checked_add(fuids).ok_or(OndiskError::BadSize)?;
    if fuids > 0 {
        swap_u64s(rest.get_mut(fuids_at..end).ok_or(OndiskError::Truncated)?);
    }
    Ok(())
}

/// Swaps an attribute block; its length.
fn swap_attr_block(rest: &mut [u8]) -> Result<usize> {
    let swap_u32 = |bytes: &mut [u8], at: usize| {
        let word = bytes.get_mut(at..at + 4).ok_or(OndiskError::Truncated)?;
        word.reverse();
        Ok(())
    };
    swap_u32(rest, 0)?;
    let words = u32_at(rest, 0)?;
    if words == 0 || words > ATTR_MAP_MAX {
        return Err(OndiskError::BadSize);
    }
    (0..words as usize).try_for_each(|i| swap_u32(rest, 4 + 4 * i))?;
    let (_, len) = attr_block(rest)?;
    let values_at = len - 56;
    swap_u64s(rest.get_mut(values_at..values_at + 24).ok_or(OndiskError::Truncated)?);
    Ok(len)
}

#[cfg(test)]
mod tests;
