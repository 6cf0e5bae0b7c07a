//! Advisory locks: flock(2), POSIX record locks and open-file-description locks.
//!
//! Locks belong to a file (device and inode number), not to a name. Waiters park until something of their file is
//! released and then try again; a POSIX lock that would close a circle of waiting processes fails instead. A signal
//! ends a wait: whoever sends it unparks the thread, and `is_interrupted` then tells why.
//!
//! Invariant: the edges in `waits` are those of threads that are parked or about to; they are added and checked for
//! circles under one lock, so of two processes that would deadlock each other the second sees the first.
use crate::attr::DeviceId;
use crate::error::{Error, Result};
use crate::node::VnodeRef;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use hashbrown::HashMap;
use rt::{Mutex, Thread};

mod records;

/// What is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    device: DeviceId,
    ino: u64,
}

impl FileKey {
    /// The key of a file.
    pub fn of(vnode: &VnodeRef) -> Self {
        Self { device: vnode.fs().device_id(), ino: vnode.ino() }
    }
}

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Readers.
    Shared,
    /// One writer.
    Exclusive,
}

/// Whose lock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockOwner {
    /// A process (POSIX locks).
    Process(u64),
    /// An open file description ([`crate::File::id`]; OFD locks).
    File(u64),
}

/// A record lock: bytes `start..=last` (`last` `u64::MAX`: to the end, wherever that is).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLock {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
    /// Whose.
    pub owner: LockOwner,
    /// Shared or exclusive.
    pub kind: LockKind,
}

#[derive(Default)]
struct FileLocks {
    records: Vec<RecordLock>,
    flocks: Vec<(u64, LockKind)>,
    waiters: Vec<Arc<Waiter>>,
}

struct Waiter {
    thread: Thread,
    is_woken: AtomicBool,
}

#[derive(Default)]
struct State {
    files: HashMap<FileKey, FileLocks>,
    /// (waiting process, process it waits for)
    waits: Vec<(u64, u64)>,
}

/// All advisory locks of a system.
#[derive(Default)]
pub struct LockTable {
    state: Mutex<State>,
    nr_files: AtomicUsize,
}

/// Whether to wait, and what ends the wait.
#[derive(Clone, Copy)]
pub enum Wait<'a> {
    /// Fail with [`Error::WouldBlock`] instead.
    No,
    /// Wait until the lock is there or this says that a signal is pending ([`Error::Interrupted`]).
    Until(&'a dyn Fn() -> bool),
}

impl LockTable {
    /// Nothing locked.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Sets a record lock; the owner's own locks in the range are replaced.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::Interrupted`]; [`Error::Deadlock`] (processes only).
    pub fn set_record(&self, file: FileKey, lock: RecordLock, wait: Wait<'_>) -> Result<()> {
        self.acquire(file, wait, lock.owner, |locks| match records::conflict(&locks.records, &lock) {
            Some(other) => Some(other.owner),
            None => {
                records::set(&mut locks.records, lock);
                None
            }
        })
    }

    /// Removes the owner's locks from `start..=last`.
    pub fn unlock_records(&self, file: FileKey, owner: LockOwner, start: u64, last: u64) {
        self.change(file, |locks| records::clear(&mut locks.records, owner, start, last));
    }

    /// The lock that would keep `lock` from being set (`F_GETLK`).
    pub fn test_record(&self, file: FileKey, lock: &RecordLock) -> Option<RecordLock> {
        let state = self.state.lock();
        state.files.get(&file).and_then(|locks| records::conflict(&locks.records, lock).copied())
    }

    /// Removes every POSIX lock of a process on a file: any close of the file by the process does that.
    pub fn release_process(&self, vnode: &VnodeRef, process: u64) {
        if self.nr_files.load(Ordering::Acquire) > 0 {
            self.unlock_records(FileKey::of(vnode), LockOwner::Process(process), 0, u64::MAX);
        }
    }

    /// Sets the flock of an open file description. Changing the kind gives up the old lock first, as Linux does.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::Interrupted`].
    pub fn flock(
        self: &Arc<Self>,
        file: &crate::file::File,
        kind: Option<LockKind>,
        wait: Wait<'_>,
    ) -> Result<()> {
        let key = FileKey::of(file.vnode());
        let id = file.id();
        let held = {
            let state = self.state.lock();
            let locks = state.files.get(&key);
            locks.and_then(|l| l.flocks.iter().find(|(owner, _)| *owner == id)).map(|(_, kind)| *kind)
        };
        if held == kind {
            return Ok(());
        }
        self.change(key, |locks| locks.flocks.retain(|(owner, _)| *owner != id));
        let Some(kind) = kind else { return Ok(()) };
        file.note_locks(self);
        self.acquire(key, wait, LockOwner::File(id), |locks| {
            let excludes =
                |other: &&(u64, LockKind)| kind == LockKind::Exclusive || other.1 == LockKind::Exclusive;
            match locks.flocks.iter().find(excludes) {
                Some(other) => Some(LockOwner::File(other.0)),
                None => {
                    locks.flocks.push((id, kind));
                    None
                }
            }
        })
    }

    /// Sets an OFD lock of an open file; as [`LockTable::set_record`].
    ///
    /// # Errors
    /// As [`LockTable::set_record`].
    pub fn set_file_record(
        self: &Arc<Self>,
        file: &crate::file::File,
        lock: RecordLock,
        wait: Wait<'_>,
    ) -> Result<()> {
        file.note_locks(self);
        let lock = RecordLock { owner: LockOwner::File(file.id()), ..lock };
        self.set_record(FileKey::of(file.vnode()), lock, wait)
    }

    /// The last reference to an open file description went away.
    pub(crate) fn release_file(&self, vnode: &VnodeRef, id: u64) {
        self.change(FileKey::of(vnode), |locks| {
            locks.flocks.retain(|(owner, _)| *owner != id);
            records::clear(&mut locks.records, LockOwner::File(id), 0, u64::MAX);
        });
    }

    /// Changes a file's locks in a way that may let others in.
    fn change(&self, file: FileKey, change: impl FnOnce(&mut FileLocks)) {
        let mut state = self.state.lock();
        let Some(locks) = state.files.get_mut(&file) else { return };
        change(locks);
        for waiter in locks.waiters.drain(..) {
            waiter.is_woken.store(true, Ordering::Release);
            waiter.thread.unpark();
        }
        self.tidy(&mut state, file);
    }

    fn tidy(&self, state: &mut State, file: FileKey) {
        let is_empty = state
            .files
            .get(&file)
            .is_some_and(|l| l.records.is_empty() && l.flocks.is_empty() && l.waiters.is_empty());
        if is_empty {
            state.files.remove(&file);
        }
        self.nr_files.store(state.files.len(), Ordering::Release);
    }

    /// Tries until `attempt` gives `None`; otherwise it gives who is in the way.
    fn acquire(
        &self,
        file: FileKey,
        wait: Wait<'_>,
        owner: LockOwner,
        mut attempt: impl FnMut(&mut FileLocks) -> Option<LockOwner>,
    ) -> Result<()> {
        loop {
            let mut state = self.state.lock();
            let locks = state.files.entry(file).or_default();
            let Some(blocker) = attempt(locks) else {
                // Setting can also shrink: a write lock turned into a read lock lets readers in.
                drop(state);
                self.change(file, |_| ());
                return Ok(());
            };
            let Wait::Until(is_interrupted) = wait else {
                self.tidy(&mut state, file);
                return Err(Error::WouldBlock);
            };
            let edge = match (owner, blocker) {
                (LockOwner::Process(me), LockOwner::Process(other)) => Some((me, other)),
                _ => None,
            };
            if edge.is_some_and(|(me, other)| closes_circle(&state.waits, me, other)) {
                self.tidy(&mut state, file);
                return Err(Error::Deadlock);
            }
            state.waits.extend(edge);
            let waiter = Arc::new(Waiter { thread: rt::current(), is_woken: AtomicBool::new(false) });
            state.files.entry(file).or_default().waiters.push(waiter.clone());
            drop(state);
            while !waiter.is_woken.load(Ordering::Acquire) && !is_interrupted() {
                rt::park("advisory lock");
            }
            self.end_wait(file, edge, &waiter);
            if is_interrupted() && !waiter.is_woken.load(Ordering::Acquire) {
                return Err(Error::Interrupted);
            }
        }
    }

    fn end_wait(&self, file: FileKey, edge: Option<(u64, u64)>, waiter: &Arc<Waiter>) {
        let mut state = self.state.lock();
        if let Some(at) = edge.and_then(|edge| state.waits.iter().position(|w| *w == edge)) {
            state.waits.swap_remove(at);
        }
        if let Some(locks) = state.files.get_mut(&file) {
            locks.waiters.retain(|w| !Arc::ptr_eq(w, waiter));
        }
        self.tidy(&mut state, file);
    }
}

/// Whether `other` already waits, through any chain, for `me`.
fn closes_circle(waits: &[(u64, u64)], me: u64, other: u64) -> bool {
    let mut reached = alloc::vec![other];
    let mut at = 0;
    while let Some(&process) = reached.get(at) {
        if process == me {
            return true;
        }
        for (_, next) in waits.iter().filter(|(waiting, _)| *waiting == process) {
            if !reached.contains(next) {
                reached.push(*next);
            }
        }
        at += 1;
    }
    false
}

impl fmt::Debug for LockTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockTable({} files)", self.nr_files.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "No",
            Self::Until(_) => "Until",
        })
    }
}

#[cfg(test)]
mod tests;
