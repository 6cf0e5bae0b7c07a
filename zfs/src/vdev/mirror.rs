//! Mirrors: the same bytes at the same offset of every child.
use super::leaf::Leaf;
use super::queue::Payload;
use super::top::{ReadIo, TopVdev, WriteIo};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::{Complete, Completion, Done};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use rt::SpinLock;

/// Reads of neighbouring offsets prefer the same child, so that its queue can join them and its read-ahead helps.
const LOCALITY_SHIFT: u32 = 20;

/// The children of a mirror that could be opened.
#[derive(Debug)]
pub(crate) struct Mirror {
    leaves: Vec<Arc<Leaf>>,
}

impl Mirror {
    /// A mirror of which `leaves` are there.
    ///
    /// # Errors
    /// `MissingVdev` when none is there.
    pub(crate) fn new(leaves: Vec<Arc<Leaf>>) -> Result<Self> {
        if leaves.is_empty() {
            return Err(Error::MissingVdev);
        }
        Ok(Self { leaves })
    }

    fn leaf_of(&self, offset: u64, attempt: usize) -> &Leaf {
        let first = (offset >> LOCALITY_SHIFT) as usize;
        &self.leaves[first.wrapping_add(attempt) % self.leaves.len()]
    }
}

impl TopVdev for Mirror {
    fn leaves(&self) -> &[Arc<Leaf>] {
        &self.leaves
    }

    fn nr_attempts(&self) -> usize {
        self.leaves.len()
    }

    fn read(&self, io: ReadIo) {
        self.leaf_of(io.offset, io.attempt).start(io.offset, Payload::Read(io.len), io.priority, io.done);
    }

    fn write(&self, io: WriteIo) {
        let all = Arc::new(AllOf::new(self.leaves.len(), io.done));
        for leaf in &self.leaves {
            let done = Completion::new(all.clone(), 0);
            leaf.start(io.offset, Payload::Write(io.data.clone()), io.priority, done);
        }
    }

    fn repair(&self, bad: &[usize], good: Option<usize>, io: WriteIo) {
        if good.is_none() || bad.is_empty() {
            return self.write(io);
        }
        let all = Arc::new(AllOf::new(bad.len(), io.done));
        for &attempt in bad {
            let done = Completion::new(all.clone(), 0);
            let payload = Payload::Write(io.data.clone());
            self.leaf_of(io.offset, attempt).start(io.offset, payload, io.priority, done);
        }
    }
}

/// Answers one completion when several I/Os are done; any failure fails it.
#[derive(Debug)]
pub(crate) struct AllOf {
    nr_left: AtomicUsize,
    has_failed: AtomicBool,
    done: SpinLock<Option<Completion>>,
}

impl AllOf {
    pub(crate) fn new(nr: usize, done: Completion) -> Self {
        Self {
            nr_left: AtomicUsize::new(nr),
            has_failed: AtomicBool::new(false),
            done: SpinLock::new(Some(done)),
        }
    }
}

impl Complete for AllOf {
    fn complete(&self, done: Done) {
        if done.result.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        if self.nr_left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let result = if self.has_failed.load(Ordering::Relaxed) { Err(blockdev::Error::Io) } else { Ok(()) };
        let completion = self.done.lock().take();
        if let Some(completion) = completion {
            completion.complete(result, None);
        }
    }
}
