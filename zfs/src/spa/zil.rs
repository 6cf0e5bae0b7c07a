//! Looking at intent logs from outside: do they hold anything that is not in the tree?
//!
//! What it is not: claiming, replaying or writing logs.
use crate::vdev::Priority;
use crate::zio::Storage;
use ondisk::zil::{CHAIN_SIZE, RawChain, RawWriteRecord, RecordHead, RecordKind, ZilHeader};
use ondisk::{BlkPtr, Bookmark, Checksum, Txg};
use zerocopy::FromBytes;

/// Most blocks of one chain that are followed.
const CHAIN_MAX: usize = 1 << 20;

/// Whether the log holds records of changes that are not in a tree as of `synced`. The chain ends at the first block that
/// is not the one that was to be written there.
pub(crate) fn has_records(storage: &Storage, header: &ZilHeader, objset: u64, synced: Txg) -> bool {
    // Once claimed, records stay until they are replayed, however many groups have been written since.
    let is_claimed = header.claim_txg != Txg::ZERO;
    let mut found = false;
    for_each_block(storage, header, objset, &mut |_, records, _| {
        let mut rest = records;
        while let Ok(head) = RecordHead::parse(rest) {
            found |= is_claimed || head.txg > synced;
            match rest.get(head.reclen..) {
                Some(next) if head.reclen > 0 => rest = next,
                _ => break,
            }
        }
    });
    found
}

/// Calls `f` with each block of a chain, its records, and the pointer to the block after it.
pub(crate) fn for_each_block(
    storage: &Storage,
    header: &ZilHeader,
    objset: u64,
    f: &mut dyn FnMut(&BlkPtr, &[u8], &BlkPtr),
) {
    let mut bp = header.log;
    for sequence in 0..CHAIN_MAX {
        if bp.is_hole() {
            return;
        }
        let bookmark =
            Bookmark { objset, level: Bookmark::LEVEL_ZIL, blkid: sequence as u64, ..Bookmark::default() };
        let Ok(block) = storage.read_uncached(&bp, bookmark, Priority::SyncRead) else {
            return;
        };
        let bytes = block.to_contiguous();
        // The head lies first in slim blocks, last in those of old pools.
        let (chain, start, end) = match bp.checksum_alg() {
            Checksum::Zilog2 => (bytes.get(..CHAIN_SIZE), CHAIN_SIZE, None),
            _ => {
                let at = bytes.len().saturating_sub(CHAIN_SIZE);
                (bytes.get(at..), 0, Some(at))
            }
        };
        let Some(chain) = chain.and_then(|c| RawChain::read_from_bytes(c).ok()) else {
            return;
        };
        let used = usize::try_from(chain.used.get()).unwrap_or(0);
        let used = end.map_or(used, |end| used.min(end));
        let Ok(next) = chain.next.parse() else {
            return;
        };
        f(&bp, bytes.get(start..used).unwrap_or_default(), &next);
        // Each block is written for its number in the chain: one that does not count on ends it.
        if next.digest().0[3] != bp.digest().0[3].wrapping_add(1) {
            return;
        }
        bp = next;
    }
}

/// Calls `f` with the blocks that hold the data of large writes, which their records only point to.
pub(crate) fn for_each_indirect(records: &[u8], f: &mut dyn FnMut(&BlkPtr)) {
    let mut rest = records;
    while let Ok(head) = RecordHead::parse(rest) {
        if head.kind == RecordKind::Write
            && let Ok((record, _)) = RawWriteRecord::ref_from_prefix(rest)
            && let Ok(bp) = record.bp.parse()
        {
            f(&bp);
        }
        match rest.get(head.reclen..) {
            Some(next) if head.reclen > 0 => rest = next,
            _ => return,
        }
    }
}
