//! Looking whether blocks are right everywhere: every leaf's part of every copy is read once, those of many blocks at a
//! time, and compared with each other and with the block's checksum.
//!
//! What it is not: it says of a block that it is right, or that it must be looked at more closely; which part is wrong, and
//! what it should hold, [`super::heal`] finds out by reading anew.
use super::storage::Storage;
use crate::vdev::{IoGroup, Place, Priority, Vdev};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use ondisk::{BlkPtr, Checksum};

/// One copy of a block, and where its parts are among all that are read.
struct CopyLook {
    vdev: Arc<Vdev>,
    offset: u64,
    /// Bytes of the block and what follows up to the allocation unit.
    len: usize,
    parts: Range<usize>,
}

/// The parts that are read of several blocks.
#[derive(Default)]
struct Looks {
    places: Vec<Place>,
    copies: Vec<CopyLook>,
}

impl Storage {
    /// Reads every leaf's part of every copy of these blocks, all at a time: how many bytes of each, when all of it is right.
    /// `None` for those that must be looked at more closely, because something is not, or because parts cannot be read.
    pub(super) fn all_right<'a>(&self, blocks: impl Iterator<Item = &'a BlkPtr>) -> Vec<Option<u64>> {
        let mut looks = Looks::default();
        let blocks: Vec<(&BlkPtr, Option<Range<usize>>)> =
            blocks.map(|bp| (bp, self.plan_look(bp, &mut looks))).collect();
        let group = IoGroup::new();
        for (tag, place) in looks.places.iter().enumerate() {
            let done = group.completion(tag as u64);
            place.leaf.start_read(place.offset, place.len, Priority::Scrub, done);
        }
        let mut found: Vec<Option<Abd>> = looks.places.iter().map(|_| None).collect();
        for done in group.wait(looks.places.iter().map(|place| &*place.leaf)) {
            found[done.tag as usize] = done.buf.filter(|_| done.result.is_ok()).map(|buf| buf.freeze());
        }
        blocks
            .into_iter()
            .map(|(bp, copies)| {
                let copies = &looks.copies[copies?];
                let is_right = copies.iter().all(|copy| self.is_copy_right(bp, copy, &found));
                let lens = copies.iter().flat_map(|copy| &looks.places[copy.parts.clone()]);
                is_right.then(|| lens.map(|place| place.len as u64).sum())
            })
            .collect()
    }

    /// Adds the parts of a block; the range of its copies. Nothing is added when it must be looked at more closely anyhow.
    fn plan_look(&self, bp: &BlkPtr, looks: &mut Looks) -> Option<Range<usize>> {
        let has_checksum = !matches!(bp.checksum_alg(), Checksum::Off | Checksum::NoParity);
        if bp.is_gang() || bp.is_embedded() || !has_checksum || bp.dvas().next().is_none() {
            return None;
        }
        let (first, nr_places) = (looks.copies.len(), looks.places.len());
        for dva in bp.dvas() {
            let added = self.extent_of(&dva, bp.psize()).filter(|(vdev, _)| {
                let leaves = vdev.io().leaves();
                !leaves.iter().any(|leaf| leaf.health().misses(bp.phys_birth()))
            });
            let places = added.as_ref().map(|(vdev, len)| vdev.io().places(dva.offset, *len));
            let (Some((vdev, len)), Some(places)) = (added, places.filter(|places| !places.is_empty()))
            else {
                looks.copies.truncate(first);
                looks.places.truncate(nr_places);
                return None;
            };
            let start = looks.places.len();
            looks.places.extend(places);
            let parts = start..looks.places.len();
            looks.copies.push(CopyLook { vdev, offset: dva.offset, len, parts });
        }
        Some(first..looks.copies.len())
    }

    fn is_copy_right(&self, bp: &BlkPtr, copy: &CopyLook, found: &[Option<Abd>]) -> bool {
        let parts: Option<Vec<Abd>> = found[copy.parts.clone()].iter().cloned().collect();
        let wholes = parts.and_then(|parts| copy.vdev.io().wholes(copy.offset, copy.len, parts));
        let size = bp.psize() as usize;
        wholes.is_some_and(|wholes| {
            wholes.iter().all(|whole| whole.len() >= size && self.verify(bp, &whole.slice(0..size)).is_ok())
        })
    }
}
