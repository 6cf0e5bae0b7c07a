//! What must hold of the content of blocks and bonus buffers, by type.

use crate::walk::Result;
use ondisk::space_map::SpaceMapEntry;
use ondisk::zap::{
    self, RawLeafArray, RawLeafEntry, RawLeafHeader, RawMzapEntry, RawMzapHeader, RawZapHeader,
};
use ondisk::{ByteswapClass, DmuType, bpobj, dsl, sa, space_map};
use zerocopy::FromBytes;

/// A data block of an object of that type.
///
/// # Errors
/// What does not hold.
pub fn block(kind: DmuType, data: &[u8]) -> Result<()> {
    if kind == DmuType::SPACE_MAP {
        return space_map_block(data);
    }
    if kind == DmuType::SA {
        return sa::SaHeader::parse(data).map(|_| ()).map_err(|e| format!("spill block: {e:?}"));
    }
    if kind.byteswap_class() == Some(ByteswapClass::Zap) { zap_block(data) } else { Ok(()) }
}

/// A bonus buffer of that type.
///
/// # Errors
/// What does not hold.
pub fn bonus(kind: DmuType, bonus: &[u8]) -> Result<()> {
    let result = match kind {
        DmuType::DSL_DIR => dsl::DslDirPhys::parse(bonus).map(|_| ()),
        DmuType::DSL_DATASET => dsl::DslDatasetPhys::parse(bonus).map(|_| ()),
        DmuType::DEADLIST_HDR => dsl::DeadlistPhys::parse(bonus).map(|_| ()),
        DmuType::BPOBJ_HDR => bpobj::BpobjPhys::parse(bonus).map(|_| ()),
        DmuType::SPACE_MAP_HEADER => space_map::SpaceMapPhys::parse(bonus).map(|_| ()),
        DmuType::SA if !bonus.is_empty() => sa::SaHeader::parse(bonus).map(|_| ()),
        _ => Ok(()),
    };
    result.map_err(|e| format!("bonus of type {}: {e:?}", kind.0))
}

fn space_map_block(data: &[u8]) -> Result<()> {
    let words: Vec<u64> = data.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
    let mut rest = &words[..];
    // beyond the map's length the block holds zeros, which read as runs of one unit
    while !rest.is_empty() && rest[0] != 0 {
        let (entry, used) = SpaceMapEntry::decode(rest).map_err(|e| format!("space map: {e:?}"))?;
        if let SpaceMapEntry::Run(run) = entry {
            let again = if used == 1 {
                vec![run.encode_one().map_err(|e| format!("{run:?}: {e:?}"))?]
            } else {
                run.encode_two().map_err(|e| format!("{run:?}: {e:?}"))?.to_vec()
            };
            if again != rest[..used] {
                return Err(format!("{run:?} does not encode to its own words"));
            }
        }
        rest = &rest[used..];
    }
    Ok(())
}

fn zap_block(data: &[u8]) -> Result<()> {
    let word = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap_or_default());
    match word(0) {
        zap::ZBT_MICRO => micro(data).map(|_| ()),
        zap::ZBT_HEADER => {
            let (header, _) = RawZapHeader::ref_from_prefix(data).map_err(|e| format!("{e:?}"))?;
            if header.magic.get() == zap::ZAP_MAGIC { Ok(()) } else { Err("ZAP header without magic".into()) }
        }
        zap::ZBT_LEAF => leaf(data).map(|_| ()),
        // the pointer table's own blocks hold block numbers
        _ => Ok(()),
    }
}

/// The value of a name in a ZAP block: as bytes, big-endian as in leaves.
pub fn zap_value(data: &[u8], name: &str) -> Option<Vec<u8>> {
    let first = u64::from_le_bytes(data.get(..8)?.try_into().ok()?);
    let entries = match first {
        zap::ZBT_MICRO => micro(data).ok()?,
        zap::ZBT_LEAF => leaf(data).ok()?,
        _ => return None,
    };
    entries.into_iter().find(|(n, _)| n == name.as_bytes()).map(|(_, value)| value)
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn micro(data: &[u8]) -> Result<Entries> {
    let (header, rest) = RawMzapHeader::ref_from_prefix(data).map_err(|e| format!("{e:?}"))?;
    if header.salt.get() == 0 {
        return Err("micro-ZAP without salt".into());
    }
    let entries =
        rest.chunks_exact(zap::MZAP_ENTRY_SIZE).filter_map(|e| RawMzapEntry::ref_from_bytes(e).ok());
    Ok(entries
        .filter(|e| !e.name().is_empty())
        .map(|e| (e.name().to_vec(), e.value.get().to_be_bytes().to_vec()))
        .collect())
}

fn leaf(data: &[u8]) -> Result<Entries> {
    let shift = data.len().trailing_zeros();
    let (header, _) = RawLeafHeader::ref_from_prefix(data).map_err(|e| format!("{e:?}"))?;
    if header.magic.get() != zap::LEAF_MAGIC {
        return Err("leaf without magic".into());
    }
    let chunks: Vec<&[u8]> = data[zap::leaf_chunks_offset(shift)..]
        .chunks_exact(zap::CHUNK_SIZE)
        .take(zap::leaf_chunks(shift))
        .collect();
    let mut entries = Vec::new();
    let mut free = 0;
    for chunk in &chunks {
        match chunk[0] {
            zap::CHUNK_ENTRY => {
                let entry = RawLeafEntry::ref_from_bytes(chunk).map_err(|e| format!("{e:?}"))?;
                let mut name = array(&chunks, entry.name_chunk.get(), usize::from(entry.name_numints.get()))?;
                name.pop();
                let bytes = usize::from(entry.value_intlen) * usize::from(entry.value_numints.get());
                entries.push((name, array(&chunks, entry.value_chunk.get(), bytes)?));
            }
            zap::CHUNK_FREE => free += 1,
            zap::CHUNK_ARRAY => {}
            tag => return Err(format!("chunk of tag {tag}")),
        }
    }
    if entries.len() != usize::from(header.nentries.get()) || free != header.nfree.get() {
        return Err(format!("leaf with {} entries and {free} free chunks says otherwise", entries.len()));
    }
    Ok(entries)
}

fn array(chunks: &[&[u8]], first: u16, len: usize) -> Result<Vec<u8>> {
    let (mut out, mut next) = (Vec::new(), first);
    while out.len() < len {
        let chunk = chunks.get(usize::from(next)).ok_or("array leads nowhere")?;
        let chunk = RawLeafArray::ref_from_bytes(chunk).map_err(|e| format!("{e:?}"))?;
        let take = (len - out.len()).min(zap::CHUNK_ARRAY_BYTES);
        out.extend_from_slice(&chunk.bytes[..take]);
        next = chunk.next.get();
    }
    Ok(out)
}
