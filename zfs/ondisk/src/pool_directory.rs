//! Names in the pool directory (object 1 of the MOS) and in the vdevs' property objects.

use crate::ids::ObjectId;

/// The pool directory.
pub const POOL_DIRECTORY: ObjectId = ObjectId(1);

/// Object of the packed configuration.
pub const CONFIG: &str = "config";
/// Root DSL directory.
pub const ROOT_DATASET: &str = "root_dataset";
/// Deferred frees (bpobj).
pub const SYNC_BPLIST: &str = "sync_bplist";
/// Blocks of destroyed snapshots still to be freed (bpobj).
pub const FREE_BPOBJ: &str = "free_bpobj";
/// Trees of destroyed datasets still to be freed (bptree).
pub const BPTREE_OBJ: &str = "bptree_obj";
/// The shared empty bpobj.
pub const EMPTY_BPOBJ: &str = "empty_bpobj";
/// Features one must know to read the pool.
pub const FEATURES_FOR_READ: &str = "features_for_read";
/// Features one must know to write the pool.
pub const FEATURES_FOR_WRITE: &str = "features_for_write";
/// What the features are.
pub const FEATURE_DESCRIPTIONS: &str = "feature_descriptions";
/// In which transaction group features were enabled.
pub const FEATURE_ENABLED_TXG: &str = "feature_enabled_txg";
/// Space is accounted after deflation.
pub const DEFLATE: &str = "deflate";
/// Pool version at creation.
pub const CREATION_VERSION: &str = "creation_version";
/// Pool history.
pub const HISTORY: &str = "history";
/// Pool properties.
pub const PROPS: &str = "pool_props";
/// Current error log.
pub const ERRLOG_LAST: &str = "errlog_last";
/// Error log of the running scrub.
pub const ERRLOG_SCRUB: &str = "errlog_scrub";
/// Hot spares.
pub const SPARES: &str = "spares";
/// Cache devices.
pub const L2CACHE: &str = "l2cache";
/// State of the scrub or resilver.
pub const SCAN: &str = "scan";
/// State of the error scrub.
pub const ERRORSCRUB: &str = "error_scrub";
/// Ours: which leaves the resilver under way was walked with from its beginning. The numbers of [`SCAN`] as they were
/// when this was written, and the leaves' guids.
pub const RESILVER_LEAVES: &str = "org.zeolite:resilver_leaves";
/// Up to where the last scrub went.
pub const LAST_SCRUBBED_TXG: &str = "com.klarasystems:last_scrubbed_txg";
/// Temporary holds.
pub const TMP_USERREFS: &str = "tmp_userrefs";
/// Salt of keyed checksums: 32 bytes.
pub const CHECKSUM_SALT: &str = "org.illumos:checksum_salt";
/// Size of the salt.
pub const CHECKSUM_SALT_SIZE: usize = 32;
/// Object that lists all vdevs' property objects.
pub const VDEV_ZAP_MAP: &str = "com.delphix:vdev_zap_map";
/// Log space maps by transaction group.
pub const LOG_SPACEMAP_ZAP: &str = "com.delphix:log_spacemap_zap";
/// Device removal in progress.
pub const REMOVING: &str = "com.delphix:removing";
/// Obsolete blocks of indirect vdevs.
pub const OBSOLETE_BPOBJ: &str = "com.delphix:obsolete_bpobj";
/// Indirect mapping being condensed.
pub const CONDENSING_INDIRECT: &str = "com.delphix:condensing_indirect";
/// The uberblock a checkpoint keeps.
pub const ZPOOL_CHECKPOINT: &str = "com.delphix:zpool_checkpoint";
/// Live lists of destroyed clones.
pub const DELETED_CLONES: &str = "com.delphix:deleted_clones";
/// Dedup statistics.
pub const DDT_STATS: &str = "DDT-statistics";
/// Start of the names of block reference tables; the vdev's number follows.
pub const BRT_PREFIX: &str = "com.fudosecurity:brt:vdev:";

/// Top-level vdev: object with the transaction group up to which each metaslab's map is flushed.
pub const VDEV_MS_UNFLUSHED_TXGS: &str = "com.delphix:ms_unflushed_phys_txgs";
/// Top-level vdev: what it is reserved for.
pub const VDEV_ALLOCATION_BIAS: &str = "org.zfsonlinux:allocation_bias";
/// Top-level vdev: space map of what the checkpoint holds.
pub const VDEV_CHECKPOINT_SM: &str = "com.delphix:pool_checkpoint_sm";
/// Top-level vdev: space map of obsolete indirect segments.
pub const VDEV_OBSOLETE_SM: &str = "com.delphix:indirect_obsolete_sm";

/// Block size of the packed configuration's object.
pub const CONFIG_BLOCK_SIZE: u32 = 16 << 10;
