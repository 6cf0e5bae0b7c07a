//! Resource limits.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// No limit.
pub const INFINITY: u64 = u64::MAX;
/// Stack size.
pub const STACK: usize = 3;
/// Open files.
pub const NOFILE: usize = 7;
/// Address space.
pub const AS: usize = 9;
/// Number of limits.
pub const COUNT: usize = 16;

/// `struct rlimit64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Limit {
    /// In force.
    pub soft: u64,
    /// Ceiling of `soft`.
    pub hard: u64,
}

/// All limits of a process.
pub type Limits = [Limit; COUNT];

/// Those a program starts with.
pub fn initial() -> Limits {
    let free = Limit { soft: INFINITY, hard: INFINITY };
    let mut limits = [free; COUNT];
    limits[STACK] = Limit { soft: 8 << 20, hard: INFINITY };
    limits[4] = Limit { soft: 0, hard: INFINITY };
    limits[NOFILE] = Limit { soft: 1024, hard: 1 << 20 };
    limits[8] = Limit { soft: 64 << 10, hard: 64 << 10 };
    limits
}
