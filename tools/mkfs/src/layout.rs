//! Where things lie in an image.
//!
//! | layout | from | what |
//! |---|---|---|
//! | disk | 0 | protective MBR with boot code, GUID partition table |
//! | | 1 MiB | BIOS boot partition: loader and kernel |
//! | | 16 MiB | ZFS partition, up to 1 MiB before the end |
//! | pool | 0 | the pool, from the first byte to the last |
use anyhow::{Result, bail};
use blockdev::gpt::{Entry, Guid, TYPE_BIOS_BOOT, TYPE_ZFS, Table};
use std::str::FromStr;

const MIB: u64 = 1 << 20;
/// First byte of the boot partition.
pub const BOOT_START: u64 = MIB;
/// Bytes of the boot partition.
pub const BOOT_LEN: u64 = 15 * MIB;

/// What an image looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A partitioned disk that boots.
    Disk,
    /// A bare pool.
    Pool,
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disk" => Ok(Self::Disk),
            "pool" => Ok(Self::Pool),
            _ => Err(format!("there is no layout '{text}'; there are disk and pool")),
        }
    }
}

impl Layout {
    /// First byte and length of the pool in an image of `size` bytes.
    ///
    /// # Errors
    /// When the image is too small.
    pub fn pool(self, size: u64) -> Result<(u64, u64)> {
        let (start, end) = match self {
            Self::Pool => (0, size),
            Self::Disk => (BOOT_START + BOOT_LEN, (size / MIB).saturating_sub(1) * MIB),
        };
        match end.checked_sub(start) {
            Some(len) if len >= 64 * MIB => Ok((start, len)),
            _ => bail!("an image of {} bytes leaves no room for a pool (64 MiB)", size),
        }
    }
}

/// The partition table of a disk of `size` bytes; ids come from the seed.
///
/// # Errors
/// When the disk is too small.
pub fn table(size: u64, seed: u64) -> Result<Table> {
    let (start, len) = Layout::Disk.pool(size)?;
    let id = |nr: u64| Guid::from_random(id_bytes(seed, nr));
    let entry = |nr, kind, start, len, name: &str| Entry { kind, id: id(nr), start, len, name: name.into() };
    Ok(Table {
        disk_id: id(0),
        entries: vec![
            entry(1, TYPE_BIOS_BOOT, BOOT_START, BOOT_LEN, "boot"),
            entry(2, TYPE_ZFS, start, len, "zfs"),
        ],
    })
}

/// 16 bytes that depend on the seed and a number.
fn id_bytes(seed: u64, nr: u64) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update(b"zeolite partition id");
    hash.update(seed.to_le_bytes());
    hash.update(nr.to_le_bytes());
    let digest = hash.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_fits_between_loader_and_backup_table() {
        let size = 1 << 30;
        let disk = blockdev_host::MemDisk::new(size);
        table(size, 7).expect("large enough").write(&disk, &[]).expect("fits");
        let (start, len) = Layout::Disk.pool(size).expect("large enough");
        assert_eq!((start, start + len), (16 * MIB, size - MIB));
        assert_eq!(Layout::Pool.pool(size).expect("large enough"), (0, size));
        assert!(Layout::Disk.pool(80 * MIB).is_err());
        assert_eq!(table(size, 7).expect("same"), table(size, 7).expect("same"));
        assert_ne!(table(size, 7).expect("one").disk_id, table(size, 8).expect("other").disk_id);
    }
}
