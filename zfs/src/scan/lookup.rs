//! Finding one block of an object set by its bookmark, from disk.
use crate::vdev::Priority;
use crate::zio::Storage;
use alloc::vec::Vec;
use ondisk::blkptr::{BLKPTR_SHIFT, BLKPTR_SIZE};
use ondisk::dnode::{self, DNODE_SIZE, DNODES_PER_BLOCK};
use ondisk::objset::{METADNODE, RawObjset};
use ondisk::{BlkPtr, Bookmark, ObjectId, Txg};

/// When the block at that place of the object set below `root` was born: as [`block_at`].
pub(super) fn birth_of(storage: &Storage, root: &BlkPtr, bookmark: &Bookmark) -> Option<Option<Txg>> {
    Some(block_at(storage, root, bookmark)?.map(|bp| bp.birth()))
}

/// The block at that place of the object set below `root`: `Some(None)` when there is none, `None` when that cannot be
/// found out (what leads there is itself lost).
pub(super) fn block_at(storage: &Storage, root: &BlkPtr, bookmark: &Bookmark) -> Option<Option<BlkPtr>> {
    if bookmark.level < 0 {
        return Some((!root.is_hole()).then_some(*root));
    }
    if root.is_hole() {
        return Some(None);
    }
    let bytes = read(storage, root, Bookmark::root(bookmark.objset))?;
    RawObjset::of(&bytes).and_then(RawObjset::parse).ok()?;
    let meta = bytes.get(METADNODE)?;
    if bookmark.object == ObjectId::META_DNODE {
        return find(storage, meta, bookmark);
    }
    let per_block = DNODES_PER_BLOCK as u64;
    let blkid = bookmark.object.0 / per_block;
    let place = Bookmark { object: ObjectId::META_DNODE, level: 0, blkid, ..*bookmark };
    let Some(bp) = find(storage, meta, &place)? else { return Some(None) };
    let block = read(storage, &bp, place)?;
    let dnode = block.get((bookmark.object.0 % per_block) as usize * DNODE_SIZE..)?;
    find(storage, dnode, bookmark)
}

/// The block pointer at a place below a dnode; `Some(None)` for a hole.
fn find(storage: &Storage, bytes: &[u8], bookmark: &Bookmark) -> Option<Option<BlkPtr>> {
    let Some(dn) = dnode::parse(bytes).ok()? else { return Some(None) };
    if bookmark.blkid == Bookmark::SPILL_BLKID {
        return dn.spill(bytes).ok();
    }
    let level = u8::try_from(bookmark.level).ok()?;
    let bits = u32::from(dn.indirect_shift) - BLKPTR_SHIFT;
    let mut at = dn.levels - 1;
    if level > at {
        return Some(None);
    }
    let index_at = |at: u8| bookmark.blkid.checked_shr(bits * u32::from(at - level)).unwrap_or(0);
    let first = index_at(at);
    if first >= u64::from(dn.nr_blkptr) {
        return Some(None);
    }
    let mut bp = dn.blkptr(bytes, first as usize).ok()?;
    while at > level {
        if bp.is_hole() {
            return Some(None);
        }
        let place = Bookmark { level: at.into(), blkid: index_at(at), ..*bookmark };
        let block = read(storage, &bp, place)?;
        at -= 1;
        let slot = (index_at(at) & ((1 << bits) - 1)) as usize;
        bp = BlkPtr::from_bytes(block.get(slot * BLKPTR_SIZE..(slot + 1) * BLKPTR_SIZE)?).ok()?;
    }
    Some((!bp.is_hole()).then_some(bp))
}

fn read(storage: &Storage, bp: &BlkPtr, bookmark: Bookmark) -> Option<Vec<u8>> {
    Some(storage.read(bp, bookmark, Priority::SyncRead).ok()?.abd().to_vec())
}
