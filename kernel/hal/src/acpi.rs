//! The few ACPI tables this kernel needs, read as plain bytes: MADT (CPUs, interrupt controllers), MCFG (PCI
//! configuration space), FADT and the `\_S5` package of the DSDT (power-off).
//!
//! What it is not: an interpreter of AML. PCI devices use MSI-X and virtio-mmio devices are announced on the command
//! line, so nothing else of AML is needed.
//!
//! Tables come from the firmware: every read is checked, a table that is cut short or whose checksum is wrong is as
//! good as absent.
use crate::addr::PhysAddr;
use crate::power::PowerOff;
use alloc::vec::Vec;

#[cfg(test)]
mod tests;

/// One I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its window.
    pub address: u32,
    /// Number of its first input.
    pub first_gsi: u32,
}

/// An ISA interrupt that is wired differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsaOverride {
    /// ISA number.
    pub irq: u8,
    /// Where it arrives.
    pub gsi: u32,
    /// Level triggered instead of edge.
    pub is_level: bool,
    /// Active low instead of high.
    pub is_low: bool,
}

/// CPUs and interrupt controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Madt {
    /// Local APIC identifiers of usable CPUs, in table order.
    pub apic_ids: Vec<u32>,
    /// I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// Overrides of ISA wiring.
    pub overrides: Vec<IsaOverride>,
}

/// Memory-mapped configuration space of one PCI segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Physical address of bus 0.
    pub base: u64,
    /// First bus.
    pub bus_first: u8,
    /// Last bus.
    pub bus_last: u8,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// From the MADT.
    pub madt: Option<Madt>,
    /// From the MCFG: segment 0.
    pub ecam: Option<Ecam>,
    /// From FADT and DSDT.
    pub power_off: Option<PowerOff>,
}

/// Physical memory as the tables see it.
pub trait Memory {
    /// `len` bytes at `at`, or `None` where there is no such memory.
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]>;
}

/// The first 4 GiB through the direct map, where firmware puts its tables.
#[derive(Debug)]
pub struct DirectMap;

impl Memory for DirectMap {
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        const END: u64 = 1 << 32;
        let end = at.checked_add(len as u64)?;
        // SAFETY: the first 4 GiB are mapped from boot on; firmware tables are not written while we read.
        (at != 0 && end <= END).then(|| unsafe { core::slice::from_raw_parts(PhysAddr(at).to_virt(), len) })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn is_sum_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)) == 0
}

/// Looks for the root pointer in the BIOS area, where the loader did not tell.
pub fn find_root(memory: &impl Memory) -> Option<u64> {
    const AREA: core::ops::Range<u64> = 0xe_0000..0x10_0000;
    AREA.step_by(16).find(|&at| {
        memory.bytes(at, 20).is_some_and(|bytes| bytes.starts_with(b"RSD PTR ") && is_sum_zero(bytes))
    })
}

/// Reads all tables from the root pointer at `rsdp`.
pub fn read(memory: &impl Memory, rsdp: u64) -> Tables {
    let mut tables = Tables::default();
    for_each_table(memory, rsdp, |signature, table| match signature {
        b"APIC" => tables.madt = Some(parse_madt(table)),
        b"MCFG" => tables.ecam = parse_mcfg(table),
        b"FACP" => tables.power_off = parse_fadt(memory, table),
        _ => {}
    });
    tables
}

fn for_each_table(memory: &impl Memory, rsdp: u64, mut visit: impl FnMut(&[u8; 4], &[u8])) -> Option<()> {
    let root = memory.bytes(rsdp, 20)?;
    let has_xsdt = *root.get(15)? >= 2;
    let xsdt = if has_xsdt { u64_at(memory.bytes(rsdp, 36)?, 24)? } else { 0 };
    let (list, width) = if xsdt != 0 { (xsdt, 8) } else { (u64::from(u32_at(root, 16)?), 4) };
    let list = table_at(memory, list)?;
    for entry in list.get(36..)?.chunks_exact(width) {
        let at = if width == 8 { u64_at(entry, 0)? } else { u64::from(u32_at(entry, 0)?) };
        let Some(table) = table_at(memory, at) else { continue };
        visit(table.first_chunk()?, table);
    }
    Some(())
}

/// The whole table at `at`, its checksum verified.
fn table_at<M: Memory>(memory: &M, at: u64) -> Option<&[u8]> {
    /// QEMU's largest DSDT is a few hundred KiB.
    const LEN_MAX: usize = 4 << 20;
    let len = u32_at(memory.bytes(at, 36)?, 4)? as usize;
    let table = if (36..=LEN_MAX).contains(&len) { memory.bytes(at, len)? } else { return None };
    is_sum_zero(table).then_some(table)
}

fn parse_madt(table: &[u8]) -> Madt {
    let mut madt = Madt::default();
    let mut rest = table.get(44..).unwrap_or_default();
    while let [kind, len, ..] = *rest {
        let Some((entry, next)) = rest.split_at_checked(usize::from(len)).filter(|_| len >= 2) else { break };
        add_madt_entry(&mut madt, kind, entry);
        rest = next;
    }
    madt
}

fn add_madt_entry(madt: &mut Madt, kind: u8, entry: &[u8]) -> Option<()> {
    /// Enabled, or can be.
    const USABLE: u32 = 1;
    match kind {
        0 if u32_at(entry, 4)? & USABLE != 0 => madt.apic_ids.push(u32::from(*entry.get(3)?)),
        9 if u32_at(entry, 8)? & USABLE != 0 => madt.apic_ids.push(u32_at(entry, 4)?),
        1 => madt.io_apics.push(IoApic { address: u32_at(entry, 4)?, first_gsi: u32_at(entry, 8)? }),
        2 => {
            let flags = u16_at(entry, 8)?;
            madt.overrides.push(IsaOverride {
                irq: *entry.get(3)?,
                gsi: u32_at(entry, 4)?,
                is_level: flags >> 2 & 3 == 3,
                is_low: flags & 3 == 3,
            });
        }
        _ => {}
    }
    Some(())
}

fn parse_mcfg(table: &[u8]) -> Option<Ecam> {
    let entries = table.get(44..)?.chunks_exact(16);
    entries
        .filter(|e| u16_at(e, 8) == Some(0))
        .find_map(|e| Some(Ecam { base: u64_at(e, 0)?, bus_first: *e.get(10)?, bus_last: *e.get(11)? }))
}

fn parse_fadt(memory: &impl Memory, fadt: &[u8]) -> Option<PowerOff> {
    const FLAG_HW_REDUCED: u32 = 1 << 20;
    const SLEEP_ENABLE: u16 = 1 << 13;
    let wide = u64_at(fadt, 140).filter(|&at| at != 0);
    let dsdt = table_at(memory, wide.unwrap_or(u64::from(u32_at(fadt, 40)?)))?;
    let sleep_type = find_s5(dsdt)?;
    if u32_at(fadt, 112)? & FLAG_HW_REDUCED != 0 {
        // SLEEP_CONTROL_REG, a generic address: space 0 is memory.
        let register = fadt.get(244..256)?;
        let at = u64_at(register, 4)?;
        let is_memory = register.first() == Some(&0) && at != 0;
        return is_memory.then_some(PowerOff::SleepControl { at, value: sleep_type << 2 | 1 << 5 });
    }
    let port = u16::try_from(u32_at(fadt, 64)?).ok().filter(|&p| p != 0)?;
    Some(PowerOff::Pm1 { port, value: u16::from(sleep_type) << 10 | SLEEP_ENABLE })
}

/// First element of the package named `_S5_`, found by its bytes: name, package op, length, count, integer.
fn find_s5(dsdt: &[u8]) -> Option<u8> {
    const PACKAGE: u8 = 0x12;
    const BYTE_PREFIX: u8 = 0x0a;
    let at = dsdt.windows(5).position(|w| w == [b'_', b'S', b'5', b'_', PACKAGE])? + 5;
    // The length's first byte tells in its top bits how many more follow.
    let at = at + 1 + usize::from(*dsdt.get(at)? >> 6) + 1;
    match *dsdt.get(at)? {
        BYTE_PREFIX => dsdt.get(at + 1).copied(),
        small @ 0..=1 => Some(small),
        _ => None,
    }
}
