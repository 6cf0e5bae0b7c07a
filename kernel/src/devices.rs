//! Finding block devices and connecting them to memory and interrupts.
//!
//! PCI functions are found by enumeration; virtio-mmio devices are named on the command line
//! (`virtio_mmio.device=SIZE@ADDRESS:IRQ`, as QEMU's microvm and Firecracker append it).
mod dma;
mod interrupts;
mod mmio;
mod patience;
mod pci;
mod registers;

use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use dma::DirectMapDma;
use hal::acpi::Ecam;
use interrupts::Slot;
use virtio_blk::transport::Transport;
use virtio_blk::{Disk, Options};

/// All block devices, in the order of their place on the bus, then of the command line.
pub fn block_devices(ecam: Option<&Ecam>, command_line: &str) -> Vec<Arc<dyn BlockDevice>> {
    let patience = patience::from_command_line(command_line);
    let mut found = pci::block_devices(ecam, patience);
    found.extend(mmio::block_devices(command_line, patience));
    found
}

/// Brings a disk up and starts the threads that complete its requests. `slot` is what its interrupts call.
fn start_disk<T: Transport>(
    transport: T,
    options: Options,
    slot: &'static Slot,
) -> Option<Arc<dyn BlockDevice>> {
    let disk = match Disk::new(transport, Arc::new(DirectMapDma), options) {
        Ok(disk) => disk,
        Err(e) => {
            log::error!("a disk does not start: {e}");
            return None;
        }
    };
    slot.connect(disk.clone());
    for queue in 0..disk.nr_queues() {
        let disk = disk.clone();
        // Runs until the disk is closed; nobody waits for it.
        drop(rt::spawn("disk", move || disk.completion_loop(queue)));
    }
    log::info!("disk: {} queues, {:?}", disk.nr_queues(), disk.geometry());
    Some(disk)
}
