//! Packing and finding, without an object.
use super::pack::{Value, pack, packed_size, walk};
use crate::Error;
use ondisk::sa::SaHeader;
use proptest::prelude::*;
use std::vec::Vec;

extern crate std;
use rt_std as _;

/// Lengths of a layout and values that fit them.
fn attributes() -> impl Strategy<Value = (Vec<u16>, Vec<Value>)> {
    let one = (prop_oneof![Just(0u16), Just(8), Just(16), Just(88)], 0usize..70);
    prop::collection::vec(one, 0..14).prop_map(|list| {
        let value = |(nr, (length, variable)): (usize, &(u16, usize))| {
            let len = if *length == 0 { *variable } else { usize::from(*length) };
            Value { number: nr as u16, bytes: smallvec::smallvec![nr as u8 + 1; len] }
        };
        (list.iter().map(|(length, _)| *length).collect(), list.iter().enumerate().map(value).collect())
    })
}

proptest! {
    #[test]
    fn what_is_packed_is_found((lengths, values) in attributes()) {
        let packed = pack(7, &lengths, &values).unwrap();
        prop_assert_eq!(packed.len(), packed_size(&lengths, &values).unwrap());
        prop_assert!(packed.len().is_multiple_of(8));
        let header = SaHeader::parse(&packed).unwrap();
        prop_assert_eq!(header.layout, 7);
        let mut seen = Vec::new();
        walk(&packed, &header, &lengths, |place, range| {
            seen.push(Value { number: place as u16, bytes: packed[range].into() });
            true
        }).unwrap();
        prop_assert_eq!(seen, values);
    }

    #[test]
    fn hostile_bytes_give_errors(mut bytes in prop::collection::vec(any::<u8>(), 0..400), (lengths, _) in attributes()) {
        if bytes.len() > 4 {
            bytes[..4].copy_from_slice(&0x2f505a_u32.to_le_bytes());
        }
        if let Ok(header) = SaHeader::parse(&bytes) {
            let _ = walk(&bytes, &header, &lengths, |_, range| bytes.get(range).is_some());
        }
    }
}

#[test]
fn a_file_as_openzfs_lays_it_out() {
    // MODE..LINKS and PROJID, DACL_COUNT: 8 bytes each, four times: 16; DACL_ACES: three trivial entries of 8 bytes.
    let lengths = [8, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16, 8, 8, 8, 0];
    let value = |(nr, length): (usize, &u16)| Value {
        number: nr as u16,
        bytes: smallvec::smallvec![0; if *length == 0 { 24 } else { usize::from(*length) }],
    };
    let values: Vec<Value> = lengths.iter().enumerate().map(value).collect();
    assert_eq!(packed_size(&lengths, &values), Ok(176));
}

#[test]
fn wrong_lengths_are_refused() {
    let value = |len| [Value { number: 0, bytes: smallvec::smallvec![0; len] }];
    assert_eq!(packed_size(&[8], &value(7)), Err(Error::Invalid));
    assert_eq!(packed_size(&[0], &value(70_000)), Err(Error::TooLarge));
}

#[test]
fn owners_are_found_at_their_fixed_places() {
    use super::{HAS_PROJECT, owner_of};
    use crate::dmu::Owner;
    use ondisk::DmuType;
    let lengths = [8, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16, 8, 8];
    let value = |(nr, length): (usize, &u16)| {
        let word = match nr {
            3 => 1000u64,
            4 => 100,
            6 => HAS_PROJECT,
            12 => 77,
            _ => 1,
        };
        let mut bytes = word.to_le_bytes().to_vec();
        bytes.resize(usize::from(*length), 0);
        Value { number: nr as u16, bytes: bytes.into() }
    };
    let values: Vec<Value> = lengths.iter().enumerate().map(value).collect();
    let bonus = pack(2, &lengths, &values).unwrap();
    assert_eq!(owner_of(DmuType::SA, &bonus), Some(Owner { uid: 1000, gid: 100, project: 77 }));
    assert_eq!(owner_of(DmuType::SA, &[0; 168]), Some(Owner { uid: 0, gid: 0, project: 0 }));
    assert_eq!(owner_of(DmuType::SA, &bonus[..20]), None);
    assert_eq!(owner_of(DmuType::NONE, &bonus), None);
    let mut old = [0; 264];
    old[128] = 42;
    assert_eq!(owner_of(DmuType::ZNODE, &old).map(|o| o.uid), Some(42));
}
