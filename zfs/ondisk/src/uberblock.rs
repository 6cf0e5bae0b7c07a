//! The uberblock: root of a pool's tree as of one transaction group.
//!
//! It occupies the start of a slot in each label's ring; the slot ends with the checksum trailer ([`crate::eck`]).
//! The best one is that with the greatest `(txg, timestamp, MMP sequence)` among those whose checksum holds.

use crate::blkptr::{BlkPtr, RawBlkPtr};
use crate::error::{OndiskError, Result};
use crate::ids::Txg;
use crate::le::U64;
use core::cmp::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number, also found byte-swapped.
pub const UBERBLOCK_MAGIC: u64 = 0x00ba_b10c;
/// Marks the multihost fields as meaningful.
pub const MMP_MAGIC: u64 = 0xa11c_ea11;

/// An uberblock as it lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawUberblock {
    /// 0: [`UBERBLOCK_MAGIC`].
    pub magic: U64,
    /// 8: pool version.
    pub version: U64,
    /// 16: transaction group.
    pub txg: U64,
    /// 24: wrapping sum of all vdev guids.
    pub guid_sum: U64,
    /// 32: seconds since 1970.
    pub timestamp: U64,
    /// 40: the MOS.
    pub rootbp: RawBlkPtr,
    /// 168: highest version the writer supports.
    pub software_version: U64,
    /// 176: [`MMP_MAGIC`] if the next two fields mean something.
    pub mmp_magic: U64,
    /// 184: nanoseconds between multihost writes; 0 = off.
    pub mmp_delay: U64,
    /// 192: multihost settings and sequence number.
    pub mmp_config: U64,
    /// 200: non-zero only in the copy a checkpoint keeps.
    pub checkpoint_txg: U64,
    /// 208: progress of a RAIDZ expansion.
    pub raidz_reflow: U64,
}

/// Size of the structure (the slot it lies in is larger).
pub const UBERBLOCK_SIZE: usize = 216;
const _: () = assert!(size_of::<RawUberblock>() == UBERBLOCK_SIZE);

/// A validated uberblock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uberblock {
    /// Pool version.
    pub version: u64,
    /// Transaction group.
    pub txg: Txg,
    /// Wrapping sum of the guids of all vdevs of the tree, the root's (the pool guid) included.
    pub guid_sum: u64,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// The MOS.
    pub rootbp: BlkPtr,
    /// Highest version the writer supports.
    pub software_version: u64,
    /// Multihost fields: delay in ns, and the packed configuration.
    pub mmp: Option<Mmp>,
    /// Non-zero only in the copy a checkpoint keeps.
    pub checkpoint_txg: Txg,
    /// Progress of a RAIDZ expansion, packed.
    pub raidz_reflow: u64,
}

/// Multihost protection fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mmp {
    /// Nanoseconds between writes; 0 = protection is off.
    pub delay: u64,
    /// bits 0, 1, 2: which of the following are valid; 8-31 interval in ms; 32-47 sequence; 48-63 fail intervals.
    pub config: u64,
}

impl Mmp {
    /// Sequence number, if valid.
    #[must_use]
    pub const fn sequence(&self) -> Option<u16> {
        if self.config & 2 != 0 { Some((self.config >> 32) as u16) } else { None }
    }
}

impl RawUberblock {
    /// Validates.
    ///
    /// # Errors
    /// `ForeignEndian` when the slot must be byte-swapped first (as 64-bit words), `BadMagic` for an empty or damaged
    /// slot, otherwise what is wrong with the root block pointer.
    pub fn parse(&self) -> Result<Uberblock> {
        match self.magic.get() {
            UBERBLOCK_MAGIC => {}
            m if m == UBERBLOCK_MAGIC.swap_bytes() => return Err(OndiskError::ForeignEndian),
            _ => return Err(OndiskError::BadMagic),
        }
        let has_mmp = self.mmp_magic.get() == MMP_MAGIC;
        Ok(Uberblock {
            version: self.version.get(),
            txg: Txg(self.txg.get()),
            guid_sum: self.guid_sum.get(),
            timestamp: self.timestamp.get(),
            rootbp: self.rootbp.parse()?,
            software_version: self.software_version.get(),
            mmp: has_mmp.then(|| Mmp { delay: self.mmp_delay.get(), config: self.mmp_config.get() }),
            checkpoint_txg: Txg(self.checkpoint_txg.get()),
            raidz_reflow: self.raidz_reflow.get(),
        })
    }
}

impl Uberblock {
    /// On-disk form.
    #[must_use]
    pub fn to_raw(&self) -> RawUberblock {
        let mmp = self.mmp.unwrap_or_default();
        RawUberblock {
            magic: UBERBLOCK_MAGIC.into(),
            version: self.version.into(),
            txg: self.txg.0.into(),
            guid_sum: self.guid_sum.into(),
            timestamp: self.timestamp.into(),
            rootbp: self.rootbp.to_raw(),
            software_version: self.software_version.into(),
            mmp_magic: if self.mmp.is_some() { MMP_MAGIC } else { 0 }.into(),
            mmp_delay: mmp.delay.into(),
            mmp_config: mmp.config.into(),
            checkpoint_txg: self.checkpoint_txg.0.into(),
            raidz_reflow: self.raidz_reflow.into(),
        }
    }

    /// Order of preference: the greater one is the one to use.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        let sequence = |ub: &Self| ub.mmp.and_then(|m| m.sequence()).unwrap_or(0);
        (self.txg, self.timestamp, sequence(self)).cmp(&(other.txg, other.timestamp, sequence(other)))
    }
}
