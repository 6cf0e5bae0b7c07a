//! Applying intent log records to a dataset that no one uses yet: through the same operations that made them, each in the
//! one transaction that notes the record as replayed. (Of a record in two, a crash in between would keep the first
//! for good: it is not replayed again.)
//!
//! New objects get the numbers, generations and times of the record: later records, and the world outside, know the
//! objects by them.
use crate::attrs::{Changed, flags};
use crate::dir::object_of;
use crate::error::IntoVfs;
use crate::fs::ZplFs;
use crate::znode::Znode;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::ObjectId;
use ondisk::zil::RecordKind;
use ondisk::zil_record::{AclBlock, AttrBlock, NewObjectRecord, Record, RenameKind, WriteData, mask};
use vfs::{
    Cred, DeviceId, Error, FallocateMode, FileType, NewNode, RenameMode, Result, SetAttr, SetTime,
    SliceSource, TimeSpec, XattrMode,
};
use zfs::dmu::{DmuTx, TxSpace};
use zfs::sa::Attr;
use zfs::zil::LoggedBlock;

/// Optional attributes: bit in the record, bit in the file's flags.
const OPTIONAL_FLAGS: [(u64, u64); 12] = [
    (0x2, 1 << 35),
    (0x4, 1 << 34),
    (0x8, 1 << 32),
    (0x10, 1 << 33),
    (0x20, 1 << 37),
    (0x40, 1 << 36),
    (0x80, 1 << 38),
    (0x100, 1 << 39),
    (0x200, 1 << 40),
    (0x400, 1 << 41),
    (0x800, 1 << 42),
    (0x2_0000, flags::PROJECT_INHERIT),
];

/// What a record says of an object it makes.
pub(crate) struct Placed<'a> {
    pub(crate) new: &'a NewObjectRecord,
    attrs: Option<&'a AttrBlock>,
    acl: Option<&'a AclBlock<'a>>,
}

fn time(words: [u64; 2]) -> TimeSpec {
    let nanos = u32::try_from(words[1]).unwrap_or(0).min(999_999_999);
    TimeSpec { secs: words[0].cast_signed(), nanos }
}

/// Ids of other systems that are no numbers of ours belong to nobody.
fn id(word: u64) -> u32 {
    const NOBODY: u32 = 65_534;
    u32::try_from(word).unwrap_or(NOBODY)
}

impl ZplFs {
    /// Replays what the pool's import has claimed for this dataset.
    pub(crate) fn replay_log(&self) -> zfs::Result<()> {
        let Some(zil) = self.zil() else { return Ok(()) };
        if !zil.needs_replay(&self.objset) {
            return Ok(());
        }
        let report = zil.replay(&self.objset, &mut |record, block| {
            self.apply(record, block).map_err(|e| match e {
                Error::NotFound => zfs::Error::NotFound,
                Error::Exists => zfs::Error::Exists,
                Error::NoSpace => zfs::Error::NoSpace,
                Error::NotEmpty => zfs::Error::NotEmpty,
                Error::Unsupported => zfs::Error::Unsupported,
                _ => zfs::Error::Io,
            })
        })?;
        let name = self.name();
        log::info!("{name}: {} records of the intent log replayed", report.nr_applied);
        if let Some((seq, e)) = report.failed {
            log::error!("{name}: the intent log was replayed only up to record {seq}: {e}");
        }
        Ok(())
    }

    fn apply(&self, record: &Record<'_>, block: Option<&LoggedBlock>) -> Result<()> {
        match *record {
            Record::Create { kind: RecordKind::MkXattr, dir, new, .. } => self.replay_xattr_dir(dir, &new),
            Record::Create { kind, dir, new, attrs, acl, name, target } => {
                self.replay_create(kind, dir, &new, (attrs, acl), name, target)
            }
            Record::Remove { is_dir: false, dir, name } => self.of(dir)?.unlink_entry(name),
            Record::Remove { is_dir: true, dir, name } => self.of(dir)?.rmdir_entry(name),
            Record::Link { dir, object, name } => self.of(dir)?.link_entry(name, &self.of(object)?),
            Record::Rename { kind, from_dir, to_dir, from, to } => {
                self.replay_rename(kind, (from_dir, from), (to_dir, to))
            }
            Record::Write { object, offset, length, data: WriteData::Inline(data) } => {
                let data = data.get(..length as usize).ok_or(Error::Io)?;
                self.of(object)?.replay_write(offset, data, u64::MAX)
            }
            Record::Write { object, offset, length, data: WriteData::Block(_) } => {
                let (znode, block) = (self.of(object)?, block.ok_or(Error::Io)?.0.to_contiguous());
                // The block is the file's whole block, of which only a part may have been written.
                let start = offset - offset % (block.len() as u64).max(1);
                let end = offset.checked_add(length).ok_or(Error::Io)?;
                // It may also be newer than the record: what it has behind the file's end at this record would be shown
                // when the file grows, and would make the file's block larger than the next record knows it: blocks
                // cannot be cloned into a file of larger ones.
                let kept = end.max(znode.size()).saturating_sub(start).min(block.len() as u64);
                znode.replay_write(start, &block[..kept as usize], end)
            }
            Record::Write2 { object, offset, length } => {
                let znode = self.of(object)?;
                let end = offset.checked_add(length).ok_or(Error::Io)?;
                if end <= znode.size() { Ok(()) } else { znode.set_size(end) }
            }
            Record::Truncate { object, offset, length: 0 } => self.of(object)?.set_size(offset),
            Record::Truncate { object, offset, length } => {
                let end = offset.saturating_add(length);
                self.of(object)?.allocate(FallocateMode::PunchHole, offset..end)
            }
            Record::SetAttr { object, mask, mode, uid, gid, size, atime, mtime, attrs } => {
                let has = |bit| mask & bit != 0;
                let set = SetAttr {
                    perm: has(mask::MODE).then_some(mode as u32 & 0o7777),
                    uid: has(mask::UID).then(|| id(uid)),
                    gid: has(mask::GID).then(|| id(gid)),
                    size: has(mask::SIZE).then_some(size),
                    atime: has(mask::ATIME).then(|| SetTime::To(time(atime))),
                    mtime: has(mask::MTIME).then(|| SetTime::To(time(mtime))),
                    ..SetAttr::default()
                };
                self.of(object)?.set_attributes_and(&set, attrs.as_ref())
            }
            Record::Acl { object, acl } => self.of(object)?.replay_acl(&acl),
            Record::SetSaXattr { object, name, value: Some(value) } => {
                self.of(object)?.set_xattr(name, value, XattrMode::Any)
            }
            Record::SetSaXattr { object, name, value: None } => match self.of(object)?.remove_xattr(name) {
                Err(Error::NoData) => Ok(()),
                result => result,
            },
            Record::CloneRange { object, offset, length, block_size, pointers } => {
                self.of(object)?.replay_clone(offset..offset.saturating_add(length), block_size, pointers)
            }
        }
    }

    fn of(&self, object: u64) -> Result<Arc<Znode>> {
        self.hold(ObjectId(object))
    }

    fn replay_create(
        &self,
        kind: RecordKind,
        dir: u64,
        new: &NewObjectRecord,
        (attrs, acl): (Option<AttrBlock>, Option<AclBlock<'_>>),
        name: &[u8],
        target: &[u8],
    ) -> Result<()> {
        let dir = self.of(dir)?;
        match dir.entry(name) {
            // Tried before.
            Ok(entry) if object_of(entry) == new.object => return Ok(()),
            Ok(_) => return Err(Error::Exists),
            Err(Error::NotFound) => {}
            Err(e) => return Err(e),
        }
        let node = match kind {
            RecordKind::Mkdir => NewNode::Directory,
            RecordKind::Symlink => NewNode::Symlink(target),
            _ => node_of(new)?,
        };
        let cred = Cred { uid: id(new.uid), gid: id(new.gid) };
        let placed = Placed { new, attrs: attrs.as_ref(), acl: acl.as_ref() };
        dir.create_placed(name, node, new.mode as u32 & 0o7777, cred, Some(&placed)).map(drop)
    }

    /// The hidden directory of a file's extended attributes, whose entries follow as ordinary records.
    fn replay_xattr_dir(&self, owner: u64, new: &NewObjectRecord) -> Result<()> {
        let owner = self.of(owner)?;
        if owner.attrs.lock().xattr_dir == new.object {
            return Ok(());
        }
        let tx = self.begin(TxSpace::names(2, 1))?;
        let cred = Cred { uid: id(new.uid), gid: id(new.gid) };
        let perm = new.mode as u32 & 0o7777;
        let dir = self.new_znode(&tx, NewNode::Directory, perm, cred, Some(&owner), Some(new))?;
        dir.change(&tx, |a| {
            a.flags |= flags::XATTR;
            Changed::FLAGS
        })
        .vfs()?;
        {
            let mut attrs = owner.attrs.lock();
            let number = new.object.to_le_bytes();
            self.sa.set(&tx, &owner.dnode, &[(Attr::Xattr, Some(&number[..]))]).vfs()?;
            attrs.xattr_dir = new.object;
            attrs.find_places(&self.sa, &owner.dnode).vfs()?;
        }
        self.note_unlogged(&tx);
        Ok(())
    }

    fn replay_rename(
        &self,
        kind: RenameKind,
        (from_dir, from): (u64, &[u8]),
        (to_dir, to): (u64, &[u8]),
    ) -> Result<()> {
        let (from_dir, to_dir) = (self.of(from_dir)?, self.of(to_dir)?);
        match &kind {
            RenameKind::Replace => from_dir.rename_entry(from, &to_dir, to, RenameMode::Replace),
            RenameKind::Exchange => from_dir.rename_entry(from, &to_dir, to, RenameMode::Exchange),
            RenameKind::Whiteout(new) => {
                from_dir.rename_leaving(from, &to_dir, to, RenameMode::Replace, Some(new))
            }
        }
    }
}

/// The kind of file that a record without a kind of its own makes.
fn node_of(new: &NewObjectRecord) -> Result<NewNode<'static>> {
    let device = DeviceId { major: (new.rdev >> 20) as u32, minor: new.rdev as u32 & 0xf_ffff };
    Ok(match FileType::from_mode(new.mode as u32) {
        Some(FileType::Regular) => NewNode::Regular,
        Some(FileType::Fifo) => NewNode::Fifo,
        Some(FileType::Socket) => NewNode::Socket,
        Some(FileType::CharDevice) => NewNode::CharDevice(device),
        Some(FileType::BlockDevice) => NewNode::BlockDevice(device),
        _ => return Err(Error::Io),
    })
}

impl Znode {
    fn set_size(&self, size: u64) -> Result<()> {
        self.set_attributes(&SetAttr { size: Some(size), ..SetAttr::default() })
    }

    /// Writes in one transaction; the file does not grow beyond `limit`.
    pub(crate) fn replay_write(&self, offset: u64, data: &[u8], limit: u64) -> Result<()> {
        if self.kind != FileType::Regular {
            return Err(Error::Io);
        }
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64).ok_or(Error::Io)?;
        let _all = self.ranges.write(0..u64::MAX);
        let n = self.write_chunk(offset, data.len(), (end, limit), &mut SliceSource::new(data))?;
        if n == data.len() { Ok(()) } else { Err(Error::Io) }
    }

    /// Makes an object of this directory, without a name yet.
    pub(crate) fn new_placed(&self, tx: &DmuTx, new: &NewObjectRecord) -> Result<Arc<Self>> {
        let cred = Cred { uid: id(new.uid), gid: id(new.gid) };
        self.fs.new_znode(tx, node_of(new)?, new.mode as u32 & 0o7777, cred, Some(self), Some(new))
    }

    /// What a record says of its new object beyond what every object has.
    pub(crate) fn fill_placed(&self, tx: &DmuTx, placed: &Placed<'_>) -> Result<()> {
        if let Some(attrs) = placed.attrs {
            self.set_optional(tx, attrs)?;
        }
        placed.acl.map_or(Ok(()), |acl| self.set_logged_acl(tx, acl))
    }

    pub(crate) fn set_optional(&self, tx: &DmuTx, attrs: &AttrBlock) -> Result<()> {
        self.change(tx, |a| {
            let mut changed = Changed::FLAGS;
            for (bit, flag) in OPTIONAL_FLAGS {
                if u64::from(attrs.requested) & bit != 0 {
                    a.flags = if attrs.values & bit != 0 { a.flags | flag } else { a.flags & !flag };
                }
            }
            if attrs.requested & 1 != 0 {
                a.crtime = time(attrs.crtime);
                changed |= Changed::CRTIME;
            }
            changed
        })
        .vfs()
    }

    fn replay_acl(&self, acl: &AclBlock<'_>) -> Result<()> {
        let tx = self.fs.begin(TxSpace::names(1, 0))?;
        self.set_logged_acl(&tx, acl)?;
        self.log_unsaid(&tx);
        Ok(())
    }

    /// Stores an ACL in the form files have it: entries of named users are longer than those of owner, group and
    /// everyone.
    fn set_logged_acl(&self, tx: &DmuTx, acl: &AclBlock<'_>) -> Result<()> {
        const OWNER_GROUP_EVERYONE: u16 = 0x1000 | 0x2000 | 0x4000;
        let mut bytes = Vec::new();
        let mut count = 0u64;
        for ace in acl.entries.as_chunks::<12>().0.iter().take(usize::try_from(acl.count).unwrap_or(0)) {
            let (who, access, flags, kind) = (&ace[0..4], &ace[4..8], [ace[8], ace[9]], &ace[10..12]);
            bytes.extend_from_slice(kind);
            bytes.extend_from_slice(&flags);
            bytes.extend_from_slice(access);
            if u16::from_le_bytes(flags) & OWNER_GROUP_EVERYONE == 0 {
                bytes.extend_from_slice(who);
                bytes.extend_from_slice(&[0; 4]);
            }
            count += 1;
        }
        {
            let mut attrs = self.attrs.lock();
            let count = count.to_le_bytes();
            let changes = [(Attr::DaclCount, Some(&count[..])), (Attr::DaclAces, Some(&bytes[..]))];
            self.fs.sa.set(tx, &self.dnode, &changes).vfs()?;
            attrs.find_places(&self.fs.sa, &self.dnode).vfs()?;
        }
        self.change(tx, |a| {
            a.flags &= !flags::ACL_TRIVIAL;
            Changed::FLAGS
        })
        .vfs()
    }
}

#[cfg(test)]
mod tests;
