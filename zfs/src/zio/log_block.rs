//! Intent log blocks: allocated in open context, long before the transaction group that is to account for them is
//! written.
//!
//! The caller holds that group open, so it cannot be written before the allocation is noted in it. A crash before it is
//! written loses the allocation with the block; import then claims the blocks that the log's chain reaches.
use super::batch::SyncCtx;
use super::storage::Storage;
use crate::metaslab::SpaceClass;
use crate::{Error, Result};
use ondisk::{BlkPtr, Bookmark, Checksum, Compression, DmuType, ObjectId, Txg};

impl Storage {
    /// A place for a log block of `size` bytes (a multiple of 512), and whether it lies on a log vdev. The pointer
    /// lacks only its checksum words, which name the log and the block's number in it. `objset` spreads logs over the
    /// allocators; one log's blocks stay together. `on_log_vdevs`: log vdevs come first, if there are any.
    ///
    /// # Errors
    /// `NoSpace`, `ReadOnly`, `Invalid` for a size no block has.
    pub fn allocate_log(
        &self,
        size: u32,
        txg: Txg,
        objset: u64,
        on_log_vdevs: bool,
    ) -> Result<(BlkPtr, bool)> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if size == 0 || !size.is_multiple_of(ondisk::blkptr::SECTOR_SIZE) {
            return Err(Error::Invalid);
        }
        let bookmark = Bookmark::new(objset, ObjectId(0), 0, 0);
        let class = if on_log_vdevs { SpaceClass::Log } else { SpaceClass::EmbeddedLog };
        let dvas = self.allocator.allocate(class, size.into(), 1, txg, &bookmark)?;
        let dva = *dvas.first().ok_or(Error::NoSpace)?;
        let is_on_log_vdev = self.is_log_vdev(dva.vdev);
        let mut bp = BlkPtr::default();
        bp.set_type(DmuType::INTENT_LOG);
        bp.set_lsize(size);
        bp.set_psize(size);
        bp.set_compression(Compression::Off);
        bp.set_checksum_alg(Checksum::Zilog2);
        bp.set_little_endian(true);
        bp.set_birth(txg, txg);
        bp.set_dva(0, dva).map_err(|_| Error::Invalid)?;
        Ok((bp, is_on_log_vdev))
    }

    /// Gives back a log block of the open group `txg` that was never written and that nothing names.
    pub fn unallocate_log(&self, bp: &BlkPtr, txg: Txg) {
        bp.dvas().for_each(|dva| self.allocator.untake(&dva, txg));
    }

    /// Frees a log block in the group that is being written.
    ///
    /// # Errors
    /// As [`Storage::free`].
    pub fn free_log(&self, ctx: &SyncCtx, bp: &BlkPtr) -> Result<()> {
        self.free(ctx, bp)
    }

    /// Whether there is a vdev for logs that can be allocated from.
    pub fn has_log_vdev(&self) -> bool {
        self.allocator.figures(SpaceClass::Log).0 > 0
    }
}
