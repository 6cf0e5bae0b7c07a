//! Datasets as callers see them.
use super::ledger::Ledger;
use super::property::{Property, PropertyValue, Source};
use super::{dir, props};
use crate::dmu::{Objset, ObjsetProperties};
use crate::spa::Spa;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use ondisk::{Checksum, Compression, ObjectId};
use rt::SpinLock;

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
    /// File blocks stored in at most this many bytes go to special vdevs.
    pub special_small_blocks: u32,
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
    name: SpinLock<String>,
    id: AtomicU64,
    dir: AtomicU64,
    is_snapshot: bool,
    kind: DatasetKind,
    objset: Arc<Objset>,
    ledger: Arc<Ledger>,
    spa: Weak<Spa>,
    read_only_reason: Option<String>,
}

/// What a [`Dataset`] is made of.
pub(crate) struct DatasetParts {
    pub(crate) name: String,
    pub(crate) id: ObjectId,
    pub(crate) dir: ObjectId,
    pub(crate) is_snapshot: bool,
    pub(crate) kind: DatasetKind,
    pub(crate) objset: Arc<Objset>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) spa: Weak<Spa>,
    pub(crate) read_only_reason: Option<String>,
}

impl Dataset {
    pub(crate) fn new(parts: DatasetParts) -> Arc<Self> {
        Arc::new(Self {
            name: SpinLock::new(parts.name),
            id: AtomicU64::new(parts.id.0),
            dir: AtomicU64::new(parts.dir.0),
            is_snapshot: parts.is_snapshot,
            kind: parts.kind,
            objset: parts.objset,
            ledger: parts.ledger,
            spa: parts.spa,
            read_only_reason: parts.read_only_reason,
        })
    }

    /// `pool/a/b` or `pool/a@snap`.
    pub fn name(&self) -> String {
        self.name.lock().clone()
    }

    /// Object number in the MOS: the `objset` of bookmarks.
    pub fn id(&self) -> u64 {
        self.id.load(Ordering::Acquire)
    }

    /// What it holds.
    pub fn kind(&self) -> DatasetKind {
        self.kind
    }

    /// It is a snapshot.
    pub fn is_snapshot(&self) -> bool {
        self.is_snapshot
    }

    /// Its objects.
    pub fn objset(&self) -> Arc<Objset> {
        self.objset.clone()
    }

    /// Its properties now, inheritance resolved.
    ///
    /// # Errors
    /// `Suspended` when the pool is closed; `Io`, `Checksum`, `Damaged`.
    pub fn properties(&self) -> Result<DatasetProperties> {
        let spa = self.spa()?;
        let is_read_only = self.read_only_reason.is_some();
        props::resolve(spa.mos(), self.dir(), spa.enabled_features(), is_read_only)
    }

    /// Why it cannot be written, if so: a snapshot, or a pool opened read-only (not the property `readonly`).
    pub fn read_only_reason(&self) -> Option<String> {
        self.read_only_reason.clone()
    }

    /// Space figures, as of the last transaction group.
    ///
    /// # Errors
    /// `Suspended` when the pool is closed; `Io`, `Checksum`, `Damaged`.
    pub fn space(&self) -> Result<DatasetSpace> {
        let spa = self.spa()?;
        space_of(spa.mos(), ObjectId(self.id()), self.is_snapshot, spa.usable_bytes())
    }

    /// One property's value and where it comes from.
    ///
    /// # Errors
    /// `Suspended` when the pool is closed; `Io`, `Checksum`, `Damaged`.
    pub fn property(&self, property: &Property) -> Result<(PropertyValue, Source)> {
        props::get(self.spa()?.mos(), self.dir(), property)
    }

    /// The user properties in force.
    ///
    /// # Errors
    /// As [`Self::property`].
    pub fn user_properties(&self) -> Result<Vec<(Property, PropertyValue, Source)>> {
        props::user_properties(self.spa()?.mos(), self.dir())
    }

    /// The pool.
    ///
    /// # Errors
    /// `Suspended` when it is closed.
    pub fn spa(&self) -> Result<Arc<Spa>> {
        self.spa.upgrade().ok_or(Error::Suspended)
    }

    pub(crate) fn dir(&self) -> ObjectId {
        ObjectId(self.dir.load(Ordering::Acquire))
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A new dataset gets its place when the transaction group that makes it is written.
    pub(crate) fn set_place(&self, id: ObjectId, dir: ObjectId) {
        self.id.store(id.0, Ordering::Release);
        self.dir.store(dir.0, Ordering::Release);
    }

    pub(crate) fn set_name(&self, name: &str) {
        *self.name.lock() = String::from(name);
    }
}

/// How objsets write, from the properties.
pub(crate) fn objset_properties(p: &DatasetProperties) -> ObjsetProperties {
    ObjsetProperties {
        checksum: p.checksum,
        compress: p.compression,
        copies: p.copies,
        redundant_metadata: p.redundant_metadata,
        small_blocks: p.special_small_blocks,
    }
}

/// The space figures of a dataset or snapshot.
pub(crate) fn space_of(mos: &Mos, id: ObjectId, is_snapshot: bool, usable: u64) -> Result<DatasetSpace> {
    let ds = dir::read_dataset(mos, id)?;
    if is_snapshot {
        return Ok(DatasetSpace {
            used: ds.unique_bytes,
            referenced: ds.referenced_bytes,
            logical_referenced: ds.uncompressed_bytes,
            ..DatasetSpace::default()
        });
    }
    let own = dir::read(mos, ds.dir)?;
    let [head, snap, child, child_reserved, ref_reserved] = own.used_breakdown;
    let mut available = dir::available(mos, ds.dir, usable)?;
    let (ref_quota, ref_reserved_total) = ref_limits(mos, ds.dir)?;
    // What a refreservation sets aside is charged as used, and is this dataset's to write.
    available = available.saturating_add(ref_reserved_total.saturating_sub(ds.unique_bytes));
    if ref_quota > 0 {
        available = available.min(ref_quota.saturating_sub(ds.referenced_bytes));
    }
    Ok(DatasetSpace {
        used: own.used_bytes,
        referenced: ds.referenced_bytes,
        available,
        used_by_dataset: head,
        used_by_snapshots: snap,
        used_by_children: child.saturating_add(child_reserved),
        used_by_refreservation: ref_reserved,
        logical_referenced: ds.uncompressed_bytes,
        logical_used: own.uncompressed_bytes,
    })
}

/// `refquota` and `refreservation` of a dataset.
pub(crate) fn ref_limits(mos: &Mos, dir: ObjectId) -> Result<(u64, u64)> {
    let number = |p: Property| Ok::<u64, Error>(props::get(mos, dir, &p)?.0.number().unwrap_or(0));
    Ok((number(Property::RefQuota)?, number(Property::RefReservation)?))
}
