//! Signals sent and not yet taken.
//!
//! Invariant: `bits` has a bit exactly for the signals in the queue; it is read without the lock on every return to
//! the application. Standard signals are queued once, real-time ones up to [`QUEUE_MAX`].
use super::{SigInfo, SigSet, bit};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use rt::SpinLock;

/// Most queued signals of one thread or process.
const QUEUE_MAX: usize = 4096;
/// First real-time signal.
const SIGRTMIN: u32 = 32;

/// The queue of a thread or of a process.
#[derive(Debug, Default)]
pub struct Pending {
    bits: AtomicU64,
    queue: SpinLock<Vec<SigInfo>>,
}

impl Pending {
    /// Nothing.
    pub const fn new() -> Self {
        Self { bits: AtomicU64::new(0), queue: SpinLock::new(Vec::new()) }
    }

    /// What is pending.
    pub fn set(&self) -> SigSet {
        SigSet(self.bits.load(Ordering::SeqCst))
    }

    /// Adds a signal; false when it was there already or the queue is full.
    pub fn push(&self, info: SigInfo) -> bool {
        let mut queue = self.queue.lock();
        let is_known = self.bits.load(Ordering::Relaxed) & bit(info.signo) != 0;
        if (is_known && info.signo < SIGRTMIN) || queue.len() >= QUEUE_MAX {
            return false;
        }
        queue.push(info);
        self.bits.fetch_or(bit(info.signo), Ordering::SeqCst);
        true
    }

    /// Takes the next signal that is in `wanted`: those of faults first, then the lowest number, oldest first.
    pub fn take(&self, wanted: SigSet) -> Option<SigInfo> {
        if self.bits.load(Ordering::SeqCst) & wanted.0 == 0 {
            return None;
        }
        let mut queue = self.queue.lock();
        let rank = |info: &SigInfo| (!SigSet::SYNCHRONOUS.contains(info.signo), info.signo);
        let (at, _) = queue
            .iter()
            .enumerate()
            .filter(|(_, info)| wanted.contains(info.signo))
            .min_by_key(|(at, info)| (rank(info), *at))?;
        let info = queue.remove(at);
        if !queue.iter().any(|other| other.signo == info.signo) {
            self.bits.fetch_and(!bit(info.signo), Ordering::SeqCst);
        }
        Some(info)
    }

    /// Throws signals away.
    pub fn discard(&self, unwanted: SigSet) {
        let mut queue = self.queue.lock();
        queue.retain(|info| !unwanted.contains(info.signo));
        self.bits.fetch_and(!unwanted.0, Ordering::SeqCst);
    }
}
