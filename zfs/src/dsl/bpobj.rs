//! Lists of block pointers kept in objects: dead lists' buckets, deferred frees, what destroyed snapshots leave.
//!
//! A bpobj's data is an array of block pointers, its bonus their count and sums; it may name sub-objects, which are
//! bpobjs too. Entries keep neither checksum nor fill: nothing reads through them, they only free.
use crate::dmu::{DmuTx, NewObject};
use crate::spa::mos::Mos;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::vec;
use alloc::vec::Vec;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::bpobj::{BPOBJ_SIZE_V2, BpobjPhys};
use ondisk::{BlkPtr, DmuType, ObjectId};
use zerocopy::IntoBytes;

/// Data block size of new ones.
const BLOCK_SIZE: u32 = 128 << 10;
/// Block pointers read at a time.
const CHUNK: u64 = 1024;
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
        Self { used: deflated(storage, bp), compressed: psize, uncompressed }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.used = self.used.wrapping_add(other.used);
        self.compressed = self.compressed.wrapping_add(other.compressed);
        self.uncompressed = self.uncompressed.wrapping_add(other.uncompressed);
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// What a block's copies are charged: raidz parity does not count, as if every block were as large as most are. For other
/// vdevs that is what is allocated.
pub(crate) fn deflated(storage: &Storage, bp: &BlkPtr) -> u64 {
    const TYPICAL: u64 = 1 << 17;
    bp.dvas()
        .map(|dva| match storage.vdevs().get(dva.vdev as usize) {
            Some(vdev) => (dva.asize >> 9) * (TYPICAL / (vdev.asize_of(TYPICAL) >> 9).max(1)),
            None => 0,
        })
        .sum()
}

/// Makes an empty one.
pub(crate) fn create(mos: &Mos, tx: &DmuTx) -> Result<ObjectId> {
    let id = mos.allocate(
        tx,
        &NewObject::new(DmuType::BPOBJ, BLOCK_SIZE).with_bonus(DmuType::BPOBJ_HDR, BPOBJ_SIZE_V2 as u16),
    )?;
    Ok(id)
}

/// Count and sums.
pub(crate) fn header(mos: &Mos, id: ObjectId) -> Result<BpobjPhys> {
    mos.bonus_of(id, DmuType::BPOBJ_HDR, |bytes| Ok(BpobjPhys::parse(bytes)?))
}

/// Appends entries.
pub(crate) fn enqueue(mos: &Mos, tx: &DmuTx, id: ObjectId, bps: &[BlkPtr]) -> Result<()> {
    if bps.is_empty() {
        return Ok(());
    }
    let mut header = header(mos, id)?;
    let mut bytes = Vec::with_capacity(bps.len() * BLKPTR_SIZE);
    for bp in bps {
        bytes.extend_from_slice(&stripped(bp));
        let sums = Sums::of(mos.storage(), bp);
        header.bytes = header.bytes.wrapping_add(sums.used);
        header.comp = header.comp.wrapping_add(sums.compressed);
        header.uncomp = header.uncomp.wrapping_add(sums.uncompressed);
    }
    let at = header.num_blkptrs.checked_mul(BLKPTR_SIZE as u64).ok_or(Error::Damaged)?;
    mos.write(tx, id, at, &bytes)?;
    header.num_blkptrs = header.num_blkptrs.saturating_add(bps.len() as u64);
    set_header(mos, tx, id, &header)
}

fn set_header(mos: &Mos, tx: &DmuTx, id: ObjectId, header: &BpobjPhys) -> Result<()> {
    let raw = header.to_raw();
    mos.modify_bonus(tx, id, |bonus| {
        let len = bonus.len().min(size_of_val(&raw));
        bonus[..len].copy_from_slice(&raw.as_bytes()[..len]);
        Ok(())
    })
}

/// The entry for a block: without the words that only readers need, so that the list compresses.
fn stripped(bp: &BlkPtr) -> [u8; BLKPTR_SIZE] {
    const PROP: usize = 6 * 8;
    const BIRTH: usize = 10 * 8;
    const FILL: usize = 11 * 8;
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
    bytes
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
            let bp = BlkPtr::from_bytes(chunk)?;
            // No list holds holes. One whose header promises more than there is must not be read to its end.
            if bp == BlkPtr::HOLE {
                return Err(Error::Damaged);
            }
            f(&bp)?;
        }
        at += n;
    }
    Ok(())
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
