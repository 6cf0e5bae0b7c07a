//! Records round trip in both byte orders; hostile ones are refused, whatever they are.
use super::*;
use crate::checksum::{Checksum, Digest};
use crate::compression::Compression;
use crate::dmu_type::DmuType;
use crate::error::OndiskError;
use crate::ids::ObjectId;
use crate::objset::ObjsetKind;
use proptest::prelude::*;

fn orders() -> impl Strategy<Value = ByteOrder> {
    prop_oneof![Just(ByteOrder::Little), Just(ByteOrder::Big)]
}

fn begin() -> impl Strategy<Value = Record> {
    ("[a-z/@]{0,255}", any::<[u64; 3]>(), any::<u32>(), any::<bool>(), 0..=BEGIN_PAYLOAD_MAX).prop_map(
        |(name, words, flags, is_compound, payload_len)| {
            Record::Begin(Begin {
                header: if is_compound { HeaderKind::Compound } else { HeaderKind::Substream },
                features: StreamFeatures::from_bits_retain(flags & 0x3fff_ffff),
                creation_time: words[0],
                kind: ObjsetKind::Zfs,
                flags: BeginFlags::from_bits_retain(flags),
                to_guid: words[1],
                from_guid: words[2],
                to_name: Name::new(&name).unwrap(),
                payload_len,
            })
        },
    )
}

fn blocks() -> impl Strategy<Value = Record> {
    (any::<[u64; 6]>(), 1..=32768u32, any::<[u8; 2]>(), 1..=32u8).prop_map(|(w, sectors, b, slots)| {
        let (object, to_guid, flags) = (ObjectId(w[0]), w[1], RecordFlags::from_bits_retain(b[0]));
        let (size, offset) = (sectors * 512, w[2] >> 1);
        match b[1] % 6 {
            0 => Record::Object(ObjectRecord {
                object,
                kind: DmuType::PLAIN_FILE_CONTENTS,
                bonus_kind: DmuType::SA,
                block_size: size,
                bonus_len: (w[3] % 16384) as u16,
                checksum: Checksum::Sha256,
                compress: Compression::Zstd,
                slots,
                flags,
                to_guid,
            }),
            1 => Record::Write(StreamWrite {
                object,
                kind: DmuType::ZVOL,
                offset,
                logical_size: size,
                to_guid,
                checksum: Checksum::Fletcher4,
                flags,
                compression: if w[3] % 2 == 0 { Compression::Lz4 } else { Compression::Inherit },
                key_digest: Digest([w[2], w[3], w[4], w[5]]),
                key_prop: w[4],
                compressed_size: 512,
            }),
            2 => Record::Spill(Spill { object, length: size, to_guid, flags, kind: DmuType::SA }),
            3 => Record::WriteEmbedded(Embedded {
                object,
                offset,
                length: size,
                to_guid,
                compression: Compression::Lz4,
                etype: b[0],
                lsize: size,
                psize: (w[3] % 112) as u32 + 1,
            }),
            4 => Record::Free(Range { object, offset: w[2], length: w[3], to_guid }),
            _ => Record::Redact(Range { object, offset: w[2], length: w[3], to_guid }),
        }
    })
}

fn others() -> impl Strategy<Value = Record> {
    (any::<[u64; 5]>(), any::<u8>()).prop_map(|(w, kind)| match kind % 4 {
        0 => Record::FreeObjects(FreeObjects { first: w[0], count: w[1], to_guid: w[2] }),
        1 => Record::End(End { digest: Digest([w[0], w[1], w[2], w[3]]), to_guid: w[4] }),
        2 => Record::WriteByRef,
        _ => Record::ObjectRange,
    })
}

proptest! {
    #[test]
    fn records_round_trip(record in prop_oneof![begin(), blocks(), others()], order in orders()) {
        let bytes = record.to_bytes(order);
        prop_assert_eq!(Record::parse(&bytes, order), Ok(record));
        if let Record::Begin(_) = record {
            prop_assert_eq!(Record::byte_order(&bytes), Ok(order));
        }
    }

    #[test]
    fn whatever_parses_has_a_bounded_payload(head in 0..11u32, body in any::<[u64; 38]>(), small in any::<[bool; 38]>(), order in orders()) {
        let mut bytes = [0; RECORD_SIZE];
        bytes[..4].copy_from_slice(&head.to_le_bytes());
        for (i, (word, is_small)) in body.iter().zip(small).enumerate() {
            let word = if is_small { word % 1024 } else { *word };
            bytes[8 + 8 * i..16 + 8 * i].copy_from_slice(&word.to_le_bytes());
        }
        if let Ok(record) = Record::parse(&bytes, order) {
            prop_assert!(record.payload_len() <= BEGIN_PAYLOAD_MAX as usize);
            prop_assert_eq!(Record::parse(&record.to_bytes(order), order), Ok(record));
        }
    }

    #[test]
    fn the_sum_goes_where_it_is_read(words in any::<[u64; 4]>(), order in orders()) {
        let mut bytes = Record::ObjectRange.to_bytes(order);
        Record::set_checksum(&mut bytes, order, Digest(words));
        prop_assert_eq!(Record::checksum(&bytes, order), Digest(words));
    }
}

#[test]
fn what_is_no_stream_is_told_at_once() {
    assert_eq!(Record::byte_order(&[0; RECORD_SIZE]), Err(OndiskError::BadMagic));
    let mut bytes = [0; RECORD_SIZE];
    bytes[0] = 11;
    assert_eq!(Record::parse(&bytes, ByteOrder::Little), Err(OndiskError::BadType));
}

#[test]
fn names_end_at_their_nul() {
    assert_eq!(Name::new(&"a".repeat(256)), Err(OndiskError::DoesNotFit));
    assert_eq!(Name::new("a\0"), Err(OndiskError::DoesNotFit));
    assert_eq!(Name::new("pool/a@b").unwrap().as_str(), "pool/a@b");
}
