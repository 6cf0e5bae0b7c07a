//! A copy of a block whose parts are read once, for trying in memory which of them are wrong.
//!
//! What it is not: it knows no checksum. Who reads the block tries one assumption after the other.
use super::storage::Storage;
use crate::vdev::{IoGroup, Priority, Vdev};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::Dva;

/// The parts of one copy of a block.
pub(super) struct Columns {
    vdev: Arc<Vdev>,
    offset: u64,
    /// Bytes with those up to the allocation unit.
    len: usize,
    /// Bytes of the block.
    size: usize,
    /// In the order of `TopVdev::all_places`; what could not be read is not there.
    parts: Vec<Option<Abd>>,
}

impl Storage {
    /// Reads every part of a copy; `None` where attempts are simply read: no two of them share a part.
    pub(super) fn read_columns(
        &self,
        dva: &Dva,
        priority: Priority,
        size_of: &mut dyn FnMut(&Vdev) -> Option<usize>,
    ) -> Option<Columns> {
        let size = size_of(&*self.vdevs.top(dva.vdev)?)?;
        let (vdev, len) = self.extent_of(dva, u32::try_from(size).ok()?)?;
        let places = vdev.io().all_places(dva.offset, len);
        if places.is_empty() {
            return None;
        }
        let group = IoGroup::new();
        for (tag, place) in places.iter().enumerate().filter(|(_, place)| place.leaf.is_usable()) {
            place.leaf.start_read(place.offset, place.len, priority, group.completion(tag as u64));
        }
        let mut parts: Vec<Option<Abd>> = places.iter().map(|_| None).collect();
        for done in group.wait(places.iter().map(|place| &*place.leaf)) {
            parts[done.tag as usize] = done.buf.filter(|_| done.result.is_ok()).map(|buf| buf.freeze());
        }
        Some(Columns { vdev, offset: dva.offset, len, size, parts })
    }

    /// The block as an attempt has it, from parts that were read.
    ///
    /// # Errors
    /// `Io` when a part that it needs could not be read, or when it says no more than an attempt before it.
    pub(super) fn try_columns(&self, columns: &Columns, attempt: usize) -> Result<Abd> {
        let Columns { vdev, offset, len, size, parts } = columns;
        let whole = vdev.io().assemble(*offset, *len, attempt, parts).ok_or(Error::Io)?;
        Ok(self.trim(whole, *size).ok_or(Error::Io)?.freeze())
    }
}
