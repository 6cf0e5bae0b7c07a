//! The end of a resilver: what leaves have missed is forgotten when it was brought back.
use super::Spa;
use crate::dmu::DmuTx;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use ondisk::Txg;

impl Spa {
    /// A resilver of that generation has seen every block born up to `last`; `is_complete` when it could read all of them. In the sync
    /// thread, in the transaction group `ctx`. Replaced devices leave the pool, spares that are not needed go back.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`: the MOS cannot be changed.
    pub fn resilver_done(
        &self,
        ctx: &SyncCtx,
        tx: &DmuTx,
        (last, generation): (Txg, u64),
        is_complete: bool,
    ) -> Result<()> {
        self.storage.resilvered(last, is_complete, generation);
        self.finish_sides(ctx, tx)
    }

    /// Forgets the errors of one device, or of all, and uses again what was given up for them.
    ///
    /// # Errors
    /// `NotFound` when there is no such device.
    pub fn clear_errors(&self, guid: Option<u64>) -> Result<()> {
        let mut has_found = guid.is_none();
        // Before anything is used again: a resilver that ends just now was walked without it.
        let generation = self.storage.request_resilver();
        for leaf in self.storage.leaves().iter().filter(|l| guid.is_none_or(|g| g == l.guid())) {
            has_found = true;
            if !leaf.is_usable() {
                leaf.health().come_back(generation);
            }
            leaf.clear_errors();
        }
        // One that began meanwhile may have passed over it.
        self.storage.request_resilver();
        if has_found { Ok(()) } else { Err(Error::NotFound) }
    }
}
