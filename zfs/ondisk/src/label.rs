//! Where things lie on a leaf device: four labels, the boot region, the space between.
//!
//! | region | offset | size |
//! |---|---|---|
//! | labels 0, 1 | 0, 256 KiB | 256 KiB each |
//! | boot region | 512 KiB | 3.5 MiB |
//! | allocatable space | 4 MiB | usable size |
//! | labels 2, 3 | 512 and 256 KiB before the end | 256 KiB each |
//!
//! The end is the device size rounded down to 256 KiB. Within a label: 8 KiB padding, 8 KiB boot environment,
//! 112 KiB configuration (packed nvlist, trailer in its last 40 bytes), 128 KiB uberblock ring.

/// Size of one label.
pub const LABEL_SIZE: u64 = 256 << 10;
/// Labels on a leaf.
pub const LABELS: usize = 4;
/// Offset of the configuration within a label.
pub const PHYS_OFFSET: u64 = 16 << 10;
/// Size of the configuration with its trailer.
pub const PHYS_SIZE: usize = 112 << 10;
/// Room for the packed nvlist within the configuration.
pub const PHYS_NVLIST_SIZE: usize = PHYS_SIZE - crate::eck::ECK_SIZE;
/// Offset of the boot environment within a label.
pub const BOOTENV_OFFSET: u64 = 8 << 10;
/// Size of the boot environment with its trailer.
pub const BOOTENV_SIZE: usize = 8 << 10;
/// Boot environment version: raw text for grub's environment block.
pub const BOOTENV_VERSION_RAW: u64 = 0;
/// Boot environment version: packed nvlist.
pub const BOOTENV_VERSION_NVLIST: u64 = 1;
/// Offset of the uberblock ring within a label.
pub const RING_OFFSET: u64 = 128 << 10;
/// Size of the uberblock ring.
pub const RING_SIZE: u64 = 128 << 10;
/// Offset of the boot region on a leaf.
pub const BOOT_OFFSET: u64 = 2 * LABEL_SIZE;
/// Size of the boot region.
pub const BOOT_SIZE: u64 = 7 << 19;
/// Offset of the allocatable space on a leaf: what DVA offset 0 means there.
pub const LABEL_START_SIZE: u64 = BOOT_OFFSET + BOOT_SIZE;
/// Bytes at the end of a leaf that labels 2 and 3 take.
pub const LABEL_END_SIZE: u64 = 2 * LABEL_SIZE;
/// Smallest device OpenZFS accepts.
pub const MIN_DEVICE_SIZE: u64 = 64 << 20;
/// Smallest `ashift`.
pub const ASHIFT_MIN: u32 = 9;
/// Largest `ashift`.
pub const ASHIFT_MAX: u32 = 16;

const _: () = assert!(LABEL_START_SIZE == 4 << 20);

/// Device size as the format counts it: rounded down to a whole label.
#[must_use]
pub const fn usable_device_size(device_size: u64) -> u64 {
    device_size & !(LABEL_SIZE - 1)
}

/// Bytes a leaf of that size offers for allocation, before truncation to metaslabs; `None` when labels do not fit.
#[must_use]
pub const fn allocatable_size(device_size: u64) -> Option<u64> {
    usable_device_size(device_size).checked_sub(LABEL_START_SIZE + LABEL_END_SIZE)
}

/// Device offset of label `index` (0 to 3); `None` when the device is too small or the index too large.
#[must_use]
pub const fn label_offset(index: usize, device_size: u64) -> Option<u64> {
    if allocatable_size(device_size).is_none() {
        return None;
    }
    match index {
        0 | 1 => Some(index as u64 * LABEL_SIZE),
        2 | 3 => Some(usable_device_size(device_size) - (LABELS - index) as u64 * LABEL_SIZE),
        _ => None,
    }
}

/// log2 of the uberblock slot size on a vdev of that `ashift`.
#[must_use]
pub const fn slot_shift(ashift: u32) -> u32 {
    if ashift < 10 {
        10
    } else if ashift > 13 {
        13
    } else {
        ashift
    }
}

/// Size of an uberblock slot.
#[must_use]
pub const fn slot_size(ashift: u32) -> usize {
    1 << slot_shift(ashift)
}

/// Slots in the ring.
#[must_use]
pub const fn slot_count(ashift: u32) -> u64 {
    RING_SIZE >> slot_shift(ashift)
}

/// Slot of a transaction group's uberblock. With multihost protection on, the last slot is kept for its heartbeat.
#[must_use]
pub const fn slot_of_txg(txg: crate::Txg, ashift: u32, multihost: bool) -> u64 {
    txg.0 % (slot_count(ashift) - multihost as u64)
}

/// Offset of a slot within its label. A slot beyond the ring gives `None`.
#[must_use]
pub const fn slot_offset(slot: u64, ashift: u32) -> Option<u64> {
    if slot >= slot_count(ashift) {
        return None;
    }
    Some(RING_OFFSET + (slot << slot_shift(ashift)))
}

/// State of a pool as its labels tell it (`pool_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum PoolState {
    /// In use, or not exported cleanly.
    Active = 0,
    /// Exported.
    Exported = 1,
    /// Destroyed; its content may still be there.
    Destroyed = 2,
    /// A hot spare: not a pool of its own.
    Spare = 3,
    /// A cache device: not a pool of its own.
    L2Cache = 4,
}

impl PoolState {
    /// The state of that number, if labels may carry it.
    #[must_use]
    pub const fn from_id(id: u64) -> Option<Self> {
        Some(match id {
            0 => Self::Active,
            1 => Self::Exported,
            2 => Self::Destroyed,
            3 => Self::Spare,
            4 => Self::L2Cache,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Txg;

    #[test]
    fn labels_lie_at_both_ends() {
        let size = (100 << 20) + 12345;
        assert_eq!(label_offset(0, size), Some(0));
        assert_eq!(label_offset(1, size), Some(256 << 10));
        assert_eq!(label_offset(2, size), Some((100 << 20) - (512 << 10)));
        assert_eq!(label_offset(3, size), Some((100 << 20) - (256 << 10)));
        assert_eq!(label_offset(4, size), None);
        assert_eq!(label_offset(0, 1 << 20), None);
        assert_eq!(allocatable_size(size), Some((100 << 20) - (4 << 20) - (512 << 10)));
    }

    #[test]
    fn ring_geometry_follows_ashift() {
        assert_eq!((slot_size(9), slot_count(9)), (1024, 128));
        assert_eq!((slot_size(12), slot_count(12)), (4096, 32));
        assert_eq!((slot_size(16), slot_count(16)), (8192, 16));
        assert_eq!(slot_of_txg(Txg(130), 9, false), 2);
        assert_eq!(slot_of_txg(Txg(130), 9, true), 3);
        assert_eq!(slot_offset(32, 12), None);
    }
}
