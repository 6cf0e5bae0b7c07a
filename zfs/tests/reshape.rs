//! Power cuts while the vdevs of a pool change.
use blockdev::{BlockDevice, Error as DiskError, Op, WriteCache};
use blockdev_host::{Crash, MemDisk};
use rt_std as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zfs::spa::{Blocks, ImportOptions, PoolName, PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec};

const DISK: u64 = 64 << 20;
/// Bytes of a label, and where in it the configuration begins.
const LABEL: u64 = 256 << 10;
const CONFIG_AT: u64 = 16 << 10;

fn path(nr: usize) -> String {
    format!("/dev/disk{nr}")
}

fn device(disks: &[Arc<MemDisk>], nr: usize) -> VdevSpec {
    VdevSpec { device: disks[nr].clone(), path: path(nr), is_file: false }
}

fn top(disks: &[Arc<MemDisk>], kind: TopKind, purpose: Purpose, which: &[usize]) -> TopSpec {
    TopSpec { kind, purpose, devices: which.iter().map(|nr| device(disks, *nr)).collect() }
}

fn guid(spa: &Spa, nr: usize) -> u64 {
    spa.find_vdev(&path(nr)).unwrap()
}

/// Opens what is left of the pool on those of the disks that are not `absent`, and walks it.
fn check(disks: &[Arc<MemDisk>], absent: &[usize], what: &str) {
    let there = disks.iter().enumerate().filter(|(nr, _)| !absent.contains(nr));
    let devices: Vec<_> = there.map(|(_, disk)| Arc::new(disk.snapshot()) as Arc<dyn BlockDevice>).collect();
    let pool = PoolName::Name("tank".into());
    let options = ImportOptions { pool, read_only: true, force: true, ..ImportOptions::default() };
    let spa = Spa::import(&devices, &options).unwrap_or_else(|e| panic!("{what}, without {absent:?}: {e}"));
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{what}, without {absent:?}: {:#?}", report.findings);
    spa.abandon();
}

/// What is done to a pool, and to its disks.
type Change = dyn Fn(&Arc<Spa>, &[Arc<MemDisk>]) -> zfs::Result<()>;

/// Cuts the power at every `step`th write and flush of a change of a pool's vdevs. What is left is opened with all
/// disks, and without those that can be missed.
fn cut_everywhere(
    step: usize,
    tops: &dyn Fn(&[Arc<MemDisk>]) -> Vec<TopSpec>,
    nr_disks: usize,
    dispensable: &[usize],
    change: &Change,
) {
    let blank = || Arc::new(MemDisk::with(DISK, 512, WriteCache::Volatile));
    let disks: Vec<_> = (0..nr_disks).map(|_| blank()).collect();
    let spa = Spa::create(tops(&disks), &PoolSpec::new("tank"), &mut |_, _| Ok(())).unwrap();
    spa.export().unwrap();
    for nr in (0..).step_by(step) {
        let copies: Vec<_> = disks.iter().map(|disk| Arc::new(disk.snapshot())).collect();
        let devices: Vec<_> = copies.iter().map(|disk| disk.clone() as Arc<dyn BlockDevice>).collect();
        let spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
        let count = count_changes(&copies, nr);
        let is_done = change(&spa, &copies).is_ok() && count.load(Ordering::SeqCst) <= nr;
        let how = if nr % 2 == 0 { Crash::KeepAll } else { Crash::Random(nr) };
        let left: Vec<_> = copies.iter().map(|disk| Arc::new(disk.after_crash(how))).collect();
        let absent = if nr % 3 == 0 { &[] } else { dispensable };
        check(&left, absent, &format!("cut at {nr}, {how:?}"));
        spa.abandon();
        if is_done {
            assert!(nr > 20, "{nr}");
            return;
        }
    }
}

/// Counts the writes and flushes of the disks from now on. After so many the disks are gone.
fn count_changes(disks: &[Arc<MemDisk>], nr_max: u64) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    for disk in disks {
        let count = count.clone();
        disk.set_hook(Some(Arc::new(move |op| {
            let is_change = !matches!(op, Op::Read { .. });
            (is_change && count.fetch_add(1, Ordering::SeqCst) >= nr_max).then_some(DiskError::Gone)
        })));
    }
    count
}

fn two_mirrors(disks: &[Arc<MemDisk>]) -> Vec<TopSpec> {
    [[0, 1], [2, 3]].iter().map(|which| top(disks, TopKind::Mirror, Purpose::Data, which)).collect()
}

#[test]
fn a_power_cut_while_a_side_leaves() {
    cut_everywhere(1, &two_mirrors, 4, &[0], &|spa, _| spa.detach(guid(spa, 0)));
}

#[test]
fn a_power_cut_while_a_side_comes() {
    let tops = |disks: &[Arc<MemDisk>]| vec![top(disks, TopKind::Disk, Purpose::Data, &[0])];
    cut_everywhere(1, &tops, 2, &[], &|spa, disks| spa.attach(guid(spa, 0), &device(disks, 1), Blocks::Fit));
}

/// The sides that leave have labels of both pools for a while.
#[test]
fn a_power_cut_while_a_pool_is_split() {
    cut_everywhere(1, &two_mirrors, 4, &[1, 3], &|spa, _| spa.split("other", &[])?.export());
}

#[test]
fn a_power_cut_while_a_log_comes_and_goes() {
    let tops = |disks: &[Arc<MemDisk>]| vec![top(disks, TopKind::Disk, Purpose::Data, &[0])];
    cut_everywhere(5, &tops, 2, &[], &|spa, disks| {
        spa.add(&[top(disks, TopKind::Disk, Purpose::Log, &[1])], None)?;
        spa.remove(guid(spa, 1))
    });
}

/// A pool on a disk whose labels 1 and 3 a power cut has torn is imported, which writes labels, and the power is cut again.
/// What then is left of labels 0 and 2 is of a group without an uberblock, or nothing.
#[test]
fn a_second_power_cut_amid_the_labels() {
    for tops in [two_mirrors as fn(&[Arc<MemDisk>]) -> Vec<TopSpec>, disk_and_mirror] {
        let disks: Vec<_> =
            (0..4).map(|_| Arc::new(MemDisk::with(DISK, 512, WriteCache::Volatile))).collect();
        let spa = Spa::create(tops(&disks), &PoolSpec::new("tank"), &mut |_, _| Ok(())).unwrap();
        spa.export().unwrap();
        disks.iter().for_each(|disk| tear(disk, [1, 3]));
        for nr in 0.. {
            let copies: Vec<_> = disks.iter().map(|disk| Arc::new(disk.snapshot())).collect();
            let count = count_changes(&copies, nr);
            let devices: Vec<_> = copies.iter().map(|disk| disk.clone() as Arc<dyn BlockDevice>).collect();
            let is_done = Spa::import(&devices, &ImportOptions::default()).is_ok_and(|spa| {
                let is_done = count.load(Ordering::SeqCst) <= nr;
                spa.abandon();
                is_done
            });
            for seed in 0..3 {
                let left: Vec<_> = copies
                    .iter()
                    .map(|disk| Arc::new(disk.after_crash(Crash::Random(nr * 3 + seed))))
                    .collect();
                check(&left, &[], &format!("cut at {nr}, {seed}"));
            }
            if is_done {
                assert!(nr > 20, "{nr}");
                break;
            }
        }
    }
}

fn disk_and_mirror(disks: &[Arc<MemDisk>]) -> Vec<TopSpec> {
    let data = [0, 1].map(|nr| top(disks, TopKind::Disk, Purpose::Data, &[nr]));
    data.into_iter().chain([top(disks, TopKind::Mirror, Purpose::Special, &[2, 3])]).collect()
}

/// Damages the configurations of two of a disk's labels.
fn tear(disk: &MemDisk, labels: [u64; 2]) {
    let offsets = [0, LABEL, DISK - 2 * LABEL, DISK - LABEL];
    for label in labels {
        let at = offsets[label as usize] + CONFIG_AT + 64 * 1024;
        let mut bytes = disk.read(at, 512).unwrap().freeze().to_vec();
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        disk.write(at, abd::Abd::copy_from(&bytes)).unwrap();
    }
    disk.flush().unwrap();
}
