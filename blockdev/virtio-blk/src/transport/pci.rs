//! Virtio 1.x over PCI (specification 4.1): the vendor capabilities and the registers they point at.
use super::{QueueLayout, Registers, Transport};

/// Reads a PCI function's configuration space; `offset` is a multiple of 4 below 256.
pub trait PciConfig {
    /// One aligned double word.
    fn read32(&self, offset: u8) -> u32;
}

/// PCI vendor of all virtio devices.
pub const VENDOR: u16 = 0x1af4;
/// Device id of a transitional block device.
pub const DEVICE_BLOCK_TRANSITIONAL: u16 = 0x1001;
/// Device id of a modern block device.
pub const DEVICE_BLOCK_MODERN: u16 = 0x1042;

const STATUS_HAS_CAPABILITIES: u32 = 1 << 20;
const CAPABILITY_VENDOR: u8 = 9;
/// 192 bytes of capabilities of at least 4: more steps than that is a loop.
const CAPABILITIES_MAX: usize = 48;
const NO_VECTOR: u16 = 0xffff;

/// Part of a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarWindow {
    /// Number of the BAR, 0 to 5.
    pub bar: u8,
    /// Bytes from its start.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The register blocks of a virtio 1.x function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Common configuration.
    pub common: BarWindow,
    /// Notification area.
    pub notify: BarWindow,
    /// Distance of two queues' notification addresses, bytes.
    pub notify_multiplier: u32,
    /// Interrupt status.
    pub isr: BarWindow,
    /// Device-specific configuration.
    pub device: BarWindow,
}

/// Walks the capability list; `None` for a function without the virtio 1.x register blocks.
pub fn find_capabilities(config: &dyn PciConfig) -> Option<Capabilities> {
    if config.read32(4) & STATUS_HAS_CAPABILITIES == 0 {
        return None;
    }
    let (mut common, mut notify, mut isr, mut device) = (None, None, None, None);
    let mut at = (config.read32(0x34) & 0xfc) as u8;
    for _ in 0..CAPABILITIES_MAX {
        if at < 0x40 {
            break;
        }
        let head = config.read32(at);
        let [id, next, len, kind] = head.to_le_bytes();
        if id == CAPABILITY_VENDOR && len >= 16 && at <= 256_u16.saturating_sub(16) as u8 {
            let bar = (config.read32(at + 4) & 0xff) as u8;
            let window = BarWindow { bar, offset: config.read32(at + 8), len: config.read32(at + 12) };
            // The first of a kind is the device's favourite.
            match kind {
                _ if bar > 5 => {}
                1 => common = common.or(Some(window)),
                2 if len >= 20 && at <= 0xec => {
                    notify = notify.or(Some((window, config.read32(at + 16))));
                }
                3 => isr = isr.or(Some(window)),
                4 => device = device.or(Some(window)),
                _ => {}
            }
        }
        at = next & 0xfc;
    }
    let (notify, notify_multiplier) = notify?;
    Some(Capabilities { common: common?, notify, notify_multiplier, isr: isr?, device: device? })
}

mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub const DRIVER_FEATURE: usize = 0x0c;
    pub const CONFIG_VECTOR: usize = 0x10;
    pub const DEVICE_STATUS: usize = 0x14;
    pub const CONFIG_GENERATION: usize = 0x15;
    pub const QUEUE_SELECT: usize = 0x16;
    pub const QUEUE_SIZE: usize = 0x18;
    pub const QUEUE_VECTOR: usize = 0x1a;
    pub const QUEUE_ENABLE: usize = 0x1c;
    pub const QUEUE_NOTIFY_OFF: usize = 0x1e;
    pub const QUEUE_DESC: usize = 0x20;
    pub const QUEUE_DRIVER: usize = 0x28;
    pub const QUEUE_DEVICE: usize = 0x30;
}

/// Notification offsets kept per queue, so that a notification is one register write.
pub const QUEUES_MAX: usize = 64;

/// A virtio 1.x PCI function. Its register blocks are windows that the kernel mapped as [`Capabilities`] says.
#[derive(Debug)]
pub struct ModernPci<R> {
    device_id: u32,
    common: R,
    notify: R,
    notify_multiplier: u32,
    isr: R,
    device: R,
    notify_offsets: [core::sync::atomic::AtomicUsize; QUEUES_MAX],
}

impl<R: Registers> ModernPci<R> {
    /// `pci_device` is the function's PCI device id; the windows are those of [`Capabilities`].
    pub fn new(pci_device: u16, common: R, notify: R, notify_multiplier: u32, isr: R, device: R) -> Self {
        let device_id = match pci_device {
            DEVICE_BLOCK_TRANSITIONAL => 2,
            id => u32::from(id).saturating_sub(0x1040),
        };
        Self {
            device_id,
            common,
            notify,
            notify_multiplier,
            isr,
            device,
            notify_offsets: [const { core::sync::atomic::AtomicUsize::new(usize::MAX) }; QUEUES_MAX],
        }
    }

    fn write64(&self, offset: usize, value: u64) {
        self.common.write32(offset, value as u32);
        self.common.write32(offset + 4, (value >> 32) as u32);
    }
}

impl<R: Registers> Transport for ModernPci<R> {
    fn device_id(&self) -> u32 {
        self.device_id
    }

    fn is_legacy(&self) -> bool {
        false
    }

    fn device_features(&self) -> u64 {
        let half = |select| {
            self.common.write32(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read32(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn set_driver_features(&self, features: u64) {
        for select in 0..2_u32 {
            self.common.write32(common::DRIVER_FEATURE_SELECT, select);
            self.common.write32(common::DRIVER_FEATURE, (features >> (32 * select)) as u32);
        }
    }

    fn status(&self) -> u8 {
        self.common.read8(common::DEVICE_STATUS)
    }

    fn set_status(&self, bits: u8) {
        self.common.write8(common::DEVICE_STATUS, bits);
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        if usize::from(queue) >= QUEUES_MAX {
            return 0;
        }
        self.common.write16(common::QUEUE_SELECT, queue);
        self.common.read16(common::QUEUE_SIZE)
    }

    fn enable_queue(&self, queue: u16, layout: &QueueLayout, vector: Option<u16>) -> bool {
        let Some(notify_offset) = self.notify_offsets.get(usize::from(queue)) else { return false };
        let vector = vector.unwrap_or(NO_VECTOR);
        self.common.write16(common::QUEUE_SELECT, queue);
        self.common.write16(common::QUEUE_SIZE, layout.size);
        self.common.write16(common::QUEUE_VECTOR, vector);
        if self.common.read16(common::QUEUE_VECTOR) != vector
            || self.common.read16(common::QUEUE_SIZE) != layout.size
        {
            return false;
        }
        self.write64(common::QUEUE_DESC, layout.descriptors);
        self.write64(common::QUEUE_DRIVER, layout.available);
        self.write64(common::QUEUE_DEVICE, layout.used);
        let units = u64::from(self.common.read16(common::QUEUE_NOTIFY_OFF));
        let Some(offset) = units
            .checked_mul(u64::from(self.notify_multiplier))
            .and_then(|o| usize::try_from(o).ok())
            .filter(|o| o.checked_add(2).is_some_and(|end| end <= self.notify.len()))
        else {
            return false;
        };
        notify_offset.store(offset, core::sync::atomic::Ordering::Relaxed);
        self.common.write16(common::QUEUE_ENABLE, 1);
        true
    }

    fn set_config_vector(&self, vector: Option<u16>) -> bool {
        let vector = vector.unwrap_or(NO_VECTOR);
        self.common.write16(common::CONFIG_VECTOR, vector);
        self.common.read16(common::CONFIG_VECTOR) == vector
    }

    fn notify(&self, queue: u16) {
        if let Some(offset) = self.notify_offsets.get(usize::from(queue)) {
            self.notify.write16(offset.load(core::sync::atomic::Ordering::Relaxed), queue);
        }
    }

    fn take_interrupt_status(&self) -> u8 {
        self.isr.read8(0)
    }

    fn read_config8(&self, offset: usize) -> u8 {
        self.device.read8(offset)
    }

    fn read_config16(&self, offset: usize) -> u16 {
        self.device.read16(offset)
    }

    fn read_config32(&self, offset: usize) -> u32 {
        self.device.read32(offset)
    }

    fn write_config8(&self, offset: usize, value: u8) {
        self.device.write8(offset, value);
    }

    fn config_generation(&self) -> u32 {
        u32::from(self.common.read8(common::CONFIG_GENERATION))
    }
}
