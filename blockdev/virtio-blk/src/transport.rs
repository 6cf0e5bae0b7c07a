//! The register seam: how a virtio device is configured and notified, whatever bus it hangs on.
//!
//! [`Transport`] is what the driver talks to. Its three implementations know the register layouts and are generic
//! over [`Registers`], a window of device registers that the kernel maps (memory or ports):
//!
//! | module | device |
//! |---|---|
//! | [`pci`] | virtio 1.x over PCI: the capability list and the registers it points at |
//! | [`legacy`] | the older layout of transitional PCI devices, in an I/O BAR |
//! | [`mmio`] | virtio over MMIO, both versions |
//!
//! What it is not: bus enumeration, interrupt routing (the kernel gives vector numbers in and calls the driver's
//! interrupt entry points).
//!
//! Everything read through here comes from the device and is believed by no one: see the driver's module.
pub mod legacy;
pub mod mmio;
pub mod pci;

/// A window of device registers, little-endian. Accesses are of the width named, never split or merged.
///
/// An access outside the window reads all ones and writes nothing; implementations check.
pub trait Registers: Send + Sync + 'static {
    /// Bytes in the window.
    fn len(&self) -> usize;
    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads a byte.
    fn read8(&self, offset: usize) -> u8;
    /// Reads 16 bits.
    fn read16(&self, offset: usize) -> u16;
    /// Reads 32 bits.
    fn read32(&self, offset: usize) -> u32;
    /// Writes a byte.
    fn write8(&self, offset: usize, value: u8);
    /// Writes 16 bits.
    fn write16(&self, offset: usize, value: u16);
    /// Writes 32 bits.
    fn write32(&self, offset: usize, value: u32);
}

/// Where a queue's three parts lie, as the device sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLayout {
    /// Entries; a power of two.
    pub size: u16,
    /// Descriptor table. Aligned to a page; the other two follow as the older layout demands (the available ring
    /// directly, the used ring at the next page), so that one layout serves all transports.
    pub descriptors: u64,
    /// Available ring.
    pub available: u64,
    /// Used ring.
    pub used: u64,
}

/// Device status bits.
pub mod status {
    /// The driver has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// The feature set is agreed.
    pub const FEATURES_OK: u8 = 8;
    /// The device is in an error it cannot leave without a reset.
    pub const NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
}

/// A virtio device's registers.
///
/// Interrupt context may call only [`Transport::take_interrupt_status`]; it must therefore not take locks.
pub trait Transport: Send + Sync + 'static {
    /// The device id (2 is a block device).
    fn device_id(&self) -> u32;

    /// The device follows the pre-1.0 rules: no `FEATURES_OK`, 32 feature bits.
    fn is_legacy(&self) -> bool;

    /// Feature bits offered.
    fn device_features(&self) -> u64;

    /// Accepts feature bits.
    fn set_driver_features(&self, features: u64);

    /// Status bits, see [`status`]. 0 after a reset has finished.
    fn status(&self) -> u8;

    /// Sets the status; 0 resets the device (and is finished when `status` reads 0).
    fn set_status(&self, bits: u8);

    /// Most entries queue `queue` can have; 0 when there is no such queue.
    fn queue_size_max(&self, queue: u16) -> u16;

    /// Hands queue `queue` to the device, its interrupts to MSI-X table entry `vector` (`None`: the shared
    /// interrupt). False when the device did not take the vector or the size.
    fn enable_queue(&self, queue: u16, layout: &QueueLayout, vector: Option<u16>) -> bool;

    /// Sends configuration-change interrupts to MSI-X table entry `vector`. False when it did not take it.
    fn set_config_vector(&self, vector: Option<u16>) -> bool;

    /// Tells the device that queue `queue` has new buffers.
    fn notify(&self, queue: u16);

    /// Reads and clears the interrupt status: bit 0 queue, bit 1 configuration. For the shared interrupt; with
    /// MSI-X there is no need.
    fn take_interrupt_status(&self) -> u8;

    /// Reads a byte of the device-specific configuration; all ones outside of it.
    fn read_config8(&self, offset: usize) -> u8;

    /// Reads 16 bits of it.
    fn read_config16(&self, offset: usize) -> u16;

    /// Reads 32 bits of it.
    fn read_config32(&self, offset: usize) -> u32;

    /// Writes a byte of it.
    fn write_config8(&self, offset: usize, value: u8);

    /// Changes whenever the configuration may have changed between two reads; 0 where there is no such thing.
    fn config_generation(&self) -> u32;
}

#[cfg(test)]
mod tests;
