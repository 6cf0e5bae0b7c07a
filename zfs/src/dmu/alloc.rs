//! Numbers for new objects, and the way from object to object.
//!
//! Each CPU takes numbers from a chunk of its own. A chunk is, in this order of preference: a block of the dnode file
//! in which an object was freed (known once the free is on disk), the next block with free slots that a slow scan of
//! the old part of the dnode file comes across, or fresh numbers at the end. The scan looks at a bounded number of
//! pointers for each chunk and passes each block once, so allocation costs the same however many objects there are.
//!
//! Two CPUs may end up in the same block: the dnode table, which takes all slots of a dnode in one step, decides.
//! A number that was freed is not used again before its group is on disk: until then the dnode file says it is taken,
//! and after a crash it would be.
use super::config::NewObject;
use super::dnode::Dnode;
use super::objset::{Objset, starts};
use super::phys::{self, Phys};
use super::seek::Seek;
use super::table::Inserted;
use super::tx::DmuTx;
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::Ordering;
use ondisk::dnode::{DNODE_SHIFT, DNODES_PER_BLOCK, OBJECT_SHIFT};
use ondisk::{DmuType, ObjectId};
use rt::Mutex;

const SLOTS: u64 = DNODES_PER_BLOCK as u64;
/// Fresh numbers taken at once.
const CHUNK: u64 = 4 * SLOTS;
/// Pointers the scan looks at for each chunk.
const SCAN_STEP: usize = 64;

#[derive(Clone, Copy, Default)]
struct Chunk {
    next: u64,
    end: u64,
}

struct Sources {
    /// First number of the next fresh chunk.
    tail: u64,
    /// Blocks in which something was freed.
    recycled: BTreeSet<u64>,
    /// Next block the scan looks at, and where it ends.
    scan: u64,
    scan_end: u64,
}

pub(super) struct ObjectAllocator {
    cpus: Box<[Mutex<Chunk, 640>]>,
    sources: Mutex<Sources, 645>,
}

impl ObjectAllocator {
    /// `first_free`: the first block beyond the dnode file.
    pub(super) fn new(first_free: u64) -> Self {
        let tail = (first_free * SLOTS).next_multiple_of(CHUNK);
        let sources = Sources { tail, recycled: BTreeSet::new(), scan: 0, scan_end: first_free };
        Self { cpus: (0..rt::nr_cpus()).map(|_| Mutex::default()).collect(), sources: Mutex::new(sources) }
    }

    /// A free of an object in that block of the dnode file is on disk.
    pub(super) fn recycle(&self, blkid: u64) {
        self.sources.lock().recycled.insert(blkid);
    }

    fn next_chunk(&self, objset: &Objset) -> Result<Chunk> {
        let block = |blkid: u64| Chunk { next: blkid * SLOTS, end: (blkid + 1) * SLOTS };
        let mut sources = self.sources.lock();
        if let Some(blkid) = sources.recycled.pop_first() {
            return Ok(block(blkid));
        }
        for _ in 0..SCAN_STEP {
            if sources.scan >= sources.scan_end {
                break;
            }
            let blkid = sources.scan;
            sources.scan += 1;
            let bp = objset.metadnode.pointer(0, blkid)?;
            if bp.is_hole() || bp.fill() < SLOTS {
                return Ok(block(blkid));
            }
        }
        if sources.tail >> OBJECT_SHIFT != 0 {
            return Err(Error::NoSpace);
        }
        let next = sources.tail;
        sources.tail += CHUNK;
        Ok(Chunk { next, end: next + CHUNK })
    }
}

impl fmt::Debug for ObjectAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectAllocator")
    }
}

/// See [`Objset::allocate`].
pub(super) fn allocate(objset: &Objset, tx: &DmuTx, new: &NewObject) -> Result<Arc<Dnode>> {
    let core = phys::new_core(new)?;
    let slots = u64::from(core.slots);
    let cpus = &objset.allocator.cpus;
    // One chunk for all where the same input must give the same numbers.
    let cpu = if objset.txgs().config().is_deterministic { 0 } else { rt::cpu_id() % cpus.len() };
    let mut chunk = cpus[cpu].lock();
    loop {
        while chunk.next < chunk.end {
            let room = SLOTS - chunk.next % SLOTS;
            // Object 0 is the dnode file itself.
            if chunk.next == 0 || room < slots {
                chunk.next += if chunk.next == 0 { 1 } else { room };
                continue;
            }
            let id = ObjectId(chunk.next);
            if let Some(dnode) = try_claim(objset, id, new)? {
                chunk.next += slots;
                drop(chunk);
                return start(objset, tx, dnode);
            }
            chunk.next += 1;
        }
        *chunk = objset.allocator.next_chunk(objset)?;
    }
}

/// See [`Objset::claim`].
pub(super) fn claim(objset: &Objset, tx: &DmuTx, id: ObjectId, new: &NewObject) -> Result<Arc<Dnode>> {
    let core = phys::new_core(new)?;
    if id.is_none() || id.0 >> OBJECT_SHIFT != 0 || id.0 % SLOTS + u64::from(core.slots) > SLOTS {
        return Err(Error::Invalid);
    }
    let dnode = try_claim(objset, id, new)?.ok_or(Error::Exists)?;
    start(objset, tx, dnode)
}

/// Takes the slots of a new object; `None` when one of them is in use.
fn try_claim(objset: &Objset, id: ObjectId, new: &NewObject) -> Result<Option<Arc<Dnode>>> {
    let core = phys::new_core(new)?;
    loop {
        let nr_evicted = objset.table.nr_evicted(id);
        if !is_free_on_disk(objset, id, core.slots)? {
            return Ok(None);
        }
        let dnode = objset.new_dnode(id, Phys::unborn(core));
        dnode.start_bonus(new);
        match objset.table.insert_new(&dnode, core.slots, nr_evicted) {
            Inserted::Added => return Ok(Some(dnode)),
            Inserted::Taken => return Ok(None),
            Inserted::LookAgain => {}
        }
    }
}

fn is_free_on_disk(objset: &Objset, id: ObjectId, slots: u8) -> Result<bool> {
    let (blkid, first) = (id.0 / SLOTS, (id.0 % SLOTS) as usize);
    if blkid > objset.metadnode.max_blkid() {
        return Ok(true);
    }
    let block = objset.metadnode.block(blkid)?;
    let bytes = block.to_contiguous();
    let is_free = |slot: usize| {
        let core = bytes.get(slot << DNODE_SHIFT..).and_then(|b| ondisk::dnode::core(b).ok());
        core.is_none_or(ondisk::dnode::RawDnodeCore::is_free)
    };
    let wanted = first..first + usize::from(slots);
    Ok(starts(&bytes).filter(|s| wanted.contains(s) && is_free(*s)).count() == usize::from(slots))
}

fn start(objset: &Objset, tx: &DmuTx, dnode: Arc<Dnode>) -> Result<Arc<Dnode>> {
    objset.unborn.lock().insert(dnode.id().0);
    dnode.mark_dirty(tx)?;
    Ok(dnode)
}

/// See [`Objset::free`].
pub(super) fn free(objset: &Objset, tx: &DmuTx, id: ObjectId) -> Result<()> {
    if id.is_none() || id.0 >> OBJECT_SHIFT != 0 {
        return Err(Error::Invalid);
    }
    let dnode = objset.hold(id)?;
    dnode.free_range(tx, 0, u64::MAX)?;
    dnode.set_spill(tx, None)?;
    dnode.change_open(tx, |open| {
        open.is_free = true;
        dnode.is_freed.store(true, Ordering::Release);
        Ok(())
    })?;
    objset.unborn.lock().remove(&id.0);
    Ok(())
}

/// See [`Objset::next_object`].
pub(super) fn next_object(objset: &Objset, after: ObjectId) -> Result<Option<ObjectId>> {
    let first = after.0.saturating_add(1);
    let unborn = objset.unborn.lock().range(first..).next().copied();
    let on_disk = next_on_disk(objset, first, unborn.unwrap_or(u64::MAX))?;
    Ok([unborn, on_disk].into_iter().flatten().min().map(ObjectId))
}

/// The first object from `from` on, below `end`, that is in the dnode file and not freed since.
fn next_on_disk(objset: &Objset, from: u64, end: u64) -> Result<Option<u64>> {
    let mut next = from;
    while next < end {
        let Some(offset) = objset.metadnode.next_offset(next << DNODE_SHIFT, Seek::Data)? else {
            return Ok(None);
        };
        let blkid = (offset >> DNODE_SHIFT) / SLOTS;
        let block = objset.metadnode.block(blkid)?;
        let bytes = block.to_contiguous();
        for slot in starts(&bytes) {
            let id = blkid * SLOTS + slot as u64;
            let kind = bytes.get(slot << DNODE_SHIFT).copied().unwrap_or(0);
            let is_object = id >= next && id > 0 && DmuType(kind) != DmuType::NONE;
            if is_object && !objset.table.peek(ObjectId(id)).is_some_and(|d| d.is_free()) {
                return Ok((id < end).then_some(id));
            }
        }
        next = (blkid + 1) * SLOTS;
    }
    Ok(None)
}
