//! Making listed changes durable: what a leader does, allocating and writing.
use super::chain::number_of;
use super::itx::{Change, Itx};
use super::pack::{self, PackedBlock, Packer};
use super::queue::{DEPTH, Role};
use super::{Error, LogSource, Lwb, LwbState, MAX_BLOCK, Result, SIZES, SyncMode, Zil};
use crate::bugs::{self, Bug};
use crate::txg::TxgHold;
use crate::vdev::Leaf;
use abd::{Abd, AbdMut};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use ondisk::zil::{CHAIN_SIZE, RawChain, ZILOG2_CHECKSUM_UNIT};
use ondisk::{BlkPtr, Digest, Txg};
use zerocopy::FromBytes;

/// More than this in one commit's log blocks is written with its group instead.
pub(super) const BATCH_MAX: usize = 4 << 20;

/// How often a commit looks for changes made while it fetched data.
const CATCH_UP_MAX: usize = 8;

/// A leader waits for company for this share of what the device takes.
const GATHER_SHARE: u32 = 2;

/// Largest buffer that is kept from one commit to the next.
const SPARE_MAX: usize = 64 << 10;

/// What came of packing.
enum Packed {
    /// Its group must be waited for.
    Refused,
    /// Nothing is left to say: others had it.
    Nothing,
    Issued(Issued),
}

/// Blocks that have their places in the chain and are to be written.
struct Issued {
    /// The group in which they count.
    txg: Txg,
    writes: Vec<(BlkPtr, Abd)>,
    /// Their numbers in the chain.
    numbers: Range<u64>,
    /// Have what large writes wrote: durable with the records, or before (see [`super::large`]).
    leaves: Vec<Arc<Leaf>>,
    /// What the first block was packed and sealed in.
    spare: (Vec<u8>, Option<Abd>),
}

/// Memory of the last commits' first blocks, for the next ones': new memory costs more than what is written into it.
#[derive(Debug, Default)]
pub(super) struct Spare {
    packed: Vec<Vec<u8>>,
    sealed: Vec<AbdMut>,
}

impl Spare {
    /// Takes what nobody else has by now.
    fn keep(&mut self, (mut packed, sealed): (Vec<u8>, Option<Abd>)) {
        if packed.capacity() <= SPARE_MAX && self.packed.len() < DEPTH {
            packed.clear();
            self.packed.push(packed);
        }
        let sealed = sealed.and_then(|buffer| buffer.try_into_mut().ok());
        if self.sealed.len() < DEPTH {
            self.sealed.extend(sealed.filter(|buffer| buffer.len() <= SPARE_MAX));
        }
    }
}

impl Zil {
    /// Blocks until what was listed for `object` before the call (0: for everything), and every change of names, is
    /// durable. The caller holds no transaction and no lock that a reader of file content takes.
    ///
    /// # Errors
    /// `Suspended`: it is not durable and may never be.
    pub fn commit(&self, object: u64) -> Result<()> {
        if self.mode() == SyncMode::Disabled {
            return Ok(());
        }
        if self.txgs.is_suspended() {
            return self.txgs.wait_synced(self.txgs.open_txg());
        }
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        match object {
            0 => self.itxs.order_all(self.unsynced()),
            _ if bugs::is(Bug::LogWithoutData) => {}
            object => self.itxs.order(self.unsynced(), object),
        }
        loop {
            match self.queue.join() {
                Role::Leader(number) => return self.lead(number),
                Role::Follower(number) if self.queue.wait_settled(number) => return Ok(()),
                Role::Follower(_) => {}
            }
        }
    }

    /// The leader's part: everything that has its place in the list becomes durable.
    fn lead(&self, number: u64) -> Result<()> {
        self.queue.begin(self.storage.usual_log_time() / GATHER_SHARE);
        // Before the lists are taken: what is not in them any more is on its way with a commit that may still fail.
        let epoch = self.chain.lock().epoch;
        let batch = self.itxs.take(self.unsynced());
        let packed = self.pack_and_issue(&batch);
        // Before anybody else packs: later records may depend on what has none.
        let mut result = if matches!(packed, Packed::Refused) { self.wait_group() } else { Ok(()) };
        self.queue.packed();
        let is_logged = match packed {
            Packed::Refused => false,
            Packed::Nothing => true,
            Packed::Issued(issued) => {
                self.write_issued(issued);
                true
            }
        };
        if !bugs::is(Bug::CommitsOutOfOrder) {
            self.queue.wait_order(number);
        }
        let is_found = self.chain.lock().epoch == epoch && !self.txgs.is_suspended();
        if is_logged && !is_found {
            result = self.wait_group();
        }
        if result.is_err() {
            // Those behind it were packed without what this one had.
            self.chain.lock().epoch += 1;
        }
        self.queue.settle(number, result.is_ok());
        result
    }

    /// Makes durable with its group what cannot be logged, or was and cannot be found.
    fn wait_group(&self) -> Result<()> {
        // Whatever was taken belongs to the open group or one before it.
        self.counters.group_waits.fetch_add(1, Ordering::Relaxed);
        let open = self.txgs.open_txg();
        let result = self.txgs.wait_synced(open);
        if result.is_err() {
            // What was taken is in no list any more: whoever asks again, when the pool goes on, waits for its group.
            self.itxs.add(open, Change::Wait);
        }
        result
    }

    /// Packs a batch and gives it its place in the chain, unless that is not possible or not sensible.
    fn pack_and_issue(&self, batch: &[Itx]) -> Packed {
        if batch.is_empty() {
            return Packed::Nothing;
        }
        if batch.iter().any(|itx| itx.change == Change::Wait) {
            return Packed::Refused;
        }
        let Some(first) = self.open_block() else { return Packed::Refused };
        let source = self.source.lock().as_ref().and_then(alloc::sync::Weak::upgrade);
        let mut leaves = Vec::new();
        match self.pack(batch, source.as_deref(), first, &mut leaves) {
            None => Packed::Refused,
            Some((blocks, _)) if blocks.is_empty() => Packed::Nothing,
            Some((blocks, seq)) => {
                self.chain.lock().seq = seq;
                self.issue(blocks, leaves).map_or(Packed::Refused, Packed::Issued)
            }
        }
    }

    /// Size of the block at the chain's end, and the number of the newest record. `None`: nothing can be added.
    fn open_block(&self) -> Option<(usize, u64)> {
        let mut chain = self.chain.lock();
        // What the chain holds is found only through a header that is on disk: until then the group is waited for.
        let is_named = chain.started <= self.txgs.synced_txg() || bugs::is(Bug::ChainBeforeHeader);
        if !chain.lwbs.is_empty() && !is_named {
            return None;
        }
        match chain.lwbs.back() {
            // A chain that ends is let run dry: one that went on would never.
            Some(open) if !chain.is_broken && !chain.is_closing && open.state == LwbState::Open => {
                Some((open.bp.psize() as usize, chain.seq))
            }
            _ => {
                chain.is_wanted = true;
                None
            }
        }
    }

    /// Writes what was issued, and notes what came of it.
    fn write_issued(&self, issued: Issued) {
        let result = self.write_blocks(issued.writes, &issued.leaves);
        self.spare.lock().keep(issued.spare);
        self.note_landed(issued.txg, &issued.numbers, result.is_ok());
    }

    /// Writes a commit's blocks: the first, which the chain leads to, only when the others are durable. So a commit is
    /// replayed as a whole or not at all: its records may have data in them that only its later records account for.
    fn write_blocks(&self, mut writes: Vec<(BlkPtr, Abd)>, leaves: &[Arc<Leaf>]) -> Result<()> {
        let is_alone = self.queue.expects_nobody();
        if writes.len() == 1 {
            return self.storage.write_log(writes, leaves, is_alone);
        }
        let others = writes.split_off(1);
        self.storage.write_log(others, leaves, is_alone)?;
        self.storage.write_log(writes, &[], is_alone)
    }

    /// Packs a batch, and what was changed in its files while that was done: the data that is fetched may have those
    /// changes in it already, and a log with half of a later write in it, and no record of the rest, would leave a file
    /// that never was. A change that can be seen in the data has been listed: both happen under the range's lock.
    fn pack(
        &self,
        batch: &[Itx],
        source: Option<&dyn LogSource>,
        (first_size, seq): (usize, u64),
        leaves: &mut Vec<Arc<Leaf>>,
    ) -> Option<(Vec<PackedBlock>, u64)> {
        let rule = self.large_rule(pack::estimate(batch));
        let memory = self.spare.lock().packed.pop().unwrap_or_default();
        let mut packer = Packer::new(source, (memory, first_size), seq);
        let mut bytes = 0;
        let mut add = |batch: &[Itx]| {
            let placed = self.place_large(batch, rule, source, leaves)?;
            bytes += pack::estimate(&placed);
            if bytes > BATCH_MAX { Err(Error::TooLarge) } else { packer.add(&placed) }
        };
        add(batch).ok()?;
        let mut objects: BTreeSet<u64> = batch.iter().filter_map(Itx::written).collect();
        for _ in 0..CATCH_UP_MAX {
            objects.iter().for_each(|object| self.itxs.order(self.unsynced(), *object));
            let more = if objects.is_empty() { Vec::new() } else { self.itxs.take(self.unsynced()) };
            if more.is_empty() {
                return Some(packer.finish());
            }
            add(&more).ok()?;
            objects = more.iter().filter_map(Itx::written).collect();
        }
        // Someone writes faster than we read: the group has it all.
        None
    }

    /// Gives packed blocks their places, links them, and counts them in the open group. `None` when there is no room.
    fn issue(&self, blocks: Vec<PackedBlock>, leaves: Vec<Arc<Leaf>>) -> Option<Issued> {
        let hold = self.txgs.hold_open();
        let next = self.allocate_next(&hold, &blocks)?;
        let txg = hold.txg();
        let nr = blocks.len() as u64;
        let mut writes = Vec::with_capacity(blocks.len());
        let numbers = {
            let mut chain = self.chain.lock();
            let Some(open) = chain.lwbs.back().map(|lwb| lwb.bp).filter(|_| !chain.is_broken) else {
                drop(chain);
                next.iter().for_each(|bp| self.storage.unallocate_log(bp, txg));
                return None;
            };
            let mut bp = open;
            let total = blocks.iter().map(|b| b.bytes.len() - CHAIN_SIZE).sum();
            for (block, mut next) in blocks.into_iter().zip(next) {
                next.set_digest(next_digest(bp.digest()));
                if let Some(lwb) = chain.lwbs.back_mut() {
                    (lwb.state, lwb.max_txg) = (LwbState::InFlight, block.max_txg);
                }
                chain.lwbs.push_back(Lwb {
                    bp: next,
                    state: LwbState::Open,
                    alloc_txg: txg,
                    max_txg: Txg::ZERO,
                });
                writes.push((bp, block, next));
                bp = next;
            }
            chain.note_size(total);
            number_of(&open)..number_of(&open) + nr
        };
        // From here on the group's sync waits for us, and we for nothing but the device.
        self.in_flight[txg.slot()].fetch_add(1, Ordering::SeqCst);
        self.is_dirty[txg.slot()].store(true, Ordering::Release);
        drop(hold);
        let mut used = (Vec::new(), None);
        let sealed: Result<Vec<_>> = writes
            .into_iter()
            .map(|(bp, block, next)| {
                let spare = self.spare.lock().sealed.pop();
                let (buffer, len) = seal(&block.bytes, &bp, &next, spare)?;
                let data = buffer.slice(0..len);
                if used.1.is_none() {
                    used = (block.bytes, Some(buffer));
                }
                Ok((bp, data))
            })
            .collect();
        let Ok(writes) = sealed else {
            self.note_landed(txg, &numbers, false);
            return None;
        };
        let bytes = writes.iter().map(|(_, data)| data.len() as u64).sum();
        self.counters.blocks.fetch_add(nr, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(Issued { txg, writes, numbers, leaves, spare: used })
    }

    /// The blocks after each of `blocks`, in the held group: the next of the batch, and the one for the next commit.
    fn allocate_next(&self, hold: &TxgHold, blocks: &[PackedBlock]) -> Option<Vec<BlkPtr>> {
        if !self.has_room() {
            return None;
        }
        let guess = self.chain.lock().guess();
        let sizes = blocks.iter().skip(1).map(|b| b.size).chain([guess]);
        let mut next: Vec<BlkPtr> = Vec::with_capacity(blocks.len());
        for size in sizes {
            match self.storage.allocate_log(size as u32, hold.txg(), self.objset, !self.is_for_throughput()) {
                Ok((bp, _)) => next.push(bp),
                Err(_) => {
                    next.iter().for_each(|bp| self.storage.unallocate_log(bp, hold.txg()));
                    return None;
                }
            }
        }
        Some(next)
    }

    /// Blocks in flight are durable, or the chain is broken: what follows them cannot be found.
    fn note_landed(&self, txg: Txg, numbers: &Range<u64>, is_durable: bool) {
        {
            let mut chain = self.chain.lock();
            if is_durable {
                // From the end: before them lies everything that the group has logged so far.
                let newest_first = chain.lwbs.iter_mut().rev();
                newest_first
                    .take_while(|lwb| number_of(&lwb.bp) >= numbers.start)
                    .filter(|lwb| number_of(&lwb.bp) < numbers.end)
                    .for_each(|lwb| lwb.state = LwbState::Done);
            } else {
                chain.is_broken = true;
                chain.epoch += 1;
            }
        }
        let left: &AtomicU64 = &self.in_flight[txg.slot()];
        left.fetch_sub(1, Ordering::SeqCst);
        self.landed.wake_all();
    }
}

impl super::Chain {
    fn note_size(&mut self, bytes: usize) {
        if self.sizes.len() >= SIZES {
            self.sizes.pop_front();
        }
        self.sizes.push_back(bytes);
    }

    /// Bytes for the next block: what the largest recent commit would have needed.
    pub(super) fn guess(&self) -> usize {
        const FIRST: usize = 16 << 10;
        let largest = self.sizes.iter().max().map_or(FIRST, |n| pack::block_size_for(*n));
        largest.min(MAX_BLOCK)
    }
}

/// The words of the block after one.
fn next_digest(digest: Digest) -> Digest {
    let [a, b, objset, number] = digest.0;
    Digest([a, b, objset, number.wrapping_add(1)])
}

/// A block's bytes with its head, filled up to the unit of its checksum: that many bytes at the beginning of a buffer,
/// `spare` if it is large enough.
fn seal(records: &[u8], bp: &BlkPtr, next: &BlkPtr, spare: Option<AbdMut>) -> Result<(Abd, usize)> {
    let used = records.len();
    let len = used.next_multiple_of(ZILOG2_CHECKSUM_UNIT).min(bp.psize() as usize);
    let spare = spare.filter(|buffer| buffer.len() >= len);
    let mut buffer = spare.unwrap_or_else(|| AbdMut::zeroed(len));
    let bytes = buffer.as_mut_slice().and_then(|b| b.get_mut(..len)).ok_or(Error::Invalid)?;
    let (head, rest) = bytes.split_at_mut_checked(used).ok_or(Error::Invalid)?;
    head.copy_from_slice(records);
    rest.fill(0);
    let (head, _) = RawChain::mut_from_prefix(bytes).map_err(|_| Error::Invalid)?;
    head.next = next.to_raw();
    head.used = (used as u64).into();
    codec::embedded::seal_log(bytes, &bp.digest()).map_err(|_| Error::Invalid)?;
    Ok((buffer.freeze(), len))
}
