//! Which part of the pool's space a block may take (`spa_preferred_class`), and the figures of each part.
use super::allocator::Allocator;
use super::group::Group;
use crate::vdev::AllocClass;
use crate::zio::Space;
use core::sync::atomic::Ordering;
use ondisk::DmuType;

/// Number of [`SpaceClass`]es.
pub(crate) const NR_CLASSES: usize = 5;

/// Part of the special vdevs' space that small blocks leave to metadata, percent.
const METADATA_RESERVE_PERCENT: u64 = 25;

/// Reserve that keeps a full pool deletable: 1/32, at least 128 MiB or half, at most 128 GiB.
const SLOP_SHIFT: u32 = 5;
const SLOP_MIN: u64 = 128 << 20;
const SLOP_MAX: u64 = 128 << 30;

/// A part of the pool's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceClass {
    /// Normal vdevs, less the metaslabs set aside for logs.
    Normal = 0,
    /// The metaslab of each large normal vdev that is kept for intent logs.
    EmbeddedLog = 1,
    /// Log vdevs.
    Log = 2,
    /// Special vdevs.
    Special = 3,
    /// Vdevs for deduplication tables.
    Dedup = 4,
}

impl SpaceClass {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; NR_CLASSES] =
        [Self::Normal, Self::EmbeddedLog, Self::Log, Self::Special, Self::Dedup];

    /// Where a block of this class goes: itself, or, where there is no room, the next.
    pub(crate) const fn chain(self) -> &'static [Self] {
        match self {
            Self::Normal => &[Self::Normal],
            Self::EmbeddedLog => &[Self::EmbeddedLog, Self::Normal],
            Self::Log => &[Self::Log, Self::EmbeddedLog, Self::Normal],
            Self::Special => &[Self::Special, Self::Normal],
            Self::Dedup => &[Self::Dedup, Self::Special, Self::Normal],
        }
    }
}

/// What of a block decides about its class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockTraits {
    pub kind: DmuType,
    pub level: u8,
    /// Bytes as stored.
    pub psize: u64,
    /// The property `special_small_blocks`: file blocks up to this size are small.
    pub small_max: u64,
}

impl Allocator {
    /// The class a block is to be written to.
    pub(crate) fn class_of(&self, block: &BlockTraits) -> SpaceClass {
        let has = |class| self.figures(class).0 > 0;
        let is_table = matches!(block.kind, DmuType::DDT_ZAP | DmuType::DDT_STATS);
        if is_table && has(SpaceClass::Dedup) {
            return SpaceClass::Dedup;
        }
        if !has(SpaceClass::Special) {
            return SpaceClass::Normal;
        }
        if is_table || block.level > 0 || block.kind.is_metadata() {
            return SpaceClass::Special;
        }
        let is_file =
            matches!(block.kind, DmuType::PLAIN_FILE_CONTENTS | DmuType::UINT64_OTHER | DmuType::ZVOL);
        if is_file && block.psize <= block.small_max {
            let (size, allocated) = self.figures(SpaceClass::Special);
            if allocated < size / 100 * (100 - METADATA_RESERVE_PERCENT) {
                return SpaceClass::Special;
            }
        }
        SpaceClass::Normal
    }

    /// Size and allocated bytes of a class.
    pub(crate) fn figures(&self, class: SpaceClass) -> (u64, u64) {
        let groups = self.groups();
        let of = groups.iter().filter(|g| !g.is_excluded()).map(|g| g.figures(class));
        of.fold((0, 0), |(size, allocated), (s, a)| (size + s, allocated + a))
    }

    pub(crate) fn space(&self) -> Space {
        let groups = self.groups();
        let in_use = || groups.iter().filter(|g| !g.is_excluded());
        let deferred = self.deferred.load(Ordering::Relaxed);
        let (mut size, mut allocated, mut file_size, mut file_allocated, mut log_size) = (0, 0, 0, 0, 0);
        let (mut raw_size, mut raw_allocated) = (0, 0);
        for group in in_use() {
            for class in SpaceClass::ALL.into_iter().filter(|c| *c != SpaceClass::Log) {
                let (s, a) = group.figures(class);
                (size, allocated) = (size + s, allocated + a);
                match class {
                    SpaceClass::Normal => {
                        (raw_size, raw_allocated) = (raw_size + s, raw_allocated + a);
                        file_size += group.info.deflated(s);
                        file_allocated += group.info.deflated(a);
                    }
                    SpaceClass::EmbeddedLog => log_size += group.info.deflated(s),
                    _ => {}
                }
            }
        }
        let slop = slop_of(file_size, log_size);
        Space {
            size,
            allocated,
            free: size.saturating_sub(allocated).saturating_sub(deferred),
            deferred,
            usable_by_fs: (file_size - slop).saturating_sub(self.checkpointed()),
            free_for_fs: file_size.saturating_sub(file_allocated).saturating_sub(slop),
            file_size: raw_size,
            // What waits may belong to another class: rather too little than too much.
            file_free: raw_size.saturating_sub(raw_allocated).saturating_sub(deferred),
            file_reserve: (u128::from(slop) * u128::from(raw_size) / u128::from(file_size.max(1))) as u64,
            file_size_net: file_size,
        }
    }
}

/// The reserve of a pool whose normal class has `size` bytes, of which `log` more are set aside for logs.
fn slop_of(size: u64, log: u64) -> u64 {
    let slop = (size >> SLOP_SHIFT).min(SLOP_MAX);
    let slop = slop - log.min(slop / 2);
    slop.max((size / 2).min(SLOP_MIN))
}

impl Group {
    /// Size and allocated bytes of the part of the vdev that belongs to a class.
    pub(crate) fn figures(&self, class: SpaceClass) -> (u64, u64) {
        let own = match self.info.class {
            AllocClass::Normal => SpaceClass::Normal,
            AllocClass::Log => SpaceClass::Log,
            AllocClass::Special => SpaceClass::Special,
            AllocClass::Dedup => SpaceClass::Dedup,
        };
        let (log_size, log_allocated) = match self.embedded_log() {
            Some(_) => (1 << self.info.metaslab_shift, self.log_allocated.load(Ordering::Relaxed)),
            None => (0, 0),
        };
        if class == SpaceClass::EmbeddedLog {
            return (log_size, log_allocated);
        }
        if class != own {
            return (0, 0);
        }
        let allocated = self.allocated.load(Ordering::Relaxed);
        (self.size().saturating_sub(log_size), allocated.saturating_sub(log_allocated))
    }

    /// Whether anything may be allocated for a class here.
    pub(crate) fn serves(&self, class: SpaceClass) -> bool {
        !self.is_excluded() && self.figures(class).0 > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_that_of_openzfs() {
        assert_eq!(slop_of(64 << 20, 0), 32 << 20);
        assert_eq!(slop_of(1 << 30, 0), 128 << 20);
        assert_eq!(slop_of(64 << 30, 0), 2 << 30);
        assert_eq!(slop_of(64 << 30, 512 << 20), (2 << 30) - (512 << 20));
        assert_eq!(slop_of(1 << 50, 0), 128 << 30);
    }
}
