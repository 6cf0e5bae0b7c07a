//! The log's part of writing a transaction group: the header, and freeing.
use super::{Chain, Lwb, LwbState, Result, Zil};
use crate::zio::SyncCtx;
use core::sync::atomic::Ordering;
use core::time::Duration;
use ondisk::zil::ZilHeader;
use ondisk::{BlkPtr, Digest, Txg};

/// How often the sync thread looks after the devices while commits are in flight.
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Zil {
    /// The header changes with `txg`.
    pub(crate) fn is_dirty(&self, txg: Txg) -> bool {
        let claimed = self.claimed.lock();
        let is_due = claimed.header.is_some_and(|(due, _)| due <= txg)
            || claimed.destroy.as_ref().is_some_and(|(due, _)| due.0 != 0 && *due <= txg);
        is_due || self.is_dirty[txg.slot()].load(Ordering::Acquire)
    }

    /// Brings the header to what `ctx.txg`'s tree must say, and frees what no tree needs from then on. True if the header
    /// changed. For the sync thread, when the object set is going to be written.
    ///
    /// # Errors
    /// `Damaged` when a block to be freed is not allocated.
    pub(crate) fn sync(&self, ctx: &SyncCtx, header: &mut ZilHeader) -> Result<bool> {
        let before = *header;
        self.wait_landed(ctx.txg);
        self.is_dirty[ctx.txg.slot()].store(false, Ordering::Release);
        self.sync_claimed(ctx, header)?;
        // A claimed log keeps its header until it has been replayed.
        if header.claim_txg == Txg::ZERO {
            self.sync_chain(ctx, header)?;
        }
        Ok(*header != before)
    }

    /// Waits for the commits that count in this group: for the device, never for a lock or another group.
    fn wait_landed(&self, txg: Txg) {
        let landed = || (self.in_flight[txg.slot()].load(Ordering::SeqCst) == 0).then_some(());
        while self.landed.wait_until(rt::now().after(LOOK_EVERY), "log blocks", landed).is_none() {
            self.storage.leaves().iter().for_each(|leaf| {
                leaf.poll();
            });
        }
    }

    /// Claim, replay and the end of a log that was found at import.
    fn sync_claimed(&self, ctx: &SyncCtx, header: &mut ZilHeader) -> Result<()> {
        let (claim, destroy) = {
            let mut claimed = self.claimed.lock();
            let claim = claimed.header.take_if(|(due, _)| *due <= ctx.txg);
            (claim, claimed.destroy.take_if(|(due, _)| *due <= ctx.txg))
        };
        if let Some((_, claim)) = claim {
            *header = claim;
        }
        let replayed = self.replayed[ctx.txg.slot()].swap(0, Ordering::Relaxed);
        if header.claim_txg != Txg::ZERO {
            header.replay_seq = header.replay_seq.max(replayed);
        }
        if let Some((_, blocks)) = destroy {
            *header = ZilHeader::default();
            blocks.iter().try_for_each(|bp| self.storage.free(ctx, bp))?;
        }
        Ok(())
    }

    fn sync_chain(&self, ctx: &SyncCtx, header: &mut ZilHeader) -> Result<()> {
        let (freed, needs_new) = {
            let mut chain = self.chain.lock();
            let freed = chain.take_free(ctx.txg);
            (freed, chain.is_wanted && chain.lwbs.is_empty())
        };
        freed.iter().try_for_each(|bp| self.storage.free(ctx, bp))?;
        if needs_new {
            self.start_chain(ctx);
        }
        let chain = self.chain.lock();
        header.log = chain.lwbs.front().map_or(BlkPtr::HOLE, |lwb| lwb.bp);
        Ok(())
    }

    /// Whether there is space to spare for log blocks: the log must not take what the groups themselves need.
    pub(super) fn has_room(&self) -> bool {
        self.storage.has_log_vdev() || self.has_room_beside_log()
    }

    /// The same for blocks of files, which never go to log vdevs.
    pub(super) fn has_room_beside_log(&self) -> bool {
        let space = self.storage.space();
        // What transactions were promised is theirs; of the reserve half is the groups' own.
        space.file_free.saturating_sub(self.storage.room().promised()) > space.file_reserve / 2
    }

    /// The first block of a new chain. Without room there is none, and commits go on waiting for groups.
    fn start_chain(&self, ctx: &SyncCtx) {
        if !self.has_room() {
            return;
        }
        let size = self.chain.lock().guess();
        let Ok((mut bp, _)) =
            self.storage.allocate_log(size as u32, ctx.txg, self.objset, !self.is_for_throughput())
        else {
            return;
        };
        let mut guid = [0; 16];
        rt::fill_random(&mut guid);
        let word =
            |i: usize| guid.get(i..).and_then(<[u8]>::first_chunk).map_or(1, |w| u64::from_le_bytes(*w));
        bp.set_digest(Digest([word(0), word(8), self.objset, 1]));
        let mut chain = self.chain.lock();
        chain.is_wanted = false;
        chain.seq = 0;
        chain.started = ctx.txg;
        chain.lwbs.push_back(Lwb { bp, state: LwbState::Open, alloc_txg: ctx.txg, max_txg: Txg::ZERO });
    }

    /// `txg` is on disk: its changes need no record any more.
    pub(crate) fn clean(&self, txg: Txg) {
        self.itxs.clean(txg);
    }

    /// Asks for the chain to be freed, with `txg` or the next group that writes the dataset. Not while it must be
    /// replayed.
    pub(crate) fn close(&self, txg: Txg) {
        let mut chain = self.chain.lock();
        let has_stale = self.claimed.lock().destroy.as_mut().is_some_and(|(due, _)| {
            *due = txg;
            true
        });
        if !chain.lwbs.is_empty() || has_stale {
            chain.is_closing = true;
            chain.is_wanted = false;
            drop(chain);
            self.is_dirty[txg.slot()].store(true, Ordering::Release);
        }
    }
}

impl Chain {
    /// Takes the blocks that `txg`'s tree does not need.
    fn take_free(&mut self, txg: Txg) -> alloc::vec::Vec<BlkPtr> {
        let mut freed = alloc::vec::Vec::new();
        while let Some(lwb) = self.lwbs.front() {
            let is_needed = lwb.state != LwbState::Done || lwb.alloc_txg > txg || lwb.max_txg > txg;
            if is_needed {
                break;
            }
            freed.push(lwb.bp);
            self.lwbs.pop_front();
        }
        // The end of a chain that no one will add to. All of it at once: what precedes a block points to it.
        let is_ending = self.is_broken || self.is_closing;
        let is_old = |lwb: &Lwb| lwb.alloc_txg <= txg && lwb.max_txg <= txg;
        let is_still = self.is_broken || self.lwbs.iter().all(|lwb| lwb.state == LwbState::Open);
        if is_ending && is_still && self.lwbs.iter().all(is_old) {
            freed.extend(self.lwbs.drain(..).map(|lwb| lwb.bp));
            self.is_broken = false;
            self.is_closing = false;
        }
        freed
    }
}
