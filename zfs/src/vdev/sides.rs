//! Sets of leaves that hold the same bytes, and writes that succeed as long as enough of them got theirs.
use super::leaf::Leaf;
use super::priority::Priority;
use super::queue::Payload;
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::{Complete, Completion, Done};
use ondisk::Txg;
use rt::SpinLock;
use smallvec::SmallVec;

/// Leaves that hold the same bytes: the sides of a mirror, or of one child of a raidz (a single device, or that device
/// with its replacement or spare).
pub(crate) type Sides = SmallVec<[Arc<Leaf>; 2]>;

/// What one leaf holds of a block.
#[derive(Clone, Debug)]
pub struct Part {
    /// The leaf.
    pub leaf: Arc<Leaf>,
    /// Offset in the leaf's allocatable space.
    pub offset: u64,
    /// What is right there.
    pub content: Abd,
}

/// Where a leaf's part of a block is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The leaf.
    pub leaf: Arc<Leaf>,
    /// Offset in the leaf's allocatable space.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
}

/// A part to be written, and which of the vdev's children the leaf belongs to.
pub(crate) struct PartWrite {
    pub child: usize,
    pub part: Part,
}

/// Writes parts of a block. Leaves that cannot be written note the transaction group. It succeeds unless more than
/// `tolerated` of the children written to have no side that got its part.
pub(crate) fn write_parts(
    parts: Vec<PartWrite>,
    tolerated: usize,
    txg: Txg,
    priority: Priority,
    done: Completion,
) {
    let mut children: SmallVec<[(usize, bool); 8]> = SmallVec::new();
    for write in &parts {
        if !children.iter().any(|(child, _)| *child == write.child) {
            children.push((write.child, false));
        }
    }
    let (usable, unusable): (Vec<_>, Vec<_>) = parts.into_iter().partition(|w| w.part.leaf.is_usable());
    unusable.iter().for_each(|w| w.part.leaf.health().miss(txg, txg));
    let leaves = usable.iter().map(|w| (w.child, w.part.leaf.clone())).collect();
    let state = State { nr_left: usable.len(), children, done: Some(done) };
    let group = Arc::new(PartsGroup { leaves, tolerated, txg, state: SpinLock::new(state) });
    if usable.is_empty() {
        return group.finish();
    }
    for (tag, write) in usable.into_iter().enumerate() {
        let Part { leaf, offset, content } = write.part;
        leaf.start(offset, Payload::Write(content), priority, Completion::new(group.clone(), tag as u64));
    }
}

struct PartsGroup {
    leaves: Vec<(usize, Arc<Leaf>)>,
    tolerated: usize,
    txg: Txg,
    state: SpinLock<State>,
}

struct State {
    nr_left: usize,
    /// Children written to, and whether a side of each has its part.
    children: SmallVec<[(usize, bool); 8]>,
    done: Option<Completion>,
}

impl PartsGroup {
    fn finish(&self) {
        let (done, nr_lost) = {
            let mut state = self.state.lock();
            (state.done.take(), state.children.iter().filter(|(_, is_good)| !is_good).count())
        };
        let result = if nr_lost > self.tolerated { Err(blockdev::Error::Io) } else { Ok(()) };
        if let Some(done) = done {
            done.complete(result, None);
        }
    }
}

impl Complete for PartsGroup {
    fn complete(&self, done: Done) {
        let Some((child, leaf)) = self.leaves.get(done.tag as usize) else { return };
        if done.result.is_err() {
            leaf.health().miss(self.txg, self.txg);
            // The repair of an old block may fail where a resilver has been already.
            leaf.health().heal_failed(self.txg);
        }
        let is_last = {
            let mut state = self.state.lock();
            if done.result.is_ok()
                && let Some(entry) = state.children.iter_mut().find(|(c, _)| c == child)
            {
                entry.1 = true;
            }
            state.nr_left -= 1;
            state.nr_left == 0
        };
        if is_last {
            self.finish();
        }
    }
}
