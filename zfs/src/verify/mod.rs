//! The full walk of a pool: every block of every dataset and snapshot, every copy's checksum, and the space maps
//! against what the blocks use.
//!
//! | module | holds |
//! |---|---|
//! | `walk` | the walk over all object sets and lists of blocks |
//! | `checker` | checking copies on several threads |
//! | `clones` | references to shared blocks, against the block reference table |
//! | `deadlists` | dead lists, and the figures of snapshots that follow from them |
//! | `livelists` | live lists of clones |
//! | `space` | what is claimed by blocks, against what the space maps say |
//! | `usage` | what dnodes say they use |
//! | `counts` | features' refcounts and the figures of the space accounting |
//!
//! Memory is bounded by fragmentation (merged ranges) and by the number of shared blocks, not by that of all blocks. Everything is read from disk; only
//! objects of the MOS come through its cache, so a pool open for writing must be synced and quiet.
mod checker;
mod clones;
mod counts;
mod deadlists;
mod livelists;
mod space;
mod usage;
mod walk;

pub(crate) use walk::run;

use alloc::string::String;
use alloc::vec::Vec;
use ondisk::Bookmark;

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
    /// A shared block has more or fewer references than the block reference table says.
    References {
        /// Top-level vdev of its first copy.
        vdev: u64,
        /// Offset of its first copy in that vdev, bytes.
        offset: u64,
        /// What the table says, the first reference included.
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
    /// Datasets and snapshots that could not be walked (encrypted, or in need of what this build has not got): the
    /// space they use cannot be told from leaks, so leaks are not looked for.
    pub not_walked: Vec<String>,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.nr_findings_dropped += 1;
        }
    }
}

/// Most findings kept in a report.
pub const FINDINGS_MAX: usize = 10_000;
