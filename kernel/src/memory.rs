//! From the loader's memory map to frames and a heap.
//!
//! Never handed out: the first MiB (firmware, trampoline), the image with its symbol table, the modules.
use crate::{entry, panic};
use core::ops::Range;
use hal::addr::{IMAGE_BASE, PhysAddr};
use hal::bootinfo::{self, BootInfo};
use hal::paging::kernel;
use mm::{frames, heap};

/// What the entry code mapped.
const BOOT_MAP_END: u64 = 4 << 30;
const LOW_MEMORY_END: u64 = 1 << 20;
const PIECES_MAX: usize = 96;
const TAKEN_MAX: usize = 8;

/// Free pieces of RAM, in a place that needs no heap.
struct Pieces {
    list: [Range<u64>; PIECES_MAX],
    nr: usize,
}

impl Pieces {
    fn push(&mut self, piece: Range<u64>) {
        if let Some(slot) = self.list.get_mut(self.nr) {
            *slot = piece;
            self.nr += 1;
        }
    }

    fn as_slice(&self) -> &[Range<u64>] {
        &self.list[..self.nr]
    }
}

/// Sets up frames, the heap of this CPU, and the direct map of all RAM.
///
/// # Safety
/// Called once; `info` is the loader's map and nothing but this kernel uses RAM.
pub unsafe fn init(info: &BootInfo) {
    let taken = taken(info);
    let below = |r: &Range<u64>| r.start.min(BOOT_MAP_END)..r.end.min(BOOT_MAP_END);
    let above = |r: &Range<u64>| r.start.max(BOOT_MAP_END)..r.end.max(BOOT_MAP_END);
    let (mut low, mut high) = (empty(), empty());
    bootinfo::without(info.ram(), &taken, |piece| {
        for (pieces, part) in [(&mut low, below(&piece)), (&mut high, above(&piece))] {
            if part.start < part.end {
                pieces.push(part);
            }
        }
    });
    let ram_end = info.ram().iter().map(|r| r.end).max().unwrap_or(0);
    // SAFETY: the pieces are free RAM inside the boot map.
    unsafe { frames::init(low.as_slice(), (ram_end >> 12) as usize) };
    heap::init_this_cpu();
    uncache_holes(info);
    for piece in high.as_slice() {
        if let Err(e) = kernel::map_ram(PhysAddr(piece.start), PhysAddr(piece.end)) {
            panic!("no memory to map {piece:#x?}: {e:?}");
        }
        // SAFETY: free RAM, mapped now.
        unsafe { frames::add(piece.clone()) };
    }
}

const fn empty() -> Pieces {
    const NOTHING: Range<u64> = 0..0;
    Pieces { list: [NOTHING; PIECES_MAX], nr: 0 }
}

fn taken(info: &BootInfo) -> [Range<u64>; TAKEN_MAX] {
    let image = entry::image();
    let symbols_end = panic::symbols().map_or(image.end, |symbols| symbols.end);
    let phys = |virt: usize| (virt - IMAGE_BASE) as u64;
    let mut taken = [const { 0..0 }; TAKEN_MAX];
    taken[0] = 0..LOW_MEMORY_END;
    taken[1] = phys(image.start)..phys(symbols_end.next_multiple_of(4096));
    for (slot, module) in taken[2..].iter_mut().zip(info.modules()) {
        *slot = module.start & !0xfff..module.end.next_multiple_of(4096);
    }
    taken
}

/// The boot map covers the first 4 GiB cached; device windows in its holes must not be.
fn uncache_holes(info: &BootInfo) {
    bootinfo::without(core::slice::from_ref(&(0..BOOT_MAP_END)), info.ram(), |hole| {
        kernel::uncache_direct(PhysAddr(hole.start), PhysAddr(hole.end));
    });
    hal::tlb::flush_all_local();
}
