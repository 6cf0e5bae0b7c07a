//! One device of the pool.
//!
//! I/O is pushed into the [`Queue`] and sent on as the limits allow, by whoever pushed and by whoever saw a
//! completion. Devices may complete inside `submit`, so only one thread at a time drains what waited: the others
//! leave it to that one (else a long queue on such a device would recurse as deep as it is long).
//!
//! A failed request is taken apart and each of its I/Os retried once alone, so that one bad sector costs only the
//! block it lies in, and a passing fault costs nothing.
use super::absent::AbsentDevice;
use super::health::{Health, VdevState};
use super::layout::{DATA_START, label_offsets};
use super::priority::Priority;
use super::probe::Probe;
use super::queue::{Joined, LeafIo, Limits, Payload, Queue};
use super::wait::IoGroup;
use crate::event::{Event, EventLog};
use crate::{Error, Result};
use abd::{Abd, AbdMut};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use blockdev::{BlockDevice, Complete, Completion, Done, Geometry, Op, QueueFull, Request, WriteCache};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use ondisk::Txg;
use rt::SpinLock;

/// Waits of the intent log after which a device that never completed anything in a poll is taken not to.
const TRIALS: u8 = 32;

/// One device of the pool.
#[derive(Debug)]
pub struct Leaf {
    me: Weak<Self>,
    health: Arc<Health>,
    /// Top-level vdev it belongs to.
    top: u32,
    device: Arc<dyn BlockDevice>,
    geometry: Geometry,
    state: SpinLock<State>,
    /// Writes completed so far.
    nr_completed: AtomicU64,
    /// How many of them are covered by a flush.
    nr_flushed: AtomicU64,
    /// The device has reported completions to a poll, so polling it is worth a waiter's time.
    answers_polls: AtomicBool,
    /// Waits of the intent log in which it did not.
    nr_silent: AtomicU8,
    nr_reads: AtomicU64,
    nr_writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    events: EventLog,
    probe: SpinLock<Option<Probe>>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// What the device works on, by completion tag.
    in_flight: Vec<Option<Joined>>,
    free_tags: Vec<usize>,
    /// Someone is draining the queue and will see what is pushed meanwhile.
    is_draining: bool,
    /// The device's queue was full when none of ours was in flight: no completion will restart us.
    is_stalled: bool,
}

impl Leaf {
    /// A leaf on `device`, below top-level vdev `top`, that is in good order.
    pub fn new(guid: u64, top: u32, device: Arc<dyn BlockDevice>, events: EventLog) -> Arc<Self> {
        Self::with_health(Health::new(guid), top, device, events)
    }

    /// A leaf without a device.
    pub(crate) fn absent(health: Arc<Health>, top: u32, events: EventLog) -> Arc<Self> {
        Self::with_health(health, top, Arc::new(AbsentDevice), events)
    }

    /// A leaf on `device` whose history is known.
    pub(crate) fn with_health(
        health: Arc<Health>,
        top: u32,
        device: Arc<dyn BlockDevice>,
        events: EventLog,
    ) -> Arc<Self> {
        let geometry = device.geometry();
        let limits =
            Limits { max_transfer: geometry.max_transfer as u64, max_segments: geometry.max_segments.max(1) };
        let state = State {
            queue: Queue::new(limits),
            in_flight: Vec::new(),
            free_tags: Vec::new(),
            is_draining: false,
            is_stalled: false,
        };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            health,
            top,
            device,
            geometry,
            state: SpinLock::new(state),
            nr_completed: AtomicU64::new(0),
            nr_flushed: AtomicU64::new(0),
            answers_polls: AtomicBool::new(false),
            nr_silent: AtomicU8::new(0),
            nr_reads: AtomicU64::new(0),
            nr_writes: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            events,
            probe: SpinLock::new(None),
        })
    }

    /// The guid of its label.
    pub fn guid(&self) -> u64 {
        self.health.guid()
    }

    /// How it does.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The device below.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// I/O is sent to it.
    pub fn is_usable(&self) -> bool {
        self.health.state().is_usable()
    }

    /// What was written to it in that group can be read from it.
    pub(crate) fn is_current(&self, txg: Txg) -> bool {
        self.is_usable() && !self.health.misses(txg)
    }

    /// Forgets its errors; a device that was given up for them is used again.
    pub(crate) fn clear_errors(&self) {
        self.health.clear_errors();
        let state = self.health.state();
        if matches!(state, VdevState::Degraded | VdevState::Faulted | VdevState::Removed) && !self.is_absent()
        {
            self.health.set_state(VdevState::Online);
        }
    }

    /// It has no device.
    pub(crate) fn is_absent(&self) -> bool {
        self.geometry.capacity == 0
    }

    /// Index of its top-level vdev.
    pub fn top(&self) -> u32 {
        self.top
    }

    /// What the device is like.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Requests sent to the device so far: (reads, writes).
    pub fn nr_requests(&self) -> (u64, u64) {
        (self.nr_reads.load(Ordering::Relaxed), self.nr_writes.load(Ordering::Relaxed))
    }

    /// Bytes asked of the device so far: (read, written).
    pub fn nr_bytes(&self) -> (u64, u64) {
        (self.bytes_read.load(Ordering::Relaxed), self.bytes_written.load(Ordering::Relaxed))
    }

    /// The probe under way, if there is one.
    pub(crate) fn probe(&self) -> &SpinLock<Option<Probe>> {
        &self.probe
    }

    /// Offsets of the four labels.
    pub fn label_offsets(&self) -> [u64; 4] {
        label_offsets(self.geometry.capacity)
    }

    /// Reads `len` bytes at an absolute device offset and waits: for labels.
    ///
    /// # Errors
    /// The device's.
    pub fn read_raw(&self, offset: u64, len: usize) -> Result<AbdMut> {
        let wait = IoGroup::new();
        let done = wait.completion(0);
        let payload = Payload::Read(len);
        self.push(LeafIo { offset, payload, priority: Priority::SyncRead, is_retry: false, done });
        self.wait_one(&wait)?.ok_or(Error::Io)
    }

    /// Writes at an absolute device offset and waits for the completion, not for durability: for labels.
    ///
    /// # Errors
    /// The device's.
    pub fn write_raw(&self, offset: u64, data: Abd) -> Result<()> {
        let wait = IoGroup::new();
        self.start_write_raw(offset, data, wait.completion(0));
        self.wait_one(&wait).map(drop)
    }

    /// Starts a write at an absolute device offset: for labels, several at a time.
    pub fn start_write_raw(&self, offset: u64, data: Abd, done: Completion) {
        let payload = Payload::Write(data);
        self.push(LeafIo { offset, payload, priority: Priority::SyncWrite, is_retry: false, done });
    }

    /// Starts an I/O at an absolute device offset that is not tried again when it fails: for probes.
    pub(super) fn start_once(&self, offset: u64, payload: Payload, done: Completion) {
        self.push(LeafIo { offset, payload, priority: Priority::SyncWrite, is_retry: true, done });
    }

    /// Makes every completed write durable, if any was made since the last flush.
    ///
    /// # Errors
    /// The device's; not when the device has no volatile cache, and not when it cannot flush at all (its owner was
    /// warned by [`WriteCache::Unknown`]).
    pub fn flush(&self) -> Result<()> {
        let wait = IoGroup::new();
        let covered = self.start_flush(wait.completion(0));
        match self.wait_one(&wait) {
            Ok(_) => {
                self.flushed(covered);
                Ok(())
            }
            Err(e) => {
                self.flush_failed(blockdev::Error::Io);
                Err(e)
            }
        }
    }

    /// Whether it can make a single write durable, and has to be told so.
    pub(crate) fn does_fua(&self) -> bool {
        self.geometry.has_fua && self.geometry.write_cache == WriteCache::Volatile
    }

    /// Whether that is better now than a write and a flush, if it can at all.
    pub(crate) fn is_fua_apt(&self) -> bool {
        !self.device.is_fua_shared() || self.is_idle()
    }

    /// A request that is durable when the device answers.
    fn is_fua(&self, joined: &Joined) -> bool {
        joined.priority == Priority::FuaWrite && self.does_fua()
    }

    /// Starts a flush, or fulfils the completion when there is nothing to flush. The number is to be given to
    /// [`Self::flushed`] on success. Writes count as unflushed until then: a second caller must not believe in a
    /// flush that is still under way.
    pub(crate) fn start_flush(&self, done: Completion) -> u64 {
        let covered = self.nr_completed.load(Ordering::Acquire);
        let is_needed = self.nr_flushed.load(Ordering::Acquire) < covered;
        if is_needed && self.geometry.write_cache == WriteCache::Volatile {
            self.device.submit_blocking(rt::cpu_id(), Request { op: Op::Flush, done });
        } else {
            done.complete(Ok(()), None);
        }
        covered
    }

    /// A flush that covers that many writes has succeeded.
    pub(crate) fn flushed(&self, covered: u64) {
        self.nr_flushed.fetch_max(covered, Ordering::AcqRel);
    }

    /// A flush has failed.
    pub(crate) fn flush_failed(&self, error: blockdev::Error) {
        self.health.note_write_error(error);
        self.events.post(Event::WriteFailed { vdev: u64::from(self.top), offset: 0 });
    }

    /// Lets the device report completions and restarts a stalled queue; true if something completed.
    pub fn poll(&self) -> bool {
        self.poll_queue(rt::cpu_id())
    }

    /// As [`Self::poll`], of one of the device's queues.
    pub(crate) fn poll_queue(&self, queue: usize) -> bool {
        let nr = self.device.poll(queue);
        if nr > 0 && !self.answers_polls() {
            self.answers_polls.store(true, Ordering::Relaxed);
        }
        let is_stalled = core::mem::take(&mut self.state.lock().is_stalled);
        if is_stalled {
            self.drain();
        }
        nr > 0
    }

    /// Whether the device reports completions to polls.
    pub(crate) fn answers_polls(&self) -> bool {
        self.answers_polls.load(Ordering::Relaxed)
    }

    /// Whether it does, or has not been tried often enough to know.
    pub(crate) fn may_answer_polls(&self) -> bool {
        self.answers_polls() || self.nr_silent.load(Ordering::Relaxed) < TRIALS
    }

    /// A waiter polled for long, and slept in the end.
    pub(crate) fn note_silence(&self) {
        if !self.answers_polls() && self.may_answer_polls() {
            self.nr_silent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The device need not interrupt for what a queue completes: someone polls it.
    pub(crate) fn poll_begin(&self, queue: usize) {
        self.device.poll_begin(queue);
    }

    /// It must again.
    pub(crate) fn poll_end(&self, queue: usize) {
        self.device.poll_end(queue);
    }

    /// Nothing waits for the device or is in it.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.queue.nr_active() == 0 && state.queue.is_empty()
    }

    /// Whether only [`Self::poll`] can restart the queue.
    pub(crate) fn is_stalled(&self) -> bool {
        self.state.lock().is_stalled
    }

    /// Starts an I/O in allocatable space.
    pub(crate) fn start(&self, offset: u64, payload: Payload, priority: Priority, done: Completion) {
        let Some(offset) = offset.checked_add(DATA_START) else {
            return done.complete(Err(blockdev::Error::Invalid), None);
        };
        self.push(LeafIo { offset, payload, priority, is_retry: false, done });
    }

    /// Starts a read in allocatable space.
    pub(crate) fn start_read(&self, offset: u64, len: usize, priority: Priority, done: Completion) {
        self.start(offset, Payload::Read(len), priority, done);
    }

    /// Starts a write in allocatable space.
    pub(crate) fn start_write(&self, offset: u64, data: Abd, priority: Priority, done: Completion) {
        self.start(offset, Payload::Write(data), priority, done);
    }

    fn push(&self, io: LeafIo) {
        let is_inside = io.offset.checked_add(io.len()).is_some_and(|end| end <= self.geometry.capacity);
        if !is_inside {
            return io.done.complete(Err(blockdev::Error::Invalid), None);
        }
        self.state.lock().queue.push(io);
        self.drain();
    }

    /// Sends what may go to the device, unless another thread is at it.
    fn drain(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let mut state = self.state.lock();
        if state.is_draining {
            return;
        }
        state.is_draining = true;
        while let Some(joined) = state.queue.take() {
            let tag = state.free_tags.pop().unwrap_or_else(|| {
                state.in_flight.push(None);
                state.in_flight.len() - 1
            });
            drop(state);
            // Buffers are made without the lock, and before the device can answer.
            let op = self.op_of(&joined);
            self.state.lock().in_flight[tag] = Some(joined);
            let done = Completion::new(me.clone(), tag as u64);
            let refused = self.device.submit(rt::cpu_id(), Request { op, done }).err();
            if let Some(QueueFull(request)) = refused {
                self.put_back(tag, request);
                return;
            }
            state = self.state.lock();
        }
        state.is_draining = false;
    }

    fn op_of(&self, joined: &Joined) -> Op {
        let offset = joined.offset();
        if joined.is_write() {
            let data = joined.write_data();
            self.nr_writes.fetch_add(1, Ordering::Relaxed);
            self.bytes_written.fetch_add(data.len() as u64, Ordering::Relaxed);
            Op::Write { offset, data, is_fua: self.is_fua(joined) }
        } else {
            let buf = joined.read_buffer();
            self.nr_reads.fetch_add(1, Ordering::Relaxed);
            self.bytes_read.fetch_add(buf.len() as u64, Ordering::Relaxed);
            Op::Read { offset, buf }
        }
    }

    /// The device's queue was full: the request waits for one of our completions, or for a poll.
    fn put_back(&self, tag: usize, request: Request) {
        // The completion is spent on a tag that is no longer in flight, which `complete` ignores.
        let mut state = self.state.lock();
        if let Some(joined) = state.in_flight.get_mut(tag).and_then(Option::take) {
            state.queue.put_back(joined);
        }
        state.is_draining = false;
        state.is_stalled = state.queue.nr_active() == 0;
        drop(state);
        request.done.complete(Err(blockdev::Error::Io), None);
        self.state.lock().free_tags.push(tag);
    }

    /// Answers the I/Os of a request that the device has done.
    fn deliver(&self, joined: Joined, buf: Option<AbdMut>) {
        if joined.is_write() {
            if !self.is_fua(&joined) {
                // Before anyone can know that the write is done: a flush started after that must cover it.
                self.nr_completed.fetch_add(1, Ordering::AcqRel);
            }
            joined.ios.into_iter().for_each(|io| io.done.complete(Ok(()), None));
            return;
        }
        let mut ios = joined.ios;
        if ios.len() == 1
            && let Some(io) = ios.pop()
        {
            return io.done.complete(Ok(()), buf);
        }
        let start = ios.first().map_or(0, |io| io.offset);
        let Some(whole) = buf.map(AbdMut::freeze) else { return self.fail(ios, blockdev::Error::Io) };
        let parts: Vec<Abd> = ios
            .iter()
            .map(|io| whole.slice((io.offset - start) as usize..(io.end() - start) as usize))
            .collect();
        drop(whole);
        for (io, part) in ios.into_iter().zip(parts) {
            let part =
                part.try_into_mut().unwrap_or_else(|shared| AbdMut::copy_from(&shared.to_contiguous()));
            io.done.complete(Ok(()), Some(part));
        }
    }

    /// Retries what failed for the first time, reports the rest.
    fn fail(&self, ios: impl IntoIterator<Item = LeafIo>, error: blockdev::Error) {
        let is_final =
            matches!(error, blockdev::Error::Gone | blockdev::Error::ReadOnly | blockdev::Error::Invalid);
        for io in ios {
            if !io.is_retry && !is_final {
                self.state.lock().queue.push(LeafIo { is_retry: true, ..io });
                continue;
            }
            if !matches!(io.payload, Payload::Write(_)) {
                self.health.note_read_error();
            } else {
                self.health.note_write_error(error);
                let offset = io.offset.saturating_sub(DATA_START);
                self.events.post(Event::WriteFailed { vdev: u64::from(self.top), offset });
            }
            io.done.complete(Err(error), None);
        }
    }

    fn wait_one(&self, wait: &IoGroup) -> Result<Option<AbdMut>> {
        let done = wait.wait(core::iter::once(self)).pop().ok_or(Error::Io)?;
        done.result?;
        Ok(done.buf)
    }
}

impl Complete for Leaf {
    fn complete(&self, done: Done) {
        let joined = {
            let mut state = self.state.lock();
            let tag = done.tag as usize;
            let Some(joined) = state.in_flight.get_mut(tag).and_then(Option::take) else { return };
            state.free_tags.push(tag);
            state.queue.finished(joined.priority);
            joined
        };
        match done.result {
            Ok(()) => self.deliver(joined, done.buf),
            Err(error) => self.fail(joined.ios, error),
        }
        self.drain();
    }
}
