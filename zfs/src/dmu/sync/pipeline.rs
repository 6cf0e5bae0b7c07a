//! Preparing blocks (compression, checksum) on all CPUs, while they are issued in order.
//!
//! Invariants: what is prepared and not issued stays below [`WINDOW_BYTES`] (each block may exist twice meanwhile),
//! and the order of issuing is that of the jobs, whatever the workers do.
use crate::zio::{Packed, Prepared, Storage, WritePolicy};
use crate::{Error, Result};
use abd::Abd;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use ondisk::BlkPtr;
use rt::{Event, SpinLock, Taskq};

/// Most bytes of blocks between preparing and issuing.
const WINDOW_BYTES: usize = 8 << 20;
/// Most blocks between preparing and issuing.
const WINDOW_BLOCKS: usize = 256;
/// Blocks up to this size are prepared by the issuer: handing them over costs more.
const INLINE_MAX: usize = 8 << 10;

/// A block to be prepared, and what its issuer needs to know about it.
pub(super) struct Job<T> {
    pub(super) data: Abd,
    /// What is to be stored of it, when it came compressed.
    pub(super) packed: Option<Packed>,
    pub(super) policy: WritePolicy,
    /// The block that it was written to ahead.
    pub(super) ahead: Option<BlkPtr>,
    pub(super) tag: T,
}

#[derive(Default)]
struct Slot {
    result: SpinLock<Option<Result<Prepared>>>,
    done: Event,
}

enum Pending {
    Ready(Result<Prepared>),
    Elsewhere(Arc<Slot>),
}

impl Pending {
    fn wait(self) -> Result<Prepared> {
        match self {
            Self::Ready(result) => result,
            Self::Elsewhere(slot) => {
                slot.done.wait();
                let result = slot.result.lock().take();
                result.unwrap_or(Err(Error::Io))
            }
        }
    }
}

/// Prepares `jobs` and calls `issue` for each in order.
///
/// # Errors
/// The first of preparing, of `jobs` or of `issue`.
pub(super) fn run<T>(
    storage: &Arc<Storage>,
    workers: Option<&Taskq>,
    jobs: impl Iterator<Item = Job<T>>,
    mut issue: impl FnMut(T, Abd, Prepared) -> Result<()>,
) -> Result<()> {
    let mut window: VecDeque<(T, Abd, Pending)> = VecDeque::new();
    let mut bytes = 0;
    let mut issue_first = |window: &mut VecDeque<(T, Abd, Pending)>, bytes: &mut usize| {
        let Some((tag, data, pending)) = window.pop_front() else { return Ok(()) };
        *bytes -= data.len();
        issue(tag, data, pending.wait()?)
    };
    for job in jobs {
        while !window.is_empty() && (bytes + job.data.len() > WINDOW_BYTES || window.len() >= WINDOW_BLOCKS) {
            issue_first(&mut window, &mut bytes)?;
        }
        let pending = match workers {
            _ if let Some(bp) = job.ahead => Pending::Ready(Ok(Prepared::written(bp))),
            Some(workers) if job.data.len() > INLINE_MAX => dispatch(storage, workers, &job),
            _ => Pending::Ready(prepare(storage, job.data.clone(), job.packed.clone(), &job.policy)),
        };
        bytes += job.data.len();
        window.push_back((job.tag, job.data, pending));
    }
    while !window.is_empty() {
        issue_first(&mut window, &mut bytes)?;
    }
    Ok(())
}

fn prepare(storage: &Storage, data: Abd, packed: Option<Packed>, policy: &WritePolicy) -> Result<Prepared> {
    match packed {
        Some(packed) => storage.prepare_packed(data.len(), packed, policy),
        None => storage.prepare(data, policy),
    }
}

fn dispatch<T>(storage: &Arc<Storage>, workers: &Taskq, job: &Job<T>) -> Pending {
    let slot = Arc::new(Slot::default());
    let (theirs, storage, data, policy) = (slot.clone(), storage.clone(), job.data.clone(), job.policy);
    let packed = job.packed.clone();
    workers.dispatch(move || {
        let result = prepare(&storage, data, packed, &policy);
        *theirs.result.lock() = Some(result);
        theirs.done.set();
    });
    Pending::Elsewhere(slot)
}
