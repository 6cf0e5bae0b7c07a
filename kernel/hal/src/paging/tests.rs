//! The lower half against a map of what was mapped.
use super::*;
use std::collections::BTreeMap;
use std::vec::Vec;

fn flags() -> PteFlags {
    PteFlags::WRITABLE | PteFlags::NO_EXEC
}

#[test]
fn maps_and_unmaps() {
    let table = PageTable::new().expect("memory");
    table.map(0x40_0000, PhysAddr(0x1000), flags()).expect("free");
    assert_eq!(table.map(0x40_0000, PhysAddr(0x2000), flags()), Err(MapError::Occupied));
    let found = table.query(0x40_0abc).expect("mapped");
    assert_eq!((found.virt, found.phys, found.size), (0x40_0000, PhysAddr(0x1000), PAGE_SIZE));
    assert_eq!(table.query(0x40_1000), None);
    assert_eq!(table.unmap(0x40_0000).map(|m| m.phys), Some(PhysAddr(0x1000)));
    assert_eq!(table.query(0x40_0000), None);
}

#[test]
fn splits_large_pages() {
    let table = PageTable::new().expect("memory");
    table.map_large(0x20_0000, PhysAddr(0x40_0000), flags()).expect("free");
    assert_eq!(table.map(0x20_1000, PhysAddr(0x1000), flags()), Err(MapError::Occupied));
    table.split_large(0x20_1000).expect("memory");
    let found = table.query(0x20_1000).expect("mapped");
    assert_eq!((found.phys, found.size), (PhysAddr(0x40_1000), PAGE_SIZE));
    assert_eq!(found.flags & flags(), flags());
    table.protect(0x20_1000, PteFlags::empty(), PteFlags::WRITABLE).expect("mapped");
    assert!(!table.query(0x20_1000).expect("mapped").flags.contains(PteFlags::WRITABLE));
    assert!(table.query(0x20_2000).expect("mapped").flags.contains(PteFlags::WRITABLE));
}

#[test]
fn visits_in_order_and_skips_holes() {
    let table = PageTable::new().expect("memory");
    let pages = [0, 0x1000, 0x1f_f000, 0x20_0000, 0x4000_0000, 0x7fff_0000_0000];
    let model: BTreeMap<usize, u64> = pages.iter().map(|&at| (at, at as u64 + 0x10_0000)).collect();
    for (&virt, &phys) in &model {
        table.map(virt, PhysAddr(phys), flags()).expect("free");
    }
    let mut seen = Vec::new();
    table.for_each(0..usize::MAX, |virt, entry, size| {
        assert_eq!(size, PAGE_SIZE);
        seen.push((virt, entry.load().address().0));
    });
    assert_eq!(seen, model.into_iter().collect::<Vec<_>>());
    seen.clear();
    table.for_each(0x1000..0x20_0000, |virt, _, _| seen.push((virt, 0)));
    assert_eq!(seen, [(0x1000, 0), (0x1f_f000, 0)]);
}

#[test]
fn prune_keeps_what_is_mapped() {
    let mut table = PageTable::new().expect("memory");
    table.map(0x1000, PhysAddr(0x1000), flags()).expect("free");
    table.map(0x4000_0000, PhysAddr(0x2000), flags()).expect("free");
    table.unmap(0x1000);
    table.prune(0..0x8000_0000);
    assert!(table.entry(0x1000).is_none(), "the empty tables are gone");
    assert_eq!(table.query(0x4000_0000).map(|m| m.phys), Some(PhysAddr(0x2000)));
}
