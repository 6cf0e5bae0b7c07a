//! Packing changes into log blocks.
//!
//! What it is not: allocating or writing them. Blocks leave here full but for the pointer to the next and the checksum.
//!
//! Invariant: what lies in one block of a file reaches one log block in one record, so a crash between two log blocks
//! shows that block as it was before or as it is after, never half. (Writes that span blocks of a file may be split
//! between them, as they may be by the device.)
use super::itx::{Change, Itx, WriteChange};
use super::{LogSource, MAX_BLOCK};
#[cfg(test)]
use crate::dmu::Logged;
use crate::{Error, Result};
use alloc::vec::Vec;
#[cfg(test)]
use core::ops::Range;
use ondisk::Txg;
use ondisk::zil::{CHAIN_SIZE, ZILOG2_CHECKSUM_UNIT};
use ondisk::zil_record::{Record, WRITE_SIZE, WriteData, stamp};

/// Smallest block that is allocated: a small file with its name, made and written at once, is to fit into one, whatever
/// was logged before it. Only what is used of a block is written.
pub(super) const MIN_BLOCK: usize = 12 << 10;
/// Pieces of files whose blocks do not fit into a log block.
const PIECE: u64 = 64 << 10;
/// Bytes of a record that carries no data, on average: only a guess of sizes.
const RECORD_GUESS: usize = 192;

/// A packed log block.
#[derive(Debug)]
pub(super) struct PackedBlock {
    /// Bytes to be allocated for it; of the first block: what it has.
    pub(super) size: usize,
    /// Room for the head, and the records.
    pub(super) bytes: Vec<u8>,
    /// The newest group of its records.
    pub(super) max_txg: Txg,
}

/// Where records go.
pub(super) struct Packer<'a> {
    source: Option<&'a dyn LogSource>,
    blocks: Vec<PackedBlock>,
    /// Bytes still to come, roughly.
    left: usize,
    seq: u64,
}

/// Bytes that a batch will need, roughly.
pub(super) fn estimate(batch: &[Itx]) -> usize {
    batch.iter().map(|itx| bytes_of(&itx.change)).fold(0, usize::saturating_add)
}

fn bytes_of(change: &Change) -> usize {
    match change {
        Change::Record(bytes) => bytes.len(),
        Change::Write(write) => {
            RECORD_GUESS.saturating_add(usize::try_from(write.length).unwrap_or(usize::MAX))
        }
        Change::Wait => 0,
    }
}

/// The size of a block for so many bytes of records.
pub(super) fn block_size_for(bytes: usize) -> usize {
    bytes.saturating_add(CHAIN_SIZE).next_multiple_of(ZILOG2_CHECKSUM_UNIT).clamp(MIN_BLOCK, MAX_BLOCK)
}

impl<'a> Packer<'a> {
    /// Begins with a block of `first_size` bytes, packed in `memory`; the numbers of records go on after `seq`.
    pub(super) fn new(
        source: Option<&'a dyn LogSource>,
        (memory, first_size): (Vec<u8>, usize),
        seq: u64,
    ) -> Self {
        let mut packer = Self { source, blocks: Vec::new(), left: 0, seq };
        packer.open(memory, first_size);
        packer
    }
}

impl Packer<'_> {
    /// Packs a batch.
    ///
    /// # Errors
    /// The source's, when data cannot be had; `Unsupported` for changes without a record: the batch must be made durable
    /// another way.
    pub(super) fn add(&mut self, batch: &[Itx]) -> Result<()> {
        self.left = estimate(batch);
        for itx in batch {
            self.left = self.left.saturating_sub(bytes_of(&itx.change));
            match &itx.change {
                Change::Record(bytes) => self.record(itx.txg, bytes)?,
                Change::Write(write) => self.write(itx.txg, write)?,
                Change::Wait => return Err(Error::Unsupported),
            }
        }
        Ok(())
    }

    /// The blocks, none when nothing is left to say, and the number of the last record.
    pub(super) fn finish(mut self) -> (Vec<PackedBlock>, u64) {
        // A first block too small for anything still has its place in the chain.
        while self.blocks.last().is_some_and(|b| b.bytes.len() <= CHAIN_SIZE) {
            self.blocks.pop();
        }
        (self.blocks, self.seq)
    }

    fn open(&mut self, mut bytes: Vec<u8>, size: usize) {
        bytes.clear();
        bytes.reserve(size);
        bytes.resize(CHAIN_SIZE, 0);
        self.blocks.push(PackedBlock { size, bytes, max_txg: Txg::ZERO });
    }

    fn space(&self) -> usize {
        self.blocks.last().map_or(0, |b| b.size - b.bytes.len())
    }

    /// Makes room for `len` bytes in one piece.
    ///
    /// # Errors
    /// `TooLarge` when no block has it.
    fn make_room(&mut self, len: usize) -> Result<()> {
        if self.space() >= len {
            return Ok(());
        }
        if len > MAX_BLOCK - CHAIN_SIZE {
            return Err(Error::TooLarge);
        }
        self.open(Vec::new(), block_size_for(len.saturating_add(self.left)));
        Ok(())
    }

    /// Adds an encoded record in the current block, which has room.
    fn put(&mut self, txg: Txg, fill: &mut dyn FnMut(&mut Vec<u8>) -> Result<bool>) -> Result<()> {
        let Some(block) = self.blocks.last_mut() else { return Err(Error::Invalid) };
        let start = block.bytes.len();
        if !fill(&mut block.bytes)? {
            block.bytes.truncate(start);
            return Ok(());
        }
        self.seq += 1;
        stamp(block.bytes.get_mut(start..).unwrap_or_default(), txg.0, self.seq);
        block.max_txg = block.max_txg.max(txg);
        Ok(())
    }

    fn record(&mut self, txg: Txg, bytes: &[u8]) -> Result<()> {
        self.make_room(bytes.len())?;
        self.put(txg, &mut |out| {
            out.extend_from_slice(bytes);
            Ok(true)
        })
    }

    fn write(&mut self, txg: Txg, write: &WriteChange) -> Result<()> {
        let (mut at, end) = (write.offset, write.offset.saturating_add(write.length));
        while at < end {
            let len = self.piece(at, end, write.block_size);
            self.make_room(WRITE_SIZE + (len as usize).next_multiple_of(8))?;
            let source = self.source.ok_or(Error::NotFound)?;
            let mut is_over = false;
            self.put(txg, &mut |out| {
                let n = fetch(out, source, write, at, len as usize)?;
                is_over = n < len as usize;
                Ok(n > 0)
            })?;
            if is_over {
                // The file ends here by now; what cut it off follows in the log.
                return Ok(());
            }
            at += len;
        }
        Ok(())
    }

    /// How much of a write goes into the next record: as many whole blocks of the file as there is room for.
    fn piece(&self, at: u64, end: u64, block_size: u32) -> u64 {
        let max = (MAX_BLOCK - CHAIN_SIZE - WRITE_SIZE) as u64;
        let unit = match u64::from(block_size) {
            n if (1..=max).contains(&n) => n,
            _ => PIECE,
        };
        let fitting = |room: u64| {
            let to = at.saturating_add(room & !7).min(end);
            if to == end { to - at } else { (to - to % unit).saturating_sub(at) }
        };
        let here = fitting((self.space().saturating_sub(WRITE_SIZE)) as u64);
        // A little of a long write at the end of a block costs a record for nothing.
        if here == end - at || here >= unit.max(PIECE / 4) { here } else { fitting(max).max(1) }
    }
}

/// Appends a write record with its data; the bytes there were, 0 when the object or that part of it is gone.
fn fetch(
    out: &mut Vec<u8>,
    source: &dyn LogSource,
    write: &WriteChange,
    offset: u64,
    len: usize,
) -> Result<usize> {
    let start = out.len();
    let head = |n: usize| {
        let data = WriteData::Inline(&[]);
        Record::Write { object: write.object, offset, length: n as u64, data }.encode()
    };
    out.reserve(WRITE_SIZE + len.next_multiple_of(8));
    out.resize(start + WRITE_SIZE, 0);
    let n = match source.read(write.object, write.generation, offset, len, out) {
        Ok(n) => n.min(len),
        Err(Error::NotFound) => 0,
        Err(e) => return Err(e),
    };
    if n == 0 {
        return Ok(0);
    }
    let reclen = WRITE_SIZE + n.next_multiple_of(8);
    out.truncate(start + WRITE_SIZE + n);
    out.resize(start + reclen, 0);
    let fixed = head(n).ok_or(Error::Invalid)?;
    let place = out.get_mut(start..start + WRITE_SIZE).ok_or(Error::Invalid)?;
    place.copy_from_slice(&fixed);
    place[8..16].copy_from_slice(&(reclen as u64).to_le_bytes());
    Ok(n)
}

/// A file of a test.
#[cfg(test)]
pub(super) struct Pattern(pub(super) u64);

#[cfg(test)]
impl LogSource for Pattern {
    fn read(&self, _object: u64, _: u64, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<usize> {
        let n = self.0.saturating_sub(offset).min(len as u64) as usize;
        out.extend((offset as usize..offset as usize + n).map(|at| at as u8 ^ (at >> 8) as u8));
        Ok(n)
    }

    fn block(&self, _object: u64, _generation: u64, offset: u64) -> Result<(Range<u64>, Logged)> {
        Ok((offset..self.0.max(offset + 1), Logged::Written(ondisk::BlkPtr::HOLE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::zil::RecordHead;

    fn write(offset: u64, length: u64, block_size: u32) -> Itx {
        let change = Change::Write(WriteChange { object: 7, generation: 1, offset, length, block_size });
        Itx { txg: Txg(9), change }
    }

    fn pack(
        batch: &[Itx],
        source: Option<&dyn LogSource>,
        first_size: usize,
        seq: u64,
    ) -> Result<(Vec<PackedBlock>, u64)> {
        let mut packer = Packer::new(source, (Vec::new(), first_size), seq);
        packer.add(batch)?;
        Ok(packer.finish())
    }

    /// What a replay of the blocks would leave in a file of `size` bytes, and the pieces.
    fn replay(blocks: &[PackedBlock], size: usize) -> (Vec<u8>, Vec<(u64, u64)>) {
        let (mut file, mut pieces) = (vec![0; size], Vec::new());
        for block in blocks {
            let mut rest = &block.bytes[CHAIN_SIZE..];
            while let Ok(head) = RecordHead::parse(rest) {
                if let Ok(Record::Write { offset, length, data: WriteData::Inline(data), .. }) =
                    Record::parse(&head, rest)
                {
                    file[offset as usize..(offset + length) as usize].copy_from_slice(data);
                    pieces.push((offset, length));
                }
                rest = &rest[head.reclen..];
            }
            assert!(rest.is_empty() && block.bytes.len() <= block.size && block.size <= MAX_BLOCK);
        }
        (file, pieces)
    }

    #[test]
    fn writes_of_any_length_survive_and_blocks_are_not_torn() {
        for (offset, length, block_size) in [
            (0, 4096, 4096),
            (4096, 300_000, 16 << 10),
            (100, 1 << 20, 128 << 10),
            (8 << 10, 64 << 10, 8 << 10),
            (3, 1, 512),
        ] {
            for first in [MIN_BLOCK, 12 << 10, MAX_BLOCK] {
                let size = (offset + length) as usize;
                let source = Pattern(size as u64);
                let batch = [write(offset, length, block_size)];
                let (blocks, _) = pack(&batch, Some(&source), first, 0).unwrap();
                let (file, pieces) = replay(&blocks, size);
                let mut wanted = vec![0; offset as usize];
                source.read(7, 1, offset, length as usize, &mut wanted).unwrap();
                assert!(file == wanted);
                if block_size <= 64 << 10 {
                    let unit = u64::from(block_size);
                    let is_whole =
                        |(at, len): &(u64, u64)| at + len == offset + length || (at + len) % unit == 0;
                    assert!(pieces.iter().all(is_whole), "{pieces:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_gone_is_not_logged() {
        let batch = [write(0, 4096, 4096), write(8192, 4096, 4096)];
        let (blocks, seq) = pack(&batch, Some(&Pattern(1000)), MIN_BLOCK, 5).unwrap();
        assert_eq!((replay(&blocks, 1000).1, seq), (vec![(0, 1000)], 6));
        assert!(pack(&batch, Some(&Pattern(0)), MIN_BLOCK, 5).unwrap().0.is_empty());
        assert!(pack(&batch, None, MIN_BLOCK, 5).is_err());
    }
}
