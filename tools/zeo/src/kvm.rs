//! Whether hardware virtualisation really works here.
//!
//! That `/dev/kvm` opens says little: inside some virtual machines it does, and the first instruction of a guest
//! never returns. So a guest of a few instructions is run, with a time limit, and what came of it is remembered
//! until the host boots again.
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(2);
/// The guest writes this to the exit device; QEMU ends with twice that and one.
const ANSWER: u8 = 0x2a;
const ROM_SIZE: usize = 64 << 10;

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// A guest ran.
    Works,
    /// Why not.
    Not(String),
}

/// Probes, or recalls an earlier probe of this boot of the host.
pub fn probe(qemu: &str, cache: &Path) -> Kvm {
    if !Path::new("/dev/kvm").exists() {
        return Kvm::Not("there is no /dev/kvm".into());
    }
    if let Err(e) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Kvm::Not(format!("/dev/kvm: {e}"));
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let file = cache.join("kvm-probe");
    if let Some(known) = std::fs::read_to_string(&file).ok().and_then(|text| recall(&text, boot.trim())) {
        return known;
    }
    let found = run_guest(qemu, cache);
    let word = match &found {
        Kvm::Works => "works",
        Kvm::Not(why) => why,
    };
    // Only a shortcut: without it the probe runs again.
    let _ = std::fs::write(&file, format!("{} {word}\n", boot.trim()));
    found
}

fn recall(text: &str, boot: &str) -> Option<Kvm> {
    let (known_boot, word) = text.trim().split_once(' ')?;
    let result = if word == "works" { Kvm::Works } else { Kvm::Not(word.to_owned()) };
    (known_boot == boot && !boot.is_empty()).then_some(result)
}

fn run_guest(qemu: &str, cache: &Path) -> Kvm {
    let rom = cache.join("kvm-probe.rom");
    if let Err(e) = std::fs::create_dir_all(cache).and_then(|()| std::fs::write(&rom, probe_rom())) {
        return Kvm::Not(format!("cannot write the probe: {e}"));
    }
    let child = Command::new(qemu)
        .args(["-M", "pc,accel=kvm", "-m", "16", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-bios"])
        .arg(&rom)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => return Kvm::Not(format!("{qemu}: {e}")),
    };
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.code() == Some(i32::from(ANSWER) << 1 | 1) => return Kvm::Works,
            Ok(Some(status)) => return Kvm::Not(format!("a test guest ended with {status}")),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Kvm::Not(format!("a test guest did not run within {} s", PATIENCE.as_secs()));
            }
        }
    }
}

/// A firmware image that writes the answer to the exit device from its very first instruction.
fn probe_rom() -> Vec<u8> {
    let mut rom = vec![0xf4; ROM_SIZE];
    // mov dx, 0xf4; mov al, ANSWER; out dx, al; hlt
    let code = [0xba, 0xf4, 0x00, 0xb0, ANSWER, 0xee, 0xf4];
    rom[ROM_SIZE - 16..ROM_SIZE - 16 + code.len()].copy_from_slice(&code);
    rom
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_recalled_for_the_same_boot_only() {
        assert_eq!(recall("abc works\n", "abc"), Some(Kvm::Works));
        assert_eq!(recall("abc no such luck\n", "abc"), Some(Kvm::Not("no such luck".into())));
        assert_eq!(recall("abc works\n", "def"), None);
        assert_eq!(recall("", ""), None);
    }

    #[test]
    fn the_probe_s_guest_runs_under_emulation() {
        // The same guest with the accelerator that works everywhere: a wrong guest would call every KVM broken.
        let dir = tempfile::tempdir().expect("directory");
        let rom = dir.path().join("rom");
        std::fs::write(&rom, probe_rom()).expect("write");
        let status = Command::new("qemu-system-x86_64")
            .args(["-M", "pc,accel=tcg", "-m", "16", "-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-bios"])
            .arg(&rom)
            .status()
            .expect("qemu");
        assert_eq!(status.code(), Some(85));
    }
}
