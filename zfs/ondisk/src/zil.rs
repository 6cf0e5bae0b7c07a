//! The intent log's structures: header in the object set, chain blocks, heads of the records.
//!
//! A slim chain block starts with [`RawChain`] whose `used` says where records end; the old form ends with it.
//! The log ends at the first block whose checksum fails or whose digest words are not the expected
//! {guid, guid, object set, sequence}.

use crate::blkptr::{BlkPtr, RawBlkPtr};
use crate::checksum::RawDigest;
use crate::eck::RawEck;
use crate::error::{OndiskError, Result};
use crate::ids::Txg;
use crate::le::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Smallest log block.
pub const ZIL_BLOCK_MIN: u32 = 4096;
/// Largest log block.
pub const ZIL_BLOCK_MAX: u32 = 128 << 10;
/// The digest of a slim log block covers its used bytes rounded up to this.
pub const ZILOG2_CHECKSUM_UNIT: usize = 4096;

bitflags::bitflags! {
    /// Flags of a log header. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ZilHeaderFlags: u64 {
        /// There are claimed records to replay.
        const REPLAY_NEEDED = 1;
        /// `claim_lr_seq` is valid.
        const CLAIM_LR_SEQ_VALID = 2;
        const _ = !0;
    }
}

/// A log header as it lies on disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawZilHeader {
    /// 0: transaction group in which the blocks were claimed.
    pub claim_txg: U64,
    /// 8: highest record sequence replayed.
    pub replay_seq: U64,
    /// 16: first chain block.
    pub log: RawBlkPtr,
    /// 144: highest claimed block sequence.
    pub claim_blk_seq: U64,
    /// 152: [`ZilHeaderFlags`].
    pub flags: U64,
    /// 160: highest claimed record sequence.
    pub claim_lr_seq: U64,
    /// 168: zero.
    pub pad: [U64; 3],
}

const _: () = assert!(size_of::<RawZilHeader>() == 192);

/// A validated log header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZilHeader {
    /// Transaction group in which the blocks were claimed.
    pub claim_txg: Txg,
    /// Highest record sequence replayed.
    pub replay_seq: u64,
    /// First chain block; a hole when the log is empty.
    pub log: BlkPtr,
    /// Highest claimed block sequence.
    pub claim_blk_seq: u64,
    /// Flags.
    pub flags: ZilHeaderFlags,
    /// Highest claimed record sequence.
    pub claim_lr_seq: u64,
}

impl RawZilHeader {
    /// Validates.
    ///
    /// # Errors
    /// What is wrong with the block pointer.
    pub fn parse(&self) -> Result<ZilHeader> {
        Ok(ZilHeader {
            claim_txg: Txg(self.claim_txg.get()),
            replay_seq: self.replay_seq.get(),
            log: self.log.parse()?,
            claim_blk_seq: self.claim_blk_seq.get(),
            flags: ZilHeaderFlags::from_bits_retain(self.flags.get()),
            claim_lr_seq: self.claim_lr_seq.get(),
        })
    }
}

impl ZilHeader {
    /// On-disk form.
    #[must_use]
    pub fn to_raw(&self) -> RawZilHeader {
        RawZilHeader {
            claim_txg: self.claim_txg.0.into(),
            replay_seq: self.replay_seq.into(),
            log: self.log.to_raw(),
            claim_blk_seq: self.claim_blk_seq.into(),
            flags: self.flags.bits().into(),
            claim_lr_seq: self.claim_lr_seq.into(),
            pad: [U64::ZERO; 3],
        }
    }
}

/// Head of a slim chain block, tail of an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawChain {
    /// 0: zero.
    pub pad: U64,
    /// 8: the next chain block, allocated but perhaps never written.
    pub next: RawBlkPtr,
    /// 136: bytes in use; in the slim form this head is included.
    pub used: U64,
    /// 144: checksum.
    pub eck: RawEck,
}

/// Size of the chain head.
pub const CHAIN_SIZE: usize = 184;
const _: () = assert!(size_of::<RawChain>() == CHAIN_SIZE);
/// Position of the digest in a slim chain block.
pub const CHAIN_DIGEST_OFFSET: usize = CHAIN_SIZE - size_of::<RawDigest>();

/// Head of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawRecordHead {
    /// 0: type; bit 63 = names are matched without case.
    pub txtype: U64,
    /// 8: length of the record, head included.
    pub reclen: U64,
    /// 16: transaction group the operation belonged to.
    pub txg: U64,
    /// 24: sequence number.
    pub seq: U64,
}

/// Size of a record's head.
pub const RECORD_HEAD_SIZE: usize = 32;
const _: () = assert!(size_of::<RawRecordHead>() == RECORD_HEAD_SIZE);

/// Kind of a log record (`TX_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
#[expect(missing_docs, reason = "the format's own names say it")]
pub enum RecordKind {
    Create = 1,
    Mkdir = 2,
    MkXattr = 3,
    Symlink = 4,
    Remove = 5,
    Rmdir = 6,
    Link = 7,
    Rename = 8,
    Write = 9,
    Truncate = 10,
    SetAttr = 11,
    AclV0 = 12,
    Acl = 13,
    CreateAcl = 14,
    CreateAttr = 15,
    CreateAclAttr = 16,
    MkdirAcl = 17,
    MkdirAttr = 18,
    MkdirAclAttr = 19,
    Write2 = 20,
    SetSaXattr = 21,
    RenameExchange = 22,
    RenameWhiteout = 23,
    CloneRange = 24,
}

impl RecordKind {
    const ALL: [Self; 24] = [
        Self::Create,
        Self::Mkdir,
        Self::MkXattr,
        Self::Symlink,
        Self::Remove,
        Self::Rmdir,
        Self::Link,
        Self::Rename,
        Self::Write,
        Self::Truncate,
        Self::SetAttr,
        Self::AclV0,
        Self::Acl,
        Self::CreateAcl,
        Self::CreateAttr,
        Self::CreateAclAttr,
        Self::MkdirAcl,
        Self::MkdirAttr,
        Self::MkdirAclAttr,
        Self::Write2,
        Self::SetSaXattr,
        Self::RenameExchange,
        Self::RenameWhiteout,
        Self::CloneRange,
    ];

    /// The kind of that number (without the case bit).
    #[must_use]
    pub fn from_id(id: u64) -> Option<Self> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        Self::ALL.get(index).copied()
    }
}

/// A validated record head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Kind.
    pub kind: RecordKind,
    /// Names are matched without case.
    pub ignore_case: bool,
    /// Length of the record, head included; at least the head, a multiple of 8.
    pub reclen: usize,
    /// Transaction group the operation belonged to.
    pub txg: Txg,
    /// Sequence number.
    pub seq: u64,
}

impl RecordHead {
    /// Parses the head of the record at the start of `bytes`, which holds the rest of the block's records too.
    ///
    /// # Errors
    /// `Truncated` when the record reaches beyond `bytes`, `BadSize` for a length below the head or unaligned,
    /// `BadType` for an unknown kind.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (raw, _) = RawRecordHead::ref_from_prefix(bytes).map_err(|_| OndiskError::Truncated)?;
        let txtype = raw.txtype.get();
        let reclen = usize::try_from(raw.reclen.get()).map_err(|_| OndiskError::BadSize)?;
        if reclen < RECORD_HEAD_SIZE || reclen % 8 != 0 {
            return Err(OndiskError::BadSize);
        }
        if reclen > bytes.len() {
            return Err(OndiskError::Truncated);
        }
        Ok(Self {
            kind: RecordKind::from_id(txtype & !(1 << 63)).ok_or(OndiskError::BadType)?,
            ignore_case: txtype >> 63 == 1,
            reclen,
            txg: Txg(raw.txg.get()),
            seq: raw.seq.get(),
        })
    }
}

/// Fixed part of a write record; data follows unless `reclen` ends here, then it lies in the block pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawWriteRecord {
    /// 0: head.
    pub head: RawRecordHead,
    /// 32: file.
    pub object: U64,
    /// 40: byte offset in it.
    pub offset: U64,
    /// 48: bytes.
    pub length: U64,
    /// 56: block offset (unused).
    pub blkoff: U64,
    /// 64: the block, if the data was written to its final place.
    pub bp: RawBlkPtr,
}

const _: () = assert!(size_of::<RawWriteRecord>() == 192);
