//! virtio-blk functions on PCI: windows, MSI-X, one vector per queue.
use super::interrupts::Slot;
use super::registers::DeviceRegisters;
use super::start_disk;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use hal::acpi::Ecam;
use hal::pci::{self, Function, Identity, Msix};
use hal::{ioapic, irq};
use virtio_blk::transport::legacy::LegacyPci;
use virtio_blk::transport::pci::{
    BarWindow, DEVICE_BLOCK_MODERN, DEVICE_BLOCK_TRANSITIONAL, ModernPci, PciConfig, VENDOR,
    find_capabilities,
};
use virtio_blk::{Options, Patience};

const DEVICE_BLOCK: u32 = 2;

struct Config(Function);

impl PciConfig for Config {
    fn read32(&self, offset: u8) -> u32 {
        self.0.read(offset)
    }
}

/// The virtio block devices on the bus.
pub fn block_devices(ecam: Option<&Ecam>, patience: Option<Patience>) -> Vec<Arc<dyn BlockDevice>> {
    if let Some(ecam) = ecam
        && let Err(e) = pci::use_ecam(ecam)
    {
        log::warn!("PCI configuration space stays behind ports: {e:?}");
    }
    let start_one = |function: Function| {
        let identity = function.identity()?;
        let is_block = [DEVICE_BLOCK_TRANSITIONAL, DEVICE_BLOCK_MODERN].contains(&identity.device);
        if identity.vendor == VENDOR && is_block { start(function, &identity, patience) } else { None }
    };
    pci::functions().into_iter().filter_map(start_one).collect()
}

fn start(
    function: Function,
    identity: &Identity,
    patience: Option<Patience>,
) -> Option<Arc<dyn BlockDevice>> {
    function.enable();
    let slot = Slot::new();
    let msix = function.msix();
    let mut options = match &msix {
        Some(msix) => vectors(msix, slot)?,
        None => {
            route_wired(function, slot);
            Options::default()
        }
    };
    options.patience = patience;
    if let Some(capabilities) = find_capabilities(&Config(function)) {
        let window = |w: &BarWindow| {
            let bar = function.bar(w.bar)?;
            Some(DeviceRegisters(bar.part(w.offset as usize, w.len as usize)?))
        };
        let common = window(&capabilities.common)?;
        let notify = window(&capabilities.notify)?;
        let (isr, device) = (window(&capabilities.isr)?, window(&capabilities.device)?);
        let multiplier = capabilities.notify_multiplier;
        let transport = ModernPci::new(identity.device, common, notify, multiplier, isr, device);
        return start_disk(transport, options, slot);
    }
    let registers = DeviceRegisters(function.bar(0)?);
    start_disk(LegacyPci::new(DEVICE_BLOCK, registers, msix.is_some()), options, slot)
}

/// Without MSI-X: the line that firmware chose for the old interrupt controller reaches the new one too. A line that
/// several functions share serves the last of them; the driver of the others looks from time to time.
fn route_wired(function: Function, slot: &'static Slot) {
    let is_routed = function.interrupt_line().is_some_and(|line| {
        let handler = Box::new(|| slot.with(|disk| disk.on_shared()));
        irq::allocate(handler).is_ok_and(|vector| ioapic::route_isa(line, vector).is_ok())
    });
    if is_routed {
        function.enable_wired_interrupt();
    } else {
        log::warn!("no interrupt for a disk without MSI-X");
    }
}

/// Entry 0 for configuration changes, entry 1 + q for queue q, which interrupts CPU q.
fn vectors(msix: &Msix, slot: &'static Slot) -> Option<Options> {
    let on_config = irq::allocate(Box::new(|| slot.with(|disk| disk.on_config()))).ok()?;
    msix.set(0, on_config, 0);
    let nr_queues = usize::from(msix.nr_entries()).saturating_sub(1).min(rt::nr_cpus());
    let mut queue_vectors = Vec::new();
    for queue in 0..nr_queues {
        let Ok(vector) = irq::allocate(Box::new(move || slot.with(|disk| disk.on_queue(queue)))) else {
            break;
        };
        let entry = queue as u16 + 1;
        msix.set(entry, vector, queue);
        queue_vectors.push(Some(entry));
    }
    msix.enable();
    Some(Options { queues_max: nr_queues.max(1), queue_vectors, config_vector: Some(0), patience: None })
}
