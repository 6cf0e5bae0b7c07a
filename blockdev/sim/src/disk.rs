//! The device.
//!
//! With a latency, requests wait until their time has come and are completed by a thread of the disk's own or by
//! whoever polls; without, inside `submit`. A completed write is in the cache, read by everyone; a flush moves to the
//! medium what was completed before it was submitted.
use crate::crash::{DiskState, Pending};
use crate::fault::{Fault, FaultRates};
use crate::image::Image;
use crate::random::Random;
use abd::{Abd, AbdMut};
use blockdev::{BlockDevice, Completion, DiscardLimits, Error, Geometry, Op, QueueFull, Request, WriteCache};
use rt::{Instant, SpinLock, Thread};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a disk is like.
#[derive(Clone, Copy, Debug)]
pub struct DiskConfig {
    /// Bytes, a multiple of the block size.
    pub capacity: u64,
    /// Logical and physical block size, bytes.
    pub block_size: u32,
    /// What a completed write means.
    pub write_cache: WriteCache,
    /// Offers writes that are durable on completion.
    pub has_fua: bool,
    /// Offers discard and write-zeroes.
    pub has_discard: bool,
    /// Shortest and longest time of a request; both zero: completed inside `submit`.
    pub latency: (Duration, Duration),
    /// Requests it takes at a time.
    pub queue_depth: usize,
    /// Decides latency and faults.
    pub seed: u64,
}

impl DiskConfig {
    /// A disk that answers at once, with a volatile cache.
    pub fn instant(capacity: u64) -> Self {
        Self {
            capacity,
            block_size: 512,
            write_cache: WriteCache::Volatile,
            has_fua: false,
            has_discard: true,
            latency: (Duration::ZERO, Duration::ZERO),
            queue_depth: usize::MAX,
            seed: 0,
        }
    }

    /// A disk that takes between these times.
    pub fn timed(capacity: u64, min: Duration, max: Duration, seed: u64) -> Self {
        Self { latency: (min, max), queue_depth: 64, seed, ..Self::instant(capacity) }
    }
}

/// What an observer is told of: a power cut at each of these moments may leave something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A write, discard or write-zeroes was submitted.
    WriteSubmitted,
    /// A write, discard or write-zeroes was answered.
    WriteCompleted,
    /// A flush was submitted.
    FlushSubmitted,
    /// A flush was answered.
    FlushCompleted,
}

/// What was asked of a disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Faults that were drawn.
    pub faults: u64,
}

type Observer = Arc<dyn Fn(Moment) + Send + Sync>;
type Rule = Arc<dyn Fn(&Op) -> Option<Fault> + Send + Sync>;

struct Waiting {
    seq: u64,
    due: Instant,
    op: Op,
    done: Completion,
    fault: Option<Fault>,
    /// For a flush: writes completed before it have lower numbers in the cache.
    covers: u64,
}

struct State {
    current: Image,
    medium: Image,
    /// Completed, not durable; each with its number.
    cache: Vec<(u64, Pending)>,
    next_cached: u64,
    waiting: Vec<Waiting>,
    next_seq: u64,
    random: Random,
    rates: FaultRates,
    rule: Option<Rule>,
    observer: Option<Observer>,
    /// Reads of these fail for good.
    bad: Vec<Range<u64>>,
    is_gone: bool,
    lies: bool,
    stats: DiskStats,
    worker: Option<Thread>,
}

struct Inner {
    config: DiskConfig,
    /// Bytes: those of the configuration, or more.
    capacity: AtomicU64,
    state: SpinLock<State>,
    is_closing: AtomicBool,
    /// When the next request is due, so that polls of an idle disk cost one load.
    next_due: AtomicU64,
}

/// A simulated disk.
pub struct SimDisk(Arc<Inner>);

impl SimDisk {
    /// An empty disk.
    pub fn new(config: DiskConfig) -> Arc<Self> {
        Self::with_image(config, Image::new(config.capacity))
    }

    /// A disk with content, all of it durable.
    pub fn with_image(config: DiskConfig, image: Image) -> Arc<Self> {
        let config = DiskConfig { capacity: image.capacity(), ..config };
        let state = State {
            current: image.clone(),
            medium: image,
            cache: Vec::new(),
            next_cached: 0,
            waiting: Vec::new(),
            next_seq: 0,
            random: Random::new(config.seed),
            rates: FaultRates::default(),
            rule: None,
            observer: None,
            bad: Vec::new(),
            is_gone: false,
            lies: false,
            stats: DiskStats::default(),
            worker: None,
        };
        let inner = Arc::new(Inner {
            config,
            capacity: AtomicU64::new(config.capacity),
            state: SpinLock::new(state),
            is_closing: AtomicBool::new(false),
            next_due: AtomicU64::new(u64::MAX),
        });
        if !inner.is_instant() {
            let own = inner.clone();
            let handle = rt::spawn("disk", move || own.work());
            inner.state.lock().worker = Some(handle.thread().clone());
        }
        Arc::new(Self(inner))
    }

    /// What a power cut now has to choose from.
    pub fn state(&self) -> DiskState {
        let state = self.0.state.lock();
        let mut pending: Vec<Pending> = state.cache.iter().map(|(_, write)| write.clone()).collect();
        let in_flight = state.waiting.iter().filter_map(|w| match (&w.op, w.fault) {
            (Op::Write { offset, data, .. }, None) => {
                Some(Pending { offset: *offset, data: data.clone(), is_completed: false })
            }
            _ => None,
        });
        pending.extend(in_flight);
        DiskState { medium: state.medium.clone(), pending }
    }

    /// What a reader sees now.
    pub fn current(&self) -> Image {
        self.0.state.lock().current.clone()
    }

    /// Tells `observer` of every moment from now on. It is called without the disk's locks.
    pub fn set_observer(&self, observer: Option<Observer>) {
        self.0.state.lock().observer = observer;
    }

    /// Asks `rule` about every request from now on, before the rates.
    pub fn set_rule(&self, rule: Option<Rule>) {
        self.0.state.lock().rule = rule;
    }

    /// From now on things go wrong as often as this.
    pub fn set_rates(&self, rates: FaultRates) {
        self.0.state.lock().rates = rates;
    }

    /// From now on flushes report success and do nothing, or do their work again.
    pub fn set_lying(&self, lies: bool) {
        self.0.state.lock().lies = lies;
    }

    /// Reads of this range fail from now on.
    pub fn spoil(&self, range: Range<u64>) {
        self.0.state.lock().bad.push(range);
    }

    /// Changes the medium behind everyone's back: inverts one bit of each of `bytes` bytes of the range, picked by
    /// `random`.
    pub fn rot(&self, range: Range<u64>, bytes: usize, random: &mut Random) {
        let state = &mut *self.0.state.lock();
        for _ in 0..bytes {
            let at = random.within(range.start, range.end);
            let bit = 1 << random.below(8);
            for image in [&mut state.current, &mut state.medium] {
                let mut byte = [0];
                image.read(at, &mut byte);
                image.write(at, &[byte[0] ^ bit]);
            }
        }
    }

    /// The disk is gone: every request, also those in flight, fails until [`SimDisk::reappear`].
    pub fn vanish(&self) {
        let waiting = {
            let mut state = self.0.state.lock();
            state.is_gone = true;
            core::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(|w| fail(w.op, w.done, Error::Gone));
    }

    /// The disk is back, with what `crash` says a power cut left on it, or as it was.
    pub fn reappear(&self, after_crash: Option<Image>) {
        let mut state = self.0.state.lock();
        state.is_gone = false;
        if let Some(image) = after_crash {
            state.current = image.clone();
            state.medium = image;
            state.cache.clear();
        }
    }

    /// The disk has that many bytes from now on, no fewer than before; the new ones are zeroes.
    pub fn grow(&self, capacity: u64) {
        let mut state = self.0.state.lock();
        let capacity = capacity.max(self.0.capacity());
        state.current = state.current.clone().resized(capacity);
        state.medium = state.medium.clone().resized(capacity);
        self.0.capacity.store(capacity, Ordering::Release);
    }

    /// What was asked so far.
    pub fn stats(&self) -> DiskStats {
        self.0.state.lock().stats
    }
}

impl Drop for SimDisk {
    fn drop(&mut self) {
        self.0.is_closing.store(true, Ordering::Release);
        let worker = self.0.state.lock().worker.take();
        if let Some(worker) = worker {
            worker.unpark();
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk({} bytes)", self.0.capacity())
    }
}

impl BlockDevice for SimDisk {
    fn geometry(&self) -> Geometry {
        let config = &self.0.config;
        let limits = DiscardLimits { max_len: 1 << 30, granularity: config.block_size };
        let limits = config.has_discard.then_some(limits);
        Geometry {
            logical_block_size: config.block_size,
            physical_block_size: config.block_size,
            capacity: self.0.capacity(),
            nr_queues: 1,
            max_transfer: 16 << 20,
            max_segments: 1024,
            has_fua: config.has_fua,
            discard: limits,
            write_zeroes: limits,
            write_cache: config.write_cache,
            is_read_only: false,
        }
    }

    fn submit(&self, _queue: usize, request: Request) -> Result<(), QueueFull> {
        self.0.submit(request)
    }

    fn poll(&self, _queue: usize) -> usize {
        let inner = &self.0;
        let is_due = inner.next_due.load(Ordering::Relaxed) <= rt::now().0;
        if is_due { inner.complete_due() } else { 0 }
    }
}

impl Inner {
    fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Acquire)
    }

    fn is_instant(&self) -> bool {
        self.config.latency.1.is_zero()
    }

    fn submit(&self, request: Request) -> Result<(), QueueFull> {
        let Request { op, done } = request;
        if let Err(error) = self.check(&op) {
            fail(op, done, error);
            return Ok(());
        }
        let kind = match op {
            Op::Read { .. } => None,
            Op::Flush => Some(Moment::FlushSubmitted),
            _ => Some(Moment::WriteSubmitted),
        };
        let rule = self.state.lock().rule.clone();
        let ruled = rule.and_then(|rule| rule(&op));
        let mut state = self.state.lock();
        if state.is_gone {
            drop(state);
            fail(op, done, Error::Gone);
            return Ok(());
        }
        if state.waiting.len() >= self.config.queue_depth {
            return Err(QueueFull(Request { op, done }));
        }
        let rates = state.rates;
        let fault = ruled.or_else(|| rates.draw(&op, self.capacity(), &mut state.random));
        state.stats.faults += u64::from(fault.is_some());
        match op {
            Op::Read { .. } => state.stats.reads += 1,
            Op::Flush => state.stats.flushes += 1,
            _ => state.stats.writes += 1,
        }
        state.next_seq += 1;
        let (seq, covers) = (state.next_seq, state.next_cached);
        let (min, max) = self.config.latency;
        let span = max.saturating_sub(min).as_nanos() as u64;
        let takes = min.as_nanos() as u64 + state.random.below(span + 1);
        let waiting = Waiting { seq, due: Instant(0), op, done, fault, covers };
        if self.is_instant() {
            drop(state);
            self.tell(kind);
            self.complete(waiting);
            return Ok(());
        }
        drop(state);
        let due = rt::now().after(Duration::from_nanos(takes));
        let worker = {
            let mut state = self.state.lock();
            state.waiting.push(Waiting { due, ..waiting });
            let is_first = self.next_due.fetch_min(due.0, Ordering::Relaxed) > due.0;
            is_first.then(|| state.worker.clone()).flatten()
        };
        if let Some(worker) = worker {
            worker.unpark();
        }
        self.tell(kind);
        Ok(())
    }

    fn check(&self, op: &Op) -> Result<(), Error> {
        let (offset, len) = match op {
            Op::Read { offset, buf } => (*offset, buf.len() as u64),
            Op::Write { offset, data, .. } => (*offset, data.len() as u64),
            Op::Discard { offset, len } | Op::WriteZeroes { offset, len } => (*offset, *len),
            Op::Flush if self.config.write_cache == WriteCache::Unknown => return Err(Error::Unsupported),
            Op::Flush => return Ok(()),
        };
        let block = u64::from(self.config.block_size);
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.capacity());
        let is_aligned = offset.is_multiple_of(block) && len.is_multiple_of(block);
        if is_inside && is_aligned { Ok(()) } else { Err(Error::Invalid) }
    }

    fn tell(&self, moment: Option<Moment>) {
        let Some(moment) = moment else { return };
        let observer = self.state.lock().observer.clone();
        if let Some(observer) = observer {
            observer(moment);
        }
    }

    /// The disk's own thread.
    fn work(&self) {
        loop {
            let (due, is_idle) = {
                let state = self.state.lock();
                (Instant(self.next_due.load(Ordering::Relaxed)), state.waiting.is_empty())
            };
            if is_idle && self.is_closing.load(Ordering::Acquire) {
                return;
            }
            if due > rt::now() {
                rt::park_until(due, "disk request");
            }
            self.complete_due();
        }
    }

    /// Answers every request whose time has come; how many.
    fn complete_due(&self) -> usize {
        let mut nr = 0;
        loop {
            let now = rt::now();
            let next = {
                let mut state = self.state.lock();
                let first = state.waiting.iter().enumerate().min_by_key(|(_, w)| (w.due, w.seq));
                let ready = first.filter(|(_, w)| w.due <= now).map(|(at, _)| at);
                let next = ready.map(|at| state.waiting.swap_remove(at));
                let due = state.waiting.iter().map(|w| w.due.0).min().unwrap_or(u64::MAX);
                self.next_due.store(due, Ordering::Relaxed);
                next
            };
            let Some(next) = next else { return nr };
            self.complete(next);
            nr += 1;
        }
    }

    fn complete(&self, waiting: Waiting) {
        let Waiting { op, done, fault, covers, .. } = waiting;
        match op {
            Op::Read { offset, buf } => self.complete_read(offset, buf, done, fault),
            Op::Flush => {
                self.apply_flush(covers);
                self.tell(Some(Moment::FlushCompleted));
                done.complete(Ok(()), None);
            }
            Op::Write { offset, data, is_fua } => {
                let result = self.apply_write(offset, data, is_fua, fault);
                self.tell(Some(Moment::WriteCompleted));
                done.complete(result, None);
            }
            Op::Discard { offset, len } | Op::WriteZeroes { offset, len } => {
                const STEP: u64 = 1 << 20;
                let zeroes = Abd::zeroed(len.min(STEP) as usize);
                for at in (offset..offset + len).step_by(STEP as usize) {
                    let n = (offset + len - at).min(STEP) as usize;
                    let written = self.apply_write(at, zeroes.slice(0..n), false, None);
                    debug_assert_eq!(written, Ok(()), "without a fault, a write succeeds");
                }
                self.tell(Some(Moment::WriteCompleted));
                done.complete(Ok(()), None);
            }
        }
    }

    fn complete_read(&self, offset: u64, mut buf: AbdMut, done: Completion, fault: Option<Fault>) {
        let mut state = self.state.lock();
        let end = offset + buf.len() as u64;
        let is_bad = state.bad.iter().any(|bad| bad.start < end && offset < bad.end);
        let error = match fault {
            Some(Fault::Fail(error)) => Some(error),
            _ => is_bad.then_some(Error::Io),
        };
        if let Some(error) = error {
            drop(state);
            return done.complete(Err(error), Some(buf));
        }
        let mut at = offset;
        for chunk in buf.chunks_mut() {
            state.current.read(at, chunk);
            at += chunk.len() as u64;
        }
        if fault == Some(Fault::Damage) && !buf.is_empty() {
            let (at, bit) = (state.random.below(buf.len() as u64) as usize, 1 << state.random.below(8));
            let mut byte = [0];
            buf.read_at(at, &mut byte);
            buf.write_at(at, &[byte[0] ^ bit]);
        }
        drop(state);
        done.complete(Ok(()), Some(buf));
    }

    fn apply_write(&self, offset: u64, data: Abd, is_fua: bool, fault: Option<Fault>) -> Result<(), Error> {
        let state = &mut *self.state.lock();
        let (offset, data) = match fault {
            None => (offset, data),
            Some(Fault::Fail(error)) => return Err(error),
            Some(Fault::Lose) => return Ok(()),
            Some(Fault::Misdirect(elsewhere)) => (elsewhere, data),
            Some(Fault::Damage) => {
                let mut bytes = data.to_vec();
                let at = state.random.below(bytes.len() as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << state.random.below(8);
                }
                (offset, Abd::copy_from(&bytes))
            }
        };
        state.current.write_abd(offset, &data);
        if self.config.write_cache == WriteCache::None || (is_fua && self.config.has_fua && !state.lies) {
            state.make_durable(offset, &data);
        } else {
            let number = state.next_cached;
            state.next_cached += 1;
            state.cache.push((number, Pending { offset, data, is_completed: true }));
        }
        Ok(())
    }

    fn apply_flush(&self, covers: u64) {
        let state = &mut *self.state.lock();
        if state.lies {
            return;
        }
        let nr = state.cache.partition_point(|(number, _)| *number < covers);
        if nr == state.cache.len() {
            state.cache.clear();
            state.medium = state.current.clone();
            return;
        }
        for (_, write) in state.cache.drain(..nr) {
            state.medium.write_abd(write.offset, &write.data);
        }
    }
}

impl State {
    /// Older writes to the same place go first: they must not come out of the cache over this one.
    fn make_durable(&mut self, offset: u64, data: &Abd) {
        let end = offset + data.len() as u64;
        let medium = &mut self.medium;
        self.cache.retain(|(_, write)| {
            let overlaps = write.offset < end && offset < write.offset + write.data.len() as u64;
            if overlaps {
                medium.write_abd(write.offset, &write.data);
            }
            !overlaps
        });
        medium.write_abd(offset, data);
    }
}

fn fail(op: Op, done: Completion, error: Error) {
    match op {
        Op::Read { buf, .. } => done.complete(Err(error), Some(buf)),
        _ => done.complete(Err(error), None),
    }
}
