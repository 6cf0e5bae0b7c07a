//! A pool that cannot write: it is suspended, and nothing is acknowledged until it goes on.
//!
//! The writes that failed are kept. When the user has mended what was wrong (`clear`), the sync thread sends them again
//! and the group goes on where it stopped. A *flush* that failed is another matter: the device may have dropped what it
//! had in its cache, and nobody knows what; such a pool goes on only when it is opened anew.
//!
//! Source: `zio_suspend`, `zio_resume` (zio.c); pool property `failmode`.
use super::{PoolNumber, Spa};
use crate::event::Event;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::sync::Arc;
use ondisk::{BlkPtr, Txg};

/// What happens to users of a suspended pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum FailMode {
    /// They wait until it goes on.
    Wait = 0,
    /// They get errors. Also what a pool does that does not say.
    #[default]
    Continue = 1,
    /// The program, or the machine, ends.
    Panic = 2,
}

impl FailMode {
    const fn from_number(number: Option<u64>) -> Self {
        match number {
            Some(0) => Self::Wait,
            Some(2) => Self::Panic,
            _ => Self::Continue,
        }
    }
}

impl Spa {
    /// Waits for a pass's writes, sending failed ones again for as long as it takes.
    ///
    /// # Errors
    /// `Suspended` when the pool is closed meanwhile.
    pub(super) fn wait_for_writes(&self, ctx: &SyncCtx) -> Result<()> {
        while ctx.batch.wait().is_err() {
            self.wait_for_clear()?;
            self.storage.retry_writes(ctx);
        }
        Ok(())
    }

    /// As [`Self::wait_for_writes`], but does not wait for writes that go well.
    pub(super) fn wait_for_writes_if_failed(&self, ctx: &SyncCtx) -> Result<()> {
        if ctx.batch.has_failed() { self.wait_for_writes(ctx) } else { Ok(()) }
    }

    /// Commits a group, again and again until the labels take it.
    ///
    /// # Errors
    /// `Suspended` when the pool is closed meanwhile, `Io` when a flush failed; what [`Spa::commit`] gives.
    pub(super) fn commit_or_wait(&self, txg: Txg, root: BlkPtr, is_config_dirty: bool) -> Result<()> {
        loop {
            match self.commit(txg, root, is_config_dirty) {
                Err(Error::Io) if !self.storage.has_lost_flush() => self.wait_for_clear()?,
                other => return other,
            }
        }
    }

    /// Suspends the pool until the user says that it may go on.
    fn wait_for_clear(&self) -> Result<()> {
        let mode = FailMode::from_number(self.pool_number(PoolNumber::FailMode));
        log::error!("zfs: pool {} is suspended: writes failed", self.mos.pool_name());
        self.events.post(Event::Suspended);
        assert!(mode != FailMode::Panic, "the pool is suspended and its failmode is panic");
        self.state.lock().may_go_on = false;
        self.txgs.suspend(mode == FailMode::Wait);
        // Whoever waits for the scan's end must not wait for a step that waits for this group.
        self.scan().wake();
        let is_closed = self.suspension.wait("pool suspended", || {
            let state = self.state.lock();
            if state.is_closed { Some(true) } else { state.may_go_on.then_some(false) }
        });
        if is_closed {
            return Err(Error::Suspended);
        }
        self.txgs.resume();
        // Not before: a scan that looks while the pool still counts as suspended would sleep on.
        self.scan().wake();
        Ok(())
    }

    /// Forgets the errors of one device, or of all, and lets a suspended pool go on.
    ///
    /// # Errors
    /// `NotFound` when there is no such device; `Suspended` when the pool cannot go on but by being opened anew.
    pub fn clear(self: &Arc<Self>, guid: Option<u64>) -> Result<()> {
        self.clear_errors(guid)?;
        if !self.txgs.is_suspended() {
            return Ok(());
        }
        if self.storage.has_lost_flush() || self.state.lock().is_over {
            return Err(Error::Suspended);
        }
        self.state.lock().may_go_on = true;
        self.suspension.wake_all();
        Ok(())
    }
}
