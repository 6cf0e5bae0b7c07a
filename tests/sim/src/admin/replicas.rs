//! Replication streams: all snapshots of a dataset, with what became of those that the other side has.
//!
//! What it is: `send -R` of one dataset, whole or from a snapshot that the target has, received in the same pool. The
//! target's snapshots are told apart by their numbers, and those that arrive by their guids, so renames and, by force,
//! destroys are followed. What it is not: it
//! sends no trees of datasets (`zfs/tests/streams.rs`).
use super::streams::path;
use super::{Admin, Item, Stamp, listed};
use crate::pool::POOL;
use zfs::dsl::DatasetInfo;
use zfs::send::{BlockOptions, ReceiveOptions, SendSpec};

impl Admin {
    /// A dataset with its snapshots goes to a new one, or to one that may have some of them.
    pub(super) fn replicate(&mut self) {
        let Some(to) = self.pick(|name| name.contains('@') && path(name) != POOL) else { return };
        let source = path(&to);
        let over = self.pick(|name| !name.contains('@') && name != source);
        let target = match over {
            Some(name) if self.random.chance(3, 4) => name,
            _ => self.new_name(POOL, '/'),
        };
        let all = self.datasets();
        let of =
            |name: &str| all.iter().filter(|d| d.is_snapshot && path(&d.name) == name).collect::<Vec<_>>();
        let (sent, there) = (of(&source), of(&target));
        let common: Vec<_> =
            sent.iter().filter(|d| d.name != to && there.iter().any(|t| t.guid == d.guid)).collect();
        let from = (!common.is_empty()).then(|| self.random.pick(&common).name.clone());
        let force = self.random.chance(2, 3);
        let stamp = self.begin(format!("send -R {to} from {from:?} | receive {target}, force {force}"));
        let intermediate = from.is_some() && self.random.chance(2, 3);
        let blocks = BlockOptions { large: true, compressed: self.random.chance(1, 2), embedded: true };
        let spec = SendSpec { to, from, intermediate, replicate: true, blocks, ..SendSpec::default() };
        let options = ReceiveOptions { force, ..ReceiveOptions::default() };
        let received = self.send_and_receive(&spec, (&target, options), None);
        self.is_done(received);
        // Refused or not: what came before that is done.
        self.follow(&sent, &target, stamp);
    }

    pub(super) fn datasets(&self) -> Vec<DatasetInfo> {
        match self.spa.datasets() {
            Ok(all) => all,
            Err(e) => self.finding(&format!("listing datasets: {e}")),
        }
    }

    /// Notes what has become of the target, step by step: what went and what got another name, then what arrived.
    fn follow(&mut self, sent: &[&DatasetInfo], target: &str, stamp: Stamp) {
        let found = match listed(&self.spa) {
            Ok(found) => found,
            Err(e) => self.finding(&e),
        };
        let prefix = format!("{target}@");
        let old: Vec<(String, Item)> = self
            .now
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(n, i)| (n.clone(), i.clone()))
            .collect();
        let mut changed = self.take_gone(&prefix);
        for (name, id, _) in found.iter().filter(|(name, ..)| name.starts_with(&prefix)) {
            if let Some((_, item)) = old.iter().find(|(was, item)| item.id == *id && was != name) {
                self.now.insert(name.clone(), item.clone());
                changed.push(name.clone());
            }
        }
        let mut arrived: Vec<DatasetInfo> = self.datasets();
        arrived.retain(|d| d.name.starts_with(&prefix) && !self.now.contains_key(&d.name));
        arrived.sort_by_key(|d| d.created_txg);
        for new in arrived {
            let Some(of) = sent.iter().find(|d| d.guid == new.guid) else {
                self.finding(&format!("{}: a snapshot that was not sent", new.name))
            };
            self.add_copy(&of.name, target);
            self.add_copy(&of.name, &new.name);
            changed.extend([target.to_owned(), new.name]);
            self.changed(core::mem::take(&mut changed), stamp, true);
        }
        if !changed.is_empty() {
            self.changed(changed, stamp, true);
        }
    }
}
