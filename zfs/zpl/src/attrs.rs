//! The attributes of a file in memory, and how a change of them reaches the bonus.
//!
//! Reading them never touches the bonus. Changing them is written through in the caller's transaction, so size and
//! times are on disk in the group of the data they belong to. Fixed-length attributes are patched in their places,
//! which are looked up once for each file; only what changes a length takes the long way through `zfs::sa`.
use alloc::sync::Arc;
use alloc::vec::Vec;
use smallvec::SmallVec;
use vfs::TimeSpec;
use zfs::dmu::{DmuTx, Dnode};
use zfs::sa::{Attr, Sa};

/// Flags of a file.
pub mod flags {
    /// An extended attribute, or the hidden directory of them.
    pub const XATTR: u64 = 1;
    /// The ACL says what the mode says.
    pub const ACL_TRIVIAL: u64 = 4;
    /// No one is denied execution.
    pub const NO_EXECS_DENIED: u64 = 0x100;
    /// To be archived: set by every change, for backup programs.
    pub const ARCHIVE: u64 = 1 << 35;
    /// To be looked at by a virus scanner: set by every change.
    pub const AV_MODIFIED: u64 = 1 << 42;
    /// New files in a directory inherit its project.
    pub const PROJECT_INHERIT: u64 = 1 << 46;
    /// It has a project.
    pub const HAS_PROJECT: u64 = zfs::sa::HAS_PROJECT;
}

/// Attributes that are patched in place; the discriminant is the index of the place.
const PATCHED: [Attr; 11] = [
    Attr::Mode,
    Attr::Size,
    Attr::Uid,
    Attr::Gid,
    Attr::Parent,
    Attr::Flags,
    Attr::Links,
    Attr::Atime,
    Attr::Mtime,
    Attr::Ctime,
    Attr::Crtime,
];

bitflags::bitflags! {
    /// Attributes to be written; the bits stand for `PATCHED` in order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Changed: u16 {
        const MODE = 1;
        const SIZE = 1 << 1;
        const UID = 1 << 2;
        const GID = 1 << 3;
        const PARENT = 1 << 4;
        const FLAGS = 1 << 5;
        const LINKS = 1 << 6;
        const ATIME = 1 << 7;
        const MTIME = 1 << 8;
        const CTIME = 1 << 9;
        const CRTIME = 1 << 10;
    }
}

/// Attributes of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attrs {
    /// Type and permission bits.
    pub(crate) mode: u64,
    pub(crate) size: u64,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) parent: u64,
    pub(crate) flags: u64,
    pub(crate) links: u64,
    pub(crate) generation: u64,
    pub(crate) project: u64,
    pub(crate) rdev: u64,
    /// The hidden directory of extended attributes, 0 if there is none.
    pub(crate) xattr_dir: u64,
    pub(crate) atime: TimeSpec,
    pub(crate) mtime: TimeSpec,
    pub(crate) ctime: TimeSpec,
    pub(crate) crtime: TimeSpec,
    /// `atime` is newer than on disk.
    pub(crate) is_atime_stale: bool,
    /// Where the `PATCHED` attributes lie in the bonus; 0: not there.
    pub(crate) places: [u16; PATCHED.len()],
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

fn time(bytes: &[u8]) -> TimeSpec {
    let nanos = bytes.get(8..).map_or(0, word);
    TimeSpec { secs: word(bytes) as i64, nanos: u32::try_from(nanos).unwrap_or(0).min(999_999_999) }
}

/// The on-disk form of a time.
pub(crate) fn time_bytes(t: TimeSpec) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&t.secs.to_le_bytes());
    bytes[8..].copy_from_slice(&u64::from(t.nanos).to_le_bytes());
    bytes
}

impl Attrs {
    /// Reads all attributes of an object.
    pub(crate) fn load(sa: &Sa, dnode: &Arc<Dnode>) -> zfs::Result<Self> {
        let mut a = Self::default();
        sa.read_all(dnode, &mut |attr, bytes| match attr {
            Attr::Mode => a.mode = word(bytes),
            Attr::Size => a.size = word(bytes),
            Attr::Uid => a.uid = word(bytes),
            Attr::Gid => a.gid = word(bytes),
            Attr::Parent => a.parent = word(bytes),
            Attr::Flags => a.flags = word(bytes),
            Attr::Links => a.links = word(bytes),
            Attr::Gen => a.generation = word(bytes),
            Attr::Projid => a.project = word(bytes),
            Attr::Rdev => a.rdev = word(bytes),
            Attr::Xattr => a.xattr_dir = word(bytes),
            Attr::Atime => a.atime = time(bytes),
            Attr::Mtime => a.mtime = time(bytes),
            Attr::Ctime => a.ctime = time(bytes),
            Attr::Crtime => a.crtime = time(bytes),
            Attr::Pad
            | Attr::ZnodeAcl
            | Attr::DaclCount
            | Attr::Symlink
            | Attr::Scanstamp
            | Attr::DaclAces
            | Attr::Dxattr => {}
        })?;
        a.find_places(sa, dnode)?;
        Ok(a)
    }

    /// Looks the places up, after the layout may have changed.
    pub(crate) fn find_places(&mut self, sa: &Sa, dnode: &Arc<Dnode>) -> zfs::Result<()> {
        self.places = [0; PATCHED.len()];
        sa.places_in_bonus(dnode, &mut |attr, range| {
            if let Some(i) = PATCHED.iter().position(|a| *a == attr) {
                self.places[i] = u16::try_from(range.start).unwrap_or(0);
            }
        })
    }

    fn bytes_of(&self, index: usize) -> SmallVec<[u8; 16]> {
        let word = |w: u64| SmallVec::from_slice(&w.to_le_bytes());
        let time = |t: TimeSpec| SmallVec::from_slice(&time_bytes(t));
        match PATCHED[index] {
            Attr::Mode => word(self.mode),
            Attr::Size => word(self.size),
            Attr::Uid => word(self.uid),
            Attr::Gid => word(self.gid),
            Attr::Parent => word(self.parent),
            Attr::Flags => word(self.flags),
            Attr::Links => word(self.links),
            Attr::Atime => time(self.atime),
            Attr::Mtime => time(self.mtime),
            Attr::Ctime => time(self.ctime),
            _ => time(self.crtime),
        }
    }

    /// Writes the attributes named by `changed`, and an access time that is not on disk yet.
    pub(crate) fn store(
        &mut self,
        sa: &Sa,
        dnode: &Arc<Dnode>,
        tx: &DmuTx,
        changed: Changed,
    ) -> zfs::Result<()> {
        let mut changed = changed;
        if core::mem::take(&mut self.is_atime_stale) {
            changed |= Changed::ATIME;
        }
        let indices = || (0..PATCHED.len()).filter(|i| changed.bits() >> i & 1 != 0);
        if indices().any(|i| self.places[i] == 0) {
            return self.store_long(sa, dnode, tx, indices());
        }
        let this = &*self;
        dnode.set_bonus(tx, &mut |bonus| {
            for i in indices() {
                let bytes = this.bytes_of(i);
                let start = usize::from(this.places[i]);
                if let Some(place) = bonus.get_mut(start..start + bytes.len()) {
                    place.copy_from_slice(&bytes);
                }
            }
        })
    }

    #[cold]
    fn store_long(
        &mut self,
        sa: &Sa,
        dnode: &Arc<Dnode>,
        tx: &DmuTx,
        indices: impl Iterator<Item = usize>,
    ) -> zfs::Result<()> {
        let values: Vec<(Attr, SmallVec<[u8; 16]>)> =
            indices.map(|i| (PATCHED[i], self.bytes_of(i))).collect();
        let changes: Vec<(Attr, Option<&[u8]>)> = values.iter().map(|(a, b)| (*a, Some(&b[..]))).collect();
        sa.set(tx, dnode, &changes)?;
        self.find_places(sa, dnode)
    }
}
