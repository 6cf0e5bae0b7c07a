//! A pool that was split off, and what must be on its disks after a power cut.
//!
//! It holds what the pool held in one of the groups that were open meanwhile. Until the command has returned it may not
//! be there.
use crate::check::{check_pool, check_tree};
use crate::history::Cut;
use crate::plan::Plan;
use crate::pool;
use crate::tree::Tree;
use crate::worker::{Record, Shared};
use blockdev_sim::SimDisk;
use std::sync::Arc;
use zfs::spa::Spa;

/// The other pool's name.
pub const NAME: &str = "other";

/// A pool being split.
#[derive(Clone, Debug)]
pub struct Split {
    /// Those that go.
    disks: Vec<usize>,
    /// When the command began.
    start: u64,
    /// When it returned; not yet: the end of time.
    end: u64,
    /// Groups that were open at those times.
    txgs: (u64, u64),
}

impl Split {
    /// It begins now.
    pub fn begin(shared: &Shared, spa: &Spa, disks: Vec<usize>) -> Self {
        let txg = spa.txgs().open_txg().0;
        let split = Self { disks, start: shared.tick(), end: u64::MAX, txgs: (txg, u64::MAX) };
        *shared.split.lock() = Some(split.clone());
        split
    }

    /// It has been done.
    pub fn end(mut self, shared: &Shared, spa: &Spa) {
        self.end = shared.tick();
        self.txgs.1 = spa.txgs().open_txg().0;
        *shared.split.lock() = Some(self);
    }

    /// Whether the other pool is there if it must be, and whole if it is.
    ///
    /// # Errors
    /// What it is not.
    pub fn check(
        &self,
        plan: &Plan,
        disks: &[Arc<SimDisk>],
        at: u64,
        (records, has_log): (&[Record], bool),
    ) -> Result<(), String> {
        if at < self.start {
            // What an earlier split left.
            return Ok(());
        }
        let own: Vec<Arc<SimDisk>> = self.disks.iter().map(|disk| disks[*disk].clone()).collect();
        let open = match pool::import_named(plan, &own, NAME) {
            Ok(open) => open,
            Err(_) if at < self.end => return Ok(()),
            Err(e) => return Err(format!("the pool that was split off ({self:?}): {e}")),
        };
        let tree = Tree::read(&open)?;
        let mut result = Err("no group was open".to_owned());
        // The state is that of the group before the one in which the disks left. What the other pool's groups are called
        // says nothing of this one's.
        for txg in self.txgs.0 - 1..=self.txgs.1 {
            let acked_by = self.start;
            let cut = Cut { at: self.end.min(at), acked_by, txg, has_log, all_before: 0 };
            result = check_tree(&tree, records, &cut);
            if result.is_ok() {
                break;
            }
        }
        let checked = result.and_then(|()| check_pool(&open, true));
        open.abandon();
        checked.map_err(|e| format!("in the pool that was split off ({self:?}): {e}"))
    }
}
