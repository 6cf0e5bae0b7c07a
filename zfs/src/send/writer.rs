//! Records out: the running checksum, and frees joined as long as they touch.
use super::Sink;
use crate::{Error, Result};
use abd::Abd;
use codec::fletcher::Fletcher4;
use ondisk::stream::{ByteOrder, CHECKSUM_OFFSET, End, FreeObjects, RECORD_SIZE, Range, Record, TO_THE_END};

/// What follows a record.
pub(super) enum Payload<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// A block.
    Block(&'a Abd),
    /// So many bytes that nobody looks at, when a stream is only measured.
    Unread(usize),
}

impl Payload<'_> {
    pub(super) const NONE: Self = Self::Bytes(&[]);

    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Block(abd) => abd.len(),
            Self::Unread(len) => *len,
        }
    }
}

/// Writes a stream.
pub(super) struct StreamWriter<'a> {
    /// `None`: it is only measured.
    sink: Option<Sink<'a>>,
    sums: Fletcher4,
    /// A FREE or FREEOBJECTS that the next one may continue.
    pending: Option<Record>,
    bytes: u64,
}

impl<'a> StreamWriter<'a> {
    pub(super) fn new(sink: Option<Sink<'a>>) -> Self {
        Self { sink, sums: Fletcher4::default(), pending: None, bytes: 0 }
    }

    /// Nothing is written: payloads need not be read.
    pub(super) fn is_measuring(&self) -> bool {
        self.sink.is_none()
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Starts the next stream of a compound one.
    pub(super) fn restart(&mut self) {
        self.sums = Fletcher4::default();
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        match &mut self.sink {
            Some(sink) => sink(bytes),
            None => Ok(()),
        }
    }

    fn put_summed(&mut self, bytes: &[u8]) -> Result<()> {
        if self.sink.is_some() {
            self.sums.update(bytes);
        }
        self.put(bytes)
    }

    /// A record and what follows it.
    ///
    /// # Errors
    /// The sink's; `Invalid` when the payload is not as long as the record says.
    pub(super) fn record(&mut self, record: &Record, payload: &Payload<'_>) -> Result<()> {
        self.flush()?;
        if payload.len() != record.payload_len() {
            return Err(Error::Invalid);
        }
        let mut bytes = record.to_bytes(ByteOrder::Little);
        self.sums.update(&bytes[..CHECKSUM_OFFSET]);
        if !matches!(record, Record::Begin(_)) {
            Record::set_checksum(&mut bytes, ByteOrder::Little, self.sums.finish());
        }
        self.sums.update(&bytes[CHECKSUM_OFFSET..]);
        self.put(&bytes)?;
        match payload {
            Payload::Bytes(bytes) => self.put_summed(bytes),
            Payload::Block(abd) => {
                // Sums go by words: a piece that ends within one cannot be added by itself.
                if abd.chunks().all(|chunk| chunk.len().is_multiple_of(4)) {
                    return abd.chunks().try_for_each(|chunk| self.put_summed(chunk));
                }
                self.put_summed(&abd.to_contiguous())
            }
            Payload::Unread(len) => {
                self.bytes += *len as u64;
                Ok(())
            }
        }
    }

    /// A freed range. Ranges that touch become one record.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn free(&mut self, range: Range) -> Result<()> {
        if let Some(Record::Free(last)) = &mut self.pending
            && last.object == range.object
            && last.length != TO_THE_END
            && last.offset.checked_add(last.length) == Some(range.offset)
            && let Some(length) = last.length.checked_add(range.length)
        {
            last.length = length;
            return Ok(());
        }
        self.flush()?;
        self.pending = Some(Record::Free(range));
        Ok(())
    }

    /// Numbers without objects. Ranges that touch become one record.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn free_objects(&mut self, range: FreeObjects) -> Result<()> {
        if let Some(Record::FreeObjects(last)) = &mut self.pending
            && last.first.checked_add(last.count) == Some(range.first)
            && let Some(count) = last.count.checked_add(range.count)
        {
            last.count = count;
            return Ok(());
        }
        self.flush()?;
        self.pending = Some(Record::FreeObjects(range));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match self.pending.take() {
            Some(record) => self.record(&record, &Payload::NONE),
            None => Ok(()),
        }
    }

    /// The end of one snapshot's stream.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn end(&mut self, to_guid: u64) -> Result<()> {
        self.flush()?;
        let digest = self.sums.finish();
        self.record(&Record::End(End { digest, to_guid }), &Payload::NONE)
    }

    /// An END that belongs to a compound stream: without running checksum.
    ///
    /// # Errors
    /// The sink's.
    pub(super) fn compound_end(&mut self, is_after_header: bool) -> Result<()> {
        self.flush()?;
        let digest = if is_after_header { self.sums.finish() } else { ondisk::Digest::default() };
        let bytes: [u8; RECORD_SIZE] = Record::End(End { digest, to_guid: 0 }).to_bytes(ByteOrder::Little);
        self.put(&bytes)
    }
}
