//! eventfd: a counter to wait for.
use super::{FileObject, FileRef, anonymous_attr, anonymous_ino};
use crate::errno::{Errno, SysResult};
use crate::task::Task;
use crate::wait::WaitList;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use rt::time::Instant;
use vfs::{Attr, FileType, FlagCell, OpenFlags, PollQueue, Pollable, ReadSink, Readiness, WriteSource};

const VALUE_MAX: u64 = u64::MAX - 1;

/// An eventfd.
#[derive(Debug)]
pub struct EventFd {
    ino: u64,
    value: AtomicU64,
    is_semaphore: bool,
    flags: FlagCell,
    readers: WaitList,
    writers: WaitList,
    watchers: PollQueue,
}

impl EventFd {
    /// An eventfd with `value`.
    pub fn create(value: u64, is_semaphore: bool, flags: OpenFlags) -> FileRef {
        Arc::new(Self {
            ino: anonymous_ino(),
            value: AtomicU64::new(value),
            is_semaphore,
            flags: FlagCell::new(flags | OpenFlags::READ | OpenFlags::WRITE),
            readers: WaitList::new(),
            writers: WaitList::new(),
            watchers: PollQueue::new(),
        })
    }

    fn take(&self) -> Option<u64> {
        let next = |v: u64| match v {
            0 => None,
            v if self.is_semaphore => Some(v - 1),
            _ => Some(0),
        };
        let before = self.value.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok()?;
        Some(if self.is_semaphore { 1 } else { before })
    }

    fn give(&self, n: u64) -> Option<()> {
        let next = |v: u64| v.checked_add(n).filter(|v| *v <= VALUE_MAX);
        self.value.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok().map(|_| ())
    }
}

impl FileObject for EventFd {
    fn flag_cell(&self) -> &FlagCell {
        &self.flags
    }

    fn read(&self, task: &Task, sink: &mut dyn ReadSink) -> SysResult {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = match self.take() {
            Some(value) => value,
            None if self.flags.is_nonblocking() => return Err(Errno::EAGAIN),
            None => task
                .wait(&self.readers, Instant::NEVER, "eventfd", || self.take())
                .map_err(|_| Errno::RESTARTSYS)?,
        };
        self.writers.wake_all();
        self.watchers.notify(Readiness::OUT);
        sink.put(&value.to_le_bytes())?;
        Ok(8)
    }

    fn write(&self, task: &Task, source: &mut dyn WriteSource) -> SysResult {
        if source.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        source.take(&mut bytes)?;
        let n = u64::from_le_bytes(bytes);
        if n == u64::MAX {
            return Err(Errno::EINVAL);
        }
        if self.give(n).is_none() {
            if self.flags.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            task.wait(&self.writers, Instant::NEVER, "eventfd", || self.give(n))
                .map_err(|_| Errno::RESTARTSYS)?;
        }
        if n > 0 {
            self.readers.wake_all();
            self.watchers.notify(Readiness::IN);
        }
        Ok(8)
    }

    fn getattr(&self) -> SysResult<Attr> {
        Ok(anonymous_attr(self.ino, FileType::Regular, 0o600))
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventfd]".to_vec()
    }
}

impl Pollable for EventFd {
    fn readiness(&self) -> Readiness {
        let value = self.value.load(Ordering::SeqCst);
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, value > 0);
        ready.set(Readiness::OUT, value < VALUE_MAX);
        ready
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.watchers)
    }
}
