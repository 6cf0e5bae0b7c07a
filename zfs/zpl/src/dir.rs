//! Directory operations: looking up, making, linking and removing names.
//!
//! An entry's value has the object number in bits 0-47 and the type (as in `d_type`) in 60-63. A directory's size is
//! the number of entries plus 2, its links 2 plus the number of subdirectories.
//!
//! Locks: an operation that changes entries holds the directory's `names`, and a removed directory's too, so that
//! nothing is made in it meanwhile; several in object order. Lookups take none: the ZAP is consistent in itself, and
//! an object freed under a lookup is reported as not found.
use crate::acl;
use crate::attrs::{Attrs, Changed, flags, time_bytes};
use crate::error::IntoVfs;
use crate::fs::ZplFs;
use crate::quota::Account;
use crate::replay::Placed;
use crate::znode::{Znode, rdev_of};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::zil_record::NewObjectRecord;
use ondisk::{DmuType, ObjectId};
use rt::MutexGuard;
use smallvec::SmallVec;
use vfs::{Cred, DirEntry, Error, FileType, NAME_MAX, NewNode, Result, TimeSpec};
use zfs::dmu::{DmuTx, NewObject, TxSpace};
use zfs::sa::Attr;
use zfs::zap::{Zap, ZapOptions};

/// Bits of an entry that are the object number.
pub(crate) const OBJECT_MASK: u64 = (1 << 48) - 1;
const TYPE_SHIFT: u32 = 60;
/// Longest target of a symbolic link.
const SYMLINK_MAX: usize = 4095;
const LINKS_MAX: u64 = u32::MAX as u64;
/// Bonus of a new file before its attributes are packed.
const BONUS_START: u16 = 168;

pub(crate) fn object_of(entry: u64) -> u64 {
    entry & OBJECT_MASK
}

pub(crate) fn entry_of(znode: &Znode) -> u64 {
    znode.id() | u64::from(znode.kind.mode_bits() >> 12) << TYPE_SHIFT
}

pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX { Err(Error::NameTooLong) } else { Ok(()) }
}

/// Locks the entries of several directories in object order; each once.
pub(crate) fn lock_names<'a>(dirs: &[&'a Arc<Znode>]) -> SmallVec<[MutexGuard<'a, ()>; 4]> {
    let mut sorted: SmallVec<[&Arc<Znode>; 4]> = SmallVec::from_slice(dirs);
    sorted.sort_by_key(|d| d.id());
    sorted.dedup_by_key(|d| d.id());
    sorted.into_iter().map(|d| d.names.lock()).collect()
}

impl Znode {
    pub(crate) fn arc(&self) -> Result<Arc<Self>> {
        self.me.upgrade().ok_or(Error::Stale)
    }

    /// The entry's value.
    pub(crate) fn entry(&self, name: &[u8]) -> Result<u64> {
        self.entries()?.lookup_u64(name).vfs()
    }

    pub(crate) fn lookup_znode(&self, name: &[u8]) -> Result<Arc<Self>> {
        // longer names can only be met, not made: a pool with the feature `longname` holds them
        let entry = self.entry(name).map_err(|e| match check_name(name) {
            Err(too_long) if e == Error::NotFound => too_long,
            _ => e,
        })?;
        self.fs.hold(ObjectId(object_of(entry)))
    }

    /// Fails if the directory has been removed; its `names` are locked.
    pub(crate) fn check_in_use(&self) -> Result<()> {
        let is_gone = self.is_unlinked.load(Ordering::Acquire) || self.attrs.lock().links == 0;
        if is_gone { Err(Error::NotFound) } else { Ok(()) }
    }

    /// Content of a directory changed: entries by `entries`, subdirectories by `subdirs`.
    pub(crate) fn change_entries(&self, tx: &DmuTx, entries: i64, subdirs: i64) -> Result<()> {
        let now = self.fs.now();
        self.change(tx, |a| {
            a.size = a.size.saturating_add_signed(entries);
            a.links = a.links.saturating_add_signed(subdirs);
            (a.mtime, a.ctime) = (now, now);
            let links = if subdirs != 0 { Changed::LINKS } else { Changed::empty() };
            Changed::SIZE | Changed::MTIME | Changed::CTIME | links
        })
        .vfs()
    }

    /// Whose accounts a file made in this directory counts in.
    fn owners_below(&self, cred: Cred) -> [(Account, u64); 3] {
        let a = self.attrs.lock();
        let project = if a.flags & flags::PROJECT_INHERIT != 0 { a.project } else { 0 };
        let users = (Account::User, u64::from(cred.uid));
        [users, (Account::Group, u64::from(cred.gid)), (Account::Project, project)]
    }

    pub(crate) fn create_entry(
        &self,
        name: &[u8],
        node: NewNode<'_>,
        perm: u32,
        cred: Cred,
    ) -> Result<Arc<Self>> {
        self.create_placed(name, node, perm, cred, None)
    }

    /// As [`Self::create_entry`], of an object whose number and times are given by a log record, and perhaps more.
    pub(crate) fn create_placed(
        &self,
        name: &[u8],
        node: NewNode<'_>,
        perm: u32,
        cred: Cred,
        place: Option<&Placed<'_>>,
    ) -> Result<Arc<Self>> {
        check_name(name)?;
        if let NewNode::Symlink(target) = node
            && target.len() > SYMLINK_MAX
        {
            return Err(Error::NameTooLong);
        }
        self.fs.check_writable()?;
        self.fs.settle();
        let entries = self.entries()?;
        let names = self.names.lock();
        self.check_in_use()?;
        match entries.lookup_u64(name) {
            Err(zfs::Error::NotFound) => {}
            Ok(_) => return Err(Error::Exists),
            Err(e) => return Err(crate::error::to_vfs(e)),
        }
        self.fs.check_quota(|| self.owners_below(cred), true)?;
        let tx = self.fs.begin(TxSpace::names(2, 1))?;
        let znode = self.fs.new_znode(&tx, node, perm, cred, Some(self), place.map(|p| p.new))?;
        let filled = place.map_or(Ok(()), |place| znode.fill_placed(&tx, place));
        if let Err(e) = filled.and_then(|()| entries.insert_u64(&tx, name, entry_of(&znode)).vfs()) {
            // The object would be lost otherwise: nothing refers to it.
            self.fs.bury(&tx, &znode, false)?;
            return Err(e);
        }
        self.change_entries(&tx, 1, i64::from(znode.is_dir()))?;
        self.fs.log_create(&tx, self.id(), name, &znode, node);
        drop(tx);
        drop(names);
        Ok(znode)
    }

    /// Makes a file without a name; it stands in the unlinked set from the start.
    pub(crate) fn create_unnamed_file(&self, perm: u32, cred: Cred) -> Result<Arc<Self>> {
        self.entries()?;
        self.fs.check_writable()?;
        self.fs.settle();
        self.fs.check_quota(|| self.owners_below(cred), true)?;
        let tx = self.fs.begin(TxSpace::names(1, 1))?;
        let znode = self.fs.new_znode(&tx, NewNode::Regular, perm, cred, Some(self), None)?;
        self.fs.add_unlinked(&tx, znode.object())?;
        znode.is_unlinked.store(true, Ordering::Release);
        Ok(znode)
    }

    /// Adds a name. The target's `names` keeps its last name from going away meanwhile.
    pub(crate) fn link_entry(&self, name: &[u8], target: &Arc<Self>) -> Result<()> {
        check_name(name)?;
        self.fs.check_writable()?;
        self.fs.settle();
        if target.is_dir() {
            return Err(Error::NotPermitted);
        }
        let this = self.arc()?;
        let entries = self.entries()?;
        let _names = lock_names(&[&this, target]);
        self.check_in_use()?;
        if target.attrs.lock().links >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }
        match entries.lookup_u64(name) {
            Err(zfs::Error::NotFound) => {}
            Ok(_) => return Err(Error::Exists),
            Err(e) => return Err(crate::error::to_vfs(e)),
        }
        let tx = self.fs.begin(TxSpace::names(2, 2))?;
        entries.insert_u64(&tx, name, entry_of(target)).vfs()?;
        let was_unlinked = target.is_unlinked.swap(false, Ordering::AcqRel);
        if was_unlinked {
            self.fs.remove_unlinked(&tx, target.object())?;
        }
        let (now, parent) = (self.fs.now(), self.id());
        target
            .change(&tx, |a| {
                a.links = if was_unlinked { 1 } else { a.links.saturating_add(1) };
                (a.ctime, a.parent) = (now, parent);
                Changed::LINKS | Changed::CTIME | Changed::PARENT
            })
            .vfs()?;
        self.change_entries(&tx, 1, 0)?;
        if was_unlinked {
            // Nothing of the file has been logged so far.
            self.fs.note_unlogged(&tx);
        } else {
            self.fs.log_link(&tx, self.id(), target.id(), name);
        }
        Ok(())
    }

    pub(crate) fn unlink_entry(&self, name: &[u8]) -> Result<()> {
        check_name(name)?;
        self.fs.check_writable()?;
        self.fs.settle();
        let this = self.arc()?;
        let entries = self.entries()?;
        let mut names = self.names.lock();
        let mut victim = self.lookup_znode(name)?;
        let _links = loop {
            if let Some(links) = victim.names.try_lock() {
                break smallvec::smallvec![names, links];
            }
            // Someone changes its links: in order, so that neither waits for the other for ever.
            drop(names);
            let both = lock_names(&[&this, &victim]);
            if object_of(self.entry(name)?) == victim.id() {
                break both;
            }
            drop(both);
            names = self.names.lock();
            victim = self.lookup_znode(name)?;
        };
        if victim.is_dir() {
            return Err(Error::IsDirectory);
        }
        let tx = self.fs.begin(TxSpace::names(2, 2).net_free())?;
        entries.remove(&tx, name).vfs()?;
        self.change_entries(&tx, -1, 0)?;
        victim.lose_link(&tx)?;
        self.fs.log_remove(&tx, self.id(), name, &victim);
        Ok(())
    }

    pub(crate) fn rmdir_entry(&self, name: &[u8]) -> Result<()> {
        check_name(name)?;
        self.fs.check_writable()?;
        self.fs.settle();
        let (this, victim) = (self.arc()?, self.lookup_znode(name)?);
        if !victim.is_dir() {
            return Err(Error::NotDirectory);
        }
        let _names = lock_names(&[&this, &victim]);
        // It may have been another directory's name before the locks were there.
        if object_of(self.entry(name)?) != victim.id() {
            return Err(Error::NotFound);
        }
        if !victim.entries()?.is_empty().vfs()? {
            return Err(Error::NotEmpty);
        }
        let tx = self.fs.begin(TxSpace::names(2, 2).net_free())?;
        self.entries()?.remove(&tx, name).vfs()?;
        self.change_entries(&tx, -1, -1)?;
        victim.lose_link(&tx)?;
        self.fs.log_remove(&tx, self.id(), name, &victim);
        Ok(())
    }

    /// One name is gone; with the last (a directory's only) the object goes too. The caller holds the one reference
    /// that is not a user's.
    pub(crate) fn lose_link(self: &Arc<Self>, tx: &DmuTx) -> Result<()> {
        let (left, has_xattr_dir) = {
            let a = self.attrs.lock();
            (if self.is_dir() { 0 } else { a.links.saturating_sub(1) }, a.xattr_dir != 0)
        };
        if left == 0 {
            self.fs.bury(tx, self, has_xattr_dir)?;
            if !self.is_unlinked.load(Ordering::Acquire) {
                self.attrs.lock().links = 0;
                return Ok(());
            }
        }
        let now = self.fs.now();
        self.change(tx, |a| {
            (a.links, a.ctime) = (left, now);
            Changed::LINKS | Changed::CTIME
        })
        .vfs()
    }

    pub(crate) fn read_entries(&self, cursor: u64, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let mut result = Ok(());
        self.entries()?
            .for_each(cursor, &mut |entry| {
                let Some(value) = entry.value.as_word() else {
                    result = Err(Error::Io);
                    return false;
                };
                let ino = object_of(value);
                let kind = match FileType::from_mode(((value >> TYPE_SHIFT) as u32) << 12) {
                    Some(kind) => kind,
                    // Old file systems do not record the type.
                    None => match self.fs.hold(ObjectId(ino)) {
                        Ok(znode) => znode.kind,
                        Err(_) => FileType::Regular,
                    },
                };
                each(DirEntry { name: &entry.name, ino, kind, next_cursor: entry.next_cursor })
            })
            .vfs()?;
        result
    }
}

impl ZplFs {
    /// Makes an object with its attributes; it has no name yet. `parent` is none for the root.
    pub(crate) fn new_znode(
        &self,
        tx: &DmuTx,
        node: NewNode<'_>,
        perm: u32,
        cred: Cred,
        parent: Option<&Znode>,
        place: Option<&NewObjectRecord>,
    ) -> Result<Arc<Znode>> {
        let slots = place.map_or_else(|| self.dnode_slots(), |place| place.slots);
        let is_dir = matches!(node, NewNode::Directory);
        let zap = if is_dir {
            let options = ZapOptions {
                bonus_kind: Some(DmuType::SA),
                bonus_len: BONUS_START,
                dnode_slots: slots,
                ..ZapOptions::default()
            };
            let kind = DmuType::DIRECTORY_CONTENTS;
            Some(match place {
                Some(p) => Zap::create_at(&self.objset, tx, ObjectId(p.object), kind, options),
                None => Zap::create(&self.objset, tx, kind, options),
            })
            .transpose()
            .vfs()?
        } else {
            None
        };
        let dnode = match &zap {
            Some(zap) => zap.dnode().clone(),
            None => {
                let mut object =
                    NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512).with_bonus(DmuType::SA, BONUS_START);
                object.dnode_slots = slots;
                match place {
                    Some(p) => self.objset.claim(tx, ObjectId(p.object), &object),
                    None => self.objset.allocate(tx, &object),
                }
                .vfs()?
            }
        };
        let parent_id = parent.map_or(dnode.id().0, Znode::id);
        let project = parent.map_or((0, 0), |p| {
            let a = p.attrs.lock();
            if a.flags & flags::PROJECT_INHERIT != 0 { (a.project, flags::PROJECT_INHERIT) } else { (0, 0) }
        });
        let mut attrs = self.first_attrs(tx, node, perm, cred, parent_id);
        if let Some(place) = place {
            let nanos = u32::try_from(place.crtime[1]).unwrap_or(0);
            attrs.generation = place.generation;
            attrs.crtime = TimeSpec { secs: place.crtime[0].cast_signed(), nanos };
            attrs.rdev = place.rdev;
        }
        attrs.project = project.0;
        if is_dir {
            attrs.flags |= project.1;
        }
        self.write_first(tx, &dnode, &mut attrs, node)?;
        let this = self.this()?;
        let znode = Znode::new(&this, dnode, attrs, tx.txg().0).vfs()?;
        if let Some(zap) = zap {
            znode.set_entries(zap);
        }
        match self.table.add(znode) {
            crate::table::Found::Live(znode) => Ok(znode),
            _ => Err(Error::Io),
        }
    }

    fn first_attrs(&self, tx: &DmuTx, node: NewNode<'_>, perm: u32, cred: Cred, parent: u64) -> Attrs {
        let kind = vfs::namespace::kind_of(node);
        let now = self.now();
        let mut file_flags = flags::ACL_TRIVIAL | flags::ARCHIVE | flags::AV_MODIFIED;
        if perm & 0o111 == 0o111 {
            file_flags |= flags::NO_EXECS_DENIED;
        }
        if self.has_projects {
            file_flags |= flags::HAS_PROJECT;
        }
        Attrs {
            mode: u64::from(kind.mode_bits() | perm & 0o7777),
            size: match node {
                NewNode::Directory => 2,
                NewNode::Symlink(target) => target.len() as u64,
                _ => 0,
            },
            uid: u64::from(cred.uid),
            gid: u64::from(cred.gid),
            parent,
            flags: file_flags,
            links: if matches!(node, NewNode::Directory) { 2 } else { 1 },
            generation: tx.txg().0,
            rdev: match node {
                NewNode::CharDevice(id) | NewNode::BlockDevice(id) => rdev_of(id),
                _ => 0,
            },
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            ..Attrs::default()
        }
    }

    /// Writes the attributes of a new object in the order OpenZFS gives them, which accounting relies on.
    fn write_first(
        &self,
        tx: &DmuTx,
        dnode: &Arc<zfs::dmu::Dnode>,
        a: &mut Attrs,
        node: NewNode<'_>,
    ) -> Result<()> {
        let word = |w: u64| SmallVec::<[u8; 16]>::from_slice(&w.to_le_bytes());
        let time = |t| SmallVec::<[u8; 16]>::from_slice(&time_bytes(t));
        let mut values: Vec<(Attr, SmallVec<[u8; 16]>)> = Vec::with_capacity(17);
        values.extend([
            (Attr::Mode, word(a.mode)),
            (Attr::Size, word(a.size)),
            (Attr::Gen, word(a.generation)),
            (Attr::Uid, word(a.uid)),
            (Attr::Gid, word(a.gid)),
            (Attr::Parent, word(a.parent)),
            (Attr::Flags, word(a.flags)),
            (Attr::Atime, time(a.atime)),
            (Attr::Mtime, time(a.mtime)),
            (Attr::Ctime, time(a.ctime)),
            (Attr::Crtime, time(a.crtime)),
            (Attr::Links, word(a.links)),
        ]);
        if self.has_projects {
            values.push((Attr::Projid, word(a.project)));
        }
        if matches!(node, NewNode::CharDevice(_) | NewNode::BlockDevice(_)) {
            values.push((Attr::Rdev, word(a.rdev)));
        }
        let (count, aces) = acl::trivial(a.mode as u32, matches!(node, NewNode::Directory));
        values.push((Attr::DaclCount, word(count)));
        values.push((Attr::DaclAces, SmallVec::from_vec(aces)));
        if let NewNode::Symlink(target) = node {
            values.push((Attr::Symlink, SmallVec::from_slice(target)));
        }
        let all: Vec<(Attr, &[u8])> = values.iter().map(|(attr, bytes)| (*attr, &bytes[..])).collect();
        self.sa.init(tx, dnode, &all).vfs()?;
        a.find_places(&self.sa, dnode).vfs()
    }
}
