//! The split virtqueue (specification 2.7). Besides the memory seam the only unsafe module of this crate.
//!
//! Invariants:
//! 1. A request that is in flight is owned by its slot, buffers included, until the device has returned it or has
//!    been stopped ([`Stopped`]): the device never writes to memory that someone else owns.
//! 2. Nothing the device can write is believed. Descriptors are only written, never read back: what is free and
//!    which slot a descriptor belongs to is kept in private memory. An index from the device is checked against
//!    what is in flight; one that does not fit makes the ring [`Broken`], and the driver resets the device.
//! 3. Descriptors are visible before the available index, and used entries are read after the used index; without
//!    that order the device would follow stale descriptors.
use crate::dma::{Dma, DmaPages, PAGE_SIZE};
use crate::transport::{QueueLayout, Transport};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::{Op, Request};
use core::sync::atomic::{Ordering, fence};
use core::time::Duration;

/// Requests in flight on one queue.
const SLOTS_MAX: u16 = 128;
/// Descriptors asked for where the driver has the choice.
const SIZE_PREFERRED: u16 = 256;
/// Descriptors of the older interface, which leaves no choice.
const SIZE_MAX: u16 = 1024;

const DESC_SIZE: usize = 16;
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;
const AVAIL_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

/// A slot's memory: an indirect table, the request header, a discard range, the status byte.
const SLOT_SIZE: usize = 1024;
const TABLE_ENTRIES: usize = 61;
const HEADER_AT: usize = 976;
const RANGE_AT: usize = 992;
const STATUS_AT: usize = 1008;
const STATUS_NOT_WRITTEN: u8 = 0xff;

/// Most memory segments of a request: what the table holds besides header and status.
pub(crate) const SEGMENTS_MAX: usize = TABLE_ENTRIES - 2;

/// The device broke the rules; only a reset helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Proof that the device does not touch memory any more.
#[derive(Debug)]
pub(crate) struct Stopped(());

/// Resets the device; `None` if it does not confirm in time, in which case it may go on writing to memory.
pub(crate) fn stop<T: Transport>(transport: &T) -> Option<Stopped> {
    const PATIENCE: Duration = Duration::from_secs(1);
    transport.set_status(0);
    let end = rt::now().after(PATIENCE);
    while transport.status() != 0 {
        if transport.status() == u8::MAX || rt::now() >= end {
            return None;
        }
        rt::yield_now();
    }
    Some(Stopped(()))
}

/// A request to the device.
#[derive(Debug)]
pub(crate) struct Command {
    /// `struct virtio_blk_outhdr`.
    pub header: [u8; 16],
    /// `struct virtio_blk_discard_write_zeroes`, for those two.
    pub range: Option<[u8; 16]>,
    /// Whose buffers are the data.
    pub request: Request,
}

/// Why a request could not be started.
#[derive(Debug)]
pub(crate) enum PushError {
    /// No room now.
    Full(Request),
    /// It needs more segments than a request can have.
    TooFragmented(Request),
}

/// A request the device has returned.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The request.
    pub request: Request,
    /// The status byte.
    pub status: u8,
    /// Bytes the device says it wrote, the status byte included.
    pub written: u32,
}

/// How a queue is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingOptions {
    /// `VIRTIO_RING_F_INDIRECT_DESC` is agreed.
    pub has_indirect: bool,
    /// `VIRTIO_RING_F_EVENT_IDX` is agreed.
    pub has_event_index: bool,
    /// The size is the device's choice.
    pub is_size_fixed: bool,
    /// Most bytes of one segment.
    pub segment_max: usize,
}

#[derive(Debug, Default)]
struct Slot {
    request: Option<Request>,
    head: u16,
    /// How often [`Ring::look`] found it in flight, and when it did first.
    nr_looks: u32,
    first_look: u64,
}

/// One virtqueue.
pub(crate) struct Ring<D: Dma> {
    dma: Arc<D>,
    rings: Shared,
    slots_memory: Shared,
    options: RingOptions,
    size: u16,
    avail_at: usize,
    used_at: usize,
    slots: Vec<Slot>,
    free_slots: Vec<u16>,
    free_descriptors: Vec<u16>,
    /// The descriptor after this one in its chain; private, the device sees a copy.
    next: Vec<Option<u16>>,
    /// Which slot's chain starts at a descriptor.
    slot_of: Vec<Option<u16>>,
    avail_index: u16,
    used_index: u16,
    is_interrupting: bool,
    /// The event index was written and may not be visible to the device yet.
    is_event_pending: bool,
}

impl<D: Dma> Ring<D> {
    /// A queue for a device that allows `size_max` descriptors; `None` if that is too few or too many, or memory is
    /// short.
    pub(crate) fn new(dma: &Arc<D>, size_max: u16, options: RingOptions) -> Option<Self> {
        let size = if options.is_size_fixed {
            Some(size_max).filter(|s| s.is_power_of_two() && *s <= SIZE_MAX)?
        } else {
            let size = size_max.min(SIZE_PREFERRED);
            if size == 0 { 0 } else { 1 << size.ilog2() }
        };
        if size < 4 {
            return None;
        }
        let nr_slots = if options.has_indirect { size } else { size / 2 }.min(SLOTS_MAX);
        let avail_at = DESC_SIZE * usize::from(size);
        let used_at = (avail_at + 6 + 2 * usize::from(size)).next_multiple_of(PAGE_SIZE);
        let bytes = used_at + 6 + 8 * usize::from(size);
        let rings = Shared(dma.alloc(bytes.div_ceil(PAGE_SIZE))?);
        let slot_pages = (usize::from(nr_slots) * SLOT_SIZE).div_ceil(PAGE_SIZE);
        let Some(slots_memory) = dma.alloc(slot_pages) else {
            // SAFETY: allocated above and shown to no one.
            unsafe { dma.free(rings.0) };
            return None;
        };
        let mut ring = Self {
            dma: dma.clone(),
            rings,
            slots_memory: Shared(slots_memory),
            options,
            size,
            avail_at,
            used_at,
            slots: (0..nr_slots).map(|_| Slot::default()).collect(),
            free_slots: Vec::with_capacity(usize::from(nr_slots)),
            free_descriptors: Vec::with_capacity(usize::from(size)),
            next: alloc::vec![None; usize::from(size)],
            slot_of: alloc::vec![None; usize::from(size)],
            avail_index: 0,
            used_index: 0,
            is_interrupting: true,
            is_event_pending: false,
        };
        ring.clear();
        Some(ring)
    }

    /// Where the device finds it.
    pub(crate) fn layout(&self) -> QueueLayout {
        let base = self.rings.0.addr;
        QueueLayout {
            size: self.size,
            descriptors: base,
            available: base + self.avail_at as u64,
            used: base + self.used_at as u64,
        }
    }

    /// Most segments of a request on this queue.
    pub(crate) fn segments_max(&self) -> usize {
        if self.options.has_indirect { SEGMENTS_MAX } else { SEGMENTS_MAX.min(usize::from(self.size) - 2) }
    }

    /// Requests in flight.
    pub(crate) fn nr_in_flight(&self) -> usize {
        self.slots.len() - self.free_slots.len()
    }

    /// Starts a request; true when the device wants to be notified.
    pub(crate) fn push(&mut self, command: Command) -> Result<bool, PushError> {
        let Some(&slot) = self.free_slots.last() else { return Err(PushError::Full(command.request)) };
        let base = usize::from(slot) * SLOT_SIZE;
        self.slots_memory.write_bytes(base + HEADER_AT, &command.header);
        if let Some(range) = &command.range {
            self.slots_memory.write_bytes(base + RANGE_AT, range);
        }
        self.slots_memory.write8(base + STATUS_AT, STATUS_NOT_WRITTEN);
        let mut list = SegmentList::new(self.options.segment_max);
        let slot_addr = self.slots_memory.0.addr + base as u64;
        list.add(slot_addr + HEADER_AT as u64, 16, false);
        list.end_segment();
        if command.range.is_some() {
            list.add(slot_addr + RANGE_AT as u64, 16, false);
        }
        self.add_data(&mut list, &command.request.op);
        list.end_segment();
        list.add(slot_addr + STATUS_AT as u64, 1, true);
        if list.is_too_long || list.segments.len() > self.segments_max() + 2 {
            return Err(PushError::TooFragmented(command.request));
        }
        let Some(head) = self.write_chain(&list, base, slot_addr) else {
            return Err(PushError::Full(command.request));
        };
        self.free_slots.pop();
        self.slot_of[usize::from(head)] = Some(slot);
        self.slots[usize::from(slot)] = Slot { request: Some(command.request), head, ..Slot::default() };
        Ok(self.publish(head))
    }

    /// The next request the device has returned.
    pub(crate) fn pop(&mut self) -> Result<Option<Finished>, Broken> {
        let mut device_index = self.rings.read16(self.used_at + 2);
        if device_index == self.used_index && core::mem::take(&mut self.is_event_pending) {
            // What the device returned before it saw the event index raised no interrupt: look once more, after it.
            fence(Ordering::SeqCst);
            device_index = self.rings.read16(self.used_at + 2);
        }
        fence(Ordering::Acquire);
        let nr_ready = device_index.wrapping_sub(self.used_index);
        if nr_ready == 0 {
            return Ok(None);
        }
        if usize::from(nr_ready) > self.nr_in_flight() {
            return Err(Broken);
        }
        let entry = self.used_at + 4 + 8 * usize::from(self.used_index % self.size);
        let (id, written) = (self.rings.read32(entry), self.rings.read32(entry + 4));
        let id = usize::try_from(id).map_err(|_| Broken)?;
        let slot = self.slot_of.get_mut(id).and_then(Option::take).ok_or(Broken)?;
        self.used_index = self.used_index.wrapping_add(1);
        if self.is_interrupting && self.options.has_event_index {
            self.rings.write16(self.used_event_at(), self.used_index);
            self.is_event_pending = true;
        }
        let status = self.slots_memory.read8(usize::from(slot) * SLOT_SIZE + STATUS_AT);
        let Slot { request, head, .. } = core::mem::take(&mut self.slots[usize::from(slot)]);
        self.release_chain(head);
        self.free_slots.push(slot);
        let request = request.ok_or(Broken)?;
        Ok(Some(Finished { request, status, written }))
    }

    /// Whether the device has returned something. Exact only right after `set_interrupting`.
    pub(crate) fn has_returned(&self) -> bool {
        self.rings.read16(self.used_at + 2) != self.used_index
    }

    /// Counts a look at every request in flight; whether one was in flight at `nr_looks_max` looks and for `time_max`
    /// of whatever `now` counts.
    pub(crate) fn look(&mut self, now: u64, nr_looks_max: u32, time_max: u64) -> bool {
        let mut is_overdue = false;
        for slot in self.slots.iter_mut().filter(|s| s.request.is_some()) {
            if slot.nr_looks == 0 {
                slot.first_look = now;
            }
            slot.nr_looks = slot.nr_looks.saturating_add(1);
            is_overdue |= slot.nr_looks > nr_looks_max && now.saturating_sub(slot.first_look) >= time_max;
        }
        is_overdue
    }

    /// Asks for interrupts, or for none. After asking for them the caller looks at `has_returned` once more: what
    /// the device returned just before raised none.
    pub(crate) fn set_interrupting(&mut self, yes: bool) {
        self.is_interrupting = yes;
        if self.options.has_event_index {
            // Half the number space away: further than the device can get before the next change.
            let event = if yes { self.used_index } else { self.used_index.wrapping_add(0x8000) };
            self.rings.write16(self.used_event_at(), event);
        } else {
            self.rings.write16(self.avail_at, if yes { 0 } else { AVAIL_NO_INTERRUPT });
        }
        fence(Ordering::SeqCst);
    }

    /// Takes every request back from a stopped device and empties the ring.
    pub(crate) fn take_back(&mut self, _: &Stopped) -> Vec<Request> {
        let requests = self.slots.iter_mut().filter_map(|s| s.request.take()).collect();
        self.clear();
        requests
    }

    /// Gives up a device that could not be stopped: the completions come back, the memory it may still write to is
    /// never used again.
    pub(crate) fn abandon(&mut self) -> Vec<blockdev::Completion> {
        let requests = self.slots.iter_mut().filter_map(|s| s.request.take());
        let completions = requests.map(|Request { op, done }| {
            core::mem::forget(op);
            done
        });
        completions.collect()
    }

    /// Frees the ring's memory. Without this (an abandoned device) it is leaked.
    pub(crate) fn free(&mut self, _: &Stopped) {
        debug_assert_eq!(self.slots.iter().filter(|s| s.request.is_some()).count(), 0);
        for pages in [&mut self.rings, &mut self.slots_memory] {
            if pages.0.nr_pages > 0 {
                // SAFETY: the device is stopped, and nr_pages 0 below makes every later access and free empty.
                unsafe { self.dma.free(pages.0) };
                pages.0.nr_pages = 0;
            }
        }
    }

    fn clear(&mut self) {
        self.rings.zero();
        self.free_slots.clear();
        self.free_slots.extend((0..self.slots.len() as u16).rev());
        self.free_descriptors.clear();
        self.free_descriptors.extend((0..self.size).rev());
        self.next.fill(None);
        self.slot_of.fill(None);
        self.avail_index = 0;
        self.used_index = 0;
        self.set_interrupting(true);
    }

    fn add_data(&self, list: &mut SegmentList, op: &Op) {
        let mut add = |chunk: &[u8], is_device_writing| {
            let mut rest = chunk;
            while !rest.is_empty() && !list.is_too_long {
                let slice = self.dma.slice_of(rest);
                let n = slice.len.clamp(1, rest.len());
                list.add(slice.addr, n, is_device_writing);
                rest = &rest[n..];
            }
        };
        match op {
            Op::Read { buf, .. } => buf.chunks().for_each(|c| add(c, true)),
            Op::Write { data, .. } => data.chunks().for_each(|c| add(c, false)),
            Op::Flush | Op::Discard { .. } | Op::WriteZeroes { .. } => {}
        }
    }

    /// Writes descriptors for the list; the head, or `None` when there are too few.
    fn write_chain(&mut self, list: &SegmentList, base: usize, slot_addr: u64) -> Option<u16> {
        let segments = &list.segments;
        if self.options.has_indirect {
            let head = self.free_descriptors.pop()?;
            for (nr, segment) in segments.iter().enumerate() {
                let is_last = nr + 1 == segments.len();
                let next = if is_last { None } else { Some(nr as u16 + 1) };
                self.slots_memory.write_descriptor(base + nr * DESC_SIZE, *segment, next, 0);
            }
            let table =
                Segment { addr: slot_addr, len: (segments.len() * DESC_SIZE) as u32, is_writing: false };
            self.rings.write_descriptor(usize::from(head) * DESC_SIZE, table, None, DESC_INDIRECT);
            self.next[usize::from(head)] = None;
            return Some(head);
        }
        if self.free_descriptors.len() < segments.len() {
            return None;
        }
        let mut next = None;
        for segment in segments.iter().rev() {
            let index = self.free_descriptors.pop()?;
            self.rings.write_descriptor(usize::from(index) * DESC_SIZE, *segment, next, 0);
            self.next[usize::from(index)] = next;
            next = Some(index);
        }
        next
    }

    fn release_chain(&mut self, head: u16) {
        let mut at = Some(head);
        while let Some(index) = at {
            at = self.next[usize::from(index)].take();
            self.free_descriptors.push(index);
        }
    }

    /// Makes `head` available; true when the device wants to be notified.
    fn publish(&mut self, head: u16) -> bool {
        let old = self.avail_index;
        let new = old.wrapping_add(1);
        self.rings.write16(self.avail_at + 4 + 2 * usize::from(old % self.size), head);
        fence(Ordering::Release);
        self.rings.write16(self.avail_at + 2, new);
        self.avail_index = new;
        // The index must be visible before we look whether the device still listens.
        fence(Ordering::SeqCst);
        if self.options.has_event_index {
            let event = self.rings.read16(self.used_at + 4 + 8 * usize::from(self.size));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.rings.read16(self.used_at) & USED_NO_NOTIFY == 0
        }
    }

    fn used_event_at(&self) -> usize {
        self.avail_at + 4 + 2 * usize::from(self.size)
    }
}

impl<D: Dma> core::fmt::Debug for Ring<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ring({} descriptors, {} in flight)", self.size, self.nr_in_flight())
    }
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    addr: u64,
    len: u32,
    is_writing: bool,
}

/// A request's segments, neighbours merged, at most what a table holds.
struct SegmentList {
    segments: smallvec::SmallVec<[Segment; TABLE_ENTRIES]>,
    segment_max: usize,
    is_too_long: bool,
    is_merging: bool,
}

impl SegmentList {
    fn new(segment_max: usize) -> Self {
        Self {
            segments: smallvec::SmallVec::new(),
            segment_max: segment_max.clamp(512, 1 << 30),
            is_too_long: false,
            is_merging: false,
        }
    }

    /// What follows is a segment of its own: the older interface wants header and status apart.
    fn end_segment(&mut self) {
        self.is_merging = false;
    }

    fn add(&mut self, addr: u64, len: usize, is_writing: bool) {
        let (mut addr, mut left) = (addr, len);
        if self.is_merging
            && let Some(last) = self.segments.last_mut()
            && last.addr + u64::from(last.len) == addr
            && last.is_writing == is_writing
        {
            let n = left.min(self.segment_max.saturating_sub(last.len as usize));
            last.len += n as u32;
            addr += n as u64;
            left -= n;
        }
        while left > 0 {
            if self.segments.len() == TABLE_ENTRIES {
                self.is_too_long = true;
                return;
            }
            let n = left.min(self.segment_max);
            self.segments.push(Segment { addr, len: n as u32, is_writing });
            addr += n as u64;
            left -= n;
        }
        self.is_merging = true;
    }
}

/// Memory that the device sees too: every access is one volatile load or store inside its bounds.
#[derive(Debug)]
struct Shared(DmaPages);

impl Shared {
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let size = self.0.nr_pages * PAGE_SIZE;
        assert!(offset.checked_add(len).is_some_and(|end| end <= size), "access outside of shared memory");
        // SAFETY: inside the pages, by the line above.
        unsafe { self.0.ptr.as_ptr().add(offset) }
    }

    fn read8(&self, offset: usize) -> u8 {
        // SAFETY: `at` checked the bounds; the pages live as long as self (Dma, condition 1).
        unsafe { self.at(offset, 1).read_volatile() }
    }

    fn read16(&self, offset: usize) -> u16 {
        debug_assert!(offset.is_multiple_of(2));
        // SAFETY: as in read8; pages are aligned and the offset is even.
        u16::from_le(unsafe { self.at(offset, 2).cast::<u16>().read_volatile() })
    }

    fn read32(&self, offset: usize) -> u32 {
        debug_assert!(offset.is_multiple_of(4));
        // SAFETY: as in read16, the offset is a multiple of 4.
        u32::from_le(unsafe { self.at(offset, 4).cast::<u32>().read_volatile() })
    }

    fn write8(&mut self, offset: usize, value: u8) {
        // SAFETY: as in read8; the driver's side writes only through `&mut`.
        unsafe { self.at(offset, 1).write_volatile(value) }
    }

    fn write16(&mut self, offset: usize, value: u16) {
        debug_assert!(offset.is_multiple_of(2));
        // SAFETY: as in read16 and write8.
        unsafe { self.at(offset, 2).cast::<u16>().write_volatile(value.to_le()) }
    }

    fn write64(&mut self, offset: usize, value: u64) {
        debug_assert!(offset.is_multiple_of(8));
        // SAFETY: as in write16, the offset is a multiple of 8.
        unsafe { self.at(offset, 8).cast::<u64>().write_volatile(value.to_le()) }
    }

    fn write_bytes(&mut self, offset: usize, bytes: &[u8; 16]) {
        let (low, high) = (u128::from_le_bytes(*bytes) as u64, (u128::from_le_bytes(*bytes) >> 64) as u64);
        self.write64(offset, low);
        self.write64(offset + 8, high);
    }

    fn write_descriptor(&mut self, offset: usize, segment: Segment, next: Option<u16>, flags: u16) {
        let flags = flags
            | if segment.is_writing { DESC_WRITE } else { 0 }
            | if next.is_some() { DESC_NEXT } else { 0 };
        self.write64(offset, segment.addr);
        self.write64(
            offset + 8,
            u64::from(segment.len) | u64::from(flags) << 32 | u64::from(next.unwrap_or(0)) << 48,
        );
    }

    fn zero(&mut self) {
        for offset in (0..self.0.nr_pages * PAGE_SIZE).step_by(8) {
            self.write64(offset, 0);
        }
    }
}
