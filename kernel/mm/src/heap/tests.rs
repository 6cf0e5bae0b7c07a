//! Classes and slabs over memory of the host.
use super::slab::{ClassList, Object, SIZE_MAX, SIZES, SlabSource, class_of};
use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::vec::Vec;

#[derive(Default)]
struct Host {
    nr_slabs: Cell<usize>,
}

fn layout(nr: usize) -> Layout {
    Layout::from_size_align(nr * 4096, nr * 4096).expect("a power of two")
}

impl SlabSource for Host {
    fn alloc(&self, nr: usize) -> Option<NonNull<u8>> {
        self.nr_slabs.set(self.nr_slabs.get() + 1);
        // SAFETY: the size is not zero.
        NonNull::new(unsafe { alloc(layout(nr)) })
    }

    unsafe fn free(&self, at: NonNull<u8>, nr: usize) {
        self.nr_slabs.set(self.nr_slabs.get() - 1);
        // SAFETY: allocated above with this layout.
        unsafe { dealloc(at.as_ptr(), layout(nr)) };
    }
}

#[test]
fn every_class_fits_its_layouts() {
    for size in 1..=SIZE_MAX {
        for align in [1, 8, 16, 32, 64, 128, 512, 1024, 2048] {
            let Ok(wanted) = Layout::from_size_align(size, align) else { continue };
            let Some(class) = class_of(wanted) else { continue };
            assert!(SIZES[class] >= size, "{size} in class of {}", SIZES[class]);
            let natural = 1 << SIZES[class].trailing_zeros();
            assert!(natural >= align, "class {} aligned to {natural}, not {align}", SIZES[class]);
        }
    }
    assert!(class_of(Layout::from_size_align(2049, 1).expect("valid")).is_none());
    assert!(class_of(Layout::from_size_align(8, 4096).expect("valid")).is_none());
}

#[test]
fn objects_are_distinct_aligned_and_come_back() {
    for (class, &size) in SIZES.iter().enumerate() {
        let host = Host::default();
        let mut list = ClassList::new(class);
        let align = 1 << size.trailing_zeros();
        let mut seen = BTreeSet::new();
        let mut live: Vec<NonNull<Object>> = Vec::new();
        for n in 0..1000_usize {
            let object = list.pop(&host).expect("memory");
            let at = object.as_ptr() as usize;
            assert!(at.is_multiple_of(align));
            assert!(seen.range(at.saturating_sub(size - 1)..at + size).next().is_none());
            seen.insert(at);
            // SAFETY: the object is ours and this large: overlapping objects or headers would be destroyed.
            unsafe { object.cast::<u8>().as_ptr().write_bytes(n as u8, size) };
            live.push(object);
        }
        assert!(host.nr_slabs.get() > 1);
        // Free in another order than allocated.
        let (even, odd): (Vec<_>, Vec<_>) = live.iter().enumerate().partition(|(n, _)| n % 2 == 0);
        for (_, object) in even.into_iter().chain(odd) {
            // SAFETY: popped above, freed once.
            unsafe { list.push(*object, &host) };
        }
        assert_eq!(host.nr_slabs.get(), 1, "all but one slab go back");
    }
}
