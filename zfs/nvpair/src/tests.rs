//! All types round trip; sizes as the format's own implementation computes them; hostile bytes are refused.

use crate::{DEPTH_MAX, NvError, NvList, NvValue};
use proptest::collection::vec;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = std::vec::Vec<u8>> {
    vec(1..=255u8, 0..20)
}

fn scalar() -> impl Strategy<Value = NvValue> {
    prop_oneof![
        Just(NvValue::Boolean),
        any::<u8>().prop_map(NvValue::Byte),
        any::<i16>().prop_map(NvValue::Int16),
        any::<u16>().prop_map(NvValue::Uint16),
        any::<i32>().prop_map(NvValue::Int32),
        any::<u32>().prop_map(NvValue::Uint32),
        any::<i64>().prop_map(NvValue::Int64),
        any::<u64>().prop_map(NvValue::Uint64),
        text().prop_map(NvValue::String),
        any::<i64>().prop_map(NvValue::Hrtime),
        any::<bool>().prop_map(NvValue::BooleanValue),
        any::<i8>().prop_map(NvValue::Int8),
        any::<u8>().prop_map(NvValue::Uint8),
        any::<u64>().prop_map(NvValue::Double),
    ]
}

fn array() -> impl Strategy<Value = NvValue> {
    prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(NvValue::ByteArray),
        vec(any::<i16>(), 0..9).prop_map(NvValue::Int16Array),
        vec(any::<u16>(), 0..9).prop_map(NvValue::Uint16Array),
        vec(any::<i32>(), 0..9).prop_map(NvValue::Int32Array),
        vec(any::<u32>(), 0..9).prop_map(NvValue::Uint32Array),
        vec(any::<i64>(), 0..9).prop_map(NvValue::Int64Array),
        vec(any::<u64>(), 0..9).prop_map(NvValue::Uint64Array),
        vec(text(), 0..5).prop_map(NvValue::StringArray),
        vec(any::<bool>(), 0..9).prop_map(NvValue::BooleanArray),
        vec(any::<i8>(), 0..9).prop_map(NvValue::Int8Array),
        vec(any::<u8>(), 0..9).prop_map(NvValue::Uint8Array),
    ]
}

fn list() -> impl Strategy<Value = NvList> {
    let name = "[a-z]{1,12}";
    let flat = vec((name, prop_oneof![scalar(), array()]), 0..6).prop_map(build);
    flat.prop_recursive(4, 40, 5, move |inner| {
        let value = prop_oneof![
            scalar(),
            array(),
            inner.clone().prop_map(NvValue::NvList),
            vec(inner, 0..4).prop_map(NvValue::NvListArray),
        ];
        vec((name, value), 0..6).prop_map(build)
    })
}

fn build(pairs: std::vec::Vec<(String, NvValue)>) -> NvList {
    pairs.into_iter().fold(NvList::new(), |list, (name, value)| list.with(name, value))
}

proptest! {
    #[test]
    fn round_trip(list in list()) {
        let bytes = list.encode().unwrap();
        prop_assert_eq!(NvList::decode_prefix(&bytes), Ok((list, bytes.len())));
    }

    #[test]
    fn native_round_trip(list in list()) {
        let bytes = list.encode_native().unwrap();
        prop_assert_eq!(NvList::decode_native(&bytes), Ok(list));
    }

    #[test]
    fn hostile_native_bytes(list in list(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = list.encode_native().unwrap();
        let index = at.index(bytes.len());
        bytes[index] = value;
        let _ = NvList::decode_native(&bytes);
    }

    #[test]
    fn hostile_bytes(list in list(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = list.encode().unwrap();
        let index = at.index(bytes.len());
        bytes[index] = value;
        if let Ok(list) = NvList::decode(&bytes) {
            prop_assert!(list.encode().is_ok());
        }
    }

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..300)) {
        let _ = NvList::decode_nested(&bytes);
    }
}

/// Decoded sizes as sums of the head (16 + name + NUL, rounded up) and the value (rounded up).
#[test]
fn decoded_sizes() {
    let size = |value: NvValue| {
        let bytes = NvList::new().with("abc", value).encode().unwrap();
        u32::from_be_bytes(bytes[16..20].try_into().unwrap())
    };
    assert_eq!(size(NvValue::Boolean), 24);
    assert_eq!(size(NvValue::Uint64(1)), 32);
    assert_eq!(size(NvValue::String(b"1234567".to_vec())), 32);
    assert_eq!(size(NvValue::String(b"12345678".to_vec())), 40);
    assert_eq!(size(NvValue::NvList(NvList::new())), 48);
    assert_eq!(size(NvValue::NvListArray(vec![NvList::new(); 2])), 24 + 64);
    assert_eq!(size(NvValue::StringArray(vec![b"ab".to_vec(); 3])), 24 + 40);
    assert_eq!(size(NvValue::ByteArray(vec![0; 9])), 40);
}

#[test]
fn nesting_is_limited() {
    let nest = |levels| (1..levels).fold(NvList::new(), |list, _| NvList::new().add_nvlist("n", list));
    assert!(NvList::decode(&nest(DEPTH_MAX).encode().unwrap()).is_ok());
    assert_eq!(nest(DEPTH_MAX + 1).encode(), Err(NvError::TooDeep));
    // the same nesting as bytes made by hand
    let mut bytes = nest(DEPTH_MAX).encode_nested().unwrap();
    let mut outer = std::vec::Vec::from([0, 0, 0, 0, 0, 0, 0, 1]);
    outer.extend((bytes.len() as u32 + 24).to_be_bytes());
    outer.extend([0, 0, 0, 48, 0, 0, 0, 1, b'n', 0, 0, 0, 0, 0, 0, 19, 0, 0, 0, 1]);
    outer.append(&mut bytes);
    outer.extend([0; 8]);
    assert_eq!(NvList::decode_nested(&outer), Err(NvError::TooDeep));
}

#[test]
fn huge_counts_allocate_nothing() {
    let mut bytes = NvList::new().with("a", NvValue::Uint64Array(vec![1])).encode().unwrap();
    let nelem_at = 12 + 8 + 8 + 4;
    bytes[nelem_at..nelem_at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    bytes[nelem_at + 4..nelem_at + 8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(NvList::decode(&bytes), Err(NvError::Truncated));
}

#[test]
fn unique_names_replace() {
    let mut list = NvList::new().add_u64("a", 1).add_u64("b", 2).add_str("a", "x");
    assert_eq!(list.len(), 2);
    assert_eq!(list.pairs()[1].name, b"a");
    list.set("b", NvValue::Uint64(3));
    assert_eq!((list.pairs()[0].name.as_slice(), list.get_u64("b")), (&b"b"[..], Some(3)));
    assert_eq!(list.remove("b"), Some(NvValue::Uint64(3)));
    assert_eq!(list.remove("b"), None);
    assert!(!list.contains("b") && list.contains("a"));
}

#[test]
fn names_must_be_representable() {
    assert_eq!(NvList::new().with("", NvValue::Boolean).encode(), Err(NvError::BadString));
    assert_eq!(NvList::new().with([b'a', 0], NvValue::Boolean).encode(), Err(NvError::BadString));
}

/// A receive's resume token, unpacked, as OpenZFS packs it.
#[test]
fn a_native_list_of_openzfs() {
    let bytes: std::vec::Vec<u8> = [
        &b"\0\x01\0\0\0\0\0\0\x01\0\0\0"[..],
        b"\x20\0\0\0\x07\0\0\0\x01\0\0\0\x08\0\0\0object\0\0\xa2\0\0\0\0\0\0\0",
        b"\x28\0\0\0\x07\0\0\0\x01\0\0\0\x09\0\0\0toname\0\0sends/fs@a\0\0\0\0\0\0",
        b"\x18\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0embedok\0",
        b"\0\0\0\0",
    ]
    .concat();
    let list = NvList::decode_native(&bytes).unwrap();
    assert_eq!(list.get_u64("object"), Some(0xa2));
    assert_eq!(list.get_str("toname"), Some("sends/fs@a"));
    assert!(list.contains("embedok"));
    assert_eq!(list.encode_native().unwrap(), bytes);
}
