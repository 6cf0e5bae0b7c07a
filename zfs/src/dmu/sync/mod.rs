//! Writing what a group changed.
//!
//! For an object set: the dirty objects in the order of their numbers, their data blocks first (prepared on all CPUs,
//! issued in order), then for each object its spill, its indirect blocks bottom up and its dnode; accounting, which
//! dirties its own objects; the dnode file; the root block. The same changes give the same blocks in the same order.
//!
//! Only the sync thread runs this, one object set at a time. Open transactions of newer groups go on meanwhile.
//!
//! | module | holds |
//! |---|---|
//! | [`object`] | one object's blocks |
//! | [`free`] | killing what freed ranges pointed to |
//! | [`pipeline`] | preparing in parallel, issuing in order |
//! | [`policy`] | checksum, compression, copies of each block |
//! | [`ahead`] | copies of blocks, to be written ahead of all this for the intent log |
//! | [`accounting`] | space by user, group, project |
mod accounting;
mod ahead;
mod free;
mod object;
mod pipeline;
mod policy;

use super::config::FeatureUse;
use super::dbuf::{Content, Dbuf};
use super::dnode::Dnode;
use super::objset::{ACCOUNTS, Objset, starts};
use super::tx::DmuTx;
use crate::bugs::{self, Bug};
use crate::zio::{SyncCtx, WritePolicy};
use crate::{Error, Result};
use abd::Abd;
use accounting::Accounting;
pub use ahead::{BlockCopy, Logged};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use object::ObjectSync;
use ondisk::blkptr::OLD_MAX_BLOCK_SIZE;
use ondisk::dnode::{DNODE_SHIFT, DNODES_PER_BLOCK};
use ondisk::objset::METADNODE;
use ondisk::{BlkPtr, Bookmark, Checksum, Compression, DmuType, ObjectId};
use pipeline::Job;
use policy::{ObjectPolicy, Policies};

impl Objset {
    /// Writes everything dirty in the syncing group and gives the new root block; `None`: nothing was dirty. To be
    /// called again when more was changed in the same group (the pool's own objects in later passes).
    ///
    /// # Errors
    /// `NoSpace`, `Io`, `Checksum`, `Damaged`: the group must not be committed then.
    pub fn sync(&self, ctx: &SyncCtx) -> Result<Option<BlkPtr>> {
        let txg = ctx.txg;
        let policies = Policies::new(self.properties(), self.kind(), ctx.pass);
        let mut is_dirty = self.is_dirty(txg);
        if !is_dirty {
            self.promised.written(txg);
            return Ok(None);
        }
        if let Some(zil) = &self.zil {
            // Waits for devices: not under the lock.
            let mut header = self.zil_header();
            if zil.sync(ctx, &mut header)? {
                self.root.lock().header.zil = header;
                // With the header that first names a chain: what reads the header knows whether it may read the chain.
                if zil.logs_xattrs() && !header.log.is_hole() {
                    self.hooks.feature_used(ctx, FeatureUse::ZilSaXattr);
                }
            }
        }
        let mut accounting = Accounting::new(self, ctx);
        loop {
            let mut list = core::mem::take(&mut self.dirty.lock()[txg.slot()]);
            if list.is_empty() {
                accounting.store(self, ctx)?;
                list = core::mem::take(&mut self.dirty.lock()[txg.slot()]);
                if list.is_empty() {
                    break;
                }
            }
            list.sort_by_key(|d| d.id());
            self.sync_objects(ctx, policies, &mut accounting, list)?;
        }
        is_dirty |= self.sync_dnode_file(ctx, policies)?;
        self.table.trim();
        if let Some(zil) = &self.zil {
            // After the objects: what they did not use is known only now.
            zil.free_unused(ctx)?;
        }
        self.promised.written(txg);
        self.is_root_dirty.store(false, Ordering::Release);
        if is_dirty { self.write_root(ctx, policies).map(Some) } else { Ok(None) }
    }

    fn sync_objects(
        &self,
        ctx: &SyncCtx,
        policies: Policies,
        accounting: &mut Accounting,
        list: Vec<Arc<Dnode>>,
    ) -> Result<()> {
        let mut charges = Vec::with_capacity(list.len());
        let mut objects = Vec::with_capacity(list.len());
        let mut blocks = Vec::new();
        for dnode in list {
            let charge = accounting.charge_of(self, &dnode.phys.lock());
            let Some((object, dirty)) = self.start_object(ctx, policies, dnode)? else { continue };
            blocks.extend(dirty.into_iter().map(|dbuf| (objects.len(), dbuf)));
            charges.push(charge);
            objects.push(object);
        }
        write_data(&mut objects, blocks)?;
        for (mut object, charge) in objects.into_iter().zip(charges) {
            object.write_spill()?;
            object.write_indirect()?;
            self.store_dnode(&mut object, accounting)?;
            let after = accounting.charge_of(self, &object.dnode.phys.lock());
            accounting.add(charge, -1);
            accounting.add(after, 1);
        }
        Ok(())
    }

    /// Takes what the group left behind; applies its frees; gives the changed data blocks in order.
    fn start_object<'a>(
        &'a self,
        ctx: &'a SyncCtx,
        policies: Policies,
        dnode: Arc<Dnode>,
    ) -> Result<Option<(ObjectSync<'a>, Vec<Arc<Dbuf>>)>> {
        let txg = ctx.txg;
        dnode.listed[txg.slot()].store(0, Ordering::Release);
        let Some(open) = dnode.open.lock().take_for_sync(txg) else { return Ok(None) };
        if open.block_size > OLD_MAX_BLOCK_SIZE {
            self.hooks.feature_used(ctx, FeatureUse::LargeBlocks);
        }
        if open.slots > 1 {
            self.hooks.feature_used(ctx, FeatureUse::LargeDnode);
        }
        let mut blocks = core::mem::take(&mut dnode.dirty_blocks.lock()[txg.slot()]);
        blocks.sort_by_key(|b| b.blkid());
        let mut last = u64::MAX;
        for block in &blocks {
            let above = block.blkid() >> 10;
            if above != last {
                dnode.prefetch_for_sync(block.blkid());
                last = above;
            }
        }
        let mut object = ObjectSync::new(self, ctx, policies, dnode, open);
        object.apply_frees()?;
        object.grow()?;
        Ok(Some((object, blocks)))
    }

    /// Puts the dnode into the dnode file (the accounting objects': into the root block, when that is written).
    fn store_dnode(&self, object: &mut ObjectSync<'_>, accounting: &Accounting) -> Result<()> {
        object.finish_phys();
        let (dnode, tx) = (&object.dnode, DmuTx::syncing(object.ctx));
        if ACCOUNTS.iter().any(|(id, _)| *id == dnode.id()) {
            dnode.phys.lock().is_on_disk = true;
            return Ok(());
        }
        let (blkid, slot) =
            (dnode.id().0 / DNODES_PER_BLOCK as u64, dnode.id().0 as usize % DNODES_PER_BLOCK);
        let (bytes, was_on_disk) = {
            let mut phys = dnode.phys.lock();
            let was_on_disk = core::mem::replace(&mut phys.is_on_disk, !object.open.is_free);
            phys.core.flags |= accounting.flags(dnode.id());
            let bytes = if object.open.is_free { vec![0; phys.core.size()] } else { phys.to_bytes()? };
            (bytes, was_on_disk)
        };
        if was_on_disk || !object.open.is_free {
            self.metadnode.modify_block(&tx, blkid, &mut |block| {
                let at = slot << DNODE_SHIFT;
                if at + bytes.len() > block.len() {
                    return Err(Error::Damaged);
                }
                block.write_at(at, &bytes);
                Ok(())
            })?;
        }
        self.unborn.lock().remove(&dnode.id().0);
        if object.open.is_free {
            self.table.remove(dnode);
            self.allocator.recycle(blkid);
        }
        Ok(())
    }

    /// Writes the dnode file; true if anything in it changed.
    fn sync_dnode_file(&self, ctx: &SyncCtx, policies: Policies) -> Result<bool> {
        if self.metadnode.listed[ctx.txg.slot()].load(Ordering::Acquire) != ctx.txg.0 {
            return Ok(false);
        }
        let Some((object, blocks)) = self.start_object(ctx, policies, self.metadnode.clone())? else {
            return Ok(false);
        };
        let mut objects = [object];
        write_data(&mut objects, blocks.into_iter().map(|b| (0, b)).collect())?;
        let [mut object] = objects;
        object.write_indirect()?;
        object.finish_phys();
        self.metadnode.phys.lock().is_on_disk = true;
        Ok(true)
    }

    fn write_root(&self, ctx: &SyncCtx, policies: Policies) -> Result<BlkPtr> {
        let (metadnode, fill) = {
            let phys = self.metadnode.phys.lock();
            (phys.to_bytes()?, phys.blkptrs.iter().filter(|bp| !bp.is_hole()).map(BlkPtr::fill).sum())
        };
        let mut dnodes = vec![(METADNODE, metadnode)];
        let accounts = self.accounts.lock().clone();
        for (dnode, (_, range)) in accounts.iter().zip(&ACCOUNTS) {
            let Some(dnode) = dnode else { continue };
            let phys = dnode.phys.lock();
            if phys.is_on_disk {
                dnodes.push((range.clone(), phys.to_bytes()?));
            }
        }
        let (data, old) = {
            let mut root = self.root.lock();
            for (range, bytes) in dnodes {
                let to = root.block.get_mut(range).filter(|to| to.len() == bytes.len());
                to.ok_or(Error::Damaged)?.copy_from_slice(&bytes);
            }
            let header = root.header;
            header.store(&mut root.block).map_err(|_| Error::Damaged)?;
            (Abd::copy_from(&root.block), root.bp)
        };
        let kind = ObjectPolicy {
            kind: DmuType::OBJSET,
            checksum: Checksum::Inherit,
            compress: Compression::Inherit,
        };
        let policy = policies.of(&kind, 0, fill);
        let prepared = self.storage().prepare(data, &policy)?;
        let bp = self.storage().issue(ctx, prepared, &old, Bookmark::root(self.id()))?;
        if old.is_hole() || old.dva(0) != bp.dva(0) {
            if !old.is_hole() {
                self.hooks.block_killed(ctx, &old)?;
            }
            self.hooks.block_born(ctx, &bp);
        }
        self.root.lock().bp = bp;
        Ok(bp)
    }
}

/// Writes changed data blocks; each comes with the index of its object.
fn write_data(objects: &mut [ObjectSync<'_>], blocks: Vec<(usize, Arc<Dbuf>)>) -> Result<()> {
    let Some(first) = objects.first() else { return Ok(()) };
    let is_clone = |dbuf: &Dbuf| dbuf.state.lock().clone_of(first.ctx.txg).is_some();
    let (clones, blocks): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(_, dbuf)| is_clone(dbuf));
    let (storage, txgs, txg) = (first.dnode.storage.clone(), first.objset.txgs().clone(), first.ctx.txg);
    let facts: Vec<(WritePolicy, Arc<Dnode>)> =
        objects.iter().map(|o| (o.policy(0, 1), o.dnode.clone())).collect();
    let jobs = blocks.into_iter().filter_map(|(index, dbuf)| {
        let mut state = dbuf.state.lock();
        // None: the change was freed in the same group, or the block stands on the list twice.
        let data = match state.content_of(txg)? {
            Content::Data(data) => data,
            Content::Hole | Content::Absent => {
                state.forget(txg);
                facts[index].1.discard_if_empty(&dbuf, state);
                return None;
            }
        };
        if bugs::nth(Bug::LostBlock, 40) {
            state.forget(txg);
            return None;
        }
        let ahead = state.take_ahead(txg);
        let packed = state.packed_of(txg);
        drop(state);
        let data = joined(data);
        let mut policy = facts[index].0;
        if policy.kind == DmuType::DNODE && facts[index].1.id() == ObjectId::META_DNODE {
            policy.fill = nr_dnodes(&data);
        }
        Some(Job { data, packed, policy, ahead, tag: (index, dbuf) })
    });
    pipeline::run(&storage, txgs.workers(), jobs, |(index, dbuf), data, prepared| {
        objects[index].write_data(&dbuf, data, prepared)
    })?;
    clones.into_iter().try_for_each(|(index, dbuf)| objects[index].write_clone(&dbuf))
}

/// Blocks in more pieces than this are joined when they are written: copying on write leaves them in pieces, and each
/// piece makes every later read of the block dearer.
const PIECES_MAX: usize = 16;

fn joined(data: Abd) -> Abd {
    if data.chunks().nth(PIECES_MAX).is_some() { data.joined() } else { data }
}

/// Allocated dnodes in a block of the dnode file.
fn nr_dnodes(block: &Abd) -> u64 {
    let bytes = block.to_contiguous();
    let is_used = |slot: &usize| bytes.get(*slot << DNODE_SHIFT).is_some_and(|kind| *kind != 0);
    starts(&bytes).filter(is_used).count() as u64
}
