//! When devices are brought up to date.
//!
//! The vdevs know which transaction groups each leaf misses. At the end of each group that is written the sync thread
//! looks whether a leaf that can be written misses something; then a resilver of just those groups begins, in place of a
//! scrub if one is under way. A leaf that comes while a resilver is under way makes it begin again: what was walked
//! already was walked without that leaf.
//!
//! Source: `vdev_resilver_needed`, `dsl_scan_restart_resilver` (vdev.c, dsl_scan.c).
use super::{Scan, ScanFunc, sync};
use crate::Result;
use crate::dmu::DmuTx;
use crate::spa::Spa;
use crate::zio::SyncCtx;
use alloc::sync::Arc;
use ondisk::Txg;
use ondisk::scan::ScanState;

/// What was last tried: what could not be brought back then is not tried again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The vdevs' generation when the resilver under way began.
    pub(super) generation: u64,
    /// What was still missing when the last one had ended, and the generation then.
    left: Option<(u64, (Txg, Txg))>,
}

/// Whether leaves have come since the resilver under way began.
pub(super) fn is_outdated(spa: &Spa) -> bool {
    let state = spa.scan().state.lock();
    state.phys.func == ScanFunc::Resilver && state.resilver.generation != spa.storage().resilver_generation()
}

/// A resilver of the groups up to `last` has ended and what it brought back was entered. What is missing of later groups
/// is the next one's.
pub(super) fn ended(spa: &Spa, last: Txg) {
    let range = spa.storage().resilver_range().filter(|range| range.1 <= last);
    let left = range.map(|range| (spa.storage().resilver_generation(), range));
    spa.scan().state.lock().resilver.left = left;
}

/// Begins a resilver if one is due, in the sync thread.
///
/// # Errors
/// What writing gives.
pub(crate) fn start_if_due(spa: &Arc<Spa>, ctx: &SyncCtx, tx: &DmuTx) -> Result<()> {
    let Some(range) = spa.storage().resilver_range() else { return Ok(()) };
    // Leaves may miss groups that are not written yet (intent logs are ahead of them): those are not in the tree that is
    // walked, and must not be forgotten with it.
    let range = (range.0, range.1.min(tx.txg()));
    if range.0 > range.1 {
        return Ok(());
    }
    let generation = spa.storage().resilver_generation();
    let (phys, plan) = {
        let state = spa.scan().state.lock();
        (state.phys, state.resilver)
    };
    let is_scanning = phys.state == ScanState::Scanning;
    let is_resilvering = is_scanning && phys.func == ScanFunc::Resilver;
    // One that was under way when the pool was opened is of no generation, and begins again: what it had walked may have been
    // walked without a leaf that was away or given up then, which would count as brought up to date at its end.
    if is_resilvering && plan.generation == generation {
        return Ok(());
    }
    if !is_resilvering && plan.left == Some((generation, range)) {
        return Ok(());
    }
    if is_scanning {
        sync::end(spa, ctx, tx, false)?;
    }
    spa.scan().state.lock().resilver.generation = generation;
    sync::set_up(spa, tx, ScanFunc::Resilver, (range.0.prev(), range.1.next()))?;
    Scan::start(spa);
    Ok(())
}
