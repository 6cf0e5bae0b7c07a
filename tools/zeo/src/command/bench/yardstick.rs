//! The yardstick: guest instructions per operation, beside their targets and what other systems need.
use super::Setup;
use crate::qemu::{Accel, End};
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Result, bail};
use serde::Serialize;
use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1800);

/// One operation: its line in the program's output and what it is compared with.
struct Operation {
    name: &'static str,
    /// The program's own name for it.
    line: &'static str,
    /// Bytes per operation where the program prints MB/s.
    bytes: f64,
    osv: f64,
    linux_zfs: f64,
    linux_ext4: f64,
    target: f64,
}

const fn op(name: &'static str, line: &'static str, bytes: f64, others: [f64; 3], target: f64) -> Operation {
    Operation { name, line, bytes, osv: others[0], linux_zfs: others[1], linux_ext4: others[2], target }
}

/// Figures of the others: QEMU 10.0.2, 1 vCPU, 2026-11; OSv with its ZFS root, Debian 6.1 with OpenZFS 2.3.2 and ext4.
const OPERATIONS: &[Operation] = &[
    op("system call (gettid)", "gettid(syscall())", 0.0, [179.0, 320.0, 320.0], 90.0),
    op("clock_gettime (vDSO)", "clock_gettime", 0.0, [51.0, 96.0, 73.0], 55.0),
    op("write 1 B to /dev/null", "write /dev/null 1B", 0.0, [530.0, 585.0, 585.0], 250.0),
    op("pthread create + join", "pthread create+join", 0.0, [1_160_000.0, 73_965.0, 74_444.0], 30_000.0),
    op("sched_yield, pair on one CPU", "yield (pair, 1 cpu)", 0.0, [1_273.0, 3_380.0, 3_388.0], 900.0),
    op("pipe round trip", "pipe round trip", 0.0, [4_700.0, 12_589.0, 12_591.0], 3_500.0),
    op("condvar round trip", "condvar round trip", 0.0, [2_600.0, 11_879.0, 11_880.0], 2_500.0),
    op("anonymous 4 KiB page, first touch", "anon 4K page touch", 0.0, [5_500.0, 6_928.0, 6_931.0], 2_000.0),
    op("munmap, per 4 KiB page", "munmap 4K page", 0.0, [362.0, 1_158.0, 1_157.0], 150.0),
    op("write 4 KiB, sequential", "seq write 4K", 4096.0, [36_800.0, 29_770.0, 17_040.0], 8_000.0),
    op(
        "read 4 KiB, sequential, cached",
        "seq read 4K (cached)",
        4096.0,
        [10_600.0, 11_420.0, 5_660.0],
        2_500.0,
    ),
    op(
        "read 128 KiB, cached",
        "seq read 128K (cached)",
        131_072.0,
        [138_000.0, 138_600.0, 163_200.0],
        45_000.0,
    ),
    op("pread 4 KiB, random, cached", "rand pread 4K (cached)", 0.0, [10_500.0, 11_526.0, 5_657.0], 2_500.0),
    op("pwrite 4 KiB, random, into 128 KiB", "rand pwrite 4K", 0.0, [327_000.0, 20_461.0, 6_881.0], 8_000.0),
    op("mmap file fault, 4 KiB", "mmap file fault/4K", 0.0, [14_100.0, 23_553.0, 598.0], 1_500.0),
    op(
        "create + write 1 KiB + close",
        "create+write1K+close",
        0.0,
        [140_000.0, 369_291.0, 116_609.0],
        40_000.0,
    ),
    op("stat", "stat", 0.0, [32_500.0, 9_629.0, 9_311.0], 3_000.0),
    op("open + close", "open+close", 0.0, [36_000.0, 12_475.0, 12_277.0], 4_000.0),
    op("unlink", "unlink", 0.0, [88_000.0, 90_857.0, 40_144.0], 20_000.0),
];

#[derive(Serialize)]
struct Row {
    operation: &'static str,
    instructions: Option<f64>,
    target: f64,
    meets_target: bool,
    osv_zfs: f64,
    linux_zfs: f64,
    linux_ext4: f64,
}

/// Runs it.
///
/// # Errors
/// When the program does not end well.
pub fn run(setup: &Setup, mode: Mode) -> Result<()> {
    let vm = setup.vm(Accel::InstructionCount, 512 << 20);
    let mut child = vm.start(Stdio::piped())?;
    let Some(mut console) = child.stdout.take() else { bail!("no console") };
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What came until an error is what there is.
        let _ = std::io::Read::read_to_end(&mut console, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let end = vm.wait(&mut child, Some(PATIENCE))?;
    let output = reader.join().unwrap_or_default();
    let rows: Vec<Row> = OPERATIONS.iter().map(|o| row(o, &output)).collect();
    if mode == Mode::Json {
        print_json(&rows)?;
    } else {
        print_table(&rows);
    }
    if end != End::Status(0) {
        bail!("the program did not end well ({end:?}); its output:\n{output}");
    }
    Ok(())
}

fn row(operation: &Operation, output: &str) -> Row {
    let instructions = figure(output, operation);
    Row {
        operation: operation.name,
        instructions,
        target: operation.target,
        meets_target: instructions.is_some_and(|i| i <= operation.target),
        osv_zfs: operation.osv,
        linux_zfs: operation.linux_zfs,
        linux_ext4: operation.linux_ext4,
    }
}

/// Instructions per operation: under instruction counting the guest's nanoseconds are instructions.
fn figure(output: &str, operation: &Operation) -> Option<f64> {
    let line = output.lines().find_map(|l| {
        let rest = l.trim_end().strip_prefix("SB ")?.strip_prefix(operation.line)?;
        rest.starts_with(' ').then_some(rest)
    })?;
    let mut words = line.split_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    match words.next()? {
        "ns/op" => Some(value),
        // Bytes per microsecond.
        "MB/s" if value > 0.0 => Some(operation.bytes * 1000.0 / value),
        _ => None,
    }
}

fn print_table(rows: &[Row]) {
    say!("| operation (guest instructions) | ours | target | OSv, ZFS | Linux, OpenZFS | Linux, ext4 |");
    say!("|---|---:|---:|---:|---:|---:|");
    for r in rows {
        let ours = r.instructions.map_or_else(|| String::from("-"), |i| format!("{i:.0}"));
        let mark = if r.meets_target { "" } else { " (above)" };
        say!(
            "| {} | {ours}{mark} | {} | {} | {} | {} |",
            r.operation,
            r.target,
            r.osv_zfs,
            r.linux_zfs,
            r.linux_ext4
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_name() {
        let output = "SB main-reached\r\nSB seq write 4K+fsync        10.00 MB/s  (x)\r\n\
            SB seq write 4K             512.00 MB/s  (x)\nSB stat                     2900.5 ns/op  (500 ops)\n";
        let of = |line| OPERATIONS.iter().find(|o| o.line == line).expect("listed");
        assert_eq!(figure(output, of("seq write 4K")), Some(8000.0));
        assert_eq!(figure(output, of("stat")), Some(2900.5));
        assert!(row(of("stat"), output).meets_target);
        assert_eq!(figure(output, of("unlink")), None);
    }
}
