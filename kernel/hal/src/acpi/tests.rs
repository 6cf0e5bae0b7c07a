//! Tables as QEMU builds them, and what is left of them after damage.
use super::*;
use std::collections::BTreeMap;
use std::vec::Vec;

#[derive(Default)]
struct Fake(BTreeMap<u64, Vec<u8>>);

impl Memory for Fake {
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        let (start, bytes) = self.0.range(..=at).next_back()?;
        let from = (at - start) as usize;
        bytes.get(from..from.checked_add(len)?)
    }
}

fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut t = signature.to_vec();
    t.extend(((36 + body.len()) as u32).to_le_bytes());
    t.resize(36, 0);
    t.extend(body);
    let sum = t.iter().fold(0_u8, |s, b| s.wrapping_add(*b));
    t[9] = 0_u8.wrapping_sub(sum);
    t
}

fn machine() -> Fake {
    let mut madt = std::vec![0; 8];
    madt.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    madt.extend([0, 8, 1, 4, 1, 0, 0, 0]);
    madt.extend([0, 8, 2, 9, 0, 0, 0, 0]);
    madt.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    madt.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    madt.extend([2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
    let mut mcfg = std::vec![0; 8];
    mcfg.extend(0xb000_0000_u64.to_le_bytes());
    mcfg.extend([0, 0, 0, 255, 0, 0, 0, 0]);
    let mut fadt = std::vec![0; 276 - 36];
    fadt[40 - 36..44 - 36].copy_from_slice(&0x5000_u32.to_le_bytes());
    fadt[64 - 36..68 - 36].copy_from_slice(&0x604_u32.to_le_bytes());
    let dsdt = table(b"DSDT", b"junk\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00more");
    let mut xsdt = Vec::new();
    for at in [0x2000_u64, 0x3000, 0x4000, 0x6000] {
        xsdt.extend(at.to_le_bytes());
    }
    let mut rsdp = b"RSD PTR \0BOCHS \x02".to_vec();
    rsdp.resize(24, 0);
    rsdp.extend(0x1000_u64.to_le_bytes());
    rsdp.resize(36, 0);
    Fake(BTreeMap::from([
        (0x500, rsdp),
        (0x1000, table(b"XSDT", &xsdt)),
        (0x2000, table(b"APIC", &madt)),
        (0x3000, table(b"MCFG", &mcfg)),
        (0x4000, table(b"FACP", &fadt)),
        (0x5000, dsdt),
    ]))
}

#[test]
fn reads_what_is_needed() {
    let tables = read(&machine(), 0x500);
    let madt = tables.madt.expect("present");
    assert_eq!(madt.apic_ids, [0, 4], "the third CPU is not enabled");
    assert_eq!(madt.io_apics, [IoApic { address: 0xfec0_0000, first_gsi: 0 }]);
    assert_eq!(madt.overrides[0], IsaOverride { irq: 0, gsi: 2, is_level: false, is_low: false });
    assert!(madt.overrides[1].is_level && !madt.overrides[1].is_low);
    assert_eq!(tables.ecam, Some(Ecam { base: 0xb000_0000, bus_first: 0, bus_last: 255 }));
    assert_eq!(tables.power_off, Some(PowerOff::Pm1 { port: 0x604, value: 5 << 10 | 1 << 13 }));
}

#[test]
fn damaged_tables_are_absent() {
    let mut memory = machine();
    memory.0.get_mut(&0x2000).expect("there")[50] ^= 1;
    assert_eq!(read(&memory, 0x500).madt, None);
    memory.0.remove(&0x5000);
    assert_eq!(read(&memory, 0x500).power_off, None);
    memory.0.remove(&0x1000);
    assert_eq!(read(&memory, 0x500), Tables::default());
    assert_eq!(read(&memory, 0x9999), Tables::default());
}

#[test]
fn any_bytes_are_survived() {
    let mut state = 7_u64;
    for _ in 0..3000 {
        let mut memory = machine();
        for _ in 0..8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (_, bytes) = memory.0.iter_mut().nth((state >> 40) as usize % 6).expect("six tables");
            let at = (state >> 20) as usize % bytes.len();
            bytes[at] = state as u8;
            // Keep the checksum right, so that parsing sees the damage.
            let sum = bytes.iter().fold(0_u8, |s, b| s.wrapping_add(*b));
            bytes[9] = bytes[9].wrapping_sub(sum);
        }
        let _ = read(&memory, 0x500);
    }
}
