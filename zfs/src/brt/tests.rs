//! A table against a map of references.
use super::table::Table;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap as Model;

const SIZE: u64 = 1 << 30;
const BYTES: u64 = 4096;

/// Offsets in a few ranges, so that counts go up and down.
fn place() -> impl Strategy<Value = u64> {
    (0u64..4, 0u64..6).prop_map(|(range, block)| range * (200 << 20) + block * BYTES)
}

fn agree(table: &Table, model: &Model<u64, u64>) {
    let shared = || model.values().filter(|n| **n > 0);
    assert_eq!(table.total, shared().count() as u64);
    assert_eq!(table.used, shared().count() as u64 * BYTES);
    assert_eq!(table.saved, shared().sum::<u64>() * BYTES);
    assert_eq!(table.counts.iter().map(|c| u64::from(*c)).sum::<u64>(), table.total);
    for (offset, _) in model.iter().filter(|(_, n)| **n > 0) {
        assert!(table.counts[(offset / table.range_size) as usize] > 0);
    }
}

proptest! {
    /// References come and go over several groups; what the disk has is what the last group left.
    #[test]
    fn counts_are_those_of_the_references(
        groups in prop::collection::vec(prop::collection::vec((place(), 0u64..4), 0..20), 1..6)
    ) {
        let (mut table, mut disk, mut model) = (Table::default(), Model::new(), Model::<u64, u64>::new());
        for group in groups {
            for (offset, references) in group {
                let before = disk.get(&offset).copied().unwrap_or(0);
                let now = model.entry(offset).or_default();
                if references > 0 {
                    table.add(offset, before, (references, BYTES), SIZE).unwrap();
                    *now += references;
                } else {
                    table.bring(offset, before);
                    prop_assert_eq!(table.take(offset, BYTES).unwrap(), *now > 0);
                    *now = now.saturating_sub(1);
                }
            }
            for (offset, changed) in core::mem::take(&mut table.changed) {
                prop_assert_eq!(disk.get(&offset).copied().unwrap_or(0), changed.before);
                disk.insert(offset, changed.now);
            }
            agree(&table, &model);
        }
        for (offset, references) in &disk {
            prop_assert_eq!(model.get(offset), Some(references));
        }
    }
}

#[test]
fn nonsense_is_refused() {
    let mut table = Table::default();
    assert_eq!(table.add(SIZE, 0, (1, BYTES), SIZE), Err(Error::Damaged));
    assert_eq!(table.add(0, u64::MAX, (1, BYTES), SIZE), Err(Error::Damaged));
    assert_eq!(table.take(BYTES, BYTES), Ok(false));
    table.bring(BYTES, 3);
    // An entry that the counts know nothing of.
    assert_eq!((0..3).map(|_| table.take(BYTES, BYTES)).last(), Some(Err(Error::Damaged)));
}

#[test]
fn ratios_are_those_of_zpool() {
    assert_eq!(CloneFigures { used: 289_280, saved: 515_584 }.ratio(), 278);
    assert_eq!(CloneFigures::default().ratio(), 100);
}

#[test]
fn values_of_both_forms_are_read() {
    assert_eq!(references(&ZapValue::word(5)), Some(5));
    assert_eq!(references(&ZapValue::bytes(&5u64.to_le_bytes())), Some(5));
    assert_eq!(references(&ZapValue::bytes(&[5])), None);
}
