//! What intent logs hold that nobody has replayed: acknowledged changes that a reader of the pool does not see.
use super::import::log_header;
use super::{Error, Result, Spa};
use crate::dsl::names;
use crate::zil::chain;
use alloc::string::String;
use alloc::vec::Vec;

/// A dataset whose log is not replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreplayed {
    /// Its full name.
    pub dataset: String,
    /// Records.
    pub records: u64,
}

impl Spa {
    /// The datasets whose logs hold records that are not replayed, as of the pool's last group on disk. For pools that are
    /// only read: when they are opened for writing, mounting replays them.
    ///
    /// # Errors
    /// Those of reading the pool's directory.
    pub fn unreplayed(&self) -> Result<Vec<Unreplayed>> {
        let mut found = Vec::new();
        let synced = self.txgs.synced_txg();
        names::walk(&self.mos, self.root_dir(), &self.mos.pool_name(), false, &mut |entry| {
            if entry.is_snapshot || entry.dataset.is_none() {
                return Ok(());
            }
            let header = match log_header(&self.mos, &self.storage, entry.dataset) {
                // Such a dataset says so itself, when it is opened.
                Err(Error::Unsupported | Error::Encrypted) => return Ok(()),
                header => header?,
            };
            let records = chain::count_records(&self.storage, &header, entry.dataset.0, synced, u64::MAX);
            if records > 0 {
                found.push(Unreplayed { dataset: entry.name.clone(), records });
            }
            Ok(())
        })?;
        Ok(found)
    }
}
