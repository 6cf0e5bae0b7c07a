//! Which objects differ between two datasets or snapshots of one line, found by their dnode files' block pointers: what
//! both share is not read.
use crate::vdev::Priority;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::dnode::{self, DNODE_SIZE, DNODES_PER_BLOCK};
use ondisk::objset::METADNODE;
use ondisk::{BlkPtr, Bookmark, ObjectId};

/// Deepest tree of a dnode file.
const LEVELS_MAX: u8 = 10;

/// One side's dnode file.
struct Side {
    id: u64,
    top: Vec<BlkPtr>,
    levels: u8,
    entries_shift: u32,
}

/// The numbers of all objects whose dnodes differ.
///
/// # Errors
/// `Io`, `Checksum`, `Damaged`.
pub(crate) fn changed_objects(
    storage: &Storage,
    a: (u64, &BlkPtr),
    b: (u64, &BlkPtr),
) -> Result<BTreeSet<ObjectId>> {
    let (a, b) = (side(storage, a.0, a.1)?, side(storage, b.0, b.1)?);
    if a.entries_shift != b.entries_shift {
        return Err(Error::Unsupported);
    }
    let mut walk = Compare { storage, ids: [a.id, b.id], shift: a.entries_shift, changed: BTreeSet::new() };
    if a.levels == b.levels {
        for index in 0..a.top.len().max(b.top.len()) {
            let at = |side: &Side| side.top.get(index).copied().unwrap_or(BlkPtr::HOLE);
            walk.pair(&at(&a), &at(&b), a.levels - 1, index as u64)?;
        }
        return Ok(walk.changed);
    }
    // Trees of different height share no blocks above the lowest: compare these.
    let mut blocks = walk.leaves(&a, 0)?;
    blocks.extend(walk.leaves(&b, 1)?);
    for blkid in blocks {
        let pair = [walk.find(&a, blkid, 0)?, walk.find(&b, blkid, 1)?];
        walk.pair(&pair[0], &pair[1], 0, blkid)?;
    }
    Ok(walk.changed)
}

fn side(storage: &Storage, id: u64, root: &BlkPtr) -> Result<Side> {
    if root.is_hole() {
        return Err(Error::Invalid);
    }
    let block = storage.read_uncached(root, Bookmark::root(id), Priority::AsyncRead)?.to_vec();
    let bytes = block.get(METADNODE).ok_or(Error::Damaged)?;
    let dn = dnode::parse(bytes)?.filter(|dn| (1..=LEVELS_MAX).contains(&dn.levels)).ok_or(Error::Damaged)?;
    let top = (0..usize::from(dn.nr_blkptr)).map(|index| dn.blkptr(bytes, index));
    Ok(Side {
        id,
        top: top.collect::<core::result::Result<_, _>>()?,
        levels: dn.levels,
        entries_shift: dn.entries_shift(),
    })
}

struct Compare<'a> {
    storage: &'a Storage,
    ids: [u64; 2],
    shift: u32,
    changed: BTreeSet<ObjectId>,
}

impl Compare<'_> {
    fn read(&self, bp: &BlkPtr, level: u8, blkid: u64, side: usize) -> Result<Vec<u8>> {
        if bp.is_hole() {
            return Ok(Vec::new());
        }
        let bookmark = Bookmark::new(self.ids[side], ObjectId::META_DNODE, level.into(), blkid);
        Ok(self.storage.read_uncached(bp, bookmark, Priority::AsyncRead)?.to_vec())
    }

    fn pair(&mut self, a: &BlkPtr, b: &BlkPtr, level: u8, blkid: u64) -> Result<()> {
        if a == b || (a.is_hole() && b.is_hole()) {
            return Ok(());
        }
        let (a, b) = (self.read(a, level, blkid, 0)?, self.read(b, level, blkid, 1)?);
        if level == 0 {
            self.dnodes(&a, &b, blkid);
            return Ok(());
        }
        let count = a.len().max(b.len()) / BLKPTR_SIZE;
        let at = |bytes: &[u8], index: usize| match bytes.get(index * BLKPTR_SIZE..(index + 1) * BLKPTR_SIZE)
        {
            Some(raw) => BlkPtr::from_bytes(raw).map_err(Error::from),
            None => Ok(BlkPtr::HOLE),
        };
        for index in 0..count {
            let child = (blkid << self.shift).saturating_add(index as u64);
            self.pair(&at(&a, index)?, &at(&b, index)?, level - 1, child)?;
        }
        Ok(())
    }

    /// Notes slots that differ; of a dnode of several slots, its first.
    fn dnodes(&mut self, a: &[u8], b: &[u8], blkid: u64) {
        for bytes in [a, b] {
            let mut slot = 0;
            while slot < bytes.len() / DNODE_SIZE {
                let core = dnode::core(&bytes[slot * DNODE_SIZE..]).ok();
                let slots = core.map_or(1, |core| if core.is_free() { 1 } else { core.slots() });
                let range = slot * DNODE_SIZE..((slot + slots) * DNODE_SIZE).min(bytes.len());
                let is_same = match (a.get(range.clone()), b.get(range.clone())) {
                    (Some(a), Some(b)) => a == b,
                    _ => bytes[range].iter().all(|byte| *byte == 0),
                };
                if !is_same {
                    let id = blkid.saturating_mul(DNODES_PER_BLOCK as u64).saturating_add(slot as u64);
                    self.changed.insert(ObjectId(id));
                }
                slot += slots;
            }
        }
    }

    /// The blocks of level 0 that a side has.
    fn leaves(&self, of: &Side, side: usize) -> Result<BTreeSet<u64>> {
        let mut found = BTreeSet::new();
        let mut todo: Vec<(BlkPtr, u8, u64)> =
            of.top.iter().enumerate().map(|(index, bp)| (*bp, of.levels - 1, index as u64)).collect();
        while let Some((bp, level, blkid)) = todo.pop() {
            if bp.is_hole() {
                continue;
            }
            if level == 0 {
                found.insert(blkid);
                continue;
            }
            for (index, raw) in self.read(&bp, level, blkid, side)?.chunks_exact(BLKPTR_SIZE).enumerate() {
                let child = (blkid << self.shift).saturating_add(index as u64);
                todo.push((BlkPtr::from_bytes(raw)?, level - 1, child));
            }
        }
        Ok(found)
    }

    /// A side's block of level 0.
    fn find(&self, of: &Side, blkid: u64, side: usize) -> Result<BlkPtr> {
        let above = |level: u8| {
            let shift = u32::from(level) * self.shift;
            if shift >= 64 { 0 } else { blkid >> shift }
        };
        let mut level = of.levels - 1;
        let index = usize::try_from(above(level)).unwrap_or(usize::MAX);
        let mut bp = of.top.get(index).copied().unwrap_or(BlkPtr::HOLE);
        while level > 0 && !bp.is_hole() {
            let bytes = self.read(&bp, level, above(level), side)?;
            level -= 1;
            let index = (above(level) & ((1 << self.shift) - 1)) as usize;
            let raw = bytes.get(index * BLKPTR_SIZE..(index + 1) * BLKPTR_SIZE).ok_or(Error::Damaged)?;
            bp = BlkPtr::from_bytes(raw)?;
        }
        Ok(bp)
    }
}
