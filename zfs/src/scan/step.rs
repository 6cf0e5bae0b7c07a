//! One step of a scan: take the root on disk, walk on, check what was gathered, move the place on.
//!
//! Gathering and checking take turns within a step: when enough blocks are gathered they are sorted by their place on
//! the devices and checked by several threads, whose requests the leaves' queues join. A step ends when its time is
//! over or the sync thread waits for its hold; how much is gathered at once follows from how long checking took.
use super::datasets::{self, Target};
use super::hold::ReadHold;
use super::place::Place;
use super::resilver::TXGS_AHEAD;
use super::walk::{End, Visitor, Walk};
use super::{Scan, State, heal, sync};
use crate::Result;
use crate::spa::{Spa, When};
use crate::zio::Storage;
use crate::{Error, zil::chain};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use ondisk::scan::{OBJSET_DONE, ScanFlags, ScanFunc};
use ondisk::zil::ZilHeader;
use ondisk::{BlkPtr, Bookmark, Txg};
use rt::{Instant, Taskq};

/// Longest step, but for the batch under way at its end.
const STEP_TIME: Duration = Duration::from_millis(400);
/// What checking one batch should take.
const BATCH_TIME: Duration = Duration::from_millis(150);
const BATCH_MIN: usize = 32;
const BATCH_MAX: usize = 16 << 10;
/// Blocks a thread takes at a time.
const CHUNK: usize = 8;
/// Threads that check: enough that devices always have requests to join.
const THREADS: usize = 16;
/// How often the place is stored.
const STORE_EVERY: Duration = Duration::from_secs(10);

/// The scan's thread's own state.
pub(super) struct Stepper {
    workers: Taskq,
    batch: usize,
    stored_at: Instant,
}

/// What is walked in a step.
struct View<'a> {
    hold: ReadHold<'a>,
    root: BlkPtr,
    /// `None`: the MOS.
    target: Option<Target>,
    state: State,
}

/// What a step is about to do.
enum Task<'a> {
    Walk(Box<View<'a>>),
    /// Only the state moved on.
    Moved,
    /// Nothing is left of the scan that had this generation.
    End(u64),
}

impl Stepper {
    pub(super) fn new(_spa: &Spa) -> Self {
        let workers = Taskq::new("scan check", THREADS, 4 * THREADS);
        Self { workers, batch: 8 * BATCH_MIN, stored_at: rt::now() }
    }

    /// Does a step, and stores the place now and then.
    ///
    /// # Errors
    /// `Suspended`; what reading the MOS gives.
    pub(super) fn step(&mut self, spa: &Arc<Spa>) -> Result<()> {
        match choose(spa)? {
            Task::End(generation) => end(spa, generation)?,
            Task::Moved => {}
            Task::Walk(view) => self.walk(spa, *view)?,
        }
        if rt::now().since(self.stored_at) >= STORE_EVERY {
            sync::store_now(spa)?;
            self.stored_at = rt::now();
        }
        Ok(())
    }

    fn walk(&mut self, spa: &Arc<Spa>, view: View<'_>) -> Result<()> {
        let phys = view.state.phys;
        let mut gather = Gather {
            spa,
            stepper: self,
            func: phys.func,
            range: (phys.min_txg, phys.max_txg),
            newest: phys.cur_max_txg,
            is_head: view.target.is_some_and(|t| !t.is_snapshot),
            ends_at: rt::now().after(STEP_TIME),
            blocks: Vec::new(),
            sums: Sums::default(),
            done_to: phys.bookmark,
        };
        log::trace!("zfs: scan: step from {} on group {}", phys.bookmark, view.hold.txg());
        let end = Walk {
            storage: spa.storage(),
            objset: phys.bookmark.objset,
            after: phys.cur_min_txg,
            from: Place::of(&phys.bookmark),
            visitor: &mut gather,
        }
        .run(&view.root);
        if end == End::Whole {
            gather.flush();
        }
        let (sums, done_to) = (gather.sums, gather.done_to);
        // Not before: the sync thread may be waiting for the hold, and has the lock that is wanted next.
        drop(view.hold);
        let not_syncing = spa.settled();
        let after = match (end, &view.target) {
            (End::Whole, Some(target)) => datasets::successors(spa.mos(), spa.root_dir(), target)?,
            (End::Whole, None) => {
                datasets::first(spa.mos(), spa.root_dir())?.into_iter().map(|id| (id, 0)).collect()
            }
            (End::At(_), _) => Vec::new(),
        };
        let mut state = spa.scan().state.lock();
        sums.enter(&mut state);
        if state.generation == view.state.generation {
            state.advance(end, done_to, &after);
        }
        drop(state);
        drop(not_syncing);
        Ok(())
    }
}

impl State {
    /// Moves the place on after a step.
    fn advance(&mut self, end: End, done_to: Bookmark, after: &[(u64, u64)]) {
        if let End::At(_) = end {
            self.phys.bookmark = done_to;
            return;
        }
        let id = self.phys.bookmark.objset;
        self.phys.bookmark = Bookmark { objset: OBJSET_DONE, ..Bookmark::default() };
        if self.phys.flags.contains(ScanFlags::VISIT_DS_AGAIN) {
            self.phys.flags -= ScanFlags::VISIT_DS_AGAIN;
            let from = self.phys.cur_max_txg.0;
            return self.enqueue(id, from);
        }
        for (id, from) in after {
            self.enqueue(*id, *from);
        }
    }
}

/// What the next step has to do. No group is being written meanwhile, so what the MOS says is what is on disk.
fn choose(spa: &Arc<Spa>) -> Result<Task<'_>> {
    let scan: &Scan = spa.scan();
    let (uberblock, not_syncing) = spa.settled();
    let mut guard = scan.state.lock();
    if !guard.phys.is_running() {
        return Ok(Task::Moved);
    }
    let nr_ahead = guard.phys.max_txg.prev().0.saturating_sub(uberblock.txg.0);
    if (1..=TXGS_AHEAD).contains(&nr_ahead) {
        // Groups that a resilver covers are still to be written.
        drop(guard);
        drop(not_syncing);
        spa.run_task(When::AfterDatasets, |_, _, _| Ok(()))?;
        return Ok(Task::Moved);
    }
    if guard.phys.bookmark.objset == 0 {
        (guard.phys.cur_min_txg, guard.phys.cur_max_txg) = (guard.phys.min_txg, guard.phys.max_txg);
        let state = guard.clone();
        drop(guard);
        let hold = scan.holds.take(uberblock.txg);
        return Ok(Task::Walk(Box::new(View { hold, root: uberblock.rootbp, target: None, state })));
    }
    let mut queued = None;
    if guard.phys.bookmark.objset == OBJSET_DONE {
        let Some((_, after)) = guard.next_dataset() else { return Ok(Task::End(guard.generation)) };
        guard.is_dirty = true;
        queued = Some(after);
    }
    let id = guard.phys.bookmark.objset;
    drop(guard);
    let found = datasets::target(spa.mos(), id)?;
    let mut guard = scan.state.lock();
    let Some(target) = found else {
        // Nobody said where its blocks went: everything is walked again.
        log::warn!("zfs: scan: dataset {id} is gone, starting over");
        guard.phys.bookmark = Bookmark::default();
        return Ok(Task::Moved);
    };
    if let Some(after) = queued {
        guard.set_range(&target, after);
    }
    if guard.phys.cur_min_txg >= guard.phys.max_txg {
        // All its blocks are newer than the scan, and so are those of all that come after it.
        guard.phys.bookmark = Bookmark { objset: OBJSET_DONE, ..Bookmark::default() };
        return Ok(Task::Moved);
    }
    let state = guard.clone();
    drop(guard);
    let hold = scan.holds.take(uberblock.txg);
    Ok(Task::Walk(Box::new(View { hold, root: target.phys.bp, target: Some(target), state })))
}

/// Ends the scan that has this generation. Between the look that found nothing left and the group that says so another may
/// have begun in its place: ended in its stead, a resilver would have brought back what nobody has read.
pub(super) fn end(spa: &Arc<Spa>, generation: u64) -> Result<()> {
    spa.run_task(When::AfterDatasets, move |spa, ctx, tx| {
        if spa.scan().state.lock().generation != generation {
            return Ok(());
        }
        sync::end(spa, ctx, tx, true)
    })
}

/// Bytes and blocks of a step.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    examined: u64,
    skipped: u64,
    issued: u64,
    repaired: u64,
    errors: u64,
    /// Blocks below which nothing could be walked.
    nr_unseen: u64,
}

impl Sums {
    fn enter(&self, state: &mut State) {
        state.phys.examined += self.examined;
        state.phys.skipped += self.skipped;
        state.phys.processed += self.repaired;
        state.phys.errors += self.errors;
        state.nr_unseen += self.nr_unseen;
        state.pass.examined += self.examined;
        state.pass.issued += self.issued;
        state.is_dirty = true;
    }
}

/// Gathers the blocks that the walk meets, and has them checked.
struct Gather<'a> {
    spa: &'a Arc<Spa>,
    stepper: &'a mut Stepper,
    func: ScanFunc,
    /// Blocks born between these count.
    range: (Txg, Txg),
    /// What is younger belongs to a later dataset.
    newest: Txg,
    is_head: bool,
    ends_at: Instant,
    blocks: Vec<(BlkPtr, Bookmark)>,
    sums: Sums,
    /// Everything before this block has been checked.
    done_to: Bookmark,
}

impl Gather<'_> {
    fn wants(&self, bp: &BlkPtr) -> bool {
        let born = bp.phys_birth();
        let is_in_range = born > self.range.0 && born < self.range.1;
        is_in_range && (self.func != ScanFunc::Resilver || self.spa.storage().needs_resilver(bp))
    }

    /// Checks what is gathered.
    fn flush(&mut self) {
        if self.blocks.is_empty() {
            return;
        }
        let began = rt::now();
        let mut blocks = core::mem::take(&mut self.blocks);
        blocks.sort_by_key(|(bp, _)| (bp.dva(0).vdev, bp.dva(0).offset));
        self.sums.issued += blocks.iter().map(|(bp, _)| bp.asize()).sum::<u64>();
        let results = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let mut rest = blocks;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(CHUNK));
            let (storage, results) = (self.spa.storage().clone(), results.clone());
            let (chunk, func) = (core::mem::replace(&mut rest, later), self.func);
            self.stepper.workers.dispatch(move || check_chunk(&storage, func, &chunk, &results));
        }
        self.stepper.workers.wait_idle();
        self.sums.repaired += results.0.load(Ordering::Relaxed);
        self.sums.errors += results.1.load(Ordering::Relaxed);
        let took = rt::now().since(began);
        let batch = self.stepper.batch;
        self.stepper.batch = match took {
            _ if took > 2 * BATCH_TIME => (batch / 2).max(BATCH_MIN),
            _ if took < BATCH_TIME / 2 => (batch * 2).min(BATCH_MAX),
            _ => batch,
        };
    }

    fn is_over(&self) -> bool {
        rt::now() >= self.ends_at
            || self.spa.scan().holds.is_wanted()
            || self.spa.scan().state.lock().is_stopping
    }
}

fn check_chunk(
    storage: &Storage,
    func: ScanFunc,
    chunk: &[(BlkPtr, Bookmark)],
    results: &(AtomicU64, AtomicU64),
) {
    for checked in heal::check(storage, func, chunk) {
        results.0.fetch_add(checked.repaired, Ordering::Relaxed);
        results.1.fetch_add(checked.is_bad.into(), Ordering::Relaxed);
    }
}

impl Visitor for Gather<'_> {
    fn goes_on(&mut self, bookmark: Bookmark) -> bool {
        let is_over = self.is_over();
        if !is_over && self.blocks.len() < self.stepper.batch {
            return true;
        }
        self.flush();
        self.done_to = bookmark;
        !is_over && !self.is_over()
    }

    fn block(&mut self, bp: &BlkPtr, bookmark: Bookmark) {
        // By when it was written: a clone made since may be all that is left of an old block.
        if bp.phys_birth() > self.newest {
            return;
        }
        self.sums.examined += bp.asize();
        if !self.wants(bp) {
            self.sums.skipped += bp.asize();
            return;
        }
        self.blocks.push((*bp, bookmark));
    }

    fn zil(&mut self, header: &ZilHeader) {
        // Only a log that was claimed and not yet replayed stays as it is; others change as they are read.
        if !self.is_head || header.claim_txg == Txg::ZERO {
            return;
        }
        let objset = self.done_to.objset;
        let storage = self.spa.storage().clone();
        let (mut all, mut last) = (Vec::new(), None);
        chain::for_each_block(&storage, header, objset, &mut |bp, is_chain| match is_chain {
            // The chain's last block may never have been written.
            true => all.extend(last.replace(*bp)),
            false => all.push(*bp),
        });
        let bookmark = Bookmark { objset, level: Bookmark::LEVEL_ZIL, ..Bookmark::default() };
        for bp in all.iter().filter(|bp| !bp.is_hole() && !bp.is_embedded()) {
            self.block(bp, bookmark);
        }
    }

    fn lost(&mut self, bp: &BlkPtr, bookmark: Bookmark, error: Error) {
        // The block itself is checked, and counted, with the others; what is not read here for want of a key or an
        // algorithm is not damaged.
        if !matches!(error, Error::Unsupported | Error::Encrypted) {
            self.sums.nr_unseen += 1;
        }
        if error == Error::Damaged {
            let what = alloc::format!("block {bookmark} at {:?}", bp.dva(0));
            self.spa.events().post(crate::event::Event::Damaged { what });
        }
    }
}
