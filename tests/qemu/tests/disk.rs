//! Disks work behind every transport the kernel drives.
use anyhow::Result;
use qemu_tests::{End, Vm};
use std::time::Duration;

/// `before` comes before the disk's device on QEMU's command line.
fn works(machine: &str, device: &str, before: &[&str]) -> Result<()> {
    let disk = tempfile::NamedTempFile::new()?;
    disk.as_file().set_len(16 << 20)?;
    let drive = format!("if=none,id=d,format=raw,cache=unsafe,file={}", disk.path().display());
    let mut vm = Vm::new().machine(machine).cpus(4);
    for arg in before {
        vm = vm.arg(*arg);
    }
    vm = vm.arg("-drive").arg(drive).arg("-device").arg(format!("{device},drive=d"));
    let outcome = vm.command_line("loglevel=info selftest=disk").run()?;
    assert_eq!(outcome.end, End::Status(0), "{machine} {device}: {outcome:#?}");
    Ok(())
}

#[test]
fn pci() -> Result<()> {
    works("q35", "virtio-blk-pci", &[])?;
    works("pc", "virtio-blk-pci", &[])?;
    works("q35", "virtio-blk-pci,disable-legacy=on", &[])?;
    works("q35", "virtio-blk-pci,disable-modern=on,disable-legacy=off", &[])?;
    works("q35", "virtio-blk-pci,vectors=0", &[])?;
    works("pc", "virtio-blk-pci,vectors=0", &[])
}

#[test]
fn behind_a_bridge() -> Result<()> {
    works("q35", "virtio-blk-pci,bus=b1", &["-device", "pcie-root-port,id=b1"])
}

#[test]
fn memory_mapped() -> Result<()> {
    works("microvm,acpi=off", "virtio-blk-device", &[])?;
    works("microvm,acpi=off", "virtio-blk-device", &["-global", "virtio-mmio.force-legacy=false"])
}

/// A disk that never answers does not hang its caller: after the limit the device is reset, and what was in flight fails.
#[test]
fn a_silent_disk_is_reset() -> Result<()> {
    let disk = tempfile::NamedTempFile::new()?;
    disk.as_file().set_len(16 << 20)?;
    // So slow that no request but the first ends within the test.
    let drive =
        format!("if=none,id=d,format=raw,cache=unsafe,throttling.bps-total=1,file={}", disk.path().display());
    let vm = Vm::new().cpus(2).limit(Duration::from_secs(240));
    let vm = vm.arg("-drive").arg(drive).arg("-device").arg("virtio-blk-pci,drive=d");
    let outcome = vm.command_line("loglevel=info selftest=disk disk_timeout=1").run()?;
    assert_eq!(outcome.end, End::Status(1), "{outcome:#?}");
    for expected in ["no answer for 1 s, resetting", "timed out"] {
        assert!(outcome.serial.contains(expected), "no {expected:?} in {}", outcome.serial);
    }
    Ok(())
}
