//! What the space maps need of the MOS: a few objects' bytes.
//!
//! The allocator lies below objects, space maps are objects: this trait is where the two meet, so that the allocator
//! can be tested without a DMU. Called only without any metaslab lock held, and never from inside the DMU's syncing
//! of an object (that would take dnode locks in the wrong order).
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::{DmuType, ObjectId, Txg};

/// A new object.
#[derive(Clone, Copy, Debug)]
pub struct NewMapObject {
    /// Type of the content.
    pub kind: DmuType,
    /// Data block size.
    pub block_size: u32,
    /// log2 of the indirect block size, 0 for the default.
    pub indirect_shift: u8,
    /// Type of the bonus.
    pub bonus_kind: DmuType,
    /// Length of the bonus.
    pub bonus_len: u16,
}

/// The MOS as space maps see it.
pub trait MosStore: Sync {
    /// Reads `len` bytes at `offset`, zeroes where there is nothing.
    ///
    /// # Errors
    /// `NotFound` when there is no such object, or what reading gives.
    fn read(&self, object: ObjectId, offset: u64, len: usize) -> Result<Vec<u8>>;

    /// The bonus.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn bonus(&self, object: ObjectId) -> Result<Vec<u8>>;

    /// Size of a data block.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn block_size(&self, object: ObjectId) -> Result<u32>;

    /// Makes an object.
    ///
    /// # Errors
    /// What allocating gives.
    fn create(&self, ctx: &SyncCtx, object: &NewMapObject) -> Result<ObjectId>;

    /// Writes bytes at `offset`.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn write(&self, ctx: &SyncCtx, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Replaces the bonus.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn set_bonus(&self, ctx: &SyncCtx, object: ObjectId, bytes: &[u8]) -> Result<()>;

    /// Enters the log of a transaction group into the pool's list of logs.
    ///
    /// # Errors
    /// `Unsupported` from what is no pool's MOS; what changing the MOS gives.
    fn add_log(&self, ctx: &SyncCtx, txg: Txg, object: ObjectId) -> Result<()> {
        let _ = (ctx, txg, object);
        Err(Error::Unsupported)
    }

    /// Takes a log out of the list and frees it.
    ///
    /// # Errors
    /// As [`Self::add_log`].
    fn remove_log(&self, ctx: &SyncCtx, txg: Txg, object: ObjectId) -> Result<()> {
        let _ = (ctx, txg, object);
        Err(Error::Unsupported)
    }

    /// Enters an object into a vdev's ZAP.
    ///
    /// # Errors
    /// As [`Self::add_log`].
    fn add_vdev_object(&self, ctx: &SyncCtx, top_zap: ObjectId, key: &str, object: ObjectId) -> Result<()> {
        let _ = (ctx, top_zap, key, object);
        Err(Error::Unsupported)
    }

    /// Takes a space map out of a vdev's ZAP and frees it.
    ///
    /// # Errors
    /// As [`Self::add_log`].
    fn remove_vdev_map(&self, ctx: &SyncCtx, top_zap: ObjectId, key: &str, object: ObjectId) -> Result<()> {
        let _ = (ctx, top_zap, key, object);
        Err(Error::Unsupported)
    }

    /// Frees all the content.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn truncate(&self, ctx: &SyncCtx, object: ObjectId) -> Result<()>;
}
