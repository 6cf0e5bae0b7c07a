//! Pages shared between mappings: shared anonymous memory and shared mappings of files.
//!
//! A shared *read* of a file maps the page of the file system's cache itself. The first shared *write* to a page
//! gives the object a frame of its own with the content, which from then on every shared mapping of that page uses;
//! the file system's cache must not change under a checksum that is being computed. Dirty frames go back through
//! [`vfs::Vnode::write_page`].
//!
//! Invariants:
//! - a page is in `pages` before any writable entry names its frame, and entries that still name the cache's page are
//!   revoked after that: otherwise two mappings of one file would show different bytes;
//! - a page is marked clean *before* its entries become read-only and its content is read *after* that: a write in
//!   between either lands in the content or faults and marks the page dirty again, so none is lost.
//!
//! Lock order: a space's lock, then `state`; never the other way round.
use super::core_space::AddressSpace;
use super::pages;
use super::vma::{Backing, FileSource, PAGE, Vma};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use hashbrown::HashMap;
use rt::{Mutex, Once};
use vfs::{MapAccess, VnodeRef};

/// What a shared mapping maps.
pub struct Object {
    file: Option<FileSource>,
    /// Tells objects apart in `/proc/self/maps` and futex keys.
    id: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pages: BTreeMap<u64, SharedPage>,
    spaces: Vec<Weak<AddressSpace>>,
}

struct SharedPage {
    frame: u64,
    is_dirty: bool,
}

type Key = (u32, u32, u64);

/// File objects by device and inode: all shared mappings of one file use one object.
static FILES: Once<Mutex<HashMap<Key, Weak<Object>>>> = Once::new();
/// Number of live file objects, so that reads and writes look for one only when there is any.
static NR_FILES: AtomicUsize = AtomicUsize::new(0);
static NEXT_ID: AtomicUsize = AtomicUsize::new(1);

fn files() -> &'static Mutex<HashMap<Key, Weak<Object>>> {
    FILES.get_or_init(|| Mutex::new(HashMap::new()))
}

fn key_of(vnode: &VnodeRef) -> Key {
    let device = vnode.fs().device_id();
    (device.major, device.minor, vnode.ino())
}

/// A page for an entry: the frame, with one reference for the entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supplied {
    pub(crate) frame: u64,
    /// The frame belongs to the object (and may be mapped writable), not to the cache.
    pub(crate) is_own: bool,
}

impl Object {
    /// Zeroes, shared by whoever maps the object.
    pub fn anonymous() -> Arc<Self> {
        Arc::new(Self { file: None, id: next_id(), state: Mutex::default() })
    }

    /// The object of a file.
    pub fn of_file(file: FileSource) -> Arc<Self> {
        let mut all = files().lock();
        let key = key_of(&file.vnode);
        if let Some(object) = all.get(&key).and_then(Weak::upgrade) {
            return object;
        }
        let object = Arc::new(Self { file: Some(file), id: next_id(), state: Mutex::default() });
        NR_FILES.fetch_add(1, Ordering::SeqCst);
        all.insert(key, Arc::downgrade(&object));
        object
    }

    /// The object of a file that is mapped shared somewhere now.
    pub fn find(vnode: &VnodeRef) -> Option<Arc<Self>> {
        if NR_FILES.load(Ordering::SeqCst) == 0 {
            return None;
        }
        files().lock().get(&key_of(vnode)).and_then(Weak::upgrade)
    }

    /// All file objects, for periodic write-back.
    pub fn all_files() -> Vec<Arc<Self>> {
        if NR_FILES.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        files().lock().values().filter_map(Weak::upgrade).collect()
    }

    /// The file, if it is one's.
    pub fn file(&self) -> Option<&FileSource> {
        self.file.as_ref()
    }

    /// Differs between live objects.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Notes that `space` maps the object.
    pub(crate) fn attach(&self, space: &Weak<AddressSpace>) {
        let mut state = self.state.lock();
        state.spaces.retain(|s| s.strong_count() > 0);
        if !state.spaces.iter().any(|s| s.ptr_eq(space)) {
            state.spaces.push(space.clone());
        }
    }

    /// A frame for reading page `index`. Called without locks.
    pub(crate) fn supply_read(&self, index: u64) -> Result<Supplied, vfs::Error> {
        if let Some(page) = self.state.lock().pages.get(&index) {
            pages::share(page.frame);
            return Ok(Supplied { frame: page.frame, is_own: true });
        }
        match &self.file {
            None => self.supply_write(index),
            Some(file) => {
                let page = file.vnode.map_page(index * PAGE, MapAccess::Read)?;
                Ok(Supplied { frame: pages::adopt(page), is_own: false })
            }
        }
    }

    /// A frame of the object's own for writing page `index`, marked dirty. Called without locks.
    pub(crate) fn supply_write(&self, index: u64) -> Result<Supplied, vfs::Error> {
        if let Some(page) = self.state.lock().pages.get_mut(&index) {
            page.is_dirty = true;
            pages::share(page.frame);
            return Ok(Supplied { frame: page.frame, is_own: true });
        }
        let frame = match &self.file {
            None => pages::alloc(true).ok_or(vfs::Error::NoMemory)?,
            Some(file) => {
                let page = file.vnode.map_page(index * PAGE, MapAccess::Write)?;
                let frame = pages::alloc(false).ok_or(vfs::Error::NoMemory)?;
                pages::fill(frame, 0, page.bytes());
                frame
            }
        };
        let mut state = self.state.lock();
        let page = state.pages.entry(index).or_insert(SharedPage { frame, is_dirty: true });
        page.is_dirty = true;
        let used = page.frame;
        pages::share(used);
        drop(state);
        if used != frame {
            pages::release(frame);
        } else if self.file.is_some() {
            self.revoke(index..index + 1, Some(used));
        }
        Ok(Supplied { frame: used, is_own: true })
    }

    /// Installs a supplied frame by `install`, unless the object has a newer one by now; false then.
    pub(crate) fn install(&self, index: u64, supplied: Supplied, install: impl FnOnce() -> bool) -> bool {
        let state = self.state.lock();
        let is_current = match state.pages.get(&index) {
            Some(page) => page.frame == supplied.frame,
            None => !supplied.is_own,
        };
        is_current && install()
    }

    /// Takes the entries for pages `range` away in every space, except those that name `keep`.
    fn revoke(&self, range: Range<u64>, keep: Option<u64>) {
        self.for_each_mapping(&range, |space, vma| space.zap(vma.start..vma.end, keep));
    }

    /// Calls `each` with every space and the clipped extent of it that maps part of pages `range`.
    fn for_each_mapping(&self, range: &Range<u64>, mut each: impl FnMut(&AddressSpace, &Vma)) {
        let spaces: Vec<_> = self.state.lock().spaces.iter().filter_map(Weak::upgrade).collect();
        for space in spaces {
            let tree = space.tree.read();
            for vma in tree.iter() {
                let Backing::Shared { object, offset, .. } = &vma.backing else { continue };
                if !core::ptr::eq(Arc::as_ptr(object), self) {
                    continue;
                }
                let first = (range.start * PAGE).max(*offset);
                let last = range.end.saturating_mul(PAGE).min(offset + vma.len());
                if first < last {
                    let clip = vma.start + (first - offset)..vma.start + (last - offset);
                    if let Some(part) = vma.clip(&clip) {
                        each(&space, &part);
                    }
                }
            }
        }
    }

    /// Writes the dirty pages that overlap bytes `range` back to the file. Called without locks.
    ///
    /// # Errors
    /// The first error of the file system; the page stays dirty.
    pub fn write_back(&self, range: Range<u64>) -> Result<(), vfs::Error> {
        let Some(file) = &self.file else { return Ok(()) };
        let indexes = range.start / PAGE..range.end.div_ceil(PAGE);
        if indexes.is_empty() {
            return Ok(());
        }
        let mut dirty = Vec::new();
        for (index, page) in self.state.lock().pages.range_mut(indexes) {
            if page.is_dirty {
                page.is_dirty = false;
                pages::share(page.frame);
                dirty.push((*index, page.frame));
            }
        }
        let (Some(first), Some(last)) = (dirty.first(), dirty.last()) else { return Ok(()) };
        self.for_each_mapping(&(first.0..last.0 + 1), |space, vma| space.write_protect(vma.start..vma.end));
        let mut result = Ok(());
        let mut content = [0_u8; 4096];
        for (index, frame) in dirty {
            pages::snapshot(frame, &mut content);
            if let Err(e) = file.vnode.write_page(index * PAGE, &content) {
                result = result.and(Err(e));
                if let Some(page) = self.state.lock().pages.get_mut(&index) {
                    page.is_dirty = true;
                }
            }
            pages::release(frame);
        }
        result
    }

    /// Brings the object's pages up to date after bytes `range` of the file were written by other means.
    pub fn refresh(&self, range: Range<u64>) {
        let Some(file) = &self.file else { return };
        let indexes = range.start / PAGE..range.end.div_ceil(PAGE);
        let own: Vec<(u64, u64)> = {
            let state = self.state.lock();
            let own = state.pages.range(indexes.clone()).map(|(i, p)| (*i, p.frame));
            own.inspect(|(_, frame)| pages::share(*frame)).collect()
        };
        for (index, frame) in &own {
            if let Ok(page) = file.vnode.map_page(index * PAGE, MapAccess::Read) {
                let from = range.start.saturating_sub(index * PAGE).min(PAGE) as usize;
                let to = (range.end - index * PAGE).min(PAGE) as usize;
                pages::fill(*frame, from, &page.bytes()[from..to]);
            }
        }
        // Entries that name pages of the cache name the old ones.
        self.for_each_mapping(&indexes, |space, vma| space.zap_borrowed(vma.start..vma.end));
        own.into_iter().for_each(|(_, frame)| pages::release(frame));
    }

    /// Drops everything past `size` bytes after the file was cut there: touching it is a bus error from now on.
    pub fn truncate(&self, size: u64) {
        let first = size.div_ceil(PAGE);
        let gone = self.state.lock().pages.split_off(&first);
        self.revoke(first..u64::MAX / PAGE, None);
        gone.into_values().for_each(|page| pages::release(page.frame));
        if !size.is_multiple_of(PAGE)
            && let Some(page) = self.state.lock().pages.get(&(size / PAGE))
        {
            pages::fill(page.frame, (size % PAGE) as usize, &[0; 4096]);
        }
    }

    /// Bytes `range` read as zeroes again (shared anonymous memory with `MADV_REMOVE`).
    pub fn discard(&self, range: Range<u64>) {
        let indexes = range.start.div_ceil(PAGE)..range.end / PAGE;
        if indexes.is_empty() {
            return;
        }
        let gone: Vec<_> = {
            let mut state = self.state.lock();
            let keys: Vec<u64> = state.pages.range(indexes.clone()).map(|(i, _)| *i).collect();
            keys.iter().filter_map(|i| state.pages.remove(i)).collect()
        };
        self.revoke(indexes, None);
        gone.into_iter().for_each(|page| pages::release(page.frame));
    }
}

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed) as u64
}

impl core::fmt::Debug for Object {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Object({}, file: {:?})", self.id, self.file)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let mut all = files().lock();
            let key = key_of(&file.vnode);
            if all.get(&key).is_some_and(|w| w.strong_count() == 0) {
                all.remove(&key);
            }
            NR_FILES.fetch_sub(1, Ordering::SeqCst);
        }
        let pages = core::mem::take(&mut self.state.get_mut().pages);
        let mut content = [0_u8; 4096];
        for (index, page) in pages {
            if let (true, Some(file)) = (page.is_dirty, &self.file) {
                pages::snapshot(page.frame, &mut content);
                if file.vnode.write_page(index * PAGE, &content).is_err() {
                    log::error!("a page changed through a mapping could not be written back");
                }
            }
            pages::release(page.frame);
        }
    }
}
