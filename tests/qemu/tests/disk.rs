//! Disks work behind every transport the kernel drives.
use anyhow::Result;
use qemu_tests::{End, Vm};

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
