//! The three register layouts on a register file that remembers what was written.
extern crate std;

use super::legacy::LegacyPci;
use super::mmio::Mmio;
use super::pci::{self, ModernPci, PciConfig};
use super::{QueueLayout, Registers, Transport};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

const LAYOUT: QueueLayout =
    QueueLayout { size: 128, descriptors: 0x1_2345_6000, available: 0x1_2345_6800, used: 0x1_2345_7000 };

/// Plain memory as registers.
#[derive(Clone)]
struct File(Arc<Mutex<Vec<u8>>>);

impl File {
    fn new(len: usize) -> Self {
        Self(Arc::new(Mutex::new(std::vec![0; len])))
    }

    fn read(&self, offset: usize, len: usize) -> u32 {
        let bytes = self.0.lock().expect("lock");
        let Some(bytes) = bytes.get(offset..offset + len) else { return u32::MAX };
        bytes.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b))
    }

    fn write(&self, offset: usize, len: usize, value: u32) {
        if let Some(room) = self.0.lock().expect("lock").get_mut(offset..offset + len) {
            room.copy_from_slice(&value.to_le_bytes()[..len]);
        }
    }
}

impl Registers for File {
    fn len(&self) -> usize {
        self.0.lock().expect("lock").len()
    }
    fn read8(&self, offset: usize) -> u8 {
        self.read(offset, 1) as u8
    }
    fn read16(&self, offset: usize) -> u16 {
        self.read(offset, 2) as u16
    }
    fn read32(&self, offset: usize) -> u32 {
        self.read(offset, 4)
    }
    fn write8(&self, offset: usize, value: u8) {
        self.write(offset, 1, u32::from(value));
    }
    fn write16(&self, offset: usize, value: u16) {
        self.write(offset, 2, u32::from(value));
    }
    fn write32(&self, offset: usize, value: u32) {
        self.write(offset, 4, value);
    }
}

struct Space([u8; 256]);

impl PciConfig for Space {
    fn read32(&self, offset: u8) -> u32 {
        let at = usize::from(offset & 0xfc);
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("4 bytes"))
    }
}

fn space_with(capabilities: &[(u8, u8, u8, u32, u32, u32)]) -> Space {
    let mut bytes = [0; 256];
    bytes[6] = 0x10;
    bytes[0x34] = 0x40;
    for (nr, (kind, len, bar, offset, size, extra)) in capabilities.iter().enumerate() {
        let at = 0x40 + nr * 20;
        let is_last = nr + 1 == capabilities.len();
        bytes[at..at + 5].copy_from_slice(&[9, if is_last { 0 } else { at as u8 + 20 }, *len, *kind, *bar]);
        bytes[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&size.to_le_bytes());
        bytes[at + 16..at + 20].copy_from_slice(&extra.to_le_bytes());
    }
    Space(bytes)
}

#[test]
fn the_capability_list_is_walked() {
    let all = [
        (1, 16, 4, 0, 0x38, 0),
        (3, 16, 4, 0x1000, 4, 0),
        (4, 16, 4, 0x2000, 60, 0),
        (2, 20, 4, 0x3000, 0x400, 4),
        (1, 16, 2, 9, 9, 9),
    ];
    let found = pci::find_capabilities(&space_with(&all)).expect("complete");
    assert_eq!((found.common.bar, found.common.offset, found.common.len), (4, 0, 0x38));
    assert_eq!((found.notify.offset, found.notify_multiplier), (0x3000, 4));
    assert_eq!((found.isr.offset, found.device.len), (0x1000, 60));
    assert_eq!(pci::find_capabilities(&space_with(&all[..3])), None);
    let wrong_bar = [(1, 16, 6, 0, 0x38, 0), all[1], all[2], all[3]];
    assert_eq!(pci::find_capabilities(&space_with(&wrong_bar)), None);
}

#[test]
fn a_capability_list_that_loops_or_leads_nowhere_ends() {
    let mut looping = space_with(&[(1, 16, 4, 0, 0x38, 0)]);
    looping.0[0x41] = 0x40;
    assert_eq!(pci::find_capabilities(&looping), None);
    assert_eq!(pci::find_capabilities(&Space([0xff; 256])), None);
    assert_eq!(pci::find_capabilities(&Space([0; 256])), None);
}

#[test]
fn a_modern_queue_is_set_up() {
    let (common, notify) = (File::new(0x38), File::new(0x1000));
    let device = ModernPci::new(
        pci::DEVICE_BLOCK_MODERN,
        common.clone(),
        notify.clone(),
        4,
        File::new(4),
        File::new(60),
    );
    assert_eq!(device.device_id(), 2);
    common.write(0x1e, 2, 3);
    assert!(device.enable_queue(3, &LAYOUT, Some(5)));
    assert_eq!((common.read16(0x16), common.read16(0x18), common.read16(0x1a)), (3, 128, 5));
    assert_eq!((common.read32(0x20), common.read32(0x24)), (0x2345_6000, 1));
    assert_eq!((common.read32(0x28), common.read32(0x30)), (0x2345_6800, 0x2345_7000));
    assert_eq!(common.read16(0x1c), 1);
    device.notify(3);
    assert_eq!(notify.read16(12), 3);
    common.write(0x1e, 2, 0xffff);
    assert!(!device.enable_queue(4, &LAYOUT, None), "notified outside of the window");
    assert_eq!(device.queue_size_max(64), 0);
}

#[test]
fn a_legacy_queue_is_set_up() {
    let registers = File::new(64);
    let device = LegacyPci::new(2, registers.clone(), true);
    registers.write(12, 2, 128);
    assert!(!device.enable_queue(0, &QueueLayout { size: 64, ..LAYOUT }, Some(1)), "the size is fixed");
    assert!(device.enable_queue(0, &LAYOUT, Some(1)));
    assert_eq!((registers.read32(8), registers.read16(22)), (0x12_3456, 1));
    assert!(device.set_config_vector(Some(2)));
    registers.write(24, 4, 77);
    assert_eq!(device.read_config32(0), 77);
    let beyond = QueueLayout { descriptors: 1 << 45, ..LAYOUT };
    assert!(!device.enable_queue(0, &beyond, Some(1)), "a page number has 32 bits");
}

#[test]
fn mmio_devices_of_both_versions_are_set_up() {
    for version in [1, 2] {
        let registers = File::new(0x200);
        assert!(Mmio::new(registers.clone()).is_none());
        registers.write(0, 4, 0x7472_6976);
        registers.write(4, 4, version);
        registers.write(8, 4, 2);
        let device = Mmio::new(registers.clone()).expect("a device");
        assert!(device.enable_queue(1, &LAYOUT, None));
        assert!(!device.enable_queue(1, &LAYOUT, Some(0)), "there are no vectors");
        assert_eq!(registers.read32(0x38), 128);
        if version == 1 {
            assert_eq!((registers.read32(0x3c), registers.read32(0x40)), (4096, 0x12_3456));
        } else {
            assert_eq!((registers.read32(0x80), registers.read32(0x84)), (0x2345_6000, 1));
            assert_eq!(registers.read32(0x44), 1);
        }
        device.notify(1);
        assert_eq!(registers.read32(0x50), 1);
        registers.write(0x60, 4, 3);
        assert_eq!(device.take_interrupt_status(), 3);
        assert_eq!(registers.read32(0x64), 3);
    }
}
