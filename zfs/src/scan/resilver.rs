//! When devices are brought up to date.
//!
//! The vdevs know which transaction groups each leaf misses. At the end of each group that is written the sync thread
//! looks whether a leaf that can be written misses something; then a resilver of just those groups begins, in place of a
//! scrub if one is under way. A leaf that comes while a resilver is under way makes it begin again: what was walked
//! already was walked without that leaf.
//!
//! A resilver that was cut off goes on after the import if it was walked from its beginning with every leaf that misses
//! something now; else it begins again. Only leaves that were there all the time may count as brought up to date at its
//! end, so who they are is stored with its place. What is stored counts only beside the very place it was stored with:
//! OpenZFS moves the place and does not know of it, and may have moved it while a leaf was away. (`resilver_txg` in a
//! leaf's configuration tells whether a resilver began for that leaf, not that it was there ever since.)
//!
//! Source: `vdev_resilver_needed`, `dsl_scan_restart_resilver` (vdev.c, dsl_scan.c).
use super::{Scan, ScanFunc, sync};
use crate::dmu::DmuTx;
use crate::spa::Spa;
use crate::spa::mos::Mos;
use crate::zap::ZapValue;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::Txg;
use ondisk::pool_directory::{POOL_DIRECTORY, RESILVER_LEAVES};
use ondisk::scan::{SCAN_WORDS, ScanPhys, ScanState};
use ondisk::zap::ZAP_VALUE_MAX;

/// Groups after the one being written that leaves may have missed already: the intent logs' of those that are open or
/// closing, and all that a leaf that has just come does not get.
pub(super) const TXGS_AHEAD: u64 = 2;

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

/// Stores with the place of a scan which leaves it was walked with. `generation`: that of the resilver; `None` when there is
/// something it could not walk.
///
/// # Errors
/// What writing gives.
pub(super) fn store_leaves(mos: &Mos, tx: &DmuTx, phys: &ScanPhys, generation: Option<u64>) -> Result<()> {
    let is_under_way = phys.func == ScanFunc::Resilver && phys.state == ScanState::Scanning;
    let leaves = match generation.filter(|_| is_under_way) {
        Some(generation) => mos.storage().walked_with(generation, phys.max_txg.prev()),
        None => Vec::new(),
    };
    let words: Vec<u64> = phys.to_words().into_iter().chain(leaves.iter().copied()).collect();
    if !leaves.is_empty() && size_of_val(&*words) <= ZAP_VALUE_MAX {
        return mos.zap(POOL_DIRECTORY)?.update(tx, RESILVER_LEAVES.as_bytes(), &ZapValue::words(&words));
    }
    match mos.zap_has(POOL_DIRECTORY, RESILVER_LEAVES)? {
        true => mos.zap_remove(tx, POOL_DIRECTORY, RESILVER_LEAVES),
        false => Ok(()),
    }
}

/// Whether a resilver that was stored as `scan` may go on from its place: some leaf misses something, and it was walked with
/// all that do.
///
/// # Errors
/// What reading the MOS gives.
pub(super) fn goes_on(mos: &Mos, scan: &[u64]) -> Result<bool> {
    let stored = match mos.zap(POOL_DIRECTORY)?.lookup(RESILVER_LEAVES.as_bytes()) {
        Ok(value) => value.ints,
        Err(Error::NotFound) => return Ok(false),
        Err(e) => return Err(e),
    };
    let Some((place, walked_with)) = stored.split_at_checked(SCAN_WORDS) else { return Ok(false) };
    let leaves = mos.storage().leaves();
    let mut missing = leaves.iter().filter(|leaf| leaf.is_usable() && leaf.health().is_stale()).peekable();
    Ok(place == scan && missing.peek().is_some() && missing.all(|leaf| walked_with.contains(&leaf.guid())))
}

/// Begins a resilver if one is due, in the sync thread.
///
/// # Errors
/// What writing gives.
pub(crate) fn start_if_due(spa: &Arc<Spa>, ctx: &SyncCtx, tx: &DmuTx) -> Result<()> {
    let Some(range) = spa.storage().resilver_range() else { return Ok(()) };
    // Leaves may miss groups that are not written yet: the walk begins when they are (`step`). Whatever else a log may say
    // is not in the tree that is walked, and must not be forgotten with it.
    if range.0 > tx.txg() {
        return Ok(());
    }
    let range = (range.0, range.1.min(Txg(tx.txg().0.saturating_add(TXGS_AHEAD))));
    let generation = spa.storage().resilver_generation();
    let (phys, plan) = {
        let state = spa.scan().state.lock();
        (state.phys, state.resilver)
    };
    let is_scanning = phys.state == ScanState::Scanning;
    let is_resilvering = is_scanning && phys.func == ScanFunc::Resilver;
    // One that was under way when the pool was opened is of no generation unless it may go on.
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
    spa.storage().begin_resilver();
    sync::set_up(spa, tx, ScanFunc::Resilver, (range.0.prev(), range.1.next()))?;
    Scan::start(spa);
    Ok(())
}
