//! Space maps as bytes: replaying entries into a range tree, and turning range trees into entries.
//!
//! Entry formats: `ondisk::space_map`. Two-word entries never straddle a block of the object; the word before such a
//! place is padding.
use super::range_tree::RangeTree;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::Txg;
use ondisk::space_map::{
    HISTOGRAM_SIZE, MapType, NO_VDEV, OFFSET_END_ONE_WORD, RUN_MAX_ONE_WORD, RUN_MAX_TWO_WORDS,
    SpaceMapEntry, SpaceMapRun,
};

/// Bytes of an entry word.
pub(crate) const WORD: u64 = 8;

/// Calls `apply` with each run of `bytes`.
///
/// # Errors
/// `Damaged` when an entry is cut off, or what `apply` gives.
pub(crate) fn for_each_run(bytes: &[u8], mut apply: impl FnMut(SpaceMapRun) -> Result<()>) -> Result<()> {
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
    let mut rest = words.as_slice();
    while !rest.is_empty() {
        let (entry, len) = SpaceMapEntry::decode(rest).map_err(|_| Error::Damaged)?;
        rest = &rest[len..];
        if let SpaceMapEntry::Run(run) = entry {
            apply(run)?;
        }
    }
    Ok(())
}

/// The part of the pool a map describes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub start: u64,
    pub size: u64,
    /// log2 of a unit of the map.
    pub shift: u8,
}

impl Extent {
    /// A run of the map as bytes of the vdev.
    ///
    /// # Errors
    /// `Damaged` when it lies outside.
    pub(crate) fn bytes_of(&self, run: &SpaceMapRun) -> Result<(u64, u64)> {
        let scale = |units: u64| units.checked_mul(1 << self.shift).ok_or(Error::Damaged);
        let (offset, len) = (scale(run.offset)?, scale(run.run)?);
        let end = offset.checked_add(len).ok_or(Error::Damaged)?;
        if end > self.size {
            return Err(Error::Damaged);
        }
        Ok((self.start + offset, len))
    }
}

/// Applies the runs of `bytes` to the set of free ranges.
///
/// # Errors
/// `Damaged` when the map allocates what is not free, frees what is, or leaves its extent.
pub(crate) fn replay(bytes: &[u8], extent: &Extent, free: &mut RangeTree) -> Result<()> {
    for_each_run(bytes, |run| {
        let (start, len) = extent.bytes_of(&run)?;
        match run.kind {
            MapType::Alloc => free.remove(start, len),
            MapType::Free => free.add(start, len),
        }
    })
}

/// Makes entries.
#[derive(Debug)]
pub(crate) struct Encoder {
    extent: Extent,
    /// Words in a block of the object.
    block_words: u64,
    /// Position of the next word in the object.
    position: u64,
    has_two_words: bool,
    words: Vec<u64>,
}

impl Encoder {
    /// Entries to be appended at byte `length` of an object with blocks of `block_size`.
    pub(crate) fn new(extent: Extent, length: u64, block_size: u32, has_two_words: bool) -> Self {
        let block_words = (u64::from(block_size) / WORD).max(2);
        Self { extent, block_words, position: length / WORD, has_two_words, words: Vec::new() }
    }

    /// Adds every range of `tree`, preceded by who wrote it.
    ///
    /// # Errors
    /// `Damaged` when a range lies outside of the map's extent: the allocator's bug.
    pub(crate) fn add(&mut self, kind: MapType, tree: &RangeTree, txg: Txg, pass: u32) -> Result<()> {
        self.add_qualified(kind, tree, txg, pass, NO_VDEV)
    }

    /// As [`Self::add`], saying which vdev the ranges are of: for logs.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(crate) fn add_qualified(
        &mut self,
        kind: MapType,
        tree: &RangeTree,
        txg: Txg,
        pass: u32,
        vdev: u32,
    ) -> Result<()> {
        if tree.is_empty() {
            return Ok(());
        }
        self.push(SpaceMapEntry::encode_debug(kind, pass.min(0x3ff) as u16, txg));
        for (start, len) in tree.iter() {
            let offset = start.checked_sub(self.extent.start).ok_or(Error::Damaged)?;
            if offset.checked_add(len).is_none_or(|end| end > self.extent.size) {
                return Err(Error::Damaged);
            }
            let (offset, run) = (offset >> self.extent.shift, len >> self.extent.shift);
            self.add_run(SpaceMapRun { kind, offset, run, vdev })?;
        }
        Ok(())
    }

    /// The words as bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn add_run(&mut self, whole: SpaceMapRun) -> Result<()> {
        let (mut offset, mut units) = (whole.offset, whole.run);
        while units > 0 {
            let is_long = units > RUN_MAX_ONE_WORD || offset >= OFFSET_END_ONE_WORD || whole.vdev != NO_VDEV;
            let max = if is_long && self.has_two_words { RUN_MAX_TWO_WORDS } else { RUN_MAX_ONE_WORD };
            let run = SpaceMapRun { offset, run: units.min(max), ..whole };
            if max == RUN_MAX_TWO_WORDS {
                if self.position % self.block_words == self.block_words - 1 {
                    self.push(SpaceMapEntry::padding());
                }
                let [first, second] = run.encode_two().map_err(|_| Error::Damaged)?;
                self.push(first);
                self.push(second);
            } else {
                self.push(run.encode_one().map_err(|_| Error::Damaged)?);
            }
            offset += run.run;
            units -= run.run;
        }
        Ok(())
    }

    fn push(&mut self, word: u64) {
        self.words.push(word);
        self.position += 1;
    }
}

/// Adds a tree's histogram to an on-disk one, whose first bucket is one unit and whose last one takes everything
/// longer, counted in its own size.
pub(crate) fn add_histogram(out: &mut [u64; HISTOGRAM_SIZE], tree: &RangeTree, shift: u8) {
    let buckets = tree.histogram().iter().enumerate().skip(usize::from(shift));
    for (log2, &count) in buckets.filter(|(_, count)| **count > 0) {
        let bucket = log2 - usize::from(shift);
        let last = HISTOGRAM_SIZE - 1;
        let excess = bucket.saturating_sub(last).min(31);
        out[bucket.min(last)] += u64::from(count) << excess;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXTENT: Extent = Extent { start: 1 << 24, size: 1 << 34, shift: 9 };

    fn free_all() -> RangeTree {
        let mut free = RangeTree::with_sizes();
        free.add(EXTENT.start, EXTENT.size).unwrap();
        free
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_replayed(
            ranges in prop::collection::vec((0u64..1 << 25, 1u64..1 << 18), 1..60), v2: bool, block in 9u32..15,
        ) {
            let mut allocated = RangeTree::new();
            for (offset, len) in ranges {
                let (start, len) = (EXTENT.start + (offset << 9), len << 9);
                if start + len <= EXTENT.start + EXTENT.size && !allocated.overlaps(start, len) {
                    allocated.add(start, len).unwrap();
                }
            }
            let mut freed = RangeTree::new();
            allocated.iter().step_by(2).for_each(|(s, l)| freed.add(s, l).unwrap());
            let mut encoder = Encoder::new(EXTENT, 0, 1 << block, v2);
            encoder.add(MapType::Alloc, &allocated, Txg(5), 1).unwrap();
            encoder.add(MapType::Free, &freed, Txg(5), 2).unwrap();
            let bytes = encoder.into_bytes();
            for (index, words) in bytes.as_chunks::<8>().0.iter().enumerate() {
                let is_first_of_two = u64::from_le_bytes(*words) >> 62 == 3;
                let is_last_of_block = (index + 1) % (1 << (block - 3)) == 0;
                let is_second = index > 0 && u64::from_le_bytes(bytes.as_chunks::<8>().0[index - 1]) >> 62 == 3;
                prop_assert!(!(is_first_of_two && !is_second && is_last_of_block), "straddles a block");
            }
            let mut free = free_all();
            replay(&bytes, &EXTENT, &mut free).unwrap();
            for (s, l) in allocated.iter() {
                prop_assert_eq!(free.contains(s, l), freed.contains(s, l));
            }
            prop_assert_eq!(free.bytes(), EXTENT.size - allocated.bytes() + freed.bytes());
        }

        #[test]
        fn any_words_are_refused_or_stay_inside(words in prop::collection::vec(any::<u64>(), 0..50)) {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            let mut free = free_all();
            if replay(&bytes, &EXTENT, &mut free).is_ok() {
                prop_assert!(free.iter().all(|(s, l)| s >= EXTENT.start && s + l <= EXTENT.start + EXTENT.size));
            }
        }
    }

    #[test]
    fn long_runs_count_in_the_last_bucket_by_their_size() {
        let mut tree = RangeTree::new();
        tree.add(0, 512).unwrap();
        tree.add(1 << 44, 1 << 43).unwrap();
        let mut histogram = [0; HISTOGRAM_SIZE];
        add_histogram(&mut histogram, &tree, 9);
        assert_eq!((histogram[0], histogram[31]), (1, 1 << 3));
    }
}
