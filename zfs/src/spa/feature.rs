//! Feature flags: the table of what exists, what this build reads and writes, and which sets a new pool may have.
//!
//! | flag | meaning |
//! |---|---|
//! | `is_read_only_compatible` | a reader that does not know it may still read: it is listed in `features_for_write` |
//! | `is_mos` | must be known to read the MOS, so labels list it too when active |
//! | `is_active_on_enable` | its refcount is 1 from the moment it is enabled |
//! | `is_per_dataset` | counted once for each dataset that uses it; the dataset's ZAP holds the guid |
use alloc::string::String;
use alloc::vec::Vec;

/// How far this build goes with a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// An active one cannot be opened (or, when read-only compatible, only read).
    None,
    /// Read correctly, but pools where it is active are opened read-only.
    Read,
    /// Read and kept up.
    Write,
}

/// A feature flag this build has heard of.
#[derive(Debug, PartialEq, Eq)]
pub struct Feature {
    /// `org.example:name`.
    pub guid: &'static str,
    /// One line for `feature_descriptions`.
    pub description: &'static str,
    /// See the module's table.
    pub is_read_only_compatible: bool,
    /// See the module's table.
    pub is_mos: bool,
    /// See the module's table.
    pub is_active_on_enable: bool,
    /// See the module's table.
    pub is_per_dataset: bool,
    /// What must be enabled with it: short names.
    pub needs: &'static [&'static str],
    /// What this build does with it.
    pub support: Support,
}

impl Feature {
    /// The short name: what follows the colon.
    pub fn name(&self) -> &'static str {
        self.guid.split_once(':').map_or(self.guid, |(_, name)| name)
    }

    /// By guid or short name.
    pub fn find(name: &str) -> Option<&'static Self> {
        FEATURES.iter().find(|f| f.guid == name || f.name() == name)
    }
}

/// A feature as a pool has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureInfo {
    /// `org.example:name`.
    pub guid: String,
    /// 0: enabled but not in use.
    pub refcount: u64,
    /// The transaction group that enabled it, when the pool records that.
    pub enabled_txg: Option<u64>,
    /// Listed in `features_for_write`.
    pub is_read_only_compatible: bool,
    /// This build's row, if it has one.
    pub known: Option<&'static Feature>,
}

/// Which features a new pool enables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// All that this build writes.
    #[default]
    Full,
    /// What GRUB 2.06 reads (`compatibility=grub2`).
    Grub2,
    /// What OpenZFS 2.0 on Linux knows (`compatibility=openzfs-2.0-linux`), as far as this build writes it.
    OpenZfs20Linux,
    /// Version 5000 with no feature enabled.
    NoFeatures,
    /// These, by guid or short name; what they need comes along.
    List(Vec<String>),
}

/// Features of the base write set, in the order they are enabled.
const FULL: &[&str] = &[
    "async_destroy",
    "empty_bpobj",
    "lz4_compress",
    "spacemap_histogram",
    "enabled_txg",
    "hole_birth",
    "extensible_dataset",
    "embedded_data",
    "bookmarks",
    "large_blocks",
    "large_dnode",
    "userobj_accounting",
    "project_quota",
    "spacemap_v2",
];

/// `grub2` of the compatibility files names these of the write set.
const GRUB2: &[&str] = &[
    "async_destroy",
    "empty_bpobj",
    "lz4_compress",
    "spacemap_histogram",
    "enabled_txg",
    "hole_birth",
    "extensible_dataset",
    "embedded_data",
    "bookmarks",
    "large_blocks",
];

impl Compatibility {
    /// The value of the pool property `compatibility`, if it is one of the named sets.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Grub2 => Some("grub2"),
            Self::OpenZfs20Linux => Some("openzfs-2.0-linux"),
            Self::Full | Self::NoFeatures | Self::List(_) => None,
        }
    }

    /// The features to enable, each after what it needs. Unknown names and those this build does not write
    /// are handed back as the error.
    ///
    /// # Errors
    /// The first name that cannot be enabled.
    pub fn features(&self) -> Result<Vec<&'static Feature>, String> {
        let names: Vec<&str> = match self {
            Self::Full | Self::OpenZfs20Linux => FULL.to_vec(),
            Self::Grub2 => GRUB2.to_vec(),
            Self::NoFeatures => Vec::new(),
            Self::List(list) => list.iter().map(String::as_str).collect(),
        };
        let mut enabled = Vec::new();
        for name in names {
            enable(name, &mut enabled)?;
        }
        Ok(enabled)
    }
}

fn enable(name: &str, enabled: &mut Vec<&'static Feature>) -> Result<(), String> {
    let feature =
        Feature::find(name).filter(|f| f.support == Support::Write).ok_or_else(|| String::from(name))?;
    for need in feature.needs {
        enable(need, enabled)?;
    }
    if !enabled.contains(&feature) {
        enabled.push(feature);
    }
    Ok(())
}

const RO: u8 = 1;
const MOS: u8 = 2;
const ACTIVE: u8 = 4;
const DATASET: u8 = 8;

const fn feature(
    guid: &'static str,
    flags: u8,
    support: Support,
    needs: &'static [&'static str],
    description: &'static str,
) -> Feature {
    Feature {
        guid,
        description,
        is_read_only_compatible: flags & RO != 0,
        is_mos: flags & MOS != 0,
        is_active_on_enable: flags & ACTIVE != 0,
        is_per_dataset: flags & DATASET != 0,
        needs,
        support,
    }
}

const XD: &[&str] = &["extensible_dataset"];
use Support::{None as Not, Read, Write};

/// Every feature flag of OpenZFS up to 2.4.
#[rustfmt::skip]
pub static FEATURES: &[Feature] = &[
    feature("com.delphix:async_destroy", RO, Write, &[], "Destroy filesystems asynchronously."),
    feature("com.delphix:empty_bpobj", RO, Write, &[], "Snapshots use less space."),
    feature("org.illumos:lz4_compress", ACTIVE, Write, &[], "LZ4 compression algorithm support."),
    feature("com.joyent:multi_vdev_crash_dump", 0, Read, &[], "Crash dumps to multiple vdev pools."),
    feature("com.delphix:spacemap_histogram", RO, Write, &[], "Spacemaps maintain space histograms."),
    feature("com.delphix:enabled_txg", RO, Write, &[], "Record txg at which a feature is enabled"),
    feature("com.delphix:hole_birth", MOS | ACTIVE, Write, &["enabled_txg"], "Retain hole birth txg for more precise zfs send"),
    feature("com.delphix:extensible_dataset", 0, Write, &[], "Enhanced dataset functionality, used by other features."),
    feature("com.delphix:embedded_data", MOS | ACTIVE, Write, &[], "Blocks which compress very well use even less space."),
    feature("com.delphix:bookmarks", RO, Write, XD, "\"zfs bookmark\" command"),
    feature("com.datto:bookmark_v2", 0, Read, &["extensible_dataset", "bookmarks"], "Support for larger bookmarks"),
    feature("com.delphix:bookmark_written", 0, Read, &["bookmark_v2"], "Additional accounting, enabling the written#<bookmark> property"),
    feature("com.joyent:filesystem_limits", RO, Read, XD, "Filesystem and snapshot limits."),
    feature("org.open-zfs:large_blocks", DATASET, Write, XD, "Support for blocks larger than 128KB."),
    feature("org.zfsonlinux:large_dnode", DATASET, Write, XD, "Variable on-disk size of dnodes."),
    feature("com.klarasystems:large_microzap", RO | DATASET, Read, &["extensible_dataset", "large_blocks"], "Support for microzaps larger than 128KB."),
    feature("org.illumos:sha512", DATASET, Read, XD, "SHA-512/256 hash algorithm."),
    feature("org.illumos:skein", DATASET, Not, XD, "Skein hash algorithm."),
    feature("org.illumos:edonr", DATASET, Not, XD, "Edon-R hash algorithm."),
    feature("org.openzfs:blake3", DATASET, Not, XD, "BLAKE3 hash algorithm."),
    feature("org.freebsd:zstd_compress", DATASET, Not, XD, "zstd compression algorithm support."),
    feature("com.datto:encryption", DATASET, Not, &["bookmark_v2"], "Support for dataset level encryption"),
    feature("org.zfsonlinux:userobj_accounting", RO | DATASET, Write, XD, "User/Group object accounting."),
    feature("org.zfsonlinux:project_quota", RO | DATASET, Write, XD, "space/object accounting based on project ID."),
    feature("org.zfsonlinux:longname", DATASET, Read, XD, "support filename up to 1024 bytes"),
    feature("org.openzfs:zilsaxattr", RO | DATASET, Read, XD, "Support for xattr=sa extended attribute logging in ZIL."),
    feature("com.truenas:physical_rewrite", RO | DATASET, Read, XD, "Support for preserving logical birth time during rewrite."),
    feature("com.delphix:spacemap_v2", RO | ACTIVE, Write, &[], "Space maps representing large segments are more efficient."),
    feature("com.delphix:log_spacemap", RO, Read, &["spacemap_v2"], "Log metaslab changes on a single spacemap and flush them periodically."),
    feature("com.delphix:zpool_checkpoint", RO, Read, &[], "Pool state can be checkpointed, allowing rewind later."),
    feature("com.delphix:device_removal", MOS, Not, &[], "Top-level vdevs can be removed, reducing logical pool size."),
    feature("com.delphix:obsolete_counts", RO, Not, &["extensible_dataset", "device_removal"], "Reduce memory used by removed devices when their blocks are freed or remapped."),
    feature("org.zfsonlinux:allocation_classes", RO, Read, &[], "Support for separate allocation classes."),
    feature("com.datto:resilver_defer", RO, Read, &[], "Support for deferring new resilvers when one is already running."),
    feature("org.openzfs:device_rebuild", RO, Read, &[], "Support for sequential mirror/dRAID device rebuilds"),
    feature("org.openzfs:draid", MOS, Not, &[], "Support for distributed spare RAID"),
    feature("com.seagate:draid_failure_domains", MOS, Not, &["draid"], "Support for failure domains in dRAID"),
    feature("org.openzfs:raidz_expansion", MOS, Not, &[], "Support for raidz expansion"),
    feature("com.klarasystems:vdev_zaps_v2", MOS, Write, &[], "Support for root vdev ZAP."),
    feature("com.delphix:head_errlog", ACTIVE, Write, &[], "Support for per-dataset on-disk error logs."),
    feature("com.delphix:livelist", RO, Read, XD, "Improved clone deletion performance."),
    feature("com.delphix:redaction_bookmarks", 0, Read, &["bookmark_v2"], "Support for bookmarks which store redaction lists for zfs redacted send/recv."),
    feature("com.delphix:redacted_datasets", DATASET, Read, XD, "Support for redacted datasets, produced by receiving a redacted zfs send stream."),
    feature("com.delphix:redaction_list_spill", 0, Read, &["redaction_bookmarks"], "Support for increased number of redaction_snapshot arguments in zfs redact."),
    feature("com.fudosecurity:block_cloning", RO, Read, &[], "Support for block cloning via Block Reference Table."),
    feature("com.truenas:block_cloning_endian", RO, Read, &[], "Fixes BRT ZAP endianness on new pools."),
    feature("com.klarasystems:fast_dedup", RO, Read, &[], "Support for advanced deduplication"),
    feature("com.klarasystems:dynamic_gang_header", MOS, Not, &[], "Support for dynamically sized gang headers"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn needs_exist() {
        for f in FEATURES {
            for need in f.needs {
                assert!(Feature::find(need).is_some(), "{need}");
            }
        }
    }

    #[test]
    fn sets_come_with_their_needs() {
        let list = Compatibility::List(alloc::vec!["hole_birth".to_string()]).features().unwrap();
        let names: Vec<_> = list.iter().map(|f| f.name()).collect();
        assert_eq!(names, ["enabled_txg", "hole_birth"]);
        assert_eq!(
            Compatibility::List(alloc::vec!["draid".to_string()]).features(),
            Err("draid".to_string())
        );
        assert!(
            Compatibility::Full.features().unwrap().len() >= Compatibility::Grub2.features().unwrap().len()
        );
        assert!(Compatibility::NoFeatures.features().unwrap().is_empty());
    }
}
