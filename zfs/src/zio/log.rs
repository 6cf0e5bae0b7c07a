//! Writing log blocks: at once, and durable with one flush.
use super::physical::pad;
use super::storage::Storage;
use crate::vdev::{IoGroup, Leaf, Priority, VdevKind, WriteIo};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::BlkPtr;

impl Storage {
    /// Writes log blocks and makes them durable: all writes at once, then one flush of each device touched that has a
    /// volatile cache. Only the used bytes are given, a multiple of 4096; what follows them in the block is never looked
    /// at.
    ///
    /// # Errors
    /// `Io` when a write or flush failed beyond what redundancy bears: then nothing is known of any of the blocks.
    pub fn write_log(&self, blocks: Vec<(BlkPtr, Abd)>) -> Result<()> {
        let group = IoGroup::new();
        let mut leaves: Vec<Arc<Leaf>> = Vec::new();
        for (bp, data) in blocks {
            for dva in bp.dvas() {
                let Some((vdev, len)) = self.extent_of(&dva, bp.psize()) else { return Err(Error::Damaged) };
                // A raidz lays a block out by its whole length.
                let len = match vdev.kind() {
                    VdevKind::RaidZ { .. } => len,
                    _ => data.len().next_multiple_of(1 << vdev.info().ashift),
                };
                for leaf in vdev.io().leaves() {
                    if !leaves.iter().any(|l| Arc::ptr_eq(l, leaf)) {
                        leaves.push(leaf.clone());
                    }
                }
                let io = WriteIo {
                    offset: dva.offset,
                    data: pad(&data, len),
                    txg: bp.phys_birth(),
                    priority: Priority::SyncWrite,
                    done: group.completion(0),
                };
                vdev.io().write(io);
            }
        }
        let done = group.wait(leaves.iter().map(|leaf| &**leaf));
        done.into_iter().try_for_each(|done| done.result.map_err(Error::from))?;
        self.flush_leaves(&leaves)
    }
}
