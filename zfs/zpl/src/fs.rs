//! A mounted dataset.
use crate::attrs::{Attrs, Changed};
use crate::ctldir;
use crate::error::{Error, IntoVfs, Result, to_vfs};
use crate::quota::{Account, Quotas};
use crate::table::{Found, ZnodeTable};
use crate::znode::Znode;
use abd::{Abd, PAGE_SIZE, PageRef};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use ondisk::objset::ObjsetKind;
use ondisk::{ObjectId, Txg};
use rt::SpinLock;
use vfs::{DeviceId, FileSystem, StatFs, TimeSpec, VnodeRef};
use zfs::dmu::{DmuTx, Objset, TxSpace};
use zfs::dsl::{DatasetProperties, DatasetSpace};
use zfs::sa::Sa;
use zfs::zap::Zap;
use zfs::zil::SyncMode;

const ZFS_MAGIC: u32 = 0x2fc1_2fc1;
/// Access times noted in memory before they are written.
const STALE_ATIMES_MAX: usize = 4096;
/// Version of file systems with system attributes: the only one that is written.
pub(crate) const VERSION: u64 = 5;
/// Oldest version that is read.
const VERSION_MIN: u64 = 3;

/// What a file system asks of the dataset it lives in.
pub trait Backing: Send + Sync {
    /// The dataset's name.
    fn name(&self) -> String;

    /// Space figures.
    ///
    /// # Errors
    /// When they cannot be told.
    fn space(&self) -> zfs::Result<DatasetSpace>;

    /// The properties now.
    ///
    /// # Errors
    /// When they cannot be read.
    fn properties(&self) -> zfs::Result<DatasetProperties>;

    /// Its snapshots: number and name, by number. None of a snapshot.
    ///
    /// # Errors
    /// When they cannot be read.
    fn snapshots(&self) -> zfs::Result<Vec<(u64, String)>> {
        Ok(Vec::new())
    }

    /// One of its snapshots as a file system.
    ///
    /// # Errors
    /// `NotFound`; why it cannot be opened.
    fn open_snapshot(&self, _name: &str) -> Result<Arc<ZplFs>> {
        Err(Error::Zfs(zfs::Error::NotFound))
    }
}

/// How access times are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtimeMode {
    Off,
    Relative,
    On,
}

/// Properties that operations look at.
struct Settings {
    record_size: AtomicU32,
    keeps_atime: AtomicBool,
    is_atime_relative: AtomicBool,
    dnode_slots: AtomicU32,
    has_xattrs: AtomicBool,
    snap_dir: AtomicU64,
}

impl Settings {
    fn new() -> Self {
        Self {
            record_size: AtomicU32::new(128 << 10),
            keeps_atime: AtomicBool::new(false),
            is_atime_relative: AtomicBool::new(true),
            dnode_slots: AtomicU32::new(1),
            has_xattrs: AtomicBool::new(true),
            snap_dir: AtomicU64::new(ctldir::DISABLED),
        }
    }
}

/// How to open a file system.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// No changes.
    pub is_read_only: bool,
    /// New files have a project.
    pub has_projects: bool,
    /// The clock stands still at this time (images that are the same when they are built again).
    pub clock: Option<TimeSpec>,
}

/// A mounted dataset.
pub struct ZplFs {
    me: Weak<Self>,
    backing: Arc<dyn Backing>,
    pub(crate) objset: Arc<Objset>,
    pub(crate) sa: Sa,
    root: ObjectId,
    /// Files without names.
    pub(crate) unlinked: Option<Zap>,
    is_read_only: bool,
    pub(crate) has_projects: bool,
    clock: Option<TimeSpec>,
    device: DeviceId,
    settings: Settings,
    pub(crate) table: ZnodeTable,
    /// Unlinked files that no one uses any more: freed by the next operation that can.
    reclaim: SpinLock<Vec<ObjectId>>,
    nr_reclaim: AtomicUsize,
    stale_atimes: SpinLock<Vec<Arc<Znode>>>,
    nr_stale_atimes: AtomicUsize,
    /// The newest group that changed a file that is not in memory any more.
    dropped_txg: AtomicU64,
    zero_page: PageRef,
    quotas: Quotas,
}

impl ZplFs {
    /// Bytes that can still be written.
    pub(crate) fn available(&self) -> vfs::Result<u64> {
        Ok(self.backing.space().vfs()?.available)
    }

    /// Opens the file system in an object set.
    ///
    /// # Errors
    /// Why it is none for us.
    pub fn open(objset: Arc<Objset>, backing: Arc<dyn Backing>, options: &OpenOptions) -> Result<Arc<Self>> {
        if objset.kind() != ObjsetKind::Zfs {
            return Err(Error::NotFilesystem);
        }
        let master = Zap::hold(&objset, ObjectId::ONE).map_err(|e| match e {
            zfs::Error::NotFound => Error::NotFilesystem,
            e => Error::Zfs(e),
        })?;
        let number = |name: &[u8]| match master.lookup_u64(name) {
            Ok(n) => Ok(n),
            Err(zfs::Error::NotFound) => Ok(0),
            Err(e) => Err(e),
        };
        let version = number(b"VERSION")?;
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(Error::Version(version));
        }
        if number(b"casesensitivity")? != 0 {
            return Err(Error::CaseInsensitive);
        }
        if number(b"normalization")? != 0 {
            return Err(Error::Normalized);
        }
        let sa = match number(b"SA_ATTRS")? {
            0 => Sa::legacy(),
            id => Sa::open(&objset, ObjectId(id))?,
        };
        let is_read_only = options.is_read_only || version < VERSION || objset.is_read_only();
        let root = ObjectId(master.lookup_u64(b"ROOT")?);
        let unlinked = if is_read_only {
            None
        } else {
            Some(Zap::hold(&objset, ObjectId(master.lookup_u64(b"DELETE_QUEUE")?))?)
        };
        let options = OpenOptions { is_read_only, ..options.clone() };
        let this = Self::build(objset, backing, sa, (root, unlinked), &options)?;
        this.reload_properties()?;
        this.hold(root).map_err(|_| Error::Zfs(zfs::Error::Damaged))?;
        if !is_read_only {
            if let Some(zil) = this.zil() {
                let me = Arc::downgrade(&this);
                zil.set_source(me);
            }
            // First what has no names: its numbers may have been used again by files that are only in the log.
            this.drain_unlinked()?;
            this.replay_log()?;
        }
        Ok(this)
    }

    /// The file system around a root directory that is still to be made.
    pub(crate) fn unborn(
        objset: Arc<Objset>,
        backing: Arc<dyn Backing>,
        sa: Sa,
        options: &OpenOptions,
    ) -> zfs::Result<Arc<Self>> {
        Self::build(objset, backing, sa, (ObjectId(0), None), options)
    }

    fn build(
        objset: Arc<Objset>,
        backing: Arc<dyn Backing>,
        sa: Sa,
        (root, unlinked): (ObjectId, Option<Zap>),
        options: &OpenOptions,
    ) -> zfs::Result<Arc<Self>> {
        let quotas =
            if options.is_read_only || root.is_none() { Quotas::default() } else { Quotas::load(&objset)? };
        let zero_page = Abd::zeroed(PAGE_SIZE).page_at(0).ok_or(zfs::Error::Io)?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            backing,
            objset,
            sa,
            root,
            unlinked,
            is_read_only: options.is_read_only,
            has_projects: options.has_projects,
            clock: options.clock,
            device: vfs::ramfs::anonymous_device(),
            settings: Settings::new(),
            table: ZnodeTable::new(),
            reclaim: SpinLock::default(),
            nr_reclaim: AtomicUsize::new(0),
            stale_atimes: SpinLock::default(),
            nr_stale_atimes: AtomicUsize::new(0),
            dropped_txg: AtomicU64::new(0),
            zero_page,
            quotas,
        }))
    }

    /// Takes over changed properties.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn reload_properties(&self) -> zfs::Result<()> {
        let p = self.backing.properties()?;
        let s = &self.settings;
        s.record_size.store(p.record_size.clamp(512, 16 << 20), Ordering::Relaxed);
        s.keeps_atime.store(p.atime && !self.is_read_only, Ordering::Relaxed);
        s.is_atime_relative.store(p.relatime, Ordering::Relaxed);
        let slots = match p.dnode_size {
            0 => 1,
            1 => 2,
            bytes => (bytes / 512).clamp(1, 32) as u32,
        };
        s.dnode_slots.store(slots, Ordering::Relaxed);
        s.has_xattrs.store(p.xattr != 0, Ordering::Relaxed);
        if let Some(zil) = self.zil() {
            zil.set_mode(SyncMode::from_id(p.sync));
            zil.set_for_throughput(p.log_bias == 1);
        }
        // A snapshot has no snapshots.
        let snap_dir = if self.backing.name().contains('@') { ctldir::DISABLED } else { p.snap_dir };
        s.snap_dir.store(snap_dir, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn backing(&self) -> &dyn Backing {
        &*self.backing
    }

    /// 0 hidden, 1 visible, 2 disabled.
    pub(crate) fn snap_dir(&self) -> u64 {
        self.settings.snap_dir.load(Ordering::Relaxed)
    }

    /// Whether whoever writes to a file, or makes one, may: users, groups and projects have limits.
    ///
    /// # Errors
    /// `Quota`.
    #[inline]
    pub(crate) fn check_quota(
        &self,
        owners: impl FnOnce() -> [(Account, u64); 3],
        makes: bool,
    ) -> vfs::Result<()> {
        if self.quotas.is_empty() { Ok(()) } else { self.quotas.check(&self.objset, &owners(), makes) }
    }

    pub(crate) fn root_object(&self) -> ObjectId {
        self.root
    }

    /// The dataset's name.
    pub(crate) fn name(&self) -> String {
        self.backing.name()
    }

    pub(crate) fn this(&self) -> vfs::Result<Arc<Self>> {
        self.me.upgrade().ok_or(vfs::Error::Stale)
    }

    /// The object set.
    pub fn objset(&self) -> &Arc<Objset> {
        &self.objset
    }

    /// Whether changes are refused.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Largest block of a file.
    pub(crate) fn record_size(&self) -> u32 {
        self.settings.record_size.load(Ordering::Relaxed)
    }

    /// Slots of a new file's dnode.
    pub(crate) fn dnode_slots(&self) -> u8 {
        self.settings.dnode_slots.load(Ordering::Relaxed) as u8
    }

    pub(crate) fn has_xattrs(&self) -> bool {
        self.settings.has_xattrs.load(Ordering::Relaxed)
    }

    fn atime_mode(&self) -> AtimeMode {
        if !self.settings.keeps_atime.load(Ordering::Relaxed) {
            AtimeMode::Off
        } else if self.settings.is_atime_relative.load(Ordering::Relaxed) {
            AtimeMode::Relative
        } else {
            AtimeMode::On
        }
    }

    /// A file was read.
    #[inline]
    pub(crate) fn accessed(&self, znode: &Znode) {
        match self.atime_mode() {
            AtimeMode::Off => {}
            mode => znode.note_access(mode == AtimeMode::Relative),
        }
    }

    pub(crate) fn zero_page(&self) -> PageRef {
        self.zero_page.clone()
    }

    pub(crate) fn now(&self) -> TimeSpec {
        self.clock.unwrap_or_else(|| {
            let t = rt::wall_clock();
            TimeSpec { secs: t.secs, nanos: t.nanos }
        })
    }

    /// Refuses changes of a read-only file system.
    pub(crate) fn check_writable(&self) -> vfs::Result<()> {
        if self.is_read_only { Err(vfs::Error::ReadOnly) } else { Ok(()) }
    }

    /// Begins a transaction. The caller holds no transaction, and holds the locks it needs.
    pub(crate) fn begin(&self, space: TxSpace) -> vfs::Result<DmuTx> {
        DmuTx::begin(&self.objset, space).vfs()
    }

    /// The znode of an object.
    pub(crate) fn hold(&self, id: ObjectId) -> vfs::Result<Arc<Znode>> {
        match self.table.find(id.0) {
            Found::Live(znode) => Ok(znode),
            Found::Dying => Err(vfs::Error::NotFound),
            Found::Absent => self.load(id),
        }
    }

    #[cold]
    fn load(&self, id: ObjectId) -> vfs::Result<Arc<Znode>> {
        let this = self.this()?;
        // Before the object is looked at: what a znode dropped meanwhile has changed is then waited for.
        let dropped = self.dropped_txg.load(Ordering::Acquire);
        let last_txg = if Txg(dropped) > self.objset.txgs().synced_txg() { dropped } else { 0 };
        let dnode = self.objset.hold(id).vfs()?;
        let attrs = Attrs::load(&self.sa, &dnode).vfs()?;
        let znode = Znode::new(&this, dnode, attrs, last_txg).vfs()?;
        match self.table.add(znode) {
            Found::Live(znode) => Ok(znode),
            Found::Dying | Found::Absent => Err(vfs::Error::NotFound),
        }
    }

    pub(crate) fn note_stale_atime(&self, znode: Arc<Znode>) {
        self.stale_atimes.lock().push(znode);
        self.nr_stale_atimes.fetch_add(1, Ordering::Relaxed);
    }

    /// A znode leaves the memory: what it was the only one to know is kept.
    pub(crate) fn note_dropped(&self, znode: &Znode) {
        self.dropped_txg.fetch_max(znode.last_txg(), Ordering::AcqRel);
        if znode.is_unlinked.load(Ordering::Acquire) && !self.is_read_only {
            self.reclaim.lock().push(znode.object());
            self.nr_reclaim.fetch_add(1, Ordering::Release);
        }
    }

    /// Does what could not be done where it became due: znodes are dropped in places where no transaction can begin.
    /// Called at the start of changing operations, without locks or transaction.
    #[inline]
    pub(crate) fn settle(&self) {
        if self.nr_reclaim.load(Ordering::Acquire) > 0
            || self.nr_stale_atimes.load(Ordering::Relaxed) > STALE_ATIMES_MAX
        {
            self.settle_slow();
        }
    }

    #[cold]
    fn settle_slow(&self) {
        let dead = core::mem::take(&mut *self.reclaim.lock());
        self.nr_reclaim.fetch_sub(dead.len(), Ordering::AcqRel);
        for id in dead {
            // What fails stays in the unlinked set and is tried again at the next mount.
            if let Err(e) = self.free_unlinked(id) {
                log::warn!("{}: object {id} cannot be freed now: {e}", self.backing.name());
            }
        }
        if self.nr_stale_atimes.load(Ordering::Relaxed) > STALE_ATIMES_MAX {
            self.write_atimes();
        }
    }

    fn write_atimes(&self) {
        let stale = core::mem::take(&mut *self.stale_atimes.lock());
        self.nr_stale_atimes.fetch_sub(stale.len(), Ordering::Relaxed);
        for znode in stale {
            if znode.is_unlinked.load(Ordering::Acquire) || !znode.attrs.lock().is_atime_stale {
                continue;
            }
            // An access time that does not reach the disk is no loss worth an error.
            let Ok(tx) = DmuTx::begin(&self.objset, TxSpace::names(1, 0)) else { return };
            if let Err(e) = znode.change(&tx, |_| Changed::empty()) {
                log::debug!("access time of object {}: {e}", znode.id());
            }
        }
    }

    /// Makes everything durable.
    fn sync_all(&self) -> vfs::Result<()> {
        if self.is_read_only {
            return Ok(());
        }
        self.settle_slow();
        self.write_atimes();
        self.objset.txgs().sync_all().vfs()
    }
}

impl FileSystem for ZplFs {
    fn root(&self) -> vfs::Result<VnodeRef> {
        let root = self.hold(self.root)?;
        Ok(root)
    }

    fn statfs(&self) -> vfs::Result<StatFs> {
        let space = self.backing.space().vfs()?;
        let block = u64::from(self.record_size()).min(128 << 10);
        let available = space.available / block;
        let used_objects = self.objset.nr_objects();
        Ok(StatFs {
            magic: ZFS_MAGIC,
            block_size: block as u32,
            blocks: space.referenced.div_ceil(block).saturating_add(available),
            blocks_free: available,
            blocks_avail: available,
            files: used_objects.saturating_add(space.available / 512),
            files_free: space.available / 512,
            fsid: self.objset.id(),
            name_max: 255,
            is_read_only: self.is_read_only,
            source: self.backing.name(),
            fs_type: "zfs",
        })
    }

    fn sync(&self) -> vfs::Result<()> {
        self.sync_all()
    }

    fn unmount(&self) -> vfs::Result<()> {
        self.write_atimes();
        if self.table.len() > 0 {
            return Err(vfs::Error::Busy);
        }
        self.sync_all()
    }

    fn device_id(&self) -> DeviceId {
        self.device
    }
}

impl fmt::Debug for ZplFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZplFs({}, {} znodes)", self.backing.name(), self.table.len())
    }
}

/// For iterations that cannot carry an error.
pub(crate) fn log_error(what: &str, e: zfs::Error) -> vfs::Error {
    log::warn!("{what}: {e}");
    to_vfs(e)
}
