//! The monotonic clock and the wall clock.
use crate::provider::{__rt_now_ns, __rt_wall_clock_ns};
use core::time::Duration;

/// A point of the monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Later than any other.
    pub const NEVER: Self = Self(u64::MAX);

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self + span`, saturating.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Seconds and nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// 0..1_000_000_000.
    pub nanos: u32,
}

/// The monotonic clock now.
pub fn now() -> Instant {
    Instant(__rt_now_ns())
}

/// The wall clock now.
pub fn wall_clock() -> WallTime {
    let ns = __rt_wall_clock_ns();
    WallTime { secs: ns.div_euclid(1_000_000_000), nanos: ns.rem_euclid(1_000_000_000) as u32 }
}
