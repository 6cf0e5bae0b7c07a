//! Growing a vdev with its devices.
//!
//! A vdev grows when all of its devices are there and each has more room than it uses: when a device is brought online with
//! the wish to grow, and with the property `autoexpand` also when the pool is opened, when the property is set, and
//! when the last smaller device has left. The configuration says the new size in the group from which on the
//! new metaslabs are there. A crash before leaves the old size, and nothing beyond it was written.
//!
//! What a device has is what it had when it was opened.
//!
//! Source: `vdev_open`, `vdev_expand` (vdev.c).
use super::reshape::NewSpace;
use super::sync::When;
use super::{PoolNumber, Spa, config};
use crate::Result;
use crate::vdev::{Vdev, VdevState};
use alloc::sync::Arc;
use alloc::vec::Vec;
use nvpair::NvValue;

impl Spa {
    /// Makes every vdev use all that its devices have, if the pool is to do that by itself. In the sync thread.
    ///
    /// # Errors
    /// As [`Self::expand`].
    pub(super) fn expand_by_property(&self) -> Result<()> {
        match self.pool_number(PoolNumber::AutoExpand) {
            Some(1) => self.expand(None),
            _ => Ok(()),
        }
    }

    /// At the end of an import.
    ///
    /// # Errors
    /// `Suspended`; as [`Self::expand`].
    pub(super) fn expand_at_import(self: &Arc<Self>) -> Result<()> {
        let is_wanted = self.pool_number(PoolNumber::AutoExpand) == Some(1);
        if is_wanted && self.storage.vdevs().iter().any(|top| grown(top).is_some()) {
            self.run_task(When::AfterDatasets, |spa, _, _| spa.expand(None))?;
        }
        Ok(())
    }

    /// Makes one top-level vdev, or every one, use all that its devices have. In the sync thread.
    ///
    /// # Errors
    /// `Damaged`, `MissingVdev`: the tree cannot be opened anew.
    pub(super) fn expand(&self, only: Option<u32>) -> Result<()> {
        let tops = self.storage.vdevs();
        let wanted = tops.iter().filter(|top| only.is_none_or(|id| id == top.info().id));
        let growing: Vec<(u64, u32, u64)> = wanted
            .filter_map(|top| grown(top).map(|asize| (top.info().guid, top.info().id, asize)))
            .collect();
        if growing.is_empty() {
            return Ok(());
        }
        for (guid, _, asize) in &growing {
            config::change(&mut self.config.lock(), *guid, &mut |top| {
                top.set("asize", NvValue::Uint64(*asize));
            })?;
        }
        self.reopen_tree(&[], None)?;
        for (_, id, asize) in growing {
            self.new_space.lock().push(NewSpace::Grown(id));
            log::info!("zfs: vdev {id} has grown to {asize} bytes");
        }
        Ok(())
    }
}

/// The size a vdev could have, if that is at least a metaslab more than it has.
fn grown(top: &Vdev) -> Option<u64> {
    let info = top.info();
    let asize = top.possible_asize().filter(|_| top.state() == VdevState::Online)?;
    (asize >> info.metaslab_shift > info.nr_metaslabs()).then_some(asize)
}
