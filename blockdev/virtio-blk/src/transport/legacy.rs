//! The pre-1.0 register layout that transitional PCI devices offer in I/O BAR 0 (specification 4.1.4.10).
use super::{QueueLayout, Registers, Transport};

const DEVICE_FEATURES: usize = 0;
const DRIVER_FEATURES: usize = 4;
const QUEUE_ADDRESS: usize = 8;
const QUEUE_SIZE: usize = 12;
const QUEUE_SELECT: usize = 14;
const QUEUE_NOTIFY: usize = 16;
const DEVICE_STATUS: usize = 18;
const ISR_STATUS: usize = 19;
const CONFIG_VECTOR: usize = 20;
const QUEUE_VECTOR: usize = 22;
const CONFIG: usize = 20;
const CONFIG_WITH_MSIX: usize = 24;
const NO_VECTOR: u16 = 0xffff;

/// A transitional PCI function driven the old way.
#[derive(Debug)]
pub struct LegacyPci<R> {
    device_id: u32,
    registers: R,
    has_msix: bool,
}

impl<R: Registers> LegacyPci<R> {
    /// `device_id` is the virtio one (the PCI subsystem id), `registers` BAR 0, `has_msix` whether MSI-X is enabled
    /// in the function (it moves the device-specific configuration).
    pub fn new(device_id: u32, registers: R, has_msix: bool) -> Self {
        Self { device_id, registers, has_msix }
    }

    fn config(&self, offset: usize) -> usize {
        offset + if self.has_msix { CONFIG_WITH_MSIX } else { CONFIG }
    }
}

impl<R: Registers> Transport for LegacyPci<R> {
    fn device_id(&self) -> u32 {
        self.device_id
    }

    fn is_legacy(&self) -> bool {
        true
    }

    fn device_features(&self) -> u64 {
        u64::from(self.registers.read32(DEVICE_FEATURES))
    }

    fn set_driver_features(&self, features: u64) {
        self.registers.write32(DRIVER_FEATURES, features as u32);
    }

    fn status(&self) -> u8 {
        self.registers.read8(DEVICE_STATUS)
    }

    fn set_status(&self, bits: u8) {
        self.registers.write8(DEVICE_STATUS, bits);
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        self.registers.write16(QUEUE_SELECT, queue);
        self.registers.read16(QUEUE_SIZE)
    }

    fn enable_queue(&self, queue: u16, layout: &QueueLayout, vector: Option<u16>) -> bool {
        // The size is the device's choice here and the address a 32-bit page number.
        let Ok(page) = u32::try_from(layout.descriptors / 4096) else { return false };
        if self.queue_size_max(queue) != layout.size {
            return false;
        }
        if self.has_msix {
            let vector = vector.unwrap_or(NO_VECTOR);
            self.registers.write16(QUEUE_VECTOR, vector);
            if self.registers.read16(QUEUE_VECTOR) != vector {
                return false;
            }
        }
        self.registers.write32(QUEUE_ADDRESS, page);
        true
    }

    fn set_config_vector(&self, vector: Option<u16>) -> bool {
        if !self.has_msix {
            return vector.is_none();
        }
        let vector = vector.unwrap_or(NO_VECTOR);
        self.registers.write16(CONFIG_VECTOR, vector);
        self.registers.read16(CONFIG_VECTOR) == vector
    }

    fn notify(&self, queue: u16) {
        self.registers.write16(QUEUE_NOTIFY, queue);
    }

    fn take_interrupt_status(&self) -> u8 {
        self.registers.read8(ISR_STATUS)
    }

    fn read_config8(&self, offset: usize) -> u8 {
        self.registers.read8(self.config(offset))
    }

    fn read_config16(&self, offset: usize) -> u16 {
        self.registers.read16(self.config(offset))
    }

    fn read_config32(&self, offset: usize) -> u32 {
        self.registers.read32(self.config(offset))
    }

    fn write_config8(&self, offset: usize, value: u8) {
        self.registers.write8(self.config(offset), value);
    }

    fn config_generation(&self) -> u32 {
        0
    }
}
