//! The root file system: a pool on the disks, or a module unpacked into memory.
use crate::reclaim;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::gpt::{self, Table};
use blockdev::{BlockDevice, Partition};
use core::fmt::Display;
use guest_config::Config;
use linux::initrd;
use vfs::io::{SliceSink, SliceSource};
use vfs::ramfs::RamFs;
use vfs::{Caller, MountFlags, Namespace, OpenFlags, WalkFrom};
use zfs::spa::{ImportOptions, MemoryLimits, Spa};
use zpl::MountOptions;

/// Names the cache of names holds at most.
const NAMES_MAX: usize = 16_384;
/// Where a module that is a bare program appears.
const MODULE_PROGRAM: &[u8] = b"/init";

/// A mounted root and what it says shall run.
pub struct Root {
    /// The name space.
    pub namespace: Arc<Namespace>,
    /// What runs; the command line is not applied yet.
    pub config: Config,
    /// The pool, if there is one.
    spa: Option<Arc<Spa>>,
}

/// Why there is no root: text for the console.
pub type Refusal = String;

fn because(what: &str) -> impl Fn(&dyn Display) -> Refusal {
    move |error| format!("{what}: {error}")
}

impl Root {
    /// Imports the pool found on the disks or their partitions and mounts its file systems.
    pub fn from_disks(disks: &[Arc<dyn BlockDevice>]) -> Result<Self, Refusal> {
        let devices = with_partitions(disks);
        let memory = memory_limits();
        let options = ImportOptions { hostname: "zeolite".into(), force: true, memory, ..Default::default() };
        let spa = Spa::import(&devices, &options).map_err(|e| because("cannot import a pool")(&e))?;
        let pool = spa.properties().map_err(|e| because("cannot read the pool's properties")(&e))?;
        let name = pool.bootfs.unwrap_or(pool.name);
        let root = zpl::mount(&spa, &name, &MountOptions::default())
            .map_err(|e| because(&format!("cannot mount {name}"))(&e))?;
        let namespace = Namespace::new(root, MountFlags::empty(), NAMES_MAX)
            .map_err(|e| because("cannot make a name space")(&e))?;
        zpl::mount_all(&spa, &namespace).map_err(|e| because("cannot mount the pool's datasets")(&e))?;
        let config = read_config(&namespace)?;
        reclaim::start(&spa, &namespace);
        Ok(Self { namespace, config, spa: Some(spa) })
    }

    /// Unpacks an archive into memory, or makes a root of a single program.
    pub fn from_module(module: &[u8]) -> Result<Self, Refusal> {
        let most = mm::frames::nr_free() as u64 * 4096 / 2;
        let namespace = Namespace::new(RamFs::new(most, 0o755), MountFlags::empty(), NAMES_MAX)
            .map_err(|e| because("cannot make a name space")(&e))?;
        if initrd::Archive::is_archive(module) {
            initrd::unpack(module, &namespace).map_err(|e| because("cannot unpack the module")(&e))?;
        } else {
            write_program(&namespace, module).map_err(|e| because("cannot place the module")(&e))?;
        }
        let mut config = read_config(&namespace)?;
        if config.program.is_empty() {
            config.program = MODULE_PROGRAM.into();
        }
        Ok(Self { namespace, config, spa: None })
    }

    /// Unmounts everything and closes the pool; true if all of it is on disk.
    pub fn close(self) -> bool {
        let unmounted = self.namespace.unmount_all();
        if let Err(e) = &unmounted {
            log::error!("cannot unmount: {e}");
        }
        drop(self.namespace);
        let exported = self.spa.as_ref().map_or(Ok(()), |spa| spa.export());
        if let Err(e) = &exported {
            log::error!("cannot export the pool: {e}");
        }
        unmounted.is_ok() && exported.is_ok()
    }
}

/// Cache a third of memory, let an eighth wait to be written: the program gets the rest.
fn memory_limits() -> MemoryLimits {
    let bytes = mm::frames::nr_free() * 4096;
    MemoryLimits { arc_bytes: (bytes / 3).max(4 << 20), dirty_bytes: (bytes / 8).max(4 << 20) }
}

/// The partitions that may hold a pool, and disks without a partition table.
fn with_partitions(disks: &[Arc<dyn BlockDevice>]) -> Vec<Arc<dyn BlockDevice>> {
    let mut devices: Vec<Arc<dyn BlockDevice>> = Vec::new();
    for disk in disks {
        let Ok(Some(table)) = Table::read(disk.as_ref()) else {
            devices.push(disk.clone());
            continue;
        };
        for entry in table.entries.iter().filter(|entry| entry.kind == gpt::TYPE_ZFS) {
            match Partition::new(disk.clone(), entry.start, entry.len) {
                Ok(partition) => devices.push(Arc::new(partition)),
                Err(e) => log::warn!("partition {:?} is not usable: {e}", entry.name),
            }
        }
    }
    devices
}

/// The image's configuration; nothing at all if the image has none.
fn read_config(namespace: &Arc<Namespace>) -> Result<Config, Refusal> {
    let root = namespace.root();
    let from = WalkFrom { caller: Caller::ROOT, root, start: root };
    let file = match namespace.open(&from, guest_config::PATH.as_bytes(), OpenFlags::READ, 0) {
        Ok(file) => file,
        Err(vfs::Error::NotFound) => return Ok(Config::default()),
        Err(e) => return Err(because("cannot open the configuration")(&e)),
    };
    let size = file.getattr().map_err(|e| because("cannot read the configuration")(&e))?.size;
    let mut text = alloc::vec![0; size.min(guest_config::SIZE_MAX as u64 + 1) as usize];
    let mut sink = SliceSink::new(&mut text);
    file.read_at(0, &mut sink).map_err(|e| because("cannot read the configuration")(&e))?;
    let filled = sink.filled();
    text.truncate(filled);
    Config::parse(&text).map_err(|e| because("the configuration is wrong")(&e))
}

fn write_program(namespace: &Arc<Namespace>, program: &[u8]) -> vfs::Result<()> {
    let root = namespace.root();
    let from = WalkFrom { caller: Caller::ROOT, root, start: root };
    let file = namespace.open(&from, MODULE_PROGRAM, OpenFlags::WRITE | OpenFlags::CREATE, 0o755)?;
    let mut source = SliceSource::new(program);
    let mut offset = 0;
    while offset < program.len() {
        offset += file.write_at(offset as u64, &mut source)?;
    }
    Ok(())
}
