//! Pipes and FIFOs.
//!
//! A ring of bytes under one blocking lock, held while the application's memory is copied (that may fault, but no
//! fault path takes this lock). Counts of readers and writers decide about end-of-file and EPIPE.
//!
//! Invariant: a write of at most [`ATOMIC_MAX`] bytes goes in whole or not at all, so that lines of several writers
//! do not mix.
use super::{FileObject, FileRef, anonymous_attr, anonymous_ino};
use crate::errno::{Errno, SysResult};
use crate::signal::{self, SigInfo};
use crate::task::Task;
use crate::user;
use crate::wait::{Ended, WaitList};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use rt::Mutex;
use rt::time::Instant;
use vfs::{Attr, FileType, FlagCell, OpenFlags, PollQueue, Pollable, ReadSink, Readiness, WriteSource};

/// `PIPE_BUF`.
const ATOMIC_MAX: usize = 4096;
/// Default capacity.
const CAPACITY: usize = 65536;
/// Most that `F_SETPIPE_SZ` may ask for.
const CAPACITY_MAX: usize = 1 << 20;

#[derive(Debug)]
struct Ring {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    capacity: usize,
}

impl Ring {
    fn grow_for(&mut self, more: usize) {
        let wanted = (self.len + more).min(self.capacity);
        if wanted <= self.bytes.len() {
            return;
        }
        let size = wanted.next_power_of_two().max(4096).min(self.capacity);
        let mut next = Vec::with_capacity(size);
        let (first, second) = self.filled();
        next.extend_from_slice(first);
        next.extend_from_slice(second);
        next.resize(size, 0);
        (self.bytes, self.start) = (next, 0);
    }

    fn filled(&self) -> (&[u8], &[u8]) {
        let end = self.start + self.len;
        if end <= self.bytes.len() {
            (&self.bytes[self.start..end], &[])
        } else {
            (&self.bytes[self.start..], &self.bytes[..end - self.bytes.len()])
        }
    }

    fn read(&mut self, sink: &mut dyn ReadSink) -> vfs::Result<usize> {
        let n = sink.remaining().min(self.len);
        let (first, second) = self.filled();
        let in_first = n.min(first.len());
        sink.put(&first[..in_first])?;
        if n > in_first {
            sink.put(&second[..n - in_first])?;
        }
        self.len -= n;
        self.start = if self.len == 0 { 0 } else { (self.start + n) % self.bytes.len() };
        Ok(n)
    }

    fn write(&mut self, source: &mut dyn WriteSource, n: usize) -> vfs::Result<()> {
        self.grow_for(n);
        let size = self.bytes.len();
        let at = (self.start + self.len) % size.max(1);
        let in_first = n.min(size - at);
        source.take(&mut self.bytes[at..at + in_first])?;
        if n > in_first {
            source.take(&mut self.bytes[..n - in_first])?;
        }
        self.len += n;
        Ok(())
    }
}

/// What both ends share.
#[derive(Debug)]
pub struct Pipe {
    ino: u64,
    ring: Mutex<Ring>,
    /// Copies of the ring's length and capacity for looks without the lock.
    len: AtomicUsize,
    capacity: AtomicUsize,
    nr_readers: AtomicUsize,
    nr_writers: AtomicUsize,
    /// Ends ever opened: a FIFO's open waits for the other side to change it.
    nr_opened: [AtomicUsize; 2],
    readers: WaitList,
    writers: WaitList,
    watchers: PollQueue,
}

/// One end of a pipe, or both (a FIFO opened for reading and writing).
#[derive(Debug)]
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    flags: FlagCell,
    /// A FIFO's name.
    file: Option<Arc<vfs::File>>,
}

impl Pipe {
    /// A pipe without ends.
    pub fn new() -> Arc<Self> {
        let ring = Ring { bytes: Vec::new(), start: 0, len: 0, capacity: CAPACITY };
        Arc::new(Self {
            ino: anonymous_ino(),
            ring: Mutex::new(ring),
            len: AtomicUsize::new(0),
            capacity: AtomicUsize::new(CAPACITY),
            nr_readers: AtomicUsize::new(0),
            nr_writers: AtomicUsize::new(0),
            nr_opened: [AtomicUsize::new(0), AtomicUsize::new(0)],
            readers: WaitList::new(),
            writers: WaitList::new(),
            watchers: PollQueue::new(),
        })
    }

    /// Adds an end.
    pub fn open(self: &Arc<Self>, flags: OpenFlags, file: Option<Arc<vfs::File>>) -> Arc<PipeEnd> {
        if flags.contains(OpenFlags::READ) {
            self.nr_readers.fetch_add(1, Ordering::SeqCst);
            self.nr_opened[0].fetch_add(1, Ordering::SeqCst);
            self.writers.wake_all();
        }
        if flags.contains(OpenFlags::WRITE) {
            self.nr_writers.fetch_add(1, Ordering::SeqCst);
            self.nr_opened[1].fetch_add(1, Ordering::SeqCst);
            self.readers.wake_all();
        }
        Arc::new(PipeEnd { pipe: self.clone(), flags: FlagCell::new(flags), file })
    }

    fn is_full(&self) -> bool {
        self.len.load(Ordering::SeqCst) + ATOMIC_MAX > self.capacity.load(Ordering::Relaxed)
    }
}

/// Opens a FIFO: waits for the other side as open(2) does.
///
/// # Errors
/// [`Errno::ENXIO`] (non-blocking writer without reader), [`Errno::RESTARTSYS`].
pub fn open_fifo(task: &Task, pipe: &Arc<Pipe>, file: Arc<vfs::File>) -> SysResult<FileRef> {
    let flags = file.flags();
    let (reads, writes) = (flags.contains(OpenFlags::READ), flags.contains(OpenFlags::WRITE));
    let is_nonblocking = flags.contains(OpenFlags::NON_BLOCKING);
    if writes && !reads && is_nonblocking && pipe.nr_readers.load(Ordering::SeqCst) == 0 {
        return Err(Errno::ENXIO);
    }
    let (list, count, seen) = if reads {
        (&pipe.readers, &pipe.nr_writers, &pipe.nr_opened[1])
    } else {
        (&pipe.writers, &pipe.nr_readers, &pipe.nr_opened[0])
    };
    // Looked at before this end exists: the other side may come, see it, and be gone again at once.
    let before = seen.load(Ordering::SeqCst);
    let was_there = count.load(Ordering::SeqCst) > 0;
    let end = pipe.open(flags, Some(file));
    if is_nonblocking || (reads && writes) || was_there {
        return Ok(end);
    }
    let is_there =
        || (count.load(Ordering::SeqCst) > 0 || seen.load(Ordering::SeqCst) != before).then_some(());
    match task.wait(list, Instant::NEVER, "fifo open", is_there) {
        Ok(()) => Ok(end),
        Err(_) => Err(Errno::RESTARTSYS),
    }
}

/// Both ends of a new pipe.
pub fn pair(flags: OpenFlags) -> (FileRef, FileRef) {
    let pipe = Pipe::new();
    (pipe.open(flags | OpenFlags::READ, None), pipe.open(flags | OpenFlags::WRITE, None))
}

impl PipeEnd {
    fn write_some(&self, source: &mut dyn WriteSource) -> SysResult<Option<usize>> {
        let pipe = &*self.pipe;
        let mut ring = pipe.ring.lock();
        if pipe.nr_readers.load(Ordering::SeqCst) == 0 {
            return Err(Errno::EPIPE);
        }
        let room = ring.capacity - ring.len;
        let wanted = source.remaining();
        if room == 0 || (wanted <= ATOMIC_MAX && room < wanted) {
            return Ok(None);
        }
        let n = wanted.min(room);
        ring.write(source, n)?;
        pipe.len.store(ring.len, Ordering::SeqCst);
        drop(ring);
        pipe.readers.wake_one();
        pipe.watchers.notify(Readiness::IN);
        Ok(Some(n))
    }

    fn wait_for_room(&self, task: &Task, wanted: usize) -> Result<(), Ended> {
        let pipe = &*self.pipe;
        let needed = if wanted <= ATOMIC_MAX { wanted } else { 1 };
        task.wait(&pipe.writers, Instant::NEVER, "pipe full", || {
            let room = pipe.capacity.load(Ordering::Relaxed).saturating_sub(pipe.len.load(Ordering::SeqCst));
            (room >= needed || pipe.nr_readers.load(Ordering::SeqCst) == 0).then_some(())
        })
    }

    /// `F_GETPIPE_SZ`.
    pub fn capacity(&self) -> usize {
        self.pipe.capacity.load(Ordering::Relaxed)
    }

    /// `F_SETPIPE_SZ`; the capacity then.
    ///
    /// # Errors
    /// [`Errno::EPERM`], [`Errno::EBUSY`].
    pub fn set_capacity(&self, size: usize) -> SysResult {
        let size = size.max(4096).checked_next_power_of_two().ok_or(Errno::EINVAL)?;
        if size > CAPACITY_MAX {
            return Err(Errno::EPERM);
        }
        let mut ring = self.pipe.ring.lock();
        if ring.len > size {
            return Err(Errno::EBUSY);
        }
        let content: Vec<u8> = [ring.filled().0, ring.filled().1].concat();
        ring.len = content.len();
        ring.start = 0;
        ring.bytes = content;
        ring.capacity = size;
        self.pipe.capacity.store(size, Ordering::Relaxed);
        drop(ring);
        self.pipe.writers.wake_all();
        Ok(size)
    }
}

impl FileObject for PipeEnd {
    fn flag_cell(&self) -> &FlagCell {
        &self.flags
    }

    fn read(&self, task: &Task, sink: &mut dyn ReadSink) -> SysResult {
        if !self.flags.get().contains(OpenFlags::READ) {
            return Err(Errno::EBADF);
        }
        if sink.remaining() == 0 {
            return Ok(0);
        }
        let pipe = &*self.pipe;
        loop {
            // Before the look at the ring: a writer that comes, writes and goes in between must not read as the end.
            let has_writers = pipe.nr_writers.load(Ordering::SeqCst) > 0;
            let mut ring = pipe.ring.lock();
            if ring.len > 0 {
                let n = ring.read(sink)?;
                pipe.len.store(ring.len, Ordering::SeqCst);
                let has_more = ring.len > 0;
                drop(ring);
                pipe.writers.wake_one();
                if has_more {
                    pipe.readers.wake_one();
                }
                pipe.watchers.notify(Readiness::OUT);
                return Ok(n);
            }
            drop(ring);
            if !has_writers {
                return Ok(0);
            }
            if self.flags.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            let is_ready = || {
                (pipe.len.load(Ordering::SeqCst) > 0 || pipe.nr_writers.load(Ordering::SeqCst) == 0)
                    .then_some(())
            };
            task.wait(&pipe.readers, Instant::NEVER, "pipe empty", is_ready)
                .map_err(|_| Errno::RESTARTSYS)?;
        }
    }

    fn write(&self, task: &Task, source: &mut dyn WriteSource) -> SysResult {
        if !self.flags.get().contains(OpenFlags::WRITE) {
            return Err(Errno::EBADF);
        }
        let mut done = 0;
        while source.remaining() > 0 {
            match self.write_some(source) {
                Ok(Some(n)) => done += n,
                Ok(None) if self.flags.is_nonblocking() => {
                    return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
                }
                Ok(None) => {
                    if self.wait_for_room(task, source.remaining()).is_err() {
                        return if done > 0 { Ok(done) } else { Err(Errno::RESTARTSYS) };
                    }
                }
                Err(Errno::EPIPE) => {
                    signal::send::to_task(task, SigInfo::kernel(signal::SIGPIPE));
                    return if done > 0 { Ok(done) } else { Err(Errno::EPIPE) };
                }
                Err(e) => return if done > 0 { Ok(done) } else { Err(e) },
            }
        }
        Ok(done)
    }

    fn ioctl(&self, _task: &Task, request: u32, arg: u64) -> SysResult {
        if request != linux_raw_sys::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        user::write(arg, &(self.pipe.len.load(Ordering::SeqCst) as i32))?;
        Ok(0)
    }

    fn getattr(&self) -> SysResult<Attr> {
        match &self.file {
            Some(file) => Ok(file.getattr()?),
            None => Ok(anonymous_attr(self.pipe.ino, FileType::Fifo, 0o600)),
        }
    }

    fn describe(&self) -> Vec<u8> {
        format!("pipe:[{}]", self.pipe.ino).into_bytes()
    }
}

impl Pollable for PipeEnd {
    fn readiness(&self) -> Readiness {
        let (pipe, flags) = (&*self.pipe, self.flags.get());
        let mut ready = Readiness::empty();
        if flags.contains(OpenFlags::READ) {
            ready.set(Readiness::IN, pipe.len.load(Ordering::SeqCst) > 0);
            ready.set(Readiness::HUP, pipe.nr_writers.load(Ordering::SeqCst) == 0);
        }
        if flags.contains(OpenFlags::WRITE) {
            ready.set(Readiness::OUT, !pipe.is_full());
            ready.set(Readiness::ERR, pipe.nr_readers.load(Ordering::SeqCst) == 0);
        }
        ready
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.pipe.watchers)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let (pipe, flags) = (&*self.pipe, self.flags.get());
        if flags.contains(OpenFlags::READ) && pipe.nr_readers.fetch_sub(1, Ordering::SeqCst) == 1 {
            pipe.writers.wake_all();
            pipe.watchers.notify(Readiness::ERR);
        }
        if flags.contains(OpenFlags::WRITE) && pipe.nr_writers.fetch_sub(1, Ordering::SeqCst) == 1 {
            pipe.readers.wake_all();
            pipe.watchers.notify(Readiness::HUP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use vfs::{SliceSink, SliceSource};

    proptest! {
        #[test]
        fn the_ring_equals_its_model(ops in prop::collection::vec((any::<bool>(), 1_usize..9000), 1..60)) {
            let mut ring = Ring { bytes: Vec::new(), start: 0, len: 0, capacity: 16384 };
            let mut model = VecDeque::new();
            let mut next = 0_u8;
            for (is_write, n) in ops {
                if is_write {
                    let n = n.min(ring.capacity - ring.len);
                    let bytes: Vec<u8> = (0..n).map(|i| next.wrapping_add(i as u8)).collect();
                    next = next.wrapping_add(n as u8);
                    ring.write(&mut SliceSource::new(&bytes), n).unwrap();
                    model.extend(bytes);
                } else {
                    let mut out = vec![0; n];
                    let got = ring.read(&mut SliceSink::new(&mut out)).unwrap();
                    let expected: Vec<u8> = model.drain(..n.min(model.len())).collect();
                    prop_assert_eq!(&out[..got], &expected[..]);
                }
                prop_assert_eq!(ring.len, model.len());
            }
        }
    }
}
