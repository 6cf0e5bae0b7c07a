//! How a block is to be written.
use ondisk::{Checksum, Compression, DmuType};

/// From this sync pass on nothing is compressed any more: sizes stop changing, so that rewriting in place converges.
pub const PASS_DONT_COMPRESS: u32 = 8;
/// From this sync pass on a block born in the same transaction group is rewritten in place.
pub const PASS_REWRITE: u32 = 2;

/// How a block is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritePolicy {
    /// Type of the object it belongs to.
    pub kind: DmuType,
    /// Indirection level.
    pub level: u8,
    /// Checksum algorithm; `On` means fletcher-4. Never `Inherit`.
    pub checksum: Checksum,
    /// Compression algorithm; `On` means lz4 (lzjb where the pool has no lz4). Never `Inherit`.
    pub compress: Compression,
    /// 1 to 3.
    pub copies: u8,
    /// The block pointer's fill count.
    pub fill: u64,
    /// File blocks stored in at most this many bytes go to special vdevs (`special_small_blocks`).
    pub small_max: u32,
    /// Sync pass, see [`PASS_DONT_COMPRESS`].
    pub pass: u32,
}

impl WritePolicy {
    /// For metadata: fletcher-4, compressed.
    pub const fn metadata(kind: DmuType, level: u8, copies: u8, fill: u64, pass: u32) -> Self {
        let (checksum, compress) = (Checksum::Fletcher4, Compression::On);
        Self { kind, level, checksum, compress, copies, fill, small_max: 0, pass }
    }
}
