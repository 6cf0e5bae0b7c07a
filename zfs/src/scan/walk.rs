//! A walk of one object set's blocks on disk that can stop before any data block and go on there later.
//!
//! What it is not: it sees nothing dirty. The order is that of [`super::place`]; blocks above the place where it goes on
//! are met again each time. Siblings that must be read to go below them are read together.
use super::place::Place;
use crate::Error;
use crate::vdev::Priority;
use crate::zio::Storage;
use alloc::vec::Vec;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::dnode::{self, DNODE_SIZE};
use ondisk::objset::{
    GROUPUSED_DNODE, METADNODE, OBJSET_SIZE_V2, OBJSET_SIZE_V3, PROJECTUSED_DNODE, RawObjset, USERUSED_DNODE,
};
use ondisk::zil::ZilHeader;
use ondisk::{BlkPtr, Bookmark, DmuType, ObjectId, Txg};

/// Siblings read at once.
const AHEAD: usize = 16;

/// Who is told of the blocks.
pub(super) trait Visitor {
    /// Before a block of data or of dnodes: false stops the walk here.
    fn goes_on(&mut self, bookmark: Bookmark) -> bool;

    /// A block with a place on disk.
    fn block(&mut self, bp: &BlkPtr, bookmark: Bookmark);

    /// The object set's intent log.
    fn zil(&mut self, header: &ZilHeader);

    /// What hangs below a block cannot be walked.
    fn lost(&mut self, bp: &BlkPtr, bookmark: Bookmark, error: Error);
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is left.
    Whole,
    /// Stopped before this block.
    At(Bookmark),
}

/// A walk of one object set.
pub(super) struct Walk<'a> {
    pub(super) storage: &'a Storage,
    /// The `objset` of bookmarks.
    pub(super) objset: u64,
    /// Blocks born at or before this are neither met nor walked below.
    pub(super) after: Txg,
    /// Where to go on.
    pub(super) from: Place,
    pub(super) visitor: &'a mut dyn Visitor,
}

/// The error unwinds the recursion: the block it stopped before.
type Flow = Result<(), Bookmark>;

/// What is constant below one dnode.
#[derive(Clone, Copy)]
struct Tree {
    id: ObjectId,
    indirect_shift: u8,
    /// Accounting objects lie outside the order: they are walked in one go, after everything else.
    is_ordered: bool,
    is_dnodes: bool,
}

impl Walk<'_> {
    /// Walks from an object set's root block.
    pub(super) fn run(mut self, root: &BlkPtr) -> End {
        match self.objset(root) {
            Ok(()) => End::Whole,
            Err(bookmark) => End::At(bookmark),
        }
    }

    fn objset(&mut self, root: &BlkPtr) -> Flow {
        let bookmark = Bookmark::root(self.objset);
        if root.is_hole() || root.birth() <= self.after {
            return Ok(());
        }
        self.met(root, bookmark);
        let Some(bytes) = self.read(root, bookmark) else { return Ok(()) };
        match RawObjset::of(&bytes).and_then(RawObjset::parse) {
            Ok(header) if self.from == Place::START => self.visitor.zil(&header.zil),
            Ok(_) => {}
            Err(_) => {
                self.visitor.lost(root, bookmark, Error::Damaged);
                return Ok(());
            }
        }
        let mut dnodes = alloc::vec![(ObjectId::META_DNODE, METADNODE)];
        if bytes.len() >= OBJSET_SIZE_V2 {
            dnodes.push((ObjectId::USERUSED, USERUSED_DNODE));
            dnodes.push((ObjectId::GROUPUSED, GROUPUSED_DNODE));
        }
        if bytes.len() >= OBJSET_SIZE_V3 {
            dnodes.push((ObjectId::PROJECTUSED, PROJECTUSED_DNODE));
        }
        for (id, range) in dnodes {
            if let Some(dnode) = bytes.get(range) {
                self.dnode(id, dnode, root)?;
            }
        }
        Ok(())
    }

    fn met(&mut self, bp: &BlkPtr, bookmark: Bookmark) {
        if !bp.is_embedded() {
            self.visitor.block(bp, bookmark);
        }
    }

    fn read(&mut self, bp: &BlkPtr, bookmark: Bookmark) -> Option<Vec<u8>> {
        match self.storage.read(bp, bookmark, Priority::Scrub) {
            Ok(block) => Some(block.abd().to_vec()),
            Err(error) => {
                self.visitor.lost(bp, bookmark, error);
                None
            }
        }
    }

    fn dnode(&mut self, id: ObjectId, bytes: &[u8], holder: &BlkPtr) -> Flow {
        let bookmark = Bookmark::new(self.objset, id, 0, 0);
        let dn = match dnode::parse(bytes) {
            Ok(Some(dn)) => dn,
            Ok(None) => return Ok(()),
            Err(_) => {
                self.visitor.lost(holder, bookmark, Error::Damaged);
                return Ok(());
            }
        };
        let tree = Tree {
            id,
            indirect_shift: dn.indirect_shift,
            is_ordered: id < ObjectId::PROJECTUSED,
            is_dnodes: id == ObjectId::META_DNODE,
        };
        let children: Vec<(u64, BlkPtr)> = (0..usize::from(dn.nr_blkptr))
            .filter_map(|index| Some((index as u64, dn.blkptr(bytes, index).ok()?)))
            .collect();
        self.children(tree, dn.levels - 1, &children)?;
        if let Ok(Some(bp)) = dn.spill(bytes) {
            let bookmark = Bookmark::new(self.objset, id, 0, Bookmark::SPILL_BLKID);
            if !bp.is_hole() && bp.birth() > self.after && !self.is_past(tree, bookmark) {
                self.pause(tree, bookmark)?;
                self.met(&bp, bookmark);
            }
        }
        Ok(())
    }

    fn is_past(&self, tree: Tree, bookmark: Bookmark) -> bool {
        tree.is_ordered && self.from.is_past(&bookmark, tree.indirect_shift)
    }

    fn pause(&mut self, tree: Tree, bookmark: Bookmark) -> Flow {
        if tree.is_ordered && !self.visitor.goes_on(bookmark) { Err(bookmark) } else { Ok(()) }
    }

    /// The blocks of one level below one parent, by number.
    fn children(&mut self, tree: Tree, level: u8, all: &[(u64, BlkPtr)]) -> Flow {
        let name = |blkid: u64| Bookmark::new(self.objset, tree.id, level.into(), blkid);
        let todo: Vec<(BlkPtr, Bookmark)> = all
            .iter()
            .filter(|(_, bp)| !bp.is_hole() && bp.birth() > self.after)
            .map(|(blkid, bp)| (*bp, name(*blkid)))
            .filter(|(_, bookmark)| !self.is_past(tree, *bookmark))
            .collect();
        let goes_below = level > 0 || tree.is_dnodes;
        for group in todo.chunks(AHEAD) {
            if !goes_below {
                for (bp, bookmark) in group {
                    self.pause(tree, *bookmark)?;
                    self.met(bp, *bookmark);
                }
                continue;
            }
            let blocks = self.storage.read_many(group, Priority::Scrub);
            for ((bp, bookmark), block) in group.iter().zip(blocks) {
                if level == 0 {
                    self.pause(tree, *bookmark)?;
                }
                self.met(bp, *bookmark);
                match block {
                    Ok(block) => self.below(tree, level, bp, *bookmark, &block.abd().to_vec())?,
                    Err(error) => self.visitor.lost(bp, *bookmark, error),
                }
            }
        }
        Ok(())
    }

    fn below(&mut self, tree: Tree, level: u8, bp: &BlkPtr, bookmark: Bookmark, bytes: &[u8]) -> Flow {
        if level == 0 {
            return if bp.dmu_type() == DmuType::DNODE {
                self.dnode_block(bytes, bp, bookmark.blkid)
            } else {
                Ok(())
            };
        }
        let per_block = (bytes.len() / BLKPTR_SIZE) as u64;
        let first = bookmark.blkid.saturating_mul(per_block);
        let children: Vec<(u64, BlkPtr)> = bytes
            .chunks_exact(BLKPTR_SIZE)
            .enumerate()
            .filter_map(|(index, raw)| {
                Some((first.saturating_add(index as u64), BlkPtr::from_bytes(raw).ok()?))
            })
            .collect();
        if (children.len() as u64) < per_block {
            self.visitor.lost(bp, bookmark, Error::Damaged);
        }
        self.children(tree, level - 1, &children)
    }

    fn dnode_block(&mut self, bytes: &[u8], holder: &BlkPtr, blkid: u64) -> Flow {
        let slots = bytes.len() / DNODE_SIZE;
        let mut slot = 0;
        while slot < slots {
            let rest = &bytes[slot * DNODE_SIZE..];
            let id = ObjectId(blkid.saturating_mul(slots as u64).saturating_add(slot as u64));
            let Ok(core) = dnode::core(rest) else { return Ok(()) };
            slot += if core.is_free() { 1 } else { core.slots() };
            // Objects before the place to go on have been walked; looking at each of their blocks would tell too.
            if !id.is_none() && !core.is_free() {
                self.dnode(id, rest, holder)?;
            }
        }
        Ok(())
    }
}
