//! A scan's state in the pool: the array `scan` in the pool directory and the queue of datasets, changed in the sync
//! thread only.
//!
//! Source: `dsl_scan_setup_sync`, `dsl_scan_sync_state`, `dsl_scan_done` (dsl_scan.c).
use super::{Pass, Scan, State};
use crate::dmu::DmuTx;
use crate::spa::mos::Mos;
use crate::spa::{Spa, When};
use crate::zap::ZapValue;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use ondisk::pool_directory::{LAST_SCRUBBED_TXG, POOL_DIRECTORY, SCAN};
use ondisk::scan::{ScanFunc, ScanPhys, ScanState};
use ondisk::{DmuType, Txg};

/// Dedup tables are not walked by themselves: every block is found in the datasets.
const NO_TABLES: [u64; 4] = [1, 0, 0, 0];

/// Reads the state a pool was left in.
///
/// # Errors
/// What reading gives. A state that makes no sense counts as none.
pub(super) fn load(scan: &Scan, mos: &Mos, now: u64) -> Result<()> {
    let words = match mos.zap(POOL_DIRECTORY)?.lookup(SCAN.as_bytes()) {
        Ok(value) => value.ints,
        Err(Error::NotFound) => return Ok(()),
        Err(e) => return Err(e),
    };
    let Ok(mut phys) = ScanPhys::parse(&words) else {
        log::warn!("zfs: the state of the last scan makes no sense and is left alone");
        return Ok(());
    };
    let mut queue = BTreeMap::new();
    if phys.state == ScanState::Scanning {
        if let Some(zap) = phys.queue.non_zero() {
            mos.for_each_u64(zap, &mut |id, after| {
                let id = u64::from_str_radix(id, 16).map_err(|_| Error::Damaged)?;
                queue.insert(id, after);
                Ok(())
            })?;
        }
        // Another build may have been going by tables first: then the walk has not begun.
        (phys.ddt_class_max, phys.ddt_bookmark) = (0, NO_TABLES);
    }
    let is_resilver = phys.state == ScanState::Scanning && phys.func == ScanFunc::Resilver;
    let goes_on = is_resilver && super::resilver::goes_on(mos, &words)?;
    let mut state = scan.state.lock();
    if goes_on {
        state.resilver.generation = mos.storage().resilver_generation();
    }
    state.pass = Pass { start: now, ..Pass::default() };
    if phys.is_paused() {
        state.pass.paused = now;
    }
    (state.phys, state.stored_queue) = (phys, queue.clone());
    state.queue = queue;
    Ok(())
}

/// Begins a scan of the blocks born between `range`'s groups (both exclusive).
///
/// # Errors
/// What writing gives.
pub(super) fn set_up(spa: &Spa, tx: &DmuTx, func: ScanFunc, range: (Txg, Txg)) -> Result<()> {
    let mos = spa.mos();
    let queue = mos.create_zap(tx, DmuType::SCAN_QUEUE, DmuType::NONE, 0)?;
    let now = spa.time();
    {
        let mut state = spa.scan().state.lock();
        let generation = state.generation + 1;
        let is_stopping = state.is_stopping;
        let phys = ScanPhys {
            func,
            state: ScanState::Scanning,
            queue,
            min_txg: range.0,
            max_txg: range.1,
            start_time: now,
            to_examine: spa.storage().space().allocated,
            ddt_bookmark: NO_TABLES,
            ..ScanPhys::default()
        };
        let pass = Pass { start: now, ..Pass::default() };
        let resilver = state.resilver;
        *state = State { phys, generation, is_stopping, pass, resilver, ..State::default() };
    }
    store(spa.mos(), tx)?;
    let text = format!("func={} mintxg={} maxtxg={}", func as u64, range.0, range.1);
    spa.note_internal(tx, "scan setup", &text)
}

/// Writes the state.
///
/// # Errors
/// What writing gives.
pub(super) fn store(mos: &Mos, tx: &DmuTx) -> Result<()> {
    let (phys, queue, stored, generation) = {
        let mut state = mos.scan().state.lock();
        state.is_dirty = false;
        let generation = (state.nr_unseen == 0).then_some(state.resilver.generation);
        (state.phys, state.queue.clone(), state.stored_queue.clone(), generation)
    };
    if let Some(zap) = phys.queue.non_zero() {
        for (id, _) in stored.iter().filter(|(id, _)| !queue.contains_key(id)) {
            mos.zap_remove(tx, zap, &format!("{id:x}"))?;
        }
        for (id, after) in queue.iter().filter(|(id, after)| stored.get(id) != Some(after)) {
            mos.zap_update(tx, zap, &format!("{id:x}"), *after)?;
        }
    }
    mos.zap(POOL_DIRECTORY)?.update(tx, SCAN.as_bytes(), &ZapValue::words(&phys.to_words()))?;
    super::resilver::store_leaves(mos, tx, &phys, generation)?;
    mos.scan().state.lock().stored_queue = queue;
    Ok(())
}

/// Stores the state and waits for it, if it has changed.
///
/// # Errors
/// `Suspended`, what writing gives.
pub(super) fn store_now(spa: &Arc<Spa>) -> Result<()> {
    if !spa.scan().state.lock().is_dirty {
        return Ok(());
    }
    spa.run_task(When::AfterDatasets, |spa, _, tx| store(spa.mos(), tx))
}

/// Ends the scan.
///
/// # Errors
/// What writing gives.
pub(super) fn end(spa: &Spa, ctx: &SyncCtx, tx: &DmuTx, is_complete: bool) -> Result<()> {
    let now = spa.time();
    let is_complete = is_complete && !super::resilver::is_outdated(spa);
    let (phys, queue, nr_unseen, generation) = {
        let mut state = spa.scan().state.lock();
        if state.phys.state != ScanState::Scanning {
            return Ok(());
        }
        let queue = core::mem::take(&mut state.phys.queue);
        state.phys.state = if is_complete { ScanState::Finished } else { ScanState::Canceled };
        state.phys.flags = ondisk::scan::ScanFlags::empty();
        state.phys.end_time = now;
        state.generation += 1;
        state.queue = BTreeMap::new();
        state.stored_queue = BTreeMap::new();
        (state.phys, queue, state.nr_unseen, state.resilver.generation)
    };
    // Only who has looked at everything can say that what was lost is not any more.
    let has_seen_all = is_complete && phys.func == ScanFunc::Scrub && phys.min_txg == Txg::ZERO;
    super::errlog::rotate(spa, tx, has_seen_all)?;
    if is_complete && phys.func == ScanFunc::Scrub {
        let last = ZapValue::words(&[phys.max_txg.0]);
        spa.mos().zap(POOL_DIRECTORY)?.update(tx, LAST_SCRUBBED_TXG.as_bytes(), &last)?;
    }
    if !queue.is_none() {
        spa.mos().free(tx, queue)?;
    }
    store(spa.mos(), tx)?;
    let word = if is_complete { "scan done" } else { "scan cancelled" };
    spa.note_internal(tx, word, &format!("errors={}", phys.errors))?;
    if phys.func == ScanFunc::Resilver && is_complete {
        spa.resilver_done(ctx, tx, (phys.max_txg.prev(), generation), nr_unseen == 0)?;
        super::resilver::ended(spa, phys.max_txg.prev());
    }
    spa.scan().wake();
    Ok(())
}
