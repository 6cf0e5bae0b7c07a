//! Looking at every copy of a block separately, for the full walk of a pool: nothing is repaired, nothing is cached.
use super::storage::Storage;
use crate::vdev::{Priority, Standing};
use crate::{Error, Result};
use ondisk::blkptr::DVAS_PER_BP;
use ondisk::gang::GANG_HEADER_SIZE;
use ondisk::{BlkPtr, Bookmark, Dva, Txg, eck};
use smallvec::SmallVec;

/// One way to read one copy of a block, and whether it gave the right bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyCheck {
    /// The copy.
    pub dva: Dva,
    /// The way, for vdevs that have several (sides of a mirror).
    pub attempt: usize,
    /// What came of it: `Checksum`, the device's error, or `Damaged` when the address lies on no vdev.
    pub result: Result<()>,
}

impl Storage {
    /// Reads every copy of a block, of a gang block every copy of its headers and pieces. Holes and embedded blocks
    /// have none.
    ///
    /// # Errors
    /// `Encrypted` never: encrypted blocks have a checksum of what is stored. `Damaged` when the pointer is impossible,
    /// what reading a gang header gives.
    pub fn check_copies(
        &self,
        bp: &BlkPtr,
        bookmark: Bookmark,
    ) -> Result<SmallVec<[CopyCheck; DVAS_PER_BP]>> {
        let mut out = SmallVec::new();
        self.check_into(bp, bookmark, 0, &mut out)?;
        Ok(out)
    }

    /// The ways to read a copy that do not share bytes and should be right; the best one when there are none.
    fn copies_at(&self, dva: &Dva, birth: Txg) -> SmallVec<[usize; 2]> {
        let Some(vdev) = self.vdevs.top(dva.vdev) else { return SmallVec::from_slice(&[0]) };
        let io = vdev.io();
        let is_good = |attempt: &usize| io.standing(*attempt, birth) == Standing::Good;
        let copies: SmallVec<[usize; 2]> = (0..io.nr_copies()).filter(is_good).collect();
        if copies.is_empty() { SmallVec::from_slice(&[io.first_attempt(dva.offset, birth)]) } else { copies }
    }

    fn check_into(
        &self,
        bp: &BlkPtr,
        bookmark: Bookmark,
        depth: usize,
        out: &mut SmallVec<[CopyCheck; DVAS_PER_BP]>,
    ) -> Result<()> {
        let is_gang = bp.is_gang();
        let verifier = eck::gang_verifier(&bp.dva(0), bp.phys_birth());
        for dva in bp.dvas() {
            for attempt in self.copies_at(&dva, bp.phys_birth()) {
                let mut size = |_: &crate::vdev::Vdev| {
                    Some(if is_gang { GANG_HEADER_SIZE } else { bp.psize() as usize })
                };
                let read = self.read_copy(&dva, attempt, Priority::Scrub, &mut size);
                let result = read.and_then(|bytes| match is_gang {
                    true => {
                        let is_right = codec::embedded::verify(&bytes.to_contiguous(), &verifier).is_ok();
                        is_right.then_some(()).ok_or(Error::Checksum)
                    }
                    false => self.verify(bp, &bytes),
                });
                out.push(CopyCheck { dva, attempt, result });
            }
        }
        if is_gang {
            for child in self.gang_children(bp, bookmark, Priority::Scrub, depth)? {
                self.check_into(&child, bookmark, depth + 1, out)?;
            }
        }
        Ok(())
    }
}
