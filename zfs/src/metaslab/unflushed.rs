//! What has changed in a metaslab since its own space map was last written: kept in the pool's logs on disk, and here
//! in memory, so that flushing it needs no log to be read again.
//!
//! Invariant: no byte is in both sets, and the space map with these changes applied is what the logs say.
use super::range_tree::RangeTree;
use crate::Result;
use ondisk::Txg;
use ondisk::space_map::MapType;

/// What a metaslab's own space map does not say yet.
#[derive(Debug, Default)]
pub(crate) struct Unflushed {
    pub allocs: RangeTree,
    pub frees: RangeTree,
    /// The logs from this group on matter to the metaslab; 0 when none does.
    pub since: Txg,
}

impl Unflushed {
    /// Takes in a change: it cancels what it undoes.
    ///
    /// # Errors
    /// `Damaged` when a range is allocated or freed twice.
    pub(crate) fn note(&mut self, kind: MapType, start: u64, len: u64) -> Result<()> {
        match kind {
            MapType::Alloc => self.frees.cancel(start, len, &mut self.allocs),
            MapType::Free => self.allocs.cancel(start, len, &mut self.frees),
        }
    }

    /// Takes in a tree of changes.
    ///
    /// # Errors
    /// As [`Self::note`].
    pub(crate) fn note_all(&mut self, kind: MapType, tree: &RangeTree) -> Result<()> {
        tree.iter().try_for_each(|(start, len)| self.note(kind, start, len))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.allocs.is_empty() && self.frees.is_empty()
    }

    pub(crate) fn nr_ranges(&self) -> usize {
        self.allocs.nr_ranges() + self.frees.nr_ranges()
    }

    /// The space map says it all as of the beginning of `txg`.
    pub(crate) fn flushed(&mut self, txg: Txg) {
        self.allocs.empty();
        self.frees.empty();
        self.since = txg;
    }
}
