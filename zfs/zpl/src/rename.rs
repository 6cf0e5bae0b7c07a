//! Renaming: moving, replacing, exchanging names.
use crate::attrs::Changed;
use crate::dir::{check_name, entry_of, lock_names, object_of};
use crate::error::IntoVfs;
use crate::znode::Znode;
use alloc::sync::Arc;
use ondisk::ObjectId;
use ondisk::zil_record::NewObjectRecord;
use vfs::{Error, RenameMode, Result};
use zfs::dmu::{DmuTx, TxSpace};

/// Directories between a place and the root, at most: more is a loop on disk.
const DEPTH_MAX: usize = 1 << 16;

struct Rename<'a> {
    from_dir: &'a Arc<Znode>,
    from: &'a [u8],
    to_dir: &'a Arc<Znode>,
    to: &'a [u8],
    source: &'a Arc<Znode>,
    target: Option<&'a Arc<Znode>>,
    /// What takes the old name, where a log record says so.
    whiteout: Option<&'a NewObjectRecord>,
}

impl Znode {
    pub(crate) fn rename_entry(
        &self,
        from: &[u8],
        to_dir: &Arc<Self>,
        to: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        self.rename_leaving(from, to_dir, to, mode, None)
    }

    /// As [`Self::rename_entry`]; the old name becomes that of a new file, in the same transaction.
    pub(crate) fn rename_leaving(
        &self,
        from: &[u8],
        to_dir: &Arc<Self>,
        to: &[u8],
        mode: RenameMode,
        whiteout: Option<&NewObjectRecord>,
    ) -> Result<()> {
        check_name(from)?;
        check_name(to)?;
        self.fs.check_writable()?;
        self.fs.settle();
        let from_dir = self.arc()?;
        loop {
            let source = from_dir.lookup_znode(from)?;
            let target = match to_dir.lookup_znode(to) {
                Ok(target) => Some(target),
                Err(Error::NotFound) => None,
                Err(e) => return Err(e),
            };
            // A directory to be replaced must stay empty, a file's links must not change.
            let mut locked = alloc::vec![&from_dir, to_dir];
            locked.extend(&target);
            let _names = lock_names(&locked);
            let still = |dir: &Arc<Self>, name: &[u8]| match dir.entry(name) {
                Ok(entry) => Ok(Some(object_of(entry))),
                Err(Error::NotFound) => Ok(None),
                Err(e) => Err(e),
            };
            // Between the lookups and the locks the names may have come to mean something else.
            if still(&from_dir, from)? != Some(source.id())
                || still(to_dir, to)? != target.as_ref().map(|t| t.id())
            {
                continue;
            }
            let (source, target) = (&source, target.as_ref());
            let rename = Rename { from_dir: &from_dir, from, to_dir, to, source, target, whiteout };
            return rename.run(mode);
        }
    }
}

impl Rename<'_> {
    fn run(self, mode: RenameMode) -> Result<()> {
        self.to_dir.check_in_use()?;
        if let Some(target) = self.target {
            if mode == RenameMode::NoReplace {
                return Err(Error::Exists);
            }
            if target.id() == self.source.id() {
                return Ok(());
            }
        }
        if self.from_dir.id() != self.to_dir.id() {
            self.check_loop(self.source, self.to_dir)?;
            if mode == RenameMode::Exchange
                && let Some(target) = self.target
            {
                self.check_loop(target, self.from_dir)?;
            }
        }
        if mode == RenameMode::Exchange {
            return self.exchange();
        }
        if let Some(target) = self.target {
            match (self.source.is_dir(), target.is_dir()) {
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                (true, true) if !target.entries()?.is_empty().vfs()? => return Err(Error::NotEmpty),
                _ => {}
            }
        }
        self.replace()
    }

    /// A directory cannot move below itself.
    fn check_loop(&self, moved: &Arc<Znode>, into: &Arc<Znode>) -> Result<()> {
        if !moved.is_dir() {
            return Ok(());
        }
        let mut at = into.clone();
        for _ in 0..DEPTH_MAX {
            if at.id() == moved.id() {
                return Err(Error::Invalid);
            }
            let parent = at.attrs.lock().parent;
            if parent == at.id() {
                return Ok(());
            }
            at = at.fs.hold(ObjectId(parent))?;
        }
        Err(Error::Io)
    }

    fn replace(self) -> Result<()> {
        let Self { from_dir, from, to_dir, to, source, target, whiteout } = self;
        let tx = from_dir.fs.begin(TxSpace::names(5, 4))?;
        let left = whiteout.map(|new| from_dir.new_placed(&tx, new)).transpose()?;
        match target {
            Some(_) => to_dir.entries()?.update_u64(&tx, to, entry_of(source)).vfs()?,
            None => to_dir.entries()?.insert_u64(&tx, to, entry_of(source)).vfs()?,
        }
        match &left {
            Some(left) => from_dir.entries()?.update_u64(&tx, from, entry_of(left)).vfs()?,
            None => from_dir.entries()?.remove(&tx, from).vfs()?,
        }
        let nr_left = i64::from(left.is_some());
        let moved_dir = i64::from(source.is_dir());
        let (entries, subdirs) = match target {
            Some(target) => (0, moved_dir - i64::from(target.is_dir())),
            None => (1, moved_dir),
        };
        if from_dir.id() == to_dir.id() {
            from_dir.change_entries(&tx, entries + nr_left - 1, subdirs - moved_dir)?;
        } else {
            from_dir.change_entries(&tx, nr_left - 1, -moved_dir)?;
            to_dir.change_entries(&tx, entries, subdirs)?;
        }
        moved(&tx, source, to_dir)?;
        if let Some(target) = target {
            target.lose_link(&tx)?;
        }
        let mode = RenameMode::Replace;
        from_dir.fs.log_rename(&tx, (from_dir.id(), from), (to_dir.id(), to), source.id(), mode);
        if let Some(target) = target {
            from_dir.fs.forget_gone(target);
        }
        Ok(())
    }

    fn exchange(self) -> Result<()> {
        let Self { from_dir, from, to_dir, to, source, target, .. } = self;
        let target = target.ok_or(Error::NotFound)?;
        let tx = from_dir.fs.begin(TxSpace::names(4, 2))?;
        from_dir.entries()?.update_u64(&tx, from, entry_of(target)).vfs()?;
        to_dir.entries()?.update_u64(&tx, to, entry_of(source)).vfs()?;
        let gained = i64::from(source.is_dir()) - i64::from(target.is_dir());
        if from_dir.id() == to_dir.id() {
            from_dir.change_entries(&tx, 0, 0)?;
        } else {
            from_dir.change_entries(&tx, 0, -gained)?;
            to_dir.change_entries(&tx, 0, gained)?;
        }
        moved(&tx, source, to_dir)?;
        moved(&tx, target, from_dir)?;
        let mode = RenameMode::Exchange;
        from_dir.fs.log_rename(&tx, (from_dir.id(), from), (to_dir.id(), to), source.id(), mode);
        Ok(())
    }
}

/// A file hangs in another directory now.
fn moved(tx: &DmuTx, znode: &Arc<Znode>, parent: &Arc<Znode>) -> Result<()> {
    let (now, parent) = (znode.fs.now(), parent.id());
    znode
        .change(tx, |a| {
            (a.parent, a.ctime) = (parent, now);
            Changed::PARENT | Changed::CTIME
        })
        .vfs()
}
