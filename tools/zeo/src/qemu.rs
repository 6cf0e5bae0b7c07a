//! The machine: its command line, running it, its end.
//!
//! How the guest says how it ended: the exact status is a line `zeolite: exit status N` (or `zeolite: panic`) on the
//! debug port 0xe9, which QEMU writes to a file; the exit device only ends QEMU. A machine that ends without such a
//! line was stopped from outside or reset.
use crate::failure::{self, Failure};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// QEMU's name.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// How the guest's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Emulation.
    Tcg,
    /// Emulation whose clock counts instructions, 1 ns each.
    InstructionCount,
}

/// Which machine QEMU plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Machine {
    /// PCI Express.
    Q35,
    /// The old PC.
    Pc,
    /// Without PCI and firmware: the fastest start.
    Microvm,
}

/// A disk of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// `raw`, `qcow2`, ...
    pub format: String,
}

/// How the machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads this kernel.
    Kernel(PathBuf),
    /// From the first disk, by its loader.
    Disk,
}

/// A machine to run.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Accelerator.
    pub accel: Accel,
    /// Machine type.
    pub machine: Machine,
    /// Bytes of memory.
    pub memory: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Disks.
    pub disks: Vec<Disk>,
    /// How it starts.
    pub boot: Boot,
    /// Command line of the kernel.
    pub cmdline: String,
    /// Where the debug port's output goes.
    pub status_file: PathBuf,
    /// The console is the terminal; otherwise standard output only.
    pub has_input: bool,
    /// Further arguments.
    pub extra: Vec<String>,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The program ended with this status.
    Status(u8),
    /// The kernel panicked.
    Panic,
    /// Without saying how; QEMU's own exit status, if it had one.
    Unknown(Option<i32>),
    /// The time limit passed.
    Timeout,
}

impl End {
    /// The exit status of `zeo run`.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Status(n) => n,
            Self::Panic | Self::Unknown(_) => failure::NO_STATUS,
            Self::Timeout => failure::TIMEOUT,
        }
    }
}

impl Vm {
    /// The arguments of QEMU.
    pub fn args(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut add = |list: &[&str]| args.extend(list.iter().map(|s| (*s).to_owned()));
        let is_microvm = self.machine == Machine::Microvm;
        let machine = match self.machine {
            Machine::Q35 => "q35",
            Machine::Pc => "pc",
            Machine::Microvm => "microvm,acpi=off,isa-serial=on,rtc=on",
        };
        add(&["-M", machine]);
        match self.accel {
            Accel::Kvm => add(&["-accel", "kvm", "-cpu", "host"]),
            Accel::Tcg => add(&["-accel", "tcg,thread=multi", "-cpu", "max"]),
            Accel::InstructionCount => {
                add(&["-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max"]);
            }
        }
        // QEMU takes memory in MiB.
        let memory = self.memory.div_ceil(1 << 20).to_string();
        add(&["-m", &memory, "-smp", &self.cpus.to_string()]);
        add(&["-nodefaults", "-display", "none", "-no-reboot"]);
        let console = if !self.has_input {
            "file,id=console,path=/dev/stdout"
        } else if std::io::stdin().is_terminal() {
            // Keys such as Ctrl-C go to the guest; Ctrl-A X ends the machine.
            "stdio,id=console,mux=on,signal=off"
        } else {
            "stdio,id=console,signal=off"
        };
        add(&["-chardev", console, "-serial", "chardev:console"]);
        if self.has_input && std::io::stdin().is_terminal() {
            add(&["-mon", "chardev=console"]);
        }
        add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        add(&["-debugcon", &format!("file:{}", comma_doubled(&self.status_file))]);
        for (nr, disk) in self.disks.iter().enumerate() {
            let file = comma_doubled(&disk.path);
            let drive = format!("if=none,id=disk{nr},file={file},format={},discard=unmap", disk.format);
            add(&["-drive", &drive]);
            let device = if is_microvm {
                add(&["-global", "virtio-mmio.force-legacy=false"]);
                format!("virtio-blk-device,drive=disk{nr}")
            } else {
                format!("virtio-blk-pci,drive=disk{nr},num-queues={}", self.cpus.clamp(1, 16))
            };
            add(&["-device", &device]);
        }
        match &self.boot {
            Boot::Kernel(kernel) => {
                add(&["-kernel", &kernel.to_string_lossy()]);
                if !self.cmdline.is_empty() {
                    add(&["-append", &self.cmdline]);
                }
            }
            // Its command line is on the disk.
            Boot::Disk => {}
        }
        args.extend(self.extra.iter().cloned());
        args
    }

    /// The whole command line, for a shell.
    pub fn shell_line(&self) -> String {
        let mut line = String::from(PROGRAM);
        for arg in self.args() {
            // Writing to a String cannot fail.
            let _ = write!(line, " {}", shell_word(&arg));
        }
        line
    }

    /// Starts it; its console is this process's standard output, and input if it has any.
    ///
    /// # Errors
    /// When QEMU is missing.
    pub fn start(&self, stdout: Stdio) -> Result<Child> {
        // A line of an earlier run must not be taken for this one's.
        match std::fs::remove_file(&self.status_file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context("old status file"),
            _ => {}
        }
        let stdin = if self.has_input { Stdio::inherit() } else { Stdio::null() };
        Command::new(PROGRAM).args(self.args()).stdin(stdin).stdout(stdout).spawn().map_err(|e| {
            let hint = "install the package qemu-system-x86";
            Failure::new(failure::UNAVAILABLE, format!("{PROGRAM}: {e}"), hint).into()
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When QEMU is missing or cannot be waited for.
    pub fn run(&self, timeout: Option<Duration>) -> Result<End> {
        let mut child = self.start(Stdio::inherit())?;
        self.wait(&mut child, timeout)
    }

    /// Waits for a started machine to end.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&self, child: &mut Child, timeout: Option<Duration>) -> Result<End> {
        let Some(status) = wait_until(child, timeout.map(|t| Instant::now() + t))? else {
            stop(child);
            return Ok(End::Timeout);
        };
        let line = std::fs::read_to_string(&self.status_file).unwrap_or_default();
        Ok(parse_status(&line).unwrap_or(End::Unknown(status.code())))
    }
}

/// The last line that says how the guest ended.
pub fn parse_status(text: &str) -> Option<End> {
    text.lines().rev().find_map(|line| {
        let word = line.strip_prefix("zeolite: ")?;
        if word == "panic" {
            return Some(End::Panic);
        }
        word.strip_prefix("exit status ")?.parse().ok().map(End::Status)
    })
}

/// `None`: the time is over and the child still runs.
fn wait_until(child: &mut Child, end: Option<Instant>) -> Result<Option<ExitStatus>> {
    let Some(end) = end else { return Ok(Some(child.wait()?)) };
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let now = Instant::now();
        if now >= end {
            return Ok(None);
        }
        std::thread::sleep(pause.min(end - now));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Asks QEMU to end, so that it restores the terminal, and makes it end if it does not.
pub fn stop(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let end = Some(Instant::now() + Duration::from_secs(2));
    if !matches!(wait_until(child, end), Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A path inside a QEMU option, where commas separate.
fn comma_doubled(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%+@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> Vm {
        Vm {
            accel: Accel::Tcg,
            machine: Machine::Q35,
            memory: 300 << 20,
            cpus: 2,
            disks: vec![Disk { path: "/a,b.img".into(), format: "raw".into() }],
            boot: Boot::Kernel("/k".into()),
            cmdline: "zeo.env=A=b -- /bin/x it's".into(),
            status_file: "/s".into(),
            has_input: false,
            extra: vec!["-snapshot".into()],
        }
    }

    #[test]
    fn the_command_line_says_what_was_asked_for() {
        let line = vm().shell_line();
        for part in [
            "-M q35",
            "-accel tcg,thread=multi",
            "-m 300 -smp 2",
            "file=/a,,b.img,format=raw",
            "virtio-blk-pci,drive=disk0,num-queues=2",
            "-kernel /k -append 'zeo.env=A=b -- /bin/x it'\\''s' -snapshot",
            "-debugcon file:/s",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let micro = Vm { machine: Machine::Microvm, accel: Accel::InstructionCount, ..vm() }.shell_line();
        assert!(
            micro.contains("virtio-blk-device,drive=disk0") && micro.contains("-icount shift=0,sleep=off")
        );
        let disks = ["/a", "/b", "/c"].map(|path| Disk { path: path.into(), format: "raw".into() });
        let several = Vm { disks: disks.into(), ..vm() }.shell_line();
        for (nr, path) in ["/a", "/b", "/c"].into_iter().enumerate() {
            let (file, device) = (format!("file={path},format=raw"), format!("drive=disk{nr},"));
            assert!(several.contains(&file) && several.contains(&device), "{several}");
        }
        let disk = Vm { boot: Boot::Disk, ..vm() }.shell_line();
        assert!(!disk.contains("-kernel") && !disk.contains("-append"));
    }

    #[test]
    fn the_end_is_read_from_the_debug_port() {
        assert_eq!(parse_status("zeolite: boot\nzeolite: exit status 139\n"), Some(End::Status(139)));
        assert_eq!(parse_status("zeolite: panic\n"), Some(End::Panic));
        assert_eq!(parse_status("zeolite: exit status 256\n"), None);
        assert_eq!(parse_status("exit status 1"), None);
        assert_eq!(End::Status(7).exit_status(), 7);
        assert_eq!(End::Unknown(Some(0)).exit_status(), failure::NO_STATUS);
    }

    #[test]
    fn a_machine_that_does_not_end_is_stopped() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let end = vm().wait(&mut child, Some(Duration::from_millis(50))).expect("waited");
        assert_eq!(end, End::Timeout);
        assert!(child.try_wait().expect("ended").is_some());
    }
}
