use super::*;
use crate::ids::Txg;
use crate::zil::RawRecordHead;
use proptest::prelude::*;
use zerocopy::FromBytes;

fn decode(bytes: &[u8]) -> Result<(RecordHead, Record<'_>)> {
    let head = RecordHead::parse(bytes)?;
    let record = Record::parse(&head, bytes)?;
    Ok((head, record))
}

fn samples() -> Vec<Record<'static>> {
    let new = NewObjectRecord {
        object: 77,
        slots: 2,
        mode: 0o100_644,
        uid: 1000,
        gid: 100,
        generation: 9,
        crtime: [1, 2],
        rdev: 0,
    };
    let mut bp = BlkPtr::default();
    bp.set_lsize(4096);
    bp.set_psize(4096);
    let create =
        |kind, target| Record::Create { kind, dir: 34, new, attrs: None, acl: None, name: b"file", target };
    vec![
        create(RecordKind::Create, b""),
        create(RecordKind::Mkdir, b""),
        create(RecordKind::Symlink, b"where/to"),
        Record::Remove { is_dir: false, dir: 34, name: b"x" },
        Record::Remove { is_dir: true, dir: 34, name: b"y" },
        Record::Link { dir: 34, object: 77, name: b"name of eight" },
        Record::Rename { kind: RenameKind::Replace, from_dir: 34, to_dir: 35, from: b"a", to: b"b" },
        Record::Rename { kind: RenameKind::Exchange, from_dir: 34, to_dir: 35, from: b"a", to: b"b" },
        Record::Rename {
            kind: RenameKind::Whiteout(new),
            from_dir: 1,
            to_dir: 2,
            from: b"a",
            to: b"bcdefgh",
        },
        Record::Write { object: 77, offset: 5, length: 3, data: WriteData::Inline(b"abc") },
        Record::Write { object: 77, offset: 0, length: 4096, data: WriteData::Block(bp) },
        Record::Truncate { object: 77, offset: 1, length: 0 },
        Record::SetAttr {
            object: 77,
            mask: mask::MODE | mask::SIZE,
            mode: 0o644,
            uid: 1,
            gid: 2,
            size: 3,
            atime: [4, 5],
            mtime: [6, 7],
            attrs: None,
        },
        Record::SetSaXattr { object: 77, name: b"user.a", value: Some(b"value") },
        Record::SetSaXattr { object: 77, name: b"user.a", value: None },
        Record::CloneRange { object: 77, offset: 4096, length: 8192, block_size: 4096, pointers: &[7; 256] },
    ]
}

/// What a big-endian host would have written: the fixed words swapped, the rest as it is.
fn foreign(bytes: &[u8]) -> Vec<u8> {
    let head = RecordHead::parse(bytes).unwrap();
    let fixed = match head.kind {
        RecordKind::Create | RecordKind::Mkdir | RecordKind::Symlink => CREATE_SIZE,
        RecordKind::Remove | RecordKind::Rmdir => 40,
        RecordKind::RenameWhiteout => WHITEOUT_SIZE,
        RecordKind::Write => WRITE_SIZE,
        RecordKind::Truncate => TRUNCATE_SIZE,
        RecordKind::SetAttr => SETATTR_SIZE,
        RecordKind::CloneRange => bytes.len(),
        _ => 48,
    };
    let mut out = bytes.to_vec();
    swap_u64s(&mut out[..fixed]);
    out
}

#[test]
fn records_come_back_as_they_were_in_both_byte_orders() {
    for record in samples() {
        let mut bytes = record.encode().unwrap();
        stamp(&mut bytes, 12, 34);
        let (head, back) = decode(&bytes).unwrap();
        assert_eq!(back, record);
        assert_eq!((head.txg, head.seq, head.reclen), (Txg(12), 34, bytes.len()));
        let mut swapped = foreign(&bytes);
        assert_eq!(swap_record(&mut swapped), Ok(bytes.len()));
        assert_eq!(swapped, bytes, "{record:?}");
    }
}

#[test]
fn a_create_lies_as_openzfs_lays_it() {
    let bytes = samples()[0].encode().unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((word(0), word(8)), (1, 112));
    assert_eq!((word(32), word(40)), (34, 77 | 1 << 56));
    assert_eq!((word(48), word(72), word(80), word(88), word(96)), (0o100_644, 9, 1, 2, 0));
    assert_eq!(&bytes[104..109], b"file\0");
}

fn with_head(kind: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; RECORD_HEAD_SIZE];
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let len = bytes.len() as u64;
    let (head, _) = RawRecordHead::mut_from_prefix(&mut bytes).unwrap();
    head.txtype = kind.into();
    head.reclen = len.into();
    bytes
}

#[test]
fn acls_and_attribute_blocks_are_stepped_over() {
    let mut body = vec![0u8; CREATE_ACL_SIZE - RECORD_HEAD_SIZE];
    body[0] = 34;
    body[8] = 77;
    let set =
        |body: &mut Vec<u8>, at: usize, v: u64| body[at - 32..at - 24].copy_from_slice(&v.to_le_bytes());
    set(&mut body, 104, 1);
    set(&mut body, 112, 1);
    set(&mut body, 120, 1);
    set(&mut body, 128, 12);
    // An attribute block with a map of three words.
    body.extend_from_slice(&3u32.to_le_bytes());
    body.extend_from_slice(&5u32.to_le_bytes());
    body.extend_from_slice(&[0; 8 + 56]);
    body.extend_from_slice(&[7; 12]);
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&[8; 8]);
    body.extend_from_slice(b"domain\0name\0");
    let bytes = with_head(RecordKind::CreateAclAttr as u64, &body);
    let (_, record) = decode(&bytes).unwrap();
    let Record::Create { name, acl: Some(acl), attrs: Some(attrs), .. } = record else {
        panic!("{record:?}")
    };
    assert_eq!((name, acl.entries, acl.count, attrs.requested), (&b"name"[..], &[7u8; 12][..], 1, 5));
    let mut again = bytes.clone();
    // Swapping twice gives the same, and neither fails.
    swap_u64s(&mut again[..CREATE_ACL_SIZE]);
    again[CREATE_ACL_SIZE..CREATE_ACL_SIZE + 4].reverse();
    assert_eq!(swap_record(&mut again), Ok(bytes.len()));
}

#[test]
fn a_write_of_nothing_is_not_mistaken_for_a_block() {
    let nothing = Record::Write { object: 1, offset: 0, length: 0, data: WriteData::Inline(&[]) };
    assert_eq!(nothing.encode(), None);
    // The packer fills the data of a record in behind its head.
    let head = Record::Write { object: 1, offset: 0, length: 5, data: WriteData::Inline(&[]) };
    assert_eq!(head.encode().map(|bytes| bytes.len()), Some(WRITE_SIZE));
}

proptest! {
    #[test]
    fn nothing_makes_the_decoder_panic(kind in 0u64..26, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = with_head(kind, &body);
        let _ = decode(&bytes);
        let mut swapped = bytes.clone();
        swap_u64s(&mut swapped[..RECORD_HEAD_SIZE]);
        let _ = swap_record(&mut swapped);
    }

    #[test]
    fn names_and_data_survive(name in "[^\0]{1,80}", data in proptest::collection::vec(any::<u8>(), 1..300)) {
        let link = Record::Link { dir: 1, object: 2, name: name.as_bytes() };
        let bytes = link.encode().unwrap();
        prop_assert_eq!(decode(&bytes).unwrap().1, link);
        let write =
            Record::Write { object: 2, offset: 9, length: data.len() as u64, data: WriteData::Inline(&data) };
        let bytes = write.encode().unwrap();
        prop_assert_eq!(decode(&bytes).unwrap().1, write);
    }
}
