//! The assembler: takes the machine from the loader, brings the parts up in order, and hands over to the Linux ABI.
//!
//! What it is: wiring. The order below is the only place that knows what needs what.
//!
//! | module | holds |
//! |---|---|
//! | [`entry`] | the first instructions of every CPU |
//! | [`mem`] | memcpy and its kin |
//! | [`memory`] | turning the loader's memory map into frames and a heap |
//! | [`console`] | the log on the serial port |
//! | [`devices`] | block devices |
//! | [`panic`] | what a panic prints |
//! | [`options`] | the kernel's words on the command line |
//! | [`program`] | configuration and the hand-over to the Linux ABI |
//! | [`reclaim`] | shrinking caches when memory gets low |
//! | [`root`] | the root file system: a pool, or a module in memory |
//! | [`selftest`] | checks that only make sense inside the machine |
#![no_std]
#![no_main]

extern crate alloc;

mod console;
mod devices;
mod entry;
mod mem;
mod memory;
mod options;
mod panic;
mod program;
mod reclaim;
mod root;
mod selftest;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use core::sync::atomic::Ordering;
use hal::addr::{IMAGE_BASE, PhysAddr};
use hal::bootinfo::BootInfo;
use hal::cpu::CpuBlock;
use hal::paging::{PteFlags, kernel};
use hal::{acpi, apic, clock, cpu, fwcfg, ioapic, irq, power, serial, smp, syscall, trap};
use options::Options;
use root::Root;

#[global_allocator]
static HEAP: mm::heap::KernelHeap = mm::heap::KernelHeap;

rt::provider!(sched::KernelRt);

/// First Rust code, on the CPU that boots, interrupts off, on the boot stack.
extern "C" fn boot_cpu_main() -> ! {
    // SAFETY: called once, first thing; the tables are static.
    unsafe {
        cpu::init_boot_cpu();
        trap::init();
        cpu::load_tables(true);
        kernel::adopt(PhysAddr((entry::boot_root() - IMAGE_BASE) as u64));
    }
    serial::init();
    trap::set_fatal_hook(panic::fatal_trap);
    panic::load_symbols();
    let at = PhysAddr(entry::BOOT_INFO.load(Ordering::Relaxed) & 0xffff_ffff);
    // SAFETY: the loader left the address in a register, the entry code stored it.
    let info = match unsafe { BootInfo::read(at) } {
        Ok(info) => info,
        Err(e) => panic!("the loader left no start information: {e:?}"),
    };
    // SAFETY: called once, with the loader's own map.
    unsafe { memory::init(&info) };
    let info: &'static BootInfo = Box::leak(Box::new(info));
    let options = Options::parse(info.command_line());
    console::init(options.log_level);
    let tables = read_tables(info);
    init_interrupts(&tables);
    init_cpus(&tables);
    if hal::fpu::can_widen() {
        codec::simd::use_best_within(hal::fpu::with_wide_registers);
    }
    log::info!(
        "{} CPUs, {} MiB, up in {} us",
        cpu::nr_online(),
        mm::frames::nr_total() >> 8,
        clock::now_ns() / 1000
    );
    start_main_thread(Machine { info, ecam: tables.ecam }, options);
    sched::run_idle()
}

/// What the machine is, as far as the threads need to know.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    info: &'static BootInfo,
    ecam: Option<acpi::Ecam>,
}

impl Machine {
    /// Finds and starts the block devices. Once.
    pub fn block_devices(&self) -> Vec<Arc<dyn BlockDevice>> {
        devices::block_devices(self.ecam.as_ref(), self.info.command_line())
    }
}

fn read_tables(info: &BootInfo) -> acpi::Tables {
    let rsdp = if info.rsdp != 0 { Some(info.rsdp) } else { acpi::find_root(&acpi::DirectMap) };
    let mut tables = rsdp.map(|at| acpi::read(&acpi::DirectMap, at)).unwrap_or_default();
    if tables.madt.is_none() {
        // microvm without ACPI: CPUs are numbered from 0, the I/O APIC is where it always is.
        const IO_APIC: acpi::IoApic = acpi::IoApic { address: 0xfec0_0000, first_gsi: 0 };
        let nr_cpus = fwcfg::nr_cpus().unwrap_or(1);
        tables.madt = Some(acpi::Madt {
            apic_ids: (0..nr_cpus).collect(),
            io_apics: Vec::from([IO_APIC]),
            overrides: Vec::new(),
        });
    }
    if let Some(method) = tables.power_off {
        power::set_power_off(method);
    }
    tables
}

fn init_interrupts(tables: &acpi::Tables) {
    // SAFETY: once on this CPU, whose block is in place; the boot map covers the window.
    unsafe { apic::init_this_cpu() };
    syscall::init_this_cpu();
    clock::init(entry::BOOT_TSC.load(Ordering::Relaxed));
    if let Some(madt) = &tables.madt
        && let Err(e) = ioapic::init(madt)
    {
        panic!("cannot map the I/O APIC: {e:?}");
    }
    let is_routed = irq::allocate(Box::new(serial::handle_interrupt))
        .is_ok_and(|vector| ioapic::route_isa(serial::ISA_IRQ, vector).is_ok());
    if !is_routed {
        log::warn!("no interrupt for the console: input does not work");
    }
}

fn init_cpus(tables: &acpi::Tables) {
    sched::start();
    sched::init_this_cpu();
    let apic_ids = tables.madt.as_ref().map(|madt| madt.apic_ids.as_slice()).unwrap_or_default();
    let handover = smp::Handover { stack: &entry::OTHER_CPU_STACK, block: &entry::OTHER_CPU_BLOCK };
    // SAFETY: once; the trampoline ends in other_cpu_main.
    unsafe { smp::start_others(apic_ids, entry::trampoline(), &handover) };
    protect_kernel();
}

/// Read-only code and constants, nothing executable outside the code, nothing mapped in the lower half.
fn protect_kernel() {
    let image = entry::image();
    let protected = [
        (image.start, image.text_end, PteFlags::empty()),
        (image.text_end, image.rodata_end, PteFlags::NO_EXEC),
        (image.rodata_end, image.end, PteFlags::NO_EXEC | PteFlags::WRITABLE),
    ];
    for (start, end, flags) in protected {
        if let Err(e) = kernel::protect_image(start, end, flags) {
            panic!("cannot protect the kernel image: {e:?}");
        }
    }
    kernel::forbid_direct_execution(PhysAddr(1 << 32));
    // SAFETY: every CPU that starts has started and runs in the upper half.
    if let Err(e) = unsafe { kernel::seal() } {
        panic!("cannot complete the kernel's page table: {e:?}");
    }
}

/// First Rust code of the other CPUs.
extern "C" fn other_cpu_main(block: &'static CpuBlock) -> ! {
    // SAFETY: once per CPU; the block is this CPU's.
    unsafe {
        cpu::init_this_cpu(block);
        cpu::load_tables(false);
        apic::init_this_cpu();
    }
    syscall::init_this_cpu();
    mm::heap::init_this_cpu();
    sched::init_this_cpu();
    sched::run_idle()
}

fn start_main_thread(machine: Machine, options: Options) {
    let started = sched::start_threads()
        .and_then(|()| sched::Builder::new("main").spawn(Box::new(move || main_thread(&machine, &options))));
    if let Err(e) = started {
        panic!("cannot start the first threads: {e:?}");
    }
}

fn main_thread(machine: &Machine, options: &Options) {
    if let Some(name) = &options.self_test {
        power::exit(selftest::run(name, machine));
    }
    power::exit(run_program(machine, options))
}

/// Status when there is nothing to run.
const STATUS_NOT_FOUND: u8 = 127;
/// Status when the program ended but its data is not safely on disk.
const STATUS_NOT_SAVED: u8 = 125;

/// Mounts the root, runs the program to its end, closes the root; the status to exit with.
fn run_program(machine: &Machine, options: &Options) -> u8 {
    let root = match machine.info.modules().first().map(module_bytes) {
        Some(module) => Root::from_module(module),
        None => Root::from_disks(&machine.block_devices()),
    };
    let root = match root {
        Ok(root) => root,
        Err(why) => {
            log::error!("{why}");
            return STATUS_NOT_FOUND;
        }
    };
    let line = machine.info.command_line();
    let status = match program::run(&root.namespace, root.config.clone(), line, options.is_traced) {
        Ok(status) => status,
        Err(why) => {
            log::error!("{why}");
            STATUS_NOT_FOUND
        }
    };
    if root.close() { status } else { STATUS_NOT_SAVED }
}

/// A boot module's bytes; its memory is never handed out.
fn module_bytes(range: &core::ops::Range<u64>) -> &'static [u8] {
    let len = (range.end - range.start) as usize;
    // SAFETY: memory::init keeps modules out of the free frames and maps all RAM.
    unsafe { core::slice::from_raw_parts(PhysAddr(range.start).to_virt(), len) }
}
