//! What users ask of a scan, and what they see of it.
use super::{Scan, ScanFunc, ScanState, sync};
use crate::spa::{Spa, When};
use crate::{Error, Result};
use alloc::format;
use alloc::sync::Arc;
use ondisk::Txg;
use ondisk::pool_directory::LAST_SCRUBBED_TXG;
use ondisk::scan::ScanFlags;

/// The last scan, or the one under way. Times are seconds since 1970, amounts bytes of allocated space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStatus {
    /// What it is for; `None` when the pool was never scanned.
    pub func: ScanFunc,
    /// How far it is.
    pub state: ScanState,
    /// Paused by the user.
    pub is_paused: bool,
    /// When it began.
    pub start_time: u64,
    /// When it ended.
    pub end_time: u64,
    /// What is to be walked.
    pub to_examine: u64,
    /// What has been.
    pub examined: u64,
    /// Of that, what needed no reading.
    pub skipped: u64,
    /// Repaired or rebuilt.
    pub processed: u64,
    /// Blocks that could not be repaired.
    pub errors: u64,
    /// When this build took it up.
    pub pass_start: u64,
    /// Since when it is paused, 0 when it is not.
    pub pass_paused: u64,
    /// Walked since it was taken up.
    pub pass_examined: u64,
    /// Read since it was taken up.
    pub pass_issued: u64,
}

impl ScanStatus {
    /// Work is being done, or would be if the pool were open.
    pub fn is_running(&self) -> bool {
        self.state == ScanState::Scanning && !self.is_paused
    }
}

impl Spa {
    /// The last scan, or the one under way.
    pub fn scan_status(&self) -> ScanStatus {
        let state = self.scan().state.lock();
        let (phys, pass) = (state.phys, state.pass);
        ScanStatus {
            func: phys.func,
            state: phys.state,
            is_paused: phys.is_paused(),
            start_time: phys.start_time,
            end_time: phys.end_time,
            to_examine: phys.to_examine,
            examined: phys.examined,
            skipped: phys.skipped,
            processed: phys.processed,
            errors: phys.errors,
            pass_start: pass.start,
            pass_paused: pass.paused,
            pass_examined: pass.examined,
            pass_issued: pass.issued,
        }
    }

    /// Starts a scrub, or goes on with one that is paused. It works in the background.
    ///
    /// # Errors
    /// `Busy` when a scan is under way; `ReadOnly`, `Suspended`.
    pub fn scrub(self: &Arc<Self>) -> Result<()> {
        self.start_scrub(Txg::ZERO, "")
    }

    /// As [`Self::scrub`], of what was born since the last scrub that came to its end began; of everything when none has.
    ///
    /// # Errors
    /// As [`Self::scrub`]; what reading the MOS gives.
    pub fn scrub_new(self: &Arc<Self>) -> Result<()> {
        let last = self.mos().directory_entry(LAST_SCRUBBED_TXG)?.map_or(Txg::ZERO, |last| Txg(last.0));
        // What that scrub's own group wrote was not looked at.
        self.start_scrub(last.prev(), "-C ")
    }

    fn start_scrub(self: &Arc<Self>, after: Txg, flag: &str) -> Result<()> {
        self.check_writable()?;
        let (is_paused, is_busy) = {
            let state = self.scan().state.lock();
            (state.phys.is_paused(), state.phys.is_running())
        };
        if is_busy {
            return Err(Error::Busy);
        }
        let command = format!("zpool scrub {flag}{}", self.mos().pool_name());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            let phys = spa.scan().state.lock().phys;
            if phys.state == ScanState::Scanning && !(is_paused && phys.is_paused()) {
                // A resilver has begun meanwhile.
                return Ok(());
            }
            if is_paused && phys.is_paused() {
                pause(spa, false);
                sync::store(spa.mos(), tx)?;
            } else {
                sync::set_up(spa, tx, ScanFunc::Scrub, (after, tx.txg()))?;
            }
            spa.note(tx, &command)
        })?;
        Scan::start(self);
        Ok(())
    }

    /// Begins a resilver of what devices miss, or begins it again.
    ///
    /// # Errors
    /// `NotFound` when no device misses anything; `ReadOnly`, `Suspended`.
    pub fn resilver(self: &Arc<Self>) -> Result<()> {
        self.check_writable()?;
        if self.storage().resilver_range().is_none() {
            return Err(Error::NotFound);
        }
        self.storage().request_resilver();
        let command = format!("zpool resilver {}", self.mos().pool_name());
        self.run_task(When::AfterDatasets, move |spa, _, tx| spa.note(tx, &command))
    }

    /// Pauses a scrub; it stays so when the pool is exported.
    ///
    /// # Errors
    /// `NotFound` when none is under way, `Busy` when it is paused already; `ReadOnly`, `Suspended`.
    pub fn scrub_pause(self: &Arc<Self>) -> Result<()> {
        self.check_writable()?;
        let phys = self.scan().state.lock().phys;
        if phys.state != ScanState::Scanning || phys.func != ScanFunc::Scrub {
            return Err(Error::NotFound);
        }
        if phys.is_paused() {
            return Err(Error::Busy);
        }
        let command = format!("zpool scrub -p {}", self.mos().pool_name());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            if !is_scrubbing(spa) {
                return Ok(());
            }
            pause(spa, true);
            sync::store(spa.mos(), tx)?;
            spa.note(tx, &command)
        })
    }

    /// Gives a scrub up.
    ///
    /// # Errors
    /// `NotFound` when none is under way; `ReadOnly`, `Suspended`.
    pub fn scrub_stop(self: &Arc<Self>) -> Result<()> {
        self.check_writable()?;
        let phys = self.scan().state.lock().phys;
        if phys.state != ScanState::Scanning || phys.func != ScanFunc::Scrub {
            return Err(Error::NotFound);
        }
        let command = format!("zpool scrub -s {}", self.mos().pool_name());
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| {
            if !is_scrubbing(spa) {
                return Ok(());
            }
            sync::end(spa, ctx, tx, false)?;
            spa.note(tx, &command)
        })
    }

    /// Blocks until no scan is at work (ended, paused, given up, or the pool closed), looking at least every
    /// `interval`; `progress` is called each time.
    pub fn scan_wait(&self, interval: core::time::Duration, progress: &mut dyn FnMut(&ScanStatus)) {
        loop {
            let status = self.scan_status();
            progress(&status);
            let is_over = || {
                let state = self.scan().state.lock();
                (!state.phys.is_running() || state.is_stopping).then_some(())
            };
            if !status.is_running() || self.txgs().is_suspended() {
                // The end is told within the group that stores it: answer when that is on disk.
                drop(self.settled());
                // One that began again in that very group goes on.
                if !self.scan_status().is_running() || self.txgs().is_suspended() {
                    return;
                }
                continue;
            }
            self.scan().changed.wait_until(rt::now().after(interval), "scan end", is_over);
            if self.scan().state.lock().is_stopping {
                return;
            }
        }
    }
}

/// In the sync thread: it is still a scrub that is under way; a resilver may have taken its place.
fn is_scrubbing(spa: &Spa) -> bool {
    let phys = spa.scan().state.lock().phys;
    phys.state == ScanState::Scanning && phys.func == ScanFunc::Scrub
}

/// In the sync thread: stops the walk, or lets it go on.
fn pause(spa: &Spa, is_paused: bool) {
    let now = spa.time();
    let mut state = spa.scan().state.lock();
    state.phys.flags.set(ScanFlags::PAUSED, is_paused);
    if is_paused {
        state.pass.paused = now;
    } else {
        state.pass = super::Pass { start: now, ..super::Pass::default() };
    }
}
