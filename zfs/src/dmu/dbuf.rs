//! A buffer: the content of one block, as the newest transaction sees it and as each group in flight will write it.
//!
//! Invariants:
//! * `content` is the newest; a group that is no longer the newest has its own, set aside before a newer one changed
//!   it. Pages are shared between the two until one of them is written (`Abd` copies on write), so a write never
//!   waits for a sync and never changes what a sync is writing.
//! * What was written ahead of a group's sync, for the intent log, is used by that sync only if the group has not changed
//!   the content since: every change of the same group drops it first. What a newer group changes leaves it alone.
//! * A buffer with unsynced changes is in its tree and stays there: the disk does not know its content yet.
//! * A group whose change is a *clone* writes a pointer, not content: that of a block which is on disk already. The
//!   content is then what that pointer says, `Absent` until someone reads it. Whatever changes the content in the same
//!   group ends the clone first and gives its reference back; what a newer group changes leaves the clone alone.
//! * Whoever locks a buffer looks at `is_gone` first. It was taken out of the tree between lookup and lock if so, and
//!   a change made to it would be lost.
use super::dnode::Dnode;
use crate::arc::{ArcBuf, Holder};
use crate::bugs::{self, Bug};
use crate::zio::{AheadBlock, Packed};
use crate::{Error, Result};
use abd::Abd;
use alloc::boxed::Box;
use alloc::sync::Weak;
use core::fmt;
use ondisk::{BlkPtr, Txg};
use rt::Mutex;
use smallvec::SmallVec;

/// What is known of a block's content.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing: it is on disk.
    Absent,
    /// Zeroes.
    Hole,
    /// These bytes.
    Data(Abd),
}

/// One group's changes.
#[derive(Debug)]
struct Change {
    txg: Txg,
    /// What the group left behind, once a newer one has changed the block; until then it is the newest content.
    set_aside: Option<Box<Content>>,
    /// The group writes this pointer and not content.
    clone: Option<Box<BlkPtr>>,
    /// The content the group leaves behind, compressed as it is to be stored.
    packed: Option<Box<Packed>>,
    /// The block of just this content, written ahead of the group's sync.
    ahead: Option<Box<AheadBlock>>,
    /// How often the group has changed the content again.
    nr_edits: u32,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) content: Content,
    /// The cache's reference for `content`, when that is what the disk has.
    pub(super) arc: Option<ArcBuf>,
    /// Unsynced groups that changed the block, oldest first.
    changes: SmallVec<[Change; 1]>,
    /// An indirect block that the sync thread has changed and not written yet.
    pub(super) is_sync_dirty: bool,
    pub(super) is_gone: bool,
}

impl State {
    /// There is nothing here that could not be had from the disk.
    pub(super) fn is_clean(&self) -> bool {
        self.changes.is_empty() && !self.is_sync_dirty
    }

    /// The newest group with unsynced changes.
    pub(super) fn newest_change(&self) -> Option<Txg> {
        self.changes.last().map(|c| c.txg)
    }

    pub(super) fn is_changed_in(&self, txg: Txg) -> bool {
        self.changes.iter().any(|c| c.txg == txg)
    }

    /// Notes that `txg` is about to change the content. True if it had not changed it before.
    ///
    /// # Errors
    /// `Invalid` when a newer group has changed it already.
    pub(super) fn change_in(&mut self, txg: Txg) -> Result<bool> {
        if let Some(last) = self.changes.last_mut() {
            if last.txg == txg {
                last.packed = None;
                if !bugs::is(Bug::AheadKept) {
                    last.ahead = None;
                }
                last.nr_edits = last.nr_edits.wrapping_add(1);
                return Ok(false);
            }
            if last.txg > txg {
                return Err(Error::Invalid);
            }
            let content = if last.clone.is_some() { Content::Absent } else { self.content.clone() };
            last.set_aside = Some(Box::new(content));
        }
        let change = Change { txg, set_aside: None, clone: None, packed: None, ahead: None, nr_edits: 0 };
        self.changes.push(change);
        self.arc = None;
        Ok(true)
    }

    /// Makes the change of `txg`, which is the newest, a clone: the content is what `bp` says.
    pub(super) fn set_clone(&mut self, txg: Txg, bp: &BlkPtr) {
        if let Some(last) = self.changes.last_mut().filter(|c| c.txg == txg) {
            last.clone = Some(Box::new(*bp));
            self.content = Content::Absent;
            self.arc = None;
        }
    }

    /// The content of `txg`, whose change is the newest, is to be stored in this form.
    pub(super) fn set_packed(&mut self, txg: Txg, packed: Packed) {
        if let Some(last) = self.changes.last_mut().filter(|c| c.txg == txg) {
            last.packed = Some(Box::new(packed));
        }
    }

    /// The form that the content of `txg` is to be stored in, if it came in one.
    pub(super) fn packed_of(&self, txg: Txg) -> Option<Packed> {
        self.changes.iter().find(|c| c.txg == txg)?.packed.as_deref().cloned()
    }

    /// What `txg` clones.
    pub(super) fn clone_of(&self, txg: Txg) -> Option<BlkPtr> {
        self.changes.iter().find(|c| c.txg == txg)?.clone.as_deref().copied()
    }

    /// What the content is a clone of, if the newest change is one.
    pub(super) fn newest_clone(&self) -> Option<BlkPtr> {
        self.changes.last()?.clone.as_deref().copied()
    }

    /// The change of `txg`, which is the newest, becomes one of content; what it was a clone of.
    pub(super) fn end_clone(&mut self, txg: Txg) -> Option<BlkPtr> {
        let clone = self.changes.last_mut().filter(|c| c.txg == txg)?.clone.take()?;
        // What is in memory is about to differ from the cache's.
        self.arc = None;
        Some(*clone)
    }

    /// The newest unsynced change: its group, how often that group came back to it, and the block that was written ahead
    /// of its sync, if the content is still that block's. `None` for a clone, which is on disk.
    pub(super) fn newest_version(&self) -> Option<(Txg, u32, Option<BlkPtr>)> {
        let last = self.changes.last().filter(|c| c.clone.is_none())?;
        Some((last.txg, last.nr_edits, last.ahead.as_ref().map(|ahead| ahead.pointer())))
    }

    /// Leaves a block for the sync of `txg`, if what that group leaves behind is still the content that was written. Else
    /// the block is unused.
    pub(super) fn set_ahead(&mut self, txg: Txg, nr_edits: u32, ahead: AheadBlock) {
        let change = self.changes.iter_mut().find(|c| c.txg == txg && c.nr_edits == nr_edits);
        if let Some(change) = change {
            change.ahead = Some(Box::new(ahead));
        }
    }

    /// The block that was written ahead of the sync of `txg`.
    pub(super) fn take_ahead(&mut self, txg: Txg) -> Option<BlkPtr> {
        let change = self.changes.iter_mut().find(|c| c.txg == txg)?;
        change.ahead.take().map(|ahead| ahead.into_pointer())
    }

    pub(super) fn has_older_changes(&self, txg: Txg) -> bool {
        self.changes.iter().any(|c| c.txg < txg)
    }

    /// What `txg` is to write.
    pub(super) fn content_of(&self, txg: Txg) -> Option<Content> {
        let change = self.changes.iter().find(|c| c.txg == txg)?;
        Some(change.set_aside.as_deref().unwrap_or(&self.content).clone())
    }

    /// Forgets that `txg` changed the block. True if nothing newer changed it: the content is then the disk's (after
    /// a sync) or must be put right by the caller (after a change that is to have no effect).
    pub(super) fn forget(&mut self, txg: Txg) -> bool {
        let is_newest = self.changes.last().is_some_and(|c| c.txg == txg);
        self.changes.retain(|c| c.txg != txg);
        is_newest
    }
}

/// A buffer.
pub(super) struct Dbuf {
    dnode: Weak<Dnode>,
    level: u8,
    blkid: u64,
    pub(super) state: Mutex<State, 750>,
}

impl Dbuf {
    pub(super) fn new(dnode: Weak<Dnode>, level: u8, blkid: u64) -> Self {
        let state = State {
            content: Content::Absent,
            arc: None,
            changes: SmallVec::new(),
            is_sync_dirty: false,
            is_gone: false,
        };
        Self { dnode, level, blkid, state: Mutex::new(state) }
    }

    pub(super) fn level(&self) -> u8 {
        self.level
    }

    pub(super) fn blkid(&self) -> u64 {
        self.blkid
    }

    /// The content, if it is in memory.
    pub(super) fn peek(&self) -> Content {
        self.look(Content::clone)
    }

    /// Whether there is content, or a hole; `None`: the disk knows.
    pub(super) fn has_data(&self) -> Option<bool> {
        let state = self.state.lock();
        match state.content {
            Content::Data(_) => Some(true),
            Content::Hole => Some(false),
            Content::Absent => state.newest_clone().map(|_| true),
        }
    }

    /// Looks at the content, and notes the use.
    #[inline]
    pub(super) fn look<R>(&self, look: impl FnOnce(&Content) -> R) -> R {
        let state = self.state.lock();
        if let Some(arc) = &state.arc {
            arc.touch();
        }
        look(&state.content)
    }
}

impl Holder for Dbuf {
    fn try_evict(&self) -> bool {
        let Some(dnode) = self.dnode.upgrade() else { return true };
        let Some(mut state) = self.state.try_lock() else { return false };
        if !state.is_clean() {
            // What a clone shows is on disk, whatever becomes of the clone.
            let is_on_disk = state.newest_clone().is_some() && state.arc.is_some();
            if is_on_disk {
                let content = core::mem::replace(&mut state.content, Content::Absent);
                let arc = state.arc.take();
                drop(state);
                drop((content, arc));
            }
            return is_on_disk;
        }
        state.is_gone = true;
        let content = core::mem::replace(&mut state.content, Content::Absent);
        let arc = state.arc.take();
        drop(state);
        dnode.level(self.level).remove(self.blkid, self);
        drop((content, arc));
        true
    }
}

impl fmt::Debug for Dbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dbuf(level {}, block {})", self.level, self.blkid)
    }
}
