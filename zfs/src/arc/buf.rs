//! Buffers of the cache, and the account of the memory they take.
use super::holder::Holder;
use abd::Abd;
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use ondisk::BlkPtr;
use rt::SpinLock;

/// Where a block lies and since when: what identifies its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub vdev: u32,
    pub offset: u64,
    pub birth: u64,
}

impl Key {
    /// The key of a block, `None` for what lies in no place (holes, embedded blocks).
    pub(crate) fn of(bp: &BlkPtr) -> Option<Self> {
        if bp.is_hole() || bp.is_embedded() {
            return None;
        }
        let dva = bp.dva(0);
        Some(Self { vdev: dva.vdev, offset: dva.offset, birth: bp.phys_birth().0 })
    }

    /// Which of `nr` (a power of two) shards.
    pub(crate) fn shard(&self, nr: usize) -> usize {
        let mixed = (self.offset >> 9 ^ self.birth.rotate_left(17) ^ u64::from(self.vdev))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize & (nr - 1)
    }
}

/// Memory in use, and the clock of insertions.
#[derive(Debug, Default)]
pub(crate) struct Account {
    used: AtomicU64,
    inserted: AtomicU64,
    /// Rises with every share of the target that is inserted. Uses within one epoch count as one: reading a block piece
    /// by piece does not make it look popular.
    epoch: AtomicU32,
    epoch_bytes: AtomicU64,
}

impl Account {
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn set_epoch_bytes(&self, bytes: u64) {
        self.epoch_bytes.store(bytes.max(1), Ordering::Relaxed);
    }

    /// Takes `bytes` into the account until the charge is dropped.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Charge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        let before = self.inserted.fetch_add(bytes, Ordering::Relaxed);
        let len = self.epoch_bytes.load(Ordering::Relaxed).max(1);
        if before / len != (before + bytes) / len {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
        Charge { account: self.clone(), bytes }
    }
}

/// A share of the account.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Read once so far.
const FRESH: u8 = 0;
/// Used again in a later epoch.
const USED_AGAIN: u8 = 1;

pub(crate) struct Header {
    pub(crate) key: Option<Key>,
    data: Abd,
    charge: Charge,
    mark: AtomicU8,
    epoch: AtomicU32,
    holder: SpinLock<Option<Weak<dyn Holder>>>,
}

impl Header {
    pub(crate) fn size(&self) -> u64 {
        self.charge.bytes
    }

    /// Takes the mark of a repeated use away.
    pub(crate) fn take_used_again(&self) -> bool {
        self.mark.compare_exchange(USED_AGAIN, FRESH, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn holder(&self) -> Option<Arc<dyn Holder>> {
        self.holder.lock().as_ref().and_then(Weak::upgrade)
    }
}

/// A block of the cache: verified, decompressed, little-endian, immutable. Cheap to clone.
#[derive(Clone)]
pub struct ArcBuf(pub(super) Arc<Header>);

impl ArcBuf {
    pub(crate) fn new(key: Option<Key>, data: Abd, account: &Arc<Account>) -> Self {
        let charge = account.charge(data.len() as u64);
        let epoch = AtomicU32::new(account.epoch.load(Ordering::Relaxed));
        let mark = AtomicU8::new(FRESH);
        Self(Arc::new(Header { key, data, charge, mark, epoch, holder: SpinLock::new(None) }))
    }

    /// The content.
    pub fn abd(&self) -> &Abd {
        &self.0.data
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.data.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.data.is_empty()
    }

    /// Notes a use that did not come through [`crate::zio::Storage::read`]. Two loads, and at most once in an epoch a
    /// store.
    pub fn touch(&self) {
        let header = &*self.0;
        let now = header.charge.account.epoch.load(Ordering::Relaxed);
        if header.epoch.load(Ordering::Relaxed) == now {
            return;
        }
        header.epoch.store(now, Ordering::Relaxed);
        header.mark.store(USED_AGAIN, Ordering::Relaxed);
    }

    /// Registers who keeps the buffer, in place of an earlier one.
    pub fn set_holder(&self, holder: Weak<dyn Holder>) {
        let earlier = self.0.holder.lock().replace(holder);
        drop(earlier);
    }

    /// Whether both are the same buffer.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for ArcBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArcBuf({:?}, {} bytes)", self.0.key, self.len())
    }
}
