//! What callers say about an object set, and what an object set asks of the dataset it belongs to.
use crate::Result;
use crate::zio::SyncCtx;
use alloc::sync::Arc;
use core::fmt;
use ondisk::objset::ObjsetKind;
use ondisk::{BlkPtr, Checksum, Compression, DmuType};

/// How the blocks of an object set are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjsetProperties {
    /// Checksum of user data; metadata uses it too if it is strong enough, else fletcher-4.
    pub checksum: Checksum,
    /// Compression of user data; metadata is always compressed.
    pub compress: Compression,
    /// Copies of user data, 1 to 3; metadata has one more.
    pub copies: u8,
    /// The property `redundant_metadata`: 0 all, 1 most, 2 some, 3 none.
    pub redundant_metadata: u64,
    /// The property `special_small_blocks`, bytes.
    pub small_blocks: u32,
}

impl Default for ObjsetProperties {
    fn default() -> Self {
        Self {
            checksum: Checksum::On,
            compress: Compression::On,
            copies: 1,
            redundant_metadata: 0,
            small_blocks: 0,
        }
    }
}

/// How to open an object set.
#[derive(Clone)]
pub struct ObjsetConfig {
    /// The `objset` of bookmarks: the dataset's object number in the MOS, 0 for the MOS itself.
    pub id: u64,
    /// What a new object set will hold; what an existing one holds stands in its root block.
    pub kind: ObjsetKind,
    /// The dataset.
    pub hooks: Arc<dyn ObjsetHooks>,
    /// How to write.
    pub properties: ObjsetProperties,
    /// Transactions are refused.
    pub is_read_only: bool,
}

impl fmt::Debug for ObjsetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjsetConfig(id: {}, kind: {:?}, {:?})", self.id, self.kind, self.properties)
    }
}

/// Whose account an object is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Project.
    pub project: u64,
}

/// A pool feature that an object set starts to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeatureUse {
    /// A block above 128 KiB.
    LargeBlocks,
    /// A dnode above 512 bytes.
    LargeDnode,
    /// Objects are counted per user.
    UserobjAccounting,
    /// Space is counted per project.
    ProjectQuota,
    /// The intent log may hold records of extended attributes.
    ZilSaXattr,
}

/// What an object set asks of its dataset. Called from the syncing thread, except for the two questions about space.
pub trait ObjsetHooks: Send + Sync {
    /// A block was written: charge it. Not called for holes; embedded blocks have a logical size to be charged.
    fn block_born(&self, ctx: &SyncCtx, bp: &BlkPtr);

    /// A block is not referenced by the object set any more: give its space back or remember it for a snapshot. Not
    /// called for holes; embedded blocks have no space.
    ///
    /// # Errors
    /// What freeing or remembering gives.
    fn block_killed(&self, ctx: &SyncCtx, bp: &BlkPtr) -> Result<()>;

    /// Whom an object with this bonus is charged to; `None` for objects that are not counted.
    fn owner_of(&self, bonus_kind: DmuType, bonus: &[u8]) -> Option<Owner>;

    /// Bytes that may still be written, as far as the pool's free space goes.
    fn space_available(&self) -> u64;

    /// Bytes that may still be written, as far as quotas go.
    fn quota_available(&self) -> u64 {
        u64::MAX
    }

    /// Whether the pool lets a new object set use `feature`.
    fn is_feature_enabled(&self, feature: FeatureUse) -> bool {
        let _ = feature;
        true
    }

    /// The object set uses `feature` from now on. May be called again and again.
    fn feature_used(&self, ctx: &SyncCtx, feature: FeatureUse);
}

/// An object to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// Type.
    pub kind: DmuType,
    /// Size of a data block in bytes: a multiple of 512.
    pub block_size: u32,
    /// log2 of the indirect block size; 0 = 17.
    pub indirect_shift: u8,
    /// Type of the bonus.
    pub bonus_kind: DmuType,
    /// Length of the bonus, initially zeroes.
    pub bonus_len: u16,
    /// Slots of 512 bytes the dnode takes; 0 = 1.
    pub dnode_slots: u8,
}

impl NewObject {
    /// Without bonus.
    pub const fn new(kind: DmuType, block_size: u32) -> Self {
        Self { kind, block_size, indirect_shift: 0, bonus_kind: DmuType::NONE, bonus_len: 0, dnode_slots: 0 }
    }

    /// With a bonus.
    #[must_use]
    pub const fn with_bonus(mut self, kind: DmuType, len: u16) -> Self {
        self.bonus_kind = kind;
        self.bonus_len = len;
        self
    }
}
