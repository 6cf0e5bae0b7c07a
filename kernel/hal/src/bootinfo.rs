//! What the loader tells: memory map, command line, modules, ACPI root. The structure is `hvm_start_info` of the PVH
//! boot protocol; our BIOS loader builds the same.
//!
//! Everything is copied: the originals lie in memory that is about to be handed out.
use crate::addr::PhysAddr;
use core::ops::Range;

const MAGIC: u32 = 0x336e_c578;
const REGIONS_MAX: usize = 64;
const MODULES_MAX: usize = 4;
/// Longest command line kept.
pub const COMMAND_LINE_MAX: usize = 4096;
/// Type of usable RAM in the memory map.
const TYPE_RAM: u32 = 1;

#[derive(Clone, Copy)]
#[repr(C)]
struct RawStartInfo {
    magic: u32,
    version: u32,
    _flags: u32,
    nr_modules: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    nr_regions: u32,
    _reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct RawModule {
    start: u64,
    len: u64,
    _command_line: u64,
    _reserved: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct RawRegion {
    start: u64,
    len: u64,
    kind: u32,
    _reserved: u32,
}

const _: () = assert!(size_of::<RawStartInfo>() == 56 && size_of::<RawRegion>() == 24, "PVH layout");

/// The loader did not leave start information where it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStartInfo;

/// What the loader told.
#[derive(Debug)]
pub struct BootInfo {
    ram: [Range<u64>; REGIONS_MAX],
    nr_ram: usize,
    modules: [Range<u64>; MODULES_MAX],
    nr_modules: usize,
    command_line: [u8; COMMAND_LINE_MAX],
    command_line_len: usize,
    /// Physical address of the ACPI root pointer; 0 if the loader does not know.
    pub rsdp: u64,
}

impl BootInfo {
    const fn empty() -> Self {
        const NOTHING: Range<u64> = 0..0;
        Self {
            ram: [NOTHING; REGIONS_MAX],
            nr_ram: 0,
            modules: [NOTHING; MODULES_MAX],
            nr_modules: 0,
            command_line: [0; COMMAND_LINE_MAX],
            command_line_len: 0,
            rsdp: 0,
        }
    }

    /// Reads the start information at `at`.
    ///
    /// # Errors
    /// [`BadStartInfo`].
    ///
    /// # Safety
    /// The direct map covers the first 4 GiB, and the structures are as the loader left them.
    pub unsafe fn read(at: PhysAddr) -> Result<Self, BadStartInfo> {
        // SAFETY: loaders put everything below 4 GiB; plain integers are valid whatever the bytes.
        let raw = unsafe { at.to_virt().cast::<RawStartInfo>().read_unaligned() };
        if raw.magic != MAGIC {
            return Err(BadStartInfo);
        }
        let mut info = Self::empty();
        info.rsdp = raw.rsdp;
        let nr_regions = if raw.version >= 1 { raw.nr_regions as usize } else { 0 };
        for n in 0..nr_regions.min(256) {
            // SAFETY: as above, inside the map's count.
            let region: RawRegion = unsafe { nth(raw.memory_map, n) };
            if region.kind == TYPE_RAM {
                info.add_ram(region.start..region.start.saturating_add(region.len));
            }
        }
        for n in 0..(raw.nr_modules as usize).min(MODULES_MAX) {
            // SAFETY: as above, inside the list's count.
            let module: RawModule = unsafe { nth(raw.modules, n) };
            info.modules[n] = module.start..module.start.saturating_add(module.len);
            info.nr_modules = n + 1;
        }
        if raw.command_line != 0 {
            // SAFETY: as above; reads up to the terminating zero.
            unsafe { info.copy_command_line(PhysAddr(raw.command_line)) };
        }
        Ok(info)
    }

    unsafe fn copy_command_line(&mut self, at: PhysAddr) {
        for (n, byte) in self.command_line.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *byte = unsafe { at.to_virt().add(n).read() };
            if *byte == 0 {
                break;
            }
            self.command_line_len = n + 1;
        }
    }

    fn add_ram(&mut self, range: Range<u64>) {
        if range.start < range.end && self.nr_ram < REGIONS_MAX {
            self.ram[self.nr_ram] = range;
            self.nr_ram += 1;
        }
    }

    /// Usable RAM as the loader reports it, in its order.
    pub fn ram(&self) -> &[Range<u64>] {
        &self.ram[..self.nr_ram]
    }

    /// Modules: `-initrd` and its like.
    pub fn modules(&self) -> &[Range<u64>] {
        &self.modules[..self.nr_modules]
    }

    /// The command line; bytes that are not UTF-8 end it.
    pub fn command_line(&self) -> &str {
        let bytes = &self.command_line[..self.command_line_len];
        match core::str::from_utf8(bytes) {
            Ok(line) => line,
            Err(e) => core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or(""),
        }
    }
}

unsafe fn nth<T: Copy>(list: u64, n: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { PhysAddr(list).to_virt().cast::<T>().add(n).read_unaligned() }
}

/// Free pieces of `ram` after taking out `taken`, page by page. `visit` gets them in ascending order per region.
pub fn without(ram: &[Range<u64>], taken: &[Range<u64>], mut visit: impl FnMut(Range<u64>)) {
    for region in ram {
        let mut start = region.start;
        while start < region.end {
            // The next taken range that ends after the start.
            let next = taken.iter().filter(|t| t.end > start && t.start < region.end).min_by_key(|t| t.start);
            match next {
                None => {
                    visit(start..region.end);
                    break;
                }
                Some(taken) => {
                    if taken.start > start {
                        visit(start..taken.start);
                    }
                    start = taken.end;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn pieces(ram: &[Range<u64>], taken: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut found = Vec::new();
        without(ram, taken, |piece| found.push(piece));
        found
    }

    #[test]
    fn taken_ranges_are_left_out() {
        let ram = [0..100, 200..300];
        assert_eq!(pieces(&ram, &[]), ram);
        assert_eq!(pieces(&ram, &[0..50, 50..100]), &ram[1..]);
        assert_eq!(pieces(&ram, &[10..20, 90..210, 15..30]), [0..10, 30..90, 210..300]);
        assert_eq!(pieces(&ram, std::slice::from_ref(&(0..1000))), []);
    }

    #[test]
    fn agrees_with_a_bitmap() {
        let mut state = 1_u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..2000 {
            let ram = [next(20)..20 + next(20), 50..50 + next(30)];
            let taken: Vec<Range<u64>> = (0..4)
                .map(|_| {
                    let s = next(80);
                    s..s + next(30)
                })
                .collect();
            let is_free =
                |x: u64| ram.iter().any(|r| r.contains(&x)) && !taken.iter().any(|t| t.contains(&x));
            let found = pieces(&ram, &taken);
            for x in 0..120 {
                assert_eq!(found.iter().any(|r| r.contains(&x)), is_free(x), "{x} of {ram:?} less {taken:?}");
            }
        }
    }
}
