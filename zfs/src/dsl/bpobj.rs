//! Lists of block pointers kept in objects: dead lists' buckets, deferred frees, what destroyed snapshots leave.
//!
//! A bpobj's data is an array of block pointers, its bonus their count and sums; it may name sub-objects, which are
//! bpobjs too. Entries keep neither checksum nor fill: nothing reads through them, they only free.
use crate::dmu::{DmuTx, NewObject};
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::vec;
use alloc::vec::Vec;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::bpobj::{BPOBJ_SIZE_V2, BPOBJ_SIZE_V3, BpobjPhys};
use ondisk::feature::Feature;
use ondisk::{BlkPtr, DmuType, ObjectId};
use zerocopy::IntoBytes;

/// Data block size of new ones.
const BLOCK_SIZE: u32 = 128 << 10;
/// Block pointers read at a time.
pub(crate) const CHUNK: u64 = 1024;
/// Most sub-objects followed below one list: more is damage (a loop), not use.
const SUBOBJS_MAX: usize = 1 << 20;

/// Allocated, physical and logical bytes of blocks, as space accounting counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) used: u64,
    pub(crate) compressed: u64,
    pub(crate) uncompressed: u64,
}

impl Sums {
    /// What one block counts. Holes count nothing; embedded blocks have a logical size only.
    pub(crate) fn of(storage: &Storage, bp: &BlkPtr) -> Self {
        if bp.is_hole() {
            return Self::default();
        }
        let psize = if bp.is_embedded() { 0 } else { u64::from(bp.psize()) };
        let is_metadata = bp.level() > 0 || bp.dmu_type().is_metadata();
        let uncompressed = if is_metadata { psize } else { u64::from(bp.lsize()) };
        Self { used: storage.deflated(bp), compressed: psize, uncompressed }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.used = self.used.wrapping_add(other.used);
        self.compressed = self.compressed.wrapping_add(other.compressed);
        self.uncompressed = self.uncompressed.wrapping_add(other.uncompressed);
    }

    /// What takes these away again when added.
    pub(crate) fn negated(&self) -> Self {
        Self {
            used: self.used.wrapping_neg(),
            compressed: self.compressed.wrapping_neg(),
            uncompressed: self.uncompressed.wrapping_neg(),
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// What an entry says of its block. Only live lists have others than the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is listed.
    Alloc,
    /// An earlier entry counts no longer.
    Free,
}

/// Makes an empty one, with room for the number of FREE marks where the pool has live lists.
pub(crate) fn create(mos: &Mos, tx: &DmuTx) -> Result<ObjectId> {
    let has_marks = features::is_active(mos, Feature::Livelist)?;
    let bonus = if has_marks { BPOBJ_SIZE_V3 } else { BPOBJ_SIZE_V2 };
    mos.allocate(tx, &NewObject::new(DmuType::BPOBJ, BLOCK_SIZE).with_bonus(DmuType::BPOBJ_HDR, bonus as u16))
}

/// Count and sums.
pub(crate) fn header(mos: &Mos, id: ObjectId) -> Result<BpobjPhys> {
    mos.bonus_of(id, DmuType::BPOBJ_HDR, |bytes| Ok(BpobjPhys::parse(bytes)?))
}

/// What all entries sum up to, those of sub-objects included.
pub(crate) fn sums(mos: &Mos, id: ObjectId) -> Result<Sums> {
    let header = header(mos, id)?;
    Ok(Sums { used: header.bytes, compressed: header.comp, uncompressed: header.uncomp })
}

/// Appends entries.
pub(crate) fn enqueue(mos: &Mos, tx: &DmuTx, id: ObjectId, bps: &[BlkPtr], mark: Mark) -> Result<()> {
    if bps.is_empty() {
        return Ok(());
    }
    let mut header = header(mos, id)?;
    let (mut bytes, mut sums) = (Vec::with_capacity(bps.len() * BLKPTR_SIZE), Sums::default());
    for bp in bps {
        bytes.extend_from_slice(&stripped(bp, mark));
        sums.add(Sums::of(mos.storage(), bp));
    }
    if mark == Mark::Free {
        sums = sums.negated();
        header.num_freed = header.num_freed.saturating_add(bps.len() as u64);
    }
    add_sums(&mut header, sums);
    let at = header.num_blkptrs.checked_mul(BLKPTR_SIZE as u64).ok_or(Error::Damaged)?;
    mos.write(tx, id, at, &bytes)?;
    header.num_blkptrs = header.num_blkptrs.saturating_add(bps.len() as u64);
    set_header(mos, tx, id, &header)
}

pub(crate) fn add_sums(header: &mut BpobjPhys, sums: Sums) {
    header.bytes = header.bytes.wrapping_add(sums.used);
    header.comp = header.comp.wrapping_add(sums.compressed);
    header.uncomp = header.uncomp.wrapping_add(sums.uncompressed);
}

pub(crate) fn set_header(mos: &Mos, tx: &DmuTx, id: ObjectId, header: &BpobjPhys) -> Result<()> {
    let raw = header.to_raw();
    mos.modify_bonus(tx, id, |bonus| {
        let len = bonus.len().min(size_of_val(&raw));
        bonus[..len].copy_from_slice(&raw.as_bytes()[..len]);
        Ok(())
    })
}

/// Where an entry keeps its mark: the lowest bit of what is the fill count elsewhere.
const FILL: usize = 11 * 8;

/// The entry for a block: without the words that only readers need, so that the list compresses.
fn stripped(bp: &BlkPtr, mark: Mark) -> [u8; BLKPTR_SIZE] {
    const PROP: usize = 6 * 8;
    const BIRTH: usize = 10 * 8;
    const DIGEST: usize = 12 * 8;
    let mut bytes = bp.to_bytes();
    if bp.is_embedded() {
        let full = bytes;
        bytes = [0; BLKPTR_SIZE];
        bytes[PROP..PROP + 8].copy_from_slice(&full[PROP..PROP + 8]);
        bytes[BIRTH..BIRTH + 8].copy_from_slice(&full[BIRTH..BIRTH + 8]);
    } else if !bp.is_dedup() {
        bytes[DIGEST..].fill(0);
    }
    bytes[FILL..FILL + 8].fill(0);
    bytes[FILL] = u8::from(mark == Mark::Free);
    bytes
}

/// An entry as it lies in the list.
pub(crate) fn parse_entry(bytes: &[u8]) -> Result<(BlkPtr, Mark)> {
    let bp = BlkPtr::from_bytes(bytes)?;
    // No list holds holes. One whose header promises more than there is must not be read to its end.
    if bp == BlkPtr::HOLE {
        return Err(Error::Damaged);
    }
    Ok((bp, if bytes[FILL] & 1 == 0 { Mark::Alloc } else { Mark::Free }))
}

/// Calls `f` with every entry, those of sub-objects included.
///
/// # Errors
/// `Damaged`, reading's, or what `f` returns.
pub(crate) fn for_each(mos: &Mos, id: ObjectId, f: &mut dyn FnMut(&BlkPtr) -> Result<()>) -> Result<()> {
    for_each_object(mos, id, &mut |object, header| entries(mos, object, header, f))
}

/// Calls `f` with the list's object and those of its sub-objects, and their headers.
///
/// # Errors
/// As [`for_each`].
pub(crate) fn for_each_object(
    mos: &Mos,
    id: ObjectId,
    f: &mut dyn FnMut(ObjectId, &BpobjPhys) -> Result<()>,
) -> Result<()> {
    let mut todo = vec![id];
    let mut nr_done = 0;
    while let Some(object) = todo.pop() {
        nr_done += 1;
        if nr_done > SUBOBJS_MAX {
            return Err(Error::Damaged);
        }
        let header = header(mos, object)?;
        f(object, &header)?;
        if !header.subobjs.is_none() {
            let nr = usize::try_from(header.num_subobjs).map_err(|_| Error::Damaged)?;
            if nr > SUBOBJS_MAX - todo.len().min(SUBOBJS_MAX) {
                return Err(Error::Damaged);
            }
            let ids = mos.read(header.subobjs, 0, nr * 8)?;
            todo.extend(ids.as_chunks::<8>().0.iter().map(|b| ObjectId(u64::from_le_bytes(*b))));
        }
    }
    Ok(())
}

fn entries(
    mos: &Mos,
    id: ObjectId,
    header: &BpobjPhys,
    f: &mut dyn FnMut(&BlkPtr) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    while at < header.num_blkptrs {
        let n = CHUNK.min(header.num_blkptrs - at);
        let offset = at.checked_mul(BLKPTR_SIZE as u64).ok_or(Error::Damaged)?;
        let bytes = mos.read(id, offset, n as usize * BLKPTR_SIZE)?;
        for chunk in bytes.chunks_exact(BLKPTR_SIZE) {
            f(&parse_entry(chunk)?.0)?;
        }
        at += n;
    }
    Ok(())
}

/// Entries (and sub-objects) up to which a list is copied into another rather than made its sub-object: chains of tiny
/// lists would cost an object each.
pub(crate) const COPIED_MAX: u64 = 1024;

/// Makes all of `other` part of `into`; `other` is no list of its own any more.
///
/// # Errors
/// `Damaged`, writing's.
pub(crate) fn absorb(mos: &Mos, tx: &DmuTx, into: ObjectId, other: ObjectId) -> Result<()> {
    let (mut to, from) = (header(mos, into)?, header(mos, other)?);
    to.bytes = to.bytes.wrapping_add(from.bytes);
    to.comp = to.comp.wrapping_add(from.comp);
    to.uncomp = to.uncomp.wrapping_add(from.uncomp);
    to.num_freed = to.num_freed.saturating_add(from.num_freed);
    if from.num_blkptrs > COPIED_MAX || from.num_subobjs > COPIED_MAX {
        add_sub_objects(mos, tx, into, &mut to, &other.0.to_le_bytes())?;
        return set_header(mos, tx, into, &to);
    }
    if from.num_blkptrs > 0 {
        let bytes = mos.read(other, 0, from.num_blkptrs as usize * BLKPTR_SIZE)?;
        let at = to.num_blkptrs.checked_mul(BLKPTR_SIZE as u64).ok_or(Error::Damaged)?;
        mos.write(tx, into, at, &bytes)?;
        to.num_blkptrs = to.num_blkptrs.saturating_add(from.num_blkptrs);
    }
    if !from.subobjs.is_none() {
        let ids = mos.read(from.subobjs, 0, from.num_subobjs as usize * 8)?;
        if !ids.is_empty() {
            add_sub_objects(mos, tx, into, &mut to, &ids)?;
        }
        mos.free(tx, from.subobjs)?;
    }
    mos.free(tx, other)?;
    set_header(mos, tx, into, &to)
}

/// Appends object numbers to a list's sub-objects.
fn add_sub_objects(mos: &Mos, tx: &DmuTx, id: ObjectId, header: &mut BpobjPhys, ids: &[u8]) -> Result<()> {
    if usize::from(mos.hold(id)?.bonus_len()) < BPOBJ_SIZE_V2 {
        return Err(Error::Unsupported);
    }
    if header.subobjs.is_none() {
        header.subobjs = mos.allocate(tx, &NewObject::new(DmuType::BPOBJ_SUBOBJ, BLOCK_SIZE))?;
        header.num_subobjs = 0;
    }
    let at = header.num_subobjs.checked_mul(8).ok_or(Error::Damaged)?;
    mos.write(tx, header.subobjs, at, ids)?;
    header.num_subobjs = header.num_subobjs.saturating_add(ids.len() as u64 / 8);
    Ok(())
}

/// Takes entries out of a list, from the end, as many as `budget` says (which is counted down), and calls `f` with
/// each. What was taken is gone from the list whatever `f` answers.
///
/// # Errors
/// `Damaged`, reading's and writing's, or what `f` returns.
pub(crate) fn consume(
    mos: &Mos,
    tx: &DmuTx,
    id: ObjectId,
    budget: &mut u64,
    f: &mut dyn FnMut(&BlkPtr) -> Result<()>,
) -> Result<()> {
    // From the list down to the sub-object being emptied: all of them count its entries in their sums.
    let mut path = vec![id];
    while let Some(at) = path.last().copied() {
        let mut own = header(mos, at)?;
        if own.num_blkptrs > 0 {
            let n = CHUNK.min(own.num_blkptrs).min(*budget);
            if n == 0 {
                return Ok(());
            }
            *budget -= n;
            let taken = take_last(mos, tx, at, own.num_blkptrs, n, f)?;
            for list in &path {
                let mut header = header(mos, *list)?;
                header.bytes = header.bytes.saturating_sub(taken.used);
                header.comp = header.comp.saturating_sub(taken.compressed);
                header.uncomp = header.uncomp.saturating_sub(taken.uncompressed);
                header.num_blkptrs -= if *list == at { n } else { 0 };
                set_header(mos, tx, *list, &header)?;
            }
        } else if own.num_subobjs > 0 {
            if path.len() > SUBOBJS_MAX {
                return Err(Error::Damaged);
            }
            let offset = (own.num_subobjs - 1).checked_mul(8).ok_or(Error::Damaged)?;
            let last = mos.read(own.subobjs, offset, 8)?;
            path.push(ObjectId(u64::from_le_bytes(last.try_into().map_err(|_| Error::Damaged)?)));
        } else {
            if !own.subobjs.is_none() {
                mos.free(tx, own.subobjs)?;
                own.subobjs = ObjectId(0);
                set_header(mos, tx, at, &own)?;
            }
            path.pop();
            if let Some(above) = path.last().copied() {
                mos.free(tx, at)?;
                let mut header = header(mos, above)?;
                header.num_subobjs = header.num_subobjs.saturating_sub(1);
                set_header(mos, tx, above, &header)?;
            }
        }
    }
    Ok(())
}

/// Reads the last `n` of `total` entries and cuts them off; the caller changes the header.
fn take_last(
    mos: &Mos,
    tx: &DmuTx,
    id: ObjectId,
    total: u64,
    n: u64,
    f: &mut dyn FnMut(&BlkPtr) -> Result<()>,
) -> Result<Sums> {
    let at = (total - n).checked_mul(BLKPTR_SIZE as u64).ok_or(Error::Damaged)?;
    let bytes = mos.read(id, at, n as usize * BLKPTR_SIZE)?;
    let mut sums = Sums::default();
    for chunk in bytes.chunks_exact(BLKPTR_SIZE) {
        let bp = BlkPtr::from_bytes(chunk)?;
        sums.add(Sums::of(mos.storage(), &bp));
        f(&bp)?;
    }
    mos.hold(id)?.free_range(tx, at, u64::MAX - at)?;
    Ok(sums)
}

/// Holds neither entries nor sub-objects.
pub(crate) fn is_empty(mos: &Mos, id: ObjectId) -> Result<bool> {
    let header = header(mos, id)?;
    Ok(header.num_blkptrs == 0 && header.num_subobjs == 0)
}

/// Empties a list that has no sub-objects.
///
/// # Errors
/// Writing's.
pub(crate) fn clear(mos: &Mos, tx: &DmuTx, id: ObjectId) -> Result<()> {
    mos.free_content(tx, id)?;
    set_header(mos, tx, id, &BpobjPhys::default())
}

/// Frees a list and what it owns; its entries are simply forgotten.
///
/// # Errors
/// Writing's.
pub(crate) fn free(mos: &Mos, tx: &DmuTx, id: ObjectId) -> Result<()> {
    let mut objects = Vec::new();
    for_each_object(mos, id, &mut |object, header| {
        objects.push(object);
        if !header.subobjs.is_none() {
            objects.push(header.subobjs);
        }
        Ok(())
    })?;
    objects.into_iter().try_for_each(|object| mos.free(tx, object))
}
