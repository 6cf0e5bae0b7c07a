//! Resilvering several blocks at a time: what is still to be had of each is read, all at once, and what leaves missed of it
//! is written, all at once.
//!
//! What it is not: it takes only the plain case. A block whose first reading is not right, one in pieces, one whose bytes
//! nothing vouches for, or one that is being written, [`super::heal`] looks at by itself.
use super::heal::Healed;
use super::physical::pad;
use super::storage::Storage;
use crate::Result;
use crate::vdev::{IoGroup, Leaf, Part, Priority};
use abd::{Abd, AbdMut};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::{BlkPtr, Bookmark};

impl Storage {
    /// As [`Self::resilver_block`], several at a time: what came of each.
    pub fn resilver_blocks(&self, blocks: &[(BlkPtr, Bookmark)]) -> Vec<Result<Healed>> {
        let mut results: Vec<Result<Healed>> = blocks.iter().map(|_| Ok(Healed::default())).collect();
        let (mut parts, mut owners) = (Vec::new(), Vec::new());
        for (index, ((bp, bookmark), content)) in blocks.iter().zip(self.read_plain(blocks)).enumerate() {
            match content {
                Some(content) => {
                    let missed = self.missed_parts(bp, &content);
                    owners.extend(missed.iter().map(|_| index));
                    parts.extend(missed);
                }
                None => results[index] = self.resilver_block(bp, *bookmark),
            }
        }
        let group = IoGroup::new();
        for (tag, part) in parts.iter().enumerate() {
            let done = group.completion(tag as u64);
            part.leaf.start_write(part.offset, part.content.clone(), Priority::Scrub, done);
        }
        for done in group.wait(parts.iter().map(|part| &*part.leaf)) {
            let (part, index) = (&parts[done.tag as usize], owners[done.tag as usize]);
            if let Ok(healed) = &mut results[index] {
                self.note_written(part, blocks[index].0.phys_birth(), done.result.is_ok(), healed);
            }
        }
        results
    }

    /// The stored bytes of those blocks that some leaf misses and that are right as first read.
    fn read_plain(&self, blocks: &[(BlkPtr, Bookmark)]) -> Vec<Option<Abd>> {
        let group = IoGroup::new();
        let mut leaves: Vec<Arc<Leaf>> = Vec::new();
        for (index, (bp, _)) in blocks.iter().enumerate() {
            if !bp.is_hole() && self.has_checksum(bp) && self.needs_resilver(bp) {
                self.start_first(bp, Priority::Scrub, &mut leaves, || group.completion(index as u64));
            }
        }
        let mut contents: Vec<Option<Abd>> = blocks.iter().map(|_| None).collect();
        for done in group.wait(leaves.iter().map(|leaf| &**leaf)) {
            let bp = &blocks[done.tag as usize].0;
            let read = done.buf.filter(|_| done.result.is_ok());
            let bytes = read.and_then(|buf| self.trim(buf, bp.psize() as usize)).map(AbdMut::freeze);
            contents[done.tag as usize] = bytes.filter(|bytes| self.verify(bp, bytes).is_ok());
        }
        contents
    }

    /// What the leaves that missed a block should hold of it.
    fn missed_parts(&self, bp: &BlkPtr, content: &Abd) -> Vec<Part> {
        let birth = bp.phys_birth();
        let is_wanted = |leaf: &Leaf| leaf.is_usable() && leaf.health().misses(birth);
        let of_copy = |dva| {
            let (vdev, len) = self.extent_of(&dva, content.len() as u32)?;
            Some(vdev.io().parts(dva.offset, &pad(content, len), &is_wanted))
        };
        bp.dvas().filter_map(of_copy).flatten().collect()
    }
}
