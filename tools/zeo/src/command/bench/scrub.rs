//! `zeo bench scrub`: resilver and scrub beside reading the same devices from end to end.
use crate::place;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Context, Result};
use blockdev::BlockDevice;
use blockdev_host::FileDisk;
use mkfs::size::Size;
use ondisk::DmuType;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::spa::{ImportOptions, PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec};

const RECORD: u64 = 128 << 10;
/// Reads of the yardstick, and how many of them are under way on each device.
const CHUNK: u64 = 1 << 20;
const DEPTH: u64 = 4;

/// One layout's figures; speeds in MiB/s of all devices together.
#[derive(Debug, Serialize)]
struct Line {
    layout: &'static str,
    bytes: u64,
    device_mib_per_s: f64,
    scrub_mib_per_s: f64,
    scrub_share: f64,
    resilver_mib_per_s: Option<f64>,
}

/// Measures single devices, mirrors and raidz with `size` of data.
pub fn run(size: Size, mode: Mode) -> Result<()> {
    let layouts = [
        ("disk", TopKind::Disk, 1),
        ("mirror", TopKind::Mirror, 2),
        ("raidz1", TopKind::RaidZ { nparity: 1 }, 4),
    ];
    let mut lines = Vec::new();
    for (name, kind, width) in layouts {
        lines.push(measure(name, kind, width, size.0).with_context(|| name.to_owned())?);
    }
    if mode == Mode::Json {
        return print_json(&lines);
    }
    say!("{:<8} {:>10} {:>10} {:>7} {:>10}", "layout", "device", "scrub", "share", "resilver");
    for line in lines {
        let resilver = line.resilver_mib_per_s.map_or("-".into(), |s| format!("{s:.0} MiB/s"));
        let (device, scrub, share) = (line.device_mib_per_s, line.scrub_mib_per_s, line.scrub_share);
        say!("{:<8} {device:>4.0} MiB/s {scrub:>4.0} MiB/s {share:>6.0}% {resilver:>10}", line.layout);
    }
    Ok(())
}

fn measure(name: &'static str, kind: TopKind, width: usize, size: u64) -> Result<Line> {
    let folder = place::run_folder("bench").join("scrub");
    std::fs::create_dir_all(&folder)?;
    let files: Vec<PathBuf> = (0..width).map(|nr| folder.join(format!("{name}{nr}.img"))).collect();
    let done = measure_on(name, kind, &files, size);
    files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    done
}

fn measure_on(name: &'static str, kind: TopKind, files: &[PathBuf], size: u64) -> Result<Line> {
    let capacity = (size * 2).max(256 << 20);
    let create = |file: &PathBuf| Ok(Arc::new(FileDisk::create(file, capacity)?) as Arc<dyn BlockDevice>);
    let devices: Vec<_> = files.iter().map(create).collect::<Result<_>>()?;
    let vdev = |device: &Arc<dyn BlockDevice>| VdevSpec {
        device: device.clone(),
        path: "/dev/vda".into(),
        is_file: false,
    };
    let top = TopSpec { kind, purpose: Purpose::Data, devices: devices.iter().map(vdev).collect() };
    let spa = Spa::create(vec![top], &PoolSpec::new("bench"), &mut |_, _| Ok(()))?;
    // Written while one device is away, where the pool can do without: that is what is resilvered.
    let resilvers = files.len() > 1;
    spa.export()?;
    let spa = Spa::import(&devices[..devices.len() - usize::from(resilvers)], &ImportOptions::default())?;
    fill(&spa.open_dataset("bench")?.objset(), size)?;
    spa.export()?;
    let began = Instant::now();
    let spa = Spa::import(&devices, &ImportOptions::default())?;
    spa.scan_wait(Duration::from_millis(10), &mut |_| {});
    let resilvered = spa.scan_status().processed;
    let resilver = resilvers.then(|| rate(resilvered, began.elapsed()));
    let before: u64 = spa.storage().leaves().iter().map(|leaf| leaf.nr_requests().0).sum();
    let began = Instant::now();
    spa.scrub()?;
    spa.scan_wait(Duration::from_millis(10), &mut |_| {});
    let took = began.elapsed();
    let status = spa.scan_status();
    log::debug!("{} reads", spa.storage().leaves().iter().map(|l| l.nr_requests().0).sum::<u64>() - before);
    // A mirror's space counts once, and is read on every side.
    let bytes = if kind == TopKind::Mirror { status.examined * files.len() as u64 } else { status.examined };
    spa.export()?;
    let device = read_all(&devices, bytes / files.len() as u64)?;
    let scrub = rate(bytes, took);
    Ok(Line {
        layout: name,
        bytes,
        device_mib_per_s: device,
        scrub_mib_per_s: scrub,
        scrub_share: scrub * 100.0 / device,
        resilver_mib_per_s: resilver,
    })
}

/// Writes noise.
fn fill(objset: &Arc<Objset>, size: u64) -> Result<()> {
    let tx = DmuTx::begin(objset, TxSpace::names(1, 0))?;
    let object = objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, RECORD as u32))?;
    drop(tx);
    let mut state = 1u64;
    let mut record = vec![0u8; RECORD as usize];
    for index in 0..size / RECORD {
        for word in record.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
        }
        let tx = DmuTx::begin(objset, TxSpace::write(RECORD))?;
        object.write_slice(&tx, index * RECORD, &record)?;
    }
    Ok(())
}

/// Reads that many bytes from the start of every device, all devices side by side, several reads at a time.
fn read_all(devices: &[Arc<dyn BlockDevice>], bytes: u64) -> Result<f64> {
    let began = Instant::now();
    let readers: Vec<_> = devices
        .iter()
        .flat_map(|device| (0..DEPTH).map(move |nr| (device.clone(), nr)))
        .map(|(device, nr)| {
            std::thread::spawn(move || {
                let until = bytes.min(device.geometry().capacity) / CHUNK;
                let mut own = (nr..until).step_by(DEPTH as usize);
                own.try_for_each(|chunk| device.read(chunk * CHUNK, CHUNK as usize).map(drop))
            })
        })
        .collect();
    for reader in readers {
        reader.join().map_err(|_| anyhow::anyhow!("a reader died"))??;
    }
    Ok(rate(bytes * devices.len() as u64, began.elapsed()))
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / took.as_secs_f64().max(1e-6)
}
