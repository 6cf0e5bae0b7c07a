//! The device trait and its geometry.
use crate::error::Error;
use crate::request::{Op, Request};
use crate::wait::IoWait;
use abd::{Abd, AbdMut};
use core::fmt;

/// What the device does with completed writes before a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCache {
    /// A completed write is durable.
    None,
    /// A completed write is durable after the next flush.
    Volatile,
    /// The device does not say, or cannot flush: durability cannot be promised.
    Unknown,
}

/// Limits of discard and write-zeroes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscardLimits {
    /// Largest single range.
    pub max_len: u64,
    /// Ranges should start and end at multiples of this.
    pub granularity: u32,
}

/// What a device is like. Constant while it is open, capacity excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Smallest unit of a request, in bytes: a power of two, at least 512. Offsets and lengths are multiples.
    pub logical_block_size: u32,
    /// Unit the medium writes without read-modify-write, in bytes: a power of two, at least the logical one.
    pub physical_block_size: u32,
    /// Bytes.
    pub capacity: u64,
    /// Independent submission queues, at least 1.
    pub nr_queues: usize,
    /// Largest read or write, in bytes.
    pub max_transfer: usize,
    /// Most memory segments of one request.
    pub max_segments: usize,
    /// Writes may ask to be durable on completion.
    pub has_fua: bool,
    /// Discard, if there is any.
    pub discard: Option<DiscardLimits>,
    /// Write-zeroes, if there is any.
    pub write_zeroes: Option<DiscardLimits>,
    /// What a completed write means.
    pub write_cache: WriteCache,
    /// No writes.
    pub is_read_only: bool,
}

/// The queue has no room: the request comes back, to be submitted again after a completion.
#[derive(Debug)]
pub struct QueueFull(pub Request);

/// A device of fixed-size blocks. Offsets are bytes from its start.
pub trait BlockDevice: Send + Sync + fmt::Debug {
    /// What the device is like.
    fn geometry(&self) -> Geometry;

    /// Starts a request on `queue` (taken modulo the number of queues). Errors other than a full queue are
    /// reported through the completion, possibly before this returns.
    ///
    /// # Errors
    /// [`QueueFull`] hands the request back.
    fn submit(&self, queue: usize, request: Request) -> Result<(), QueueFull>;

    /// Runs the completions of `queue` that are ready; how many there were. A waiter that would rather not
    /// sleep calls this in a loop; a device without polling returns 0.
    fn poll(&self, queue: usize) -> usize;

    /// The caller is going to poll `queue` in a loop: no interrupts are needed for it until the matching
    /// [`BlockDevice::poll_end`]. Nests, also across threads.
    fn poll_begin(&self, _queue: usize) {}

    /// Ends one `poll_begin`. What the device finished meanwhile is completed before this returns or by its
    /// completion thread; nothing is left waiting for an interrupt that was not asked for.
    fn poll_end(&self, _queue: usize) {}

    /// While a write that is durable on completion is under way, all others are too, and slower: with other writes to do, a
    /// plain write and a flush cost less.
    fn is_fua_shared(&self) -> bool {
        false
    }

    /// Queues `request`, waiting for room as long as it takes.
    fn submit_blocking(&self, queue: usize, request: Request) {
        let mut request = request;
        while let Err(QueueFull(back)) = self.submit(queue, request) {
            request = back;
            if self.poll(queue) == 0 {
                rt::yield_now();
            }
        }
    }

    /// Reads `len` bytes and waits.
    ///
    /// # Errors
    /// The device's.
    fn read(&self, offset: u64, len: usize) -> Result<AbdMut, Error> {
        let wait = IoWait::new();
        let done = wait.completion(0);
        self.submit_blocking(
            rt::cpu_id(),
            Request { op: Op::Read { offset, buf: AbdMut::zeroed(len) }, done },
        );
        wait.wait_one()?.buf.ok_or(Error::Io)
    }

    /// Writes `data` and waits for the completion (which is not durability: see [`WriteCache`]).
    ///
    /// # Errors
    /// The device's.
    fn write(&self, offset: u64, data: Abd) -> Result<(), Error> {
        let wait = IoWait::new();
        let op = Op::Write { offset, data, is_fua: false };
        self.submit_blocking(rt::cpu_id(), Request { op, done: wait.completion(0) });
        wait.wait_one().map(drop)
    }

    /// Makes every completed write durable and waits. A device without a volatile cache answers at once.
    ///
    /// # Errors
    /// The device's; [`Error::Unsupported`] when it cannot promise durability.
    fn flush(&self) -> Result<(), Error> {
        let wait = IoWait::new();
        self.submit_blocking(rt::cpu_id(), Request { op: Op::Flush, done: wait.completion(0) });
        wait.wait_one().map(drop)
    }
}
