//! The record locks of one file: a list in which no two locks of one owner touch.
use super::{LockKind, LockOwner, RecordLock};
use alloc::vec::Vec;

/// A lock of someone else that keeps `lock` from being set.
pub(super) fn conflict<'a>(records: &'a [RecordLock], lock: &RecordLock) -> Option<&'a RecordLock> {
    records.iter().find(|r| {
        let overlaps = r.start <= lock.last && lock.start <= r.last;
        let excludes = r.kind == LockKind::Exclusive || lock.kind == LockKind::Exclusive;
        r.owner != lock.owner && overlaps && excludes
    })
}

/// Sets `lock`, in place of the owner's others in its range, and joins it with neighbours of its kind.
pub(super) fn set(records: &mut Vec<RecordLock>, lock: RecordLock) {
    clear(records, lock.owner, lock.start, lock.last);
    let mut new = lock;
    records.retain(|r| {
        let touches = r.last.checked_add(1) == Some(new.start) || new.last.checked_add(1) == Some(r.start);
        let joins = r.owner == new.owner && r.kind == new.kind && touches;
        if joins {
            new.start = new.start.min(r.start);
            new.last = new.last.max(r.last);
        }
        !joins
    });
    records.push(new);
}

/// Removes the owner's locks from `start..=last`, cutting those that reach beyond.
pub(super) fn clear(records: &mut Vec<RecordLock>, owner: LockOwner, start: u64, last: u64) {
    let mut pieces = Vec::new();
    records.retain(|r| {
        if r.owner != owner || r.last < start || last < r.start {
            return true;
        }
        if r.start < start {
            pieces.push(RecordLock { last: start - 1, ..*r });
        }
        if last < r.last {
            pieces.push(RecordLock { start: last + 1, ..*r });
        }
        false
    });
    records.extend(pieces);
}
