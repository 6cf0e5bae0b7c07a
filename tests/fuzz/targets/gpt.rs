//! Partition tables from bytes: the start of a small disk. What is read must lie on the disk.
#![no_main]

use blockdev::BlockDevice;
use blockdev::gpt::Table;
use blockdev_host::MemDisk;
use libfuzzer_sys::fuzz_target;
use rt_std as _;

fuzz_target!(|bytes: &[u8]| {
    let disk = MemDisk::new(128 << 20);
    disk.rot(0, &bytes[..bytes.len().min(64 << 10)]);
    if let Ok(Some(table)) = Table::read(&disk) {
        for entry in &table.entries {
            assert!(entry.start.checked_add(entry.len).is_some_and(|end| end <= disk.geometry().capacity));
        }
    }
});
