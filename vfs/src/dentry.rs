//! Dentries: positive nodes of the name tree, each a vnode with the place it was found at.
//!
//! What it is not: the cache (see [`crate::dcache`]) and not the identity of a file: a file with two hard links has
//! two dentries and one vnode.
//!
//! Invariants: a *directory* has at most one live dentry per mount, because cached children are keyed by the
//! dentry's id; two of them would let a change made through one leave a stale name under the other. A dentry's
//! place changes only in a rename, under the cache's change locks of both names. Directories whose names are not cached
//! (a snapshot below `.zfs`, which nobody changes) may have several.
use crate::attr::FileType;
use crate::mount::Mount;
use crate::node::VnodeRef;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use rt::SpinLock;
use smallvec::SmallVec;

/// A shared dentry.
pub type DentryRef = Arc<Dentry>;

/// A name, without allocation for usual lengths.
pub type Name = SmallVec<[u8; 40]>;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Where a dentry hangs.
pub(crate) struct Place {
    /// `None` for the root of a file system.
    pub(crate) parent: Option<DentryRef>,
    pub(crate) name: Name,
}

/// A node of the name tree.
pub struct Dentry {
    id: u64,
    kind: FileType,
    vnode: VnodeRef,
    mount: Arc<Mount>,
    place: SpinLock<Place>,
    is_removed: AtomicBool,
    /// Whether `mounted` holds something: the walk's one load per component.
    is_mountpoint: AtomicBool,
    mounted: SpinLock<Option<DentryRef>>,
}

impl Dentry {
    pub(crate) fn new(
        vnode: VnodeRef,
        mount: Arc<Mount>,
        parent: Option<DentryRef>,
        name: &[u8],
    ) -> DentryRef {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            kind: vnode.kind(),
            vnode,
            mount,
            place: SpinLock::new(Place { parent, name: Name::from_slice(name) }),
            is_removed: AtomicBool::new(false),
            is_mountpoint: AtomicBool::new(false),
            mounted: SpinLock::new(None),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The file behind the name.
    pub fn vnode(&self) -> &VnodeRef {
        &self.vnode
    }

    /// The file's type.
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The mount it belongs to.
    pub fn mount(&self) -> &Arc<Mount> {
        &self.mount
    }

    /// Whether the name it was found by is gone.
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    pub(crate) fn set_removed(&self) {
        self.is_removed.store(true, Ordering::Release);
    }

    /// Whether a file system is mounted on it.
    pub fn is_mountpoint(&self) -> bool {
        self.is_mountpoint.load(Ordering::Acquire)
    }

    /// The directory it hangs in within its file system; `None` for the file system's root.
    pub fn parent(&self) -> Option<DentryRef> {
        self.place.lock().parent.clone()
    }

    /// Its last name (empty for a root).
    pub fn name(&self) -> Name {
        self.place.lock().name.clone()
    }

    /// Parent and name, read together.
    pub(crate) fn place(&self) -> (Option<DentryRef>, Name) {
        let place = self.place.lock();
        (place.parent.clone(), place.name.clone())
    }

    /// Moves it; the old parent is dropped outside the lock.
    pub(crate) fn set_place(&self, parent: DentryRef, name: &[u8]) {
        let new = Place { parent: Some(parent), name: Name::from_slice(name) };
        let old = core::mem::replace(&mut *self.place.lock(), new);
        drop(old);
    }

    pub(crate) fn mounted(&self) -> Option<DentryRef> {
        if !self.is_mountpoint() {
            return None;
        }
        self.mounted.lock().clone()
    }

    pub(crate) fn set_mounted(&self, root: Option<DentryRef>) {
        let is_some = root.is_some();
        let old = {
            let mut mounted = self.mounted.lock();
            self.is_mountpoint.store(is_some, Ordering::Release);
            core::mem::replace(&mut *mounted, root)
        };
        drop(old);
    }
}

impl Drop for Dentry {
    /// Drops the chain of parents in a loop: a chain of removed directories, kept only by its innermost member,
    /// can be longer than the stack is deep.
    fn drop(&mut self) {
        let mut parent = self.place.lock().parent.take();
        while let Some(last) = parent.and_then(Arc::into_inner) {
            parent = last.place.lock().parent.take();
        }
    }
}

impl fmt::Debug for Dentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Dentry({}, ino {})",
            alloc::string::String::from_utf8_lossy(&self.name()),
            self.vnode.ino()
        )
    }
}
