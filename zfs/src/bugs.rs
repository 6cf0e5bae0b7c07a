//! Deliberate mistakes, for showing that the simulator finds them.
//!
//! Without the feature `sim-bugs` every question is answered `false` at compile time and nothing is left of it; only the
//! simulator turns the feature on. One mistake at a time can be made, in the whole process.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Bug {
    /// The uberblock is written while the blocks it reaches are in the disks' caches.
    NoFlushBeforeUberblock = 1,
    /// The group counts as durable while its uberblock is in the disks' caches.
    NoFlushAfterUberblock,
    /// The uberblock is written before the writes of its blocks have been waited for.
    UberblockBeforeData,
    /// All four labels are written at the same time.
    LabelsAtOnce,
    /// The uberblock goes into the same slot every time.
    OneUberblockSlot,
    /// What a group freed is allocated again by the next.
    EarlyReuse,
    /// Some frees do not reach the space maps.
    LostFree,
    /// Some allocations do not reach the space maps.
    LostAllocation,
    /// Some changed blocks are not written.
    LostBlock,
    /// A change of a file whose older change is being written is forgotten.
    LostLaterChange,
    /// A group writes what the next one has already changed.
    NoVersions,
    /// Pointers carry the number of the group before.
    WrongBirth,
    /// Blocks of older groups are overwritten where they are.
    OverwriteInPlace,
    /// fsync does not wait.
    FsyncDoesNotWait,
    /// Files that lose their last name while they are open are not noted.
    UnlinkedForgotten,
    /// Cut-off bytes come back when a file grows again.
    TailNotCleared,
    /// Log blocks count as durable while they are in the disks' caches.
    LogNotFlushed,
    /// Intent logs are claimed after the import has allocated.
    ClaimAfterAllocation,
    /// A new log is used before a header that names it is on disk.
    ChainBeforeHeader,
    /// fsync logs what changed the names, but not what was written to the file.
    LogWithoutData,
    /// An import writes before its uberblock is on all devices.
    NotSettled,
    /// What was written ahead for the log stays the group's though it was changed since.
    AheadKept,
    /// A commit is acknowledged while one before it is under way.
    CommitsOutOfOrder,
}

/// All of them.
pub const ALL: [Bug; 23] = [
    Bug::NoFlushBeforeUberblock,
    Bug::NoFlushAfterUberblock,
    Bug::UberblockBeforeData,
    Bug::LabelsAtOnce,
    Bug::OneUberblockSlot,
    Bug::EarlyReuse,
    Bug::LostFree,
    Bug::LostAllocation,
    Bug::LostBlock,
    Bug::LostLaterChange,
    Bug::NoVersions,
    Bug::WrongBirth,
    Bug::OverwriteInPlace,
    Bug::FsyncDoesNotWait,
    Bug::UnlinkedForgotten,
    Bug::TailNotCleared,
    Bug::LogNotFlushed,
    Bug::ClaimAfterAllocation,
    Bug::ChainBeforeHeader,
    Bug::LogWithoutData,
    Bug::NotSettled,
    Bug::AheadKept,
    Bug::CommitsOutOfOrder,
];

#[cfg(feature = "sim-bugs")]
mod active {
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    static BUG: AtomicU32 = AtomicU32::new(0);
    static ASKED: AtomicU64 = AtomicU64::new(0);

    /// From now on this mistake is made.
    pub fn make(bug: Option<super::Bug>) {
        BUG.store(bug.map_or(0, |bug| bug as u32), Ordering::Relaxed);
        ASKED.store(0, Ordering::Relaxed);
    }

    /// Whether this mistake is to be made.
    pub fn is(bug: super::Bug) -> bool {
        BUG.load(Ordering::Relaxed) == bug as u32
    }

    /// Whether it is to be made this time, which it is every `n`th.
    pub fn nth(bug: super::Bug, n: u64) -> bool {
        is(bug) && ASKED.fetch_add(1, Ordering::Relaxed) % n == n - 1
    }
}

#[cfg(feature = "sim-bugs")]
pub use active::{is, make, nth};

/// Whether this mistake is to be made: never.
#[cfg(not(feature = "sim-bugs"))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}

/// Whether it is to be made this time: never.
#[cfg(not(feature = "sim-bugs"))]
#[inline(always)]
pub const fn nth(_: Bug, _: u64) -> bool {
    false
}
