//! Descriptors.
//!
//! One short spin lock per process: a lookup copies a counted reference out of the table and lets go. The lowest free
//! number is found through a bitmap, a word at a time, from the lowest word that had a free bit.
use super::FileRef;
use crate::errno::{Errno, SysResult};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use rt::SpinLock;

/// Most descriptors a table can hold.
pub const FDS_MAX: usize = 1 << 20;

#[derive(Clone)]
struct Slot {
    file: FileRef,
    closes_on_exec: bool,
}

#[derive(Default)]
struct Slots {
    files: Vec<Option<Slot>>,
    /// Bit n%64 of word n/64: number n is taken.
    taken: Vec<u64>,
    /// No word below has a free bit.
    first_word: usize,
}

/// The descriptors of a process, or of several (`CLONE_FILES`).
pub struct FdTable {
    slots: SpinLock<Slots>,
    /// Processes that use it: the last one to end closes everything.
    nr_users: AtomicUsize,
}

impl Default for FdTable {
    fn default() -> Self {
        Self::of(Slots::default())
    }
}

impl core::fmt::Debug for FdTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FdTable")
    }
}

impl FdTable {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    const fn of(slots: Slots) -> Self {
        Self { slots: SpinLock::new(slots), nr_users: AtomicUsize::new(1) }
    }

    /// Another process shares the table.
    pub fn add_user(&self) {
        self.nr_users.fetch_add(1, Ordering::SeqCst);
    }

    /// A process that used it ended; true if it was the last.
    pub fn remove_user(&self) -> bool {
        self.nr_users.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// The file of descriptor `fd`.
    ///
    /// # Errors
    /// [`Errno::EBADF`].
    pub fn get(&self, fd: i32) -> SysResult<FileRef> {
        let slots = self.slots.lock();
        match slots.files.get(fd as usize) {
            Some(Some(slot)) => Ok(slot.file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// Gives `file` the lowest free number that is at least `from` and below `limit`.
    ///
    /// # Errors
    /// [`Errno::EMFILE`].
    pub fn add(&self, file: FileRef, closes_on_exec: bool, from: usize, limit: usize) -> SysResult<i32> {
        let mut slots = self.slots.lock();
        let fd = slots.lowest_free(from);
        if fd >= limit.min(FDS_MAX) {
            return Err(Errno::EMFILE);
        }
        slots.set(fd, Slot { file, closes_on_exec });
        Ok(fd as i32)
    }

    /// Gives `file` the number `fd`; the file that had it.
    ///
    /// # Errors
    /// [`Errno::EBADF`] when `fd` is not below `limit`.
    pub fn replace(
        &self,
        fd: usize,
        file: FileRef,
        closes_on_exec: bool,
        limit: usize,
    ) -> SysResult<Option<FileRef>> {
        if fd >= limit.min(FDS_MAX) {
            return Err(Errno::EBADF);
        }
        let mut slots = self.slots.lock();
        Ok(slots.set(fd, Slot { file, closes_on_exec }))
    }

    /// Frees the number; its file.
    ///
    /// # Errors
    /// [`Errno::EBADF`].
    pub fn remove(&self, fd: i32) -> SysResult<FileRef> {
        self.slots.lock().clear(fd as usize).ok_or(Errno::EBADF)
    }

    /// Whether the descriptor is closed by execve.
    ///
    /// # Errors
    /// [`Errno::EBADF`].
    pub fn closes_on_exec(&self, fd: i32) -> SysResult<bool> {
        match self.slots.lock().files.get(fd as usize) {
            Some(Some(slot)) => Ok(slot.closes_on_exec),
            _ => Err(Errno::EBADF),
        }
    }

    /// Sets whether the descriptor is closed by execve.
    ///
    /// # Errors
    /// [`Errno::EBADF`].
    pub fn set_closes_on_exec(&self, fd: i32, closes_on_exec: bool) -> SysResult<()> {
        match self.slots.lock().files.get_mut(fd as usize) {
            Some(Some(slot)) => {
                slot.closes_on_exec = closes_on_exec;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// A copy, as fork makes it.
    pub fn duplicate(&self) -> Self {
        let slots = self.slots.lock();
        let copy =
            Slots { files: slots.files.clone(), taken: slots.taken.clone(), first_word: slots.first_word };
        Self::of(copy)
    }

    /// Takes out what execve closes.
    pub fn take_closing(&self) -> Vec<FileRef> {
        let mut slots = self.slots.lock();
        let is_closing = |s: &Option<Slot>| s.as_ref().is_some_and(|s| s.closes_on_exec);
        let closing: Vec<usize> =
            slots.files.iter().enumerate().filter(|(_, s)| is_closing(s)).map(|(i, _)| i).collect();
        closing.into_iter().filter_map(|fd| slots.clear(fd)).collect()
    }

    /// Takes everything out.
    pub fn take_all(&self) -> Vec<FileRef> {
        let slots = core::mem::take(&mut *self.slots.lock());
        slots.files.into_iter().flatten().map(|s| s.file).collect()
    }

    /// The numbers in use, in order, from `from` on, at most `max`.
    pub fn numbers(&self, from: usize, max: usize) -> Vec<usize> {
        let slots = self.slots.lock();
        let used = slots.files.iter().enumerate().skip(from).filter(|(_, s)| s.is_some());
        used.map(|(fd, _)| fd).take(max).collect()
    }
}

impl Slots {
    fn lowest_free(&mut self, from: usize) -> usize {
        let mut word = self.first_word.max(from / 64);
        while let Some(bits) = self.taken.get(word) {
            let skipped = if word == from / 64 { (1_u64 << (from % 64)) - 1 } else { 0 };
            let free = !(bits | skipped);
            if free != 0 {
                return word * 64 + free.trailing_zeros() as usize;
            }
            if *bits == u64::MAX && word == self.first_word {
                self.first_word += 1;
            }
            word += 1;
        }
        from.max(self.taken.len() * 64)
    }

    fn set(&mut self, fd: usize, slot: Slot) -> Option<FileRef> {
        if fd >= self.files.len() {
            let len = (fd + 1).next_multiple_of(64);
            self.files.resize_with(len, || None);
            self.taken.resize(len / 64, 0);
        }
        self.taken[fd / 64] |= 1 << (fd % 64);
        self.files[fd].replace(slot).map(|s| s.file)
    }

    fn clear(&mut self, fd: usize) -> Option<FileRef> {
        let slot = self.files.get_mut(fd)?.take()?;
        self.taken[fd / 64] &= !(1 << (fd % 64));
        self.first_word = self.first_word.min(fd / 64);
        Some(slot.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::event::EventFd;
    use proptest::prelude::*;
    use rt_std as _;
    use std::collections::BTreeMap;
    use vfs::OpenFlags;

    fn file() -> FileRef {
        EventFd::create(0, false, OpenFlags::empty())
    }

    #[test]
    fn numbers_are_the_lowest_free_ones() {
        let table = FdTable::new();
        for expected in 0..200 {
            assert_eq!(table.add(file(), false, 0, 1024), Ok(expected));
        }
        drop(table.remove(70).unwrap());
        drop(table.remove(3).unwrap());
        assert_eq!(table.add(file(), false, 10, 1024), Ok(70));
        assert_eq!(table.add(file(), false, 0, 1024), Ok(3));
        assert_eq!(table.add(file(), false, 0, 200), Err(Errno::EMFILE));
        assert_eq!(table.add(file(), false, 300, 1024), Ok(300));
        assert_eq!(table.replace(5000, file(), false, 1024).map(drop), Err(Errno::EBADF));
        assert_eq!(table.get(-1).map(drop), Err(Errno::EBADF));
    }

    #[test]
    fn execve_closes_what_is_marked() {
        let table = FdTable::new();
        table.add(file(), true, 0, 16).unwrap();
        table.add(file(), false, 0, 16).unwrap();
        table.set_closes_on_exec(1, true).unwrap();
        table.set_closes_on_exec(0, false).unwrap();
        assert_eq!(table.take_closing().len(), 1);
        assert!(table.get(0).is_ok() && table.get(1).is_err());
    }

    proptest! {
        #[test]
        fn the_table_equals_its_model(ops in prop::collection::vec((0_u8..3, 0_usize..300), 1..120)) {
            let table = FdTable::new();
            let mut model = BTreeMap::new();
            for (op, n) in ops {
                match op {
                    0 => {
                        let free = (n..).find(|fd| !model.contains_key(fd)).unwrap();
                        prop_assert_eq!(table.add(file(), false, n, 1024), Ok(free as i32));
                        model.insert(free, ());
                    }
                    1 => prop_assert_eq!(table.remove(n as i32).is_ok(), model.remove(&n).is_some()),
                    _ => {
                        let before = table.replace(n, file(), false, 1024).unwrap();
                        prop_assert_eq!(before.is_some(), model.insert(n, ()).is_some());
                    }
                }
            }
            prop_assert_eq!(table.numbers(0, usize::MAX), model.into_keys().collect::<Vec<_>>());
        }
    }
}
