//! The I/O APICs: routing of ISA and other wired interrupts.
use crate::acpi::{IoApic, IsaOverride, Madt};
use crate::addr::PhysAddr;
use crate::lock::Lock;
use crate::paging::{OutOfMemory, kernel};
use crate::{cpu, io};
use alloc::vec::Vec;

const REG_VERSION: u32 = 1;
const REG_REDIRECTION: u32 = 0x10;
const LEVEL_TRIGGERED: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
const MASKED: u32 = 1 << 16;

/// No I/O APIC serves this interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchInterrupt;

struct Chip {
    window: usize,
    first_gsi: u32,
    nr_inputs: u32,
}

struct Routing {
    chips: Vec<Chip>,
    overrides: Vec<IsaOverride>,
}

static ROUTING: Lock<Routing> = Lock::new(Routing { chips: Vec::new(), overrides: Vec::new() });

/// How a line signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Rising edge: ISA's default.
    Edge,
    /// Level, active high: virtio-mmio of microvm.
    Level,
    /// Level, active low: PCI's INTx.
    LevelLow,
}

impl Chip {
    fn read(&self, register: u32) -> u32 {
        // SAFETY: the window is mapped device memory; callers hold the routing lock.
        unsafe {
            (self.window as *mut u32).write_volatile(register);
            ((self.window + 0x10) as *const u32).read_volatile()
        }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: as in read.
        unsafe {
            (self.window as *mut u32).write_volatile(register);
            ((self.window + 0x10) as *mut u32).write_volatile(value);
        }
    }
}

/// Takes over the I/O APICs with every input masked, and silences the old interrupt controllers.
///
/// # Errors
/// No memory for the mapping.
pub fn init(madt: &Madt) -> Result<(), OutOfMemory> {
    // SAFETY: masks every input of the two 8259s.
    unsafe {
        io::outb(0x21, 0xff);
        io::outb(0xa1, 0xff);
    }
    let mut chips = Vec::new();
    for &IoApic { address, first_gsi } in &madt.io_apics {
        let window = kernel::map_device(PhysAddr(u64::from(address)), 4096)? as usize;
        let mut chip = Chip { window, first_gsi, nr_inputs: 0 };
        chip.nr_inputs = (chip.read(REG_VERSION) >> 16 & 0xff) + 1;
        for input in 0..chip.nr_inputs {
            chip.write(REG_REDIRECTION + 2 * input, MASKED);
        }
        chips.push(chip);
    }
    ROUTING.with(|routing| {
        routing.chips = chips;
        routing.overrides.clone_from(&madt.overrides);
    });
    Ok(())
}

/// Routes global interrupt `gsi` to `vector` on the first CPU.
///
/// # Errors
/// [`NoSuchInterrupt`].
pub fn route(gsi: u32, trigger: Trigger, vector: u8) -> Result<(), NoSuchInterrupt> {
    let flags = match trigger {
        Trigger::Edge => 0,
        Trigger::Level => LEVEL_TRIGGERED,
        Trigger::LevelLow => LEVEL_TRIGGERED | ACTIVE_LOW,
    };
    let destination = cpu::block_of(0).map_or(0, cpu::CpuBlock::apic_id);
    ROUTING.with(|routing| {
        let serves = |c: &&Chip| (c.first_gsi..c.first_gsi + c.nr_inputs).contains(&gsi);
        let chip = routing.chips.iter().find(serves).ok_or(NoSuchInterrupt)?;
        let register = REG_REDIRECTION + 2 * (gsi - chip.first_gsi);
        chip.write(register + 1, destination << 24);
        chip.write(register, u32::from(vector) | flags);
        Ok(())
    })
}

/// Routes an ISA interrupt, following the firmware's overrides.
///
/// # Errors
/// [`NoSuchInterrupt`].
pub fn route_isa(irq: u8, vector: u8) -> Result<(), NoSuchInterrupt> {
    let found = ROUTING.with(|routing| routing.overrides.iter().find(|o| o.irq == irq).copied());
    match found {
        Some(o) if o.is_level => {
            let trigger = if o.is_low { Trigger::LevelLow } else { Trigger::Level };
            route(o.gsi, trigger, vector)
        }
        Some(o) => route(o.gsi, Trigger::Edge, vector),
        None => route(u32::from(irq), Trigger::Edge, vector),
    }
}
