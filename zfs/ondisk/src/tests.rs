//! Round trips of every pair, and hostile bytes for everything that decodes.

use crate::blkptr::BLKPTR_SIZE;
use crate::dnode::{DnodeFlags, DnodePhys};
use crate::space_map::{MapType, NO_VDEV, SpaceMapEntry, SpaceMapPhys, SpaceMapRun};
use crate::uberblock::{Mmp, RawUberblock, Uberblock};
use crate::*;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

fn any_dva() -> impl Strategy<Value = Dva> {
    (0..1u32 << 24, 0..1u64 << 54, 0..1u64 << 24, any::<bool>()).prop_map(|(vdev, offset, asize, gang)| Dva {
        vdev,
        offset: offset << 9,
        asize: asize << 9,
        gang,
    })
}

fn any_bp() -> impl Strategy<Value = BlkPtr> {
    let sizes = (1..=32768u32, 1..=32768u32);
    let births = (any::<u64>(), any::<u64>());
    (any_dva(), any_dva(), sizes, births, any::<[u64; 4]>(), 0..54u8, 0..17u8, 0..15u8, 0..32u8).prop_map(
        |(a, b, (l, p), (logical, physical), digest, ty, comp, cksum, level)| {
            let mut bp = BlkPtr::HOLE;
            bp.set_dva(0, a).unwrap();
            bp.set_dva(1, b).unwrap();
            bp.set_lsize(l << 9);
            bp.set_psize(p << 9);
            bp.set_birth(Txg(logical), Txg(physical));
            bp.set_digest(Digest(digest));
            bp.set_type(DmuType(ty));
            bp.set_compression(Compression::from_id(comp).unwrap());
            bp.set_checksum_alg(Checksum::from_id(cksum).unwrap());
            bp.set_level(level);
            bp.set_little_endian(true);
            bp.set_fill(7);
            bp
        },
    )
}

proptest! {
    #[test]
    fn block_pointer_round_trip(bp in any_bp()) {
        let bytes = bp.to_bytes();
        prop_assert_eq!(BlkPtr::from_bytes(&bytes), Ok(bp));
        prop_assert_eq!(bp.to_raw().as_bytes().to_vec(), bytes.to_vec());
        prop_assert_eq!(bp.lsize() % 512, 0);
    }

    #[test]
    fn any_bytes_parse_or_fail(bytes in any::<[u8; 32]>(), more in proptest::collection::vec(any::<u8>(), 96)) {
        let mut all = bytes.to_vec();
        all.extend(more);
        if let Ok(bp) = BlkPtr::from_bytes(&all) {
            prop_assert_eq!(&bp.to_bytes()[..], &all[..]);
            for dva in bp.dvas() {
                prop_assert!(dva.offset.checked_add(dva.asize).is_some());
            }
            let _ = (bp.payload(), bp.asize(), bp.embedded_type(), bp.fill(), std::format!("{bp:?}"));
        }
    }

    #[test]
    fn embedded_round_trip(payload in proptest::collection::vec(any::<u8>(), 1..=112), lsize in 1..1u32 << 24) {
        let bp = BlkPtr::new_embedded(&payload, lsize, Compression::Lz4, DmuType::PLAIN_FILE_CONTENTS, 0, Txg(9)).unwrap();
        let back = BlkPtr::from_bytes(&bp.to_bytes()).unwrap();
        prop_assert!(back.is_embedded() && !back.is_hole() && back.nr_dvas() == 0 && back.asize() == 0);
        prop_assert_eq!(back.lsize(), lsize);
        prop_assert_eq!(&back.payload()[..back.psize() as usize], &payload[..]);
        prop_assert_eq!((back.birth(), back.phys_birth(), back.fill()), (Txg(9), Txg(9), 1));
        prop_assert_eq!(back.compression(), Compression::Lz4);
    }

    #[test]
    fn dnode_round_trip(slots in 1..=32u8, nr_blkptr in 1..=3u8, spill in any::<bool>(), used in any::<u64>(), sectors in 1..=32768u32) {
        let mut dn = DnodePhys {
            kind: DmuType::PLAIN_FILE_CONTENTS,
            indirect_shift: 17,
            levels: 3,
            nr_blkptr,
            bonus_kind: DmuType::SA,
            checksum: Checksum::Inherit,
            compress: Compression::Inherit,
            flags: DnodeFlags::USED_BYTES,
            block_size: sectors << 9,
            bonus_len: 0,
            slots,
            max_blkid: 17,
            used,
        };
        dn.flags.set(DnodeFlags::SPILL_BLKPTR, spill && (slots > 1 || nr_blkptr < 3));
        dn.bonus_len = dn.bonus_max() as u16;
        let raw = dn.to_raw().unwrap();
        prop_assert_eq!(raw.parse(), Ok(Some(dn)));
        dn.bonus_len += 1;
        prop_assert_eq!(dn.to_raw(), Err(OndiskError::Inconsistent));
    }

    #[test]
    fn dnode_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(Some(dn)) = dnode::parse(&bytes) {
            prop_assert!(dn.size() <= bytes.len());
            prop_assert!(dn.bonus(&bytes).is_ok());
            for i in 0..4 {
                let _ = dn.blkptr(&bytes, i);
            }
            let _ = (dn.spill(&bytes), dn.blkid_at_level(u64::MAX, dn.levels));
        }
    }

    #[test]
    fn space_map_entries_round_trip(offset in 0..1u64 << 63, run in 1..=1u64 << 36, free in any::<bool>(), vdev in 0..1u32 << 24) {
        let kind = if free { MapType::Free } else { MapType::Alloc };
        let run = SpaceMapRun { kind, offset, run, vdev };
        let words = run.encode_two().unwrap();
        prop_assert_eq!(SpaceMapEntry::decode(&words), Ok((SpaceMapEntry::Run(run), 2)));
        prop_assert_eq!(SpaceMapEntry::decode(&words[..1]), Err(OndiskError::Truncated));
        let short = SpaceMapRun { offset: offset >> 17, run: (run.run - 1) % 32768 + 1, vdev: NO_VDEV, kind };
        let word = short.encode_one().unwrap();
        prop_assert_eq!(SpaceMapEntry::decode(&[word]), Ok((SpaceMapEntry::Run(short), 1)));
        prop_assert!(run.encode_one().is_err());
    }

    #[test]
    fn uberblock_round_trip(bp in any_bp(), n in any::<[u64; 6]>(), mmp in any::<Option<(u64, u64)>>()) {
        let ub = Uberblock {
            version: n[0], txg: Txg(n[1]), guid_sum: n[2], timestamp: n[3], rootbp: bp, software_version: n[4],
            mmp: mmp.map(|(delay, config)| Mmp { delay, config }), checkpoint_txg: Txg(n[5]), raidz_reflow: 0,
        };
        let mut raw = ub.to_raw();
        prop_assert_eq!(raw.parse(), Ok(ub));
        byteswap::swap_u64s(raw.as_mut_bytes());
        prop_assert_eq!(raw.parse(), Err(OndiskError::ForeignEndian));
    }

    #[test]
    fn byteswap_never_panics(class in 0..10u8, mut bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
        let class = ByteswapClass::from_id(class).unwrap();
        byteswap::swap_class(class, &mut bytes);
    }

    #[test]
    fn byteswap_of_leaves_never_panics(shift in 9..15u32, seed in any::<[u8; 64]>()) {
        let mut block: std::vec::Vec<u8> = seed.iter().copied().cycle().take(1 << shift).collect();
        block[..8].copy_from_slice(&zap::ZBT_LEAF.to_be_bytes());
        byteswap::swap_class(ByteswapClass::Zap, &mut block);
        prop_assert_eq!(&block[..8], &zap::ZBT_LEAF.to_le_bytes()[..]);
    }
}

#[test]
fn holes_keep_their_birth() {
    let bp = BlkPtr::new_hole(DmuType::PLAIN_FILE_CONTENTS, 1, 131_072, Txg(77));
    let back = BlkPtr::from_bytes(&bp.to_bytes()).unwrap();
    assert!(back.is_hole());
    assert_eq!((back.birth(), back.level(), back.lsize()), (Txg(77), 1, 131_072));
    assert!(RawBlkPtr::HOLE.is_zero() && BlkPtr::HOLE.is_hole());
}

#[test]
fn bad_block_pointers_are_refused() {
    let case = |f: &dyn Fn(&mut [u64; 16])| {
        let mut words = [0u64; 16];
        words[0] = 8;
        f(&mut words);
        RawBlkPtr(words.map(le::U64::new)).parse().map(|_| ())
    };
    assert_eq!(case(&|_| {}), Ok(()));
    assert_eq!(case(&|w| w[6] = 54 << 48), Err(OndiskError::BadType));
    assert_eq!(case(&|w| w[6] = 17 << 32), Err(OndiskError::BadCompressionId));
    assert_eq!(case(&|w| w[6] = 15 << 40), Err(OndiskError::BadChecksumId));
    assert_eq!(case(&|w| w[6] = 0xffff), Err(OndiskError::BadSize));
    assert_eq!(case(&|w| w[6] = 1 << 39 | 112 << 25), Err(OndiskError::BadSize));
    assert_eq!(case(&|w| w[6] = 1 << 39 | 3 << 40), Err(OndiskError::BadEmbedded));
    assert_eq!(case(&|w| w[1] = 1 << 54), Err(OndiskError::BadOffset));
    assert_eq!(BlkPtr::from_bytes(&[0; BLKPTR_SIZE - 1]), Err(OndiskError::Truncated));
    // An encrypted block keeps its salt where others have a third address.
    let crypt = 1 << 61 | u64::from(DmuType::INTENT_LOG.id()) << 48;
    let with_salt = |prop: u64| case(&|w| (w[4], w[5], w[6]) = (u64::MAX, u64::MAX >> 1, prop));
    assert_eq!(with_salt(crypt), Ok(()));
    assert_eq!(with_salt(crypt & !(1 << 61)), Err(OndiskError::BadOffset));
}

#[test]
fn dnode_block_swaps_back_and_forth() {
    let dn = DnodePhys {
        kind: DmuType::DSL_DATASET,
        indirect_shift: 14,
        levels: 1,
        nr_blkptr: 1,
        bonus_kind: DmuType::DSL_DATASET,
        checksum: Checksum::Fletcher4,
        compress: Compression::Lz4,
        flags: DnodeFlags::USED_BYTES,
        block_size: 512,
        bonus_len: 320,
        slots: 1,
        max_blkid: 0x0102_0304,
        used: 0x0102_0304_0506,
    };
    let mut little = vec![0u8; 512];
    little[..64].copy_from_slice(dn.to_raw().unwrap().as_bytes());
    for (i, byte) in little[64..].iter_mut().enumerate() {
        *byte = i as u8;
    }
    // the same dnode as a big-endian host writes it
    let mut big = little.clone();
    for range in [8..10, 10..12, 16..24, 24..32] {
        big[range].reverse();
    }
    for word in big[64..].as_chunks_mut::<8>().0 {
        word.reverse();
    }
    byteswap::swap_class(ByteswapClass::Dnode, &mut big);
    assert_eq!(big, little);
}

#[test]
fn bonus_structures_round_trip() {
    let dir =
        dsl::DslDirPhys { head_dataset: ObjectId(5), used_breakdown: [1, 2, 3, 4, 5], ..Default::default() };
    assert_eq!(dsl::DslDirPhys::parse(dir.to_raw().as_bytes()), Ok(dir));
    let ds = dsl::DslDatasetPhys { guid: 99, creation_txg: Txg(4), ..Default::default() };
    assert_eq!(dsl::DslDatasetPhys::parse(ds.to_raw().as_bytes()), Ok(ds));
    assert_eq!(dsl::DslDatasetPhys::parse(&[0; 319]), Err(OndiskError::Truncated));
    let bp = bpobj::BpobjPhys { num_blkptrs: 3, subobjs: ObjectId(8), ..Default::default() };
    assert_eq!(bpobj::BpobjPhys::parse(bp.to_raw().as_bytes()), Ok(bp));
    let old = bpobj::BpobjPhys { num_blkptrs: 3, ..Default::default() };
    assert_eq!(bpobj::BpobjPhys::parse(&bp.to_raw().as_bytes()[..32]), Ok(old));
    let map = SpaceMapPhys { length: 64, alloc: -4096, histogram: [3; 32], ..Default::default() };
    assert_eq!(SpaceMapPhys::parse(map.to_raw().as_bytes()), Ok(map));
    let bare = SpaceMapPhys { histogram: [0; 32], ..map };
    assert_eq!(SpaceMapPhys::parse(&map.to_raw().as_bytes()[..24]), Ok(bare));
}

#[test]
fn raw_sizes_of_zap() {
    assert_eq!(zap::leaf_chunks(14), 638);
    assert!(zap::leaf_chunks_offset(14) + 638 * zap::CHUNK_SIZE <= 1 << 14);
    let mut entry = zap::RawMzapEntry::FREE;
    assert!(entry.set_name(b"name") && entry.name() == b"name");
    assert!(!entry.set_name(&[b'x'; 50]) && !entry.set_name(b"") && entry.set_name(&[b'x'; 49]));
}

#[test]
fn sa_header_round_trip() {
    let header = sa::SaHeader { layout: 3, size: sa::SaHeader::size_for(2) };
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(header.to_raw().unwrap().as_bytes());
    bytes[8..10].copy_from_slice(&24u16.to_le_bytes());
    assert_eq!(sa::SaHeader::parse(&bytes), Ok(header));
    assert_eq!(header.variable_length(&bytes, 1), Some(24));
    assert_eq!(header.variable_length(&bytes, 5), None);
    assert_eq!(sa::SaHeader::parse(&bytes[..8]), Err(OndiskError::Truncated));
}

#[test]
fn uberblock_needs_no_alignment() {
    let bytes = vec![0u8; 217];
    let raw = RawUberblock::ref_from_bytes(&bytes[1..]).unwrap();
    assert_eq!(raw.parse(), Err(OndiskError::BadMagic));
}
