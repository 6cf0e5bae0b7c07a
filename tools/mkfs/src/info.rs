//! What can be told about an image: partitions, pool, features, space, datasets; and what a full walk finds.
use crate::image::{Image, Part};
use anyhow::Result;
use serde::Serialize;
use zfs::dsl::DatasetKind;
use zfs::verify::{Progress, Report};

/// Facts about an image.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Where the devices of the pool lie in their files.
    pub partitions: Vec<Part>,
    /// The pool.
    pub pool: PoolInfo,
    /// Feature flags the pool knows.
    pub features: Vec<FeatureInfo>,
    /// Space, bytes.
    pub space: SpaceInfo,
    /// Datasets and snapshots.
    pub datasets: Vec<DatasetInfo>,
    /// Acknowledged changes that are only in intent logs, and so in nothing that is shown.
    pub unreplayed: Vec<UnreplayedInfo>,
}

/// A dataset whose intent log was not replayed.
#[derive(Clone, Debug, Serialize)]
pub struct UnreplayedInfo {
    /// Full name.
    pub dataset: String,
    /// Records of its log.
    pub records: u64,
}

/// The pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolInfo {
    /// Name.
    pub name: String,
    /// Guid.
    pub guid: u64,
    /// Version.
    pub version: u64,
    /// Last transaction group.
    pub txg: u64,
    /// Dataset to boot from.
    pub bootfs: Option<String>,
    /// Named feature set.
    pub compatibility: Option<String>,
    /// Why it can only be read, if so.
    pub read_only_reason: Option<String>,
}

/// A feature flag.
#[derive(Clone, Debug, Serialize)]
pub struct FeatureInfo {
    /// Its name with the organisation.
    pub guid: String,
    /// Uses; 0 is enabled but not in use.
    pub refcount: u64,
    /// A reader that does not know it may still read.
    pub is_read_only_compatible: bool,
}

/// Space of the pool, bytes.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceInfo {
    /// All.
    pub size: u64,
    /// Allocated.
    pub allocated: u64,
    /// Free.
    pub free: u64,
}

/// A dataset or snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetInfo {
    /// Full name.
    pub name: String,
    /// `filesystem`, `snapshot`, `volume` or `other`.
    pub kind: &'static str,
    /// Guid.
    pub guid: u64,
    /// Bytes used with all below it.
    pub used: u64,
    /// Bytes reachable from it.
    pub referenced: u64,
    /// Bytes that may still be written.
    pub available: u64,
    /// Where it is mounted, for file systems.
    pub mountpoint: Option<String>,
}

/// Collects the facts.
///
/// # Errors
/// When the pool cannot be read.
pub fn collect(image: &Image) -> Result<Info> {
    let spa = image.spa();
    let properties = spa.properties()?;
    let features = spa.features()?.into_iter().map(|f| FeatureInfo {
        guid: f.guid,
        refcount: f.refcount,
        is_read_only_compatible: f.is_read_only_compatible,
    });
    let mut datasets = Vec::new();
    for d in spa.datasets()? {
        let kind = match d.kind {
            _ if d.is_snapshot => "snapshot",
            DatasetKind::Filesystem => "filesystem",
            DatasetKind::Volume => "volume",
            DatasetKind::Other => "other",
        };
        let mountpoint = match kind {
            "filesystem" => Some(spa.open_dataset(&d.name)?.properties()?.mountpoint),
            _ => None,
        };
        datasets.push(DatasetInfo {
            name: d.name,
            kind,
            guid: d.guid,
            used: d.space.used,
            referenced: d.space.referenced,
            available: d.space.available,
            mountpoint,
        });
    }
    let space = spa.space()?;
    Ok(Info {
        partitions: image.parts().to_vec(),
        features: features.collect(),
        space: SpaceInfo { size: space.size, allocated: space.allocated, free: space.free },
        datasets,
        unreplayed: spa
            .unreplayed()?
            .into_iter()
            .map(|u| UnreplayedInfo { dataset: u.dataset, records: u.records })
            .collect(),
        pool: PoolInfo {
            name: properties.name,
            guid: properties.guid,
            version: properties.version,
            txg: properties.txg,
            bootfs: properties.bootfs,
            compatibility: properties.compatibility,
            read_only_reason: properties.read_only_reason,
        },
    })
}

/// Walks every block of the pool, checks every checksum, and compares allocation with the space maps.
///
/// # Errors
/// When the walk itself cannot go on; what it finds is in the report.
pub fn verify(image: &Image, progress: &mut dyn FnMut(Progress)) -> Result<Report> {
    Ok(image.spa().verify(progress)?)
}
