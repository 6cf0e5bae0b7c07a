//! What blocks claim, against what the space maps call allocated.
use super::{Finding, Report};
use crate::metaslab::RangeTree;
use crate::spa::mos::Mos;
use crate::spa::space_maps::unflushed_logs;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::ObjectId;
use ondisk::pool_directory as names;
use ondisk::space_map::{SpaceMapEntry, SpaceMapPhys};

/// Claims by top-level vdev.
pub(super) struct Claims {
    claimed: Vec<RangeTree>,
    /// Space that may be allocated or not: logs that were never claimed, destroys under way.
    optional: Vec<RangeTree>,
    /// Blocks may be referenced several times (cloning, dedup).
    pub(super) may_share: bool,
}

impl Claims {
    pub(super) fn new(storage: &Storage) -> Self {
        let none = || storage.vdevs().iter().map(|_| RangeTree::new()).collect();
        Self { claimed: none(), optional: none(), may_share: false }
    }

    /// Claims a block's space; false when some of it was claimed already.
    pub(super) fn claim(&mut self, report: &mut Report, vdev: u32, offset: u64, len: u64) -> bool {
        let finding = Finding::NotAllocated { vdev: vdev.into(), offset, len };
        let Some(tree) = self.claimed.get_mut(vdev as usize) else {
            report.add(finding);
            return true;
        };
        let is_taken = tree.overlaps(offset, len);
        if is_taken {
            if !self.may_share {
                report.add(Finding::DoubleAllocation { vdev: vdev.into(), offset, len });
            }
            tree.clear(offset, len);
        }
        if tree.add(offset, len).is_err() {
            report.add(finding);
        }
        !is_taken
    }

    /// Notes space that need not be allocated.
    pub(super) fn allow(&mut self, vdev: u32, offset: u64, len: u64) {
        if let Some(tree) = self.optional.get_mut(vdev as usize) {
            tree.clear(offset, len);
            // What does not fit a range is no space of the pool and cannot be a leak.
            let _ = tree.add(offset, len);
        }
    }

    /// Notes what a checkpoint keeps: freed since, but not to be given away.
    pub(super) fn allow_checkpointed(&mut self, mos: &Mos, storage: &Storage) -> Result<()> {
        for vdev in storage.vdevs().iter() {
            let info = vdev.info();
            let top_zap = storage.top_zap(info.id);
            if top_zap.is_none() {
                continue;
            }
            let Some(map) = mos.zap_lookup(top_zap, names::VDEV_CHECKPOINT_SM)? else {
                continue;
            };
            let map = ObjectId(map);
            let length = mos.bonus(map, |bytes| Ok(SpaceMapPhys::parse(bytes)?))?.length;
            let length = usize::try_from(length).map_err(|_| Error::Damaged)?;
            let bytes = mos.read(map, 0, length)?;
            let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
            let mut rest = words.as_slice();
            while !rest.is_empty() {
                let (entry, taken) = SpaceMapEntry::decode(rest)?;
                rest = rest.get(taken..).unwrap_or_default();
                if let SpaceMapEntry::Run(run) = entry {
                    let scale = |n: u64| n.checked_mul(1 << info.ashift).ok_or(Error::Damaged);
                    self.allow(info.id, scale(run.offset)?, scale(run.run)?);
                }
            }
        }
        Ok(())
    }

    /// Compares, metaslab by metaslab. `with_leaks`: everything was walked, so what is not claimed is leaked.
    pub(super) fn compare(
        &mut self,
        mos: &Mos,
        storage: &Storage,
        report: &mut Report,
        with_leaks: bool,
    ) -> Result<()> {
        let logs = unflushed_logs(mos, storage)?;
        for vdev in storage.vdevs().iter() {
            let id = vdev.info().id;
            for metaslab in 0..vdev.nr_metaslabs() {
                let metaslab = u32::try_from(metaslab).map_err(|_| Error::Damaged)?;
                match storage.allocated_ranges(mos, id, metaslab, &logs) {
                    Ok(allocated) => self.compare_ranges(report, id, allocated, with_leaks)?,
                    Err(e) => report.add(Finding::Damaged {
                        what: alloc::format!("space map of metaslab {metaslab} of vdev {id}: {e}"),
                    }),
                }
            }
        }
        for (vdev, tree) in self.claimed.iter().enumerate() {
            for (offset, len) in tree.iter() {
                report.add(Finding::NotAllocated { vdev: vdev as u64, offset, len });
            }
        }
        Ok(())
    }

    /// Takes one metaslab's allocated ranges away from what is claimed; what is left over on either side is wrong.
    fn compare_ranges(
        &mut self,
        report: &mut Report,
        vdev: u32,
        allocated: RangeTree,
        with_leaks: bool,
    ) -> Result<()> {
        let mut leaks = RangeTree::new();
        let (claimed, optional) = (&mut self.claimed[vdev as usize], &self.optional[vdev as usize]);
        for (offset, len) in allocated.iter() {
            report.bytes_allocated += len;
            leaks.add(offset, len)?;
            let end = offset + len;
            let overlapping: Vec<(u64, u64)> = overlaps(claimed, offset, end);
            for (from, to) in overlapping {
                leaks.clear(from, to - from);
                claimed.clear(from, to - from);
            }
            for (from, to) in overlaps(optional, offset, end) {
                leaks.clear(from, to - from);
            }
        }
        if with_leaks {
            for (offset, len) in leaks.iter() {
                report.add(Finding::Leak { vdev: vdev.into(), offset, len });
            }
        }
        Ok(())
    }
}

/// The parts of `from..to` that are in the tree.
fn overlaps(tree: &RangeTree, from: u64, to: u64) -> Vec<(u64, u64)> {
    tree.iter_from(from)
        .take_while(|(start, _)| *start < to)
        .filter_map(|(start, len)| {
            let (start, end) = (start.max(from), (start + len).min(to));
            (start < end).then_some((start, end))
        })
        .collect()
}
