//! epoll instances.
//!
//! Each watched file has an item that is queued when the file announces readiness. A wait takes items off the queue,
//! asks the file again, reports what it finds and, unless edge-triggered, queues the item again for the next wait.
//!
//! Invariant: an item's `is_queued` is cleared *before* its file is asked; an announcement after that queues it
//! again, so an edge between the question and the report is not lost.
use super::{FileObject, FileRef, anonymous_attr, anonymous_ino};
use crate::errno::{Errno, SysResult};
use crate::task::Task;
use crate::wait::{Ended, WaitList};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use hashbrown::HashMap;
use rt::time::Instant;
use rt::{Mutex, SpinLock};
use vfs::{Attr, FileType, FlagCell, OpenFlags, PollQueue, PollWatcher, Pollable, Readiness};

/// Report each change once.
pub const EPOLLET: u32 = 1 << 31;
/// Report once, then wait to be set again.
pub const EPOLLONESHOT: u32 = 1 << 30;
/// Bits that are flags, not readiness.
const FLAGS: u32 = EPOLLET | EPOLLONESHOT | 1 << 29 | 1 << 28;
/// Readiness reported without being asked for.
const ALWAYS: Readiness = Readiness::ERR.union(Readiness::HUP);

#[derive(Clone, Copy, Debug)]
struct Interest {
    events: u32,
    data: u64,
}

struct Item {
    epoll: Weak<Epoll>,
    file: Weak<dyn FileObject>,
    key: Key,
    interest: SpinLock<Interest>,
    is_queued: AtomicBool,
    /// What the file's queue refers to weakly: lives and dies with the item.
    watch: Arc<dyn PollWatcher>,
}

type Key = (i32, usize);

/// An epoll instance.
pub struct Epoll {
    me: Weak<Self>,
    ino: u64,
    items: Mutex<HashMap<Key, Arc<Item>>>,
    ready: SpinLock<VecDeque<Arc<Item>>>,
    waiters: WaitList,
    watchers: PollQueue,
    flags: FlagCell,
}

/// One event, as epoll_wait reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `EPOLL*`.
    pub events: u32,
    /// What the application gave.
    pub data: u64,
}

impl Item {
    fn ready(&self, file: &dyn FileObject) -> Readiness {
        let wanted = Readiness::from_bits_truncate(self.interest.lock().events & !FLAGS);
        if wanted.is_empty() { Readiness::empty() } else { file.readiness() & (wanted | ALWAYS) }
    }

    fn enqueue(self: &Arc<Self>, epoll: &Epoll) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            epoll.ready.lock().push_back(self.clone());
            epoll.waiters.wake_one();
            epoll.watchers.notify(Readiness::IN);
        }
    }
}

/// The item as its file sees it. Separate, so that it can reach its own counted reference.
struct Watch(Weak<Item>);

impl PollWatcher for Watch {
    fn notify(&self, what: Readiness) {
        let Some(item) = self.0.upgrade() else { return };
        let events = item.interest.lock().events;
        let wanted = Readiness::from_bits_truncate(events & !FLAGS);
        if !wanted.is_empty()
            && what.intersects(wanted | ALWAYS)
            && let Some(epoll) = item.epoll.upgrade()
        {
            item.enqueue(&epoll);
        }
    }
}

fn key(fd: i32, file: &FileRef) -> Key {
    (fd, Arc::as_ptr(file).cast::<()>() as usize)
}

impl Epoll {
    /// An instance that watches nothing.
    pub fn create() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            ino: anonymous_ino(),
            items: Mutex::default(),
            ready: SpinLock::default(),
            waiters: WaitList::new(),
            watchers: PollQueue::new(),
            flags: FlagCell::new(OpenFlags::READ),
        })
    }

    /// Starts watching `file`.
    ///
    /// # Errors
    /// [`Errno::EEXIST`]; [`Errno::EPERM`] for files that are always ready.
    pub fn add(&self, fd: i32, file: &FileRef, events: u32, data: u64) -> SysResult<()> {
        let queue = file.poll_queue().ok_or(Errno::EPERM)?;
        let key = key(fd, file);
        let mut items = self.items.lock();
        items.retain(|_, item| item.file.strong_count() > 0);
        if items.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        let item = Arc::new_cyclic(|item: &Weak<Item>| Item {
            epoll: self.me.clone(),
            file: Arc::downgrade(file),
            key,
            interest: SpinLock::new(Interest { events, data }),
            is_queued: AtomicBool::new(false),
            watch: Arc::new(Watch(item.clone())),
        });
        queue.add(&item.watch);
        items.insert(key, item.clone());
        drop(items);
        if !item.ready(&**file).is_empty() {
            item.enqueue(self);
        }
        Ok(())
    }

    /// Changes what is watched for.
    ///
    /// # Errors
    /// [`Errno::ENOENT`].
    pub fn modify(&self, fd: i32, file: &FileRef, events: u32, data: u64) -> SysResult<()> {
        let item = self.items.lock().get(&key(fd, file)).cloned().ok_or(Errno::ENOENT)?;
        *item.interest.lock() = Interest { events, data };
        if !item.ready(&**file).is_empty() {
            item.enqueue(self);
        }
        Ok(())
    }

    /// Stops watching.
    ///
    /// # Errors
    /// [`Errno::ENOENT`].
    pub fn remove(&self, fd: i32, file: &FileRef) -> SysResult<()> {
        let key = key(fd, file);
        let item = self.items.lock().remove(&key).ok_or(Errno::ENOENT)?;
        self.ready.lock().retain(|other| !Arc::ptr_eq(other, &item));
        if let Some(queue) = file.poll_queue() {
            queue.remove(&item.watch);
        }
        Ok(())
    }

    /// Takes up to `max` events, waiting until `deadline` for the first.
    ///
    /// # Errors
    /// [`Errno::EINTR`].
    pub fn wait(&self, task: &Task, max: usize, deadline: Instant) -> SysResult<Vec<Event>> {
        let found = task.wait(&self.waiters, deadline, "epoll", || {
            let events = self.collect(max);
            (!events.is_empty()).then_some(events)
        });
        match found {
            Ok(events) => Ok(events),
            Err(Ended::Timeout) => Ok(Vec::new()),
            Err(Ended::Signal) => Err(Errno::EINTR),
        }
    }

    fn collect(&self, max: usize) -> Vec<Event> {
        let mut events = Vec::new();
        let mut again = Vec::new();
        let mut nr_left = self.ready.lock().len();
        while nr_left > 0 && events.len() < max {
            nr_left -= 1;
            let Some(item) = self.ready.lock().pop_front() else { break };
            item.is_queued.store(false, Ordering::SeqCst);
            let Some(file) = item.file.upgrade() else {
                self.items.lock().remove(&item.key);
                continue;
            };
            let ready = item.ready(&*file);
            if ready.is_empty() {
                continue;
            }
            let mut interest = item.interest.lock();
            events.push(Event { events: ready.bits(), data: interest.data });
            if interest.events & EPOLLONESHOT != 0 {
                interest.events &= FLAGS;
            } else if interest.events & EPOLLET == 0 {
                drop(interest);
                again.push(item);
            }
        }
        for item in again {
            if !item.is_queued.swap(true, Ordering::SeqCst) {
                self.ready.lock().push_back(item);
            }
        }
        events
    }
}

impl FileObject for Epoll {
    fn flag_cell(&self) -> &FlagCell {
        &self.flags
    }

    fn getattr(&self) -> SysResult<Attr> {
        Ok(anonymous_attr(self.ino, FileType::Regular, 0o600))
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventpoll]".to_vec()
    }
}

impl Pollable for Epoll {
    fn readiness(&self) -> Readiness {
        let candidates: Vec<_> = self.ready.lock().iter().cloned().collect();
        let is_ready =
            |item: &Arc<Item>| item.file.upgrade().is_some_and(|file| !item.ready(&*file).is_empty());
        if candidates.iter().any(is_ready) { Readiness::IN } else { Readiness::empty() }
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.watchers)
    }
}
