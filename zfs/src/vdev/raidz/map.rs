//! Where a block's columns lie: the map of `vdev_raidz_map_alloc`.
//!
//! A block's sectors are dealt to columns, parity first. Each data column holds consecutive bytes of the block; the
//! first columns may be one sector longer than the others. A column is on one child, and wraps to that child's next
//! row when it would lie beyond the last child.
use alloc::vec::Vec;

/// One column of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Which child.
    pub child: usize,
    /// Where in the child's allocatable space.
    pub offset: u64,
    /// Bytes; 0 for columns a short block does not reach.
    pub len: usize,
}

/// The columns of a block: parity columns first, then data columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub columns: Vec<Column>,
    pub nparity: usize,
}

/// Blocks in every second MiB have their first data column where the others have their parity, so that reads are
/// spread over all children (single parity only).
const SWAP_BIT: u64 = 1 << 20;

impl Map {
    /// The map of `len` bytes (whole sectors) at `offset`.
    pub(super) fn new(offset: u64, len: usize, ashift: u8, width: usize, nparity: usize) -> Self {
        let (width64, data) = (width as u64, (width - nparity) as u64);
        let first = offset >> ashift;
        let sectors = (len >> ashift) as u64;
        let (rows, rest) = (sectors / data, sectors % data);
        let nr_long = if rest == 0 { 0 } else { rest as usize + nparity };
        let nr_columns = if rows == 0 { nr_long } else { width };
        let row = (first / width64) << ashift;
        let mut columns: Vec<Column> = (0..nr_columns)
            .map(|index| {
                let place = first % width64 + index as u64;
                let is_wrapped = place >= width64;
                let sectors = rows + u64::from(index < nr_long);
                Column {
                    child: (place % width64) as usize,
                    offset: row + if is_wrapped { 1 << ashift } else { 0 },
                    len: (sectors << ashift) as usize,
                }
            })
            .collect();
        if nparity == 1 && offset & SWAP_BIT != 0 && columns.len() > 1 {
            let (a, b) = (columns[0], columns[1]);
            columns[0] = Column { len: a.len, ..b };
            columns[1] = Column { len: b.len, ..a };
        }
        Self { columns, nparity }
    }

    /// Bytes to allocate for a block of `psize` bytes: data, parity, and what rounds the sectors up so that a freed gap
    /// can always be used.
    pub(super) fn asize(psize: u64, ashift: u8, width: usize, nparity: usize) -> u64 {
        let (data, parity) = ((width - nparity) as u64, nparity as u64);
        let sectors = psize.div_ceil(1 << ashift);
        (sectors + parity * sectors.div_ceil(data)).next_multiple_of(parity + 1) << ashift
    }

    pub(super) fn parity(&self) -> &[Column] {
        &self.columns[..self.nparity.min(self.columns.len())]
    }

    pub(super) fn data(&self) -> &[Column] {
        &self.columns[self.nparity.min(self.columns.len())..]
    }

    /// Byte range of the block in each data column.
    pub(super) fn data_ranges(&self) -> impl Iterator<Item = core::ops::Range<usize>> + '_ {
        self.data().iter().scan(0, |at, column| {
            let start = *at;
            *at += column.len;
            Some(start..*at)
        })
    }
}
