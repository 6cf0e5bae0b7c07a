//! The pool checkpoint: one earlier state of the whole pool that can be gone back to.
//!
//! A checkpoint is a copy of an uberblock in the MOS (`com.delphix:zpool_checkpoint`). While it is there, blocks born up
//! to its group are not freed but listed (`metaslab::checkpoint`). Going back is opening the pool by that uberblock;
//! the first group written then makes it the pool's state.
//!
//! Invariants: the uberblock is taken before the group that notes it frees anything, so that everything it refers to is
//! still allocated. Discarding first forgets the uberblock, then frees what is listed: nobody can go back to a state
//! of which a part is gone.
use super::mos::Mos;
use super::sync::When;
use super::{Spa, features};
use crate::dmu::DmuTx;
use crate::zap::ZapValue;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use ondisk::feature::Feature;
use ondisk::pool_directory as names;
use ondisk::uberblock::{RawUberblock, UBERBLOCK_SIZE, Uberblock};
use ondisk::{ObjectId, Txg};
use zerocopy::{FromBytes, IntoBytes};

/// A pool's checkpoint, as its user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// The group whose state it keeps.
    pub txg: u64,
    /// When that was written, seconds since 1970.
    pub time: u64,
    /// Bytes that only it keeps allocated.
    pub bytes: u64,
    /// It has been given up, and its space is being freed.
    pub is_discarding: bool,
}

/// The checkpointed uberblock.
///
/// # Errors
/// `Damaged` when it is none; what reading the MOS gives.
pub(super) fn read(mos: &Mos) -> Result<Option<Uberblock>> {
    let value = match mos.zap(names::POOL_DIRECTORY)?.lookup(names::ZPOOL_CHECKPOINT.as_bytes()) {
        Err(Error::NotFound) => return Ok(None),
        other => other?,
    };
    if value.int_size != 8 {
        return Err(Error::Damaged);
    }
    let mut bytes: Vec<u8> = value.ints.iter().flat_map(|word| word.to_le_bytes()).collect();
    // Older ones have fewer fields.
    bytes.resize(UBERBLOCK_SIZE, 0);
    let raw = RawUberblock::read_from_bytes(&bytes).map_err(|_| Error::Damaged)?;
    raw.parse().map(Some).map_err(|_| Error::Damaged)
}

impl Spa {
    /// Keeps the pool's present state.
    ///
    /// # Errors
    /// `UnsupportedFeature` when the pool does not have `zpool_checkpoint`, `Exists` when there is one, `Busy` while one
    /// is being discarded, `ReadOnly`, `Suspended`.
    pub fn checkpoint(&self) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        if !features::is_enabled(&self.mos, Feature::ZpoolCheckpoint)? {
            return Err(Error::UnsupportedFeature);
        }
        if read(&self.mos)?.is_some() {
            return Err(Error::Exists);
        }
        if features::is_active(&self.mos, Feature::ZpoolCheckpoint)? {
            return Err(Error::Busy);
        }
        self.txgs.sync_all()?;
        self.run_task(When::First, |spa, _, tx| spa.take_checkpoint(tx))
    }

    fn take_checkpoint(&self, tx: &DmuTx) -> Result<()> {
        let uberblock = *self.uberblock.lock();
        let kept = Uberblock { checkpoint_txg: uberblock.txg, ..uberblock };
        let raw = kept.to_raw();
        let words: Vec<u64> =
            raw.as_bytes().as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
        let directory = self.mos.zap(names::POOL_DIRECTORY)?;
        directory.insert(tx, names::ZPOOL_CHECKPOINT.as_bytes(), &ZapValue::words(&words))?;
        features::increment(&self.mos, tx, Feature::ZpoolCheckpoint)?;
        self.storage.set_checkpoint(uberblock.txg);
        self.note(tx, &alloc::format!("checkpoint of txg {}", uberblock.txg))
    }

    /// Gives the checkpoint up and frees what only it kept.
    ///
    /// # Errors
    /// `NotFound` when there is none, `ReadOnly`, `Suspended`.
    pub fn discard_checkpoint(&self) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        if read(&self.mos)?.is_some() {
            self.run_task(When::AfterDatasets, |spa, _, tx| {
                spa.mos.zap_remove(tx, names::POOL_DIRECTORY, names::ZPOOL_CHECKPOINT)?;
                spa.storage.set_checkpoint(Txg::ZERO);
                spa.note(tx, "checkpoint discarded")
            })?;
        } else if !features::is_active(&self.mos, Feature::ZpoolCheckpoint)? {
            return Err(Error::NotFound);
        }
        self.finish_discarding()
    }

    /// Frees, group by group, what a checkpoint that has been given up kept.
    pub(super) fn finish_discarding(&self) -> Result<()> {
        let is_done = Arc::new(AtomicBool::new(false));
        while !is_done.load(Ordering::Acquire) {
            let is_done = is_done.clone();
            self.run_task(When::AfterDatasets, move |spa, ctx: &SyncCtx, tx| {
                if !spa.storage.discard_checkpoint_step(&spa.mos, ctx)? {
                    features::decrement(&spa.mos, tx, Feature::ZpoolCheckpoint)?;
                    spa.finish_sides(ctx, tx)?;
                    is_done.store(true, Ordering::Release);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The checkpoint, if there is one.
    ///
    /// # Errors
    /// `Damaged`, what reading the MOS gives.
    pub fn checkpoint_info(&self) -> Result<Option<CheckpointInfo>> {
        let bytes = self.storage.checkpointed_bytes();
        if let Some(uberblock) = read(&self.mos)? {
            let (txg, time) = (uberblock.txg.0, uberblock.timestamp);
            return Ok(Some(CheckpointInfo { txg, time, bytes, is_discarding: false }));
        }
        let is_discarding = features::is_active(&self.mos, Feature::ZpoolCheckpoint)?;
        Ok(is_discarding.then_some(CheckpointInfo { txg: 0, time: 0, bytes, is_discarding }))
    }

    /// Refuses what would leave the checkpoint with other devices than it knows.
    ///
    /// # Errors
    /// `Exists` while there is a checkpoint, or one is being discarded.
    pub(super) fn check_no_checkpoint(&self) -> Result<()> {
        match features::is_active(&self.mos, Feature::ZpoolCheckpoint)? {
            true => {
                log::error!(
                    "zfs: the pool has a checkpoint, which does not know other devices: discard it first"
                );
                Err(Error::Exists)
            }
            false => Ok(()),
        }
    }

    /// Takes in what the pool says of its checkpoint, before anything is freed; true when one is being discarded.
    pub(super) fn load_checkpoint(&self) -> Result<bool> {
        let kept = read(&self.mos)?;
        self.storage.set_checkpoint(kept.map_or(Txg::ZERO, |u| u.txg));
        for vdev in self.storage.vdevs().iter() {
            let id = vdev.info().id;
            let zap = self.storage.top_zap(id);
            if !zap.is_none()
                && let Some(list) = self.mos.zap_lookup(zap, names::VDEV_CHECKPOINT_SM)?
            {
                self.storage.load_checkpoint(&self.mos, id, ObjectId(list))?;
            }
        }
        Ok(kept.is_none() && features::is_active(&self.mos, Feature::ZpoolCheckpoint)?)
    }
}
