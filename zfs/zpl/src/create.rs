//! An empty file system in a new dataset.
use crate::fs::{Backing, OpenOptions, VERSION, ZplFs};
use alloc::string::String;
use alloc::sync::Arc;
use ondisk::{DmuType, ObjectId};
use vfs::{Cred, NewNode, TimeSpec};
use zfs::dmu::{DmuTx, Objset};
use zfs::dsl::{DatasetProperties, DatasetSpace};
use zfs::sa::Sa;
use zfs::zap::{Zap, ZapOptions};

/// The root directory of a new file system.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    /// Its permission bits.
    pub perm: u32,
    /// Its owner.
    pub cred: Cred,
    /// The pool has the feature `project_quota`: files have a project.
    pub has_projects: bool,
    /// Its times; `None`: now.
    pub clock: Option<TimeSpec>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { perm: 0o755, cred: Cred::default(), has_projects: true, clock: None }
    }
}

/// Writes the master node, the attribute registry, the unlinked set and the root directory into an empty object set.
///
/// # Errors
/// What writing may report.
pub fn create_fs(tx: &DmuTx, objset: &Arc<Objset>, options: &CreateOptions) -> zfs::Result<()> {
    let master = Zap::create_at(objset, tx, ObjectId::ONE, DmuType::MASTER_NODE, ZapOptions::default())?;
    for (name, value) in
        [(&b"VERSION"[..], VERSION), (b"utf8only", 0), (b"normalization", 0), (b"casesensitivity", 0)]
    {
        master.insert_u64(tx, name, value)?;
    }
    let (sa, attrs) = Sa::create(objset, tx)?;
    master.insert_u64(tx, b"SA_ATTRS", attrs.0)?;
    let unlinked = Zap::create(objset, tx, DmuType::UNLINKED_SET, ZapOptions::default())?;
    master.insert_u64(tx, b"DELETE_QUEUE", unlinked.id().0)?;
    let root = make_root(tx, objset, sa, options)?;
    master.insert_u64(tx, b"ROOT", root.0)
}

fn make_root(tx: &DmuTx, objset: &Arc<Objset>, sa: Sa, options: &CreateOptions) -> zfs::Result<ObjectId> {
    let open = OpenOptions { is_read_only: false, has_projects: options.has_projects, clock: options.clock };
    let fs = ZplFs::unborn(objset.clone(), Arc::new(Unborn), sa, &open)?;
    let root = fs.new_znode(tx, NewNode::Directory, options.perm, options.cred, None, None);
    root.map(|root| root.object()).map_err(|e| match e {
        vfs::Error::NoSpace => zfs::Error::NoSpace,
        _ => zfs::Error::Io,
    })
}

/// The dataset that is being made: it has nothing to say yet.
struct Unborn;

impl Backing for Unborn {
    fn name(&self) -> String {
        String::new()
    }

    fn space(&self) -> zfs::Result<DatasetSpace> {
        Ok(DatasetSpace::default())
    }

    fn properties(&self) -> zfs::Result<DatasetProperties> {
        Err(zfs::Error::NotFound)
    }
}
