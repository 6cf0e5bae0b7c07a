//! The map of an address space: non-overlapping extents, each with one protection and one backing.
//!
//! What it is: bookkeeping only. It never touches page tables, so a reservation of terabytes costs one entry and
//! everything here runs in unit tests on the host.
//!
//! Invariants: extents are page aligned, non-empty, disjoint and below [`USER_END`]; neighbours that could be one
//! extent are one (a heap that grows page by page would otherwise end as thousands of entries).
use super::object::Object;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use vfs::VnodeRef;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Lowest address a mapping may have (`vm.mmap_min_addr`).
pub const USER_START: u64 = 0x1_0000;
/// End of what applications may map: the last page below the canonical hole stays free, as on Linux.
pub const USER_END: u64 = 0x7fff_ffff_f000;

bitflags::bitflags! {
    /// What may be done with memory (`PROT_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u8 {
        /// Read.
        const READ = 1;
        /// Write.
        const WRITE = 2;
        /// Execute.
        const EXEC = 4;
    }
}

bitflags::bitflags! {
    /// What else is known of an extent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmaFlags: u16 {
        /// Grows downwards on a fault just below it.
        const GROWSDOWN = 1;
        /// A thread's stack: touched sparsely, so never in huge pages.
        const STACK = 2;
        /// The application asked for small pages.
        const NOHUGE = 4;
        /// Not inherited by fork.
        const DONTFORK = 8;
        /// Reads as zeroes in the child of a fork.
        const WIPEONFORK = 16;
        /// The heap made by brk.
        const HEAP = 32;
        /// Belongs to the kernel (vDSO): may be unmapped, not remapped.
        const SPECIAL = 64;
    }
}

/// A file behind a private mapping.
#[derive(Clone)]
pub struct FileSource {
    /// The file.
    pub vnode: VnodeRef,
    /// Its path when it was mapped, for `/proc/self/maps`.
    pub name: Arc<[u8]>,
}

impl core::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FileSource(ino {})", self.vnode.ino())
    }
}

/// Where an extent's pages come from.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Zeroes, private.
    Anonymous,
    /// A file from byte `offset` on, private: written pages become anonymous.
    Private {
        /// The file.
        file: FileSource,
        /// Offset in the file of the extent's first byte.
        offset: u64,
    },
    /// Pages shared with everyone who maps the object.
    Shared {
        /// The object.
        object: Arc<Object>,
        /// Offset in the object of the extent's first byte.
        offset: u64,
        /// Whether mprotect may add write permission.
        may_write: bool,
    },
}

impl Backing {
    /// The same backing, `bytes` further in.
    fn advanced(&self, bytes: u64) -> Self {
        let mut next = self.clone();
        match &mut next {
            Self::Anonymous => {}
            Self::Private { offset, .. } | Self::Shared { offset, .. } => *offset += bytes,
        }
        next
    }

    /// Whether `next` goes on where `self`, `len` bytes long, ends.
    fn continues(&self, len: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::Private { file: a, offset: x }, Self::Private { file: b, offset: y }) => {
                Arc::ptr_eq(&a.vnode, &b.vnode) && x + len == *y
            }
            (
                Self::Shared { object: a, offset: x, may_write: m },
                Self::Shared { object: b, offset: y, may_write: n },
            ) => Arc::ptr_eq(a, b) && x + len == *y && m == n,
            _ => false,
        }
    }
}

/// One extent.
#[derive(Clone, Debug)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// Past the last byte.
    pub end: u64,
    /// Protection.
    pub prot: Prot,
    /// Flags.
    pub flags: VmaFlags,
    /// Source of its pages.
    pub backing: Backing,
}

impl Vma {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never true: extents are not empty.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// The part of it inside `range`, if any.
    pub fn clip(&self, range: &Range<u64>) -> Option<Self> {
        let (start, end) = (self.start.max(range.start), self.end.min(range.end));
        (start < end).then(|| Self {
            start,
            end,
            prot: self.prot,
            flags: self.flags,
            backing: self.backing.advanced(start - self.start),
        })
    }

    fn joins(&self, next: &Self) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.flags == next.flags
            && self.backing.continues(self.len(), &next.backing)
    }
}

/// The extents of one address space.
#[derive(Debug, Default)]
pub struct VmaTree {
    map: BTreeMap<u64, Vma>,
    /// Bytes in all extents.
    total: u64,
    /// Where the search for free space starts, so that a sequence of mappings is not a sequence of full walks:
    /// everything from here to the search limit was taken when it was set.
    hint: u64,
}

impl VmaTree {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes mapped.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Number of extents.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The extent that holds `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..=addr).next_back().map(|(_, v)| v).filter(|v| addr < v.end)
    }

    /// The first extent that ends after `addr`.
    pub fn find_or_next(&self, addr: u64) -> Option<&Vma> {
        self.find(addr).or_else(|| self.map.range(addr..).next().map(|(_, v)| v))
    }

    /// All extents in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.map.values()
    }

    /// The extents that overlap `range`, in order, whole.
    pub fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = &Vma> {
        let first = self.find(range.start).map_or(range.start, |v| v.start);
        let end = range.end;
        self.map.range(first..end.max(first)).map(|(_, v)| v)
    }

    /// Whether every byte of `range` is mapped.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let mut at = range.start;
        for v in self.overlapping(range) {
            if v.start > at {
                return false;
            }
            at = v.end;
        }
        at >= range.end
    }

    /// Adds an extent to free space, joined with its neighbours where they are alike.
    pub fn insert(&mut self, mut vma: Vma) {
        debug_assert!(vma.start < vma.end && vma.start.is_multiple_of(PAGE) && vma.end.is_multiple_of(PAGE));
        debug_assert!(self.overlapping(&(vma.start..vma.end)).next().is_none(), "extents overlap");
        self.total += vma.len();
        if let Some((_, before)) = self.map.range(..vma.start).next_back()
            && before.joins(&vma)
        {
            let start = before.start;
            if let Some(before) = self.map.remove(&start) {
                vma = Vma { start: before.start, backing: before.backing, ..vma };
            }
        }
        if let Some(after) = self.map.get(&vma.end)
            && vma.joins(after)
        {
            let end = after.end;
            self.map.remove(&vma.end);
            vma.end = end;
        }
        self.map.insert(vma.start, vma);
    }

    /// Takes everything in `range` out, splitting extents at its ends; what was there.
    pub fn remove(&mut self, range: &Range<u64>) -> Vec<Vma> {
        let starts: Vec<u64> = self.overlapping(range).map(|v| v.start).collect();
        let mut removed = Vec::with_capacity(starts.len());
        for start in starts {
            let Some(vma) = self.map.remove(&start) else { continue };
            if let Some(left) = vma.clip(&(0..range.start)) {
                self.map.insert(left.start, left);
            }
            if let Some(right) = vma.clip(&(range.end..u64::MAX)) {
                self.map.insert(right.start, right);
            }
            if let Some(middle) = vma.clip(range) {
                self.total -= middle.len();
                self.hint = self.hint.max(middle.end);
                removed.push(middle);
            }
        }
        removed
    }

    /// Changes every extent inside `range` by `change`, splitting at its ends and joining what became alike.
    pub fn update(&mut self, range: &Range<u64>, mut change: impl FnMut(&mut Vma)) {
        for mut vma in self.remove(range) {
            change(&mut vma);
            self.insert(vma);
        }
    }

    /// The highest free range of `len` bytes inside `within`, aligned to `align`; its start.
    pub fn find_free(&mut self, len: u64, align: u64, within: &Range<u64>) -> Option<u64> {
        let start_at = if (within.start..within.end).contains(&self.hint) { self.hint } else { within.end };
        let found = self.search(len, align, within.start, start_at).or_else(|| {
            (start_at < within.end).then(|| self.search(len, align, within.start, within.end)).flatten()
        })?;
        if len == PAGE || align == PAGE {
            self.hint = found;
        }
        Some(found)
    }

    fn search(&self, len: u64, align: u64, floor: u64, ceiling: u64) -> Option<u64> {
        let mut top = ceiling;
        for vma in self.map.range(..ceiling).rev().map(|(_, v)| v) {
            if vma.end <= top
                && let Some(at) = fits(len, align, vma.end.max(floor), top)
            {
                return Some(at);
            }
            top = top.min(vma.start);
            if top <= floor {
                return None;
            }
        }
        fits(len, align, floor, top)
    }
}

/// The highest aligned start of `len` bytes in `bottom..top`.
fn fits(len: u64, align: u64, bottom: u64, top: u64) -> Option<u64> {
    let at = top.checked_sub(len)? / align * align;
    (at >= bottom).then_some(at)
}
