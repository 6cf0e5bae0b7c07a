//! Describing a machine, running it, and what came of it.
use crate::kernel;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The kernel reported this status.
    Status(u8),
    /// The kernel panicked.
    Panic,
    /// QEMU ended without a word from the kernel.
    Crashed,
    /// It was killed at the time limit.
    TimedOut,
}

/// What a machine said and how it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything on the serial port.
    pub serial: String,
    /// How it ended, from the debug port's line.
    pub end: End,
    /// QEMU's own exit status, if it ended by itself.
    pub qemu_status: Option<i32>,
    /// QEMU's messages.
    pub qemu_errors: String,
    /// Wall time from the start of QEMU to its end.
    pub took: Duration,
}

/// A machine.
#[derive(Clone, Debug)]
#[must_use = "a machine does nothing until it runs"]
pub struct Vm {
    machine: String,
    cpu: String,
    nr_cpus: usize,
    memory_mib: usize,
    command_line: String,
    initrd: Option<PathBuf>,
    /// Boot from the first disk by BIOS instead of from the kernel file.
    is_disk_boot: bool,
    args: Vec<OsString>,
    is_counting: bool,
    limit: Duration,
    input: Vec<u8>,
}

impl Default for Vm {
    fn default() -> Self {
        Self::new()
    }
}

impl Vm {
    /// q35, one CPU of type `max`, 256 MiB, 60 s.
    pub fn new() -> Self {
        Self {
            machine: "q35".into(),
            cpu: "max".into(),
            nr_cpus: 1,
            memory_mib: 256,
            command_line: String::new(),
            initrd: None,
            is_disk_boot: false,
            args: Vec::new(),
            is_counting: false,
            limit: Duration::from_secs(60),
            input: Vec::new(),
        }
    }

    /// `q35`, `pc`, `microvm`, with options after commas.
    pub fn machine(mut self, machine: &str) -> Self {
        self.machine = machine.into();
        self
    }

    /// CPU model.
    pub fn cpu(mut self, cpu: &str) -> Self {
        self.cpu = cpu.into();
        self
    }

    /// Number of CPUs.
    pub fn cpus(mut self, nr_cpus: usize) -> Self {
        self.nr_cpus = nr_cpus;
        self
    }

    /// Memory in MiB.
    pub fn memory(mut self, mib: usize) -> Self {
        self.memory_mib = mib;
        self
    }

    /// The kernel's command line.
    pub fn command_line(mut self, line: &str) -> Self {
        self.command_line = line.into();
        self
    }

    /// A module.
    pub fn initrd(mut self, path: &Path) -> Self {
        self.initrd = Some(path.into());
        self
    }

    /// Adds a raw disk on virtio-blk and boots from it by BIOS.
    pub fn boot_disk(mut self, path: &Path) -> Self {
        self.is_disk_boot = true;
        self.disk(path)
    }

    /// Adds a raw disk on virtio-blk.
    pub fn disk(self, path: &Path) -> Self {
        let name = format!("disk{}", self.args.len());
        let drive = format!("if=none,id={name},format=raw,cache=unsafe,file={}", path.display());
        let bus = if self.machine.starts_with("microvm") { "device" } else { "pci" };
        self.arg("-drive").arg(drive).arg("-device").arg(format!("virtio-blk-{bus},drive={name}"))
    }

    /// Any other argument of QEMU.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Counts instructions: the guest's clock advances one nanosecond per instruction, every run alike.
    pub fn counting(mut self) -> Self {
        self.is_counting = true;
        self
    }

    /// When to kill it.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Bytes on the serial port from the start.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.into();
        self
    }

    fn qemu(&self, debug: &Path) -> Result<Command> {
        let mut qemu = Command::new("qemu-system-x86_64");
        let accel = if self.is_counting { "tcg" } else { "tcg,thread=multi" };
        qemu.args(["-accel", accel, "-machine", &self.machine, "-cpu", &self.cpu]);
        if self.is_counting {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        qemu.args(["-smp", &self.nr_cpus.to_string(), "-m", &format!("{}M", self.memory_mib)]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]);
        qemu.arg("-chardev").arg(format!("file,id=debug,path={}", debug.display()));
        qemu.args(["-device", "isa-debugcon,iobase=0xe9,chardev=debug"]);
        qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        if !self.is_disk_boot {
            qemu.arg("-kernel").arg(kernel::prepared()?).args(["-append", &self.command_line]);
        }
        if let Some(initrd) = &self.initrd {
            qemu.arg("-initrd").arg(initrd);
        }
        qemu.args(&self.args);
        Ok(qemu)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// QEMU cannot be started, or the kernel does not build.
    pub fn run(&self) -> Result<Outcome> {
        let dir = tempfile::tempdir()?;
        let debug = dir.path().join("debug");
        let mut command = self.qemu(&debug)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut qemu = command.spawn().context("cannot run qemu-system-x86_64")?;
        // Held open: end of file on the serial port is nothing the guest should see.
        let mut stdin = qemu.stdin.take().context("no pipe")?;
        std::io::Write::write_all(&mut stdin, &self.input)?;
        std::io::Write::flush(&mut stdin)?;
        let serial = collect(qemu.stdout.take().context("no pipe")?);
        let errors = collect(qemu.stderr.take().context("no pipe")?);
        let mut is_timed_out = false;
        let status = loop {
            if let Some(status) = qemu.try_wait()? {
                break status;
            }
            if start.elapsed() > self.limit {
                is_timed_out = true;
                qemu.kill()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = start.elapsed();
        let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
        };
        let said = std::fs::read_to_string(&debug).unwrap_or_default();
        let end = if is_timed_out { End::TimedOut } else { end_of(&said) };
        Ok(Outcome { serial: text(serial), end, qemu_status: status.code(), qemu_errors: text(errors), took })
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is what there is.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn end_of(debug: &str) -> End {
    match debug.lines().last().and_then(|line| line.strip_prefix("zeolite: ")) {
        Some("panic") => End::Panic,
        Some(line) => {
            let status = line.strip_prefix("exit status ").and_then(|n| n.parse().ok());
            status.map_or(End::Crashed, End::Status)
        }
        None => End::Crashed,
    }
}
