//! What an fsync costs the CPU: instructions of a whole operation, change and fsync, without those spent on waiting for the
//! disk.
//!
//! It makes sense on a machine with one CPU whose clock counts instructions (QEMU's `-icount shift=0`): there a nanosecond
//! is an instruction. The disk answers every request before `submit` returns, and the looks that found nothing are taken
//! off, so that what is counted does not depend on how fast the disk is: the driver is counted, threads being switched are
//! not. Figures are lines `fsync-instructions NAME OPERATIONS INSTRUCTIONS`, the last a median.
use super::fsync::{Bench, Refusal, median};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::{BlockDevice, Geometry, IoWait, QueueFull, Request};
use core::sync::atomic::{AtomicU64, Ordering};

/// Counts; true if nothing failed.
pub fn run(disks: &[Arc<dyn BlockDevice>]) -> bool {
    let [disk, other, ..] = disks else {
        log::error!("two disks are needed");
        return false;
    };
    let prompt = Arc::new(Prompt { disk: disk.clone(), waited: AtomicU64::new(0) });
    let device: Arc<dyn BlockDevice> = prompt.clone();
    let counted = Bench::new(&device, other).and_then(|bench| {
        bench.each_lone_load(&mut |name, one| {
            let mut counts = Vec::new();
            for i in 0..WARM_UP + OPERATIONS {
                let (start, waited) = (rt::now().0, prompt.waited.load(Ordering::Relaxed));
                one(0, i)?;
                let waited = prompt.waited.load(Ordering::Relaxed) - waited;
                if i >= WARM_UP {
                    counts.push(rt::now().0 - start - waited);
                }
            }
            log::info!("fsync-instructions {name} {} {}", counts.len(), median(counts));
            Ok::<_, Refusal>(())
        })
    });
    if let Err(e) = &counted {
        log::error!("{e}");
    }
    counted.is_ok()
}

const WARM_UP: usize = 200;
const OPERATIONS: usize = 500;

/// A disk that has answered when `submit` returns.
#[derive(Debug)]
struct Prompt {
    disk: Arc<dyn BlockDevice>,
    /// Nanoseconds of looks that found nothing.
    waited: AtomicU64,
}

impl BlockDevice for Prompt {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn submit(&self, queue: usize, request: Request) -> Result<(), QueueFull> {
        let Request { op, done } = request;
        let wait = IoWait::new();
        self.disk.poll_begin(queue);
        self.disk.submit_blocking(queue, Request { op, done: wait.completion(0) });
        let start = rt::now().0;
        let mut last_look = start;
        let answer = loop {
            self.disk.poll(queue);
            if let Some(answer) = wait.try_wait() {
                break answer;
            }
            last_look = rt::now().0;
        };
        self.waited.fetch_add(last_look - start, Ordering::Relaxed);
        self.disk.poll_end(queue);
        if let Some(answer) = answer.into_iter().next() {
            done.complete(answer.result, answer.buf);
        }
        Ok(())
    }

    fn poll(&self, queue: usize) -> usize {
        self.disk.poll(queue)
    }

    fn is_fua_shared(&self) -> bool {
        self.disk.is_fua_shared()
    }
}
