//! The streams that OpenZFS sent of the pool `sends`, and streams taken apart.
use anyhow::{Context, Result, ensure};
use codec::fletcher::Fletcher4;
use ondisk::sa::{SaByteswap, SaHeader, ZPL_ATTRIBUTES};
use ondisk::stream::{ByteOrder, CHECKSUM_OFFSET, HeaderKind, RECORD_SIZE, Record};
use ondisk::{ByteswapClass, Digest, DmuType, ObjectId, byteswap};
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use zfs::dmu::Objset;
use zfs::sa::{Attr, Sa};
use zfs::zap::Zap;

/// A stream of that name.
///
/// # Errors
/// When there is none, or `zstd` is missing.
pub fn golden(name: &str) -> Result<Vec<u8>> {
    let path = crate::data_dir("sends").join("streams").join(format!("{name}.zfs.zst"));
    let output =
        Command::new("zstd").arg("-dqc").arg(&path).output().context("the program zstd is needed")?;
    ensure!(output.status.success(), "zstd could not unpack {}", path.display());
    Ok(output.stdout)
}

/// The records of a stream, with the positions of their first bytes. Ends where something does not parse.
#[must_use]
pub fn records(stream: &[u8]) -> Vec<(usize, Record)> {
    let mut all = Vec::new();
    let mut at = 0;
    let mut order = ondisk::stream::ByteOrder::Little;
    while let Some(bytes) = stream.get(at..).and_then(|rest| rest.first_chunk::<RECORD_SIZE>()) {
        if bytes[..4] == [0; 4] {
            order = Record::byte_order(bytes).unwrap_or(order);
        }
        let Ok(record) = Record::parse(bytes, order) else { break };
        all.push((at, record));
        at += RECORD_SIZE + record.payload_len();
    }
    all
}

/// Bytes of a compound stream that belong to single snapshots.
#[must_use]
pub fn substream_bytes(stream: &[u8]) -> u64 {
    let records = records(stream);
    let mut sum = 0;
    let mut is_inside = false;
    for (_, record) in records {
        if let Record::Begin(begin) = record {
            is_inside = begin.header == HeaderKind::Substream;
        }
        if is_inside {
            sum += RECORD_SIZE + record.payload_len();
        }
        if let Record::End(_) = record {
            is_inside = false;
        }
    }
    sum as u64
}

/// The stream as a host of the other byte order would have sent it. `received` is its snapshot, for the layouts of its
/// files' attributes.
///
/// # Errors
/// When the snapshot does not have what the stream says.
pub fn foreign(stream: &[u8], received: &Arc<Objset>) -> zfs::Result<Vec<u8>> {
    let attributes = match Zap::hold(received, ObjectId::ONE).and_then(|zap| zap.lookup_u64(b"SA_ATTRS")) {
        Ok(id) => Some(Sa::open(received, ObjectId(id))?),
        Err(_) => None,
    };
    let mut out = Vec::new();
    let mut sums = Fletcher4::default();
    for (at, record) in records(stream) {
        let start = at + RECORD_SIZE;
        let mut payload = stream[start..start + record.payload_len()].to_vec();
        let mut record = record;
        match &mut record {
            Record::Begin(_) => sums = Fletcher4::default(),
            Record::End(end) if end.digest != Digest::default() => end.digest = sums.finish(),
            Record::Object(o) if o.bonus_kind == DmuType::SA => {
                let dnode = received.hold(o.object)?;
                let mut places = Vec::new();
                if let Some(sa) = &attributes {
                    sa.places_in_bonus(&dnode, &mut |attr, range| places.push((attr, range)))?;
                }
                swap_attributes(&mut payload, places);
            }
            Record::Object(o) => byteswap::swap_block(o.bonus_kind, &mut payload),
            Record::Write(w) if !w.is_compressed() => swap_block(w.kind, &mut payload),
            // Only extended attributes lie there, and those are bytes.
            Record::Spill(_) => swap_attributes(&mut payload, Vec::new()),
            _ => {}
        }
        let mut bytes = record.to_bytes(ByteOrder::Big);
        sums.update_foreign(&bytes[..CHECKSUM_OFFSET]);
        if !matches!(record, Record::Begin(_)) {
            Record::set_checksum(&mut bytes, ByteOrder::Big, sums.finish());
        }
        sums.update_foreign(&bytes[CHECKSUM_OFFSET..]);
        sums.update_foreign(&payload);
        out.extend_from_slice(&bytes);
        out.extend_from_slice(&payload);
    }
    Ok(out)
}

/// Turns a block of ours: the other way round, what a ZAP's block is shows in its first word's own order.
fn swap_block(kind: DmuType, block: &mut [u8]) {
    let is_zap = kind.byteswap_class() == Some(ByteswapClass::Zap);
    let turn_first = |block: &mut [u8]| {
        if is_zap && let Some(word) = block.first_chunk_mut::<8>() {
            word.reverse();
        }
    };
    turn_first(block);
    byteswap::swap_block(kind, block);
    turn_first(block);
}

/// Turns packed attributes into the other byte order.
fn swap_attributes(bytes: &mut [u8], places: Vec<(Attr, Range<usize>)>) {
    let Ok(header) = SaHeader::parse(bytes) else { return };
    for (attr, range) in places {
        let class = match ZPL_ATTRIBUTES[attr as usize].1 {
            SaByteswap::U64 => ByteswapClass::U64,
            SaByteswap::U32 => ByteswapClass::U32,
            SaByteswap::U16 => ByteswapClass::U16,
            SaByteswap::U8 => ByteswapClass::U8,
            SaByteswap::Acl => ByteswapClass::Acl,
        };
        byteswap::swap_class(class, &mut bytes[range]);
    }
    bytes[..4].reverse();
    bytes[4..header.size].as_chunks_mut::<2>().0.iter_mut().for_each(|word| word.reverse());
}
