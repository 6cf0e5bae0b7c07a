//! A pool of the matrix: its disks' images, and the lists of what must be in it.
use super::layout::Layout;
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use interop_tests::Judged;
use mkfs::tree::manifest::{self, List};
use mkfs::tree::walk::Covered;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vfs::FileSystem;
use zfs::spa::{ImportOptions, Spa, VdevInfo};
use zpl::MountOptions;

/// The datasets of each pool that are compared, as `POOL/..`.
pub const DATASETS: [&str; 3] = ["fs", "clone", "fs@before"];

/// A pool that is handed to and fro.
pub struct Subject {
    pub layout: &'static Layout,
    pub images: Vec<PathBuf>,
    /// Guids of the leaves, in the disks' order; spares have none here.
    pub guids: Vec<u64>,
    /// Number of its first disk among all disks of the guest.
    pub first: usize,
    /// Where its lists are, seen by the guest as well.
    pub lists: PathBuf,
}

impl Subject {
    /// Its disks, as the images have them.
    pub fn disks(&self) -> Vec<Arc<MemDisk>> {
        self.images.iter().map(|image| Arc::new(MemDisk::from_file(image).unwrap())).collect()
    }

    pub fn save(&self, disks: &[Arc<MemDisk>]) {
        disks.iter().zip(&self.images).for_each(|(disk, image)| disk.save(image).unwrap());
    }

    /// Where the list of a dataset is that one left for the other.
    fn list(&self, dataset: &str, kind: &str) -> PathBuf {
        self.lists.join(format!("{}.{kind}", dataset.replace('@', ".")))
    }

    /// Lists everything for the other.
    pub fn take_lists(&self, spa: &Arc<Spa>) {
        for dataset in DATASETS {
            let name = format!("{}/{dataset}", self.layout.name);
            for (kind, text) in lists_of(spa, &name) {
                std::fs::write(self.list(dataset, kind), text).unwrap();
            }
        }
        spa.sync().unwrap();
        std::fs::write(self.lists.join("figures"), self.figures(spa)).unwrap();
    }

    /// As `zfs get -Hp` prints them.
    fn figures(&self, spa: &Arc<Spa>) -> String {
        let mut text = String::new();
        for dataset in DATASETS {
            let name = format!("{}/{dataset}", self.layout.name);
            let f = spa.figures(&name).unwrap();
            let mut figures = vec![
                ("used", f.space.used),
                ("referenced", f.space.referenced),
                ("written", f.written),
                ("logicalreferenced", f.space.logical_referenced),
            ];
            if !dataset.contains('@') {
                figures.push(("usedbysnapshots", f.space.used_by_snapshots));
                figures.push(("usedbydataset", f.space.used_by_dataset));
                figures.push(("logicalused", f.space.logical_used));
            }
            figures.iter().for_each(|(what, value)| writeln!(text, "{name}\t{what}\t{value}").unwrap());
        }
        sorted(text.as_bytes())
    }

    /// What the other said of space is what is said here.
    pub fn compare_figures(&self, spa: &Arc<Spa>) {
        let want = sorted(&std::fs::read(self.lists.join("figures")).unwrap());
        let difference = golden_tests::difference(want.as_bytes(), self.figures(spa).as_bytes());
        assert_eq!(difference, None, "{} (-: OpenZFS's figures)", self.layout.name);
    }

    /// What the other listed is what is there: neither less nor more.
    pub fn compare(&self, spa: &Arc<Spa>) {
        for dataset in DATASETS {
            let name = format!("{}/{dataset}", self.layout.name);
            self.compare_dataset(spa, &name, dataset);
        }
    }

    /// The list of `listed` holds for the dataset `name`.
    pub fn compare_dataset(&self, spa: &Arc<Spa>, name: &str, listed: &str) {
        for (kind, have) in lists_of(spa, name) {
            let want = sorted(&std::fs::read(self.list(listed, kind)).unwrap());
            let difference = golden_tests::difference(want.as_bytes(), have.as_bytes());
            assert_eq!(difference, None, "{name} {kind} (-: listed by OpenZFS)");
        }
    }

    /// zdb on the images, copied.
    pub fn judged(&self, absent: &[usize]) -> Judged {
        let there = self.layout.without(absent);
        let images: Vec<&Path> = there.iter().map(|nr| self.images[*nr].as_path()).collect();
        Judged::copy(&images, self.layout.name)
    }
}

/// Opens the pool on those of its disks that are not `absent`.
pub fn import(disks: &[Arc<MemDisk>], absent: &[usize], read_only: bool) -> Arc<Spa> {
    let there = disks.iter().enumerate().filter(|(nr, _)| !absent.contains(nr));
    let devices: Vec<_> = there.map(|(_, disk)| disk.clone() as Arc<dyn BlockDevice>).collect();
    let spa = Spa::import(&devices, &ImportOptions { force: true, read_only, ..ImportOptions::default() });
    let spa = spa.unwrap_or_else(|e| panic!("without {absent:?}: {e}"));
    let reason = spa.properties().unwrap().read_only_reason;
    assert!(read_only || reason.is_none(), "{reason:?}");
    spa
}

/// Waits for what began by itself when a group was written, and for a second one of those.
pub fn resilver(spa: &Arc<Spa>) {
    for _ in 0..2 {
        spa.log_history("one more group").unwrap();
        spa.scan_wait(Duration::from_millis(20), &mut |_| {});
    }
    assert_eq!(spa.storage().resilver_range(), None);
}

/// Walks every block when nothing is going on.
pub fn verify(spa: &Arc<Spa>) {
    if !spa.properties().unwrap().is_read_only {
        spa.sync().unwrap();
    }
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

/// No leaf lacks anything.
pub fn assert_whole(info: &VdevInfo) {
    assert!(!info.is_stale && info.state == zfs::vdev::VdevState::Online, "{info:#?}");
    info.children.iter().for_each(assert_whole);
}

fn lists_of(spa: &Arc<Spa>, name: &str) -> [(&'static str, String); 2] {
    let fs = zpl::mount(spa, name, &MountOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let root = fs.root().unwrap();
    [("sha256", List::Sha256), ("meta", List::Meta)].map(|(kind, list)| {
        let mut text = Vec::new();
        manifest::write(&root, &Covered::new(), list, &mut text).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let text = if list == List::Meta { without_times(&text) } else { text };
        (kind, sorted(&text))
    })
}

/// Replay stamps what it touches with its own time.
fn without_times(list: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(list);
    let line = |line: &str| {
        let fields: Vec<&str> = line.splitn(8, ' ').collect();
        [&fields[..6], &fields[7..]].concat().join(" ") + "\n"
    };
    text.lines().map(line).collect::<String>().into_bytes()
}

fn sorted(list: &[u8]) -> String {
    let text = String::from_utf8_lossy(list);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.iter().map(|line| format!("{line}\n")).collect()
}
