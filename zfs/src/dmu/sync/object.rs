//! Writing one object's changes of a group.
//!
//! Order: frees, growth, data blocks, spill, indirect blocks from the bottom up, the dnode. Pointers are published in
//! memory as soon as their block is issued, see the epoch of [`Dnode`].
use super::policy::{ObjectPolicy, Policies};
use crate::dmu::clone::CLONE_DIRTY;
use crate::dmu::dbuf::{Content, Dbuf};
use crate::dmu::dnode::{Dnode, Open, Spill};
use crate::dmu::lookup::entry;
use crate::dmu::objset::Objset;
use crate::zio::{Format, Prepared, SyncCtx, WritePolicy};
use crate::{Error, Result};
use abd::Abd;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::blkptr::{BLKPTR_SHIFT, BLKPTR_SIZE};
use ondisk::dnode::{DNODE_BLKPTRS_MAX, LEVELS_MAX};
use ondisk::{BlkPtr, Bookmark};

/// An object on its way to disk.
pub(super) struct ObjectSync<'a> {
    pub(super) objset: &'a Objset,
    pub(super) ctx: &'a SyncCtx,
    pub(super) policies: Policies,
    pub(super) dnode: Arc<Dnode>,
    /// What the group left behind.
    pub(super) open: Open,
    /// Changed indirect blocks, by level (from 1).
    dirty: Vec<BTreeMap<u64, Arc<Dbuf>>>,
    /// Change of the bytes on disk.
    pub(super) used: i64,
}

impl<'a> ObjectSync<'a> {
    pub(super) fn new(
        objset: &'a Objset,
        ctx: &'a SyncCtx,
        policies: Policies,
        dnode: Arc<Dnode>,
        open: Open,
    ) -> Self {
        let mut new = Self { objset, ctx, policies, dnode, open, dirty: Vec::new(), used: 0 };
        new.start();
        new
    }

    /// Puts into phys what blocks depend on.
    fn start(&mut self) {
        let mut phys = self.dnode.phys.lock();
        phys.core.kind = self.open.kind;
        phys.core.block_size = self.open.block_size;
        if phys.core.levels == 1 {
            phys.core.indirect_shift = self.open.indirect_shift;
        }
    }

    pub(super) fn object_policy(&self) -> ObjectPolicy {
        ObjectPolicy { kind: self.open.kind, checksum: self.open.checksum, compress: self.open.compress }
    }

    pub(super) fn policy(&self, level: u8, fill: u64) -> WritePolicy {
        self.policies.of(&self.object_policy(), level, fill)
    }

    pub(super) fn levels(&self) -> u8 {
        self.dnode.phys.lock().core.levels
    }

    pub(super) fn entries_shift(&self) -> u32 {
        self.dnode.phys.lock().entries_shift()
    }

    /// Adds levels until the highest block can be reached.
    pub(super) fn grow(&mut self) -> Result<()> {
        loop {
            let (levels, shift, nr, old) = {
                let phys = self.dnode.phys.lock();
                (phys.core.levels, phys.entries_shift(), phys.core.nr_blkptr, phys.blkptrs)
            };
            let bits = u32::from(levels - 1) * shift;
            let is_enough = bits >= 64 || self.open.max_blkid >> bits < u64::from(nr);
            if is_enough {
                return Ok(());
            }
            if levels >= LEVELS_MAX {
                return Err(Error::TooLarge);
            }
            if old.iter().any(|bp| !bp.is_hole()) {
                let mut block = abd::AbdMut::zeroed(1 << (shift + BLKPTR_SHIFT));
                for (index, bp) in old.iter().enumerate().take(usize::from(nr)) {
                    block.write_at(index << BLKPTR_SHIFT, &bp.to_bytes());
                }
                self.put_indirect(levels, 0, block.freeze());
            }
            let mut phys = self.dnode.phys.lock();
            phys.core.levels += 1;
            phys.blkptrs = [BlkPtr::HOLE; DNODE_BLKPTRS_MAX as usize];
            drop(phys);
            self.publish();
        }
    }

    /// Pointers have changed: readers that looked before look again.
    pub(super) fn publish(&self) {
        self.dnode.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Puts changed content into the buffer of an indirect block.
    fn put_indirect(&mut self, level: u8, blkid: u64, block: Abd) -> Arc<Dbuf> {
        let dbuf = loop {
            let dbuf = self.dnode.dbuf(level, blkid);
            let mut state = dbuf.state.lock();
            if state.is_gone {
                continue;
            }
            state.content = Content::Data(block);
            state.arc = None;
            state.is_sync_dirty = true;
            drop(state);
            break dbuf;
        };
        self.dirty_at(level).insert(blkid, dbuf.clone());
        dbuf
    }

    pub(super) fn dirty_at(&mut self, level: u8) -> &mut BTreeMap<u64, Arc<Dbuf>> {
        let index = usize::from(level);
        if self.dirty.len() <= index {
            self.dirty.resize_with(index + 1, BTreeMap::new);
        }
        &mut self.dirty[index]
    }

    /// The buffer of an indirect block, with a copy of its content that may be changed.
    fn indirect_to_change(&mut self, level: u8, blkid: u64) -> Result<Arc<Dbuf>> {
        if let Some(dbuf) = self.dirty_at(level).get(&blkid) {
            return Ok(dbuf.clone());
        }
        let block = match self.dnode.indirect(level, blkid)? {
            Some(block) => Abd::copy_from(&block.to_contiguous()),
            None => self.empty_indirect(level, blkid)?,
        };
        Ok(self.put_indirect(level, blkid, block))
    }

    /// An indirect block in the place of a hole: its entries inherit the hole's birth.
    fn empty_indirect(&self, level: u8, blkid: u64) -> Result<Abd> {
        let shift = self.entries_shift();
        let mut block = abd::AbdMut::zeroed(1 << (shift + BLKPTR_SHIFT));
        let hole = self.dnode.pointer(level, blkid)?;
        if hole.birth().0 != 0 {
            let entry = BlkPtr::new_hole(self.open.kind, level - 1, self.lsize(level - 1), hole.birth());
            let bytes = entry.to_bytes();
            (0..1usize << shift).for_each(|index| block.write_at(index << BLKPTR_SHIFT, &bytes));
        }
        Ok(block.freeze())
    }

    fn lsize(&self, level: u8) -> u32 {
        if level == 0 { self.open.block_size } else { 1 << (self.entries_shift() + BLKPTR_SHIFT) }
    }

    /// The pointer of a block that this group turns into a hole.
    pub(super) fn new_hole(&self, level: u8) -> BlkPtr {
        if self.dnode.storage.format().contains(Format::HOLE_BIRTH) {
            BlkPtr::new_hole(self.open.kind, level, self.lsize(level), self.ctx.txg)
        } else {
            BlkPtr::HOLE
        }
    }

    /// Stores a block's pointer in the indirect block (or dnode) above it.
    pub(super) fn set_pointer(&mut self, level: u8, blkid: u64, bp: &BlkPtr) -> Result<()> {
        let (levels, shift) = (self.levels(), self.entries_shift());
        if level + 1 == levels {
            let mut phys = self.dnode.phys.lock();
            let nr = usize::from(phys.core.nr_blkptr);
            let index = usize::try_from(blkid).ok().filter(|i| *i < nr).ok_or(Error::Damaged)?;
            phys.blkptrs[index] = *bp;
            return Ok(());
        }
        let dbuf = self.indirect_to_change(level + 1, blkid >> shift)?;
        let mut state = dbuf.state.lock();
        let Content::Data(block) = &mut state.content else { return Err(Error::Damaged) };
        let at = ((blkid & ((1 << shift) - 1)) as usize) << BLKPTR_SHIFT;
        block.write_at(at, &bp.to_bytes());
        Ok(())
    }

    /// Accounts for a pointer that takes another's place.
    pub(super) fn account(&mut self, old: &BlkPtr, new: &BlkPtr) -> Result<()> {
        let is_block = |bp: &BlkPtr| !bp.is_hole() && !bp.is_embedded();
        // Rewritten in place: still the same block. A clone of what is there already is one more reference, and the old one
        // goes.
        let is_same = |old: &BlkPtr, new: &BlkPtr| old.dva(0) == new.dva(0) && old.birth() == new.birth();
        if is_block(old) && is_block(new) && is_same(old, new) {
            return Ok(());
        }
        let storage = &self.dnode.storage;
        self.used += storage.deflated(new) as i64 - storage.deflated(old) as i64;
        if !old.is_hole() {
            self.objset.hooks.block_killed(self.ctx, old)?;
        }
        if !new.is_hole() {
            self.objset.hooks.block_born(self.ctx, new);
        }
        Ok(())
    }

    /// Issues a prepared data block; its buffer then has what the disk has.
    pub(super) fn write_data(&mut self, dbuf: &Arc<Dbuf>, data: Abd, prepared: Prepared) -> Result<()> {
        let bp = self.issue(0, dbuf.blkid(), prepared)?;
        self.publish();
        let bytes = data.len() as u64;
        self.objset.txgs().sub_dirty(self.ctx.txg, bytes);
        let mut state = dbuf.state.lock();
        if state.forget(self.ctx.txg) {
            self.dnode.settle(dbuf, &mut state, &bp, data);
        }
        self.dnode.discard_if_empty(dbuf, state);
        Ok(())
    }

    /// Stores the pointer of a cloned block. It came into being in this group, wherever and whenever its content was
    /// written: snapshots and streams go by that.
    pub(super) fn write_clone(&mut self, dbuf: &Arc<Dbuf>) -> Result<()> {
        let txg = self.ctx.txg;
        // None: the block stands on the list twice.
        let Some(clone) = dbuf.state.lock().clone_of(txg) else { return Ok(()) };
        let mut bp = clone;
        bp.set_birth(txg, clone.phys_birth());
        let old = self.dnode.pointer(0, dbuf.blkid())?;
        self.account(&old, &bp)?;
        self.set_pointer(0, dbuf.blkid(), &bp)?;
        self.publish();
        self.objset.txgs().sub_dirty(txg, CLONE_DIRTY);
        let mut state = dbuf.state.lock();
        if state.forget(txg) && bp.is_embedded() {
            state.content = Content::Absent;
        }
        self.dnode.discard_if_empty(dbuf, state);
        Ok(())
    }

    fn issue(&mut self, level: u8, blkid: u64, prepared: Prepared) -> Result<BlkPtr> {
        let old = self.dnode.pointer(level, blkid)?;
        let bookmark = self.dnode.bookmark(level, blkid);
        let bp = self.dnode.storage.issue(self.ctx, prepared, &old, bookmark)?;
        if bp != old {
            self.account(&old, &bp)?;
            self.set_pointer(level, blkid, &bp)?;
        }
        Ok(bp)
    }

    /// Writes or removes the spill block, if the group changed it.
    pub(super) fn write_spill(&mut self) -> Result<()> {
        if self.open.spill_changed_in != self.ctx.txg {
            return Ok(());
        }
        let old = self.dnode.phys.lock().spill;
        let bp = match &self.open.spill {
            Spill::None => BlkPtr::HOLE,
            Spill::OnDisk => return Ok(()),
            Spill::Data(data) => {
                let object = ObjectPolicy { kind: self.open.bonus_kind, ..self.object_policy() };
                let prepared = self.dnode.storage.prepare(data.clone(), &self.policies.of(&object, 0, 1))?;
                let bookmark = self.dnode.bookmark(0, Bookmark::SPILL_BLKID);
                self.dnode.storage.issue(self.ctx, prepared, &old, bookmark)?
            }
        };
        self.account(&old, &bp)?;
        self.dnode.phys.lock().spill = bp;
        Ok(())
    }

    /// Writes the changed indirect blocks, from the bottom up.
    pub(super) fn write_indirect(&mut self) -> Result<()> {
        for level in 1..self.levels() {
            let dirty = core::mem::take(self.dirty_at(level));
            let policy = self.policy(level, 0);
            let workers = self.objset.txgs().workers();
            let storage = self.dnode.storage.clone();
            let mut full = Vec::new();
            for (_, dbuf) in dirty {
                let content = dbuf.state.lock().content.clone();
                let Content::Data(block) = content else { return Err(Error::Damaged) };
                match fill_of(&block)? {
                    Some(fill) => full.push((dbuf, block, fill)),
                    None => self.drop_indirect(level, &dbuf)?,
                }
            }
            let jobs = full.into_iter().map(|(dbuf, data, fill)| super::pipeline::Job {
                data,
                packed: None,
                policy: WritePolicy { fill, ..policy },
                ahead: None,
                tag: dbuf,
            });
            super::pipeline::run(&storage, workers, jobs, |dbuf, data, prepared| {
                let bp = self.issue(level, dbuf.blkid(), prepared)?;
                self.publish();
                let mut state = dbuf.state.lock();
                state.is_sync_dirty = false;
                self.dnode.settle(&dbuf, &mut state, &bp, data);
                self.dnode.discard_if_empty(&dbuf, state);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// An indirect block has only holes left: it becomes one.
    fn drop_indirect(&mut self, level: u8, dbuf: &Arc<Dbuf>) -> Result<()> {
        let old = self.dnode.pointer(level, dbuf.blkid())?;
        if !old.is_hole() {
            let hole = self.new_hole(level);
            self.account(&old, &hole)?;
            self.set_pointer(level, dbuf.blkid(), &hole)?;
            self.publish();
        }
        let mut state = dbuf.state.lock();
        state.is_sync_dirty = false;
        state.content = Content::Absent;
        self.dnode.discard_if_empty(dbuf, state);
        Ok(())
    }

    /// What the dnode will say, blocks apart.
    pub(super) fn finish_phys(&mut self) {
        let mut phys = self.dnode.phys.lock();
        let used = i128::from(phys.core.used) + i128::from(core::mem::take(&mut self.used));
        phys.core.used = u64::try_from(used).unwrap_or(0);
        phys.core.bonus_kind = self.open.bonus_kind;
        phys.core.bonus_len = self.open.bonus.len() as u16;
        phys.bonus.clone_from(&self.open.bonus);
        phys.core.max_blkid = self.open.max_blkid;
        phys.core.checksum = self.open.checksum;
        phys.core.compress = self.open.compress;
    }
}

impl Dnode {
    /// A (locked) buffer's content is what `bp` says: from now on it may be evicted.
    fn settle(&self, dbuf: &Arc<Dbuf>, state: &mut crate::dmu::dbuf::State, bp: &BlkPtr, data: Abd) {
        if bp.is_hole() || bp.is_embedded() {
            // Cheap to have again, and nothing would ever ask for the memory back.
            state.content = Content::Absent;
            return;
        }
        // What was prepared may be a joined copy of what was written piece by piece.
        state.content = Content::Data(data.clone());
        let buf = self.storage.arc().insert(bp, data);
        let holder: alloc::sync::Weak<dyn crate::arc::Holder> = Arc::<Dbuf>::downgrade(dbuf);
        buf.set_holder(holder);
        state.arc = Some(buf);
    }
}

/// The fill of an indirect block's pointer; `None` when it has only holes.
fn fill_of(block: &Abd) -> Result<Option<u64>> {
    let (mut fill, mut is_empty) = (0u64, true);
    for index in 0..(block.len() / BLKPTR_SIZE) as u64 {
        let bp = entry(block, index)?;
        if !bp.is_hole() {
            is_empty = false;
            fill = fill.saturating_add(bp.fill());
        }
    }
    Ok((!is_empty).then_some(fill))
}
