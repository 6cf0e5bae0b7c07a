//! A disk made bootable by the BIOS loader boots, with its own command line.
use anyhow::Result;
use qemu_tests::{End, Vm, kernel};
use std::io::{Seek, SeekFrom, Write};

/// First sector of the boot partition in this test.
const PARTITION: u64 = 2048;

fn image(command_line: &str) -> Result<tempfile::NamedTempFile> {
    let area = kernel_boot::install(&std::fs::read(kernel::built()?)?, command_line, PARTITION)?;
    let mut disk = tempfile::NamedTempFile::new()?;
    disk.as_file().set_len(64 << 20)?;
    disk.write_all(&area.boot_code)?;
    disk.seek(SeekFrom::Start(510))?;
    disk.write_all(&[0x55, 0xaa])?;
    disk.seek(SeekFrom::Start(PARTITION * 512))?;
    disk.write_all(&area.partition)?;
    disk.flush()?;
    Ok(disk)
}

#[test]
fn boots_from_disk() -> Result<()> {
    let disk = image("loglevel=info selftest=exit:42")?;
    for machine in ["q35", "pc"] {
        for nr_cpus in [1, 4] {
            let outcome = Vm::new().machine(machine).cpus(nr_cpus).boot_disk(disk.path()).run()?;
            assert_eq!(outcome.end, End::Status(42), "{outcome:#?}");
            assert!(outcome.serial.contains(&format!("{nr_cpus} CPUs")), "{}", outcome.serial);
        }
    }
    Ok(())
}
