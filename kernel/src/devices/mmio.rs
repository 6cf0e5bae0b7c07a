//! virtio-mmio devices named on the command line.
use super::interrupts::Slot;
use super::registers::DeviceRegisters;
use super::start_disk;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use hal::addr::PhysAddr;
use hal::ioapic::{self, Trigger};
use hal::irq;
use hal::window::Window;
use virtio_blk::transport::Transport;
use virtio_blk::transport::mmio::Mmio;
use virtio_blk::{Options, Patience};

const DEVICE_BLOCK: u32 = 2;
/// The largest window believed.
const LEN_MAX: usize = 1 << 20;

struct Place {
    at: u64,
    len: usize,
    gsi: u32,
}

/// `SIZE@ADDRESS:IRQ[:ID]`; numbers in decimal or with `0x`, the size also with K.
fn parse(word: &str) -> Option<Place> {
    let (size, rest) = word.split_once('@')?;
    let mut parts = rest.split(':');
    let (at, gsi) = (number(parts.next()?)?, number(parts.next()?)?);
    let len = match size.strip_suffix(['K', 'k']) {
        Some(size) => number(size)?.checked_mul(1024)?,
        None => number(size)?,
    };
    let len = usize::try_from(len).ok().filter(|&len| len <= LEN_MAX)?;
    Some(Place { at, len, gsi: u32::try_from(gsi).ok()? })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The block devices among them. QEMU names the slots in descending order of use: the list is in order of address.
pub fn block_devices(command_line: &str, patience: Option<Patience>) -> Vec<Arc<dyn BlockDevice>> {
    let words = command_line.split_ascii_whitespace();
    let mut places: Vec<Place> =
        words.filter_map(|word| parse(word.strip_prefix("virtio_mmio.device=")?)).collect();
    places.sort_by_key(|place| core::cmp::Reverse(place.at));
    places.iter().filter_map(|place| start(place, patience)).collect()
}

fn start(place: &Place, patience: Option<Patience>) -> Option<Arc<dyn BlockDevice>> {
    let window = Window::memory(PhysAddr(place.at), place.len).ok()?;
    let transport = Mmio::new(DeviceRegisters(window)).filter(|device| device.device_id() == DEVICE_BLOCK)?;
    let slot = Slot::new();
    let handler = Box::new(|| slot.with(|disk| disk.on_shared()));
    let is_routed =
        irq::allocate(handler).is_ok_and(|vector| ioapic::route(place.gsi, Trigger::Level, vector).is_ok());
    if !is_routed {
        log::warn!("no interrupt for the disk at {:#x}", place.at);
    }
    let options = Options { queues_max: rt::nr_cpus(), patience, ..Options::default() };
    start_disk(transport, options, slot)
}
