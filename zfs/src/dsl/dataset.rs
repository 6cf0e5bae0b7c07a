//! Datasets as callers see them.
use super::property::{Property, PropertyValue};
use crate::{Error, Result};
use alloc::string::String;
use alloc::sync::Arc;
use ondisk::{Checksum, Compression};

/// What a dataset holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatasetKind {
    /// A file system.
    Filesystem,
    /// A volume.
    Volume,
    /// Something else, or empty.
    Other,
}

/// Space figures of a dataset, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatasetSpace {
    /// With all descendants and snapshots (`used`).
    pub used: u64,
    /// Reachable from the dataset itself (`referenced`).
    pub referenced: u64,
    /// What may still be written: quotas and the pool's free space considered.
    pub available: u64,
    /// Of `used`: the dataset itself.
    pub used_by_dataset: u64,
    /// Of `used`: its snapshots.
    pub used_by_snapshots: u64,
    /// Of `used`: its children.
    pub used_by_children: u64,
    /// Of `used`: set aside by `refreservation`.
    pub used_by_refreservation: u64,
    /// Before compression: `referenced`.
    pub logical_referenced: u64,
    /// Before compression: `used`.
    pub logical_used: u64,
}

/// What is known of a dataset or snapshot without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetInfo {
    /// `pool/a/b` or `pool/a@snap`.
    pub name: String,
    /// Object number in the MOS.
    pub id: u64,
    /// Its guid.
    pub guid: u64,
    /// What it holds.
    pub kind: DatasetKind,
    /// It is a snapshot.
    pub is_snapshot: bool,
    /// The snapshot it was cloned from.
    pub origin: Option<String>,
    /// Transaction group of its creation.
    pub created_txg: u64,
    /// Time of its creation, seconds since 1970.
    pub created: u64,
    /// Space.
    pub space: DatasetSpace,
    /// Its blocks are encrypted: not readable here.
    pub is_encrypted: bool,
}

/// The properties that file systems and object sets act on, inheritance resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetProperties {
    /// Largest block of files, bytes.
    pub record_size: u32,
    /// Block compression (never `Inherit` or `On`).
    pub compression: Compression,
    /// Block checksum (never `Inherit` or `On`).
    pub checksum: Checksum,
    /// Copies of user data.
    pub copies: u8,
    /// Access times are kept.
    pub atime: bool,
    /// Access times are kept only relative to modification.
    pub relatime: bool,
    /// Nothing may be written: the property, a snapshot, or a pool opened read-only.
    pub read_only: bool,
    /// Programs may be run.
    pub exec: bool,
    /// Set-id bits count.
    pub setuid: bool,
    /// Device nodes work.
    pub devices: bool,
    /// Extended attributes: 0 off, 1 directory, 2 system attribute.
    pub xattr: u64,
    /// Access control lists: 0 off, 1 POSIX, 2 NFSv4.
    pub acl_type: u64,
    /// Number of the property `aclinherit`.
    pub acl_inherit: u64,
    /// Number of the property `aclmode`.
    pub acl_mode: u64,
    /// New dnodes: bytes; 0 legacy (512), 1 auto.
    pub dnode_size: u64,
    /// 0 standard, 1 always, 2 disabled.
    pub sync: u64,
    /// 0 latency, 1 throughput.
    pub log_bias: u64,
    /// Redundancy of metadata: 0 all, 1 most, 2 some, 3 none.
    pub redundant_metadata: u64,
    /// 0 hidden, 1 visible, 2 disabled.
    pub snap_dir: u64,
    /// 0 off, 1 on, 2 noauto.
    pub can_mount: u64,
    /// Absolute path, `legacy` or `none`; already joined with the names below an inherited one.
    pub mountpoint: String,
}

/// An open dataset or snapshot.
#[derive(Debug)]
pub struct Dataset {
    pub(crate) name: String,
    pub(crate) id: u64,
}

impl Dataset {
    /// `pool/a/b` or `pool/a@snap`, as it was when opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Object number in the MOS: the `objset` of bookmarks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its properties now, inheritance resolved.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn properties(&self) -> Result<DatasetProperties> {
        Err(Error::Unsupported)
    }

    /// Why it cannot be written, if so.
    pub fn read_only_reason(&self) -> Option<String> {
        Some(String::from("not supported"))
    }

    /// Space figures now.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn space(self: &Arc<Self>) -> Result<DatasetSpace> {
        Err(Error::Unsupported)
    }

    /// One property's value and where it comes from.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn property(&self, _property: &Property) -> Result<(PropertyValue, super::Source)> {
        Err(Error::Unsupported)
    }
}
