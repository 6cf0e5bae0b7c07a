//! Scrubbing and resilvering single blocks: what each leaf holds of a block is compared with what it should hold, or
//! written anew.
//!
//! What it is not: the walk over the blocks, which is the scan's.
use super::physical::pad;
use super::storage::Storage;
use crate::event::Event;
use crate::vdev::{IoGroup, Leaf, Part, Priority};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::gang::GANG_HEADER_SIZE;
use ondisk::{BlkPtr, Bookmark, Dva, Txg};

/// Deepest gang tree.
const DEPTH_MAX: usize = 8;

/// What was done to a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// Bytes read or written on leaves.
    pub examined: u64,
    /// Bytes rewritten.
    pub repaired: u64,
    /// Parts of leaves that are still wrong: they could not be written.
    pub nr_unrepaired: u64,
}

/// Which parts of a block are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// All: read, compare, rewrite what differs.
    Scrub,
    /// Those on leaves that missed the block's transaction group: write.
    Resilver,
}

impl Storage {
    /// First and last transaction group that some leaf misses which could be written now.
    pub fn resilver_range(&self) -> Option<(Txg, Txg)> {
        let leaves = self.leaves();
        let ranges = leaves.iter().filter(|leaf| leaf.is_usable()).filter_map(|l| l.health().missing_range());
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Grows whenever a leaf comes that misses something: a resilver that began before has to begin again.
    pub fn resilver_generation(&self) -> u64 {
        self.resilver_generation.load(Ordering::Acquire)
    }

    /// A leaf has come that misses something: the generation from which on resilvers are walked with it.
    pub(crate) fn request_resilver(&self) -> u64 {
        self.resilver_generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether a leaf that could be written now misses a part of that block.
    pub fn needs_resilver(&self, bp: &BlkPtr) -> bool {
        let birth = bp.phys_birth();
        let misses = |leaf: &Leaf| leaf.is_usable() && leaf.health().misses(birth);
        !bp.is_embedded()
            && bp.dvas().any(|dva| {
                self.vdevs.top(dva.vdev).is_some_and(|v| v.io().leaves().iter().any(|leaf| misses(leaf)))
            })
    }

    /// Writes a block's parts to the leaves that missed them. The leaves still count as missing the group: that ends
    /// with the whole resilver.
    ///
    /// # Errors
    /// What reading the block gives; leaves that miss it then keep missing its group.
    pub fn resilver_block(&self, bp: &BlkPtr, bookmark: Bookmark) -> Result<Healed> {
        let mut healed = Healed::default();
        if self.needs_resilver(bp) {
            let done = self.heal(bp, bookmark, Mode::Resilver, 0, &mut healed);
            if done.is_err() {
                self.note_unhealed(bp);
            }
            done?;
        }
        Ok(healed)
    }

    /// Reads every leaf's part of every copy of a block, parity too, and rewrites what is not as it should be.
    ///
    /// # Errors
    /// What reading the block gives: no copy is good.
    pub fn scrub_block(&self, bp: &BlkPtr, bookmark: Bookmark) -> Result<Healed> {
        self.scrub_blocks(&[(*bp, bookmark)]).pop().unwrap_or(Err(Error::Invalid))
    }

    /// As [`Self::scrub_block`], several at a time: what came of each.
    pub fn scrub_blocks(&self, blocks: &[(BlkPtr, Bookmark)]) -> Vec<Result<Healed>> {
        let looked = self.all_right(blocks.iter().map(|(bp, _)| bp));
        let one = |((bp, bookmark), examined): (&(BlkPtr, Bookmark), Option<u64>)| {
            let mut healed = Healed { examined: examined.unwrap_or(0), ..Healed::default() };
            if examined.is_none() && bp.dvas().next().is_some() && !bp.is_embedded() {
                self.heal(bp, *bookmark, Mode::Scrub, 0, &mut healed)?;
            }
            Ok(healed)
        };
        blocks.iter().zip(looked).map(one).collect()
    }

    fn note_unhealed(&self, bp: &BlkPtr) {
        for dva in bp.dvas() {
            let Some(vdev) = self.vdevs.top(dva.vdev) else { continue };
            let leaves = vdev.io().leaves().iter();
            leaves.filter(|l| l.health().misses(bp.phys_birth())).for_each(|l| {
                l.health().heal_failed(bp.phys_birth());
            });
        }
    }

    fn heal(
        &self,
        bp: &BlkPtr,
        bookmark: Bookmark,
        mode: Mode,
        depth: usize,
        healed: &mut Healed,
    ) -> Result<()> {
        if depth >= DEPTH_MAX {
            return Err(Error::Damaged);
        }
        if !bp.is_gang() {
            let data = self.read_physical(bp, bookmark, Priority::Scrub)?;
            bp.dvas().for_each(|dva| self.heal_copy(&dva, bp, &data, bookmark, mode, healed));
            return Ok(());
        }
        let header = self.gang_header(bp, bookmark)?;
        bp.dvas().for_each(|dva| self.heal_copy(&dva, bp, &header, bookmark, mode, healed));
        for child in self.gang_children(bp, bookmark, Priority::Scrub, depth)? {
            self.heal(&child, bookmark, mode, depth + 1, healed)?;
        }
        Ok(())
    }

    /// The stored bytes of a gang block's header.
    fn gang_header(&self, bp: &BlkPtr, bookmark: Bookmark) -> Result<Abd> {
        let verifier = ondisk::eck::gang_verifier(&bp.dva(0), bp.phys_birth());
        self.read_copies(bp, bookmark, Priority::Scrub, &mut |_| Some(GANG_HEADER_SIZE), &mut |bytes| {
            codec::embedded::verify(&bytes.to_contiguous(), &verifier).map(drop).map_err(|_| Error::Checksum)
        })
    }

    fn heal_copy(
        &self,
        dva: &Dva,
        bp: &BlkPtr,
        data: &Abd,
        bookmark: Bookmark,
        mode: Mode,
        healed: &mut Healed,
    ) {
        let Some((vdev, len)) = self.extent_of(dva, data.len() as u32) else { return };
        let birth = bp.phys_birth();
        let is_wanted =
            |leaf: &Leaf| leaf.is_usable() && (mode == Mode::Scrub || leaf.health().misses(birth));
        let mut parts = vdev.io().parts(dva.offset, &pad(data, len), &is_wanted);
        if mode == Mode::Scrub {
            healed.examined += parts.iter().map(|p| p.content.len() as u64).sum::<u64>();
            // Padding after the block was never written by some: only the block's own bytes must be right.
            let has_padding = len > data.len();
            parts = self.differing(parts, has_padding.then_some(data.len()));
            if !parts.is_empty() {
                let (vdev, offset) = (u64::from(dva.vdev), dva.offset);
                self.events.post(Event::BadCopy { bookmark, vdev, offset, is_device_error: false });
            }
        }
        if self.is_read_only {
            healed.nr_unrepaired += parts.len() as u64;
            return;
        }
        let was_bad = mode == Mode::Scrub && !parts.is_empty();
        let nr_unrepaired = self.rewrite(parts, birth, healed);
        if was_bad && nr_unrepaired == 0 {
            self.events.post(Event::Repaired { bookmark, vdev: u64::from(dva.vdev), offset: dva.offset });
        }
    }

    /// Reads the parts; those that are not as they should be.
    fn differing(&self, parts: Vec<Part>, only_first: Option<usize>) -> Vec<Part> {
        let group = IoGroup::new();
        for (tag, part) in parts.iter().enumerate() {
            part.leaf.start_read(
                part.offset,
                part.content.len(),
                Priority::Scrub,
                group.completion(tag as u64),
            );
        }
        let mut is_right: Vec<bool> = parts.iter().map(|_| false).collect();
        for done in group.wait(parts.iter().map(|part| &*part.leaf)) {
            let part = &parts[done.tag as usize];
            let Some(found) = done.buf.filter(|_| done.result.is_ok()) else { continue };
            let (found, wanted) = (found.freeze(), &part.content);
            let until = only_first.unwrap_or(wanted.len()).min(wanted.len());
            let is_same = found.slice(0..until).to_contiguous() == wanted.slice(0..until).to_contiguous();
            is_right[done.tag as usize] = is_same;
            if !is_same {
                part.leaf.health().note_checksum_error();
            }
        }
        parts.into_iter().zip(is_right).filter(|(_, is_right)| !is_right).map(|(part, _)| part).collect()
    }

    /// Writes parts; how many failed.
    fn rewrite(&self, parts: Vec<Part>, birth: Txg, healed: &mut Healed) -> u64 {
        let group = IoGroup::new();
        for (tag, part) in parts.iter().enumerate() {
            let done = group.completion(tag as u64);
            part.leaf.start_write(part.offset, part.content.clone(), Priority::Scrub, done);
        }
        let before = healed.nr_unrepaired;
        for done in group.wait(parts.iter().map(|part| &*part.leaf)) {
            self.note_written(&parts[done.tag as usize], birth, done.result.is_ok(), healed);
        }
        healed.nr_unrepaired - before
    }

    /// Enters whether a part of a block of that group could be rewritten.
    pub(super) fn note_written(&self, part: &Part, birth: Txg, is_done: bool, healed: &mut Healed) {
        if is_done {
            healed.repaired += part.content.len() as u64;
        } else {
            healed.nr_unrepaired += 1;
            part.leaf.health().miss(birth, birth);
            part.leaf.health().heal_failed(birth);
        }
    }

    /// A resilver begins.
    pub(crate) fn begin_resilver(&self) {
        self.leaves().iter().for_each(|leaf| leaf.health().forget_unhealed());
    }

    /// Guids of the leaves that miss something and with which the resilver of that generation, of the groups up to `last`,
    /// has been walked from its beginning to where it is.
    pub(crate) fn walked_with(&self, generation: u64, last: Txg) -> Vec<u64> {
        let is_walked_with = |leaf: &&Arc<Leaf>| {
            let health = leaf.health();
            leaf.is_usable()
                && health.is_stale()
                && health.was_there(generation)
                && !health.has_unhealed(last)
        };
        let leaves = self.leaves();
        let guids = leaves.iter().filter(is_walked_with).map(|leaf| leaf.guid()).collect();
        // Looked at last: it grows before a leaf is used again.
        if self.resilver_generation() == generation { guids } else { Vec::new() }
    }

    /// A resilver of that generation has seen every block up to `last`. `is_complete`: it could read all of them.
    pub(crate) fn resilvered(&self, last: Txg, is_complete: bool, generation: u64) {
        let leaves = self.leaves();
        let took_part = |leaf: &&Arc<Leaf>| leaf.is_usable() && leaf.health().was_there(generation);
        for leaf in leaves.iter().filter(|leaf| is_complete && took_part(leaf)) {
            leaf.health().healed_up_to(last);
        }
    }
}
