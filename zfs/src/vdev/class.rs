//! What a top-level vdev's space is for (allocation classes).
use super::raidz;
use super::top::TopInfo;

/// What a top-level vdev's space is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AllocClass {
    /// Everything.
    #[default]
    Normal,
    /// Intent log blocks only.
    Log,
    /// Metadata, and small blocks of datasets that ask for it.
    Special,
    /// Deduplication tables.
    Dedup,
}

impl AllocClass {
    /// The value of `org.zfsonlinux:allocation_bias` in a vdev's ZAP and of `alloc_bias` in the configuration
    /// (`VDEV_ALLOC_BIAS_*`); `None` for normal vdevs, which have neither.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Normal => None,
            Self::Log => Some("log"),
            Self::Special => Some("special"),
            Self::Dedup => Some("dedup"),
        }
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Log, Self::Special, Self::Dedup].into_iter().find(|class| class.name() == Some(name))
    }

    /// Whether such a vdev is counted by the feature `allocation_classes`.
    pub const fn is_counted(self) -> bool {
        matches!(self, Self::Special | Self::Dedup)
    }
}

impl TopInfo {
    /// Bytes to allocate for a block of `psize` bytes.
    pub fn asize_of(&self, psize: u64) -> u64 {
        match self.nr_parity {
            0 => psize.next_multiple_of(1 << self.ashift),
            parity => raidz::asize_of(psize, self.ashift, self.nr_columns.into(), parity.into()),
        }
    }

    /// Metaslabs that fit.
    pub const fn nr_metaslabs(&self) -> u64 {
        if self.is_absent { 0 } else { self.asize >> self.metaslab_shift }
    }

    /// Allocatable bytes as the bytes of blocks of 128 KiB they can hold: parity is not counted
    /// (`vdev_deflate_ratio`).
    pub fn deflated(&self, bytes: u64) -> u64 {
        const TYPICAL: u64 = 128 << 10;
        (bytes >> 9).saturating_mul(TYPICAL / (self.asize_of(TYPICAL) >> 9).max(1))
    }
}
