//! What the device offers: feature bits and the block device's configuration space (specification 5.2).
//!
//! Values come from the device. Each is brought into the range the driver works with here, once, so that a
//! nonsensical one costs performance at worst.
use crate::queue::SEGMENTS_MAX;
use crate::transport::Transport;
use blockdev::{DiscardLimits, Geometry, WriteCache};

bitflags::bitflags! {
    /// Feature bits the driver knows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Largest segment is in the configuration.
        const SIZE_MAX = 1 << 1;
        /// Most segments is in the configuration.
        const SEG_MAX = 1 << 2;
        /// Read-only.
        const READ_ONLY = 1 << 5;
        /// Logical block size is in the configuration.
        const BLOCK_SIZE = 1 << 6;
        /// Has a flush.
        const FLUSH = 1 << 9;
        /// Physical block size is in the configuration.
        const TOPOLOGY = 1 << 10;
        /// The write cache's mode is in the configuration.
        const CONFIG_WCE = 1 << 11;
        /// Several queues.
        const MULTI_QUEUE = 1 << 12;
        /// Discard.
        const DISCARD = 1 << 13;
        /// Write zeroes.
        const WRITE_ZEROES = 1 << 14;
        /// Descriptors may point at tables of descriptors.
        const INDIRECT = 1 << 28;
        /// Interrupts and notifications are asked for by index.
        const EVENT_INDEX = 1 << 29;
        /// Virtio 1.
        const VERSION_1 = 1 << 32;
    }
}

/// Sectors are the unit of the interface, whatever the block size.
pub(crate) const SECTOR: u64 = 512;
/// The field `writeback`.
pub(crate) const WRITEBACK_AT: usize = 32;
const TRANSFER_MAX: usize = 1 << 20;

/// The configuration, read and made sense of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub geometry: Geometry,
    pub nr_queues: u16,
    pub segment_max: usize,
}

impl Config {
    /// Reads it with the agreed features.
    pub(crate) fn read<T: Transport>(transport: &T, features: Features) -> Self {
        const RETRIES_MAX: usize = 16;
        let mut config = Self::read_once(transport, features);
        // Capacity is two registers: read again when it changed in between.
        for _ in 0..RETRIES_MAX {
            let before = transport.config_generation();
            config = Self::read_once(transport, features);
            if transport.config_generation() == before {
                break;
            }
        }
        config
    }

    fn read_once<T: Transport>(transport: &T, features: Features) -> Self {
        let field32 = |offset, feature| features.contains(feature).then(|| transport.read_config32(offset));
        let sectors = u64::from(transport.read_config32(0)) | u64::from(transport.read_config32(4)) << 32;
        let logical = field32(20, Features::BLOCK_SIZE)
            .filter(|b| b.is_power_of_two() && (512..=65536).contains(b))
            .unwrap_or(512);
        let exponent =
            if features.contains(Features::TOPOLOGY) { u32::from(transport.read_config8(24)) } else { 0 };
        let physical = logical.checked_shl(exponent).filter(|p| (logical..=1 << 20).contains(p));
        let seg_max = field32(12, Features::SEG_MAX).map_or(SEGMENTS_MAX, |n| n.max(1) as usize);
        let segment_max = field32(8, Features::SIZE_MAX).map_or(1 << 30, |n| n.max(4096) as usize);
        let nr_queues =
            if features.contains(Features::MULTI_QUEUE) { transport.read_config16(34).max(1) } else { 1 };
        let max_segments = seg_max.min(SEGMENTS_MAX);
        let block = u64::from(logical);
        let geometry = Geometry {
            logical_block_size: logical,
            physical_block_size: physical.unwrap_or(logical),
            capacity: sectors.min(u64::MAX / SECTOR / 2) * SECTOR / block * block,
            nr_queues: usize::from(nr_queues),
            max_transfer: TRANSFER_MAX.min(segment_max.saturating_mul(max_segments)) / logical as usize
                * logical as usize,
            max_segments,
            has_fua: false,
            discard: limits(transport, features, Features::DISCARD, 36, Some(44), logical),
            write_zeroes: limits(transport, features, Features::WRITE_ZEROES, 48, None, logical),
            write_cache: write_cache(transport, features),
            is_read_only: features.contains(Features::READ_ONLY),
        };
        Self { geometry, nr_queues, segment_max }
    }
}

/// A device without a flush command says nothing about durability, whatever older texts assume: some hypervisors
/// offer none exactly when they cache unsafely.
fn write_cache<T: Transport>(transport: &T, features: Features) -> WriteCache {
    if features.contains(Features::CONFIG_WCE) && transport.read_config8(WRITEBACK_AT) == 0 {
        WriteCache::None
    } else if features.contains(Features::FLUSH) {
        WriteCache::Volatile
    } else {
        WriteCache::Unknown
    }
}

fn limits<T: Transport>(
    transport: &T,
    features: Features,
    feature: Features,
    sectors_at: usize,
    alignment_at: Option<usize>,
    logical: u32,
) -> Option<DiscardLimits> {
    if !features.contains(feature) {
        return None;
    }
    let block = u64::from(logical);
    let max_len = u64::from(transport.read_config32(sectors_at)) * SECTOR / block * block;
    let alignment = alignment_at.map_or(1, |at| transport.read_config32(at).clamp(1, 1 << 20));
    let granularity = alignment.saturating_mul(SECTOR as u32).max(logical);
    (max_len > 0).then_some(DiscardLimits { max_len, granularity })
}
