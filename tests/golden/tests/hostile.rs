//! Thousands of damaged pools: each gives errors or correct data, never a panic, a hang, or wrong data.
//!
//! Damage is picked by a seed (see `golden_tests::damage`). The images are tried in child processes, so that an abort, a
//! hang or boundless memory is seen from outside and blamed on its seed:
//!
//!     HOSTILE_SEEDS=4711..4712 cargo test -p golden-tests --test hostile -- --nocapture   # one seed again
//!
//! Damage that breaks checksums must leave what can be read right. Forged content verifies, so all that can be asked is
//! that it is survived.

use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use golden_tests::Pool;
use golden_tests::damage::{Damage, damage};
use golden_tests::forge::{Forger, Patch};
use golden_tests::open::Opened;
use golden_tests::snapshot::{self, Snapshot};
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{env, thread};

/// Images tried by `cargo test`.
const IMAGES: u64 = 2_000;
/// Images of one child process.
const BATCH: u64 = 250;
/// Longest time one image may take, on a machine that does other work too.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Address space of a child, in kilobytes.
const MEMORY_MAX: &str = "6000000";
/// Pools by seed.
const POOLS: [&str; 4] = ["plain", "acl", "v28", "dnode"];

#[test]
fn damaged_pools_are_survived() {
    if let Ok(seeds) = env::var("HOSTILE_SEEDS") {
        let (start, end) = seeds.split_once("..").expect("HOSTILE_SEEDS=START..END");
        return child(start.parse().expect("a number")..end.parse().expect("a number"));
    }
    let images =
        env::var("HOSTILE_IMAGES").map_or(IMAGES, |n| n.parse().expect("HOSTILE_IMAGES is a number"));
    let (sender, receiver) = mpsc::channel();
    let workers = thread::available_parallelism().map_or(2, usize::from) as u64;
    for worker in 0..workers {
        let sender = sender.clone();
        let batches = (worker..images.div_ceil(BATCH)).step_by(workers as usize);
        thread::spawn(move || {
            for batch in batches {
                let seeds = batch * BATCH..((batch + 1) * BATCH).min(images);
                let _ = sender.send(watch(seeds));
            }
        });
    }
    drop(sender);
    let failures: Vec<String> = receiver.iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{} batches failed:\n{}", failures.len(), failures.join("\n"));
}

/// Runs a child on these seeds; fails with the seed at which it ended or stood still.
fn watch(seeds: Range<u64>) -> Result<(), String> {
    let program = env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_MAX}; exec \"$0\" --nocapture --test-threads 1")])
        .arg(program)
        .env("HOSTILE_SEEDS", format!("{}..{}", seeds.start, seeds.end))
        .env("RUST_BACKTRACE", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let (lines, output) = mpsc::channel();
    let out = child.stdout.take().ok_or("no output")?;
    thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    let err = child.stderr.take().ok_or("no output")?;
    let errors = thread::spawn(move || BufReader::new(err).lines().map_while(Result::ok).collect::<Vec<_>>());
    let mut last = format!("before seed {}", seeds.start);
    let ended = loop {
        match output.recv_timeout(TIME_MAX) {
            Ok(line) if line.starts_with("seed ") => last = line,
            Ok(_) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break "failed",
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                break "did not end";
            }
        }
    };
    let status = child.wait().map_err(|e| e.to_string())?;
    let errors = errors.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let tail =
        errors.iter().filter(|l| !l.contains("/rustc/")).take(40).cloned().collect::<Vec<_>>().join("\n");
    Err(format!("{last}: {ended} ({status})\n{tail}"))
}

/// An undamaged pool in memory, with what must be read from it.
struct Subject {
    disk: Arc<MemDisk>,
    size: u64,
    forger: Forger,
    right: Snapshot,
    txg: u64,
    _pool: Pool,
}

fn subject(name: &str) -> Subject {
    let pool = Pool::unpack(name).expect("unpacks");
    let disk = Arc::new(MemDisk::from_file(&pool.images[0]).expect("loads"));
    let device: Arc<dyn BlockDevice> = disk.clone();
    let opened = Opened::devices(&[device]).expect("the undamaged pool imports");
    let txg = opened.spa.properties().expect("has properties").txg;
    let right = snapshot::take(&opened);
    let forger = Forger::open(&pool.images[0], 9).expect("indexes");
    let size = disk.geometry().capacity;
    Subject { disk, size, forger, right, txg, _pool: pool }
}

/// Tries the seeds, pool by pool.
fn child(seeds: Range<u64>) {
    for (index, name) in POOLS.iter().enumerate() {
        let mut subject = subject(name);
        for seed in seeds.clone().filter(|seed| seed / 8 % POOLS.len() as u64 == index as u64) {
            println!("seed {seed} pool {name}");
            let damage =
                damage(&mut subject.forger, subject.size, seed).expect("the undamaged pool can be read");
            attempt(&subject, damage);
        }
    }
}

fn attempt(subject: &Subject, damage: Damage) {
    match damage {
        Damage::Cut(len) => {
            let cut = blockdev::Partition::new(subject.disk.clone(), 0, len);
            if let Ok(cut) = cut {
                compare(subject, Arc::new(cut));
            }
        }
        Damage::Rotten(patches) => {
            with_patches(&subject.disk, &patches, || compare(subject, subject.disk.clone()));
        }
        Damage::Forged(patches, _) => with_patches(&subject.disk, &patches, || {
            let device: Arc<dyn BlockDevice> = subject.disk.clone();
            if let Ok(opened) = Opened::devices(&[device]) {
                let _ = snapshot::take(&opened);
                let _ = opened.spa.verify(&mut |_| {});
            }
            write_to(Arc::new(subject.disk.snapshot()));
        }),
    }
}

/// Opens the pool for writing, which loads the space maps, lets a transaction group pass, and closes it.
fn write_to(device: Arc<dyn BlockDevice>) {
    let Ok(opened) = Opened::writable(&[device]) else { return };
    let _ = opened.spa.sync();
    let _ = opened.spa.export();
}

/// What can be read must be right; unless an older uberblock had to be taken, which shows an older, also right, state.
fn compare(subject: &Subject, device: Arc<dyn BlockDevice>) {
    let Ok(opened) = Opened::devices(&[device]) else { return };
    let read = snapshot::take(&opened);
    let txg = opened.spa.properties().map_or(0, |p| p.txg);
    if txg == subject.txg {
        let wrong = snapshot::wrong(&subject.right, &read);
        assert!(wrong.is_empty(), "wrong data: {wrong:?}");
    }
}

/// Runs `body` with the patches on the disk, then puts back what was there.
fn with_patches(disk: &MemDisk, patches: &[Patch], body: impl FnOnce()) {
    let saved: Vec<Patch> = patches.iter().map(|(at, bytes)| (*at, disk.peek(*at, bytes.len()))).collect();
    for (at, bytes) in patches {
        disk.rot(*at, bytes);
    }
    body();
    for (at, bytes) in saved.iter().rev() {
        disk.rot(*at, bytes);
    }
}

/// The test's own tools are sound: every pool can be indexed, and damage is what its seed says.
#[test]
fn damage_is_reproducible() {
    let pool = Pool::unpack("plain").expect("unpacks");
    let size = Path::new(&pool.images[0]).metadata().expect("exists").len();
    let mut forger = Forger::open(&pool.images[0], 9).expect("indexes");
    for seed in 0..64 {
        let patches = |damage| match damage {
            Damage::Cut(len) => vec![(len, Vec::new())],
            Damage::Rotten(patches) | Damage::Forged(patches, _) => patches,
        };
        let first = damage(&mut forger, size, seed).map(patches);
        assert_eq!(first, damage(&mut forger, size, seed).map(patches), "seed {seed}");
    }
}
