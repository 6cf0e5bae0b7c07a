//! Extended attributes.
//!
//! Written as a packed name-value list in a system attribute (what OpenZFS calls `xattr=sa`), in the bonus or the
//! spill block; read also from the older form, a hidden directory with a file for each attribute. The same name is
//! never in both: setting one removes the file.
use crate::attrs::Changed;
use crate::dir::object_of;
use crate::error::{IntoVfs, to_vfs};
use crate::znode::Znode;
use alloc::sync::Arc;
use alloc::vec::Vec;
use nvpair::{NvList, NvValue};
use ondisk::ObjectId;
use vfs::{Error, NAME_MAX, Result, XattrMode};
use zfs::dmu::TxSpace;
use zfs::sa::Attr;
use zfs::zap::Zap;

/// Largest value.
const VALUE_MAX: usize = 32 << 10;
/// Largest list.
const LIST_MAX: usize = (64 << 10) - 512;

impl Znode {
    fn xattr_list(&self) -> Result<NvList> {
        match self.fs.sa.get(&self.dnode, Attr::Dxattr).vfs()? {
            Some(packed) if !packed.is_empty() => NvList::decode(&packed).map_err(|_| Error::Io),
            _ => Ok(NvList::new()),
        }
    }

    fn xattr_dir(&self) -> Result<Option<Zap>> {
        let id = self.attrs.lock().xattr_dir;
        match ObjectId(id).non_zero() {
            Some(id) => Zap::hold(&self.fs.objset, id).map(Some).vfs(),
            None => Ok(None),
        }
    }

    fn xattr_file(&self, name: &[u8]) -> Result<Option<Arc<Self>>> {
        let Some(dir) = self.xattr_dir()? else { return Ok(None) };
        match dir.lookup_u64(name) {
            Ok(entry) => self.fs.hold(ObjectId(object_of(entry))).map(Some),
            Err(zfs::Error::NotFound) => Ok(None),
            Err(e) => Err(to_vfs(e)),
        }
    }

    pub(crate) fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if !self.fs.has_xattrs() {
            return Err(Error::Unsupported);
        }
        match self.xattr_list()?.get(name) {
            Some(NvValue::ByteArray(value)) => return Ok(value.clone()),
            Some(_) => return Err(Error::Io),
            None => {}
        }
        let file = self.xattr_file(name)?.ok_or(Error::NoData)?;
        let size = usize::try_from(file.size()).ok().filter(|n| *n <= 2 * VALUE_MAX).ok_or(Error::Range)?;
        file.dnode.read_vec(0, size).vfs()
    }

    pub(crate) fn xattr_names(&self) -> Result<Vec<Vec<u8>>> {
        if !self.fs.has_xattrs() {
            return Ok(Vec::new());
        }
        let mut names: Vec<Vec<u8>> =
            self.xattr_list()?.pairs().iter().map(|pair| pair.name.clone()).collect();
        if let Some(dir) = self.xattr_dir()? {
            dir.for_each(0, &mut |entry| {
                names.push(entry.name.clone());
                true
            })
            .vfs()?;
        }
        Ok(names)
    }

    pub(crate) fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        if !self.fs.has_xattrs() {
            return Err(Error::Unsupported);
        }
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Error::Range);
        }
        if value.len() > VALUE_MAX {
            return Err(Error::NoSpace);
        }
        self.fs.check_writable()?;
        self.fs.settle();
        let _names = self.names.lock();
        let mut list = self.xattr_list()?;
        let file = self.xattr_file(name)?;
        match (mode, list.contains(name) || file.is_some()) {
            (XattrMode::Create, true) => return Err(Error::Exists),
            (XattrMode::Replace, false) => return Err(Error::NoData),
            _ => {}
        }
        list.set(name, NvValue::ByteArray(value.to_vec()));
        self.store_xattrs(&list, (name, Some(value)), file)
    }

    pub(crate) fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.fs.check_writable()?;
        self.fs.settle();
        let _names = self.names.lock();
        let mut list = self.xattr_list()?;
        let file = self.xattr_file(name)?;
        if list.remove(name).is_none() && file.is_none() {
            return Err(Error::NoData);
        }
        self.store_xattrs(&list, (name, None), file)
    }

    /// Writes the list, in which one attribute was set or (`None`) removed, and removes the file of the same name, if
    /// there is one. The caller holds `names`.
    fn store_xattrs(
        &self,
        list: &NvList,
        (name, value): (&[u8], Option<&[u8]>),
        file: Option<Arc<Self>>,
    ) -> Result<()> {
        let packed = if list.is_empty() { None } else { Some(list.encode().map_err(|_| Error::NoSpace)?) };
        if packed.as_ref().is_some_and(|p| p.len() > LIST_MAX) {
            return Err(Error::NoSpace);
        }
        let has_file = file.is_some();
        let dir = if has_file { self.xattr_dir()? } else { None };
        let mut space = TxSpace::names(2, 2);
        space.write_bytes = packed.as_ref().map_or(0, |p| p.len() as u64);
        let tx = self.fs.begin(space)?;
        if let (Some(dir), Some(file)) = (dir, file) {
            dir.remove(&tx, name).vfs()?;
            file.lose_link(&tx)?;
        }
        {
            let mut attrs = self.attrs.lock();
            self.fs.sa.set(&tx, &self.dnode, &[(Attr::Dxattr, packed.as_deref())]).vfs()?;
            attrs.find_places(&self.fs.sa, &self.dnode).vfs()?;
        }
        let now = self.fs.now();
        self.change(&tx, |a| {
            a.ctime = now;
            Changed::CTIME
        })
        .vfs()?;
        // OpenZFS's replay of this record leaves the file of the older form alone.
        if has_file {
            self.log_unsaid(&tx);
        } else {
            self.log_xattr(&tx, name, value);
        }
        Ok(())
    }
}
