//! Snapshots sent and received again in the same pool: whole, what has changed, several in one stream, and in pieces.
//!
//! What it is: commands whose streams go from memory to memory. What it is not: it does not damage them
//! (`zfs/tests/streams.rs`). A stream that ends early leaves its target as it was; what a receive that may go on has
//! taken by then shows nowhere, and stays until it goes on or is given up.
use super::{Admin, Stamp, listed};
use crate::pool::POOL;
use zfs::Error;
use zfs::dsl::DatasetInfo;
use zfs::send::{BlockOptions, ReceiveOptions, ResumeToken, SendSpec};

/// Pieces in which a stream arrives, at most.
const PIECES_MAX: u64 = 4;

/// One stream, and where it goes.
struct Delivery {
    /// The snapshot.
    of: String,
    /// What the target has of it.
    from: Option<String>,
    /// The snapshots that arrive, in order: one, or all after `from`.
    parts: Vec<String>,
    /// The dataset.
    target: String,
    force: bool,
}

impl Delivery {
    /// Where and how it is received.
    fn receiver(&self, resumable: bool) -> (&str, ReceiveOptions) {
        (&self.target, ReceiveOptions { force: self.force, resumable, ..ReceiveOptions::default() })
    }
}

impl Admin {
    /// A snapshot becomes a dataset, or takes the place of one that has no snapshots.
    pub(super) fn receive(&mut self) {
        let Some(of) = self.pick(|name| name.contains('@')) else { return };
        let over = match self.random.below(4) {
            0 => self.pick(|name| !name.contains('@')),
            _ => None,
        };
        let force = over.is_some();
        let target = over.unwrap_or_else(|| self.new_name(POOL, '/'));
        self.deliver(&Delivery { parts: vec![of.clone()], of, from: None, target, force });
    }

    /// What has changed from one snapshot to a later one goes to a dataset that has the first.
    pub(super) fn receive_on_top(&mut self) {
        let all = self.datasets();
        let snapshots = || all.iter().filter(|d| d.is_snapshot);
        let mut found = Vec::new();
        for to in snapshots() {
            let own = |d: &&DatasetInfo| path(&d.name) == path(&to.name) && d.created_txg < to.created_txg;
            for from in snapshots().filter(own) {
                let has_it = |d: &&DatasetInfo| d.guid == from.guid && path(&d.name) != path(&to.name);
                let targets = snapshots().filter(has_it).map(|d| path(&d.name)).filter(|name| name != POOL);
                found.extend(targets.map(|target| (to, from, target)));
            }
        }
        if found.is_empty() {
            return self.receive();
        }
        let (to, from, target) = found.swap_remove(self.random.below(found.len() as u64) as usize);
        let mut parts: Vec<&DatasetInfo> = vec![to];
        if self.random.chance(1, 3) {
            let between = from.created_txg + 1..to.created_txg;
            let own = snapshots().filter(|d| path(&d.name) == path(&to.name));
            parts.extend(own.filter(|d| between.contains(&d.created_txg)));
            parts.sort_by_key(|d| d.created_txg);
        }
        let parts = parts.into_iter().map(|d| d.name.clone()).collect();
        let (of, from) = (to.name.clone(), Some(from.name.clone()));
        let force = self.random.chance(1, 2);
        self.deliver(&Delivery { of, from, parts, target, force });
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let Delivery { of, from, parts, target, force } = delivery;
        let blocks = BlockOptions {
            large: true,
            compressed: self.random.chance(1, 2),
            embedded: self.random.chance(1, 2),
        };
        let intermediate = parts.len() > 1;
        let nr_pieces =
            if !intermediate && self.random.chance(1, 3) { self.random.within(2, PIECES_MAX + 1) } else { 1 };
        let stamp = self.begin(format!(
            "send {of} from {from:?}, {} snapshots | receive {target}, force {force}, {nr_pieces} pieces, {blocks:?}",
            parts.len()
        ));
        let spec =
            SendSpec { to: of.clone(), from: from.clone(), intermediate, blocks, ..SendSpec::default() };
        let result = match nr_pieces {
            1 => Some(self.send_and_receive(&spec, delivery.receiver(false), None)),
            _ => self.in_pieces(spec, delivery, nr_pieces),
        };
        let is_done = result.is_some_and(|result| self.is_done(result));
        // Of a row of snapshots those before what was refused have arrived.
        if is_done || intermediate {
            self.arrived(delivery, stamp, is_done);
        }
    }

    /// The stream is cut, again and again, and sent from there on, until it is whole or nobody goes on.
    fn in_pieces(
        &mut self,
        mut spec: SendSpec,
        delivery: &Delivery,
        nr_pieces: u64,
    ) -> Option<zfs::Result<()>> {
        for _ in 1..nr_pieces {
            let share = self.random.below(1000);
            match self.send_and_receive(&spec, delivery.receiver(true), Some(share)) {
                Err(Error::StreamCut) => {}
                other => return Some(other),
            }
            match self
                .spa
                .resume_token(&delivery.target)
                .map(|token| token.as_deref().map(ResumeToken::parse))
            {
                // It was cut before anything was worth keeping.
                Ok(None) | Err(Error::NotFound) => {}
                Ok(Some(Ok(token))) => {
                    spec.resume = Some(token.point);
                    spec.blocks = token.blocks;
                    if self.random.chance(1, 6) {
                        return None;
                    }
                }
                Ok(Some(Err(e))) | Err(e) => self.finding(&format!("token of {}: {e}", delivery.target)),
            }
        }
        Some(self.send_and_receive(&spec, delivery.receiver(true), None))
    }

    /// A receive that nobody goes on with is given up.
    pub(super) fn give_up_receive(&mut self) {
        let all = self.datasets();
        let is_half = |name: &String| self.spa.resume_token(name).is_ok_and(|token| token.is_some());
        let mut names = all.into_iter().filter(|d| !d.is_snapshot).map(|d| d.name);
        let Some(name) = names.find(is_half) else { return };
        self.begin(format!("receive -A {name}"));
        let given_up = self.spa.abort_receive(&name);
        self.is_done(given_up);
    }

    /// `share`: thousandths of the stream that arrive; all of it otherwise.
    pub(super) fn send_and_receive(
        &mut self,
        spec: &SendSpec,
        (target, options): (&str, ReceiveOptions),
        share: Option<u64>,
    ) -> zfs::Result<()> {
        let mut stream = Vec::new();
        let sent = self.spa.send(spec, &mut |bytes| {
            stream.extend_from_slice(bytes);
            Ok(())
        });
        if let Err(e) = sent {
            self.finding(&format!("send: {e}"));
        }
        let len = share.map_or(stream.len(), |share| stream.len() * share as usize / 1000);
        let mut left = &stream[..len];
        let received = self.spa.receive(target, &options, &mut |room| {
            let n = left.len().min(room.len());
            room[..n].copy_from_slice(&left[..n]);
            left = &left[n..];
            Ok(n)
        });
        received.map(drop)
    }

    /// Notes what has come of a stream.
    fn arrived(&mut self, delivery: &Delivery, stamp: Stamp, is_done: bool) {
        let target = &delivery.target;
        let found = match listed(&self.spa) {
            Ok(found) => found,
            Err(e) => self.finding(&e),
        };
        // Snapshots of the target that are newer than the base have gone.
        let mut changed = self.take_gone(&format!("{target}@"));
        for part in &delivery.parts {
            let snapshot = format!("{target}@{}", part.split('@').nth(1).unwrap_or_default());
            let id = found.iter().find(|(name, ..)| *name == snapshot).map(|(_, id, _)| *id);
            let is_known = self.now.get(&snapshot).is_some_and(|item| Some(item.id) == id);
            match id {
                // It was there before.
                Some(_) if is_known => {}
                Some(_) => {
                    self.add_copy(part, target);
                    self.add_copy(part, &snapshot);
                    changed.extend([target.clone(), snapshot]);
                    self.changed(core::mem::take(&mut changed), stamp, true);
                }
                // What has the place of a snapshot of that name is it, by whatever name it goes here.
                None if is_done && delivery.parts.len() == 1 => {
                    self.finding(&format!("{snapshot} was received and is not there"))
                }
                None => {}
            }
        }
        if !changed.is_empty() {
            self.changed(changed, stamp, true);
        }
    }
}

/// The dataset of a snapshot.
pub(super) fn path(name: &str) -> String {
    name.split('@').next().unwrap_or_default().to_owned()
}
