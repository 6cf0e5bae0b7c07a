//! Numbers in a record, in either byte order.
use super::RECORD_SIZE;

/// The byte order of a stream's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// As everything this code writes.
    #[default]
    Little,
    /// As written by big-endian hosts.
    Big,
}

/// Reads fields of one record. Positions are constants below [`RECORD_SIZE`]; one that is not reads as zero.
pub(super) struct View<'a> {
    pub(super) bytes: &'a [u8; RECORD_SIZE],
    pub(super) order: ByteOrder,
}

impl View<'_> {
    pub(super) fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    pub(super) fn u8(&self, at: usize) -> u8 {
        self.array::<1>(at)[0]
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        match self.order {
            ByteOrder::Little => u32::from_le_bytes(self.array(at)),
            ByteOrder::Big => u32::from_be_bytes(self.array(at)),
        }
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        match self.order {
            ByteOrder::Little => u64::from_le_bytes(self.array(at)),
            ByteOrder::Big => u64::from_be_bytes(self.array(at)),
        }
    }

    pub(super) fn words(&self, at: usize) -> [u64; 4] {
        core::array::from_fn(|i| self.u64(at + 8 * i))
    }
}

/// Writes fields of one record.
pub(super) struct Fields {
    pub(super) bytes: [u8; RECORD_SIZE],
    pub(super) order: ByteOrder,
}

impl Fields {
    pub(super) fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(room) = self.bytes.get_mut(at..at + value.len()) {
            room.copy_from_slice(value);
        }
    }

    pub(super) fn u32(&mut self, at: usize, value: u32) {
        let bytes = match self.order {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        };
        self.put(at, &bytes);
    }

    pub(super) fn u64(&mut self, at: usize, value: u64) {
        let bytes = match self.order {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        };
        self.put(at, &bytes);
    }

    pub(super) fn words(&mut self, at: usize, values: &[u64; 4]) {
        values.iter().enumerate().for_each(|(i, v)| self.u64(at + 8 * i, *v));
    }
}
