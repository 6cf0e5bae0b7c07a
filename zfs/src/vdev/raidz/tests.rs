use super::map::{Column, Map};
use super::parity::{parity, reconstruct};
use super::*;
use codec::gf256::mul;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn the_field_is_one() {
    for a in 1..=255u8 {
        let products: BTreeSet<u8> = (0..=255).map(|b| mul(a, b)).collect();
        assert_eq!(products.len(), 256, "{a}");
        assert_eq!(mul(a, 3), mul(a, 2) ^ a);
    }
    assert_eq!(mul(0x80, 2), 0x1d);
}

#[test]
fn columns_lie_where_the_format_says() {
    // Three children, single parity, 512-byte sectors: five sectors from sector 4 on. Two rows and one sector more:
    // parity and first data column have three.
    let map = Map::new(4 * 512, 5 * 512, 9, 3, 1);
    let column =
        |child, offset: u64, sectors: usize| Column { child, offset: offset * 512, len: sectors * 512 };
    assert_eq!(map.columns, [column(1, 1, 3), column(2, 1, 3), column(0, 2, 2)]);
    let map = Map::new((1 << 20) + 512, 512, 9, 3, 1);
    assert_eq!(map.columns[0].child, (2049 + 1) % 3, "parity and data change places in every second MiB");
    assert_eq!(Map::asize(512, 9, 3, 1), 1024);
    assert_eq!(Map::asize(1536, 9, 3, 1), 3072, "3 data, 2 parity, 1 to round up to 2");
    assert_eq!(Map::asize(131_072, 12, 6, 2), 48 * 4096, "32 data, 16 parity");
}

#[test]
fn columns_of_the_widest_vdev_come_back() {
    let data: Vec<Vec<u8>> =
        (0..252u8).map(|i| (0..16).map(|at| i.wrapping_mul(31) ^ at).collect()).collect();
    let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let parities: Vec<Vec<u8>> = (0..3).map(|row| parity(row, &slices, 16)).collect();
    let left: Vec<(usize, &[u8])> = parities.iter().map(Vec::as_slice).enumerate().collect();
    let lost = [(0, 16), (130, 16), (251, 16)];
    let known: Vec<Option<&[u8]>> =
        (0..252).map(|i| (!lost.iter().any(|(column, _)| *column == i)).then_some(slices[i])).collect();
    let rebuilt = reconstruct(&known, &lost, &left).unwrap();
    assert!(lost.iter().zip(&rebuilt).all(|((column, _), bytes)| *bytes == data[*column]));
}

proptest! {
    #[test]
    fn blocks_beside_each_other_share_no_sector(
        width in 2usize..12, nparity in 1usize..4, start in 0u64..5000,
        sizes in prop::collection::vec(1u64..70, 1..12),
    ) {
        prop_assume!(width > nparity);
        let mut taken = BTreeSet::new();
        let mut at = start;
        for sectors in sizes {
            let asize = Map::asize(sectors << 9, 9, width, nparity) >> 9;
            let map = Map::new(at << 9, (sectors as usize) << 9, 9, width, nparity);
            let data: usize = map.data().iter().map(|c| c.len).sum();
            prop_assert_eq!(data as u64, sectors << 9);
            for column in &map.columns {
                for sector in 0..(column.len >> 9) as u64 {
                    let place = (column.child, (column.offset >> 9) + sector);
                    prop_assert!(taken.insert(place), "{:?}", place);
                    // The same sector as a flat address is inside the allocation.
                    let flat = place.1 * width as u64 + place.0 as u64;
                    prop_assert!((at..at + asize).contains(&flat));
                }
            }
            at += asize;
        }
    }

    #[test]
    fn any_lost_columns_come_back(
        nr_columns in 1usize..10, nparity in 1usize..4, seed in any::<u64>(), long in 0usize..10,
        lost in prop::collection::btree_set(0usize..13, 0..4),
    ) {
        let mut state = seed | 1;
        let mut byte = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (state >> 56) as u8 };
        let data: Vec<Vec<u8>> =
            (0..nr_columns).map(|i| (0..if i < long { 96 } else { 64 }).map(|_| byte()).collect()).collect();
        let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let longest = slices.iter().map(|s| s.len()).max().unwrap();
        let parities: Vec<Vec<u8>> = (0..nparity).map(|row| parity(row, &slices, longest)).collect();
        let lost: Vec<usize> = lost.into_iter().filter(|i| *i < nr_columns + nparity).collect();
        prop_assume!(lost.len() <= nparity);
        let known: Vec<Option<&[u8]>> = (0..nr_columns).map(|i| (!lost.contains(&i)).then_some(slices[i])).collect();
        let lost_data: Vec<(usize, usize)> =
            lost.iter().filter(|i| **i < nr_columns).map(|i| (*i, data[*i].len())).collect();
        let left: Vec<(usize, &[u8])> = (0..nparity)
            .filter(|row| !lost.contains(&(nr_columns + row)))
            .map(|row| (row, parities[row].as_slice()))
            .collect();
        let rebuilt = reconstruct(&known, &lost_data, &left).unwrap();
        for ((index, _), bytes) in lost_data.iter().zip(rebuilt) {
            prop_assert_eq!(&bytes, &data[*index]);
        }
    }
}
