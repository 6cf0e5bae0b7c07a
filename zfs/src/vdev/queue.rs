//! A leaf's queue: which waiting I/O goes to the device next, joined with its neighbours.
//!
//! What it is: the decision, as plain data under the leaf's lock. What it is not: the I/O itself (that is
//! [`super::leaf`]).
//!
//! Invariants: `active` of a class is the number of joined I/Os of that class that were taken and not yet returned;
//! a class under its floor goes first, then the most urgent class under its ceiling; inside a class the device's
//! head moves in one direction and starts over (no waiting I/O is overtaken for ever).
//!
//! Scans give way: while I/O that someone waits for is at the device, one of theirs goes with every few of it; when there
//! is none, a few of theirs must have gone alone before more than one goes at a time (`zfs_vdev_nia_credit`, vdev_queue.c).
use super::priority::Priority;
use abd::{Abd, AbdMut};
use alloc::collections::BTreeMap;
use blockdev::Completion;
use core::ops::Bound;
use smallvec::SmallVec;

/// Largest joined I/O.
pub(crate) const JOINED_MAX: u64 = 1 << 20;
/// Reads that are at most this far apart are joined; the bytes between are read and dropped.
const READ_GAP_MAX: u64 = 32 << 10;
/// What a scan may send while others' I/O is at the device, for each of it that is answered.
const CREDIT: u32 = 5;
/// What it must have sent alone before it may send several at a time.
const PATIENCE: u32 = 5;

/// What an I/O moves.
#[derive(Debug)]
pub(crate) enum Payload {
    /// This many bytes are wanted.
    Read(usize),
    Write(Abd),
}

/// One I/O of a leaf. Offsets are absolute on the device.
#[derive(Debug)]
pub(crate) struct LeafIo {
    pub offset: u64,
    pub payload: Payload,
    pub priority: Priority,
    /// It failed once already: goes alone, and a second failure is final.
    pub is_retry: bool,
    pub done: Completion,
}

impl LeafIo {
    pub(crate) fn len(&self) -> u64 {
        match &self.payload {
            Payload::Read(len) => *len as u64,
            Payload::Write(data) => data.len() as u64,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len())
    }

    fn is_write(&self) -> bool {
        matches!(self.payload, Payload::Write(_))
    }

    /// Pieces of memory the device sees.
    fn nr_segments(&self) -> usize {
        match &self.payload {
            Payload::Read(_) => 1,
            Payload::Write(data) => data.chunks().count(),
        }
    }
}

/// Neighbours that go to the device as one request, by offset.
#[derive(Debug)]
pub(crate) struct Joined {
    pub ios: SmallVec<[LeafIo; 1]>,
    pub priority: Priority,
}

impl Joined {
    pub(crate) fn offset(&self) -> u64 {
        self.ios.first().map_or(0, |io| io.offset)
    }

    #[cfg(test)]
    fn end(&self) -> u64 {
        self.ios.last().map_or(0, LeafIo::end)
    }

    pub(crate) fn is_write(&self) -> bool {
        self.ios.first().is_some_and(LeafIo::is_write)
    }

    /// The data of all its writes.
    pub(crate) fn write_data(&self) -> Abd {
        Abd::concat(self.ios.iter().filter_map(|io| match &io.payload {
            Payload::Write(data) => Some(data.clone()),
            Payload::Read(_) => None,
        }))
    }

    /// A buffer for all its reads, one piece of memory for each, and for each gap.
    pub(crate) fn read_buffer(&self) -> AbdMut {
        let mut at = self.offset();
        let mut parts: SmallVec<[AbdMut; 1]> = SmallVec::new();
        for io in &self.ios {
            if io.offset > at {
                parts.push(AbdMut::zeroed((io.offset - at) as usize));
            }
            parts.push(AbdMut::zeroed(io.len() as usize));
            at = io.end();
        }
        AbdMut::concat(parts)
    }
}

/// The device's limits for one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub max_transfer: u64,
    pub max_segments: usize,
}

/// The waiting I/Os of a leaf.
#[derive(Debug)]
pub(crate) struct Queue {
    classes: [Class; Priority::COUNT],
    limits: Limits,
    next_seq: u64,
    /// Requests at the device that are not a scan's.
    nr_others: usize,
    /// What a scan may still send beside them; when there are none, what it has sent alone.
    credit: u32,
}

#[derive(Debug, Default)]
struct Class {
    /// By offset; the sequence number tells I/Os at one offset apart.
    waiting: BTreeMap<(u64, u64), LeafIo>,
    head: u64,
    nr_active: usize,
}

impl Queue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { classes: Default::default(), limits, next_seq: 0, nr_others: 0, credit: PATIENCE }
    }

    /// Puts an I/O into the queue.
    pub(crate) fn push(&mut self, io: LeafIo) {
        self.next_seq += 1;
        let key = (io.offset, self.next_seq);
        self.classes[io.priority.index()].waiting.insert(key, io);
    }

    /// The next request for the device, if one may go.
    pub(crate) fn take(&mut self) -> Option<Joined> {
        let under = |c: &Class, max: usize| !c.waiting.is_empty() && c.nr_active < max;
        let pick = |floor: bool| {
            Priority::ALL.into_iter().find(|p| {
                let (min, max) = self.limits_of(*p);
                under(&self.classes[p.index()], if floor { min } else { max })
            })
        };
        let priority = pick(true).or_else(|| pick(false))?;
        let limits = self.limits;
        let class = &mut self.classes[priority.index()];
        let ios = class.take_run(limits)?;
        class.nr_active += 1;
        self.sent(priority);
        Some(Joined { ios, priority })
    }

    /// How many of a class may be at the device: at least, if there are any, and at most.
    fn limits_of(&self, priority: Priority) -> (usize, usize) {
        let (min, max) = priority.limits();
        let max = match priority {
            Priority::Scrub if self.nr_others > 0 => min.min(self.credit as usize),
            Priority::Scrub if self.credit < PATIENCE => min,
            _ => max,
        };
        (min.min(max), max)
    }

    fn sent(&mut self, priority: Priority) {
        if priority == Priority::Scrub {
            if self.nr_others > 0 {
                self.credit = self.credit.saturating_sub(1);
            }
            return;
        }
        self.nr_others += 1;
        if self.nr_others == 1 {
            self.credit = 1;
        }
    }

    /// A request taken before has been answered.
    pub(crate) fn finished(&mut self, priority: Priority) {
        let class = &mut self.classes[priority.index()];
        class.nr_active = class.nr_active.saturating_sub(1);
        if priority != Priority::Scrub {
            self.nr_others = self.nr_others.saturating_sub(1);
            self.credit = if self.nr_others == 0 { 0 } else { CREDIT };
        } else if self.nr_others == 0 {
            self.credit = self.credit.saturating_add(1);
        }
    }

    /// A request taken before could not be handed to the device.
    pub(crate) fn put_back(&mut self, joined: Joined) {
        self.finished(joined.priority);
        joined.ios.into_iter().for_each(|io| self.push(io));
    }

    pub(crate) fn nr_active(&self) -> usize {
        self.classes.iter().map(|c| c.nr_active).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.iter().all(|c| c.waiting.is_empty())
    }
}

impl Class {
    /// Removes the next I/O in the head's direction and what lies right behind it.
    fn take_run(&mut self, limits: Limits) -> Option<SmallVec<[LeafIo; 1]>> {
        let ahead = self.waiting.range((self.head, 0)..).next();
        let key = ahead.or_else(|| self.waiting.iter().next()).map(|(key, _)| *key)?;
        let first = self.waiting.remove(&key)?;
        let (start, is_write) = (first.offset, first.is_write());
        let max = JOINED_MAX.min(limits.max_transfer);
        let gap_max = if is_write { 0 } else { READ_GAP_MAX };
        let (mut end, mut nr_segments) = (first.end(), first.nr_segments());
        let mut is_open = !first.is_retry;
        let mut ios = SmallVec::new();
        ios.push(first);
        while is_open {
            let after = (Bound::Included((end, 0)), Bound::Unbounded);
            let Some((&key, next)) = self.waiting.range(after).next() else { break };
            let gap = next.offset - end;
            let more = next.nr_segments() + usize::from(gap > 0);
            is_open = gap <= gap_max
                && !next.is_retry
                && next.is_write() == is_write
                && next.end() - start <= max
                && nr_segments + more <= limits.max_segments;
            if is_open && let Some(next) = self.waiting.remove(&key) {
                end = next.end();
                nr_segments += more;
                ios.push(next);
            }
        }
        self.head = end;
        Some(ios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockdev::{Complete, Done};
    use std::sync::Arc;

    struct Ignore;
    impl Complete for Ignore {
        fn complete(&self, _done: Done) {}
    }

    fn io(offset: u64, len: usize, priority: Priority, is_write: bool) -> LeafIo {
        let payload = if is_write { Payload::Write(Abd::zeroed(len)) } else { Payload::Read(len) };
        LeafIo { offset, payload, priority, is_retry: false, done: Completion::new(Arc::new(Ignore), 0) }
    }

    fn finish(joined: Joined) {
        for io in joined.ios {
            io.done.complete(Ok(()), None);
        }
    }

    fn queue() -> Queue {
        Queue::new(Limits { max_transfer: 1 << 20, max_segments: 64 })
    }

    fn drain(queue: &mut Queue) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        while let Some(joined) = queue.take() {
            out.push((joined.offset(), joined.end()));
            queue.finished(joined.priority);
            finish(joined);
        }
        assert!(queue.is_empty() && queue.nr_active() == 0);
        out
    }

    #[test]
    fn neighbours_are_joined_and_reads_span_small_gaps() {
        let mut q = queue();
        for offset in [8192, 0, 4096, 20 << 10, 1 << 20] {
            q.push(io(offset, 4096, Priority::AsyncRead, false));
        }
        assert_eq!(drain(&mut q), [(0, 24 << 10), (1 << 20, (1 << 20) + 4096)]);
        for offset in [8192, 0, 4096, 20 << 10] {
            q.push(io(offset, 4096, Priority::AsyncWrite, true));
        }
        assert_eq!(drain(&mut q), [(0, 12 << 10), (20 << 10, 24 << 10)]);
    }

    #[test]
    fn joined_reads_come_apart_again_as_unique_buffers() {
        let mut q = queue();
        q.push(io(0, 4096, Priority::SyncRead, false));
        q.push(io(8192, 512, Priority::SyncRead, false));
        let joined = q.take().unwrap();
        let buf = joined.read_buffer();
        assert_eq!((buf.len(), buf.chunks().count()), (8704, 3));
        let all = buf.freeze();
        let tail = all.slice(8192..8704);
        drop(all);
        assert!(tail.try_into_mut().is_ok());
        finish(joined);
    }

    #[test]
    fn limits_hold_and_the_urgent_class_goes_first() {
        let mut q = queue();
        for i in 0..40 {
            q.push(io(i << 24, 4096, Priority::AsyncWrite, true));
            q.push(io((i << 24) + (1 << 30), 4096, Priority::SyncRead, false));
        }
        let mut taken: Vec<Joined> = core::iter::from_fn(|| q.take()).collect();
        let of = |p| taken.iter().filter(|j| j.priority == p).count();
        assert_eq!((of(Priority::SyncRead), of(Priority::AsyncWrite)), (10, 10));
        assert!(taken[..10].iter().all(|j| j.priority == Priority::SyncRead));
        let back = taken.pop().unwrap();
        q.put_back(back);
        assert_eq!(q.nr_active(), 19);
        taken.into_iter().for_each(|j| {
            q.finished(j.priority);
            finish(j);
        });
        drain(&mut q);
    }

    #[test]
    fn a_scan_gives_way() {
        let mut q = queue();
        let scan =
            |q: &mut Queue| (0..8u64).for_each(|i| q.push(io((64 + i) << 24, 4096, Priority::Scrub, false)));
        let of_scan = |taken: &[Joined]| taken.iter().filter(|j| j.priority == Priority::Scrub).count();
        let done = |q: &mut Queue, taken: Vec<Joined>| {
            taken.into_iter().for_each(|j| {
                q.finished(j.priority);
                finish(j);
            });
        };
        scan(&mut q);
        let alone: Vec<Joined> = core::iter::from_fn(|| q.take()).collect();
        assert_eq!(of_scan(&alone), 3, "nobody else is there");
        done(&mut q, alone);
        (0..4u64).for_each(|i| q.push(io(i << 24, 4096, Priority::SyncRead, false)));
        let mut beside: Vec<Joined> = core::iter::from_fn(|| q.take()).collect();
        assert_eq!((beside.len(), of_scan(&beside)), (5, 1));
        // Its own is answered: the next has to wait for the others.
        let own = beside.iter().position(|j| j.priority == Priority::Scrub).unwrap();
        let own = beside.remove(own);
        done(&mut q, Vec::from([own]));
        assert!(q.take().is_none());
        let one = beside.remove(0);
        done(&mut q, Vec::from([one]));
        let next: Vec<Joined> = core::iter::from_fn(|| q.take()).collect();
        assert_eq!(of_scan(&next), 1, "one at a time");
        done(&mut q, next);
        done(&mut q, beside);
        // Alone again: one at a time for a while.
        scan(&mut q);
        let after: Vec<Joined> = core::iter::from_fn(|| q.take()).collect();
        assert_eq!(after.len(), 1);
        done(&mut q, after);
        drain(&mut q);
    }

    #[test]
    fn a_retry_goes_alone() {
        let mut q = queue();
        q.push(io(0, 4096, Priority::SyncRead, false));
        q.push(LeafIo { is_retry: true, ..io(4096, 4096, Priority::SyncRead, false) });
        q.push(io(8192, 4096, Priority::SyncRead, false));
        assert_eq!(drain(&mut q), [(0, 4096), (4096, 8192), (8192, 12288)]);
    }
}
