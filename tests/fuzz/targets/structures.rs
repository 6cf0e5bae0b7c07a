//! Every on-disk structure from bytes; what parses must keep the promises of its accessors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondisk::{BlkPtr, bpobj, brt, dnode, dsl, gang, objset, sa, scan, space_map, stream, uberblock, zap, zil};
use zerocopy::FromBytes;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bp) = BlkPtr::from_bytes(&bytes[..bytes.len().min(128)]) {
        assert_eq!(&bp.to_bytes()[..], &bytes[..128]);
        for dva in bp.dvas() {
            assert!(dva.offset.checked_add(dva.asize).is_some());
        }
        let _ = (bp.payload(), bp.asize(), bp.fill(), bp.phys_birth(), bp.embedded_type(), format!("{bp:?}"));
    }
    if let Ok(Some(dn)) = dnode::parse(bytes) {
        assert!(dn.size() <= bytes.len() && dn.bonus(bytes).is_ok());
        for index in 0..4 {
            let _ = dn.blkptr(bytes, index);
        }
        let _ = (dn.spill(bytes), dn.blkid_at_level(u64::MAX, dn.levels), dn.to_raw());
    }
    if let Some(record) = bytes.first_chunk::<{ stream::RECORD_SIZE }>() {
        for order in [stream::ByteOrder::Little, stream::ByteOrder::Big] {
            let Ok(parsed) = stream::Record::parse(record, order) else { continue };
            assert!(parsed.payload_len() <= stream::BEGIN_PAYLOAD_MAX as usize);
            assert_eq!(stream::Record::parse(&parsed.to_bytes(order), order), Ok(parsed));
        }
    }
    if let Ok(raw) = objset::RawObjset::of(bytes) {
        let _ = raw.parse();
    }
    if let Ok((raw, _)) = uberblock::RawUberblock::ref_from_prefix(bytes) {
        if let Ok(ub) = raw.parse() {
            let _ = ub.compare(&ub);
        }
    }
    let _ = dsl::DslDirPhys::parse(bytes);
    let _ = dsl::DslDatasetPhys::parse(bytes);
    let _ = dsl::DeadlistPhys::parse(bytes);
    let _ = bpobj::BpobjPhys::parse(bytes);
    let _ = space_map::SpaceMapPhys::parse(bytes);
    let _ = brt::BrtVdev::parse(bytes);
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
    if let Ok(scan) = scan::ScanPhys::parse(&words) {
        assert_eq!(scan::ScanPhys::parse(&scan.to_words()), Ok(scan));
    }
    if let Ok(header) = sa::SaHeader::parse(bytes) {
        assert!(header.size <= bytes.len());
        for index in 0..300 {
            let _ = header.variable_length(bytes, index);
        }
    }
    for index in 0..gang::gang_capacity(bytes.len()).min(8) {
        let _ = gang::gang_child(bytes, index);
    }
    if let Ok(head) = zil::RecordHead::parse(bytes) {
        assert!(head.reclen <= bytes.len() && head.reclen >= zil::RECORD_HEAD_SIZE);
    }
    if let Ok((entry, _)) = zap::RawMzapEntry::ref_from_prefix(bytes) {
        assert!(entry.name().len() < zap::MZAP_NAME_SIZE);
    }
    space_map_entries(bytes);
});

fn space_map_entries(bytes: &[u8]) {
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
    let mut rest = &words[..];
    while let Ok((entry, used)) = space_map::SpaceMapEntry::decode(rest) {
        if let space_map::SpaceMapEntry::Run(run) = entry {
            assert!(run.run >= 1 && run.offset.checked_add(run.run).is_some());
        }
        rest = &rest[used..];
    }
}
