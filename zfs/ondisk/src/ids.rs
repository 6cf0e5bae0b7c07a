//! Newtypes for numbers that must not be mixed up, and the bookmark that names a block of a pool.

use core::fmt;

/// Number of a transaction group. Zero means "before the pool existed" (`TXG_INITIAL` is [`Txg::INITIAL`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Txg(pub u64);

impl Txg {
    /// No transaction group.
    pub const ZERO: Self = Self(0);
    /// The transaction group that creates a pool.
    pub const INITIAL: Self = Self(4);
    /// Later than every real one.
    pub const MAX: Self = Self(u64::MAX);

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The transaction group after this one; stays at the maximum.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The transaction group before this one; stays at zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Index among the four per-txg slots (three in flight and one to rotate into).
    #[must_use]
    pub const fn slot(self) -> usize {
        (self.0 & 3) as usize
    }
}

impl fmt::Display for Txg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Number of an object within its object set. Zero is the metadnode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ObjectId(pub u64);

impl ObjectId {
    /// The dnode file itself.
    pub const META_DNODE: Self = Self(0);
    /// The pool directory in the MOS, and the master node in a file system.
    pub const ONE: Self = Self(1);
    /// Accounting object of users, groups, projects: they live in the objset, not in the dnode file.
    pub const USERUSED: Self = Self(u64::MAX);
    /// See [`Self::USERUSED`].
    pub const GROUPUSED: Self = Self(u64::MAX - 1);
    /// See [`Self::USERUSED`].
    pub const PROJECTUSED: Self = Self(u64::MAX - 2);

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// True for 0, which in every reference field means "none".
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// `None` for 0, which in every reference field means "none".
    #[must_use]
    pub const fn non_zero(self) -> Option<Self> {
        if self.0 == 0 { None } else { Some(self) }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which block of the pool: object set, object, indirection level and block number (`zbookmark_phys`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bookmark {
    /// Object number of the dataset in the MOS; 0 for the MOS itself.
    pub objset: u64,
    /// Object within the object set.
    pub object: ObjectId,
    /// Indirection level; -1 is the object set's root block, -2 a block of its intent log.
    pub level: i64,
    /// Block number at that level; a log block's sequence number for level -2.
    pub blkid: u64,
}

impl Bookmark {
    /// Level of an object set's root block.
    pub const LEVEL_ROOT: i64 = -1;
    /// Level of intent log blocks.
    pub const LEVEL_ZIL: i64 = -2;
    /// Block number that stands for an object's spill block.
    pub const SPILL_BLKID: u64 = u64::MAX - 1;

    /// Bookmark of an ordinary block.
    #[must_use]
    pub const fn new(objset: u64, object: ObjectId, level: i64, blkid: u64) -> Self {
        Self { objset, object, level, blkid }
    }

    /// Bookmark of an object set's root block.
    #[must_use]
    pub const fn root(objset: u64) -> Self {
        Self::new(objset, ObjectId(0), Self::LEVEL_ROOT, 0)
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.objset, self.object, self.level, self.blkid)
    }
}
