//! Checks that only make sense inside the machine, chosen by `selftest=` on the command line. The result is the exit
//! status: 0 passed, 1 failed, 2 unknown name.
mod disk;
mod fsync;
mod fsync_instructions;
mod mem;
mod stress;
mod user;

use crate::Machine;

/// Runs the check.
pub fn run(name: &str, machine: &Machine) -> u8 {
    let (name, argument) = name.split_once(':').unwrap_or((name, ""));
    match name {
        "none" => 0,
        "exit" => argument.parse().unwrap_or(2),
        "panic" => panic!("asked to"),
        "overflow" => overflow(core::hint::black_box(0)),
        "fault" => fault(),
        "user" => u8::from(!user::run()),
        "mem" => u8::from(!mem::run()),
        "disk" => u8::from(!disk::run(&machine.block_devices())),
        "fsync" if argument == "instructions" => u8::from(!fsync_instructions::run(&machine.block_devices())),
        "fsync" => u8::from(!fsync::run(&machine.block_devices())),
        "stress" => u8::from(!stress::run()),
        _ => 2,
    }
}

/// Uses up the kernel stack.
#[inline(never)]
fn overflow(depth: u64) -> u8 {
    let block = core::hint::black_box([depth; 64]);
    let below = if depth == u64::MAX { 0 } else { overflow(depth + 1) };
    below ^ block[below as usize & 63] as u8
}

/// Reads an address where nothing is mapped.
fn fault() -> u8 {
    let nowhere = core::hint::black_box(0x1000 as *const u8);
    // SAFETY: none; the fault this causes is what is tested.
    unsafe { nowhere.read_volatile() }
}
