//! What a ZAP needs of the object it lives in.
use crate::Result;
use crate::dmu::{DmuTx, Dnode};
use abd::Abd;
use alloc::sync::Arc;

/// An object's blocks. Implemented by [`Dnode`]; tests have one in memory.
pub(super) trait Blocks {
    /// A transaction.
    type Tx;
    /// Bytes of a block.
    fn block_size(&self) -> usize;
    /// The current content of a block; zeroes where there is none.
    fn block(&self, blkid: u64) -> Result<Abd>;
    /// Changes a block. When `change` fails it has changed nothing.
    fn modify(
        &self,
        tx: &Self::Tx,
        blkid: u64,
        change: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()>;
    /// Changes the block size of an object that has only block 0.
    fn set_block_size(&self, tx: &Self::Tx, bytes: usize) -> Result<()>;
    /// Frees blocks.
    fn free(&self, tx: &Self::Tx, blkid: u64, nr_blocks: u64) -> Result<()>;
}

impl Blocks for Arc<Dnode> {
    type Tx = DmuTx;

    fn block_size(&self) -> usize {
        Dnode::block_size(self) as usize
    }

    fn block(&self, blkid: u64) -> Result<Abd> {
        Dnode::block(self, blkid)
    }

    fn modify(&self, tx: &DmuTx, blkid: u64, change: &mut dyn FnMut(&mut [u8]) -> Result<()>) -> Result<()> {
        self.modify_block(tx, blkid, &mut |abd| change(abd.make_mut()))
    }

    fn set_block_size(&self, tx: &DmuTx, bytes: usize) -> Result<()> {
        Dnode::set_block_size(self, tx, bytes as u32, 0)
    }

    fn free(&self, tx: &DmuTx, blkid: u64, nr_blocks: u64) -> Result<()> {
        let size = Blocks::block_size(self) as u64;
        self.free_range(tx, blkid.saturating_mul(size), nr_blocks.saturating_mul(size))
    }
}
