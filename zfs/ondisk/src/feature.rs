//! The table of feature flags: guids, traits, dependencies.
//!
//! Which of them an implementation can read or write with is its own to say (crate `zfs`); this is what the format
//! defines. A guid that is not in the table is an unknown feature: active in `features_for_read` the pool cannot be
//! opened, active in `features_for_write` it can only be read.

bitflags::bitflags! {
    /// Traits of a feature.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FeatureFlags: u8 {
        /// One who does not know it may still read the pool: it is listed in `features_for_write`.
        const READONLY_COMPAT = 1;
        /// One must know it to read the MOS: it is listed in the label when active.
        const MOS = 2;
        /// Active as soon as enabled.
        const ACTIVATE_ON_ENABLE = 4;
        /// Counts datasets; its guid is also a key of each such dataset's object.
        const PER_DATASET = 8;
        /// Not enabled by an upgrade of the pool.
        const NO_UPGRADE = 16;
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureInfo {
    /// Which one.
    pub id: Feature,
    /// Name as `feature@NAME`.
    pub name: &'static str,
    /// `organisation:name`, the key on disk.
    pub guid: &'static str,
    /// Traits.
    pub flags: FeatureFlags,
    /// Features that must be enabled with it.
    pub depends: &'static [Feature],
    /// Text for `feature_descriptions`.
    pub description: &'static str,
}

macro_rules! flags {
    ($($name:ident)*) => { FeatureFlags::empty()$(.union(FeatureFlags::$name))* };
}

macro_rules! features {
    ($($id:ident, $name:literal, $org:literal, [$($flag:ident)*], [$($dep:ident)*], $text:literal;)*) => {
        /// A feature flag.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "described in the table")]
        pub enum Feature { $($id,)* }

        /// All features the format defines, in the order of [`Feature`].
        pub const FEATURES: &[FeatureInfo] = &[
            $(FeatureInfo {
                id: Feature::$id,
                name: $name,
                guid: concat!($org, ":", $name),
                flags: flags!($($flag)*),
                depends: &[$(Feature::$dep),*],
                description: $text,
            },)*
        ];
    };
}

features! {
    AsyncDestroy, "async_destroy", "com.delphix", [READONLY_COMPAT], [],
        "Destroy filesystems asynchronously.";
    EmptyBpobj, "empty_bpobj", "com.delphix", [READONLY_COMPAT], [],
        "Snapshots use less space.";
    Lz4Compress, "lz4_compress", "org.illumos", [ACTIVATE_ON_ENABLE], [],
        "LZ4 compression algorithm support.";
    MultiVdevCrashDump, "multi_vdev_crash_dump", "com.joyent", [], [],
        "Crash dumps to multiple vdev pools.";
    SpacemapHistogram, "spacemap_histogram", "com.delphix", [READONLY_COMPAT], [],
        "Spacemaps maintain space histograms.";
    EnabledTxg, "enabled_txg", "com.delphix", [READONLY_COMPAT], [],
        "Record txg at which a feature is enabled";
    HoleBirth, "hole_birth", "com.delphix", [MOS ACTIVATE_ON_ENABLE], [EnabledTxg],
        "Retain hole birth txg for more precise zfs send";
    ExtensibleDataset, "extensible_dataset", "com.delphix", [], [],
        "Enhanced dataset functionality, used by other features.";
    EmbeddedData, "embedded_data", "com.delphix", [MOS ACTIVATE_ON_ENABLE], [],
        "Blocks which compress very well use even less space.";
    Bookmarks, "bookmarks", "com.delphix", [READONLY_COMPAT], [ExtensibleDataset],
        "\"zfs bookmark\" command";
    BookmarkV2, "bookmark_v2", "com.datto", [], [ExtensibleDataset Bookmarks],
        "Support for larger bookmarks";
    BookmarkWritten, "bookmark_written", "com.delphix", [], [BookmarkV2 ExtensibleDataset Bookmarks],
        "Additional accounting, enabling the written#<bookmark> property (space written since a bookmark), \
         and estimates of send stream sizes for incrementals from bookmarks.";
    FilesystemLimits, "filesystem_limits", "com.joyent", [READONLY_COMPAT], [ExtensibleDataset],
        "Filesystem and snapshot limits.";
    LargeBlocks, "large_blocks", "org.open-zfs", [PER_DATASET], [ExtensibleDataset],
        "Support for blocks larger than 128KB.";
    LargeDnode, "large_dnode", "org.zfsonlinux", [PER_DATASET], [ExtensibleDataset],
        "Variable on-disk size of dnodes.";
    LargeMicrozap, "large_microzap", "com.klarasystems", [READONLY_COMPAT PER_DATASET], [ExtensibleDataset LargeBlocks],
        "Support for microzaps larger than 128KB.";
    Sha512, "sha512", "org.illumos", [PER_DATASET], [ExtensibleDataset],
        "SHA-512/256 hash algorithm.";
    Skein, "skein", "org.illumos", [PER_DATASET], [ExtensibleDataset],
        "Skein hash algorithm.";
    EdonR, "edonr", "org.illumos", [PER_DATASET], [ExtensibleDataset],
        "Edon-R hash algorithm.";
    Blake3, "blake3", "org.openzfs", [PER_DATASET], [ExtensibleDataset],
        "BLAKE3 hash algorithm.";
    ZstdCompress, "zstd_compress", "org.freebsd", [PER_DATASET], [ExtensibleDataset],
        "zstd compression algorithm support.";
    Encryption, "encryption", "com.datto", [PER_DATASET], [ExtensibleDataset BookmarkV2],
        "Support for dataset level encryption";
    UserobjAccounting, "userobj_accounting", "org.zfsonlinux", [READONLY_COMPAT PER_DATASET], [ExtensibleDataset],
        "User/Group object accounting.";
    ProjectQuota, "project_quota", "org.zfsonlinux", [READONLY_COMPAT PER_DATASET], [ExtensibleDataset],
        "space/object accounting based on project ID.";
    Longname, "longname", "org.zfsonlinux", [PER_DATASET], [ExtensibleDataset],
        "support filename up to 1024 bytes";
    Zilsaxattr, "zilsaxattr", "org.openzfs", [READONLY_COMPAT PER_DATASET], [ExtensibleDataset],
        "Support for xattr=sa extended attribute logging in ZIL.";
    PhysicalRewrite, "physical_rewrite", "com.truenas", [READONLY_COMPAT PER_DATASET], [ExtensibleDataset],
        "Support for preserving logical birth time during rewrite.";
    SpacemapV2, "spacemap_v2", "com.delphix", [READONLY_COMPAT ACTIVATE_ON_ENABLE], [],
        "Space maps representing large segments are more efficient.";
    LogSpacemap, "log_spacemap", "com.delphix", [READONLY_COMPAT], [SpacemapV2],
        "Log metaslab changes on a single spacemap and flush them periodically.";
    ZpoolCheckpoint, "zpool_checkpoint", "com.delphix", [READONLY_COMPAT], [],
        "Pool state can be checkpointed, allowing rewind later.";
    DeviceRemoval, "device_removal", "com.delphix", [MOS], [],
        "Top-level vdevs can be removed, reducing logical pool size.";
    ObsoleteCounts, "obsolete_counts", "com.delphix", [READONLY_COMPAT], [ExtensibleDataset DeviceRemoval],
        "Reduce memory used by removed devices when their blocks are freed or remapped.";
    AllocationClasses, "allocation_classes", "org.zfsonlinux", [READONLY_COMPAT], [],
        "Support for separate allocation classes.";
    ResilverDefer, "resilver_defer", "com.datto", [READONLY_COMPAT], [],
        "Support for deferring new resilvers when one is already running.";
    DeviceRebuild, "device_rebuild", "org.openzfs", [READONLY_COMPAT], [],
        "Support for sequential mirror/dRAID device rebuilds";
    Draid, "draid", "org.openzfs", [MOS], [],
        "Support for distributed spare RAID";
    DraidFailureDomains, "draid_failure_domains", "com.seagate", [MOS], [Draid],
        "Support for failure domains in dRAID";
    RaidzExpansion, "raidz_expansion", "org.openzfs", [MOS], [],
        "Support for raidz expansion";
    VdevZapsV2, "vdev_zaps_v2", "com.klarasystems", [MOS], [],
        "Support for root vdev ZAP.";
    HeadErrlog, "head_errlog", "com.delphix", [ACTIVATE_ON_ENABLE], [],
        "Support for per-dataset on-disk error logs.";
    Livelist, "livelist", "com.delphix", [READONLY_COMPAT], [ExtensibleDataset],
        "Improved clone deletion performance.";
    RedactionBookmarks, "redaction_bookmarks", "com.delphix", [], [BookmarkV2 ExtensibleDataset Bookmarks],
        "Support for bookmarks which store redaction lists for zfs redacted send/recv.";
    RedactedDatasets, "redacted_datasets", "com.delphix", [PER_DATASET], [ExtensibleDataset],
        "Support for redacted datasets, produced by receiving a redacted zfs send stream.";
    RedactionListSpill, "redaction_list_spill", "com.delphix", [], [RedactionBookmarks],
        "Support for increased number of redaction_snapshot arguments in zfs redact.";
    BlockCloning, "block_cloning", "com.fudosecurity", [READONLY_COMPAT], [],
        "Support for block cloning via Block Reference Table.";
    BlockCloningEndian, "block_cloning_endian", "com.truenas", [READONLY_COMPAT], [],
        "Fixes BRT ZAP endianness on new pools.";
    FastDedup, "fast_dedup", "com.klarasystems", [READONLY_COMPAT], [],
        "Support for advanced deduplication";
    DynamicGangHeader, "dynamic_gang_header", "com.klarasystems", [MOS NO_UPGRADE], [],
        "Support for dynamically sized gang headers";
}

impl Feature {
    /// Its row of the table.
    #[must_use]
    pub fn info(self) -> &'static FeatureInfo {
        &FEATURES[self as usize]
    }

    /// Its key on disk.
    #[must_use]
    pub fn guid(self) -> &'static str {
        self.info().guid
    }

    /// The feature of that guid; `None` for an unknown one.
    #[must_use]
    pub fn from_guid(guid: &str) -> Option<Self> {
        FEATURES.iter().find(|f| f.guid == guid).map(|f| f.id)
    }

    /// The feature of that short name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        FEATURES.iter().find(|f| f.name == name).map(|f| f.id)
    }

    /// Listed in `features_for_write` rather than `features_for_read`.
    #[must_use]
    pub fn is_readonly_compatible(self) -> bool {
        self.info().flags.contains(FeatureFlags::READONLY_COMPAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_their_id() {
        for (index, row) in FEATURES.iter().enumerate() {
            assert_eq!(row.id as usize, index);
            assert_eq!(Feature::from_guid(row.guid), Some(row.id));
            assert_eq!(Feature::from_name(row.name), Some(row.id));
        }
        assert_eq!(Feature::from_guid("org.example:none"), None);
    }

    #[test]
    fn dependencies_are_closed_under_read_compatibility() {
        // A feature that is read-only compatible may depend on one that is not, but no feature depends on itself.
        for row in FEATURES {
            assert!(!row.depends.contains(&row.id), "{}", row.name);
        }
    }
}
