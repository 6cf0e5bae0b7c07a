//! Why an I/O is done, which decides how long it may wait in a leaf's queue.

/// The class of an I/O, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Someone waits for this read.
    SyncRead,
    /// Someone waits for this write to be durable (intent log): where the device can, it is when it is done.
    FuaWrite,
    /// Someone waits for this write.
    SyncWrite,
    /// Prefetch.
    AsyncRead,
    /// A transaction group's writes.
    AsyncWrite,
    /// Scrub, verification, repair.
    Scrub,
}

impl Priority {
    /// Number of classes.
    pub const COUNT: usize = 6;

    /// Every class, most urgent first.
    pub const ALL: [Self; Self::COUNT] =
        [Self::SyncRead, Self::FuaWrite, Self::SyncWrite, Self::AsyncRead, Self::AsyncWrite, Self::Scrub];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// How many of this class a device should have at least, if there are any, and may have at most in flight.
    /// The floor keeps a flood of a more urgent class from starving the others.
    pub(crate) const fn limits(self) -> (usize, usize) {
        match self {
            Self::SyncRead | Self::FuaWrite | Self::SyncWrite => (10, 10),
            Self::AsyncRead => (1, 3),
            Self::AsyncWrite => (2, 10),
            Self::Scrub => (1, 3),
        }
    }
}
