//! The pool under test: its disks, made, opened, and cut off.
use crate::plan::Plan;
use blockdev::BlockDevice;
use blockdev_sim::{DiskConfig, Image, SimDisk};
use std::sync::Arc;
use std::time::Duration;
use vfs::{MountFlags, Namespace};
use zfs::dsl::Property;
use zfs::spa::{ImportOptions, MemoryLimits, PoolName, PoolSpec, Spa, TopSpec, VdevSpec};
use zpl::{CreateOptions, MountOptions, ZplFs, create_fs, mount};

/// Name of the pool, and of its root dataset.
pub const POOL: &str = "tank";
/// Names the name cache keeps: few, so that it has to forget.
const NAMES_MAX: usize = 64;

/// An open pool with its root dataset mounted.
pub struct Open {
    /// The pool.
    pub spa: Arc<Spa>,
    /// The root dataset.
    pub fs: Arc<ZplFs>,
    /// Paths.
    pub ns: Arc<Namespace>,
}

impl Open {
    fn new(spa: Arc<Spa>, name: &str) -> Result<Self, String> {
        let fs = mount_one(&spa, name)?;
        let ns = namespace(&fs)?;
        Ok(Self { spa, fs, ns })
    }

    /// The power is gone: nothing more is written.
    pub fn abandon(self) {
        self.spa.abandon();
        // Cannot succeed any more; lets go of what waits to be written.
        if let Err(e) = self.ns.unmount_all() {
            log::trace!("unmount after a power cut: {e}");
        }
    }

    /// Everything written, nothing in use, labels say so.
    pub fn export(self) -> Result<(), String> {
        self.ns.unmount_all().map_err(|e| format!("unmount: {e}"))?;
        let Self { spa, fs, ns } = self;
        drop(ns);
        drop(fs);
        spa.export().map_err(|e| format!("export: {e}"))
    }
}

/// Mounts a dataset or snapshot.
///
/// # Errors
/// Why it cannot be.
pub fn mount_one(spa: &Arc<Spa>, name: &str) -> Result<Arc<ZplFs>, String> {
    mount(spa, name, &MountOptions::default()).map_err(|e| format!("mount {name}: {e:?}"))
}

/// The paths of a file system.
///
/// # Errors
/// Its root directory cannot be read.
pub fn namespace(fs: &Arc<ZplFs>) -> Result<Arc<Namespace>, String> {
    Namespace::new(fs.clone(), MountFlags::empty(), NAMES_MAX).map_err(|e| format!("root directory: {e}"))
}

/// The disks of a plan, empty or with content.
pub fn disks(plan: &Plan, images: Option<&[Image]>, generation: u64) -> Vec<Arc<SimDisk>> {
    let disk = |n: usize| {
        let config = DiskConfig {
            capacity: plan.disk_size,
            block_size: plan.block_size,
            write_cache: plan.write_cache,
            has_fua: plan.has_fua,
            has_discard: true,
            latency: plan.latency,
            queue_depth: 64,
            seed: plan.seed ^ (generation << 32) ^ (n as u64) << 48,
        };
        match images {
            Some(images) => SimDisk::with_image(config, images[n].clone()),
            None => SimDisk::new(config),
        }
    };
    (0..plan.layout.nr_disks() + plan.extra.nr_disks()).map(disk).collect()
}

/// Disks with content that answer at once.
pub fn instant_disks(plan: &Plan, images: &[Image]) -> Vec<Arc<SimDisk>> {
    let quick = Plan { latency: (Duration::ZERO, Duration::ZERO), ..plan.clone() };
    disks(&quick, Some(images), 0)
}

/// As the pool's functions take them.
pub fn devices(disks: &[Arc<SimDisk>]) -> Vec<Arc<dyn BlockDevice>> {
    disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect()
}

/// Makes the pool on empty disks.
pub fn create(plan: &Plan, disks: &[Arc<SimDisk>]) -> Result<Open, String> {
    let mut spec = PoolSpec { ashift: plan.ashift, memory: memory(plan), ..PoolSpec::new(POOL) };
    for (name, value) in &plan.properties {
        let property = Property::parse(name).map_err(|e| format!("property {name}: {e}"))?;
        let value = property.parse_value(value).map_err(|e| format!("property {name}={value}: {e}"))?;
        spec.root_properties.push((property, value));
    }
    let mut paths = 0..;
    let mut vdevs = devices(disks).into_iter().map(|device| {
        let path = crate::manage::path(paths.next().unwrap_or(0));
        VdevSpec { device, path, is_file: false }
    });
    let tops = plan.layout.tops.iter().map(|top| TopSpec {
        kind: top.kind,
        purpose: top.purpose,
        devices: vdevs.by_ref().take(top.nr_disks).collect(),
    });
    let spa = Spa::create(tops.collect(), &spec, &mut |tx, objset| {
        create_fs(tx, objset, &CreateOptions::default())
    });
    Open::new(spa.map_err(|e| format!("create: {e}"))?, POOL)
}

/// Opens the pool that is on the disks.
pub fn import(plan: &Plan, disks: &[Arc<SimDisk>]) -> Result<Open, String> {
    import_with(plan, disks, false)
}

/// Opens the pool that is on the disks, or what its checkpoint kept of it.
pub fn import_with(plan: &Plan, disks: &[Arc<SimDisk>], rewind_to_checkpoint: bool) -> Result<Open, String> {
    import_as(plan, disks, (POOL, rewind_to_checkpoint))
}

/// Opens the pool of that name.
pub fn import_named(plan: &Plan, disks: &[Arc<SimDisk>], name: &str) -> Result<Open, String> {
    import_as(plan, disks, (name, false))
}

fn import_as(
    plan: &Plan,
    disks: &[Arc<SimDisk>],
    (name, rewind_to_checkpoint): (&str, bool),
) -> Result<Open, String> {
    let options = ImportOptions {
        pool: PoolName::Name(name.to_owned()),
        force: true,
        rewind_to_checkpoint,
        memory: memory(plan),
        ..ImportOptions::default()
    };
    let spa = Spa::import(&devices(disks), &options).map_err(|e| format!("import: {e}"))?;
    let opened = Open::new(spa.clone(), name);
    if opened.is_err() {
        spa.abandon();
    }
    opened
}

/// Opens the pool as it was before `txg`, without writing, and walks it; not when that was not after `base`: what the
/// last groups before an import freed may be used again at once.
///
/// # Errors
/// That group is there and something of it is not.
pub fn check_older(plan: &Plan, disks: &[Arc<SimDisk>], txg: u64, base: u64) -> Result<(), String> {
    let rewind_txg = Some(txg.saturating_sub(1));
    let options = ImportOptions {
        pool: PoolName::Name(POOL.to_owned()),
        read_only: true,
        force: true,
        rewind_txg,
        memory: memory(plan),
        ..ImportOptions::default()
    };
    let spa = match Spa::import(&devices(disks), &options) {
        Ok(spa) => spa,
        Err(_) if txg <= base + 1 => return Ok(()),
        Err(zfs::Error::NoUberblock) => return Ok(()),
        Err(e) => return Err(format!("opening as of before group {txg}: {e}")),
    };
    if spa.properties().map_or(0, |p| p.txg) <= base {
        spa.abandon();
        return Ok(());
    }
    let report = spa.verify(&mut |_| ()).map_err(|e| format!("walk as of before group {txg}: {e}"))?;
    spa.abandon();
    if report.is_clean() { Ok(()) } else { Err(format!("as of before group {txg}: {:?}", report.findings)) }
}

/// The newest whole transaction group of the pool on the disks, 0 if there is none.
pub fn newest_txg(disks: &[Arc<SimDisk>]) -> u64 {
    let of = |device: &Arc<dyn BlockDevice>| {
        Spa::probe(device).ok().filter(|label| label.pool == POOL).map_or(0, |label| label.txg)
    };
    devices(disks).iter().map(of).max().unwrap_or(0)
}

fn memory(plan: &Plan) -> MemoryLimits {
    MemoryLimits { arc_bytes: plan.memory.0, dirty_bytes: plan.memory.1 }
}
