//! Walking and building the four levels.
use super::{
    ADDRESS_MASK, ENTRIES, Mapping, OutOfMemory, Pte, PteFlags, PteValue, allocate_table, free_table,
    table_virt,
};
use crate::addr::{PAGE_SIZE, PhysAddr};
use core::ops::Range;

/// Levels count from 4 (root) to 1 (4 KiB pages).
const ROOT_LEVEL: u32 = 4;
const LOWER_HALF_END: usize = 1 << 47;

/// Bytes an entry of `level` covers.
const fn span(level: u32) -> usize {
    PAGE_SIZE << (9 * (level - 1))
}

const fn index(virt: usize, level: u32) -> usize {
    virt >> (12 + 9 * (level - 1)) & (ENTRIES - 1)
}

fn table<'a>(at: PhysAddr) -> &'a [Pte; ENTRIES] {
    // SAFETY: every table reachable from a live root is a page of 512 entries that is freed only with exclusive
    // access to the root; entries are atomics, so sharing is sound.
    unsafe { &*table_virt(at).cast() }
}

/// Flags of an entry that points at a table: restrictions are the leaf's business.
const TABLE_FLAGS: PteFlags = PteFlags::PRESENT.union(PteFlags::WRITABLE).union(PteFlags::ACCESSED);

/// The entry of `level` for `virt`, with the tables above it made; `None` below a large page.
pub(super) fn entry_or_create<'a>(
    root: PhysAddr,
    virt: usize,
    level: u32,
) -> Result<Option<&'a Pte>, OutOfMemory> {
    let mut at = root;
    let mut here = ROOT_LEVEL;
    loop {
        let entry = &table(at)[index(virt, here)];
        if here == level {
            return Ok(Some(entry));
        }
        let value = entry.load();
        at = if !value.is_present() {
            hang_table(entry, value)?
        } else if value.flags().contains(PteFlags::LARGE) {
            return Ok(None);
        } else {
            value.address()
        };
        here -= 1;
    }
}

/// Hangs a new table into an empty entry; another thread's table wins if it was first.
fn hang_table(entry: &Pte, empty: PteValue) -> Result<PhysAddr, OutOfMemory> {
    let new = allocate_table()?;
    match entry.compare_exchange(empty, PteValue::new(new, TABLE_FLAGS)) {
        Ok(()) => Ok(new),
        Err(other) => {
            // SAFETY: the new table was never reachable.
            unsafe { free_table(new) };
            Ok(other.address())
        }
    }
}

/// The leaf entry that covers `virt` and its level (1 or 2); it may be empty. `None` where a table is missing.
pub(super) fn find<'a>(root: PhysAddr, virt: usize) -> Option<(&'a Pte, u32)> {
    let mut at = root;
    let mut level = ROOT_LEVEL;
    loop {
        let entry = &table(at)[index(virt, level)];
        let value = entry.load();
        if level == 1 || value.flags().contains(PteFlags::LARGE) {
            return Some((entry, level));
        }
        if !value.is_present() {
            return None;
        }
        at = value.address();
        level -= 1;
    }
}

pub(super) fn mapping(virt: usize, value: PteValue, level: u32) -> Mapping {
    let size = span(level);
    let flags = value.flags() - PteFlags::LARGE;
    Mapping { virt: virt & !(size - 1), phys: value.address(), flags, size }
}

pub(super) fn for_each(root: PhysAddr, range: Range<usize>, visit: &mut impl FnMut(usize, &Pte, usize)) {
    let end = range.end.min(LOWER_HALF_END);
    let mut virt = range.start & !(PAGE_SIZE - 1);
    while virt < end {
        virt = visit_from(root, virt, end, visit);
    }
}

/// Visits one level-1 table, one large page, or nothing where a table is missing; where to go on.
fn visit_from(root: PhysAddr, virt: usize, end: usize, visit: &mut impl FnMut(usize, &Pte, usize)) -> usize {
    let mut at = root;
    for level in (1..=ROOT_LEVEL).rev() {
        if level == 1 {
            return visit_table(table(at), virt, end, visit);
        }
        let entry = &table(at)[index(virt, level)];
        let value = entry.load();
        let size = span(level);
        if value.is_present() && value.flags().contains(PteFlags::LARGE) {
            visit(virt & !(size - 1), entry, size);
        }
        if !value.is_present() || value.flags().contains(PteFlags::LARGE) {
            return (virt & !(size - 1)) + size;
        }
        at = value.address();
    }
    end
}

fn visit_table(
    entries: &[Pte; ENTRIES],
    start: usize,
    end: usize,
    visit: &mut impl FnMut(usize, &Pte, usize),
) -> usize {
    let mut virt = start;
    for entry in &entries[index(start, 1)..] {
        if virt >= end {
            break;
        }
        if entry.load() != PteValue::EMPTY {
            visit(virt, entry, PAGE_SIZE);
        }
        virt += PAGE_SIZE;
    }
    virt
}

pub(super) fn split_large(root: PhysAddr, virt: usize) -> Result<(), OutOfMemory> {
    let Some((entry, 2)) = find(root, virt) else { return Ok(()) };
    let new = allocate_table()?;
    loop {
        let value = entry.load();
        if !value.is_present() || !value.flags().contains(PteFlags::LARGE) {
            // SAFETY: the new table was never reachable.
            unsafe { free_table(new) };
            return Ok(());
        }
        let flags = value.flags() - PteFlags::LARGE;
        for (n, small) in table(new).iter().enumerate() {
            small.swap(PteValue::new(PhysAddr(value.address().0 + (n * PAGE_SIZE) as u64), flags));
        }
        // Accessed and dirty bits may change under us: then copy again.
        if entry.compare_exchange(value, PteValue::new(new, TABLE_FLAGS)).is_ok() {
            return Ok(());
        }
    }
}

/// Frees tables of the lower half that lie wholly inside `range` or are empty. Exclusive access.
pub(super) fn prune(root: PhysAddr, range: Range<usize>) {
    prune_table(root, ROOT_LEVEL, 0, &(range.start..range.end.min(LOWER_HALF_END)));
}

/// True if the table at `at` maps nothing afterwards.
fn prune_table(at: PhysAddr, level: u32, base: usize, range: &Range<usize>) -> bool {
    let entries = table(at);
    let size = span(level);
    let nr = if level == ROOT_LEVEL { ENTRIES / 2 } else { ENTRIES };
    let mut is_empty = true;
    for (n, entry) in entries.iter().take(nr).enumerate() {
        let value = entry.load();
        let start = base + n * size;
        let is_table = level > 1 && value.is_present() && !value.flags().contains(PteFlags::LARGE);
        let is_touched = start < range.end && start + size > range.start;
        if is_table && is_touched && prune_table(value.address(), level - 1, start, range) {
            entry.swap(PteValue::EMPTY);
            // SAFETY: exclusive access, and the table maps nothing.
            unsafe { free_table(value.address()) };
        } else if value != PteValue::EMPTY {
            is_empty = false;
        }
    }
    is_empty && level < ROOT_LEVEL
}

/// Frees every table of the lower half; leaves are forgotten.
pub(super) fn free_lower_half(root: PhysAddr) {
    for entry in &table(root)[..ENTRIES / 2] {
        let value = entry.swap(PteValue::EMPTY);
        if value.is_present() {
            free_tables_below(value.address(), ROOT_LEVEL - 1);
        }
    }
}

fn free_tables_below(at: PhysAddr, level: u32) {
    if level > 1 {
        for entry in table(at) {
            let value = entry.load();
            if value.is_present() && !value.flags().contains(PteFlags::LARGE) {
                free_tables_below(value.address(), level - 1);
            }
        }
    }
    // SAFETY: the caller drops the root this hung from.
    unsafe { free_table(at) };
}

/// Empties the lower half of the boot root; its tables are shared with the direct map and stay.
pub(super) fn clear_lower_half(root: PhysAddr) {
    for entry in &table(root)[..ENTRIES / 2] {
        entry.swap(PteValue::EMPTY);
    }
}

/// Copies the upper half of one root to another.
pub(super) fn copy_upper_half(from: PhysAddr, to: PhysAddr) {
    for (source, target) in table(from).iter().zip(table(to)).skip(ENTRIES / 2) {
        target.swap(source.load());
    }
}

const _: () = assert!(ADDRESS_MASK & 0xfff == 0, "flags and address share no bit");
