//! The order in which a walk meets an object set's blocks, and whether a subtree lies before a place in it.
//!
//! Source: `zbookmark_compare`, `zbookmark_subtree_completed` (zio.c). A walk goes through the dnode file; below each of
//! its blocks come the objects that the block holds, each block by block. So a place is an object and a data block of
//! it, and a block of the dnode file stands just before its first object.
use ondisk::Bookmark;
use ondisk::blkptr::BLKPTR_SHIFT;
use ondisk::dnode::DNODES_PER_BLOCK;

/// A place in an object set: everything before it has been walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    object: u64,
    block: u64,
}

impl Place {
    /// The beginning.
    pub(super) const START: Self = Self { object: 0, block: 0 };

    /// The place that a data block's bookmark names.
    pub(super) fn of(bookmark: &Bookmark) -> Self {
        if bookmark.level < 0 {
            return Self::START;
        }
        Self::new(bookmark.object.0, bookmark.blkid)
    }

    fn new(object: u64, block: u64) -> Self {
        if object == 0 {
            return Self { object: block.saturating_mul(DNODES_PER_BLOCK as u64), block: 0 };
        }
        Self { object, block }
    }

    /// Whether all of a block and what hangs below it lies before this place. `indirect_shift` is the object's.
    pub(super) fn is_past(&self, bookmark: &Bookmark, indirect_shift: u8) -> bool {
        if *self == Self::START || bookmark.level < 0 {
            return false;
        }
        let level = u64::try_from(bookmark.level).unwrap_or(0);
        let bits = level.saturating_mul(u64::from(indirect_shift).saturating_sub(u64::from(BLKPTR_SHIFT)));
        let next = bookmark.blkid.saturating_add(1);
        let end = if bits < 64 { next.saturating_mul(1 << bits) } else { u64::MAX };
        Self::new(bookmark.object.0, end) <= *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::ObjectId;

    fn at(object: u64, level: i64, blkid: u64) -> Bookmark {
        Bookmark::new(9, ObjectId(object), level, blkid)
    }

    #[test]
    fn subtrees_before_a_place_are_past() {
        let place = Place::of(&at(40, 0, 5));
        assert!(place.is_past(&at(40, 0, 4), 17));
        assert!(!place.is_past(&at(40, 0, 5), 17));
        assert!(!place.is_past(&at(40, 1, 0), 17), "holds the place itself");
        assert!(
            place.is_past(&at(39, 3, 0), 17) || Place::of(&at(40, 0, u64::MAX)).is_past(&at(39, 3, 0), 17)
        );
        assert!(place.is_past(&at(0, 0, 0), 17), "objects 0 to 31");
        assert!(!place.is_past(&at(0, 0, 1), 17), "holds object 40");
        assert!(!place.is_past(&at(41, 0, 0), 17));
        assert!(Place::of(&at(40, 0, 1024)).is_past(&at(40, 1, 0), 17));
    }

    #[test]
    fn a_spill_block_comes_last_of_its_object() {
        let spill = at(40, 0, Bookmark::SPILL_BLKID);
        let place = Place::of(&spill);
        assert!(place.is_past(&at(40, 1, 7), 17));
        assert!(!place.is_past(&at(41, 0, 0), 17));
    }

    #[test]
    fn the_start_is_before_everything() {
        assert!(!Place::START.is_past(&at(0, 0, 0), 17));
        assert!(!Place::of(&Bookmark::root(3)).is_past(&at(1, 0, 0), 17));
    }
}
