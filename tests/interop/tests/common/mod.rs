//! What the tests of pools have in common.
use blockdev_host::MemDisk;
use interop_tests::Judged;
use ondisk::DmuType;
use rt_std as _;
use std::path::PathBuf;
use std::sync::Arc;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::spa::Spa;

/// One object in a new dataset.
pub fn fill(tx: &DmuTx, objset: &Arc<Objset>) -> zfs::Result<()> {
    let object = objset.allocate(tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096))?;
    object.write_slice(tx, 0, &[7; 4096])
}

/// Copies of the disks of an exported pool, for OpenZFS to look at.
pub fn judge(disks: &[Arc<MemDisk>], pool: &str) -> (tempfile::TempDir, Judged) {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..disks.len()).map(|n| folder.path().join(format!("d{n}.img"))).collect();
    for (disk, path) in disks.iter().zip(&paths) {
        disk.save(path).unwrap();
    }
    let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
    let judged = Judged::copy(&paths, pool);
    (folder, judged)
}

/// A reproducible stream of numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Objects made, overwritten, punched and freed in every dataset, over several transaction groups.
pub fn churn(spa: &Arc<Spa>, seed: u64) {
    let mut random = Random(seed);
    let names: Vec<_> =
        spa.datasets().unwrap().into_iter().filter(|d| !d.is_snapshot).map(|d| d.name).collect();
    for round in 0..4 {
        for name in &names {
            let objset = spa.open_dataset(name).unwrap().objset();
            let mut last = None;
            for size in [512u32, 4096, 16 << 10, 128 << 10] {
                let tx = DmuTx::begin(&objset, TxSpace::write(8 * u64::from(size))).unwrap();
                let object =
                    objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, size)).unwrap();
                for block in 0..random.next() % 8 {
                    let data: Vec<u8> =
                        (0..size).map(|i| if i % 7 == 0 { random.next() as u8 } else { 0 }).collect();
                    object.write_slice(&tx, block * u64::from(size), &data).unwrap();
                }
                if round > 1 {
                    object.free_range(&tx, u64::from(size), 2 * u64::from(size)).unwrap();
                }
                if let Some(last) = last.replace(object.id())
                    && round % 2 == 1
                {
                    objset.free(&tx, last).unwrap();
                }
            }
            drop(objset);
        }
        spa.sync().unwrap();
    }
}

/// Walks everything.
pub fn assert_verified(spa: &Arc<Spa>) {
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}
