//! Records in: nothing is handed on whose checksum is not right.
use super::Feed;
use crate::{Error, Result};
use alloc::vec::Vec;
use codec::fletcher::Fletcher4;
use ondisk::Digest;
use ondisk::stream::{ByteOrder, CHECKSUM_OFFSET, End, RECORD_SIZE, Record};

/// Payload is asked for in pieces of at most this size, so that a length nobody sends bytes for costs no memory.
const PIECE: usize = 1 << 20;

/// Reads a stream.
pub struct StreamReader<'a> {
    feed: Feed<'a>,
    order: ByteOrder,
    sums: Fletcher4,
    /// The sum before the record that was read last.
    before: Digest,
    bytes: u64,
}

impl<'a> StreamReader<'a> {
    /// Over these bytes.
    pub fn new(feed: Feed<'a>) -> Self {
        Self {
            feed,
            order: ByteOrder::Little,
            sums: Fletcher4::default(),
            before: Digest::default(),
            bytes: 0,
        }
    }

    /// The byte order of the stream, once its BEGIN was read.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills the buffer; false when the stream ends before its first byte.
    fn fill(&mut self, buf: &mut [u8]) -> Result<bool> {
        let mut at = 0;
        while at < buf.len() {
            match (self.feed)(&mut buf[at..])? {
                0 if at == 0 => return Ok(false),
                0 => return Err(Error::StreamCut),
                n => at += n.min(buf.len() - at),
            }
        }
        self.bytes += buf.len() as u64;
        Ok(true)
    }

    fn add(&mut self, bytes: &[u8]) {
        match self.order {
            ByteOrder::Little => self.sums.update(bytes),
            ByteOrder::Big => self.sums.update_foreign(bytes),
        }
    }

    /// The next record and its payload; `None` where the bytes end between records.
    ///
    /// # Errors
    /// `StreamCut` when they end within one, `StreamDamaged` when the checksum is wrong or the record makes no sense, the
    /// feed's.
    pub fn read_record(&mut self) -> Result<Option<(Record, Vec<u8>)>> {
        let mut bytes = [0; RECORD_SIZE];
        if !self.fill(&mut bytes)? {
            return Ok(None);
        }
        // The kind of a BEGIN, 0, is the same in both orders.
        if bytes[..4] == [0; 4] {
            self.order = Record::byte_order(&bytes).map_err(|_| Error::StreamDamaged)?;
            self.sums = Fletcher4::default();
        }
        self.before = self.sums.finish();
        self.add(&bytes[..CHECKSUM_OFFSET]);
        let stored = Record::checksum(&bytes, self.order);
        let is_begin = bytes[..4] == [0; 4];
        // Old senders leave the sum out: then END tells.
        if !is_begin && stored != Digest::default() && stored != self.sums.finish() {
            return Err(Error::StreamDamaged);
        }
        self.add(&bytes[CHECKSUM_OFFSET..]);
        let record = Record::parse(&bytes, self.order).map_err(|_| Error::StreamDamaged)?;
        let payload = self.payload(record.payload_len())?;
        Ok(Some((record, payload)))
    }

    fn payload(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        while payload.len() < len {
            let at = payload.len();
            payload.resize(at + PIECE.min(len - at), 0);
            if !self.fill(&mut payload[at..])? {
                return Err(Error::StreamCut);
            }
        }
        self.add(&payload);
        Ok(payload)
    }

    /// Whether an END that was just read fits everything before it.
    ///
    /// # Errors
    /// `StreamDamaged`.
    pub fn check_end(&self, end: &End) -> Result<()> {
        if end.digest == self.before { Ok(()) } else { Err(Error::StreamDamaged) }
    }
}
