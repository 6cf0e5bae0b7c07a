//! Gang blocks: a block that found no contiguous place, as a header that points to its pieces.
//!
//! The header's checksum lies in the header, with its own address in it. The pieces are plain blocks (or gangs again)
//! without compression; what they hold together is what the block pointer's own checksum covers.
use super::batch::SyncCtx;
use super::storage::Storage;
use crate::metaslab::SpaceClass;
use crate::vdev::Priority;
use crate::{Error, Result};
use abd::{Abd, AbdMut};
use alloc::vec::Vec;
use ondisk::blkptr::DVAS_PER_BP;
use ondisk::gang::{GANG_CHILDREN, GANG_HEADER_SIZE, gang_capacity, gang_child, set_gang_child};
use ondisk::{BlkPtr, Bookmark, Checksum, Compression, Dva, Txg, eck};
use smallvec::SmallVec;

/// Deepest nesting followed: 3 pieces a level reach the smallest from the largest block in ten.
const DEPTH_MAX: usize = 12;

/// For whom places are wanted.
pub(super) struct PlanFor {
    pub class: SpaceClass,
    pub copies: usize,
    pub txg: Txg,
    pub bookmark: Bookmark,
}

/// Where a block's bytes are going to lie.
pub(super) enum Plan {
    /// In one piece.
    Whole(SmallVec<[Dva; DVAS_PER_BP]>),
    /// In pieces of these lengths, below a header.
    Gang { header: SmallVec<[Dva; DVAS_PER_BP]>, pieces: Vec<(usize, Self)> },
}

impl Storage {
    /// The stored bytes of a gang block.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub(super) fn read_gang(
        &self,
        bp: &BlkPtr,
        bookmark: Bookmark,
        priority: Priority,
        depth: usize,
    ) -> Result<Abd> {
        let mut left = bp.psize() as usize;
        let mut pieces = Vec::new();
        for child in self.gang_children(bp, bookmark, priority, depth)? {
            let size = child.psize() as usize;
            left = left.checked_sub(size).ok_or(Error::Damaged)?;
            self.check(&child)?;
            if child.compression() != Compression::Off {
                return Err(Error::Damaged);
            }
            pieces.push(if child.is_gang() {
                self.read_gang(&child, bookmark, priority, depth + 1)?
            } else {
                self.read_physical(&child, bookmark, priority)?
            });
        }
        if left != 0 {
            return Err(Error::Damaged);
        }
        let data = Abd::concat(pieces);
        // Pieces may have any multiple of 512 bytes, so hashing in pieces is fine.
        self.verify(bp, &data)?;
        Ok(data)
    }

    /// The block pointers in a gang header.
    ///
    /// # Errors
    /// `Damaged` when it is nested too deep; what reading the header gives.
    pub(super) fn gang_children(
        &self,
        bp: &BlkPtr,
        bookmark: Bookmark,
        priority: Priority,
        depth: usize,
    ) -> Result<SmallVec<[BlkPtr; GANG_CHILDREN]>> {
        if depth >= DEPTH_MAX {
            return Err(Error::Damaged);
        }
        let verifier = eck::gang_verifier(&bp.dva(0), bp.phys_birth());
        let bytes = match self.header_in_flight(bp) {
            Some(bytes) => bytes,
            None => self.read_copies(
                bp,
                bookmark,
                priority,
                &mut |vdev| Some((1 << vdev.info().ashift).max(GANG_HEADER_SIZE)),
                &mut |bytes| header_size(&bytes.to_contiguous(), &verifier).map(drop).ok_or(Error::Checksum),
            )?,
        };
        let header = bytes.to_contiguous();
        let size = header_size(&header, &verifier).ok_or(Error::Checksum)?;
        let header = header.get(..size).ok_or(Error::Damaged)?;
        let mut children = SmallVec::new();
        for index in 0..gang_capacity(size) {
            let child = gang_child(header, index).map_err(|_| Error::Damaged)?;
            if child.is_embedded() {
                return Err(Error::Damaged);
            }
            if !child.is_hole() {
                children.push(child);
            }
        }
        Ok(children)
    }

    fn header_in_flight(&self, bp: &BlkPtr) -> Option<Abd> {
        let dva = bp.dva(0);
        self.in_flight.get(dva.vdev, dva.offset).filter(|data| data.len() == GANG_HEADER_SIZE)
    }

    /// Bytes that a gang header takes on a vdev.
    pub(super) fn gang_header_asize(&self, vdev: u32) -> Result<u64> {
        let vdev = self.vdevs.top(vdev).ok_or(Error::Damaged)?;
        Ok(vdev.asize_of(GANG_HEADER_SIZE as u64))
    }

    /// Finds places for `len` bytes, in pieces if need be. On an error nothing stays allocated.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(super) fn plan(&self, block: &PlanFor, len: usize) -> Result<Plan> {
        let PlanFor { class, copies, txg, bookmark } = block;
        match self.allocator.allocate(*class, len as u64, *copies, *txg, bookmark) {
            Ok(dvas) => Ok(Plan::Whole(dvas)),
            Err(Error::NoSpace) if len > self.min_alloc() => self.plan_gang(block, len),
            Err(e) => Err(e),
        }
    }

    fn plan_gang(&self, block: &PlanFor, len: usize) -> Result<Plan> {
        let PlanFor { class, copies, txg, bookmark } = block;
        let header_copies = (copies + 1).min(DVAS_PER_BP);
        let header =
            self.allocator.allocate(*class, GANG_HEADER_SIZE as u64, header_copies, *txg, bookmark)?;
        let mut pieces = Vec::new();
        let mut left = len;
        for nr_left in (1..=GANG_CHILDREN).rev() {
            if left == 0 {
                break;
            }
            let piece = left.div_ceil(nr_left).next_multiple_of(self.min_alloc()).min(left);
            match self.plan(block, piece) {
                Ok(plan) => pieces.push((piece, plan)),
                Err(e) => {
                    self.abandon(&Plan::Gang { header, pieces }, *txg);
                    return Err(e);
                }
            }
            left -= piece;
        }
        Ok(Plan::Gang { header, pieces })
    }

    fn abandon(&self, plan: &Plan, txg: Txg) {
        let (dvas, pieces) = match plan {
            Plan::Whole(dvas) => (dvas, [].as_slice()),
            Plan::Gang { header, pieces } => (header, pieces.as_slice()),
        };
        dvas.iter().for_each(|dva| self.allocator.untake(dva, txg));
        pieces.iter().for_each(|(_, piece)| self.abandon(piece, txg));
    }

    /// Starts writing `data` as planned; the addresses for its block pointer.
    ///
    /// # Errors
    /// `Unsupported` for a checksum that is not built in.
    pub(super) fn write_plan(
        &self,
        ctx: &SyncCtx,
        plan: Plan,
        data: &Abd,
        checksum: Checksum,
    ) -> Result<SmallVec<[Dva; DVAS_PER_BP]>> {
        let (mut dvas, pieces) = match plan {
            Plan::Whole(dvas) => {
                dvas.iter().for_each(|dva| self.start_write(ctx, dva, data));
                return Ok(dvas);
            }
            Plan::Gang { header, pieces } => (header, pieces),
        };
        let mut header = AbdMut::zeroed(GANG_HEADER_SIZE);
        let bytes = header.as_mut_slice().ok_or(Error::Invalid)?;
        let headers = dvas.clone();
        let mut at = 0;
        for (index, (len, piece)) in pieces.into_iter().enumerate() {
            let part = data.slice(at..at + len);
            at += len;
            let digest = self.digest(checksum, &part, false)?;
            let places = self.write_plan(ctx, piece, &part, checksum)?;
            for (dva, place) in dvas.iter_mut().zip(&places) {
                dva.asize += place.asize;
            }
            let mut child = BlkPtr::default();
            child.set_lsize(len as u32);
            child.set_psize(len as u32);
            child.set_compression(Compression::Off);
            child.set_checksum_alg(checksum);
            child.set_little_endian(true);
            child.set_birth(ctx.txg, ctx.txg);
            child.set_digest(digest);
            for (index, place) in places.iter().enumerate() {
                child.set_dva(index, *place).map_err(|_| Error::Invalid)?;
            }
            set_gang_child(bytes, index, &child).map_err(|_| Error::Invalid)?;
        }
        codec::embedded::seal(bytes, &eck::gang_verifier(&headers[0], ctx.txg));
        let header = header.freeze();
        headers.iter().for_each(|dva| self.start_write(ctx, dva, &header));
        dvas.iter_mut().for_each(|dva| dva.gang = true);
        Ok(dvas)
    }
}

/// Size of a gang header: the ordinary one, or the whole buffer (feature `dynamic_gang_header`).
fn header_size(bytes: &[u8], verifier: &ondisk::Digest) -> Option<usize> {
    [GANG_HEADER_SIZE, bytes.len()].into_iter().find(|&size| {
        bytes.get(..size).is_some_and(|header| codec::embedded::verify(header, verifier).is_ok())
    })
}
