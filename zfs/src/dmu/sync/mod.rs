//! Writing what a group changed.
use super::objset::Objset;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use ondisk::BlkPtr;

impl Objset {
    /// Writes everything dirty in the syncing group; `None`: nothing was.
    ///
    /// # Errors
    /// What writing gives.
    pub fn sync(&self, _ctx: &SyncCtx) -> Result<Option<BlkPtr>> {
        Err(Error::Unsupported)
    }
}
