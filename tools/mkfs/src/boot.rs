//! Loader and kernel on a disk.
use anyhow::{Context, Result, bail};
use blockdev::BlockDevice;
use kernel_boot::disk::{COMMAND_LINE_OFFSET, command_line_area};

const SECTOR: u64 = 512;

/// What makes a disk boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The kernel, an ELF file.
    pub kernel: Vec<u8>,
}

impl Boot {
    /// Writes the boot partition, which lies at `start`; the boot code of the MBR.
    ///
    /// # Errors
    /// When the kernel is no ELF file or too large, and the device's.
    pub fn install(&self, device: &dyn BlockDevice, start: u64, len: u64) -> Result<Vec<u8>> {
        let (code, partition) = self.area(start, len)?;
        // Devices have a largest request.
        const STEP: usize = 1 << 20;
        for (nr, piece) in partition.chunks(STEP).enumerate() {
            let mut piece = piece.to_vec();
            piece.resize(piece.len().next_multiple_of(4096), 0);
            device.write(start + (nr * STEP) as u64, abd::Abd::copy_from(&piece))?;
        }
        device.flush()?;
        Ok(code)
    }

    /// The boot code of the MBR and the first bytes of the boot partition.
    ///
    /// # Errors
    /// When the kernel is no ELF file or too large.
    pub fn area(&self, start: u64, len: u64) -> Result<(Vec<u8>, Vec<u8>)> {
        let area = kernel_boot::install(&self.kernel, "", start / SECTOR).context("the kernel")?;
        if area.partition.len() as u64 > len {
            bail!("loader and kernel ({} bytes) do not fit into the boot partition", area.partition.len());
        }
        Ok((area.boot_code.to_vec(), area.partition))
    }
}

/// The kernel as QEMU loads it: without what is only for debuggers.
///
/// # Errors
/// When it is no ELF file.
pub fn prepared_kernel(elf: &[u8]) -> Result<Vec<u8>> {
    kernel_boot::prepare(elf).context("the kernel")
}

/// The bytes that give a disk's kernel this command line, and where in the boot partition they go.
///
/// # Errors
/// When it is too long.
pub fn command_line(line: &str) -> Result<(u64, Vec<u8>)> {
    Ok((COMMAND_LINE_OFFSET, command_line_area(line).context("the kernel command line")?))
}
