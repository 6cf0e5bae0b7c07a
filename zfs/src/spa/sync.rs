//! One transaction group to disk, and the order in which that becomes true.
//!
//! Pass 1 writes the datasets and runs what commands left to be done; then the MOS and the space maps are written in
//! turn until neither dirties the other. That ends: a MOS block written in an earlier pass of the same group is
//! overwritten in place, so after the first passes nothing is allocated any more, and from pass 8 on nothing is
//! compressed, so sizes cannot change either. Frees are entered at once in every pass (this build defers none, but
//! empties the list of deferred ones that others left).
//!
//! Until the uberblock is written nothing of the group is reachable: no block that the last uberblock reaches is
//! overwritten (only blocks born in this group are), and freed space is not reused for two more groups.
use super::{Spa, config, features, history};
use crate::bugs::{self, Bug};
use crate::dmu::DmuTx;
use crate::dsl::dir::{self, Kinds};
use crate::dsl::{book, bpobj, freeing};
use crate::event::Event;
use crate::scan::{errlog, resilver};
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use ondisk::dsl::{DdUsed, MOS_DIR_NAME};
use ondisk::label::PoolState;
use ondisk::pool_directory as names;
use ondisk::{BlkPtr, ObjectId, Txg};
use rt::SpinLock;

/// A pool that has not converged by now never will.
const PASSES_MAX: u32 = 64;

/// What a command leaves for the sync thread.
pub(super) type Task = Box<dyn FnOnce(&Arc<Spa>, &SyncCtx, &DmuTx) -> Result<()> + Send>;

/// When a task runs within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before anything is freed.
    First,
    /// Before the datasets are written: it may add one.
    BeforeDatasets,
    /// After: what is on disk is all there is.
    AfterDatasets,
}

/// Tasks by transaction group.
#[derive(Default)]
pub(super) struct Tasks([SpinLock<Vec<(When, Task)>>; 4]);

impl Tasks {
    pub(super) fn push(&self, txg: Txg, when: When, task: Task) {
        self.0[txg.slot()].lock().push((when, task));
    }

    fn take(&self, txg: Txg) -> Vec<(When, Task)> {
        core::mem::take(&mut *self.0[txg.slot()].lock())
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tasks")
    }
}

/// Tells whoever waits for a group that none will be written any more, also when the sync thread unwinds.
struct TellEnd<'a>(&'a Spa);

impl Drop for TellEnd<'_> {
    fn drop(&mut self) {
        let is_closed = {
            let mut state = self.0.state.lock();
            state.is_over = true;
            state.is_closed
        };
        if !is_closed {
            self.0.events.post(Event::Suspended);
            self.0.txgs.suspend(false);
            self.0.scan().wake();
        }
    }
}

impl Spa {
    /// Starts the sync thread, with which `open` does the rest of what opening the pool takes. A pool that cannot be opened is
    /// stopped: nobody would have it, and it would go on writing to devices which somebody else opens next.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn start(self: &Arc<Self>, open: impl FnOnce() -> Result<()>) -> Result<()> {
        self.storage.refresh_room();
        let spa = self.clone();
        *self.thread.lock() = Some(rt::spawn("txg_sync", move || spa.run()));
        let opened = open();
        if opened.is_err() {
            self.stop();
        }
        opened
    }

    fn run(self: &Arc<Self>) {
        let _told = TellEnd(self);
        if self.state.lock().is_freeing {
            self.txgs.kick(self.txgs.open_txg());
        }
        while let Some(txg) = self.txgs.quiesce_next() {
            if let Err(e) = self.sync_txg(txg) {
                log::error!("zfs: transaction group {txg} could not be written: {e}");
                return;
            }
            self.txgs.synced(txg);
            if self.state.lock().is_freeing {
                self.txgs.kick(self.txgs.open_txg());
            }
        }
    }

    /// Stops the sync thread without writing anything more.
    pub(super) fn stop(&self) {
        self.state.lock().is_closed = true;
        self.txgs.stop();
        self.suspension.wake_all();
        self.beat.stop();
        self.scan().stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            thread.join();
        }
        self.open.lock().clear();
    }

    fn sync_txg(self: &Arc<Self>, txg: Txg) -> Result<()> {
        let _syncing = self.syncing.lock();
        if self.storage.room().take_wanted() {
            // What was freed becomes allocatable as groups are written, of which each has to change something.
            self.mos.mark_config_dirty();
        }
        let tasks = self.tasks.take(txg);
        let is_dirty = !tasks.is_empty()
            || self.mos.is_config_dirty()
            || self.has_dirty_dtl()
            || self.mos.objset().is_dirty(txg)
            || self.storage.brt().is_dirty(txg)
            || self.state.lock().is_freeing
            || errlog::is_due(self)
            || self.open_datasets().iter().any(|ds| ds.objset().is_dirty(txg));
        if !is_dirty {
            self.clean_logs(txg);
            self.storage.skip_sync(txg);
            return Ok(());
        }
        let mut ctx = self.storage.begin_sync(txg);
        self.first_pass(&ctx, tasks)?;
        let mut is_config_dirty = false;
        let mut has_lost_device = false;
        let mut root;
        // A leaf that fails while the group is written has missed it, which the group has to say. A leaf that failed is
        // noted once, so this ends.
        loop {
            self.write_dtls(&ctx)?;
            is_config_dirty |= self.write_config(&ctx)?;
            (root, ctx) = self.converge(ctx)?;
            if bugs::is(Bug::UberblockBeforeData) {
                self.commit(txg, root, is_config_dirty)?;
            }
            self.wait_for_writes(&ctx)?;
            if !bugs::is(Bug::NoFlushBeforeUberblock) {
                self.storage.flush_all()?;
            }
            has_lost_device |= self.assess();
            if !self.has_dirty_dtl() {
                break;
            }
            ctx = ctx.next_pass();
        }
        self.commit_or_wait(txg, root, is_config_dirty)?;
        self.retire_devices();
        self.open_new_space()?;
        if has_lost_device {
            // The next group is written soon, whatever happens: it is the one that puts a spare in.
            self.mos.mark_config_dirty();
            self.txgs.kick(self.txgs.open_txg());
        }
        self.clean_logs(txg);
        self.scan().holds.wait_before_done(txg);
        self.storage.sync_done(txg)?;
        self.autotrim(txg);
        self.refresh_available()
    }

    /// The group is on disk: its changes need not be logged any more.
    fn clean_logs(&self, txg: Txg) {
        for dataset in self.open_datasets() {
            if let Some(zil) = dataset.objset().zil() {
                zil.clean(txg);
            }
        }
    }

    fn first_pass(self: &Arc<Self>, ctx: &SyncCtx, tasks: Vec<(When, Task)>) -> Result<()> {
        let tx = DmuTx::syncing(ctx);
        let (first, tasks): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|(when, _)| *when == When::First);
        first.into_iter().try_for_each(|(_, task)| task(self, ctx, &tx))?;
        self.storage.brt().apply(&self.storage, ctx.txg)?;
        self.free_deferred(ctx, &tx)?;
        self.take_back_devices();
        self.activate_spares(ctx, &tx)?;
        let (before, after): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|(when, _)| *when == When::BeforeDatasets);
        before.into_iter().try_for_each(|(_, task)| task(self, ctx, &tx))?;
        for dataset in self.open_datasets() {
            if dataset.is_snapshot() {
                continue;
            }
            let root = dataset.objset().sync(ctx)?;
            book::book(&self.mos, &tx, &dataset, root)?;
        }
        after.into_iter().try_for_each(|(_, task)| task(self, ctx, &tx))?;
        errlog::sync(self, &tx)?;
        resilver::start_if_due(self, ctx, &tx)?;
        let is_left = freeing::step(&self.mos, ctx, &tx)?;
        self.state.lock().is_freeing = is_left;
        self.storage.brt().sync(&self.mos, &tx)
    }

    /// Frees what earlier groups (of OpenZFS) put off.
    fn free_deferred(&self, ctx: &SyncCtx, tx: &DmuTx) -> Result<()> {
        let deferred = self.state.lock().deferred;
        if !deferred.may_hold {
            return Ok(());
        }
        bpobj::for_each(&self.mos, deferred.list, &mut |bp| match bp.is_hole() || bp.is_embedded() {
            true => Ok(()),
            false => self.storage.free(ctx, bp),
        })?;
        bpobj::clear(&self.mos, tx, deferred.list)?;
        self.state.lock().deferred.may_hold = false;
        Ok(())
    }

    /// The MOS and the space maps, in turn, until nothing is dirty; the MOS' root, and the last pass.
    fn converge(&self, mut ctx: SyncCtx) -> Result<(BlkPtr, SyncCtx)> {
        let mut root = None;
        loop {
            // A failed write would be met again by the next pass's rewriting of its block.
            self.wait_for_writes_if_failed(&ctx)?;
            self.charge_mos(&DmuTx::syncing(&ctx))?;
            root = self.mos.objset().sync(&ctx)?.or(root);
            let has_written = self.storage.sync_metaslabs(&self.mos, &ctx)?;
            if !has_written && !self.mos.objset().is_dirty(ctx.txg) {
                break;
            }
            if ctx.pass >= PASSES_MAX {
                log::error!("zfs: transaction group {} does not converge", ctx.txg);
                return Err(Error::Damaged);
            }
            ctx = ctx.next_pass();
        }
        Ok((root.unwrap_or_else(|| self.mos.objset().root()), ctx))
    }

    /// Charges `$MOS` with what the MOS has grown by. What the last pass adds is charged in the next group.
    fn charge_mos(&self, tx: &DmuTx) -> Result<()> {
        let root = self.root_dir();
        let is_due = !root.is_none() && self.mos.objset().is_dirty(tx.txg());
        let Some(change) = is_due.then(|| self.mos_hooks.take()).flatten() else {
            return Ok(());
        };
        let children = dir::read(&self.mos, root)?.child_dir_zap;
        let Some(mos_dir) = self.mos.zap_lookup(children, MOS_DIR_NAME)? else {
            return Ok(());
        };
        let kinds = Kinds { from: DdUsed::Head, to: DdUsed::Head, bytes: change.used };
        dir::charge(&self.mos, tx, ObjectId(mos_dir), change, kinds)
    }

    /// Writes the configuration into the MOS if it has changed.
    fn write_config(&self, ctx: &SyncCtx) -> Result<bool> {
        if !self.mos.take_config_dirty() {
            return Ok(false);
        }
        let features = features::for_labels(&self.mos)?;
        let packed = {
            let pool_state = self.state.lock().pool_state;
            let mut current = self.config.lock();
            let host = (self.hostid, self.hostname.as_str());
            config::update(&mut current, pool_state, ctx.txg.0, host, &features);
            current.encode().map_err(|_| Error::TooLarge)?
        };
        let tx = DmuTx::syncing(ctx);
        let id = self.mos.require(names::CONFIG)?;
        self.mos.write(&tx, id, 0, &packed)?;
        self.mos.modify_bonus(&tx, id, |bonus| {
            let room = bonus.get_mut(..8).ok_or(Error::Damaged)?;
            room.copy_from_slice(&(packed.len() as u64).to_le_bytes());
            Ok(())
        })?;
        Ok(true)
    }

    /// Tells open datasets what they may still write.
    pub(super) fn refresh_available(&self) -> Result<()> {
        let space = self.storage.space();
        for dataset in self.open_datasets() {
            book::refresh_available(&self.mos, &dataset, space.usable_by_fs, space.free_for_fs)?;
        }
        Ok(())
    }

    /// Hands a task to a transaction group that the caller holds open.
    pub(super) fn push_task(
        &self,
        txg: Txg,
        task: impl FnOnce(&Arc<Spa>, &SyncCtx, &DmuTx) -> Result<()> + Send + 'static,
    ) {
        self.tasks.push(txg, When::AfterDatasets, Box::new(task));
    }

    /// Hands a task to the open transaction group and waits until that is on disk.
    pub(crate) fn run_task(
        &self,
        when: When,
        task: impl FnOnce(&Arc<Spa>, &SyncCtx, &DmuTx) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let hold = self.txgs.hold_open();
        let txg = hold.txg();
        self.tasks.push(txg, when, Box::new(task));
        drop(hold);
        self.txgs.wait_synced(txg)
    }

    /// Runs `change` in the sync thread, with what `check` finds there. What `check` refuses is an answer: nothing has changed,
    /// and the pool goes on. An error of `change` suspends it.
    ///
    /// # Errors
    /// What `check` says; writing's.
    pub(super) fn run_checked<T>(
        &self,
        check: impl FnOnce(&Arc<Self>) -> Result<T> + Send + 'static,
        change: impl FnOnce(&Arc<Self>, T, &SyncCtx, &DmuTx) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let verdict = Arc::new(SpinLock::new(Ok(())));
        let slot = verdict.clone();
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| match check(spa) {
            Ok(found) => change(spa, found, ctx, tx),
            Err(e) => {
                *slot.lock() = Err(e);
                Ok(())
            }
        })?;
        *verdict.lock()
    }

    /// Adds a record to the history, in syncing context.
    pub(crate) fn note(&self, tx: &DmuTx, command: &str) -> Result<()> {
        history::log(&self.mos, tx, &self.env, &self.hostname, command)
    }

    /// Adds what happened to a dataset to the history, in syncing context.
    pub(super) fn note_event(
        &self,
        tx: &DmuTx,
        what: &str,
        dataset: &str,
        id: ObjectId,
        text: &str,
    ) -> Result<()> {
        let event = history::InternalEvent { what, dataset, id, text };
        history::log_internal(&self.mos, tx, &self.env, &self.hostname, &event)
    }

    /// Adds a record of what the pool did by itself to the history, in syncing context.
    pub(crate) fn note_internal(&self, tx: &DmuTx, name: &str, text: &str) -> Result<()> {
        history::log_pool_event(&self.mos, tx, &self.env, &self.hostname, name, text)
    }

    /// The pool state that labels get from the next writing on.
    pub(super) fn set_pool_state(&self, state: PoolState) {
        self.state.lock().pool_state = state as u64;
        self.mos.mark_config_dirty();
    }
}
