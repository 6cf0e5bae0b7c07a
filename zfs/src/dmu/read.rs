//! Reading.
//!
//! A cached read walks the radix tree, locks one buffer for as long as it takes to share its pages, and copies from
//! them without a lock. Concurrent writers copy a page that a reader shares, so a reader sees the block as it was at
//! one moment; atomicity across blocks is the caller's range lock.
use super::dbuf::Content;
use super::dnode::Dnode;
use crate::{Error, Result};
use abd::{Abd, PAGE_SIZE, PageRef};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// A piece of what is read, in order.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// That many zeroes.
    Zeroes(usize),
}

/// Blocks asked for ahead of one that is missing, within a read.
const AHEAD_MAX: u64 = 64;

/// How often a reader looks again when block size and buffer disagree, before it calls that damage.
const GEOMETRY_LOOKS_MAX: u32 = 10_000;

/// What a reader wants of a data block.
struct Wanted {
    blkid: u64,
    range: Range<usize>,
    /// The block's size, as the reader knows it.
    size: usize,
    /// The last block of the whole read.
    last: u64,
    /// The last block to ask for if this one is missing.
    ahead: u64,
}

enum Got {
    /// The range, sharing the block's memory.
    Bytes(Abd),
    Zeroes,
    /// The block size is being changed.
    OtherSize,
}

impl Wanted {
    #[inline]
    fn of(&self, content: &Content) -> Option<Got> {
        match content {
            Content::Data(abd) if abd.len() != self.size => Some(Got::OtherSize),
            Content::Data(abd) => Some(Got::Bytes(abd.slice(self.range.clone()))),
            Content::Hole => Some(Got::Zeroes),
            Content::Absent => None,
        }
    }
}

impl Dnode {
    /// Reads a range, giving it to `sink` piece by piece. What was never written reads as zeroes: the object's length
    /// is its owner's knowledge.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`, or the sink's; what came before the error has been given to the sink.
    pub fn read(&self, offset: u64, len: usize, sink: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
        let end = offset.checked_add(len as u64).ok_or(Error::Invalid)?;
        let mut at = offset;
        let mut nr_looks = 0;
        // Blocks below this one were asked for with one before: asking again for each would cost their square.
        let mut asked = 0;
        while at < end {
            let size = u64::from(self.block_size());
            let Some((blkid, within)) = split(at, size) else {
                // Beyond the only block of an object whose block has an odd size.
                sink(Piece::Zeroes((end - at) as usize))?;
                return Ok(());
            };
            let n = (size - within).min(end - at);
            if at == offset {
                self.note_read(blkid, last_block(end, size));
            }
            let range = within as usize..(within + n) as usize;
            let (last, mut ahead) = (last_block(end, size), blkid);
            if blkid >= asked {
                asked = blkid + AHEAD_MAX / 2;
                ahead = last.min(blkid + AHEAD_MAX);
            }
            let wanted = Wanted { blkid, range, size: size as usize, last, ahead };
            match self.content(&wanted)? {
                Got::Bytes(abd) => abd.chunks().try_for_each(|chunk| sink(Piece::Data(chunk)))?,
                Got::Zeroes => sink(Piece::Zeroes(n as usize))?,
                Got::OtherSize => {
                    nr_looks += 1;
                    if nr_looks > GEOMETRY_LOOKS_MAX {
                        return Err(Error::Damaged);
                    }
                    rt::yield_now();
                    continue;
                }
            }
            at += n;
        }
        Ok(())
    }

    /// Part of a data block.
    #[inline]
    fn content(&self, wanted: &Wanted) -> Result<Got> {
        if let Some(dbuf) = self.level(0).get(wanted.blkid)
            && let Some(got) = dbuf.look(|content| wanted.of(content))
        {
            return Ok(got);
        }
        self.missing(wanted)
    }

    #[cold]
    fn missing(&self, wanted: &Wanted) -> Result<Got> {
        let (blkid, ahead) = (wanted.blkid, wanted.ahead);
        if ahead > blkid {
            // Its indirect block first: the others' pointers are beside its own.
            self.pointer(0, blkid)?;
            self.prefetch_blocks(blkid + 1, ahead.saturating_add(1));
        }
        self.note_miss(wanted.last);
        self.with_data(blkid, |_, state| Ok(wanted.of(&state.content).unwrap_or(Got::Zeroes)))
    }

    /// A range as a vector. For small things: `len` is memory.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut out = vec![0; len];
        self.read_exact(offset, &mut out)?;
        Ok(out)
    }

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn read_exact(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut at = 0;
        self.read(offset, out.len(), &mut |piece| {
            let (from, n) = match piece {
                Piece::Data(bytes) => (Some(bytes), bytes.len()),
                Piece::Zeroes(n) => (None, n),
            };
            match from {
                Some(bytes) => out[at..at + n].copy_from_slice(bytes),
                None => out[at..at + n].fill(0),
            }
            at += n;
            Ok(())
        })
    }

    /// A block's content now, shared; holes as zeroes.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn block(&self, blkid: u64) -> Result<Abd> {
        for _ in 0..GEOMETRY_LOOKS_MAX {
            let size = self.block_size() as usize;
            match self.content(&Wanted { blkid, range: 0..size, size, last: blkid, ahead: blkid })? {
                Got::Bytes(abd) => return Ok(abd),
                Got::Zeroes => return Ok(Abd::zeroed(size)),
                Got::OtherSize => rt::yield_now(),
            }
        }
        Err(Error::Damaged)
    }

    /// The page of memory at `offset` (rounded down to a page), for mapping; `None` for a hole. A page that no whole
    /// page of a buffer holds (small blocks, the tail of odd ones) is a copy, padded with zeroes.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn page(&self, offset: u64) -> Result<Option<PageRef>> {
        let offset = offset - offset % PAGE_SIZE as u64;
        let size = u64::from(self.block_size());
        let Some((blkid, within)) = split(offset, size) else { return Ok(None) };
        if size.is_multiple_of(PAGE_SIZE as u64) {
            let range = within as usize..within as usize + PAGE_SIZE;
            match self.content(&Wanted { blkid, range, size: size as usize, last: blkid, ahead: blkid })? {
                Got::Zeroes => return Ok(None),
                Got::Bytes(abd) => {
                    if let Some(page) = abd.page_at(0) {
                        return Ok(Some(page));
                    }
                }
                Got::OtherSize => {}
            }
        }
        let copy = Abd::copy_from(&self.read_vec(offset, PAGE_SIZE)?);
        Ok(copy.page_at(0))
    }
}

/// Block number and offset within the block; `None` beyond the only block of an object whose block has an odd size.
#[inline]
pub(super) fn split(at: u64, size: u64) -> Option<(u64, u64)> {
    if size.is_power_of_two() {
        Some((at >> size.trailing_zeros(), at & (size - 1)))
    } else {
        (at < size).then_some((0, at))
    }
}

/// The block that holds the byte before `end`.
fn last_block(end: u64, size: u64) -> u64 {
    split(end.saturating_sub(1), size).map_or(0, |(blkid, _)| blkid)
}
