//! Datasets of a pool as file systems.
use crate::error::{Error, Result};
use crate::fs::{Backing, OpenOptions, ZplFs};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use rt::SpinLock;
use vfs::{Caller, DentryRef, FileSystem, MountFlags, Namespace, NewNode, TimeSpec, WalkFlags, WalkFrom};
use zfs::dsl::{Dataset, DatasetKind, DatasetProperties, DatasetSpace};
use zfs::spa::Spa;

/// How to mount.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// No changes, whatever the properties say.
    pub read_only: bool,
    /// The clock stands still at this time (images that are the same when they are built again).
    pub clock: Option<TimeSpec>,
}

/// A dataset, and the pool it keeps open.
struct Mounted {
    dataset: Arc<Dataset>,
    spa: Arc<Spa>,
    /// Its snapshots that are in use as file systems, by their objects: names change.
    snapshots: SpinLock<BTreeMap<u64, Weak<ZplFs>>>,
}

impl Backing for Mounted {
    fn name(&self) -> String {
        self.dataset.name()
    }

    fn space(&self) -> zfs::Result<DatasetSpace> {
        self.dataset.space()
    }

    fn properties(&self) -> zfs::Result<DatasetProperties> {
        self.dataset.properties()
    }

    fn snapshots(&self) -> zfs::Result<Vec<(u64, String)>> {
        if self.dataset.is_snapshot() {
            return Ok(Vec::new());
        }
        self.spa.snapshots_of(&self.dataset.name())
    }

    fn open_snapshot(&self, name: &str) -> Result<Arc<ZplFs>> {
        if self.dataset.is_snapshot() {
            return Err(Error::Zfs(zfs::Error::NotFound));
        }
        let full = format!("{}@{name}", self.dataset.name());
        let snapshot = self.spa.open_dataset(&full)?;
        if let Some(open) = self.snapshots.lock().get(&snapshot.id()).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let id = snapshot.id();
        let fs = mount_dataset(&self.spa, snapshot, &MountOptions { read_only: true, clock: None })?;
        let mut open = self.snapshots.lock();
        open.retain(|_, fs| fs.strong_count() > 0);
        // Another thread may have been faster: one file system for each snapshot.
        if let Some(first) = open.get(&id).and_then(Weak::upgrade) {
            return Ok(first);
        }
        open.insert(id, Arc::downgrade(&fs));
        Ok(fs)
    }
}

/// Opens the file system of `pool/dataset` or, read-only, of `pool/dataset@snapshot`.
///
/// # Errors
/// Why there is none, or none for us. A dataset that can only be read opens read-only; the reason is
/// `Dataset::read_only_reason`.
pub fn mount(spa: &Arc<Spa>, name: &str, options: &MountOptions) -> Result<Arc<ZplFs>> {
    mount_dataset(spa, spa.open_dataset(name)?, options)
}

fn mount_dataset(spa: &Arc<Spa>, dataset: Arc<Dataset>, options: &MountOptions) -> Result<Arc<ZplFs>> {
    let is_read_only =
        options.read_only || dataset.properties()?.read_only || dataset.read_only_reason().is_some();
    let objset = dataset.objset();
    let open = OpenOptions { is_read_only, has_projects: has_projects(spa)?, clock: options.clock };
    ZplFs::open(
        objset,
        Arc::new(Mounted { dataset, spa: spa.clone(), snapshots: SpinLock::default() }),
        &open,
    )
}

/// Whether files of a pool have projects: what `CreateOptions::has_projects` must say.
///
/// # Errors
/// When the features cannot be read.
pub fn has_projects(spa: &Spa) -> zfs::Result<bool> {
    Ok(spa.features()?.iter().any(|f| f.guid.ends_with(":project_quota")))
}

/// What a dataset's properties forbid on its mount.
pub fn mount_flags(p: &DatasetProperties) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::READ_ONLY, p.read_only);
    flags.set(MountFlags::NO_SUID, !p.setuid);
    flags.set(MountFlags::NO_DEV, !p.devices);
    flags.set(MountFlags::NO_EXEC, !p.exec);
    flags.set(MountFlags::NO_ATIME, !p.atime);
    flags
}

/// Mounts every file system of the pool that has a mount point other than `/` and may be mounted, at that mount point;
/// missing directories are made. The one at `/` is the name space's root already. Gives the names of what was mounted.
///
/// # Errors
/// The first dataset that cannot be mounted ends it.
pub fn mount_all(spa: &Arc<Spa>, namespace: &Namespace) -> Result<Vec<String>> {
    let mut wanted = Vec::new();
    for info in spa.datasets()? {
        if info.kind != DatasetKind::Filesystem || info.is_snapshot || info.name.contains('$') {
            continue;
        }
        let p = spa.open_dataset(&info.name)?.properties()?;
        const ON: u64 = 1;
        if p.can_mount == ON && p.mountpoint.starts_with('/') && p.mountpoint != "/" {
            wanted.push((info.name, p));
        }
    }
    // Outer mount points before those inside them.
    wanted.sort_by(|(_, a), (_, b)| a.mountpoint.cmp(&b.mountpoint));
    let mut mounted = Vec::new();
    for (name, p) in wanted {
        let fs = mount(spa, &name, &MountOptions::default())?;
        let at = make_path(namespace, &p.mountpoint)?;
        namespace.mount(&at, fs as Arc<dyn FileSystem>, mount_flags(&p))?;
        mounted.push(name);
    }
    Ok(mounted)
}

fn make_path(ns: &Namespace, path: &str) -> Result<DentryRef> {
    let root = ns.root().clone();
    let mut at = root.clone();
    for part in path.split('/').filter(|p| !p.is_empty()) {
        let from = WalkFrom { caller: Caller::ROOT, root: &root, start: &at };
        let next = match ns.walk(&from, part.as_bytes(), WalkFlags::FOLLOW | WalkFlags::DIRECTORY) {
            Err(vfs::Error::NotFound) => {
                ns.create(&at, part.as_bytes(), NewNode::Directory, 0o755, &Caller::ROOT)
            }
            found => found,
        };
        at = next.map_err(Error::Vfs)?;
    }
    Ok(at)
}
