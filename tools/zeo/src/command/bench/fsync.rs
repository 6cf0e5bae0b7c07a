//! What an fsync costs: device requests and time, on a simulated disk whose every request takes 100 us.
//!
//! Three loads: one thread appends 4 KiB and syncs; one thread makes a file, writes 10 KiB and syncs; sixteen threads
//! append and sync, each its own file. Beside the time of each stands that of the device alone: one write, of the
//! average length of the load's writes, and one flush, polled for. The two are measured in turns of a few operations, so
//! that both see the same machine. A disk that makes single writes durable (`--fua`) gets no flush, nor does the
//! yardstick.
//!
//! Sixteen threads find a commit under way and wait for it before their own: their time is that of the device and a part.
use super::median;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Context, Result, anyhow};
use blockdev::{BlockDevice, Complete, Completion, Done, Op, Request};
use blockdev_sim::{DiskConfig, SimDisk};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vfs::{Cred, FileSystem, Fsync, NewNode, SliceSource, VnodeRef};
use zfs::spa::{PoolSpec, Spa, VdevSpec};
use zfs::zil::ZilStats;
use zpl::{CreateOptions, MountOptions, ZplFs};

/// What every request of the disk takes.
const LATENCY: Duration = Duration::from_micros(100);
const CAPACITY: u64 = 2 << 30;
const WARM_UP: usize = 50;
const OPERATIONS: usize = 1000;
/// Operations of the load before it is the yardstick's turn, and operations of that.
const TURN: usize = 25;
const THREADS: usize = 16;

/// One load's figures.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) writes_per_fsync: f64,
    pub(super) flushes_per_fsync: f64,
    /// The median of the whole operation, change and fsync.
    pub(super) latency_us: f64,
    /// The median of one write and one flush of the device (`--fua`: of one write that is durable when answered).
    pub(super) device_latency_us: f64,
    /// The median of one write of the device that is durable when answered, where it was measured beside the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device_fua_latency_us: Option<f64>,
    /// Instructions of a whole operation, those of waiting for the device left out, where they can be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) guest_instructions: Option<f64>,
}

/// All loads' figures.
#[derive(Debug, Serialize)]
pub(super) struct All {
    pub(super) append_4k: Figures,
    pub(super) create_10k: Figures,
    pub(super) threads_16: Figures,
}

/// A pool on a disk that counts.
struct Bench {
    has_fua: bool,
    disk: Arc<SimDisk>,
    spa: Arc<Spa>,
    fs: Arc<ZplFs>,
    root: VnodeRef,
}

/// Measures.
///
/// # Errors
/// When the pool fails.
pub fn run(has_fua: bool, mode: Mode) -> Result<()> {
    let bench = Bench::new(has_fua)?;
    let all = All { append_4k: bench.append()?, create_10k: bench.create()?, threads_16: bench.threads()? };
    bench.spa.abandon();
    all.print(mode)
}

impl All {
    /// As JSON or a table.
    pub(super) fn print(&self, mode: Mode) -> Result<()> {
        if mode == Mode::Json {
            return print_json(self);
        }
        say!(
            "{:12} {:>13} {:>14} {:>11} {:>11} {:>9} {:>11} {:>12}",
            "",
            "writes/fsync",
            "flushes/fsync",
            "us",
            "device us",
            "over",
            "fua us",
            "instructions"
        );
        for (name, f) in
            [("append 4K", self.append_4k), ("create 10K", self.create_10k), ("16 threads", self.threads_16)]
        {
            let over = (f.latency_us / f.device_latency_us - 1.0) * 100.0;
            let or_dash =
                |figure: Option<f64>| figure.map_or_else(|| String::from("-"), |n| format!("{n:.0}"));
            say!(
                "{name:12} {:13.2} {:14.2} {:11.1} {:11.1} {over:7.0} % {:>11} {:>12}",
                f.writes_per_fsync,
                f.flushes_per_fsync,
                f.latency_us,
                f.device_latency_us,
                or_dash(f.device_fua_latency_us),
                or_dash(f.guest_instructions)
            );
        }
        Ok(())
    }
}

fn disk(has_fua: bool) -> Arc<SimDisk> {
    SimDisk::new(DiskConfig { has_fua, ..DiskConfig::timed(CAPACITY, LATENCY, LATENCY, 1) })
}

struct Flag(AtomicU64);

impl Complete for Flag {
    fn complete(&self, _done: Done) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// The device alone: a disk of the same kind, that nobody else uses.
struct Yardstick {
    disk: Arc<SimDisk>,
    flag: Arc<Flag>,
    nr: u64,
    has_fua: bool,
    times: Vec<f64>,
}

impl Yardstick {
    fn new(has_fua: bool) -> Self {
        let flag = Arc::new(Flag(AtomicU64::new(0)));
        Self { disk: disk(has_fua), flag, nr: 0, has_fua, times: Vec::new() }
    }

    /// A turn of writes of that length, each with a flush unless it is durable at once.
    fn measure(&mut self, length: u64) -> Result<()> {
        for _ in 0..TURN {
            // Not zeroes: the simulated disk does not store those.
            let data = abd::Abd::copy_from(&vec![0xa5; length as usize]);
            let start = Instant::now();
            let offset = self.nr * length % (CAPACITY / 2);
            self.finish(Op::Write { offset, data, is_fua: self.has_fua })?;
            if !self.has_fua {
                self.finish(Op::Flush)?;
            }
            self.times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(())
    }

    /// One request, waited for by polling alone.
    fn finish(&mut self, op: Op) -> Result<()> {
        self.nr += 1;
        let request = Request { op, done: Completion::new(self.flag.clone(), 0) };
        self.disk.submit(0, request).map_err(|_| anyhow!("the disk's queue is full"))?;
        while self.flag.0.load(Ordering::Acquire) < self.nr {
            self.disk.poll(0);
            std::hint::spin_loop();
        }
        Ok(())
    }
}

impl Bench {
    fn new(has_fua: bool) -> Result<Self> {
        let disk = disk(has_fua);
        let vdev = VdevSpec { device: disk.clone(), path: "/dev/disk".into(), is_file: false };
        let spa = Spa::create(vec![vdev], &PoolSpec::new("bench"), &mut |tx, objset| {
            zpl::create_fs(tx, objset, &CreateOptions::default())
        })?;
        let fs = zpl::mount(&spa, "bench", &MountOptions::default())?;
        let root = fs.root().map_err(|e| anyhow!("{e}"))?;
        Ok(Self { has_fua, disk, spa, fs, root })
    }

    fn file(&self, name: &str) -> Result<VnodeRef> {
        let made = self.root.create(name.as_bytes(), NewNode::Regular, 0o644, Cred::default());
        made.map_err(|e| anyhow!("{name}: {e}"))
    }

    /// Runs `one` often, from `nr_threads` threads, and counts what the disk was asked meanwhile.
    fn measure(
        &self,
        nr_threads: usize,
        one: &(dyn Fn(usize, usize) -> Result<()> + Sync),
    ) -> Result<Figures> {
        for t in 0..nr_threads {
            (0..WARM_UP).try_for_each(|i| one(t, i))?;
        }
        // What the groups so far have to write is written before the counting begins.
        self.spa.sync()?;
        let logged = self.log_stats()?;
        (0..WARM_UP).try_for_each(|i| one(0, WARM_UP + i))?;
        let (before, log) = (self.disk.stats(), self.log_stats()?);
        let length = (log.bytes - logged.bytes) / (log.nr_blocks - logged.nr_blocks).max(1);
        let length = length.next_multiple_of(4096).max(4096);
        let mut yardstick = Yardstick::new(self.has_fua);
        let times = match nr_threads {
            1 => alternately(one, &mut yardstick, length)?,
            _ => {
                let times = together(nr_threads, one)?;
                (0..OPERATIONS / TURN).try_for_each(|_| yardstick.measure(length))?;
                times
            }
        };
        let (after, nr) = (self.disk.stats(), times.len() as f64);
        Ok(Figures {
            writes_per_fsync: (after.writes - before.writes) as f64 / nr,
            flushes_per_fsync: (after.flushes - before.flushes) as f64 / nr,
            latency_us: median(times),
            device_latency_us: median(yardstick.times),
            device_fua_latency_us: None,
            guest_instructions: None,
        })
    }

    fn log_stats(&self) -> Result<ZilStats> {
        Ok(self.fs.objset().zil().context("there is no intent log")?.stats())
    }

    fn append(&self) -> Result<Figures> {
        let file = self.file("append")?;
        self.measure(1, &|_, _| append(&file, &[7; 4096]))
    }

    fn create(&self) -> Result<Figures> {
        self.measure(1, &|_, i| append(&self.file(&format!("create-{i}"))?, &[8; 10 << 10]))
    }

    fn threads(&self) -> Result<Figures> {
        let files: Result<Vec<_>> = (0..THREADS).map(|t| self.file(&format!("thread-{t}"))).collect();
        let files = files?;
        self.measure(THREADS, &|t, _| append(&files[t], &[9; 4096]))
    }
}

/// The times of one thread's operations, and in turns those of the device.
fn alternately(
    one: &(dyn Fn(usize, usize) -> Result<()> + Sync),
    yardstick: &mut Yardstick,
    length: u64,
) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(OPERATIONS);
    for i in 0..OPERATIONS {
        if i % TURN == 0 {
            yardstick.measure(length)?;
        }
        let start = Instant::now();
        one(0, 2 * WARM_UP + i)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// The times of the operations of several threads at once.
fn together(nr_threads: usize, one: &(dyn Fn(usize, usize) -> Result<()> + Sync)) -> Result<Vec<f64>> {
    let each = OPERATIONS / nr_threads;
    let of_thread = |t: usize| {
        let mut times = Vec::with_capacity(each);
        for i in 0..each {
            let start = Instant::now();
            one(t, 2 * WARM_UP + i)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(times)
    };
    let times: Result<Vec<Vec<f64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..nr_threads).map(|t| scope.spawn(move || of_thread(t))).collect();
        threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    });
    Ok(times?.into_iter().flatten().collect())
}

fn append(file: &VnodeRef, data: &[u8]) -> Result<()> {
    file.append(&mut SliceSource::new(data)).map_err(|e| anyhow!("writing: {e}"))?;
    file.fsync(0..u64::MAX, Fsync::All).map_err(|e| anyhow!("fsync: {e}"))
}
