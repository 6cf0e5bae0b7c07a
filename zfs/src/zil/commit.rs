//! Making listed changes durable: leader and followers, allocating and writing.
use super::itx::{Change, Itx};
use super::pack::{self, PackedBlock, Packer};
use super::{Error, LogSource, Lwb, LwbState, MAX_BLOCK, Result, SIZES, SyncMode, Zil};
use crate::bugs::{self, Bug};
use crate::txg::TxgHold;
use crate::vdev::Leaf;
use abd::{Abd, AbdMut};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
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

/// Blocks on their way, and where.
struct Issued {
    txg: Txg,
    writes: Vec<(BlkPtr, Abd)>,
    nr: usize,
    /// What the first block was packed and sealed in.
    spare: (Vec<u8>, Option<Abd>),
}

/// Memory of the last commit's first block, for the next one's: new memory costs more than what is written into it.
#[derive(Debug, Default)]
pub(super) struct Spare {
    packed: Vec<u8>,
    sealed: Option<AbdMut>,
}

impl Spare {
    /// Takes what nobody else has by now.
    fn keep(&mut self, (mut packed, sealed): (Vec<u8>, Option<Abd>)) {
        if packed.capacity() <= SPARE_MAX {
            packed.clear();
            self.packed = packed;
        }
        let sealed = sealed.and_then(|buffer| buffer.try_into_mut().ok());
        self.sealed = sealed.filter(|buffer| buffer.len() <= SPARE_MAX);
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
        let mine = {
            let mut queue = self.queue.lock();
            queue.requested += 1;
            queue.requested
        };
        self.arrived.wake_all();
        // A request is done when a leader that took the lists after it has finished, whoever that was.
        loop {
            enum Role {
                Done,
                Leader,
            }
            let role = self.queue_changed_wait(|queue| {
                if queue.done >= mine {
                    return Some(Role::Done);
                }
                if queue.has_leader {
                    return None;
                }
                queue.has_leader = true;
                Some(Role::Leader)
            });
            match role {
                Role::Done => return Ok(()),
                Role::Leader => {
                    let upto = self.gather();
                    let result = self.write_listed();
                    {
                        let mut queue = self.queue.lock();
                        queue.has_leader = false;
                        if result.is_ok() {
                            queue.done = queue.done.max(upto);
                        }
                    }
                    self.queue_changed.wake_all();
                    result?;
                }
            }
        }
    }

    /// Waits a little for those who committed together with others lately: threads that were all woken by one commit come
    /// back one by one, and a leader that ran ahead would write a block for itself alone. The number of the last request
    /// that the commit serves. Not a moment when nobody else was there lately.
    fn gather(&self) -> u64 {
        let expected = {
            let queue = self.queue.lock();
            queue.expected
        };
        if expected > 1 {
            let deadline = rt::now().after(self.storage.usual_log_time() / GATHER_SHARE);
            self.arrived.wait_until(deadline, "log company", || {
                let queue = self.queue.lock();
                (queue.requested - queue.done >= expected).then_some(())
            });
        }
        let mut queue = self.queue.lock();
        let found = queue.requested - queue.done;
        queue.expected = found.max(queue.expected - queue.expected.div_ceil(8));
        queue.requested
    }

    fn queue_changed_wait<R>(&self, mut ready: impl FnMut(&mut super::Queue) -> Option<R>) -> R {
        if let Some(now) = ready(&mut self.queue.lock()) {
            return now;
        }
        self.queue_changed.wait("log commit", || ready(&mut self.queue.lock()))
    }

    /// The leader's part: everything that has its place in the list becomes durable.
    fn write_listed(&self) -> Result<()> {
        let batch = self.itxs.take(self.unsynced());
        if batch.is_empty() {
            return Ok(());
        }
        if self.try_log(&batch) {
            return Ok(());
        }
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

    /// Logs a batch; false when that is not possible or not sensible.
    fn try_log(&self, batch: &[Itx]) -> bool {
        if batch.iter().any(|itx| itx.change == Change::Wait) {
            return false;
        }
        let (first_size, seq) = {
            let mut chain = self.chain.lock();
            // What the chain holds is found only through a header that is on disk: until then the group is waited for.
            let is_named = chain.started <= self.txgs.synced_txg() || bugs::is(Bug::ChainBeforeHeader);
            if !chain.lwbs.is_empty() && !is_named {
                return false;
            }
            match chain.lwbs.back() {
                // A chain that ends is let run dry: one that went on would never.
                Some(open) if !chain.is_broken && !chain.is_closing && open.state == LwbState::Open => {
                    (open.bp.psize() as usize, chain.seq)
                }
                _ => {
                    chain.is_wanted = true;
                    return false;
                }
            }
        };
        let source = self.source.lock().as_ref().and_then(alloc::sync::Weak::upgrade);
        let mut leaves = Vec::new();
        let packed = self.pack(batch, source.as_deref(), (first_size, seq), &mut leaves);
        let Some((blocks, seq)) = packed else { return false };
        if blocks.is_empty() {
            return true;
        }
        self.chain.lock().seq = seq;
        let Some(issued) = self.issue(blocks) else { return false };
        let result = self.write_blocks(issued.writes, &leaves);
        self.spare.lock().keep(issued.spare);
        self.note_landed(issued.txg, issued.nr, result.is_ok());
        result.is_ok() && !self.txgs.is_suspended()
    }

    /// Writes a commit's blocks: the first, which the chain leads to, only when the others are durable. So a commit is
    /// replayed as a whole or not at all: its records may have data in them that only its later records account for.
    ///
    /// `leaves` have what large writes wrote: durable with the records, or before (see [`super::large`]).
    fn write_blocks(&self, mut writes: Vec<(BlkPtr, Abd)>, leaves: &[Arc<Leaf>]) -> Result<()> {
        if writes.len() == 1 {
            return self.storage.write_log(writes, leaves);
        }
        let others = writes.split_off(1);
        self.storage.write_log(others, leaves)?;
        self.storage.write_log(writes, &[])
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
        let memory = core::mem::take(&mut self.spare.lock().packed);
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
    fn issue(&self, blocks: Vec<PackedBlock>) -> Option<Issued> {
        let hold = self.txgs.hold_open();
        let next = self.allocate_next(&hold, &blocks)?;
        let txg = hold.txg();
        let nr = blocks.len();
        let mut writes = Vec::with_capacity(nr);
        {
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
        }
        // From here on the group's sync waits for us, and we for nothing but the device.
        self.in_flight[txg.slot()].fetch_add(1, Ordering::SeqCst);
        self.is_dirty[txg.slot()].store(true, Ordering::Release);
        drop(hold);
        let mut used = (Vec::new(), None);
        let sealed: Result<Vec<_>> = writes
            .into_iter()
            .map(|(bp, block, next)| {
                let spare = self.spare.lock().sealed.take();
                let (buffer, len) = seal(&block.bytes, &bp, &next, spare)?;
                let data = buffer.slice(0..len);
                if used.1.is_none() {
                    used = (block.bytes, Some(buffer));
                }
                Ok((bp, data))
            })
            .collect();
        let Ok(writes) = sealed else {
            self.note_landed(txg, nr, false);
            return None;
        };
        let bytes = writes.iter().map(|(_, data)| data.len() as u64).sum();
        self.counters.blocks.fetch_add(nr as u64, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(Issued { txg, writes, nr, spare: used })
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

    /// The blocks in flight (one commit's, since there is one leader) are durable, or the chain is broken.
    fn note_landed(&self, txg: Txg, nr: usize, is_durable: bool) {
        {
            let mut chain = self.chain.lock();
            if is_durable {
                // From the end: before them lies everything that the group has logged so far.
                let newest_first = chain.lwbs.iter_mut().rev();
                newest_first
                    .filter(|lwb| lwb.state == LwbState::InFlight)
                    .take(nr)
                    .for_each(|lwb| lwb.state = LwbState::Done);
            } else {
                chain.is_broken = true;
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
