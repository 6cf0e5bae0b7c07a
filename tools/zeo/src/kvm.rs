//! Whether hardware virtualisation really works here.
//!
//! That `/dev/kvm` opens says little: inside some virtual machines it does, and guests hang, or are interpreted
//! instruction by instruction and fail at the first that the interpreter does not know. So a small guest is run, with a time limit, and what came of it is remembered
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
    let file = cache.join("kvm-probe-2");
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
        .args([
            "-M",
            "pc,accel=kvm",
            "-cpu",
            "host",
            "-m",
            "16",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ])
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

/// Bytes from the end of the firmware image to its code.
const CODE_FROM_END: usize = 256;

/// What the guest does, assembled for the last 256 bytes below 4 GiB:
///
/// ```text
///     16-bit: cli; lgdt cs:[gdt]; set CR0.PE, clear CR0.CD and NW; jump to
///     32-bit: load DS; set CR4.OSFXSR and OSXMMEXCPT
///             eax = ANSWER; through xmm0 with pshufd, paddq, psubq
///             20,000,000 times: dec ecx; jnz
///             out 0xf4, al; hlt
///     gdt:    flat code, flat data
/// ```
///
/// The SSE instructions and the loop are the point: where every instruction of a guest is emulated, the former fail
/// and the latter takes longer than the probe waits.
#[rustfmt::skip]
const PROBE_CODE: [u8; 126] = [
    0xfa, 0x2e, 0x66, 0x0f, 0x01, 0x16, 0x78, 0xff, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x66, 0x25, 0xff,
    0xff, 0xff, 0x9f, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x1e, 0xff, 0xff, 0xff, 0x08, 0x00, 0x66, 0xb8,
    0x10, 0x00, 0x8e, 0xd8, 0x0f, 0x20, 0xe0, 0x0d, 0x00, 0x06, 0x00, 0x00, 0x0f, 0x22, 0xe0, 0xb8,
    0x2a, 0x00, 0x00, 0x00, 0x66, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0x70, 0xc8, 0x44, 0x66, 0x0f, 0xd4,
    0xc1, 0x66, 0x0f, 0xfb, 0xc1, 0xb9, 0x00, 0x2d, 0x31, 0x01, 0x49, 0x75, 0xfd, 0x66, 0x0f, 0x7e,
    0xc0, 0x66, 0xba, 0xf4, 0x00, 0xee, 0xf4, 0xeb, 0xfd, 0x8d, 0xb4, 0x26, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00,
    0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00, 0x17, 0x00, 0x60, 0xff, 0xff, 0xff,
];

/// A firmware image with the probe's code and a jump to it at the reset vector.
fn probe_rom() -> Vec<u8> {
    let mut rom = vec![0xf4; ROM_SIZE];
    let start = ROM_SIZE - CODE_FROM_END;
    rom[start..start + PROBE_CODE.len()].copy_from_slice(&PROBE_CODE);
    // A near jump from 0xfff0 to 0xff00.
    rom[ROM_SIZE - 16..ROM_SIZE - 13].copy_from_slice(&[0xe9, 0x0d, 0xff]);
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
