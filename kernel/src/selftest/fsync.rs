//! What an fsync costs in this machine: device requests and time of three loads on a new pool on the first disk, in turns
//! with single writes and flushes of the second disk, which nobody else uses.
//!
//! The loads call the file system as system calls do, without a system call's own hundred instructions. The figures are
//! lines `fsync NAME OPERATIONS WRITES FLUSHES NANOSECONDS DEVICE_NANOSECONDS FUA_NANOSECONDS` on the console: the last three
//! are medians, of one operation, of one write and one flush of the device, and of one write that is durable when answered
//! (0: it has none), polled for.
use abd::Abd;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::middleware::Traced;
use blockdev::{BlockDevice, IoWait, Op, Request};
use core::fmt::Display;
use core::time::Duration;
use rt::{JoinHandle, SpinLock};
use vfs::{Cred, FileSystem, Fsync, NewNode, SliceSource, VnodeRef};
use zfs::spa::{PoolSpec, Spa, VdevSpec};
use zpl::{CreateOptions, MountOptions, ZplFs};

const WARM_UP: usize = 100;
const OPERATIONS: usize = 500;
/// Operations before it is the other disk's turn.
const TURN: usize = 20;
const THREADS: usize = 16;
/// Longer than a disk takes.
const SPIN: Duration = Duration::from_secs(1);

pub(super) type Refusal = Box<dyn Display>;
pub(super) type Operation = Arc<dyn Fn(usize, usize) -> Result<(), Refusal> + Send + Sync>;

fn refused(e: impl Display + 'static) -> Refusal {
    Box::new(e)
}

/// Measures; true if nothing failed.
pub fn run(disks: &[Arc<dyn BlockDevice>]) -> bool {
    let [disk, other, ..] = disks else {
        log::error!("two disks are needed");
        return false;
    };
    let measured = Bench::new(disk, other).and_then(|bench| bench.run());
    if let Err(e) = &measured {
        log::error!("{e}");
    }
    measured.is_ok()
}

pub(super) struct Bench {
    disk: Arc<Traced>,
    other: Arc<dyn BlockDevice>,
    spa: Arc<Spa>,
    fs: Arc<ZplFs>,
    root: VnodeRef,
}

impl Bench {
    pub(super) fn new(disk: &Arc<dyn BlockDevice>, other: &Arc<dyn BlockDevice>) -> Result<Self, Refusal> {
        let disk = Arc::new(Traced::new(disk.clone()));
        let vdev = VdevSpec { device: disk.clone(), path: "/dev/disk".into(), is_file: false };
        let make = |tx: &_, objset: &_| zpl::create_fs(tx, objset, &CreateOptions::default());
        let spa = Spa::create(Vec::from([vdev]), &PoolSpec::new("bench"), &mut { make }).map_err(refused)?;
        let fs = zpl::mount(&spa, "bench", &MountOptions::default()).map_err(refused)?;
        let root = fs.root().map_err(refused)?;
        Ok(Self { disk, other: other.clone(), spa, fs, root })
    }

    fn run(&self) -> Result<(), Refusal> {
        self.each_lone_load(&mut |name, one| self.measure(name, 1, one))?;
        let names = (0..THREADS).map(|t| format!("thread-{t}"));
        let files: Result<Vec<_>, _> = names.map(|name| create(&self.root, &name)).collect();
        let files = files?;
        self.measure("threads_16", THREADS, &(Arc::new(move |t, _| append(&files[t], 4096)) as Operation))
    }

    /// The loads of one thread, by name.
    pub(super) fn each_lone_load(
        &self,
        run: &mut dyn FnMut(&str, &Operation) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let file = create(&self.root, "append")?;
        run("append_4k", &(Arc::new(move |_, _| append(&file, 4096)) as Operation))?;
        let root = self.root.clone();
        let make = move |_, i| append(&create(&root, &format!("create-{i}"))?, 10 << 10);
        run("create_10k", &(Arc::new(make) as Operation))
    }

    fn measure(&self, name: &str, nr_threads: usize, one: &Operation) -> Result<(), Refusal> {
        (0..WARM_UP).try_for_each(|i| one(i % nr_threads, i))?;
        // What the groups so far have to write is written before the counting begins.
        self.spa.sync().map_err(refused)?;
        let logged = self.log_bytes();
        (WARM_UP..2 * WARM_UP).try_for_each(|i| one(i % nr_threads, i))?;
        let (before, log) = (self.disk.counts(), self.log_bytes());
        let length = (log.0 - logged.0) / (log.1 - logged.1).max(1);
        let length = (length as usize).next_multiple_of(4096).max(4096);
        let mut device = Device::default();
        let times = match nr_threads {
            1 => self.alternately(one, length, &mut device)?,
            _ => {
                let times = together(nr_threads, one)?;
                (0..OPERATIONS / TURN).try_for_each(|_| self.yardstick(length, &mut device))?;
                times
            }
        };
        let after = self.disk.counts();
        let (nr, writes, flushes) =
            (times.len(), after.writes - before.writes, after.flushes - before.flushes);
        let (time, flushed, durable) = (median(times), median(device.flushed), median(device.durable));
        log::info!("fsync {name} {nr} {writes} {flushes} {time} {flushed} {durable}");
        Ok(())
    }

    fn alternately(&self, one: &Operation, length: usize, device: &mut Device) -> Result<Vec<u64>, Refusal> {
        let mut times = Vec::with_capacity(OPERATIONS);
        for i in 0..OPERATIONS {
            if i.is_multiple_of(TURN) {
                self.yardstick(length, device)?;
            }
            let start = rt::now();
            one(0, 2 * WARM_UP + i)?;
            times.push(rt::now().0 - start.0);
        }
        Ok(times)
    }

    /// A turn of the other disk: each time one write and one flush, and one durable write.
    fn yardstick(&self, length: usize, device: &mut Device) -> Result<(), Refusal> {
        for _ in 0..TURN {
            let start = rt::now();
            let offset = (device.flushed.len() * length) as u64 % (256 << 20);
            self.request(Op::Write { offset, data: Abd::zeroed(length), is_fua: false })?;
            self.request(Op::Flush)?;
            device.flushed.push(rt::now().0 - start.0);
            if self.other.geometry().has_fua {
                // Elsewhere: a place that was just written has its room on the host's disk already.
                let (start, offset) = (rt::now(), offset + (512 << 20));
                self.request(Op::Write { offset, data: Abd::zeroed(length), is_fua: true })?;
                device.durable.push(rt::now().0 - start.0);
            }
        }
        Ok(())
    }

    fn request(&self, op: Op) -> Result<(), Refusal> {
        let (wait, queue) = (IoWait::new(), rt::cpu_id());
        self.other.submit_blocking(queue, Request { op, done: wait.completion(0) });
        let done = wait.wait_polling(&*self.other, queue, SPIN);
        done.into_iter().try_for_each(|done| done.result).map_err(refused)
    }

    /// Bytes and blocks that the log has written.
    fn log_bytes(&self) -> (u64, u64) {
        self.fs.objset().zil().map_or((0, 0), |zil| (zil.stats().bytes, zil.stats().nr_blocks))
    }
}

/// What the device alone takes.
#[derive(Default)]
struct Device {
    /// A write and a flush.
    flushed: Vec<u64>,
    /// A write that is durable when answered.
    durable: Vec<u64>,
}

/// The times of the operations of several threads at once.
fn together(nr_threads: usize, one: &Operation) -> Result<Vec<u64>, Refusal> {
    let all = Arc::new(SpinLock::new(Vec::new()));
    let threads: Vec<JoinHandle> = (0..nr_threads)
        .map(|t| {
            let (one, all) = (one.clone(), all.clone());
            rt::spawn("fsync", move || {
                let mut times = Vec::new();
                for i in 0..OPERATIONS / nr_threads {
                    let start = rt::now();
                    if let Err(e) = one(t, 2 * WARM_UP + i) {
                        log::error!("{e}");
                        return;
                    }
                    times.push(rt::now().0 - start.0);
                }
                all.lock().append(&mut times);
            })
        })
        .collect();
    threads.into_iter().for_each(JoinHandle::join);
    Ok(core::mem::take(&mut all.lock()))
}

fn create(root: &VnodeRef, name: &str) -> Result<VnodeRef, Refusal> {
    root.create(name.as_bytes(), NewNode::Regular, 0o644, Cred::default()).map_err(refused)
}

fn append(file: &VnodeRef, length: usize) -> Result<(), Refusal> {
    static BYTES: [u8; 10 << 10] = [7; 10 << 10];
    file.append(&mut SliceSource::new(&BYTES[..length])).map_err(refused)?;
    file.fsync(0..u64::MAX, Fsync::All).map_err(refused)
}

/// The value of the middle.
pub(super) fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
