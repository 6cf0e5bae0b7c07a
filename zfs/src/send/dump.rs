//! One snapshot as records.
//!
//! The walk runs ahead of the records by a bounded window: blocks in it are being read while those before them are
//! written out. Order is kept; memory is the window's.
use super::walk::{Item, ObjectFacts, SendWalk, Start};
use super::writer::{Payload, StreamWriter};
use crate::vdev::Priority;
use crate::zio::Storage;
use crate::{Error, Result};
use abd::Abd;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use nvpair::NvList;
use ondisk::blkptr::{EmbeddedType, OLD_MAX_BLOCK_SIZE};
use ondisk::dnode::DnodePhys;
use ondisk::stream::{
    Begin, Embedded, FreeObjects, ObjectRecord, Range, Record, RecordFlags, Spill, StreamFeatures,
    StreamWrite, TO_THE_END,
};
use ondisk::{BlkPtr, Bookmark, Checksum, Compression, Digest, ObjectId, Txg};

/// Most bytes of blocks that are asked for ahead.
const WINDOW_BYTES: usize = 16 << 20;
/// Most records kept behind a block that is not there yet.
const WINDOW_RECORDS: usize = 1024;

/// What blocks may look like in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockOptions {
    /// Blocks above 128 KiB are sent whole (`-L`); else in pieces.
    pub large: bool,
    /// Compressed blocks are sent as they are stored (`-c`).
    pub compressed: bool,
    /// Embedded blocks are sent as such (`-e`).
    pub embedded: bool,
}

/// Where an interrupted stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// The object received last.
    pub object: u64,
    /// The byte offset in it.
    pub offset: u64,
}

/// One snapshot to be sent.
pub(super) struct Dump<'a> {
    pub(super) storage: &'a Arc<Storage>,
    pub(super) objset: u64,
    pub(super) root: BlkPtr,
    /// Everything but `payload_len`.
    pub(super) begin: Begin,
    /// When the base was made.
    pub(super) after: Txg,
    pub(super) resume: Option<ResumePoint>,
}

/// What waits for its turn.
enum Job {
    Record(Record, Vec<u8>),
    Free(Range),
    FreeObjects(FreeObjects),
    Block { object: ObjectFacts, bp: BlkPtr, blkid: u64 },
    Spill { id: ObjectId, bp: BlkPtr },
}

impl Dump<'_> {
    /// Writes the stream.
    ///
    /// # Errors
    /// What reading gives, or the sink; `Unsupported` for blocks that a redacted receive left out.
    pub(super) fn run(&self, writer: &mut StreamWriter<'_>) -> Result<()> {
        let mut payload = Vec::new();
        if let Some(resume) = self.resume {
            let list =
                NvList::new().add_u64("resume_object", resume.object).add_u64("resume_offset", resume.offset);
            payload = list.encode_native().map_err(|_| Error::TooLarge)?;
        }
        let begin = Begin { payload_len: payload.len() as u32, ..self.begin };
        writer.record(&Record::Begin(begin), &Payload::Bytes(&payload))?;
        let mut queue = Queue { dump: self, writer, jobs: VecDeque::new(), bytes: 0 };
        let start = self.resume.map_or_else(Start::default, |r| Start { object: r.object, offset: r.offset });
        let mut walk = SendWalk {
            storage: self.storage,
            objset: self.objset,
            after: self.after,
            start,
            visit: &mut |item| queue.add(item),
        };
        walk.run(&self.root)?;
        while queue.write_first()? {}
        writer.end(self.begin.to_guid)
    }

    fn has(&self, feature: StreamFeatures) -> bool {
        self.begin.features.contains(feature)
    }

    fn to_guid(&self) -> u64 {
        self.begin.to_guid
    }

    fn object_record(&self, id: ObjectId, core: &DnodePhys) -> ObjectRecord {
        let mut block_size = core.block_size;
        if !self.has(StreamFeatures::LARGE_BLOCKS) {
            block_size = block_size.min(OLD_MAX_BLOCK_SIZE);
        }
        ObjectRecord {
            object: id,
            kind: core.kind,
            bonus_kind: core.bonus_kind,
            block_size,
            bonus_len: core.bonus_len,
            checksum: core.checksum,
            compress: core.compress,
            slots: core.slots,
            flags: if core.has_spill() { RecordFlags::SPILL } else { RecordFlags::empty() },
            to_guid: self.to_guid(),
        }
    }

    /// Whether an embedded block goes as such.
    fn embeds(&self, bp: &BlkPtr) -> bool {
        let can_unpack = match bp.compression() {
            Compression::Lz4 => self.has(StreamFeatures::LZ4),
            Compression::Zstd => self.has(StreamFeatures::ZSTD),
            _ => true,
        };
        bp.embedded_type() == Some(EmbeddedType::Data) && can_unpack && self.has(StreamFeatures::EMBED_DATA)
    }

    /// Whether a block goes as it is stored. Metadata does not: receivers of another byte order swap it.
    fn goes_compressed(&self, bp: &BlkPtr) -> bool {
        self.has(StreamFeatures::COMPRESSED)
            && !self.splits(bp.lsize())
            && bp.is_little_endian()
            && !bp.is_embedded()
            && !bp.dmu_type().is_metadata()
            && bp.compression() != Compression::Off
            && bp.psize() < bp.lsize()
    }

    fn splits(&self, size: u32) -> bool {
        size > OLD_MAX_BLOCK_SIZE && !self.has(StreamFeatures::LARGE_BLOCKS)
    }

    fn bookmark(&self, id: ObjectId, blkid: u64) -> Bookmark {
        Bookmark::new(self.objset, id, 0, blkid)
    }

    fn block(&self, w: &mut StreamWriter<'_>, object: &ObjectFacts, bp: &BlkPtr, blkid: u64) -> Result<()> {
        if bp.embedded_type().is_some_and(|t| t != EmbeddedType::Data) {
            return Err(Error::Unsupported);
        }
        if bp.level() != 0 || bp.lsize() != object.block_size {
            return Err(Error::Damaged);
        }
        let offset = blkid.saturating_mul(object.block_size.into());
        if self.embeds(bp) {
            return self.write_embedded(w, object, bp, offset);
        }
        let mut record = self.write_record(object, bp, offset);
        let is_compressed = self.goes_compressed(bp);
        if is_compressed {
            record.compression = bp.compression();
            record.compressed_size = bp.psize();
        }
        if w.is_measuring() && !self.splits(bp.lsize()) {
            let len = record.payload_len();
            return w.record(&Record::Write(record), &Payload::Unread(len));
        }
        if w.is_measuring() {
            return self.write_split(w, record, None);
        }
        let bookmark = self.bookmark(object.id, blkid);
        let data = match is_compressed {
            true => self.storage.read_stored(bp, bookmark, Priority::SyncRead)?,
            false => self.storage.read(bp, bookmark, Priority::SyncRead)?.abd().clone(),
        };
        if self.splits(bp.lsize()) {
            return self.write_split(w, record, Some(&data));
        }
        w.record(&Record::Write(record), &Payload::Block(&data))
    }

    fn write_record(&self, object: &ObjectFacts, bp: &BlkPtr, offset: u64) -> StreamWrite {
        let mut record = StreamWrite {
            object: object.id,
            kind: bp.dmu_type(),
            offset,
            logical_size: bp.lsize(),
            to_guid: self.to_guid(),
            checksum: Checksum::Off,
            flags: RecordFlags::empty(),
            compression: Compression::Inherit,
            key_digest: Digest::default(),
            key_prop: 0,
            compressed_size: 0,
        };
        // Pieces of a block, and what was decoded from a pointer, have no checksum of their own.
        if !bp.is_embedded() && !self.splits(bp.lsize()) {
            record.checksum = bp.checksum_alg();
            let is_strong = matches!(
                bp.checksum_alg(),
                Checksum::Sha256 | Checksum::Sha512 | Checksum::Skein | Checksum::EdonR | Checksum::Blake3
            );
            record.flags.set(RecordFlags::CHECKSUM_DEDUP, is_strong);
            record.key_digest = bp.digest();
            let sectors = |bytes: u32| u64::from(bytes >> ondisk::blkptr::SECTOR_SHIFT) - 1;
            record.key_prop =
                sectors(bp.lsize()) | sectors(bp.psize()) << 16 | u64::from(bp.compression().id()) << 32;
        }
        record
    }

    fn write_split(&self, w: &mut StreamWriter<'_>, whole: StreamWrite, data: Option<&Abd>) -> Result<()> {
        let mut at = 0;
        while at < whole.logical_size {
            let n = OLD_MAX_BLOCK_SIZE.min(whole.logical_size - at);
            let record = StreamWrite { offset: whole.offset + u64::from(at), logical_size: n, ..whole };
            let piece = data.map(|data| data.slice(at as usize..(at + n) as usize));
            let payload = piece.as_ref().map_or(Payload::Unread(n as usize), Payload::Block);
            w.record(&Record::Write(record), &payload)?;
            at += n;
        }
        Ok(())
    }

    fn write_embedded(
        &self,
        w: &mut StreamWriter<'_>,
        object: &ObjectFacts,
        bp: &BlkPtr,
        offset: u64,
    ) -> Result<()> {
        let record = Embedded {
            object: object.id,
            offset,
            length: object.block_size,
            to_guid: self.to_guid(),
            compression: bp.compression(),
            etype: EmbeddedType::Data as u8,
            lsize: bp.lsize(),
            psize: bp.psize(),
        };
        let mut payload = bp.payload();
        payload[bp.psize() as usize..].fill(0);
        let len = (bp.psize() as usize).next_multiple_of(8);
        w.record(&Record::WriteEmbedded(record), &Payload::Bytes(&payload[..len]))
    }

    fn spill(&self, w: &mut StreamWriter<'_>, id: ObjectId, bp: &BlkPtr) -> Result<()> {
        let mut flags = RecordFlags::empty();
        flags.set(RecordFlags::SPILL, bp.birth() <= self.after);
        let length = if bp.is_embedded() { bp.lsize().next_multiple_of(512) } else { bp.lsize() };
        let kind = ondisk::DmuType::NONE;
        let record = Record::Spill(Spill { object: id, length, to_guid: self.to_guid(), flags, kind });
        if w.is_measuring() {
            return w.record(&record, &Payload::Unread(length as usize));
        }
        let bookmark = self.bookmark(id, Bookmark::SPILL_BLKID);
        let data = self.storage.read(bp, bookmark, Priority::SyncRead)?.abd().clone();
        if data.len() == length as usize {
            return w.record(&record, &Payload::Block(&data));
        }
        let mut bytes = data.to_vec();
        bytes.resize(length as usize, 0);
        w.record(&record, &Payload::Bytes(&bytes))
    }
}

/// The window between the walk and the writer.
struct Queue<'a, 'b> {
    dump: &'a Dump<'a>,
    writer: &'a mut StreamWriter<'b>,
    jobs: VecDeque<Job>,
    bytes: usize,
}

impl Queue<'_, '_> {
    fn add(&mut self, item: Item<'_>) -> Result<()> {
        let to_guid = self.dump.to_guid();
        match item {
            Item::FreeObjects { first, count } => {
                self.push(Job::FreeObjects(FreeObjects { first, count, to_guid }))
            }
            Item::Object { id, core, bytes } => self.add_object(id, &core, bytes),
            Item::Hole { object, offset, length } => {
                self.push(Job::Free(Range { object: object.id, offset, length, to_guid }))
            }
            Item::Block { object, bp, blkid } => {
                self.prefetch(&bp);
                self.push(Job::Block { object, bp, blkid })
            }
            Item::Spill { id, bp } => {
                self.prefetch(&bp);
                self.push(Job::Spill { id, bp })
            }
        }
    }

    fn add_object(&mut self, id: ObjectId, core: &DnodePhys, bytes: &[u8]) -> Result<()> {
        let mut bonus = core.bonus(bytes)?.to_vec();
        bonus.resize(bonus.len().next_multiple_of(8), 0);
        self.push(Job::Record(Record::Object(self.dump.object_record(id, core)), bonus))?;
        let offset = core.max_blkid.saturating_add(1).saturating_mul(core.block_size.into());
        let to_guid = self.dump.to_guid();
        self.push(Job::Free(Range { object: id, offset, length: TO_THE_END, to_guid }))?;
        match core.spill(bytes)? {
            // Receivers that do not know what OBJECT says of spill blocks may drop one that has not changed.
            Some(bp) if !bp.is_hole() && bp.birth() <= self.dump.after => {
                self.prefetch(&bp);
                self.push(Job::Spill { id, bp })
            }
            _ => Ok(()),
        }
    }

    fn prefetch(&self, bp: &BlkPtr) {
        if !bp.is_embedded() && !self.writer.is_measuring() {
            self.dump.storage.prefetch(bp, Bookmark::root(self.dump.objset));
        }
    }

    fn push(&mut self, job: Job) -> Result<()> {
        self.bytes += job.bytes();
        self.jobs.push_back(job);
        while self.bytes > WINDOW_BYTES || self.jobs.len() > WINDOW_RECORDS {
            self.write_first()?;
        }
        Ok(())
    }

    /// Writes what is first; false when nothing waits.
    fn write_first(&mut self) -> Result<bool> {
        let Some(job) = self.jobs.pop_front() else {
            return Ok(false);
        };
        self.bytes -= job.bytes();
        let w = &mut *self.writer;
        match job {
            Job::Record(record, payload) => w.record(&record, &Payload::Bytes(&payload))?,
            Job::Free(range) => w.free(range)?,
            Job::FreeObjects(range) => w.free_objects(range)?,
            Job::Block { object, bp, blkid } => self.dump.block(w, &object, &bp, blkid)?,
            Job::Spill { id, bp } => self.dump.spill(w, id, &bp)?,
        }
        Ok(true)
    }
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Record(_, payload) => payload.len(),
            Self::Block { bp, .. } | Self::Spill { bp, .. } => bp.lsize() as usize,
            Self::Free(_) | Self::FreeObjects(_) => 0,
        }
    }
}
