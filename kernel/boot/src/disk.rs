//! Making a disk bootable by BIOS: the code of the boot sector and the start of the BIOS boot partition.
//!
//! Partition, in sectors of 512 bytes from its start: 0..8 second stage, 8..16 command line (zero-terminated), 16..
//! the flat kernel. To change the command line of an image, rewrite sectors 8..16.
use crate::elf::Error;
use crate::image::{flatten, prepare};
use alloc::vec::Vec;

const SECTOR: usize = 512;
const STAGE_2_SECTORS: u64 = 8;
const COMMAND_SECTORS: u64 = 8;
/// Bytes from the start of the partition to the command line's area.
pub const COMMAND_LINE_OFFSET: u64 = STAGE_2_SECTORS * SECTOR as u64;
/// Bytes of the command line's area; one is the terminator.
pub const COMMAND_LINE_AREA: usize = COMMAND_SECTORS as usize * SECTOR;
/// Bytes of the boot sector that are code; the rest is the partition table's.
pub const BOOT_CODE_LEN: usize = 440;
/// Address the loader copies the kernel to.
const KERNEL_ADDRESS: u64 = 0x20_0000;

/// Boot sector and second stage, as they lie in memory from 0x7c00 on.
static LOADER: &[u8; SECTOR + 4096] = include_bytes!(concat!(env!("OUT_DIR"), "/loader.bin"));

/// What goes onto the disk.
#[derive(Clone, Debug)]
pub struct BootArea {
    /// First bytes of the disk.
    pub boot_code: [u8; BOOT_CODE_LEN],
    /// First bytes of the BIOS boot partition; a multiple of the sector size.
    pub partition: Vec<u8>,
}

/// Builds the loader for a kernel ELF (as built, or prepared) in a BIOS boot partition that starts at sector
/// `partition_lba` (of 512 bytes).
///
/// # Errors
/// [`Error`].
pub fn install(kernel: &[u8], command_line: &str, partition_lba: u64) -> Result<BootArea, Error> {
    let flat = flatten(&prepare(kernel)?)?;
    if flat.address != KERNEL_ADDRESS {
        return Err(Error::NotKernel);
    }
    let mut boot_code = [0; BOOT_CODE_LEN];
    boot_code.copy_from_slice(&LOADER[..BOOT_CODE_LEN]);
    boot_code[4..12].copy_from_slice(&partition_lba.to_le_bytes());
    let command_lba = partition_lba + STAGE_2_SECTORS;
    let kernel_lba = command_lba + COMMAND_SECTORS;
    let nr_sectors = flat.bytes.len().div_ceil(SECTOR) as u32;
    let mut partition = LOADER[SECTOR..].to_vec();
    partition[4..12].copy_from_slice(&command_lba.to_le_bytes());
    partition[12..20].copy_from_slice(&kernel_lba.to_le_bytes());
    partition[20..24].copy_from_slice(&nr_sectors.to_le_bytes());
    partition[24..28].copy_from_slice(&flat.entry.to_le_bytes());
    partition.extend(command_line_area(command_line)?);
    partition.extend(flat.bytes);
    partition.resize(partition.len().next_multiple_of(SECTOR), 0);
    Ok(BootArea { boot_code, partition })
}

/// The command line as it lies on the disk.
///
/// # Errors
/// [`Error::CommandLineTooLong`].
pub fn command_line_area(command_line: &str) -> Result<Vec<u8>, Error> {
    if command_line.len() >= COMMAND_LINE_AREA {
        return Err(Error::CommandLineTooLong);
    }
    let mut area = command_line.as_bytes().to_vec();
    area.resize(COMMAND_LINE_AREA, 0);
    Ok(area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_has_its_parts_where_they_are_patched() {
        // A short jump over the patched bytes.
        assert_eq!(LOADER[0], 0xeb);
        assert_eq!(LOADER[4..12], [0; 8], "place of the second stage's sector");
        assert_eq!(
            LOADER[BOOT_CODE_LEN..SECTOR],
            [0; SECTOR - BOOT_CODE_LEN],
            "room for the partition table"
        );
        assert_eq!(LOADER[SECTOR + 28..SECTOR + 32], 0x20_0000_u32.to_le_bytes(), "kernel address");
    }

    #[test]
    fn long_command_lines_are_refused() {
        let line = "x".repeat(COMMAND_LINE_AREA);
        assert_eq!(command_line_area(&line), Err(Error::CommandLineTooLong));
        assert_eq!(command_line_area(&line[1..]).map(|a| a.len()), Ok(COMMAND_LINE_AREA));
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(install(b"", "", 0).err(), Some(Error::NotElf));
        let mut fake = b"\x7fELF\x02\x01".to_vec();
        fake.resize(64, 0xff);
        fake[18..20].copy_from_slice(&62_u16.to_le_bytes());
        assert!(install(&fake, "", 0).is_err());
    }
}
