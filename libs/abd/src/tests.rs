extern crate std;
use crate::{Abd, AbdMut, PAGE_SIZE};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

#[test]
fn write_after_share_leaves_the_sharer_alone_and_copies_one_page() {
    let mut live = Abd::copy_from(&vec![1; 8 * PAGE_SIZE]);
    let frozen = live.clone();
    live.write_at(PAGE_SIZE + 10, &[2; 20]);
    assert_eq!(frozen.to_vec(), vec![1; 8 * PAGE_SIZE]);
    assert_eq!(live.to_vec()[PAGE_SIZE + 9..PAGE_SIZE + 31], [&[1][..], &[2; 20], &[1]].concat());
    let shares = |offset| live.page_at(offset).unwrap().as_ptr() == frozen.page_at(offset).unwrap().as_ptr();
    let shared: Vec<bool> = (0..8).map(|p| shares(p * PAGE_SIZE)).collect();
    assert_eq!(shared, [true, false, true, true, true, true, true, true]);
}

#[test]
fn unique_buffer_is_written_in_place() {
    let mut live = Abd::zeroed(3 * PAGE_SIZE);
    let page = live.page_at(0).unwrap().as_ptr();
    live.write_at(5, b"abc");
    assert_eq!(live.page_at(0).unwrap().as_ptr(), page);
    assert!(live.clone().try_into_mut().is_err());
    assert!(live.try_into_mut().is_ok());
}

#[test]
fn make_mut_gathers_and_leaves_sharers_alone() {
    let mut live = Abd::concat([Abd::copy_from(&[1; 600]), Abd::copy_from(&[2; 5000])]);
    let frozen = live.clone();
    live.make_mut()[599] = 9;
    assert_eq!(live.as_slice().unwrap()[598..602], [1, 9, 2, 2]);
    assert_eq!(frozen.to_vec()[598..602], [1, 1, 2, 2]);
    let address = live.as_slice().unwrap().as_ptr();
    assert_eq!(live.make_mut().as_ptr(), address);
    assert!(Abd::empty().make_mut().is_empty());
}

proptest! {
    #[test]
    fn behaves_like_a_vec(ops in prop::collection::vec((0usize..20_000, prop::collection::vec(any::<u8>(), 0..6000), any::<bool>()), 1..20)) {
        let mut model = vec![0u8; 26_000];
        let mut abd = Abd::concat([Abd::zeroed(10_000), Abd::zeroed(700), Abd::zeroed(15_300)]);
        let mut kept: Vec<(Abd, Vec<u8>)> = Vec::new();
        for (offset, bytes, keep) in ops {
            if keep {
                kept.push((abd.clone(), model.clone()));
            }
            abd.write_at(offset, &bytes);
            model[offset..offset + bytes.len()].copy_from_slice(&bytes);
            let end = offset + bytes.len();
            prop_assert_eq!(abd.slice(offset..end).to_vec(), &bytes[..]);
            prop_assert_eq!(abd.chunks_of(offset..end).collect::<Vec<_>>().concat(), &bytes[..]);
        }
        prop_assert_eq!(abd.to_vec(), model);
        for (abd, model) in kept {
            prop_assert_eq!(abd.to_vec(), model);
        }
    }

    #[test]
    fn concat_and_read_at_agree(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..6)) {
        let all = parts.concat();
        let abd = AbdMut::concat(parts.iter().map(|p| AbdMut::copy_from(p)));
        let mut out = vec![0; all.len()];
        abd.read_at(0, &mut out);
        prop_assert_eq!(&out, &all);
        prop_assert_eq!(abd.freeze().to_contiguous().into_owned(), all);
    }
}

#[test]
fn joining_copies_the_pieces_in_order() {
    let pieces = [Abd::copy_from(&[1; 700]), Abd::empty(), Abd::copy_from(&[2; 5000]), Abd::copy_from(&[3])];
    let live = Abd::concat(pieces);
    let joined = live.joined();
    assert_eq!(joined.as_slice(), Some(&live.to_vec()[..]));
    assert_ne!(joined.chunks().next().map(<[u8]>::as_ptr), live.chunks().next().map(<[u8]>::as_ptr));
    assert!(Abd::empty().joined().is_empty());
}
