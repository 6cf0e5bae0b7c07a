//! The full walk of a pool: every block of every dataset and snapshot, every copy's checksum, and the space maps
//! against what the blocks use.
use crate::spa::mos::Mos;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::{BlkPtr, Bookmark, ObjectId};

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// One copy of a block is bad; others may be good.
    BadCopy {
        /// Whose.
        bookmark: Bookmark,
        /// Top-level vdev of the copy.
        vdev: u64,
        /// Offset of the copy in that vdev, bytes.
        offset: u64,
    },
    /// No copy of a block is good; what hangs below it was not walked.
    Lost {
        /// Whose.
        bookmark: Bookmark,
    },
    /// Space that two blocks claim.
    DoubleAllocation {
        /// Top-level vdev.
        vdev: u64,
        /// Offset in that vdev, bytes.
        offset: u64,
        /// Length, bytes.
        len: u64,
    },
    /// Space that the space maps call allocated and no block uses.
    Leak {
        /// Top-level vdev.
        vdev: u64,
        /// Offset in that vdev, bytes.
        offset: u64,
        /// Length, bytes.
        len: u64,
    },
    /// Space that a block uses and the space maps call free.
    NotAllocated {
        /// Top-level vdev.
        vdev: u64,
        /// Offset in that vdev, bytes.
        offset: u64,
        /// Length, bytes.
        len: u64,
    },
    /// A feature's reference count is wrong.
    FeatureCount {
        /// Its guid.
        guid: String,
        /// What the pool says.
        stored: u64,
        /// What was counted.
        counted: u64,
    },
    /// A figure of the space accounting is wrong.
    Accounting {
        /// Dataset and figure.
        what: String,
        /// What the pool says.
        stored: u64,
        /// What was counted.
        counted: u64,
    },
    /// A structure's content is not what its type demands.
    Damaged {
        /// What and where.
        what: String,
    },
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of blocks walked, all copies.
    pub bytes_done: u64,
    /// Bytes the space maps call allocated.
    pub bytes_total: u64,
}

/// What a walk found and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order found; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub nr_findings_dropped: u64,
    /// Blocks walked (each once, however many copies it has; embedded ones too).
    pub nr_blocks: u64,
    /// Copies whose checksum was computed.
    pub nr_copies: u64,
    /// Bytes allocated to them.
    pub bytes_allocated: u64,
    /// Datasets and snapshots walked.
    pub nr_datasets: u64,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Most findings kept in a report.
pub const FINDINGS_MAX: usize = 10_000;

/// Walks the pool whose MOS root block is `root`.
pub(crate) fn run(
    _mos: &Mos,
    _storage: &Arc<Storage>,
    _root_dir: ObjectId,
    _root: &BlkPtr,
    _progress: &mut dyn FnMut(Progress),
) -> Result<Report> {
    Err(Error::Unsupported)
}
