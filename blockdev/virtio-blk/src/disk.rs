//! The driver.
//!
//! Life of a request: `submit` checks it and puts it on the ring of the caller's queue under a short spin lock. The
//! device's interrupt handler only wakes the queue's completion thread ([`Disk::completion_loop`]), which takes
//! finished requests off the ring and completes them outside of the lock. A thread that polls
//! ([`BlockDevice::poll`]) does the same itself, and between `poll_begin` and `poll_end` the device is asked for no
//! interrupts at all.
//!
//! Failure: an id, index, length or status that cannot be, or the device's own request, leads to a reset. What was
//! in flight fails with `Io`. Because completed writes may have been in the device's cache, the next flush fails
//! too: it must not promise durability for them. A device that does not even reset is gone, and the memory it
//! could still write to is never used again. A request that is not answered within the [`Patience`] leads to a reset
//! too, and what was in flight fails with `Timeout`. The limit must pass on two clocks, ours and one that follows the
//! host: a machine whose clock counts instructions sees any wait as long.
use crate::config::{Config, Features, SECTOR};
use crate::dma::Dma;
use crate::durable::{self, CacheSwitch};
use crate::queue::{Command, Finished, PushError, Ring, RingOptions, Stopped, stop};
use crate::transport::{Transport, status};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::{BlockDevice, DiscardLimits, Error, Geometry, Op, QueueFull, Request, WriteCache};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use rt::{Mutex, Once, SpinLock};
use smallvec::SmallVec;

/// Queues the driver uses at most.
const QUEUES_MAX: usize = crate::transport::pci::QUEUES_MAX;
/// Completions taken off a ring under one hold of its lock.
const BATCH: usize = 16;
/// Resets without a single good completion in between before the device is given up.
const RESETS_MAX: u32 = 8;
/// How often the completion thread looks by itself: interrupts can get lost. [`Patience`] counts in it.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

const DEVICE_BLOCK: u32 = 2;
const INTERRUPT_QUEUE: u8 = 1;
const INTERRUPT_CONFIG: u8 = 2;

/// `type` of the request header.
mod command {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

const STATUS_OK: u8 = 0;
const STATUS_IO_ERROR: u8 = 1;
const STATUS_UNSUPPORTED: u8 = 2;

const READY: u8 = 0;
const RESETTING: u8 = 1;
const GONE: u8 = 2;

/// How to set a device up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most queues to use; one per CPU is right.
    pub queues_max: usize,
    /// MSI-X table entry of each queue; empty: the shared interrupt. Fewer entries than queues: fewer queues.
    pub queue_vectors: Vec<Option<u16>>,
    /// MSI-X table entry for configuration changes.
    pub config_vector: Option<u16>,
    /// When to give up on a request; `None`: never.
    pub patience: Option<Patience>,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Seconds.
    pub limit: u32,
    /// Seconds of a clock that goes on while the device works, whatever the machine's own clock counts; `None` when there
    /// is no such clock, and then no limit.
    pub clock: fn() -> Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { queues_max: 1, queue_vectors: Vec::new(), config_vector: None, patience: None }
    }
}

/// Why a device could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// The device is not a block device.
    #[error("not a block device")]
    NotBlock,
    /// The device did not confirm a reset.
    #[error("the device does not reset")]
    NoReset,
    /// The device refused the features it had offered.
    #[error("the device refuses its own features")]
    Features,
    /// A queue is missing, of an impossible size, or refused.
    #[error("a queue could not be set up")]
    Queue,
    /// No memory for the queues.
    #[error("no memory for the queues")]
    Memory,
}

/// A virtio block device.
pub struct Disk<T: Transport, D: Dma> {
    transport: T,
    options: Options,
    features: Features,
    geometry: Geometry,
    capacity: AtomicU64,
    queues: Vec<Queue<D>>,
    state: AtomicU8,
    cache: CacheSwitch,
    /// One reset at a time.
    resetting: Mutex<()>,
    /// Counts resets: a thread that found the ring broken before the last one has nothing to do.
    reset_generation: AtomicU32,
    nr_fruitless_resets: AtomicU32,
    /// Writes that were completed may have been lost: the next flush must say so.
    has_lost_writes: AtomicBool,
    has_config_change: AtomicBool,
    is_closing: AtomicBool,
}

struct Queue<D: Dma> {
    ring: SpinLock<Ring<D>>,
    /// The completion thread, for interrupt context to wake without a lock.
    waker: Once<rt::Thread>,
    has_interrupt: AtomicBool,
    nr_pollers: AtomicUsize,
}

impl<T: Transport, D: Dma> Disk<T, D> {
    /// Sets a device up.
    ///
    /// # Errors
    /// [`InitError`]; the device is left reset or marked failed.
    pub fn new(transport: T, dma: Arc<D>, options: Options) -> Result<Arc<Self>, InitError> {
        if transport.device_id() != DEVICE_BLOCK {
            return Err(InitError::NotBlock);
        }
        let stopped = stop(&transport).ok_or(InitError::NoReset)?;
        let features = negotiate(&transport).inspect_err(|_| give_up(&transport))?;
        let config = Config::read(&transport, features);
        let nr_queues = nr_queues(&config, &options);
        let mut rings = Vec::with_capacity(nr_queues);
        for nr in 0..nr_queues as u16 {
            match new_ring(&transport, &dma, nr, features, &config) {
                Ok(ring) => rings.push(ring),
                // The first queue is needed, further ones are welcome.
                Err(_) if nr > 0 => break,
                Err(e) => {
                    give_up(&transport);
                    return Err(e);
                }
            }
        }
        if let Err(e) = enable_queues(&transport, rings.iter(), &options) {
            give_up(&transport);
            rings.iter_mut().for_each(|r| r.free(&stopped));
            return Err(e);
        }
        let mut geometry = config.geometry;
        geometry.nr_queues = rings.len();
        geometry.has_fua = durable::obeys(&transport, features);
        geometry.max_segments = rings.iter().map(Ring::segments_max).fold(geometry.max_segments, usize::min);
        transport.set_status(transport.status() | status::DRIVER_OK);
        let queues = rings.into_iter().map(Queue::new).collect();
        Ok(Arc::new(Self {
            transport,
            options,
            features,
            geometry,
            capacity: AtomicU64::new(geometry.capacity),
            queues,
            state: AtomicU8::new(READY),
            cache: CacheSwitch::default(),
            resetting: Mutex::new(()),
            reset_generation: AtomicU32::new(0),
            nr_fruitless_resets: AtomicU32::new(0),
            has_lost_writes: AtomicBool::new(false),
            has_config_change: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        }))
    }

    /// Queues in use: as many completion threads are needed.
    pub fn nr_queues(&self) -> usize {
        self.queues.len()
    }

    /// The features agreed on.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Interrupt context: the device has returned requests of `queue`.
    pub fn on_interrupt(&self, queue: usize) {
        if let Some(queue) = self.queues.get(queue) {
            queue.has_interrupt.store(true, Ordering::SeqCst);
            queue.wake();
        }
    }

    /// Interrupt context: the configuration has changed, or the device needs a reset.
    pub fn on_config_interrupt(&self) {
        self.has_config_change.store(true, Ordering::SeqCst);
        self.on_interrupt(0);
    }

    /// Interrupt context: the shared interrupt. False when it was not this device's.
    pub fn on_shared_interrupt(&self) -> bool {
        let bits = self.transport.take_interrupt_status();
        if bits & INTERRUPT_CONFIG != 0 {
            self.on_config_interrupt();
        }
        if bits & INTERRUPT_QUEUE != 0 {
            (0..self.queues.len()).for_each(|q| self.on_interrupt(q));
        }
        bits & (INTERRUPT_QUEUE | INTERRUPT_CONFIG) != 0
    }

    /// The body of a thread that completes requests of `queue`; returns after [`Disk::close`].
    pub fn completion_loop(&self, queue: usize) {
        let Some(q) = self.queues.get(queue) else { return };
        q.waker.get_or_init(rt::current);
        let mut next_look = rt::now().after(WATCH_PERIOD);
        while !self.is_closing.load(Ordering::SeqCst) {
            q.has_interrupt.store(false, Ordering::SeqCst);
            let nr_done = self.poll(queue);
            if queue == 0 && self.has_config_change.swap(false, Ordering::SeqCst) {
                self.handle_config_change();
            }
            if rt::now() >= next_look {
                self.look(queue);
                next_look = rt::now().after(WATCH_PERIOD);
            }
            if nr_done > 0 || q.has_interrupt.load(Ordering::SeqCst) {
                continue;
            }
            rt::thread::park_until(next_look, "virtio-blk");
        }
    }

    /// Once in a while: what has been in flight for long?
    fn look(&self, queue: usize) {
        let generation = self.reset_generation.load(Ordering::Acquire);
        let ring = &self.queues[queue].ring;
        if ring.lock().nr_in_flight() == 0 {
            return;
        }
        // An emulator that leaves out memory barriers (QEMU before 8.1 with one CPU) can miss that the ring has something
        // new just when it goes to sleep: tell it again.
        self.transport.notify(queue as u16);
        let Some((limit, now)) = self.options.patience.and_then(|p| Some((p.limit, (p.clock)()?))) else {
            return;
        };
        if ring.lock().look(now, limit, u64::from(limit)) && self.state.load(Ordering::SeqCst) == READY {
            log::error!("virtio-blk: no answer for {limit} s, resetting the device");
            self.reset(generation, Error::Timeout);
        }
    }

    /// Stops the device for good: requests in flight fail with `Gone`, completion threads end.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        let _resetting = self.resetting.lock();
        self.state.store(GONE, Ordering::SeqCst);
        self.stop_and_fail(Error::Gone);
        self.queues.iter().for_each(Queue::wake);
    }

    /// Stops the device and fails what is in flight; `None` when it could not be stopped.
    fn stop_and_fail(&self, error: Error) -> Option<Stopped> {
        let stopped = stop(&self.transport);
        for queue in &self.queues {
            match &stopped {
                Some(stopped) => {
                    let requests = queue.ring.lock().take_back(stopped);
                    requests.into_iter().for_each(|r| self.finish(r, Err(error)));
                }
                None => {
                    let completions = queue.ring.lock().abandon();
                    completions.into_iter().for_each(|c| c.complete(Err(Error::Gone), None));
                }
            }
        }
        stopped
    }

    /// Resets the device, unless someone did since `generation`. What is in flight fails with `error`.
    fn reset(&self, generation: u32, error: Error) {
        let _resetting = self.resetting.lock();
        if self.reset_generation.load(Ordering::Acquire) != generation
            || self.state.load(Ordering::SeqCst) == GONE
        {
            return;
        }
        self.state.store(RESETTING, Ordering::SeqCst);
        if self.geometry.write_cache != WriteCache::None {
            self.has_lost_writes.store(true, Ordering::SeqCst);
        }
        let nr = self.nr_fruitless_resets.fetch_add(1, Ordering::Relaxed) + 1;
        let stopped = self.stop_and_fail(error);
        let is_back = stopped.is_some() && nr <= RESETS_MAX && self.set_up_again().is_ok();
        if !is_back {
            log::error!("virtio-blk: the device does not come back");
            give_up(&self.transport);
        }
        self.state.store(if is_back { READY } else { GONE }, Ordering::SeqCst);
        self.reset_generation.fetch_add(1, Ordering::AcqRel);
    }

    fn set_up_again(&self) -> Result<(), InitError> {
        if negotiate(&self.transport)? != self.features {
            return Err(InitError::Features);
        }
        let nr_pollers = |q: &Queue<D>| q.nr_pollers.load(Ordering::SeqCst);
        for (nr, queue) in self.queues.iter().enumerate() {
            let mut ring = queue.ring.lock();
            ring.set_interrupting(nr_pollers(queue) == 0);
            enable_queue(&self.transport, nr, &ring, &self.options)?;
        }
        if !self.transport.set_config_vector(self.options.config_vector) {
            return Err(InitError::Queue);
        }
        if self.geometry.has_fua {
            self.cache.reset(&self.transport);
        }
        self.transport.set_status(self.transport.status() | status::DRIVER_OK);
        Ok(())
    }

    fn handle_config_change(&self) {
        if self.transport.status() & status::NEEDS_RESET != 0 {
            log::warn!("virtio-blk: the device asks for a reset");
            self.reset(self.reset_generation.load(Ordering::Acquire), Error::Io);
            return;
        }
        let config = Config::read(&self.transport, self.features);
        self.capacity.store(config.geometry.capacity, Ordering::Relaxed);
    }

    fn check(&self, op: &Op) -> Result<(), Error> {
        let (offset, len, is_write) = match op {
            Op::Read { offset, buf } => (*offset, buf.len() as u64, false),
            Op::Write { offset, data, .. } => (*offset, data.len() as u64, true),
            Op::Flush if self.geometry.write_cache == WriteCache::Unknown => return Err(Error::Unsupported),
            Op::Flush => return Ok(()),
            Op::Discard { offset, len } | Op::WriteZeroes { offset, len } => (*offset, *len, true),
        };
        let is_in_limits = match op {
            Op::Read { .. } | Op::Write { .. } => len <= self.geometry.max_transfer as u64 && len > 0,
            Op::Flush => true,
            Op::Discard { .. } => fits(self.geometry.discard, len)?,
            Op::WriteZeroes { .. } => fits(self.geometry.write_zeroes, len)?,
        };
        let block = u64::from(self.geometry.logical_block_size);
        let capacity = self.capacity.load(Ordering::Relaxed);
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= capacity);
        if !is_in_limits || !is_inside || !offset.is_multiple_of(block) || !len.is_multiple_of(block) {
            return Err(Error::Invalid);
        }
        if is_write && self.geometry.is_read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Outcome of a request the device has returned.
    fn judge(&self, finished: &Finished) -> Result<(), Error> {
        match finished.status {
            STATUS_OK => {}
            STATUS_IO_ERROR => return Err(Error::Io),
            STATUS_UNSUPPORTED => return Err(Error::Unsupported),
            other => {
                log::error!("virtio-blk: impossible status {other:#x}");
                return Err(Error::Io);
            }
        }
        let expected = match &finished.request.op {
            Op::Read { buf, .. } => buf.len() as u64 + 1,
            _ => 1,
        };
        // The older interface's devices were free to leave the length of what is not a read at 0.
        let is_short = u64::from(finished.written) < expected;
        let is_read = matches!(finished.request.op, Op::Read { .. });
        if is_short && (is_read || !self.transport.is_legacy()) {
            log::error!("virtio-blk: {} bytes written, expected {expected}", finished.written);
            return Err(Error::Io);
        }
        Ok(())
    }
}

impl<T: Transport, D: Dma> Disk<T, D> {
    fn is_durable(&self, op: &Op) -> bool {
        self.geometry.has_fua && matches!(op, Op::Write { is_fua: true, .. })
    }

    /// The cache's mode for a request that is put on a ring, whose lock the caller holds; false when it cannot be had.
    fn set_cache(&self, op: &Op) -> bool {
        if self.is_durable(op) {
            return self.cache.begin(&self.transport);
        }
        if matches!(op, Op::Write { .. } | Op::WriteZeroes { .. }) {
            self.cache.before_plain(&self.transport);
        }
        true
    }

    /// A request is on no ring any more.
    fn note_returned(&self, op: &Op) {
        if self.is_durable(op) {
            self.cache.end();
        }
    }

    /// Answers a request that was on a ring.
    fn finish(&self, request: Request, result: Result<(), Error>) {
        self.note_returned(&request.op);
        finish(request, result);
    }
}

impl<T: Transport, D: Dma> BlockDevice for Disk<T, D> {
    fn geometry(&self) -> Geometry {
        Geometry { capacity: self.capacity.load(Ordering::Relaxed), ..self.geometry }
    }

    fn submit(&self, queue: usize, request: Request) -> Result<(), QueueFull> {
        if let Err(error) = self.check(&request.op) {
            finish(request, Err(error));
            return Ok(());
        }
        if matches!(request.op, Op::Flush) {
            if self.has_lost_writes.swap(false, Ordering::SeqCst) {
                finish(request, Err(Error::Io));
                return Ok(());
            }
            if self.geometry.write_cache == WriteCache::None {
                finish(request, Ok(()));
                return Ok(());
            }
        }
        let nr = queue % self.queues.len();
        let command = command(request);
        let mut ring = self.queues[nr].ring.lock();
        // Under the ring's lock: a reset empties the ring under it after leaving READY, so nothing is left behind.
        match self.state.load(Ordering::SeqCst) {
            READY => {}
            RESETTING => return Err(QueueFull(command.request)),
            _ => {
                drop(ring);
                finish(command.request, Err(Error::Gone));
                return Ok(());
            }
        }
        if !self.set_cache(&command.request.op) {
            drop(ring);
            log::error!("virtio-blk: the device does not turn its write cache off");
            finish(command.request, Err(Error::Io));
            return Ok(());
        }
        let pushed = ring.push(command);
        drop(ring);
        match pushed {
            Ok(true) => self.transport.notify(nr as u16),
            Ok(false) => {}
            Err(PushError::Full(request)) => {
                self.note_returned(&request.op);
                return Err(QueueFull(request));
            }
            Err(PushError::TooFragmented(request)) => self.finish(request, Err(Error::Invalid)),
        }
        Ok(())
    }

    fn is_fua_shared(&self) -> bool {
        self.geometry.has_fua
    }

    fn poll(&self, queue: usize) -> usize {
        let q = &self.queues[queue % self.queues.len()];
        let mut nr_done = 0;
        // Not moved: what is looked at in a loop must not cost a copy of room for a batch.
        let mut batch = SmallVec::new();
        loop {
            let generation = self.reset_generation.load(Ordering::Acquire);
            let is_broken = q.take_finished(&mut batch);
            let nr = batch.len();
            for finished in batch.drain(..) {
                let result = self.judge(&finished);
                if result.is_ok() && self.nr_fruitless_resets.load(Ordering::Relaxed) > 0 {
                    self.nr_fruitless_resets.store(0, Ordering::Relaxed);
                }
                self.finish(finished.request, result);
            }
            nr_done += nr;
            if is_broken && self.state.load(Ordering::SeqCst) == READY {
                log::error!("virtio-blk: the device returned what it was not given, resetting it");
                self.reset(generation, Error::Io);
            }
            if nr < BATCH {
                return nr_done;
            }
        }
    }

    fn poll_begin(&self, queue: usize) {
        let q = &self.queues[queue % self.queues.len()];
        if q.nr_pollers.fetch_add(1, Ordering::SeqCst) == 0 {
            q.ring.lock().set_interrupting(false);
        }
    }

    fn poll_end(&self, queue: usize) {
        let q = &self.queues[queue % self.queues.len()];
        if q.nr_pollers.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        let has_more = {
            let mut ring = q.ring.lock();
            // Another poller may have begun meanwhile; the count is what holds.
            ring.set_interrupting(q.nr_pollers.load(Ordering::SeqCst) == 0);
            ring.has_returned()
        };
        if has_more {
            self.poll(queue);
        }
    }
}

impl<D: Dma> Queue<D> {
    fn new(ring: Ring<D>) -> Self {
        Self {
            ring: SpinLock::new(ring),
            waker: Once::new(),
            has_interrupt: AtomicBool::new(false),
            nr_pollers: AtomicUsize::new(0),
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.waker.get() {
            thread.unpark();
        }
    }

    /// Adds up to a batch of finished requests; whether the ring turned out to be broken.
    fn take_finished(&self, batch: &mut SmallVec<[Finished; BATCH]>) -> bool {
        let mut ring = self.ring.lock();
        while batch.len() < BATCH {
            match ring.pop() {
                Ok(Some(finished)) => batch.push(finished),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
        false
    }
}

impl<T: Transport, D: Dma> Drop for Disk<T, D> {
    fn drop(&mut self) {
        if let Some(stopped) = self.stop_and_fail(Error::Gone) {
            for queue in &self.queues {
                queue.ring.lock().free(&stopped);
            }
        }
    }
}

impl<T: Transport, D: Dma> fmt::Debug for Disk<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "virtio_blk::Disk({} bytes, {} queues)", self.geometry.capacity, self.queues.len())
    }
}

/// Agrees on features, up to `FEATURES_OK`.
fn negotiate<T: Transport>(transport: &T) -> Result<Features, InitError> {
    transport.set_status(status::ACKNOWLEDGE);
    transport.set_status(status::ACKNOWLEDGE | status::DRIVER);
    let mut features = Features::from_bits_truncate(transport.device_features());
    if transport.is_legacy() {
        features.remove(Features::VERSION_1);
        transport.set_driver_features(features.bits());
        return Ok(features);
    }
    if !features.contains(Features::VERSION_1) {
        return Err(InitError::Features);
    }
    transport.set_driver_features(features.bits());
    transport.set_status(status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
    if transport.status() & status::FEATURES_OK == 0 { Err(InitError::Features) } else { Ok(features) }
}

fn nr_queues(config: &Config, options: &Options) -> usize {
    let nr_vectors = if options.queue_vectors.is_empty() { QUEUES_MAX } else { options.queue_vectors.len() };
    usize::from(config.nr_queues).min(options.queues_max.max(1)).min(nr_vectors).min(QUEUES_MAX)
}

fn new_ring<T: Transport, D: Dma>(
    transport: &T,
    dma: &Arc<D>,
    nr: u16,
    features: Features,
    config: &Config,
) -> Result<Ring<D>, InitError> {
    let size_max = transport.queue_size_max(nr);
    if size_max < 4 {
        return Err(InitError::Queue);
    }
    let options = RingOptions {
        has_indirect: features.contains(Features::INDIRECT),
        has_event_index: features.contains(Features::EVENT_INDEX),
        is_size_fixed: transport.is_legacy(),
        segment_max: config.segment_max,
    };
    Ring::new(dma, size_max, options).ok_or(InitError::Memory)
}

fn enable_queues<'a, T: Transport, D: Dma>(
    transport: &T,
    rings: impl Iterator<Item = &'a Ring<D>>,
    options: &Options,
) -> Result<(), InitError> {
    for (nr, ring) in rings.enumerate() {
        enable_queue(transport, nr, ring, options)?;
    }
    if transport.set_config_vector(options.config_vector) { Ok(()) } else { Err(InitError::Queue) }
}

fn enable_queue<T: Transport, D: Dma>(
    transport: &T,
    nr: usize,
    ring: &Ring<D>,
    options: &Options,
) -> Result<(), InitError> {
    let vector = options.queue_vectors.get(nr).copied().flatten();
    let is_enabled = transport.enable_queue(nr as u16, &ring.layout(), vector);
    if is_enabled { Ok(()) } else { Err(InitError::Queue) }
}

fn give_up<T: Transport>(transport: &T) {
    transport.set_status(transport.status() | status::FAILED);
}

fn fits(limits: Option<DiscardLimits>, len: u64) -> Result<bool, Error> {
    limits.map(|l| len <= l.max_len && len > 0).ok_or(Error::Unsupported)
}

fn command(request: Request) -> Command {
    let (kind, sector, range) = match &request.op {
        Op::Read { offset, .. } => (command::READ, offset / SECTOR, None),
        Op::Write { offset, .. } => (command::WRITE, offset / SECTOR, None),
        Op::Flush => (command::FLUSH, 0, None),
        Op::Discard { offset, len } => (command::DISCARD, 0, Some((offset / SECTOR, len / SECTOR))),
        Op::WriteZeroes { offset, len } => (command::WRITE_ZEROES, 0, Some((offset / SECTOR, len / SECTOR))),
    };
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    let range = range.map(|(sector, count): (u64, u64)| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&sector.to_le_bytes());
        // The limits are 32-bit sector counts, and `check` has compared with them.
        bytes[8..12].copy_from_slice(&(count as u32).to_le_bytes());
        bytes
    });
    Command { header, range, request }
}

fn finish(request: Request, result: Result<(), Error>) {
    let Request { op, done } = request;
    let buf = match op {
        Op::Read { buf, .. } => Some(buf),
        _ => None,
    };
    done.complete(result, buf);
}
