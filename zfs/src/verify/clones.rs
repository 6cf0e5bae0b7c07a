//! References to shared blocks, counted on the walk, against the block reference table.
//!
//! Only blocks that the table names are kept in memory. A reference that no entry allows for is a double allocation,
//! which the claims find.
use super::counts::compare;
use super::{Finding, Report};
use crate::brt::{self, Brt};
use crate::spa::mos::Mos;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use ondisk::BlkPtr;

/// A block that the table names.
#[derive(Debug, Default)]
struct Shared {
    /// References beyond the first.
    stored: u64,
    counted: u64,
    /// References of trees that are being freed: they may be gone.
    perhaps: u64,
    /// Bytes of the block, as space accounting counts them.
    bytes: u64,
}

/// The table's blocks by vdev and offset, and the references that were met.
#[derive(Debug)]
pub(super) struct Clones(BTreeMap<(u32, u64), Shared>);

impl Clones {
    pub(super) fn load(mos: &Mos, storage: &Storage) -> Result<Self> {
        let mut blocks = BTreeMap::new();
        brt::entries(mos, storage, &mut |vdev, offset, stored| {
            blocks.insert((vdev, offset), Shared { stored, ..Shared::default() });
            Ok(())
        })?;
        Ok(Self(blocks))
    }

    fn find(&mut self, bp: &BlkPtr) -> Option<&mut Shared> {
        let dva = bp.dva(0);
        if Brt::is_sharable(bp) { self.0.get_mut(&(dva.vdev, dva.offset)) } else { None }
    }

    /// Counts a reference; true if it is not the first to a shared block.
    pub(super) fn count(&mut self, storage: &Storage, bp: &BlkPtr) -> bool {
        let Some(shared) = self.find(bp) else { return false };
        shared.counted += 1;
        shared.bytes = storage.deflated(bp);
        shared.counted > 1
    }

    /// Counts a reference that may have been given up already.
    pub(super) fn count_perhaps(&mut self, bp: &BlkPtr) {
        if let Some(shared) = self.find(bp) {
            shared.perhaps += 1;
        }
    }

    /// Compares, and adds up the table's own figures.
    pub(super) fn check(&self, mos: &Mos, storage: &Storage, report: &mut Report) -> Result<()> {
        let mut has_perhaps = false;
        for ((vdev, offset), shared) in &self.0 {
            let stored = shared.stored.saturating_add(1);
            let most = shared.counted + shared.perhaps;
            has_perhaps |= shared.perhaps > 0;
            if shared.stored == 0 || stored < shared.counted || stored > most {
                let (vdev, offset, counted) = (u64::from(*vdev), *offset, shared.counted);
                report.add(Finding::References { vdev, offset, stored, counted });
            }
        }
        for (vdev, phys, counts) in brt::counts(mos, storage)? {
            let mut counted = vec![0u16; counts.len()];
            let (mut total, mut used, mut saved) = (0u64, 0u64, 0u64);
            for ((_, offset), shared) in self.0.range((vdev, 0)..=(vdev, u64::MAX)) {
                let index = usize::try_from(offset / phys.range_size).map_err(|_| Error::Damaged)?;
                if let Some(count) = counted.get_mut(index) {
                    *count = count.saturating_add(1);
                }
                total += 1;
                used = used.saturating_add(shared.bytes);
                saved = saved.saturating_add(shared.bytes.saturating_mul(shared.stored));
            }
            if counts != counted {
                let what = format!("counts of the block reference table of vdev {vdev}");
                report.add(Finding::Damaged { what });
            }
            compare(report, format!("shared blocks of vdev {vdev}"), phys.total, total);
            // The size of a block that only a tree being freed refers to is not known here.
            if !has_perhaps {
                compare(report, format!("shared blocks of vdev {vdev}, used"), phys.used, used);
                compare(report, format!("shared blocks of vdev {vdev}, saved"), phys.saved, saved);
            }
        }
        Ok(())
    }
}
