//! QEMU's firmware configuration device: the CPU count where there are no ACPI tables.
use crate::io;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const KEY_SIGNATURE: u16 = 0;
const KEY_NR_CPUS: u16 = 5;

fn read<const N: usize>(key: u16) -> [u8; N] {
    // SAFETY: selecting a key and reading it changes nothing but the device's own position.
    unsafe {
        io::outw(SELECTOR, key);
        core::array::from_fn(|_| io::inb(DATA))
    }
}

/// Number of CPUs, if the device is there.
pub fn nr_cpus() -> Option<u32> {
    (read::<4>(KEY_SIGNATURE) == *b"QEMU").then(|| u32::from(u16::from_le_bytes(read(KEY_NR_CPUS))))
}
