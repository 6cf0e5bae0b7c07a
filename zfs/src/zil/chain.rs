//! Reading chains of log blocks.
//!
//! A chain ends at the first block that is not the one that was to be written there: its checksum is taken together with
//! the chain's random guid and the block's number in it, so what was there before does not verify. That is no damage.
//!
//! What it is not: it neither claims nor applies anything, and nothing it reads is believed beyond the block's bounds.
use crate::vdev::Priority;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::byteswap::swap_u64s;
use ondisk::zil::{CHAIN_SIZE, RawChain, RawWriteRecord, RecordHead, RecordKind, ZilHeader};
use ondisk::zil_record::{Record, swap_record};
use ondisk::{BlkPtr, Bookmark, Checksum, Txg};
use zerocopy::FromBytes;

/// Most blocks of one chain that are followed.
const CHAIN_MAX: usize = 1 << 20;

/// One block of a chain.
pub(crate) struct LogBlock {
    /// Its records, in our byte order.
    pub(crate) records: Vec<u8>,
    /// The block after it: allocated, perhaps never written.
    pub(crate) next: BlkPtr,
}

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It does.
    On,
    /// The log ends before this.
    Stop,
}

/// What a walk tells.
pub(crate) trait ChainVisitor {
    /// A block that belongs to the chain, before it is read: the last one was never written.
    fn block(&mut self, _bp: &BlkPtr) -> Result<Step> {
        Ok(Step::On)
    }

    /// All records of a block, before the first is told.
    fn records(&mut self, _records: &[u8]) -> Result<Step> {
        Ok(Step::On)
    }

    /// A record, and its bytes.
    fn record(&mut self, _head: &RecordHead, _bytes: &[u8]) -> Result<Step> {
        Ok(Step::On)
    }
}

/// The number of a block in its chain.
pub(crate) fn number_of(bp: &BlkPtr) -> u64 {
    bp.digest().0[3]
}

/// Reads one block of the chain of object set `objset`.
///
/// # Errors
/// Those of reading: then the chain ends here. `Damaged` when the block's head makes no sense.
pub(crate) fn read_block(storage: &Storage, bp: &BlkPtr, objset: u64) -> Result<LogBlock> {
    let bookmark =
        Bookmark { objset, level: Bookmark::LEVEL_ZIL, blkid: number_of(bp), ..Bookmark::default() };
    let block = storage.read_uncached(bp, bookmark, Priority::SyncRead)?;
    let bytes = block.to_contiguous();
    // The head lies first in slim blocks, last in those of old pools.
    let (chain, start, end) = match bp.checksum_alg() {
        Checksum::Zilog2 => (bytes.get(..CHAIN_SIZE), CHAIN_SIZE, bytes.len()),
        _ => {
            let at = bytes.len().saturating_sub(CHAIN_SIZE);
            (bytes.get(at..), 0, at)
        }
    };
    let chain = chain.and_then(|c| RawChain::read_from_bytes(c).ok()).ok_or(Error::Damaged)?;
    let used = usize::try_from(chain.used.get()).map_err(|_| Error::Damaged)?.min(end);
    let mut records = bytes.get(start..used).unwrap_or_default().to_vec();
    if !bp.is_little_endian() {
        to_native(&mut records);
    }
    Ok(LogBlock { records, next: chain.next.parse()? })
}

/// A foreign block was swapped as words when it was read; names and data must not be.
fn to_native(records: &mut [u8]) {
    swap_u64s(records);
    let mut rest = records;
    while let Ok(len) = swap_record(rest) {
        rest = match rest.get_mut(len..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => return,
        };
    }
}

/// Walks a chain, as far as it was claimed if it was.
///
/// # Errors
/// The visitor's. That a block cannot be read is the log's end.
pub(crate) fn walk(
    storage: &Storage,
    header: &ZilHeader,
    objset: u64,
    visitor: &mut dyn ChainVisitor,
) -> Result<()> {
    let is_claimed = header.claim_txg != Txg::ZERO;
    let mut bp = header.log;
    for _ in 0..CHAIN_MAX {
        if bp.is_hole() || (is_claimed && number_of(&bp) > header.claim_blk_seq) {
            return Ok(());
        }
        if visitor.block(&bp)? == Step::Stop {
            return Ok(());
        }
        let Ok(block) = read_block(storage, &bp, objset) else { return Ok(()) };
        if visitor.records(&block.records)? == Step::Stop {
            return Ok(());
        }
        let mut rest = &block.records[..];
        while let Ok(head) = RecordHead::parse(rest) {
            if is_claimed && head.seq > header.claim_lr_seq {
                return Ok(());
            }
            if visitor.record(&head, rest)? == Step::Stop {
                return Ok(());
            }
            rest = rest.get(head.reclen..).unwrap_or_default();
        }
        // Each block is written for its number in the chain: one that does not count on ends it.
        if number_of(&block.next) != number_of(&bp).wrapping_add(1) {
            return Ok(());
        }
        bp = block.next;
    }
    Ok(())
}

/// Whether a log holds records of changes that are not in a tree as of `synced`.
pub(crate) fn has_records(storage: &Storage, header: &ZilHeader, objset: u64, synced: Txg) -> bool {
    count_records(storage, header, objset, synced, 1) > 0
}

/// How many such records there are, at most `max`.
pub(crate) fn count_records(
    storage: &Storage,
    header: &ZilHeader,
    objset: u64,
    synced: Txg,
    max: u64,
) -> u64 {
    struct Look {
        synced: Txg,
        /// Once claimed, records stay until they are replayed, however many groups have been written since.
        since: Txg,
        replayed: u64,
        found: u64,
        max: u64,
    }
    impl ChainVisitor for Look {
        fn record(&mut self, head: &RecordHead, _bytes: &[u8]) -> Result<Step> {
            let is_new =
                if self.since == Txg::ZERO { head.txg > self.synced } else { head.txg >= self.since };
            self.found += u64::from(is_new && head.seq > self.replayed);
            Ok(if self.found >= self.max { Step::Stop } else { Step::On })
        }
    }
    let mut look = Look { synced, since: header.claim_txg, replayed: header.replay_seq, found: 0, max };
    // The visitor never fails.
    let _ = walk(storage, header, objset, &mut look);
    look.found
}

/// Calls `f` with each block of a chain, the unwritten last one included, and with the blocks that hold the data of
/// large writes: (pointer, it is a chain block). Once claimed, data blocks older than the claim are the tree's, or were
/// freed since: they are left out.
pub(crate) fn for_each_block(
    storage: &Storage,
    header: &ZilHeader,
    objset: u64,
    f: &mut dyn FnMut(&BlkPtr, bool),
) {
    struct Each<'a>(&'a mut dyn FnMut(&BlkPtr, bool), Txg);
    impl ChainVisitor for Each<'_> {
        fn block(&mut self, bp: &BlkPtr) -> Result<Step> {
            (self.0)(bp, true);
            Ok(Step::On)
        }

        fn record(&mut self, head: &RecordHead, bytes: &[u8]) -> Result<Step> {
            if let Some(bp) = indirect(head, bytes).filter(|bp| bp.birth() >= self.1) {
                (self.0)(&bp, false);
            }
            Ok(Step::On)
        }
    }
    // The visitor never fails.
    let _ = walk(storage, header, objset, &mut Each(f, header.claim_txg));
}

/// Calls `f` with each block that a chain's records clone, once for each time.
pub(crate) fn for_each_cloned(
    storage: &Storage,
    header: &ZilHeader,
    objset: u64,
    f: &mut dyn FnMut(&BlkPtr),
) {
    struct Each<'a>(&'a mut dyn FnMut(&BlkPtr));
    impl ChainVisitor for Each<'_> {
        fn record(&mut self, head: &RecordHead, bytes: &[u8]) -> Result<Step> {
            cloned(head, bytes).unwrap_or_default().iter().for_each(&mut *self.0);
            Ok(Step::On)
        }
    }
    // The visitor never fails.
    let _ = walk(storage, header, objset, &mut Each(f));
}

/// The blocks that a record clones, without holes and blocks that lie in their pointers: each is one reference that
/// claiming takes.
///
/// # Errors
/// `Damaged` when the record makes no sense.
pub(crate) fn cloned(head: &RecordHead, bytes: &[u8]) -> Result<Vec<BlkPtr>> {
    if head.kind != RecordKind::CloneRange {
        return Ok(Vec::new());
    }
    let Record::CloneRange { pointers, .. } = Record::parse(head, bytes)? else { return Ok(Vec::new()) };
    let parsed = pointers.chunks_exact(BLKPTR_SIZE).map(BlkPtr::from_bytes);
    let is_block = |bp: &BlkPtr| !bp.is_hole() && !bp.is_embedded();
    parsed.filter(|bp| bp.as_ref().is_ok_and(is_block) || bp.is_err()).map(|bp| Ok(bp?)).collect()
}

/// The block that holds a large write's data.
pub(crate) fn indirect(head: &RecordHead, bytes: &[u8]) -> Option<BlkPtr> {
    if head.kind != RecordKind::Write || head.reclen != size_of::<RawWriteRecord>() {
        return None;
    }
    let (record, _) = RawWriteRecord::ref_from_prefix(bytes).ok()?;
    record.bp.parse().ok().filter(|bp| !bp.is_hole() && !bp.is_embedded())
}
