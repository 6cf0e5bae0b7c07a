//! Bonus buffers of the dataset layer: directories, datasets, dead lists, and what they contain.

use crate::blkptr::{BlkPtr, RawBlkPtr};
use crate::error::{OndiskError, Result};
use crate::ids::{ObjectId, Txg};
use crate::le::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

bitflags::bitflags! {
    /// Flags of a DSL directory. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DslDirFlags: u64 {
        /// `used_breakdown` is maintained.
        const USED_BREAKDOWN = 1;
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// Flags of a dataset. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DslDatasetFlags: u64 {
        /// Half received or half destroyed.
        const INCONSISTENT = 1;
        /// May not be promoted.
        const NO_PROMOTE = 2;
        /// `unique_bytes` is right.
        const UNIQUE_ACCURATE = 4;
        /// To be destroyed when its last hold goes.
        const DEFER_DESTROY = 8;
        /// Names are matched without case.
        const CASE_INSENSITIVE = 1 << 16;
        const _ = !0;
    }
}

/// Kinds of use in a directory's breakdown, in on-disk order (`dd_used_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DdUsed {
    /// The head dataset.
    Head = 0,
    /// Snapshots.
    Snap = 1,
    /// Children.
    Child = 2,
    /// Reservations of children beyond their use.
    ChildReserved = 3,
    /// The head's own refreservation beyond its use.
    RefReserved = 4,
}

/// Number of kinds in the breakdown.
pub const DD_USED_COUNT: usize = 5;

macro_rules! plain_pair {
    (
        $(#[$raw_doc:meta])* raw $raw:ident, size $size:literal, pad $pad:literal;
        $(#[$doc:meta])* valid $valid:ident {
            $($(#[$fdoc:meta])* $field:ident : $ty:ident,)*
        }
    ) => {
        $(#[$raw_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $raw {
            $($(#[$fdoc])* pub $field: plain_pair!(@raw $ty),)*
            /// Reserved.
            pub pad: [U64; $pad],
        }

        const _: () = assert!(size_of::<$raw>() == $size);

        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $valid {
            $($(#[$fdoc])* pub $field: plain_pair!(@valid $ty),)*
        }

        impl $valid {
            /// Parses the start of a bonus buffer.
            ///
            /// # Errors
            /// `Truncated` when the buffer is shorter than the structure, else what is wrong with a field.
            pub fn parse(bonus: &[u8]) -> Result<Self> {
                let (raw, _) = $raw::ref_from_prefix(bonus).map_err(|_| OndiskError::Truncated)?;
                Ok(Self { $($field: plain_pair!(@parse $ty, raw.$field),)* })
            }

            /// On-disk form.
            #[must_use]
            pub fn to_raw(&self) -> $raw {
                $raw {
                    $($field: plain_pair!(@store $ty, self.$field),)*
                    pad: [U64::ZERO; $pad],
                }
            }
        }
    };
    (@raw Bp) => { RawBlkPtr };
    (@raw Breakdown) => { [U64; DD_USED_COUNT] };
    (@raw $ty:ident) => { U64 };
    (@valid Num) => { u64 };
    (@valid Obj) => { ObjectId };
    (@valid Group) => { Txg };
    (@valid Bp) => { BlkPtr };
    (@valid Breakdown) => { [u64; DD_USED_COUNT] };
    (@valid DirFlags) => { DslDirFlags };
    (@valid DsFlags) => { DslDatasetFlags };
    (@parse Num, $e:expr) => { $e.get() };
    (@parse Obj, $e:expr) => { ObjectId($e.get()) };
    (@parse Group, $e:expr) => { Txg($e.get()) };
    (@parse Bp, $e:expr) => { $e.parse()? };
    (@parse Breakdown, $e:expr) => { $e.map(U64::get) };
    (@parse DirFlags, $e:expr) => { DslDirFlags::from_bits_retain($e.get()) };
    (@parse DsFlags, $e:expr) => { DslDatasetFlags::from_bits_retain($e.get()) };
    (@store Num, $e:expr) => { $e.into() };
    (@store Obj, $e:expr) => { $e.0.into() };
    (@store Group, $e:expr) => { $e.0.into() };
    (@store Bp, $e:expr) => { $e.to_raw() };
    (@store Breakdown, $e:expr) => { $e.map(U64::new) };
    (@store DirFlags, $e:expr) => { $e.bits().into() };
    (@store DsFlags, $e:expr) => { $e.bits().into() };
}

plain_pair! {
    /// `dsl_dir_phys` as it lies on disk.
    raw RawDslDir, size 256, pad 13;
    /// A DSL directory: a node of the dataset tree, what its space and properties hang on.
    valid DslDirPhys {
        /// 0: seconds since 1970.
        creation_time: Num,
        /// 8: dataset that is mounted (or a volume's).
        head_dataset: Obj,
        /// 16: directory above.
        parent: Obj,
        /// 24: snapshot this is a clone of.
        origin: Obj,
        /// 32: ZAP of directories below, by name.
        child_dir_zap: Obj,
        /// 40: bytes used, children included.
        used_bytes: Num,
        /// 48: compressed bytes.
        compressed_bytes: Num,
        /// 56: the same before compression.
        uncompressed_bytes: Num,
        /// 64: limit; 0 = none.
        quota: Num,
        /// 72: guaranteed bytes.
        reserved: Num,
        /// 80: ZAP of properties.
        props_zap: Obj,
        /// 88: ZAP of delegated permissions.
        deleg_zap: Obj,
        /// 96: flags.
        flags: DirFlags,
        /// 104: `used_bytes` by kind.
        used_breakdown: Breakdown,
        /// 144: ZAP of clones.
        clones: Obj,
    }
}

plain_pair! {
    /// `dsl_dataset_phys` as it lies on disk.
    raw RawDslDataset, size 320, pad 5;
    /// A dataset: a file system's or volume's head, or a snapshot.
    valid DslDatasetPhys {
        /// 0: its directory.
        dir: Obj,
        /// 8: snapshot before it.
        prev_snap: Obj,
        /// 16: when that was taken.
        prev_snap_txg: Group,
        /// 24: snapshot (or head) after it; 0 for a head.
        next_snap: Obj,
        /// 32: ZAP of snapshot names; heads only.
        snapnames_zap: Obj,
        /// 40: clones and the next snapshot, for a snapshot.
        num_children: Num,
        /// 48: seconds since 1970.
        creation_time: Num,
        /// 56: when it was made.
        creation_txg: Group,
        /// 64: dead list.
        deadlist: Obj,
        /// 72: bytes reachable.
        referenced_bytes: Num,
        /// 80: compressed bytes.
        compressed_bytes: Num,
        /// 88: the same before compression.
        uncompressed_bytes: Num,
        /// 96: bytes only this one reaches.
        unique_bytes: Num,
        /// 104: file system id.
        fsid_guid: Num,
        /// 112: guid.
        guid: Num,
        /// 120: flags.
        flags: DsFlags,
        /// 128: the object set.
        bp: Bp,
        /// 256: ZAP of clones, for a snapshot.
        next_clones: Obj,
        /// 264: ZAP of properties, for a snapshot.
        props: Obj,
        /// 272: ZAP of holds, for a snapshot.
        userrefs: Obj,
    }
}

plain_pair! {
    /// `dsl_deadlist_phys` as it lies on disk.
    raw RawDeadlist, size 320, pad 37;
    /// Bonus of a dead list: sums over all its buckets.
    valid DeadlistPhys {
        /// 0: allocated bytes.
        used: Num,
        /// 8: compressed bytes.
        compressed: Num,
        /// 16: the same before compression.
        uncompressed: Num,
    }
}

/// Name of the directory that is charged for the MOS.
pub const MOS_DIR_NAME: &str = "$MOS";
/// Name of the directory that is charged for space being destroyed.
pub const FREE_DIR_NAME: &str = "$FREE";
/// Name of the directory whose snapshot is the origin of everything that is no clone.
pub const ORIGIN_DIR_NAME: &str = "$ORIGIN";

/// Keys in the ZAP that an extensible DSL directory or dataset object is.
pub mod keys {
    /// Directory: file systems below.
    pub const FILESYSTEM_COUNT: &str = "com.joyent:filesystem_count";
    /// Directory: snapshots below.
    pub const SNAPSHOT_COUNT: &str = "com.joyent:snapshot_count";
    /// Directory: key object.
    pub const CRYPTO_KEY_OBJ: &str = "com.datto:crypto_key_obj";
    /// Directory: live list of a clone.
    pub const LIVELIST: &str = "com.delphix:livelist";
    /// Directory: when its snapshots changed.
    pub const SNAPSHOTS_CHANGED: &str = "com.ixsystems:snapshots_changed";
    /// Dataset: bookmarks.
    pub const BOOKMARKS: &str = "com.delphix:bookmarks";
    /// Dataset: large blocks were used (the feature's guid).
    pub const LARGE_BLOCKS: &str = "org.open-zfs:large_blocks";
    /// Dataset: deadlist of redacted or remapped blocks.
    pub const REMAP_DEADLIST: &str = "com.delphix:remap_deadlist";
}
