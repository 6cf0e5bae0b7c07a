//! A block device on the other side of the seams: a thread that follows the rings in host memory, with a repertoire
//! of misbehaviour.
//!
//! A device address is a host address. `slice_of` cuts memory at page boundaries where asked, so that requests have
//! many segments.
extern crate std;

use crate::config::WRITEBACK_AT;
use crate::dma::{Dma, DmaPages, DmaSlice, PAGE_SIZE};
use crate::transport::{QueueLayout, Transport, status};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::boxed::Box;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex};
use std::vec::Vec;

/// Host memory.
#[derive(Debug, Default)]
pub struct HostDma {
    /// Cuts memory at page boundaries.
    pub is_fragmented: bool,
    /// Pages given out and not taken back.
    pub nr_pages: AtomicI64,
}

// SAFETY: pages come zeroed and aligned from the allocator; a device address is the host address.
unsafe impl Dma for HostDma {
    fn alloc(&self, nr_pages: usize) -> Option<DmaPages> {
        let layout = Layout::from_size_align(nr_pages * PAGE_SIZE, PAGE_SIZE).ok()?;
        // SAFETY: the size is not zero: callers ask for at least one page.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        self.nr_pages.fetch_add(nr_pages as i64, Ordering::SeqCst);
        Some(DmaPages { addr: ptr.as_ptr() as u64, ptr, nr_pages })
    }

    unsafe fn free(&self, pages: DmaPages) {
        self.nr_pages.fetch_sub(pages.nr_pages as i64, Ordering::SeqCst);
        // SAFETY: allocated above with this layout, freed once (the caller's promise).
        unsafe {
            dealloc(
                pages.ptr.as_ptr(),
                Layout::from_size_align_unchecked(pages.nr_pages * PAGE_SIZE, PAGE_SIZE),
            );
        }
    }

    fn slice_of(&self, bytes: &[u8]) -> DmaSlice {
        let addr = bytes.as_ptr() as u64;
        let to_page_end = PAGE_SIZE - addr as usize % PAGE_SIZE;
        let len = if self.is_fragmented { bytes.len().min(to_page_end) } else { bytes.len() };
        DmaSlice { addr, len }
    }
}

/// What the device does with the next request instead of doing it right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// Returns an id that no descriptor has.
    IdOutOfRange,
    /// Returns the id of a descriptor that is not in flight, instead of the right one.
    IdNotInFlight,
    /// Returns it twice.
    Twice,
    /// Does it right but says it wrote fewer bytes.
    ShortLength,
    /// Ends it with this status byte and moves no data.
    Status(u8),
    /// Does not write the status byte.
    NoStatus,
    /// Moves the used index far ahead.
    IndexJump,
    /// Never returns it.
    Silence,
    /// Asks for a reset instead of doing it.
    NeedsReset,
    /// Does it right but raises no interrupt.
    NoInterrupt,
}

/// What the device is like.
#[derive(Clone, Debug)]
pub struct Traits {
    pub features: u64,
    pub is_legacy: bool,
    pub queue_size: u16,
    pub config: Vec<u8>,
    pub capacity: usize,
    /// Does not confirm resets after this many.
    pub resets_max: usize,
}

#[derive(Debug, Default)]
struct QueueState {
    layout: Option<QueueLayout>,
    next: u16,
    used: u16,
    is_notified: bool,
}

#[derive(Debug)]
struct State {
    status: u8,
    driver_features: u64,
    queues: Vec<QueueState>,
    misdeeds: VecDeque<Misdeed>,
    medium: Vec<u8>,
    is_closing: bool,
    is_paused: bool,
}

type Interrupt = Box<dyn Fn(Option<usize>) + Send + Sync>;

/// The device.
pub struct Model {
    traits: Traits,
    state: Mutex<State>,
    changed: Condvar,
    interrupt: Mutex<Option<Interrupt>>,
    pub nr_resets: AtomicUsize,
    pub nr_interrupts: AtomicUsize,
    pub nr_notifications: AtomicUsize,
    /// Misses the next notification.
    pub is_deaf: AtomicBool,
    pub nr_flushes: AtomicUsize,
    pub is_interrupting: AtomicBool,
    /// The field `writeback`.
    pub writeback: AtomicU8,
    /// Does not turn its cache off.
    pub is_stubborn: AtomicBool,
    /// Writes done with the cache off, and with it on.
    pub nr_through: AtomicUsize,
    pub nr_back: AtomicUsize,
}

impl Model {
    pub fn new(traits: Traits) -> Arc<Self> {
        let nr_queues = usize::from(u16::from_le_bytes([traits.config[34], traits.config[35]])).max(1);
        let state = State {
            status: 0,
            driver_features: 0,
            queues: (0..nr_queues).map(|_| QueueState::default()).collect(),
            misdeeds: VecDeque::new(),
            medium: std::vec![0; traits.capacity],
            is_closing: false,
            is_paused: false,
        };
        let model = Arc::new(Self {
            writeback: AtomicU8::new(traits.config[WRITEBACK_AT]),
            traits,
            state: Mutex::new(state),
            changed: Condvar::new(),
            interrupt: Mutex::new(None),
            nr_resets: AtomicUsize::new(0),
            nr_interrupts: AtomicUsize::new(0),
            nr_notifications: AtomicUsize::new(0),
            is_deaf: AtomicBool::new(false),
            nr_flushes: AtomicUsize::new(0),
            is_interrupting: AtomicBool::new(true),
            is_stubborn: AtomicBool::new(false),
            nr_through: AtomicUsize::new(0),
            nr_back: AtomicUsize::new(0),
        });
        let device = model.clone();
        std::thread::spawn(move || device.run());
        model
    }

    /// Whom to interrupt: a queue, or `None` for the configuration.
    pub fn connect(&self, interrupt: Interrupt) {
        *self.interrupt.lock().expect("lock") = Some(interrupt);
    }

    pub fn misbehave(&self, misdeeds: &[Misdeed]) {
        self.state.lock().expect("lock").misdeeds.extend(misdeeds);
    }

    /// Does nothing until `resume`, so that requests pile up.
    pub fn pause(&self, yes: bool) {
        self.state.lock().expect("lock").is_paused = yes;
        self.changed.notify_all();
    }

    pub fn medium(&self, at: usize, len: usize) -> Vec<u8> {
        self.state.lock().expect("lock").medium[at..at + len].to_vec()
    }

    pub fn close(&self) {
        self.state.lock().expect("lock").is_closing = true;
        *self.interrupt.lock().expect("lock") = None;
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut state = self.state.lock().expect("lock");
        while !state.is_closing {
            let is_running = state.status & status::DRIVER_OK != 0 && !state.is_paused;
            let ready = state.queues.iter().position(|q| q.is_notified && q.layout.is_some());
            let (true, Some(nr)) = (is_running, ready) else {
                state = self.changed.wait(state).expect("lock");
                continue;
            };
            state.queues[nr].is_notified = false;
            // Done under the lock, so that a reset waits for it and nothing is written afterwards.
            while let Some(interrupt) = self.serve_one(&mut state, nr) {
                let Some(whom) = interrupt else { continue };
                drop(state);
                self.raise(whom);
                state = self.state.lock().expect("lock");
                if state.queues[nr].layout.is_none() || state.is_closing || state.is_paused {
                    state.queues[nr].is_notified = true;
                    break;
                }
            }
        }
    }

    fn raise(&self, whom: Option<usize>) {
        self.nr_interrupts.fetch_add(1, Ordering::SeqCst);
        if self.is_interrupting.load(Ordering::SeqCst)
            && let Some(interrupt) = &*self.interrupt.lock().expect("lock")
        {
            interrupt(whom);
        }
    }

    /// Serves the next available request. `None`: there is none; `Some(interrupt)`: served, and whom to interrupt.
    fn serve_one(&self, state: &mut State, nr: usize) -> Option<Option<Option<usize>>> {
        let queue = &mut state.queues[nr];
        let layout = queue.layout?;
        let ring = Memory(layout);
        if ring.avail_index() == queue.next {
            ring.set_avail_event(state.driver_features, queue.next);
            fence(Ordering::SeqCst);
            if ring.avail_index() == queue.next {
                return None;
            }
        }
        let head = ring.avail(queue.next);
        queue.next = queue.next.wrapping_add(1);
        let misdeed = state.misdeeds.pop_front();
        let is_status_written = misdeed != Some(Misdeed::NoStatus);
        let forced = match misdeed {
            Some(Misdeed::Status(s)) => Some(s),
            Some(Misdeed::Silence) => return Some(None),
            Some(Misdeed::NeedsReset) => {
                state.status |= status::NEEDS_RESET;
                return Some(Some(None));
            }
            _ => None,
        };
        let written = self.execute(&mut state.medium, &ring.chain(head), forced, is_status_written);
        let queue = &mut state.queues[nr];
        let old = queue.used;
        let (id, written) = match misdeed {
            Some(Misdeed::IdOutOfRange) => (70_000, written),
            Some(Misdeed::IdNotInFlight) => (u32::from((head + 1) % layout.size), written),
            Some(Misdeed::ShortLength) => (u32::from(head), written.saturating_sub(1)),
            _ => (u32::from(head), written),
        };
        ring.put_used(queue.used, id, written);
        queue.used = queue.used.wrapping_add(1);
        if misdeed == Some(Misdeed::Twice) {
            ring.put_used(queue.used, id, written);
            queue.used = queue.used.wrapping_add(1);
        }
        if misdeed == Some(Misdeed::IndexJump) {
            queue.used = queue.used.wrapping_add(1000);
        }
        ring.set_used_index(queue.used);
        fence(Ordering::SeqCst);
        let wants = ring.wants_interrupt(state.driver_features, old, queue.used);
        Some((wants && misdeed != Some(Misdeed::NoInterrupt)).then_some(Some(nr)))
    }

    fn execute(&self, medium: &mut [u8], chain: &[Piece], forced: Option<u8>, has_status: bool) -> u32 {
        let (header, rest) = chain.split_first().expect("header");
        let (status_piece, data) = rest.split_last().expect("status");
        assert_eq!((header.len, header.is_writing), (16, false));
        assert_eq!((status_piece.len, status_piece.is_writing), (1, true));
        let header = header.read();
        let kind = u32::from_le_bytes(header[..4].try_into().expect("4 bytes"));
        let mut at = u64::from_le_bytes(header[8..].try_into().expect("8 bytes")) as usize * 512;
        let mut written = 0;
        if forced.is_none() {
            for piece in data {
                match kind {
                    0 => {
                        assert!(piece.is_writing);
                        piece.write(&medium[at..at + piece.len]);
                        written += piece.len as u32;
                    }
                    1 => medium[at..at + piece.len].copy_from_slice(&piece.read()),
                    11 | 13 => {
                        let range = piece.read();
                        let from = u64::from_le_bytes(range[..8].try_into().expect("8")) as usize * 512;
                        let len = u32::from_le_bytes(range[8..12].try_into().expect("4")) as usize * 512;
                        medium[from..from + len].fill(0);
                    }
                    _ => panic!("data with command {kind}"),
                }
                at += piece.len;
            }
            if kind == 1 {
                let is_through = self.writeback.load(Ordering::SeqCst) == 0;
                let nr = if is_through { &self.nr_through } else { &self.nr_back };
                nr.fetch_add(1, Ordering::SeqCst);
            }
            if kind == 4 {
                self.nr_flushes.fetch_add(1, Ordering::SeqCst);
            }
        }
        if has_status {
            status_piece.write(&[forced.unwrap_or(0)]);
        }
        written + 1
    }
}

/// Part of a request's memory.
#[derive(Clone, Copy, Debug)]
struct Piece {
    addr: u64,
    len: usize,
    is_writing: bool,
}

impl Piece {
    fn read(&self) -> Vec<u8> {
        assert!(!self.is_writing);
        // SAFETY: the driver keeps a request's memory alive and unwritten until the device returns it.
        unsafe { std::slice::from_raw_parts(self.addr as *const u8, self.len) }.to_vec()
    }

    fn write(&self, bytes: &[u8]) {
        assert!(self.is_writing && bytes.len() <= self.len);
        // SAFETY: as in read, and the driver gave it for writing.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.addr as *mut u8, bytes.len()) }
    }
}

/// A queue's memory as the device sees it.
struct Memory(QueueLayout);

impl Memory {
    fn read16(addr: u64) -> u16 {
        // SAFETY: all addresses here lie in the driver's rings, which live until the device is stopped.
        unsafe { (addr as *const u16).read_volatile() }
    }

    fn write16(addr: u64, value: u16) {
        // SAFETY: as in read16.
        unsafe { (addr as *mut u16).write_volatile(value) }
    }

    fn avail_index(&self) -> u16 {
        let index = Self::read16(self.0.available + 2);
        fence(Ordering::Acquire);
        index
    }

    fn avail(&self, index: u16) -> u16 {
        Self::read16(self.0.available + 4 + 2 * u64::from(index % self.0.size))
    }

    fn put_used(&self, index: u16, id: u32, len: u32) {
        let at = self.0.used + 4 + 8 * u64::from(index % self.0.size);
        // SAFETY: as in read16.
        unsafe { (at as *mut [u32; 2]).write_volatile([id, len]) }
    }

    fn set_used_index(&self, index: u16) {
        fence(Ordering::Release);
        Self::write16(self.0.used + 2, index);
    }

    fn set_avail_event(&self, features: u64, index: u16) {
        if features & 1 << 29 != 0 {
            Self::write16(self.0.used + 4 + 8 * u64::from(self.0.size), index);
        }
    }

    fn wants_interrupt(&self, features: u64, old: u16, new: u16) -> bool {
        if features & 1 << 29 == 0 {
            return Self::read16(self.0.available) & 1 == 0;
        }
        let event = Self::read16(self.0.available + 4 + 2 * u64::from(self.0.size));
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    fn chain(&self, head: u16) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut table, mut index) = (self.0.descriptors, head);
        loop {
            let at = table + 16 * u64::from(index);
            // SAFETY: as in read16; descriptors are 16 bytes, aligned to 8.
            let [addr, rest] = unsafe { (at as *const [u64; 2]).read_volatile() };
            let (len, flags, next) = (rest as u32, (rest >> 32) as u16, (rest >> 48) as u16);
            if flags & 4 != 0 {
                (table, index) = (addr, 0);
                continue;
            }
            pieces.push(Piece { addr, len: len as usize, is_writing: flags & 2 != 0 });
            if flags & 1 == 0 {
                return pieces;
            }
            index = next;
        }
    }
}

/// The registers of a model.
pub struct ModelTransport(pub Arc<Model>);

impl Transport for ModelTransport {
    fn device_id(&self) -> u32 {
        2
    }

    fn is_legacy(&self) -> bool {
        self.0.traits.is_legacy
    }

    fn device_features(&self) -> u64 {
        self.0.traits.features
    }

    fn set_driver_features(&self, features: u64) {
        assert_eq!(features & !self.0.traits.features, 0, "features that were not offered");
        self.0.state.lock().expect("lock").driver_features = features;
    }

    fn status(&self) -> u8 {
        self.0.state.lock().expect("lock").status
    }

    fn set_status(&self, bits: u8) {
        let mut state = self.0.state.lock().expect("lock");
        if bits == 0 {
            if self.0.nr_resets.fetch_add(1, Ordering::SeqCst) >= self.0.traits.resets_max {
                return;
            }
            for queue in &mut state.queues {
                *queue = QueueState::default();
            }
            self.0.writeback.store(self.0.traits.config[WRITEBACK_AT], Ordering::SeqCst);
        }
        state.status = bits;
        self.0.changed.notify_all();
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        let nr_queues = self.0.state.lock().expect("lock").queues.len();
        if usize::from(queue) < nr_queues { self.0.traits.queue_size } else { 0 }
    }

    fn enable_queue(&self, queue: u16, layout: &QueueLayout, _vector: Option<u16>) -> bool {
        assert!(layout.descriptors.is_multiple_of(4096) && layout.used.is_multiple_of(4096));
        self.0.state.lock().expect("lock").queues[usize::from(queue)].layout = Some(*layout);
        true
    }

    fn set_config_vector(&self, _vector: Option<u16>) -> bool {
        true
    }

    fn notify(&self, queue: u16) {
        self.0.nr_notifications.fetch_add(1, Ordering::SeqCst);
        if self.0.is_deaf.swap(false, Ordering::SeqCst) {
            return;
        }
        self.0.state.lock().expect("lock").queues[usize::from(queue)].is_notified = true;
        self.0.changed.notify_all();
    }

    fn take_interrupt_status(&self) -> u8 {
        1
    }

    fn read_config8(&self, offset: usize) -> u8 {
        if offset == WRITEBACK_AT {
            return self.0.writeback.load(Ordering::SeqCst);
        }
        self.0.traits.config.get(offset).copied().unwrap_or(0xff)
    }

    fn read_config16(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.read_config8(offset), self.read_config8(offset + 1)])
    }

    fn read_config32(&self, offset: usize) -> u32 {
        u32::from(self.read_config16(offset)) | u32::from(self.read_config16(offset + 2)) << 16
    }

    fn write_config8(&self, offset: usize, value: u8) {
        assert_eq!(offset, WRITEBACK_AT, "the only field that can be written");
        if value != 0 || !self.0.is_stubborn.load(Ordering::SeqCst) {
            self.0.writeback.store(value, Ordering::SeqCst);
        }
    }

    fn config_generation(&self) -> u32 {
        0
    }
}
