//! The architecture crate: everything that knows it runs on x86_64 in ring 0.
//!
//! What it is: the mechanisms, one module each. What it is not: policy. Which thread runs next is `sched`'s, which
//! page lies where is `mm`'s, what a system call does is `linux`'s; they register with hooks here.
//!
//! | module | holds |
//! |---|---|
//! | [`addr`] | physical addresses and the direct map |
//! | [`io`] | port I/O, model-specific registers, interrupt flag |
//! | [`cpu`] | the per-CPU block behind GS, pre-emption count, descriptor tables |
//! | [`trap`] | exception and interrupt entry, [`trap::TrapFrame`], hooks |
//! | [`syscall`] | SYSCALL entry and the two-stage exit |
//! | [`fpu`] | XSAVE areas, signal-frame images |
//! | [`paging`], [`tlb`] | page tables, shootdown |
//! | [`uaccess`] | memory access that survives a bad address |
//! | [`context`] | stack switch between threads |
//! | [`irq`], [`apic`], [`ioapic`] | vectors and interrupt controllers |
//! | [`clock`], [`rtc`] | monotonic and wall clock |
//! | [`acpi`], [`bootinfo`], [`fwcfg`] | what the machine is |
//! | [`pci`], [`window`] | configuration space, BARs, MSI-X; register windows |
//! | [`smp`] | starting the other CPUs |
//! | [`serial`], [`power`], [`random`], [`backtrace`] | console, exit, entropy, stack traces |
//!
//! Memory layout: the lower half belongs to the application (it runs in ring 0 too, so no page has the user bit);
//! [`addr::DIRECT_MAP`] maps all physical memory; [`addr::STACK_AREA`] holds kernel stacks with guard pages; the
//! image lies in the top 2 GiB. Invariant: a kernel stack is always mapped and always in the upper half, because
//! interrupt entry decides by the sign of RSP whether it must change stacks.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod acpi;
pub mod addr;
pub mod apic;
pub mod backtrace;
pub mod bootinfo;
pub mod clock;
pub mod context;
pub mod cpu;
pub mod fpu;
pub mod fwcfg;
mod hook;
pub mod io;
pub mod ioapic;
pub mod irq;
mod lock;
pub mod paging;
pub mod pci;
pub mod power;
pub mod random;
pub mod rtc;
pub mod serial;
pub mod smp;
pub mod syscall;
pub mod tlb;
pub mod trap;
pub mod uaccess;
pub mod window;
