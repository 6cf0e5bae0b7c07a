//! What an fsync costs in the guest: the kernel's own check `fsync` makes a pool on one disk and measures, in turns with
//! another disk of the same kind. The disks are sparse files; what their flushes cost is the host's. A second run, with one
//! CPU whose clock counts instructions, tells what of it is the guest's own work: the check `fsync:instructions`.
use super::fsync::{All, Figures};
use crate::place;
use crate::qemu::{Accel, Boot, Disk, End, Machine, Vm};
use crate::report::Mode;
use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const DISK_SIZE: u64 = 1 << 30;
const MEMORY: u64 = 512 << 20;
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs it.
///
/// # Errors
/// When the guest does not end well.
pub fn run(kernel: Option<&Path>, cpus: u32, mode: Mode) -> Result<()> {
    let folder = place::run_folder("bench").join("fsync");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let disks = ["pool.img", "other.img"].map(|name| folder.join(name));
    for path in &disks {
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        file.set_len(DISK_SIZE)?;
    }
    let vm = Vm {
        accel: Accel::Tcg,
        machine: Machine::Q35,
        memory: MEMORY,
        cpus,
        disks: disks.iter().map(|path| Disk { path: path.clone(), format: String::from("raw") }).collect(),
        boot: Boot::Kernel(place::prepared_kernel(kernel, &folder)?),
        cmdline: String::from("selftest=fsync loglevel=info"),
        status_file: folder.join("status"),
        has_input: false,
        extra: Vec::new(),
    };
    let timed = output_of(&vm)?;
    let cmdline = String::from("selftest=fsync:instructions loglevel=info");
    let counted = output_of(&Vm { accel: Accel::InstructionCount, cpus: 1, cmdline, ..vm })?;
    for path in &disks {
        std::fs::remove_file(path).with_context(|| path.display().to_string())?;
    }
    let of = |name| figures(&timed, name).with_context(|| format!("no figures of {name} in:\n{timed}"));
    let mut all =
        All { append_4k: of("append_4k")?, create_10k: of("create_10k")?, threads_16: of("threads_16")? };
    for (name, figures) in [("append_4k", &mut all.append_4k), ("create_10k", &mut all.create_10k)] {
        let count = instructions(&counted, name);
        figures.guest_instructions =
            Some(count.with_context(|| format!("no instructions of {name} in:\n{counted}"))?);
    }
    all.print(mode)
}

/// What a machine prints until it ends well.
fn output_of(vm: &Vm) -> Result<String> {
    let mut child = vm.start(Stdio::piped())?;
    let Some(mut console) = child.stdout.take() else { bail!("no console") };
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What came until an error is what there is.
        let _ = console.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let end = vm.wait(&mut child, Some(PATIENCE))?;
    let output = reader.join().unwrap_or_default();
    if end != End::Status(0) {
        bail!("the guest did not end well ({end:?}); its output:\n{output}");
    }
    Ok(output)
}

/// The numbers of the line that begins so.
fn numbers(output: &str, wanted: &str) -> Option<Vec<f64>> {
    let line = output.lines().find_map(|line| line.split_once(wanted).map(|(_, rest)| rest))?;
    line.split_whitespace().map(|word| word.parse().ok()).collect()
}

/// The line `fsync NAME OPERATIONS WRITES FLUSHES NANOSECONDS DEVICE_NANOSECONDS FUA_NANOSECONDS` of a load.
fn figures(output: &str, name: &str) -> Option<Figures> {
    let numbers = numbers(output, &format!("fsync {name} "))?;
    let &[nr, writes, flushes, latency, device, fua] = &numbers[..] else { return None };
    Some(Figures {
        writes_per_fsync: writes / nr,
        flushes_per_fsync: flushes / nr,
        latency_us: latency / 1e3,
        device_latency_us: device / 1e3,
        device_fua_latency_us: (fua > 0.0).then_some(fua / 1e3),
        guest_instructions: None,
    })
}

/// The line `fsync-instructions NAME OPERATIONS INSTRUCTIONS` of a load.
fn instructions(output: &str, name: &str) -> Option<f64> {
    let numbers = numbers(output, &format!("fsync-instructions {name} "))?;
    let &[_, instructions] = &numbers[..] else { return None };
    Some(instructions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_console() {
        let output = "[1.0] zfs: x\r\n[    2.000001] kernel: fsync append_4k 500 500 250 150000 120000 0\r\n\
            [    3.000001] kernel: fsync-instructions append_4k 500 43210\r\n";
        let found = figures(output, "append_4k").expect("is there");
        assert_eq!((found.writes_per_fsync, found.flushes_per_fsync), (1.0, 0.5));
        assert_eq!((found.latency_us, found.device_latency_us), (150.0, 120.0));
        assert_eq!(found.device_fua_latency_us, None);
        assert_eq!(instructions(output, "append_4k"), Some(43210.0));
        assert!(figures(output, "append").is_none() && instructions(output, "create_10k").is_none());
    }
}
