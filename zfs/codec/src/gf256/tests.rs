use super::*;
use crate::simd::levels;
use proptest::prelude::*;

#[test]
fn products_are_those_of_the_field() {
    for a in 0..=255u8 {
        assert_eq!((mul(a, 0), mul(a, 1)), (0, a));
        assert_eq!(double_word(u64::from_le_bytes([a; 8])), u64::from_le_bytes([mul(a, 2); 8]));
        for b in 0..=255u8 {
            assert_eq!(mul(a, b), mul(b, a));
            assert_eq!(mul(mul(a, b), 2), mul(a, mul(b, 2)));
        }
    }
}

proptest! {
    #[test]
    fn vectors_and_scalars_agree(
        out in prop::collection::vec(any::<u8>(), 0..300), data in prop::collection::vec(any::<u8>(), 0..300),
        weight: u8, skip in 0usize..5,
    ) {
        // Odd beginnings: nothing is aligned.
        let (out, data) = (&out[skip.min(out.len())..], &data[skip.min(data.len())..]);
        let at = |n: usize| data.get(n).copied();
        for level in levels() {
            let mut sum = out.to_vec();
            add_with(level, &mut sum, data);
            let mut horner = out.to_vec();
            double_add_with(level, &mut horner, data);
            let mut scaled = out.to_vec();
            mul_add_with(level, &mut scaled, data, weight);
            for (n, old) in out.iter().enumerate() {
                prop_assert_eq!(sum[n], old ^ at(n).unwrap_or(0), "{:?} sum {}", level, n);
                prop_assert_eq!(horner[n], mul(*old, 2) ^ at(n).unwrap_or(0), "{:?} horner {}", level, n);
                prop_assert_eq!(scaled[n], old ^ mul(at(n).unwrap_or(0), weight), "{:?} scaled {}", level, n);
            }
        }
    }
}
