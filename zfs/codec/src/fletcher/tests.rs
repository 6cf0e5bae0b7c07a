//! The vector forms equal the scalar one, in one piece and in several.

use super::*;
use crate::simd::levels;
use proptest::prelude::*;

fn scalar4(bytes: &[u8]) -> Digest {
    let mut sums = Fletcher4::default();
    sums.update_scalar(bytes, u32::from_le_bytes);
    sums.finish()
}

fn with(level: Simd, bytes: &[u8]) -> Digest {
    let mut sums = Fletcher4::default();
    sums.update_with(level, bytes);
    sums.finish()
}

proptest! {
    #[test]
    fn vector_equals_scalar(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let bytes = &bytes[..bytes.len() & !3];
        let expected = scalar4(bytes);
        for level in levels() {
            prop_assert_eq!(with(level, bytes), expected, "{:?}", level);
        }
    }

    #[test]
    fn pieces_equal_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
        let bytes = &bytes[..bytes.len() & !15];
        let cut = cut.index(bytes.len() + 1) & !15;
        let mut four = Fletcher4::default();
        let mut two = Fletcher2::default();
        for piece in [&bytes[..cut], &bytes[cut..]] {
            four.update(piece);
            two.update(piece);
        }
        prop_assert_eq!(four.finish(), scalar4(bytes));
        prop_assert_eq!(two.finish(), fletcher2(bytes));
    }

    #[test]
    fn foreign_is_native_of_swapped(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let bytes = &bytes[..bytes.len() & !15];
        let mut swapped = bytes.to_vec();
        swapped.as_chunks_mut::<4>().0.iter_mut().for_each(|w| w.reverse());
        let mut four = Fletcher4::default();
        four.update_foreign(&swapped);
        prop_assert_eq!(four.finish(), scalar4(bytes));
        swapped.copy_from_slice(bytes);
        swapped.as_chunks_mut::<8>().0.iter_mut().for_each(|w| w.reverse());
        let mut two = Fletcher2::default();
        two.update_foreign(&swapped);
        prop_assert_eq!(two.finish(), fletcher2(bytes));
    }
}

#[test]
fn known_answers() {
    // words 1, 2, 3: a = 6, b = 1 + 3 + 6, c = 1 + 4 + 10, d = 1 + 5 + 15
    let bytes: std::vec::Vec<u8> = [1u32, 2, 3].iter().flat_map(|w| w.to_le_bytes()).collect();
    assert_eq!(fletcher4(&bytes), Digest([6, 10, 15, 21]));
    let words: std::vec::Vec<u8> = [1u64, 2, 3, 4].iter().flat_map(|w| w.to_le_bytes()).collect();
    assert_eq!(fletcher2(&words), Digest([4, 6, 5, 8]));
}

#[test]
fn large_blocks_do_not_lose_high_bits() {
    let bytes = vec![0xff; 16 << 20];
    for level in levels() {
        assert_eq!(with(level, &bytes), scalar4(&bytes), "{level:?}");
    }
}
