//! Logs that a machine of the other byte order wrote: claimed, replayed, freed.
use super::chain;
use crate::dmu::{NewObject, Objset};
use crate::spa::{PoolSpec, Spa, VdevSpec};
use abd::Abd;
use blockdev_host::MemDisk;
use ondisk::byteswap::swap_u64s;
use ondisk::zil::{CHAIN_DIGEST_OFFSET, CHAIN_SIZE, RawChain, RecordHead, RecordKind, ZilHeader};
use ondisk::zil_record::{NewObjectRecord, Record, WriteData, mask, stamp};
use ondisk::{BlkPtr, Checksum, Compression, Digest, DmuType, ObjectId, Txg};
use rt_std as _;
use std::sync::Arc;
use zerocopy::{FromZeros, IntoBytes};

const SIZE: u32 = 16 << 10;
const MAGIC: u64 = 0x0210_da7a_b10c_7a11;

fn pool() -> (Arc<Spa>, Arc<Objset>, ObjectId) {
    let device = Arc::new(MemDisk::new(64 << 20));
    let vdev = VdevSpec { device, path: "/dev/vda".into(), is_file: false };
    let mut file = ObjectId(0);
    let spa = Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut |tx, objset| {
        file = objset.allocate(tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512))?.id();
        Ok(())
    });
    let spa = spa.unwrap();
    let objset = spa.open_dataset("tank").unwrap().objset().clone();
    (spa, objset, file)
}

/// As the other machine writes it: numbers turned, names and data as they are.
fn foreign_record(record: &Record<'_>, txg: Txg, seq: u64) -> Vec<u8> {
    let mut bytes = record.encode().unwrap();
    stamp(&mut bytes, txg.0, seq);
    let fixed = match RecordHead::parse(&bytes).unwrap().kind {
        RecordKind::Create => 104,
        RecordKind::Write => 192,
        RecordKind::SetAttr => 112,
        RecordKind::Remove => 40,
        _ => 48,
    };
    swap_u64s(&mut bytes[..fixed]);
    bytes
}

/// The head or tail of a block, but for its digest.
fn foreign_chain(next: &BlkPtr, used: usize) -> Vec<u8> {
    let mut chain = RawChain::new_zeroed();
    chain.next = next.to_raw();
    chain.used = (used as u64).into();
    let mut bytes = chain.as_bytes().to_vec();
    bytes[CHAIN_DIGEST_OFFSET - 8..CHAIN_DIGEST_OFFSET].copy_from_slice(&MAGIC.to_le_bytes());
    swap_u64s(&mut bytes);
    bytes
}

fn put(block: &mut [u8], at: usize, digest: &Digest) {
    for (i, word) in digest.0.iter().enumerate() {
        block[at + 8 * i..at + 8 * i + 8].copy_from_slice(&word.to_be_bytes());
    }
}

/// A log block with its checksum: the head first, or (`Zilog`) last.
fn foreign_block(alg: Checksum, bp: &BlkPtr, next: &BlkPtr, records: &[u8]) -> Vec<u8> {
    let (mut block, at, with) = if alg == Checksum::Zilog2 {
        let mut block = foreign_chain(next, CHAIN_SIZE + records.len());
        block.extend_from_slice(records);
        block.resize(block.len().next_multiple_of(4096), 0);
        (block, CHAIN_DIGEST_OFFSET, Checksum::Fletcher4)
    } else {
        let mut block = records.to_vec();
        block.resize(SIZE as usize - CHAIN_SIZE, 0);
        block.extend(foreign_chain(next, records.len()));
        (block, SIZE as usize - 32, Checksum::Fletcher2)
    };
    put(&mut block, at, &bp.digest());
    let digest = codec::checksum(with, &block, true, None).unwrap();
    put(&mut block, at, &digest);
    block
}

/// Writes a chain of two blocks, whose space is free again afterwards, as after a crash of the machine that wrote it.
fn write_chain(spa: &Spa, objset: &Objset, txg: Txg, alg: Checksum, file: u64) -> (ZilHeader, Vec<Vec<u8>>) {
    let storage = spa.storage();
    let place = |nr: u64| {
        let (mut bp, _) = storage.allocate_log(SIZE, txg, objset.id(), true).unwrap();
        bp.set_checksum_alg(alg);
        bp.set_little_endian(false);
        bp.set_digest(Digest([11, 22, objset.id(), nr]));
        bp
    };
    let (first, second, end) = (place(1), place(2), place(3));
    let content: Vec<u8> = (0..8192u32).map(|i| (i % 251) as u8).collect();
    let mut data = place(0);
    data.set_type(DmuType::PLAIN_FILE_CONTENTS);
    data.set_compression(Compression::Off);
    data.set_checksum_alg(Checksum::Fletcher4);
    data.set_lsize(8192);
    data.set_psize(8192);
    data.set_digest(codec::checksum(Checksum::Fletcher4, &content, true, None).unwrap());
    let new = NewObjectRecord {
        object: 77,
        slots: 1,
        mode: 0o100_644,
        uid: 1000,
        gid: 100,
        generation: 9,
        crtime: [1, 2],
        rdev: 0,
    };
    let create = Record::Create {
        kind: RecordKind::Create,
        dir: 34,
        new,
        attrs: None,
        acl: None,
        name: b"a name of 17 byte",
        target: b"",
    };
    let inline = |data| Record::Write { object: file, offset: 3, length: 5, data: WriteData::Inline(data) };
    let set = Record::SetAttr {
        object: file,
        mask: mask::MODE | mask::SIZE,
        mode: 0o600,
        uid: 1,
        gid: 2,
        size: 3,
        atime: [4, 5],
        mtime: [6, 7],
        attrs: None,
    };
    let blocks = [
        vec![create, inline(b"bytes")],
        vec![
            Record::Write { object: file, offset: 0, length: 8192, data: WriteData::Block(data) },
            set,
            Record::SetSaXattr { object: file, name: b"user.a", value: Some(b"value") },
            Record::Remove { is_dir: false, dir: 34, name: b"gone" },
        ],
    ];
    let mut seq = 0;
    let mut write = |bp: BlkPtr, next: &BlkPtr, records: &[Record<'_>]| {
        let mut bytes = Vec::new();
        for record in records {
            seq += 1;
            bytes.extend(foreign_record(record, txg, seq));
        }
        let block = foreign_block(alg, &bp, next, &bytes);
        storage.write_log(vec![(bp, Abd::copy_from(&block))], &[], true).unwrap();
    };
    write(first, &second, &blocks[0]);
    write(second, &end, &blocks[1]);
    storage.write_log(vec![(data, Abd::copy_from(&content))], &[], true).unwrap();
    [first, second, end, data].iter().for_each(|bp| storage.unallocate_log(bp, txg));
    let records = blocks.iter().flatten().map(|record| record.encode().unwrap()).collect();
    (ZilHeader { log: first, ..ZilHeader::default() }, records)
}

fn claim_and_replay(alg: Checksum) {
    let (spa, objset, file) = pool();
    let zil = objset.zil().unwrap();
    let hold = spa.txgs().hold_open();
    let txg = hold.txg();
    let (header, written) = write_chain(&spa, &objset, txg, alg, file.0);
    assert!(chain::has_records(spa.storage(), &header, objset.id(), spa.txgs().synced_txg()));
    zil.claim(&header, spa.txgs().synced_txg(), txg).unwrap();
    drop(hold);
    spa.sync().unwrap();
    let claimed = objset.zil_header();
    assert_eq!((claimed.claim_txg, claimed.claim_blk_seq, claimed.claim_lr_seq), (txg, 3, 6));
    let mut found = Vec::new();
    let report = zil.replay(&objset, &mut |record, block| {
        if let Some(block) = block {
            assert!(block.0.to_vec().iter().enumerate().all(|(i, b)| usize::from(*b) == i % 251));
        }
        found.push(record.encode().unwrap());
        Ok(())
    });
    let report = report.unwrap();
    assert_eq!((report.nr_applied, report.nr_skipped, report.failed), (6, 0, None));
    assert!(found == written);
    assert!(objset.zil_header().log.is_hole());
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_chain_of_foreign_byte_order_is_claimed_and_replayed() {
    claim_and_replay(Checksum::Zilog2);
}

#[test]
fn so_is_one_in_the_form_of_old_pools() {
    claim_and_replay(Checksum::Zilog);
}
