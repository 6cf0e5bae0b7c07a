//! The end of a transaction group: what makes it the pool's state.
use super::label::Pair;
use super::{Spa, config, label};
use crate::bugs::{self, Bug};
use crate::vdev::{IoGroup, Leaf, Vdev};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::uberblock::Uberblock;
use ondisk::{BlkPtr, Txg};

/// Top-level vdevs that get an uberblock when the configuration has not changed.
const UBERBLOCK_VDEVS_MAX: usize = 3;

/// Offsets on a device, and what to write there.
type Pieces = Vec<(u64, Abd)>;

/// A leaf that gets a label, and its top-level vdev.
type Labelled = (Arc<Leaf>, Arc<Vdev>);

impl Spa {
    /// Makes the group the pool's state. Every block it consists of is durable.
    ///
    /// 1. The caller has flushed: the tree below the new root is durable. A crash before the uberblock finds the old
    ///    one, whose tree nothing has touched.
    /// 2. When the configuration changed: labels 0 and 2 of every leaf, then flush. A crash finds the old
    ///    uberblock with labels 1 and 3, which still describe it, or with 0 and 2, which name the same devices and
    ///    pool. Torn labels fail their checksum and are passed over. A leaf whose labels 1 and 3 an earlier crash has torn
    ///    gets those first: a second crash here could tear 0 and 2 as well, and the device would have no label at all.
    /// 3. The uberblock, into its slot of all four labels, then flush. Slots turn with the txg: a torn slot costs only
    ///    an uberblock many groups old, and the one before is whole. From the flush on the group is what import
    ///    finds.
    /// 4. When the configuration changed: labels 1 and 3, then flush. A crash finds the new uberblock with labels 0
    ///    and 2.
    pub(super) fn commit(&self, txg: Txg, rootbp: BlkPtr, is_config_dirty: bool) -> Result<()> {
        let uberblock = Uberblock {
            version: self.version,
            txg,
            guid_sum: config::guid_sum(&self.config.lock())?,
            timestamp: self.env.time(),
            rootbp,
            software_version: ondisk::SPA_VERSION_FEATURES,
            mmp: Some(self.mmp_fields()?),
            checkpoint_txg: Txg::ZERO,
            raidz_reflow: 0,
        };
        let mut first = Vec::new();
        if is_config_dirty {
            first = self.write_labels(Pair::Even, txg)?;
            if bugs::is(Bug::LabelsAtOnce) {
                self.write_labels(Pair::Odd, txg)?;
            }
            self.storage.flush_all()?;
        }
        self.write_uberblock(&uberblock, is_config_dirty)?;
        if !bugs::is(Bug::NoFlushAfterUberblock) {
            self.storage.flush_all()?;
        }
        *self.uberblock.lock() = uberblock;
        if is_config_dirty {
            let second = self.write_labels(Pair::Odd, txg)?;
            self.storage.flush_all()?;
            self.note_torn_labels(&first, &second);
        }
        Ok(())
    }

    /// Makes the uberblock that an import has chosen as durable as a finished commit leaves one, before anything is
    /// written: the first group takes what the chosen one freed, which is what the uberblock before consists of. Were
    /// that one still the newest of some leaf, or the chosen one still in a device's cache, the loss of the others, or
    /// of power, would leave a pool whose blocks are overwritten. Leaves that missed groups are left as they are: nothing
    /// else says yet that they are not up to date.
    pub(super) fn settle(&self, uberblock: &Uberblock, lacking: &[u64]) -> Result<()> {
        let leaves = self.labelled(usize::MAX).into_iter();
        let leaves: Vec<Labelled> =
            leaves.filter(|(leaf, _)| lacking.contains(&leaf.guid()) && !leaf.health().is_stale()).collect();
        self.write_uberblock_to(uberblock, &leaves)?;
        self.storage.flush_all()
    }

    /// Writes two of the four labels of every leaf, the other two of those with torn ones. The guids of the leaves that have
    /// taken them.
    fn write_labels(&self, pair: Pair, txg: Txg) -> Result<Vec<u64>> {
        let current = self.config.lock().clone();
        let torn = self.torn_labels.lock().clone();
        let leaves = self.labelled(usize::MAX);
        let good = self.write_to_leaves(&leaves, txg, &mut |leaf, _| {
            let config = config::for_label(&current, leaf.guid())?;
            let offsets = leaf.label_offsets();
            let pair = if torn.contains(&leaf.guid()) { pair.other() } else { pair };
            pair.labels()
                .iter()
                .map(|index| {
                    let (at, data) = label::config_part(&config, offsets[*index])?;
                    Ok((offsets[*index] + at, data))
                })
                .collect()
        })?;
        // A vdev none of whose devices names the pool could not be found again.
        let tops = self.storage.vdevs();
        let has_label = |top: &Arc<Vdev>| {
            top.io().leaves().is_empty()
                || top.is_lost_log()
                || top.io().leaves().iter().any(|leaf| good.contains(&leaf.guid()))
        };
        if tops.iter().all(has_label) { Ok(good) } else { Err(Error::Io) }
    }

    /// Notes whose labels 1 and 3 are not whole now, by the leaves that took their first pair and those that took the second.
    fn note_torn_labels(&self, first: &[u64], second: &[u64]) {
        let leaves = self.storage.leaves();
        let mut torn = self.torn_labels.lock();
        let is_torn = |guid: &u64| {
            if torn.contains(guid) {
                !first.contains(guid)
            } else {
                first.contains(guid) && !second.contains(guid)
            }
        };
        let left = leaves.iter().map(|leaf| leaf.guid()).filter(is_torn).collect();
        *torn = left;
    }

    fn write_uberblock(&self, uberblock: &Uberblock, is_everywhere: bool) -> Result<()> {
        let leaves = self.labelled(if is_everywhere { usize::MAX } else { UBERBLOCK_VDEVS_MAX });
        let good = self.write_uberblock_to(uberblock, &leaves)?;
        if good.is_empty() { Err(Error::Io) } else { Ok(()) }
    }

    fn write_uberblock_to(&self, uberblock: &Uberblock, leaves: &[Labelled]) -> Result<Vec<u64>> {
        self.write_to_leaves(leaves, uberblock.txg, &mut |leaf, ashift| {
            let offsets = leaf.label_offsets();
            offsets
                .iter()
                .map(|at| label::uberblock_part(uberblock, ashift, self.is_multihost(), *at))
                .collect()
        })
    }

    /// The usable leaves of the first `nr_vdevs` top-level vdevs.
    fn labelled(&self, nr_vdevs: usize) -> Vec<Labelled> {
        let tops = self.storage.vdevs();
        let with_devices = tops.iter().filter(|v| v.io().leaves().iter().any(|leaf| leaf.is_usable()));
        with_devices
            .take(nr_vdevs)
            .flat_map(|v| v.io().leaves().iter().map(|leaf| (leaf.clone(), v.clone())))
            .filter(|(leaf, _)| leaf.is_usable())
            .collect()
    }

    /// Writes pieces to leaves, all at once; the guids of the leaves that took all of theirs. A leaf that did not has
    /// missed the group: were it the only one found at the next import, it would not know of it.
    fn write_to_leaves(
        &self,
        leaves: &[Labelled],
        txg: Txg,
        pieces: &mut dyn FnMut(&Leaf, u8) -> Result<Pieces>,
    ) -> Result<Vec<u64>> {
        let group = IoGroup::new();
        let mut result = Ok(());
        for (tag, (leaf, top)) in leaves.iter().enumerate() {
            match pieces(leaf, top.info().ashift) {
                Ok(pieces) => pieces.into_iter().for_each(|(offset, data)| {
                    leaf.start_write_raw(offset, data, group.completion(tag as u64));
                }),
                Err(e) => result = Err(e),
            }
        }
        let mut is_good: Vec<bool> = leaves.iter().map(|_| true).collect();
        for done in group.wait(leaves.iter().map(|(leaf, _)| &**leaf)) {
            is_good[done.tag as usize] &= done.result.is_ok();
        }
        result?;
        for ((leaf, _), _) in leaves.iter().zip(&is_good).filter(|(_, is_good)| !**is_good) {
            leaf.health().miss(txg, txg);
        }
        Ok(leaves.iter().zip(is_good).filter(|(_, good)| *good).map(|((leaf, _), _)| leaf.guid()).collect())
    }
}
