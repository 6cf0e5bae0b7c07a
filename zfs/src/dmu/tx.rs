//! Transactions: changes that reach the disk together or not at all.
//!
//! A [`DmuTx`] is assigned when it is made: it has passed the throttle and the space check and holds its transaction
//! group open. Dropping it commits. There is no roll-back: what was changed stays changed.
use super::objset::Objset;
use super::space::Reservation;
use crate::txg::TxgHold;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use ondisk::Txg;

/// What a transaction may need at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxSpace {
    /// Bytes of data to be written: whole blocks.
    pub write_bytes: u64,
    /// Size of those blocks; 0: one block, or several of 128 KiB.
    pub block_size: u32,
    /// Objects made, freed or changed in their bonus.
    pub nr_objects: u32,
    /// Names added to or removed from ZAP objects.
    pub nr_zap_changes: u32,
    /// Bytes of blocks shared with other objects: no space of the pool, but the quota counts them.
    pub clone_bytes: u64,
    /// In the end it frees more than it takes: allowed to dip into the reserve, so that a full pool can be emptied.
    pub is_net_free: bool,
}

impl TxSpace {
    /// Some bytes of one object.
    pub const fn write(bytes: u64) -> Self {
        Self { write_bytes: bytes, ..Self::names(1, 0) }
    }

    /// A range of an object whose blocks have `block_size` bytes: each that it touches is written as a whole.
    pub fn write_range(offset: u64, len: u64, block_size: u32) -> Self {
        let size = u64::from(block_size.max(1));
        let nr = match len {
            0 => 0,
            _ => (offset.saturating_add(len - 1) / size) - offset / size + 1,
        };
        Self { block_size, ..Self::write(nr.saturating_mul(size)) }
    }

    /// Objects and names.
    pub const fn names(nr_objects: u32, nr_zap_changes: u32) -> Self {
        let (write_bytes, block_size, clone_bytes) = (0, 0, 0);
        Self { write_bytes, block_size, nr_objects, nr_zap_changes, clone_bytes, is_net_free: false }
    }

    /// Blocks of one object that become shared, of so many bytes together: what changes is what points to them.
    pub const fn clone(nr_blocks: u64, bytes: u64) -> Self {
        let mut space = Self::write(nr_blocks.saturating_mul(super::clone::CLONE_DIRTY));
        space.clone_bytes = bytes;
        space
    }

    /// The same, but freeing more than it takes.
    #[must_use]
    pub const fn net_free(mut self) -> Self {
        self.is_net_free = true;
        self
    }

    /// Number and size of the blocks of data.
    pub(super) fn blocks(&self) -> Option<(u64, u64)> {
        const LARGE: u64 = 128 << 10;
        let size = if self.block_size == 0 { self.write_bytes.min(LARGE) } else { self.block_size.into() };
        (size > 0).then(|| (self.write_bytes.div_ceil(size), size))
    }

    /// Bytes of metadata in the worst case: every touched object changes a block of the dnode file and the indirect
    /// blocks above it, every name splits a leaf, every block of data changes a pointer.
    pub(super) fn metadata_bytes(&self) -> u64 {
        const PER_OBJECT: u64 = 16 << 10;
        const PER_NAME: u64 = 32 << 10;
        const PER_BLOCK: u64 = 128;
        let nr_blocks = self.blocks().map_or(0, |(nr, _)| nr);
        u64::from(self.nr_objects)
            .saturating_mul(PER_OBJECT)
            .saturating_add(u64::from(self.nr_zap_changes).saturating_mul(PER_NAME))
            .saturating_add(nr_blocks.saturating_mul(PER_BLOCK))
    }
}

/// An assigned transaction; dropping it commits.
#[derive(Debug)]
pub struct DmuTx {
    txg: Txg,
    /// `None` in syncing context, where the sync thread itself keeps the group.
    assigned: Option<(Reservation, TxgHold)>,
}

impl DmuTx {
    /// Assigns a transaction: waits as the dirty data asks for, checks space and quota.
    ///
    /// # Errors
    /// `NoSpace`, `Quota`, `ReadOnly`, `Suspended`.
    pub fn begin(objset: &Objset, space: TxSpace) -> Result<Self> {
        if objset.is_read_only() {
            return Err(Error::ReadOnly);
        }
        objset.txgs().throttle()?;
        let reservation = objset.reserve(&space)?;
        let hold = objset.txgs().hold_open();
        Ok(Self { txg: hold.txg(), assigned: Some((reservation, hold)) })
    }

    /// A transaction of the syncing group, for the sync thread.
    pub fn syncing(ctx: &SyncCtx) -> Self {
        Self { txg: ctx.txg, assigned: None }
    }

    /// The group it belongs to.
    pub fn txg(&self) -> Txg {
        self.txg
    }

    /// It belongs to the sync thread.
    pub fn is_syncing(&self) -> bool {
        self.assigned.is_none()
    }
}
