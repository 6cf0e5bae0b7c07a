//! The buddy allocator against a map of who owns what.
use super::buddy::{Buddy, Links, NOT_FREE, nr_top_links};
use std::vec::Vec;

const FRAMES: usize = 40_000;

fn buddy() -> (Buddy, Vec<u64>) {
    let mut memory = std::vec![0_u64; (FRAMES + 1) * 512];
    let at = memory.as_mut_ptr().cast::<u8>();
    let aligned = at.wrapping_add(at.align_offset(4096));
    let state = std::vec![NOT_FREE; FRAMES].leak();
    // SAFETY: links are plain numbers; what they start as does not matter.
    let links = std::vec![unsafe { std::mem::zeroed::<Links>() }; nr_top_links(FRAMES)].leak();
    (Buddy::new(aligned, state, links), memory)
}

fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[test]
fn never_hands_out_a_frame_twice_and_loses_none() {
    for seed in 1..6 {
        let (mut buddy, _memory) = buddy();
        buddy.free_range(1, FRAMES - 1);
        let mut owned = std::vec![false; FRAMES];
        let mut live: Vec<(usize, usize)> = Vec::new();
        let mut state = seed;
        for _ in 0..2000 {
            if next(&mut state).is_multiple_of(2) {
                let (nr, order) = (next(&mut state) % 70 + 1, (next(&mut state) % 5) as u32);
                let Some(pfn) = buddy.alloc_range(nr, order) else { continue };
                assert!(pfn.is_multiple_of(1 << order));
                assert!(owned[pfn..pfn + nr].iter().all(|o| !o), "handed out twice");
                owned[pfn..pfn + nr].fill(true);
                live.push((pfn, nr));
            } else if !live.is_empty() {
                let (pfn, nr) = live.swap_remove(next(&mut state) % live.len());
                let part = next(&mut state) % nr;
                buddy.free_range(pfn, part);
                buddy.free_range(pfn + part, nr - part);
                owned[pfn..pfn + nr].fill(false);
            }
            let nr_owned = owned.iter().filter(|o| **o).count();
            assert_eq!(buddy.nr_free(), FRAMES - 1 - nr_owned);
        }
        for (pfn, nr) in live {
            buddy.free_range(pfn, nr);
        }
        assert!(buddy.alloc_range(1 << 14, 14).is_some(), "blocks merge again");
    }
}

#[test]
fn refuses_what_it_cannot_have() {
    let (mut buddy, _memory) = buddy();
    buddy.free_range(0, 100);
    assert_eq!(buddy.alloc_range(0, 0), None);
    assert_eq!(buddy.alloc_range(usize::MAX, 0), None);
    assert_eq!(buddy.alloc_range(101, 0), None);
    assert_eq!(buddy.alloc_range(1, 14), None);
    assert_eq!(buddy.nr_free(), 100);
}
