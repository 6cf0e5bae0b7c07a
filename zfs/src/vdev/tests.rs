use super::*;
use crate::Error;
use crate::event::{Event, EventLog};
use abd::{Abd, AbdMut};
use blockdev::{BlockDevice, Complete, Completion, Done, Geometry, Op, QueueFull, Request, WriteCache};
use blockdev_host::MemDisk;
use rt_std as _;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const DISK: u64 = 64 << 20;

/// A disk that answers only when polled, in any order, and whose queue holds few requests.
struct SlowDisk {
    inner: MemDisk,
    queue: Mutex<VecDeque<Request>>,
    queue_max: usize,
    /// Requests that others have put into the queue: it looks fuller than we filled it.
    nr_foreign: AtomicUsize,
    nr_submitted: AtomicUsize,
}

impl std::fmt::Debug for SlowDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SlowDisk")
    }
}

impl SlowDisk {
    fn new(queue_max: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: MemDisk::new(DISK),
            queue: Mutex::default(),
            queue_max,
            nr_foreign: AtomicUsize::new(0),
            nr_submitted: AtomicUsize::new(0),
        })
    }
}

impl BlockDevice for SlowDisk {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit(&self, _queue: usize, request: Request) -> Result<(), QueueFull> {
        let mut queue = self.queue.lock().unwrap();
        if queue.len() + self.nr_foreign.load(Ordering::Relaxed) >= self.queue_max {
            return Err(QueueFull(request));
        }
        self.nr_submitted.fetch_add(1, Ordering::Relaxed);
        queue.push_front(request);
        Ok(())
    }

    fn poll(&self, _queue: usize) -> usize {
        let Some(request) = self.queue.lock().unwrap().pop_front() else { return 0 };
        self.inner.submit(0, request).unwrap();
        1
    }
}

fn leaf(device: Arc<dyn BlockDevice>) -> (Arc<Leaf>, EventLog) {
    let events = EventLog::new();
    (Leaf::new(1, 0, device, events.clone()), events)
}

fn pattern(block: u64) -> Vec<u8> {
    (0..4096).map(|i| (block.wrapping_mul(31) + i) as u8).collect()
}

#[test]
fn a_small_queue_delays_but_loses_nothing() {
    for queue_max in [1, 2, 7] {
        let disk = SlowDisk::new(queue_max);
        let (leaf, _) = leaf(disk);
        let threads: Vec<_> = (0..4u64)
            .map(|t| {
                let leaf = leaf.clone();
                std::thread::spawn(move || {
                    for n in 0..100 {
                        let block = t * 1000 + n * 7 % 100;
                        leaf.write_raw(block * 4096, Abd::copy_from(&pattern(block))).unwrap();
                        let back = leaf.read_raw(block * 4096, 4096).unwrap();
                        assert_eq!(back.freeze().to_vec(), pattern(block));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

#[test]
fn a_queue_that_others_keep_full_is_tried_again() {
    let disk = SlowDisk::new(4);
    disk.nr_foreign.store(4, Ordering::Relaxed);
    let (leaf, _) = leaf(disk.clone());
    let writer = std::thread::spawn(move || leaf.write_raw(0, Abd::copy_from(&pattern(0))));
    while disk.nr_submitted.load(Ordering::Relaxed) == 0 {
        // No completion of ours will tell: only the waiter's own look finds the room.
        disk.nr_foreign.store(0, Ordering::Relaxed);
        std::thread::yield_now();
    }
    writer.join().unwrap().unwrap();
}

/// Counts outcomes, and keeps what was read.
#[derive(Default)]
struct Collect(Mutex<Vec<Outcome>>);

type Outcome = (u64, Result<Vec<u8>, blockdev::Error>);

impl Complete for Collect {
    fn complete(&self, done: Done) {
        let bytes = done.buf.map(AbdMut::freeze).map(|b| b.to_vec()).unwrap_or_default();
        self.0.lock().unwrap().push((done.tag, done.result.map(|()| bytes)));
    }
}

#[test]
fn neighbours_go_as_one_request_and_come_back_apart() {
    let disk = SlowDisk::new(1);
    for block in 0..64 {
        disk.inner.write(layout::DATA_START + block * 4096, Abd::copy_from(&pattern(block))).unwrap();
    }
    let (leaf, _) = leaf(disk.clone());
    let collect = Arc::new(Collect::default());
    for block in (0..64).rev() {
        let done = Completion::new(collect.clone(), block);
        leaf.start(block * 4096, queue::Payload::Read(4096), Priority::AsyncRead, done);
    }
    while leaf.poll() {}
    let mut done = std::mem::take(&mut *collect.0.lock().unwrap());
    done.sort_by_key(|d| d.0);
    assert_eq!(done.len(), 64);
    done.iter().for_each(|(block, bytes)| assert_eq!(bytes.as_ref().unwrap(), &pattern(*block)));
    assert!(disk.nr_submitted.load(Ordering::Relaxed) <= 3, "the first went alone, the rest together");
}

#[test]
fn a_bad_sector_costs_only_its_own_block() {
    let disk = SlowDisk::new(1);
    let bad = layout::DATA_START + 10 * 4096;
    disk.inner.set_hook(Some(Arc::new(move |op: &Op| match op {
        Op::Read { offset, buf } => {
            (*offset <= bad && bad < offset + buf.len() as u64).then_some(blockdev::Error::Io)
        }
        _ => None,
    })));
    let (leaf, _) = leaf(disk);
    let collect = Arc::new(Collect::default());
    for block in 0..20 {
        let done = Completion::new(collect.clone(), block);
        leaf.start(block * 4096, queue::Payload::Read(4096), Priority::AsyncRead, done);
    }
    while leaf.poll() {}
    let done = collect.0.lock().unwrap();
    assert_eq!(done.len(), 20);
    assert!(done.iter().all(|(block, result)| result.is_ok() == (*block != 10)));
}

#[test]
fn what_lies_beyond_the_device_is_refused() {
    let (leaf, _) = leaf(Arc::new(MemDisk::new(DISK)));
    assert_eq!(leaf.read_raw(DISK, 512).unwrap_err(), Error::Io);
    assert_eq!(leaf.read_raw(u64::MAX - 100, 512).unwrap_err(), Error::Io);
    let collect = Arc::new(Collect::default());
    let done = Completion::new(collect.clone(), 0);
    leaf.start(u64::MAX - 100, queue::Payload::Read(512), Priority::SyncRead, done);
    assert_eq!(collect.0.lock().unwrap()[0].1, Err(blockdev::Error::Invalid));
}

#[test]
fn devices_without_a_volatile_cache_are_not_flushed() {
    for cache in [WriteCache::None, WriteCache::Unknown] {
        let disk = Arc::new(MemDisk::with(DISK, 512, cache));
        let (leaf, _) = leaf(disk.clone());
        leaf.write_raw(0, Abd::zeroed(512)).unwrap();
        leaf.flush().unwrap();
        assert_eq!(disk.stats().flushes, 0);
    }
}

#[test]
fn a_failed_write_is_told_once_it_failed_twice() {
    let disk = Arc::new(MemDisk::new(DISK));
    let nr_tries = Arc::new(AtomicUsize::new(0));
    let tries = nr_tries.clone();
    disk.set_hook(Some(Arc::new(move |op: &Op| {
        let is_write = matches!(op, Op::Write { .. });
        is_write.then(|| tries.fetch_add(1, Ordering::Relaxed)).map(|_| blockdev::Error::Timeout)
    })));
    let (leaf, events) = leaf(disk);
    assert_eq!(leaf.write_raw(layout::DATA_START + 4096, Abd::zeroed(512)), Err(Error::Io));
    assert_eq!(nr_tries.load(Ordering::Relaxed), 2);
    assert_eq!(events.snapshot(), [Event::WriteFailed { vdev: 0, offset: 4096 }]);
}
