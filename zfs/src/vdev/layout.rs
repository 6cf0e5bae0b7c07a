//! The geometry of a device: where labels end, how much can be allocated, how large a metaslab is.
//!
//! Sources: `vdev_label.c`, `vdev_metaslab_set_size` for the defaults; any shift that a pool's configuration names
//! is accepted on import.
use blockdev::Geometry;
use ondisk::label;

pub use ondisk::label::{LABEL_SIZE, MIN_DEVICE_SIZE as DEVICE_SIZE_MIN};

/// A leaf's allocatable space starts here: two labels and the boot region.
pub const DATA_START: u64 = label::LABEL_START_SIZE;
/// Smallest allocation unit, log2.
pub const ASHIFT_MIN: u8 = label::ASHIFT_MIN as u8;
/// Largest allocation unit, log2.
pub const ASHIFT_MAX: u8 = label::ASHIFT_MAX as u8;

const METASLAB_SHIFT_DEFAULT: u32 = 29;
const METASLAB_SHIFT_MAX: u32 = 34;
const METASLAB_SHIFT_MIN: u32 = 24;
const METASLABS_WANTED: u64 = 200;
const METASLABS_MIN: u64 = 16;
const METASLABS_MAX: u64 = 1 << 17;

/// Offsets of the four labels of a device of `capacity` bytes.
pub const fn label_offsets(capacity: u64) -> [u64; 4] {
    let psize = label::usable_device_size(capacity);
    [0, LABEL_SIZE, psize.saturating_sub(2 * LABEL_SIZE), psize.saturating_sub(LABEL_SIZE)]
}

/// Allocatable bytes of a leaf of `capacity` bytes, before it is cut to whole metaslabs.
pub const fn leaf_asize(capacity: u64) -> u64 {
    match label::allocatable_size(capacity) {
        Some(size) => size,
        None => 0,
    }
}

/// log2 of the metaslab size for a new top-level vdev of `asize` bytes: about 200 metaslabs of 512 MiB to 16 GiB, at
/// least 16 of them, none below 16 MiB or below one largest block.
pub fn metaslab_shift_for(asize: u64) -> u8 {
    let count = asize >> METASLAB_SHIFT_DEFAULT;
    let mut shift = if count < METASLABS_MIN {
        highest_bit(asize / METASLABS_MIN).max(METASLAB_SHIFT_MIN)
    } else if count > METASLABS_WANTED {
        highest_bit(asize / METASLABS_WANTED).clamp(METASLAB_SHIFT_DEFAULT, METASLAB_SHIFT_MAX)
    } else {
        METASLAB_SHIFT_DEFAULT
    };
    while asize >> shift > METASLABS_MAX {
        shift += 1;
    }
    shift as u8
}

/// Whether a device works with blocks no larger than the allocation unit `1 << ashift`.
pub(crate) fn has_fitting_blocks(geometry: &Geometry, ashift: u8) -> bool {
    geometry.logical_block_size.max(geometry.physical_block_size) <= 1 << ashift
}

/// `asize` cut to whole metaslabs.
pub const fn whole_metaslabs(asize: u64, metaslab_shift: u8) -> u64 {
    asize >> metaslab_shift << metaslab_shift
}

/// log2 of the allocation unit for a device with such blocks.
pub const fn ashift_for(logical_block_size: u32, physical_block_size: u32) -> u8 {
    let block =
        if logical_block_size > physical_block_size { logical_block_size } else { physical_block_size };
    let shift = block.ilog2() as u8;
    if shift < ASHIFT_MIN {
        ASHIFT_MIN
    } else if shift > ASHIFT_MAX {
        ASHIFT_MAX
    } else {
        shift
    }
}

const fn highest_bit(n: u64) -> u32 {
    if n == 0 { 0 } else { n.ilog2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metaslabs_have_the_reference_sizes() {
        assert_eq!(metaslab_shift_for(leaf_asize(64 << 20)), 24);
        assert_eq!(metaslab_shift_for(leaf_asize(1 << 30)), 25);
        assert_eq!(metaslab_shift_for(leaf_asize(4 << 30)), 27);
        assert_eq!(metaslab_shift_for(leaf_asize(100 << 30)), 29);
        assert_eq!(metaslab_shift_for(leaf_asize(1 << 40)), 32);
        assert_eq!(metaslab_shift_for(leaf_asize(1 << 60)), 43);
    }

    #[test]
    fn labels_frame_the_space() {
        assert_eq!(
            label_offsets((1 << 30) + 1000),
            [0, 256 << 10, (1 << 30) - (512 << 10), (1 << 30) - (256 << 10)]
        );
        assert_eq!(leaf_asize(1 << 30), (1 << 30) - (4 << 20) - (512 << 10));
        assert_eq!(leaf_asize(1000), 0);
        assert_eq!(ashift_for(512, 4096), 12);
        assert_eq!(ashift_for(512, 512), 9);
    }
}
