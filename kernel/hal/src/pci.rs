//! PCI: configuration space by memory window (ECAM) or by ports, the functions present, their BARs, MSI-X.
//!
//! Firmware has assigned the BARs (SeaBIOS runs also for `-kernel`); a function whose BAR has no address is not
//! usable and skipped by its driver. What a device says is checked: offsets and lengths stay inside the BAR.
use crate::acpi::Ecam;
use crate::addr::PhysAddr;
use crate::cpu;
use crate::io;
use crate::lock::Lock;
use crate::paging::OutOfMemory;
use crate::window::Window;
use alloc::vec::Vec;

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const REG_COMMAND: u8 = 0x04;
const REG_CLASS: u8 = 0x08;
const REG_HEADER: u8 = 0x0c;
const REG_BAR: u8 = 0x10;
const REG_BUSES: u8 = 0x18;
const REG_SUBSYSTEM: u8 = 0x2c;
const REG_CAPABILITIES: u8 = 0x34;
const REG_INTERRUPT: u8 = 0x3c;
const COMMAND_IO: u32 = 1;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_MASTER: u32 = 1 << 2;
const COMMAND_NO_INTX: u32 = 1 << 10;
const STATUS_CAPABILITIES: u32 = 1 << 20;
const CAPABILITY_MSIX: u8 = 0x11;
const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_FUNCTION_MASK: u32 = 1 << 30;
/// 192 bytes of capabilities of at least 4: more steps than that is a loop.
const CAPABILITIES_MAX: usize = 48;
/// Bytes of configuration space per bus in the memory window.
const ECAM_BUS_SIZE: usize = 1 << 20;

enum Access {
    Ports,
    Memory { window: Window, bus_first: u8 },
}

static ACCESS: Lock<Access> = Lock::new(Access::Ports);

/// Uses the memory window from now on.
///
/// # Errors
/// No memory to map it; ports are used then.
pub fn use_ecam(ecam: &Ecam) -> Result<(), OutOfMemory> {
    let nr_buses = usize::from(ecam.bus_last.saturating_sub(ecam.bus_first)) + 1;
    let start = PhysAddr(ecam.base + (u64::from(ecam.bus_first) * ECAM_BUS_SIZE as u64));
    let window = Window::memory(start, nr_buses * ECAM_BUS_SIZE)?;
    ACCESS.with(|access| *access = Access::Memory { window, bus_first: ecam.bus_first });
    Ok(())
}

/// A function's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    bus: u8,
    /// Device in bits 3..8, function in bits 0..3.
    devfn: u8,
}

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Class, subclass, interface in the upper three bytes, revision in the lowest.
    pub class: u32,
    /// Subsystem device.
    pub subsystem: u16,
}

/// Entries of a function's MSI-X table.
#[derive(Clone, Copy, Debug)]
pub struct Msix {
    function: Function,
    capability: u8,
    table: Window,
    nr_entries: u16,
}

impl Function {
    /// Reads an aligned double word of configuration space.
    pub fn read(self, offset: u8) -> u32 {
        ACCESS.with(|access| match access {
            Access::Memory { window, bus_first } => window.read32(self.ecam_offset(*bus_first, offset)),
            // SAFETY: the two ports are the configuration mechanism's; the lock keeps the pair together.
            Access::Ports => unsafe {
                io::outl(ADDRESS_PORT, self.port_address(offset));
                io::inl(DATA_PORT)
            },
        })
    }

    /// Writes an aligned double word of configuration space.
    pub fn write(self, offset: u8, value: u32) {
        ACCESS.with(|access| match access {
            Access::Memory { window, bus_first } => {
                window.write32(self.ecam_offset(*bus_first, offset), value);
            }
            // SAFETY: as in read.
            Access::Ports => unsafe {
                io::outl(ADDRESS_PORT, self.port_address(offset));
                io::outl(DATA_PORT, value);
            },
        });
    }

    fn ecam_offset(self, bus_first: u8, offset: u8) -> usize {
        let Some(bus) = self.bus.checked_sub(bus_first) else { return usize::MAX };
        usize::from(bus) * ECAM_BUS_SIZE + (usize::from(self.devfn) << 12) + usize::from(offset & !3)
    }

    fn port_address(self, offset: u8) -> u32 {
        1 << 31 | u32::from(self.bus) << 16 | u32::from(self.devfn) << 8 | u32::from(offset & !3)
    }

    /// What it is; `None` if there is none.
    pub fn identity(self) -> Option<Identity> {
        let id = self.read(0);
        if id as u16 == u16::MAX || id == 0 {
            return None;
        }
        Some(Identity {
            vendor: id as u16,
            device: (id >> 16) as u16,
            class: self.read(REG_CLASS),
            subsystem: (self.read(REG_SUBSYSTEM) >> 16) as u16,
        })
    }

    /// Lets it answer to its BARs and access memory, without wired interrupts.
    pub fn enable(self) {
        let command = self.read(REG_COMMAND) & 0xffff;
        self.write(REG_COMMAND, command | COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_INTX);
    }

    /// The line of the old interrupt controller that firmware chose for it.
    pub fn interrupt_line(self) -> Option<u8> {
        let line = self.read(REG_INTERRUPT) as u8;
        (1..16).contains(&line).then_some(line)
    }

    /// Lets it use its wired interrupt.
    pub fn enable_wired_interrupt(self) {
        let command = self.read(REG_COMMAND) & 0xffff;
        self.write(REG_COMMAND, command & !COMMAND_NO_INTX);
    }

    /// The registers behind BAR `n`, sized by asking the function. `None`: no such BAR, or no address.
    pub fn bar(self, n: u8) -> Option<Window> {
        let at = REG_BAR + 4 * n;
        let low = if n < 6 { self.read(at) } else { return None };
        if low & 1 != 0 {
            let size = !(self.measure(at, low) & 0xffff_fffc) as u16;
            let first = (low & 0xfffc) as u16;
            return (first != 0).then(|| Window::ports(first, size.saturating_add(1)));
        }
        let is_wide = low >> 1 & 3 == 2;
        let high = if is_wide && n < 5 { self.read(at + 4) } else { 0 };
        let base = u64::from(low & !15) | u64::from(high) << 32;
        let mask_low = u64::from(self.measure(at, low) & !15);
        let mask_high = if is_wide { u64::from(self.measure(at + 4, high)) } else { u64::from(u32::MAX) };
        let size = (!(mask_low | mask_high << 32)).wrapping_add(1);
        /// No device here has more registers than this.
        const SIZE_MAX: u64 = 1 << 30;
        if base == 0 || size == 0 || size > SIZE_MAX {
            return None;
        }
        Window::memory(PhysAddr(base), size as usize).ok()
    }

    /// Writes ones to a BAR, reads back which stuck, restores it. The function does not decode meanwhile.
    fn measure(self, at: u8, value: u32) -> u32 {
        let command = self.read(REG_COMMAND) & 0xffff;
        self.write(REG_COMMAND, command & !(COMMAND_IO | COMMAND_MEMORY));
        self.write(at, u32::MAX);
        let mask = self.read(at);
        self.write(at, value);
        self.write(REG_COMMAND, command);
        mask
    }

    /// Offset of the capability with this identifier.
    fn capability(self, id: u8) -> Option<u8> {
        if self.read(REG_COMMAND) & STATUS_CAPABILITIES == 0 {
            return None;
        }
        let mut at = (self.read(REG_CAPABILITIES) & 0xfc) as u8;
        for _ in 0..CAPABILITIES_MAX {
            if at < 0x40 {
                return None;
            }
            let head = self.read(at);
            if head as u8 == id {
                return Some(at);
            }
            at = (head >> 8) as u8 & 0xfc;
        }
        None
    }

    /// Its MSI-X table, with every entry masked.
    pub fn msix(self) -> Option<Msix> {
        let capability = self.capability(CAPABILITY_MSIX).filter(|&at| at <= 0xf4)?;
        let nr_entries = (self.read(capability) >> 16 & 0x7ff) as u16 + 1;
        let place = self.read(capability + 4);
        let bar = self.bar((place & 7) as u8)?;
        let table = bar.part((place & !7) as usize, usize::from(nr_entries) * 16)?;
        let msix = Msix { function: self, capability, table, nr_entries };
        for entry in 0..usize::from(nr_entries) {
            msix.table.write32(16 * entry + 12, 1);
        }
        Some(msix)
    }
}

impl Msix {
    /// Number of entries.
    pub fn nr_entries(&self) -> u16 {
        self.nr_entries
    }

    /// Sends entry `entry` as `vector` to CPU `cpu`.
    pub fn set(&self, entry: u16, vector: u8, cpu: usize) {
        let at = 16 * usize::from(entry);
        let apic_id = cpu::block_of(cpu).map_or(0, cpu::CpuBlock::apic_id);
        self.table.write32(at, 0xfee0_0000 | apic_id << 12);
        self.table.write32(at + 4, 0);
        self.table.write32(at + 8, u32::from(vector));
        self.table.write32(at + 12, 0);
    }

    /// Turns MSI-X on.
    pub fn enable(&self) {
        let control = self.function.read(self.capability);
        self.function.write(self.capability, (control | MSIX_ENABLE) & !MSIX_FUNCTION_MASK);
    }
}

/// All functions present, bridges followed, in order of their place.
pub fn functions() -> Vec<Function> {
    let mut found = Vec::new();
    let mut buses = Vec::from([0_u8]);
    // Bus numbers only grow from a bridge to what lies behind it, so this ends.
    while let Some(bus) = buses.pop() {
        for device in 0..32_u8 {
            scan_device(bus, device, &mut found, &mut buses);
        }
    }
    found.sort();
    found
}

fn scan_device(bus: u8, device: u8, found: &mut Vec<Function>, buses: &mut Vec<u8>) {
    const MULTIFUNCTION: u32 = 1 << 23;
    const BRIDGE: u32 = 1;
    let first = Function { bus, devfn: device << 3 };
    if first.identity().is_none() {
        return;
    }
    let nr_functions = if first.read(REG_HEADER) & MULTIFUNCTION != 0 { 8 } else { 1 };
    for n in 0..nr_functions {
        let function = Function { bus, devfn: device << 3 | n };
        if function.identity().is_none() {
            continue;
        }
        found.push(function);
        let behind = (function.read(REG_BUSES) >> 8) as u8;
        if function.read(REG_HEADER) >> 16 & 0x7f == BRIDGE && behind > bus {
            buses.push(behind);
        }
    }
}
