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
    /// Bytes of data to be written.
    pub write_bytes: u64,
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
        Self { write_bytes: bytes, nr_objects: 1, nr_zap_changes: 0, clone_bytes: 0, is_net_free: false }
    }

    /// Objects and names.
    pub const fn names(nr_objects: u32, nr_zap_changes: u32) -> Self {
        Self { write_bytes: 0, nr_objects, nr_zap_changes, clone_bytes: 0, is_net_free: false }
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

    /// Bytes on disk in the worst case: every touched object changes a block of the dnode file and the indirect
    /// blocks above it, every name splits a leaf, metadata has an extra copy.
    pub(super) fn worst_case(&self, copies: u64) -> u64 {
        const PER_OBJECT: u64 = 16 << 10;
        const PER_NAME: u64 = 32 << 10;
        let metadata = u64::from(self.nr_objects)
            .saturating_mul(PER_OBJECT)
            .saturating_add(u64::from(self.nr_zap_changes).saturating_mul(PER_NAME))
            // Indirect blocks: one pointer for each data block of at least 4 KiB.
            .saturating_add(self.write_bytes / 32);
        self.write_bytes.saturating_mul(copies).saturating_add(metadata.saturating_mul((copies + 1).min(3)))
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
