//! The object set's root block: its dnode file, its intent log header, its accounting objects.
//!
//! Versions differ by size: 1024, 2048 (user and group accounting) and 4096 bytes (project accounting).

use crate::dnode::DNODE_SIZE;
use crate::error::{OndiskError, Result};
use crate::le::U64;
use crate::zil::{RawZilHeader, ZilHeader};
use core::ops::Range;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size without accounting objects.
pub const OBJSET_SIZE_V1: usize = 1024;
/// Size with user and group accounting.
pub const OBJSET_SIZE_V2: usize = 2048;
/// Size with project accounting; what is written today.
pub const OBJSET_SIZE_V3: usize = 4096;

/// Position of the dnode of the dnode file.
pub const METADNODE: Range<usize> = 0..DNODE_SIZE;
/// Position of the dnode of user accounting.
pub const USERUSED_DNODE: Range<usize> = 1024..1536;
/// Position of the dnode of group accounting.
pub const GROUPUSED_DNODE: Range<usize> = 1536..2048;
/// Position of the dnode of project accounting.
pub const PROJECTUSED_DNODE: Range<usize> = 2048..2560;

/// What an object set holds (`dmu_objset_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum ObjsetKind {
    /// Nothing yet.
    None = 0,
    /// The pool's own objects (MOS).
    Meta = 1,
    /// A file system.
    Zfs = 2,
    /// A volume.
    Zvol = 3,
    /// Something a test made.
    Other = 4,
}

impl ObjsetKind {
    /// The kind of that number.
    #[must_use]
    pub const fn from_id(id: u64) -> Option<Self> {
        Some(match id {
            0 => Self::None,
            1 => Self::Meta,
            2 => Self::Zfs,
            3 => Self::Zvol,
            4 => Self::Other,
            _ => return None,
        })
    }
}

bitflags::bitflags! {
    /// Flags of an object set. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ObjsetFlags: u64 {
        /// User and group byte accounts are complete.
        const USERACCOUNTING_COMPLETE = 1;
        /// User and group object accounts are complete.
        const USEROBJACCOUNTING_COMPLETE = 2;
        /// Project accounts are complete.
        const PROJECTQUOTA_COMPLETE = 4;
        const _ = !0;
    }
}

/// The first kilobyte of an object set's root block as it lies on disk; the accounting dnodes follow by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawObjset {
    /// 0: dnode of the dnode file.
    pub metadnode: [u8; DNODE_SIZE],
    /// 512: intent log header.
    pub zil_header: RawZilHeader,
    /// 704: [`ObjsetKind`].
    pub kind: U64,
    /// 712: [`ObjsetFlags`].
    pub flags: U64,
    /// 720: MAC over what a raw receive carries along.
    pub portable_mac: [u8; 32],
    /// 752: MAC over the accounting dnodes.
    pub local_mac: [u8; 32],
    /// 784: zero.
    pub pad: [u8; 240],
}

const _: () = assert!(size_of::<RawObjset>() == OBJSET_SIZE_V1);

/// A validated object set header. Dnodes are parsed from the same block by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjsetPhys {
    /// What it holds.
    pub kind: ObjsetKind,
    /// Flags.
    pub flags: ObjsetFlags,
    /// Intent log header.
    pub zil: ZilHeader,
}

impl RawObjset {
    /// The header at the start of a root block.
    ///
    /// # Errors
    /// `Truncated` when the block is shorter than the oldest version.
    pub fn of(block: &[u8]) -> Result<&Self> {
        Self::ref_from_prefix(block).map(|(raw, _)| raw).map_err(|_| OndiskError::Truncated)
    }

    /// Validates.
    ///
    /// # Errors
    /// `BadType` for an unknown kind, else what is wrong with the log header.
    pub fn parse(&self) -> Result<ObjsetPhys> {
        Ok(ObjsetPhys {
            kind: ObjsetKind::from_id(self.kind.get()).ok_or(OndiskError::BadType)?,
            flags: ObjsetFlags::from_bits_retain(self.flags.get()),
            zil: self.zil_header.parse()?,
        })
    }
}

impl ObjsetPhys {
    /// Writes kind, flags and log header into a root block; dnodes and MACs are left as they are.
    ///
    /// # Errors
    /// `Truncated` when the block is shorter than the oldest version.
    pub fn store(&self, block: &mut [u8]) -> Result<()> {
        let (raw, _) = RawObjset::mut_from_prefix(block).map_err(|_| OndiskError::Truncated)?;
        raw.kind = (self.kind as u64).into();
        raw.flags = self.flags.bits().into();
        raw.zil_header = self.zil.to_raw();
        Ok(())
    }
}
