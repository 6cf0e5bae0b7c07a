//! Frees a tree bottom up, as far as a budget goes, and can go on later from where it stopped.
//!
//! What is freed first is what lies below: a block is freed after all it points to, so whatever is left hangs on blocks
//! that are still there, and a bookmark of the next block to be freed is enough to go on. It is one of a block of level
//! 0 of some object, as OpenZFS stops there.
use super::bpobj::Sums;
use crate::vdev::Priority;
use crate::zio::{Storage, SyncCtx};
use crate::{Error, Result};
use abd::Abd;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::dnode::{self, DNODE_SIZE};
use ondisk::objset::{
    GROUPUSED_DNODE, METADNODE, OBJSET_SIZE_V2, OBJSET_SIZE_V3, PROJECTUSED_DNODE, USERUSED_DNODE,
};
use ondisk::{BlkPtr, Bookmark, DmuType, ObjectId, Txg};

/// The `objset` of bookmarks in trees that belong to no dataset any more.
const DESTROYED: u64 = u64::MAX;

/// A walk that frees.
pub(crate) struct Reaper<'a> {
    storage: &'a Storage,
    ctx: &'a SyncCtx,
    after: Txg,
    resume: Option<Bookmark>,
    budget: &'a mut u64,
    freed: Sums,
}

/// How the object being walked is laid out.
#[derive(Clone, Copy)]
struct Shape {
    id: ObjectId,
    /// log2 of the pointers in one indirect block.
    entries_shift: u32,
}

/// What remains to be done of a block.
enum Step {
    /// It and all below it was freed before.
    Done,
    /// All below it was.
    Own,
    All,
}

/// The walk stopped, and where.
enum Stop {
    Paused(Bookmark),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

type Walked = core::result::Result<(), Stop>;

impl<'a> Reaper<'a> {
    /// Frees blocks born after `after`, going on at `resume`; `budget` is counted down.
    pub(crate) fn new(
        storage: &'a Storage,
        ctx: &'a SyncCtx,
        after: Txg,
        resume: Option<Bookmark>,
        budget: &'a mut u64,
    ) -> Self {
        Self { storage, ctx, after, resume, budget, freed: Sums::default() }
    }

    /// What was freed.
    pub(crate) fn freed(&self) -> Sums {
        self.freed
    }

    /// Walks from an object set's root block; where to go on if the budget did not suffice.
    ///
    /// # Errors
    /// What freeing says. A block that cannot be read is freed without what is below it.
    pub(crate) fn run(&mut self, root: &BlkPtr) -> Result<Option<Bookmark>> {
        match self.root(root) {
            Ok(()) => Ok(None),
            Err(Stop::Paused(mark)) => Ok(Some(mark)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn root(&mut self, root: &BlkPtr) -> Walked {
        if root.is_hole() || root.birth() <= self.after {
            return Ok(());
        }
        let bookmark = Bookmark::root(DESTROYED);
        if let Some(block) = self.read(root, bookmark) {
            let bytes = block.to_contiguous();
            let mut dnodes = alloc::vec![(ObjectId::META_DNODE, METADNODE)];
            if bytes.len() >= OBJSET_SIZE_V3 {
                dnodes.push((ObjectId::PROJECTUSED, PROJECTUSED_DNODE));
            }
            if bytes.len() >= OBJSET_SIZE_V2 {
                dnodes.push((ObjectId::GROUPUSED, GROUPUSED_DNODE));
                dnodes.push((ObjectId::USERUSED, USERUSED_DNODE));
            }
            for (id, range) in dnodes {
                if let Some(dnode) = bytes.get(range) {
                    self.dnode(id, dnode)?;
                }
            }
        }
        self.free(root)
    }

    fn read(&self, bp: &BlkPtr, bookmark: Bookmark) -> Option<Abd> {
        match self.storage.read_uncached(bp, bookmark, Priority::Scrub) {
            Ok(block) => Some(block),
            Err(error) => {
                log::error!("zfs: what is below {bookmark} of a destroyed dataset stays allocated: {error}");
                None
            }
        }
    }

    fn free(&mut self, bp: &BlkPtr) -> Walked {
        self.freed.add(Sums::of(self.storage, bp));
        *self.budget = self.budget.saturating_sub(1);
        if !bp.is_embedded() {
            self.storage.free(self.ctx, bp)?;
        }
        Ok(())
    }

    fn dnode(&mut self, id: ObjectId, bytes: &[u8]) -> Walked {
        let Ok(Some(dn)) = dnode::parse(bytes) else {
            return Ok(());
        };
        let shape = Shape { id, entries_shift: dn.entries_shift() };
        for index in 0..usize::from(dn.nr_blkptr) {
            if let Ok(bp) = dn.blkptr(bytes, index) {
                self.tree(shape, &bp, dn.levels - 1, index as u64)?;
            }
        }
        match dn.spill(bytes) {
            Ok(Some(bp)) => self.tree(shape, &bp, 0, Bookmark::SPILL_BLKID),
            _ => Ok(()),
        }
    }

    fn tree(&mut self, shape: Shape, bp: &BlkPtr, level: u8, blkid: u64) -> Walked {
        if bp.is_hole() || bp.birth() <= self.after {
            return Ok(());
        }
        let bookmark = Bookmark::new(DESTROYED, shape.id, level.into(), blkid);
        let step = self.step(shape, level, blkid);
        if matches!(step, Step::Done) {
            return Ok(());
        }
        let goes_below = level > 0 || (bp.dmu_type() == DmuType::DNODE && shape.id == ObjectId::META_DNODE);
        if matches!(step, Step::All)
            && goes_below
            && let Some(block) = self.read(bp, bookmark)
        {
            self.below(shape, &block.to_contiguous(), level, blkid)?;
        }
        if level == 0 && *self.budget == 0 {
            return Err(Stop::Paused(bookmark));
        }
        self.free(bp)
    }

    fn below(&mut self, shape: Shape, bytes: &[u8], level: u8, blkid: u64) -> Walked {
        if level == 0 {
            return self.dnode_block(bytes, blkid);
        }
        for (index, raw) in bytes.chunks_exact(BLKPTR_SIZE).enumerate() {
            let child = (blkid << shape.entries_shift).saturating_add(index as u64);
            if let Ok(bp) = BlkPtr::from_bytes(raw) {
                self.tree(shape, &bp, level - 1, child)?;
            }
        }
        Ok(())
    }

    fn dnode_block(&mut self, bytes: &[u8], blkid: u64) -> Walked {
        let slots = bytes.len() / DNODE_SIZE;
        let mut slot = 0;
        while slot < slots {
            let rest = &bytes[slot * DNODE_SIZE..];
            let id = ObjectId(blkid.saturating_mul(slots as u64).saturating_add(slot as u64));
            let Ok(core) = dnode::core(rest) else {
                return Ok(());
            };
            self.dnode(id, rest)?;
            slot += if core.is_free() { 1 } else { core.slots() };
        }
        Ok(())
    }

    /// What of a block is left to do, seen from where the walk goes on.
    fn step(&mut self, shape: Shape, level: u8, blkid: u64) -> Step {
        let Some(resume) = self.resume else {
            return Step::All;
        };
        let resume_level = u32::try_from(resume.level).unwrap_or(0);
        // The range of blocks of level 0 of its object that a block stands for.
        let first_of = |level: u32, blkid: u64| {
            let shift = level.saturating_mul(shape.entries_shift);
            if shift >= 64 || blkid > u64::MAX >> shift { u64::MAX } else { blkid << shift }
        };
        if shape.id == ObjectId::META_DNODE && resume.object != ObjectId::META_DNODE {
            // The dnode of the object to go on with lies in this block of level 0.
            let target = resume.object.0 / ondisk::dnode::DNODES_PER_BLOCK as u64;
            let end = first_of(level.into(), blkid.saturating_add(1));
            return if end <= target { Step::Done } else { Step::All };
        }
        if shape.id != resume.object {
            return if shape.id < resume.object { Step::Done } else { self.caught_up() };
        }
        if resume.blkid == Bookmark::SPILL_BLKID {
            return if blkid == Bookmark::SPILL_BLKID { self.caught_up_at() } else { Step::Done };
        }
        if blkid == Bookmark::SPILL_BLKID {
            return self.caught_up();
        }
        if u32::from(level) == resume_level && blkid == resume.blkid {
            return self.caught_up_at();
        }
        let target = first_of(resume_level, resume.blkid);
        if first_of(level.into(), blkid.saturating_add(1)) <= target {
            Step::Done
        } else if first_of(level.into(), blkid) > target {
            self.caught_up()
        } else {
            Step::All
        }
    }

    /// Everything from here on is still to be done.
    fn caught_up(&mut self) -> Step {
        self.resume = None;
        Step::All
    }

    fn caught_up_at(&mut self) -> Step {
        self.resume = None;
        Step::Own
    }
}
