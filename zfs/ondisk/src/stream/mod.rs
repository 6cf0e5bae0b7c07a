//! Send streams: the records that carry a snapshot, or the difference between two, from pool to pool.
//!
//! A stream is a row of records of 312 bytes, some followed by a payload:
//!
//! ```text
//! BEGIN [payload: nvlist]                          what is sent, on top of what
//! OBJECT + bonus | FREE | WRITE + data | ... END   in order of objects, then offsets
//! ```
//!
//! A *compound* stream (`-R`, `-p`, `-I`) is a BEGIN of its own kind whose payload describes the datasets, an END, then
//! one stream after the other, and a last END.
//!
//! All numbers are in the byte order of the sender, which shows in BEGIN's magic; payloads of objects' blocks too. Every
//! record but BEGIN ends with the fletcher-4 of all bytes before that field ([`CHECKSUM_OFFSET`]); the running sum then
//! goes on over the field and the payload. END repeats the sum up to itself.
//!
//! Not here: the sums themselves, and anything that reads or writes a stream (`zfs::send`).
mod fields;
mod record;
#[cfg(test)]
mod tests;

pub use fields::ByteOrder;
pub use record::{
    Begin, Embedded, End, FreeObjects, HeaderKind, Name, ObjectRecord, Range, Record, Spill, StreamWrite,
};

/// Bytes of a record, without payload.
pub const RECORD_SIZE: usize = 312;
/// Where the running checksum stands in every record but BEGIN.
pub const CHECKSUM_OFFSET: usize = RECORD_SIZE - 32;
/// First word of a BEGIN record's body.
pub const MAGIC: u64 = 0x2_f5ba_cbac;
/// A length that means "to the end of the object".
pub const TO_THE_END: u64 = u64::MAX;
/// Largest payload of a BEGIN record that is accepted: the description of a whole tree of datasets.
pub const BEGIN_PAYLOAD_MAX: u32 = 64 << 20;

bitflags::bitflags! {
    /// What a stream's receiver must understand (`DMU_BACKUP_FEATURE_*`). Unknown bits are kept, to be refused.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct StreamFeatures: u32 {
        /// Has records that refer to earlier data of the stream. No longer received by anyone.
        const DEDUP = 1 << 0;
        /// The same, by stronger checksums.
        const DEDUP_PROPS = 1 << 1;
        /// Has system attributes in spill blocks.
        const SA_SPILL = 1 << 2;
        /// Has embedded blocks.
        const EMBED_DATA = 1 << 16;
        /// Embedded or compressed blocks may be lz4.
        const LZ4 = 1 << 17;
        /// Has blocks above 128 KiB.
        const LARGE_BLOCKS = 1 << 19;
        /// Begins where an interrupted one ended.
        const RESUMING = 1 << 20;
        /// Blocks were left out.
        const REDACTED = 1 << 21;
        /// Blocks are compressed as they are stored.
        const COMPRESSED = 1 << 22;
        /// Has dnodes above 512 bytes.
        const LARGE_DNODE = 1 << 23;
        /// Blocks are encrypted as they are stored.
        const RAW = 1 << 24;
        /// Embedded or compressed blocks may be zstd.
        const ZSTD = 1 << 25;
        /// The description has holds.
        const HOLDS = 1 << 26;
        /// Large blocks may follow on what was received split.
        const SWITCH_TO_LARGE_BLOCKS = 1 << 27;
        /// Has directory entries above 255 bytes.
        const LONGNAME = 1 << 28;
        /// Has micro-ZAPs above 128 KiB.
        const LARGE_MICROZAP = 1 << 29;
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// Flags of a BEGIN record (`DRR_FLAG_*`). Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct BeginFlags: u32 {
        /// The base is another dataset's snapshot: it makes a clone.
        const CLONE = 1 << 0;
        /// Names are matched without case.
        const CASE_INSENSITIVE = 1 << 1;
        /// A full stream that names what is free, too: can be received on top of anything.
        const FREE_RECORDS = 1 << 2;
        /// The flags about spill blocks in OBJECT and SPILL mean something.
        const SPILL_BLOCK = 1 << 3;
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// Flags of the records for objects and blocks. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RecordFlags: u8 {
        /// WRITE: the checksum is strong enough to find equal blocks by.
        const CHECKSUM_DEDUP = 1 << 0;
        /// WRITE of a raw stream: the block is in the other byte order.
        const RAW_BYTESWAP = 1 << 1;
        /// OBJECT: has a spill block. SPILL: has not changed, and is here for old receivers only.
        const SPILL = 1 << 2;
        const _ = !0;
    }
}
