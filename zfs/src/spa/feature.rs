//! Feature flags: what this build does with each, and which sets a new pool may have.
//!
//! The table of what exists (guids, traits, dependencies) is `ondisk::Feature`.
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::Checksum;
pub use ondisk::feature::Feature;

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

/// What this build does with a feature.
///
/// `Read` is for what changes nothing that a reader does not understand, but that a writer would have to keep up.
pub const fn support(feature: Feature) -> Support {
    use Feature as F;
    match feature {
        F::AsyncDestroy
        | F::EmptyBpobj
        | F::Lz4Compress
        | F::SpacemapHistogram
        | F::EnabledTxg
        | F::HoleBirth
        | F::ExtensibleDataset
        | F::EmbeddedData
        | F::Bookmarks
        | F::LargeBlocks
        | F::LargeDnode
        | F::UserobjAccounting
        | F::ProjectQuota
        | F::SpacemapV2
        | F::VdevZapsV2
        | F::HeadErrlog
        | F::AllocationClasses
        | F::LogSpacemap
        | F::Livelist
        | F::FilesystemLimits
        | F::ZpoolCheckpoint
        | F::BlockCloning
        | F::BlockCloningEndian => Support::Write,
        // Read as it is; what we write to such a dataset is compressed by what is built in.
        F::ZstdCompress => Support::Write,
        // Held by objects that only their own commands change: everything else may be written beside them.
        F::BookmarkV2
        | F::BookmarkWritten
        | F::RedactionBookmarks
        | F::RedactionListSpill
        | F::MultiVdevCrashDump
        | F::Zilsaxattr => Support::Write,
        F::LargeMicrozap
        | F::Sha512
        | F::Longname
        | F::PhysicalRewrite
        | F::ResilverDefer
        | F::DeviceRebuild
        | F::RedactedDatasets
        | F::FastDedup => Support::Read,
        F::Blake3 if codec::supports_checksum(Checksum::Blake3) => Support::Read,
        // A dataset that uses these cannot be read, the rest of the pool can: refused where it is opened.
        F::Skein | F::EdonR | F::Blake3 | F::Encryption => Support::None,
        F::DeviceRemoval
        | F::ObsoleteCounts
        | F::Draid
        | F::DraidFailureDomains
        | F::RaidzExpansion
        | F::DynamicGangHeader => Support::None,
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
    /// Listed in `features_for_write`: a reader need not know it.
    pub is_read_only_compatible: bool,
    /// What it is, if this build has heard of it.
    pub known: Option<Feature>,
}

/// Which features a new pool enables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// All that this build writes to a new pool.
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

/// `grub2` of the compatibility files names these of the write set.
const GRUB2: &[Feature] = &[
    Feature::AsyncDestroy,
    Feature::EmptyBpobj,
    Feature::Lz4Compress,
    Feature::SpacemapHistogram,
    Feature::EnabledTxg,
    Feature::HoleBirth,
    Feature::ExtensibleDataset,
    Feature::EmbeddedData,
    Feature::Bookmarks,
    Feature::LargeBlocks,
];

/// What a full pool has beyond those.
const FULL_MORE: &[Feature] = &[
    Feature::LargeDnode,
    Feature::UserobjAccounting,
    Feature::ProjectQuota,
    Feature::SpacemapV2,
    Feature::AllocationClasses,
    Feature::LogSpacemap,
    Feature::ZpoolCheckpoint,
    Feature::Livelist,
    Feature::FilesystemLimits,
];

/// What a full pool has that OpenZFS 2.0 does not know.
const FULL_NEWER: &[Feature] = &[Feature::Zilsaxattr, Feature::BlockCloning];

impl Compatibility {
    /// The value of the pool property `compatibility`, if it is one of the named sets.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Grub2 => Some("grub2"),
            Self::OpenZfs20Linux => Some("openzfs-2.0-linux"),
            Self::Full | Self::NoFeatures | Self::List(_) => None,
        }
    }

    /// The features to enable, each after what it needs.
    ///
    /// # Errors
    /// The first name that is unknown or that this build does not write.
    pub fn features(&self) -> Result<Vec<Feature>, String> {
        let mut enabled = Vec::new();
        match self {
            Self::Full => {
                GRUB2.iter().chain(FULL_MORE).chain(FULL_NEWER).for_each(|f| enable(*f, &mut enabled));
            }
            Self::OpenZfs20Linux => {
                GRUB2.iter().chain(FULL_MORE).for_each(|f| enable(*f, &mut enabled));
            }
            Self::Grub2 => GRUB2.iter().for_each(|f| enable(*f, &mut enabled)),
            Self::NoFeatures => {}
            Self::List(names) => {
                for name in names {
                    let known = Feature::from_guid(name).or_else(|| Feature::from_name(name));
                    let feature = known.filter(|f| support(*f) == Support::Write).ok_or(name.clone())?;
                    enable(feature, &mut enabled);
                }
            }
        }
        Ok(enabled)
    }
}

fn enable(feature: Feature, enabled: &mut Vec<Feature>) {
    for need in feature.info().depends {
        enable(*need, enabled);
    }
    if !enabled.contains(&feature) {
        enabled.push(feature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn sets_come_with_their_needs() {
        let list = Compatibility::List(vec!["hole_birth".to_string()]).features().unwrap();
        assert_eq!(list, [Feature::EnabledTxg, Feature::HoleBirth]);
        assert_eq!(Compatibility::List(vec!["draid".to_string()]).features(), Err("draid".to_string()));
        assert!(Compatibility::NoFeatures.features().unwrap().is_empty());
    }

    #[test]
    fn every_set_can_be_written() {
        for set in [Compatibility::Full, Compatibility::Grub2, Compatibility::OpenZfs20Linux] {
            assert!(set.features().unwrap().into_iter().all(|f| support(f) == Support::Write));
        }
    }
}
