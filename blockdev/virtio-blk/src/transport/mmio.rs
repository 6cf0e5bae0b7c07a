//! Virtio over MMIO (specification 4.2), version 2 and the older version 1.
use super::{QueueLayout, Registers, Transport};

const MAGIC: usize = 0x00;
const VERSION: usize = 0x04;
const DEVICE_ID: usize = 0x08;
const DEVICE_FEATURES: usize = 0x10;
const DEVICE_FEATURES_SELECT: usize = 0x14;
const DRIVER_FEATURES: usize = 0x20;
const DRIVER_FEATURES_SELECT: usize = 0x24;
const GUEST_PAGE_SIZE: usize = 0x28;
const QUEUE_SELECT: usize = 0x30;
const QUEUE_SIZE_MAX: usize = 0x34;
const QUEUE_SIZE: usize = 0x38;
const QUEUE_ALIGN: usize = 0x3c;
const QUEUE_PAGE: usize = 0x40;
const QUEUE_READY: usize = 0x44;
const QUEUE_NOTIFY: usize = 0x50;
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_ACK: usize = 0x64;
const STATUS: usize = 0x70;
const QUEUE_DESC: usize = 0x80;
const QUEUE_DRIVER: usize = 0x90;
const QUEUE_DEVICE: usize = 0xa0;
const CONFIG_GENERATION: usize = 0xfc;
const CONFIG: usize = 0x100;

/// "virt".
const MAGIC_VALUE: u32 = 0x7472_6976;

/// A virtio-mmio device.
#[derive(Debug)]
pub struct Mmio<R> {
    registers: R,
    is_legacy: bool,
}

impl<R: Registers> Mmio<R> {
    /// `None` when the window holds no device (magic, version or device id say so).
    pub fn new(registers: R) -> Option<Self> {
        let version = registers.read32(VERSION);
        let is_device = registers.read32(MAGIC) == MAGIC_VALUE && registers.read32(DEVICE_ID) != 0;
        (is_device && (1..=2).contains(&version)).then_some(Self { registers, is_legacy: version == 1 })
    }

    fn write64(&self, offset: usize, value: u64) {
        self.registers.write32(offset, value as u32);
        self.registers.write32(offset + 4, (value >> 32) as u32);
    }
}

impl<R: Registers> Transport for Mmio<R> {
    fn device_id(&self) -> u32 {
        self.registers.read32(DEVICE_ID)
    }

    fn is_legacy(&self) -> bool {
        self.is_legacy
    }

    fn device_features(&self) -> u64 {
        let half = |select| {
            self.registers.write32(DEVICE_FEATURES_SELECT, select);
            u64::from(self.registers.read32(DEVICE_FEATURES))
        };
        if self.is_legacy { half(0) } else { half(0) | half(1) << 32 }
    }

    fn set_driver_features(&self, features: u64) {
        for select in 0..2_u32 {
            self.registers.write32(DRIVER_FEATURES_SELECT, select);
            self.registers.write32(DRIVER_FEATURES, (features >> (32 * select)) as u32);
        }
    }

    fn status(&self) -> u8 {
        self.registers.read32(STATUS) as u8
    }

    fn set_status(&self, bits: u8) {
        self.registers.write32(STATUS, u32::from(bits));
        if bits == 0 && self.is_legacy {
            self.registers.write32(GUEST_PAGE_SIZE, 4096);
        }
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        self.registers.write32(QUEUE_SELECT, u32::from(queue));
        u16::try_from(self.registers.read32(QUEUE_SIZE_MAX)).unwrap_or(0)
    }

    fn enable_queue(&self, queue: u16, layout: &QueueLayout, vector: Option<u16>) -> bool {
        if vector.is_some() {
            return false;
        }
        self.registers.write32(QUEUE_SELECT, u32::from(queue));
        self.registers.write32(QUEUE_SIZE, u32::from(layout.size));
        if self.is_legacy {
            let Ok(page) = u32::try_from(layout.descriptors / 4096) else { return false };
            self.registers.write32(QUEUE_ALIGN, 4096);
            self.registers.write32(QUEUE_PAGE, page);
        } else {
            self.write64(QUEUE_DESC, layout.descriptors);
            self.write64(QUEUE_DRIVER, layout.available);
            self.write64(QUEUE_DEVICE, layout.used);
            self.registers.write32(QUEUE_READY, 1);
        }
        true
    }

    fn set_config_vector(&self, vector: Option<u16>) -> bool {
        vector.is_none()
    }

    fn notify(&self, queue: u16) {
        self.registers.write32(QUEUE_NOTIFY, u32::from(queue));
    }

    fn take_interrupt_status(&self) -> u8 {
        let bits = self.registers.read32(INTERRUPT_STATUS);
        self.registers.write32(INTERRUPT_ACK, bits);
        bits as u8
    }

    fn read_config8(&self, offset: usize) -> u8 {
        self.registers.read8(CONFIG + offset)
    }

    fn read_config16(&self, offset: usize) -> u16 {
        self.registers.read16(CONFIG + offset)
    }

    fn read_config32(&self, offset: usize) -> u32 {
        self.registers.read32(CONFIG + offset)
    }

    fn write_config8(&self, offset: usize, value: u8) {
        self.registers.write8(CONFIG + offset, value);
    }

    fn config_generation(&self) -> u32 {
        if self.is_legacy { 0 } else { self.registers.read32(CONFIG_GENERATION) }
    }
}
