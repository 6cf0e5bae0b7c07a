//! Loader and kernel on a disk.
use anyhow::Result;
use blockdev::BlockDevice;

/// What makes a disk boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The kernel, an ELF file.
    pub kernel: Vec<u8>,
}

impl Boot {
    /// Writes the boot partition; the boot code of the MBR.
    ///
    /// # Errors
    /// When the kernel is no ELF file or too large, and the device's.
    pub fn install(&self, _device: &dyn BlockDevice, _start: u64, _len: u64) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}
