//! A device that counts its requests and tells a listener about each one when it is done.
use crate::device::{BlockDevice, Geometry, QueueFull};
use crate::error::Error;
use crate::request::{Complete, Completion, Done, Op, Request};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use rt::Instant;

/// A finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `'R'`ead, `'W'`rite, `'F'`lush, `'D'`iscard, `'Z'`ero.
    pub kind: char,
    /// Where, bytes.
    pub offset: u64,
    /// How much, bytes.
    pub len: u64,
    /// From submission to completion.
    pub took: Duration,
    /// How it went.
    pub result: Result<(), Error>,
}

/// Totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Requests that failed.
    pub errors: u64,
}

type Listener = Box<dyn Fn(&Event) + Send + Sync>;

#[derive(Default)]
struct Shared {
    counts: [AtomicU64; 6],
    listener: Option<Listener>,
}

/// A device that watches another.
pub struct Traced {
    device: Arc<dyn BlockDevice>,
    shared: Arc<Shared>,
}

impl Traced {
    /// Counts only.
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self { device, shared: Arc::default() }
    }

    /// Counts, and calls `listener` in thread context with each finished request.
    pub fn with_listener(
        device: Arc<dyn BlockDevice>,
        listener: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared { listener: Some(Box::new(listener)), ..Shared::default() };
        Self { device, shared: Arc::new(shared) }
    }

    /// Totals so far.
    pub fn counts(&self) -> Counts {
        let [reads, read_bytes, writes, written_bytes, flushes, errors] =
            core::array::from_fn(|i| self.shared.counts[i].load(Ordering::Relaxed));
        Counts { reads, read_bytes, writes, written_bytes, flushes, errors }
    }
}

impl BlockDevice for Traced {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn submit(&self, queue: usize, request: Request) -> Result<(), QueueFull> {
        let (kind, offset, len) = describe(&request.op);
        let Request { op, done } = request;
        let watch = Arc::new(Watch {
            shared: self.shared.clone(),
            event: Event { kind, offset, len, took: Duration::ZERO, result: Ok(()) },
            started: rt::now(),
            done: rt::SpinLock::new(Some(done)),
        });
        let wrapped = Completion::new(watch.clone(), 0);
        self.device.submit(queue, Request { op, done: wrapped }).map_err(|QueueFull(request)| {
            let original = watch.done.lock().take();
            // Not this device's request any more: the wrapper must not report it lost.
            match original {
                Some(done) => {
                    request.done.complete(Ok(()), None);
                    QueueFull(Request { op: request.op, done })
                }
                None => QueueFull(request),
            }
        })
    }

    fn poll(&self, queue: usize) -> usize {
        self.device.poll(queue)
    }

    fn is_fua_shared(&self) -> bool {
        self.device.is_fua_shared()
    }

    fn poll_begin(&self, queue: usize) {
        self.device.poll_begin(queue);
    }

    fn poll_end(&self, queue: usize) {
        self.device.poll_end(queue);
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traced({:?})", self.device)
    }
}

/// Stands between the device's completion and the caller's.
struct Watch {
    shared: Arc<Shared>,
    event: Event,
    started: Instant,
    done: rt::SpinLock<Option<Completion>>,
}

impl Complete for Watch {
    fn complete(&self, done: Done) {
        // None: the request was handed back to the caller.
        let Some(original) = self.done.lock().take() else { return };
        let event = Event { took: rt::now().since(self.started), result: done.result, ..self.event };
        let add = |nr: usize, n: u64| self.shared.counts[nr].fetch_add(n, Ordering::Relaxed);
        match event.kind {
            'R' => (add(0, 1), add(1, event.len)),
            'F' => (add(4, 1), 0),
            _ => (add(2, 1), add(3, event.len)),
        };
        if event.result.is_err() {
            add(5, 1);
        }
        if let Some(listener) = &self.shared.listener {
            listener(&event);
        }
        original.complete(done.result, done.buf);
    }
}

fn describe(op: &Op) -> (char, u64, u64) {
    match op {
        Op::Read { offset, buf } => ('R', *offset, buf.len() as u64),
        Op::Write { offset, data, .. } => ('W', *offset, data.len() as u64),
        Op::Flush => ('F', 0, 0),
        Op::Discard { offset, len } => ('D', *offset, *len),
        Op::WriteZeroes { offset, len } => ('Z', *offset, *len),
    }
}
