//! Time from the start of QEMU to the program's main, the kernel's size, the smallest memory.
use super::{Setup, median};
use crate::qemu::{Accel, End, Machine, Vm};
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Result, bail};
use serde::Serialize;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The first thing `hello` prints.
const GREETING: &[u8] = b"hello from";
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

#[derive(Serialize)]
struct BootFigures {
    machine: &'static str,
    seconds_to_main: f64,
    all_seconds: Vec<f64>,
    kernel_bytes: u64,
    target_seconds: f64,
    target_kernel_bytes: u64,
}

/// Boots `hello` several times.
///
/// # Errors
/// When it does not say hello.
pub fn boot(setup: &Setup, runs: usize, mode: Mode) -> Result<()> {
    let mut all_seconds = Vec::new();
    for _ in 0..runs.max(1) {
        let vm = Vm { machine: Machine::Q35, ..setup.vm(Accel::Tcg, 256 * MIB) };
        all_seconds.push(time_to_greeting(&vm)?);
    }
    let figures = BootFigures {
        machine: "q35, 1 vCPU, emulated",
        seconds_to_main: median(all_seconds.clone()),
        all_seconds,
        kernel_bytes: std::fs::metadata(&setup.kernel)?.len(),
        target_seconds: 0.9,
        target_kernel_bytes: 4 * MIB,
    };
    if mode == Mode::Json {
        return print_json(&figures);
    }
    say!("time to main: {:.2} s (target {:.1} s), {}", figures.seconds_to_main, 0.9, figures.machine);
    say!("kernel: {:.2} MB (target 4 MB)", figures.kernel_bytes as f64 / 1e6);
    Ok(())
}

/// From the start of QEMU until the greeting has arrived.
fn time_to_greeting(vm: &Vm) -> Result<f64> {
    let started = Instant::now();
    let mut child = vm.start(Stdio::piped())?;
    let Some(mut console) = child.stdout.take() else { bail!("no console") };
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = console.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..n]);
            if seen.windows(GREETING.len()).any(|w| w == GREETING) {
                let _ = sender.send(started.elapsed());
                break;
            }
        }
        // QEMU must not block on a full pipe.
        while let Ok(1..) = console.read(&mut buffer) {}
    });
    let took = receiver.recv_timeout(PATIENCE);
    vm.wait(&mut child, Some(PATIENCE))?;
    match took {
        Ok(took) => Ok(took.as_secs_f64()),
        Err(_) => bail!("hello did not say hello"),
    }
}

/// Finds the smallest memory in which `hello` still ends well.
///
/// # Errors
/// When it does not run at all.
pub fn memory(setup: &Setup, mode: Mode) -> Result<()> {
    let runs_in = |mib: u64| -> Result<bool> {
        let vm = setup.vm(Accel::Tcg, mib * MIB);
        let mut child = vm.start(Stdio::null())?;
        Ok(vm.wait(&mut child, Some(PATIENCE))? == End::Status(0))
    };
    let (mut low, mut high) = (4, 256);
    if !runs_in(high)? {
        bail!("hello does not run in {high} MiB");
    }
    while high - low > 1 {
        let middle = (low + high) / 2;
        if runs_in(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    if mode == Mode::Json {
        return print_json(&serde_json::json!({ "smallest_memory_mib": high, "target_mib": 48 }));
    }
    say!("smallest memory: {high} MiB (target 48 MiB)");
    Ok(())
}
