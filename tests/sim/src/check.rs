//! A recovered pool against the model.
use crate::content::Content;
use crate::history::{Cut, History};
use crate::pool::Open;
use crate::tree::{Body, Tree, owner, state_hash};
use crate::worker::Record;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often it is asked whether a scan has ended.
const SCAN_LOOK: Duration = Duration::from_millis(1);

/// Whether the tree is one that the power cut may leave.
///
/// # Errors
/// What may not be.
pub fn check_tree(tree: &Tree, records: &[Record], cut: &Cut) -> Result<(), String> {
    for (id, record) in records.iter().enumerate() {
        if record.names.find(cut, tree.names[id]).is_none() {
            let explained = record.names.explain(cut, tree.names[id]);
            return Err(format!(
                "the names of thread {id} are not as they were at any allowed moment: {explained}\n{}",
                operations(record, &record.names, cut)
            ));
        }
    }
    let mut histories: BTreeMap<u64, (usize, &History)> = BTreeMap::new();
    for (id, record) in records.iter().enumerate() {
        histories.extend(record.nodes.iter().map(|(key, history)| (*key, (id, history))));
    }
    for node in tree.nodes.iter().filter(|n| !is_shared(&n.path)) {
        let Some((id, history)) = histories.get(&node.key) else {
            return Err(format!("{}: object {} was never made", node.path, node.ino));
        };
        let hash = state_hash(&node.body, &node.meta);
        let with = |content: &Content| state_hash(&Body::File(content.clone()), &node.meta);
        let is_mixture = || match &node.body {
            Body::File(found) => history.is_mixture(cut, found, with),
            _ => false,
        };
        if history.find(cut, hash).is_none() && !is_mixture() {
            return Err(format!(
                "{}: {} is not as it was at any allowed moment: {}\n{}",
                node.path,
                describe(&node.body),
                history.explain(cut, hash),
                operations(&records[*id], history, cut)
            ));
        }
    }
    Ok(())
}

/// The full walk of the pool finds nothing; where disks were harmed, after a scrub.
///
/// # Errors
/// What it finds.
pub fn check_pool(open: &Open, is_harmed: bool) -> Result<(), String> {
    // A walk wants a pool that is quiet: a scan writes down how far it is.
    open.spa.scan_wait(SCAN_LOOK, &mut |_| ());
    // The first may be one that was begun before.
    for _ in 0..if is_harmed { 2 } else { 0 } {
        open.spa.scrub().map_err(|e| format!("scrub: {e}"))?;
        open.spa.scan_wait(SCAN_LOOK, &mut |_| ());
    }
    open.spa.sync().map_err(|e| format!("sync after recovery: {e}"))?;
    let report = open.spa.verify(&mut |_| ()).map_err(|e| format!("verify: {e}"))?;
    if report.is_clean() { Ok(()) } else { Err(format!("verify: {:?}", report.findings)) }
}

/// The root and what is directly in it without an owner.
fn is_shared(path: &str) -> bool {
    path.rsplit('/').next().is_none_or(|name| owner(name.as_bytes()).is_none())
}

fn describe(body: &Body) -> String {
    match body {
        Body::File(content) => format!("a file of {} bytes", content.size()),
        Body::Dir(entries) => format!("a directory of {}", entries.len()),
        Body::Symlink(target) => format!("a link of {} bytes", target.len()),
        Body::Fifo => "a pipe".to_owned(),
    }
}

/// The operations behind the states that are allowed, and some before.
fn operations(record: &Record, history: &History, cut: &Cut) -> String {
    let floor = history.floor(cut);
    let ceiling = history.ceiling(cut).unwrap_or(floor);
    let first = floor.saturating_sub(3);
    let line = |index: usize| {
        let version = &history.versions[index];
        let op = record.log.get(version.op).map_or("", String::as_str);
        let mark = if (floor..=ceiling).contains(&index) { "*" } else { " " };
        let acked: Vec<u64> =
            history.acks.iter().filter(|(_, i)| *i == index).map(|(when, _)| *when).collect();
        format!(
            "  {mark} state {index}: {:#x} txg {}..{} {op} acked {acked:?}",
            version.hash, version.txg_lo, version.txg_hi
        )
    };
    let end = history.versions.len().min(ceiling + 3);
    (first..end).map(line).collect::<Vec<_>>().join("\n")
}
