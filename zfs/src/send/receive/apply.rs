//! Records applied to objects.
//!
//! What it is not: it checks no checksums (the reader did), and gives nothing a name. Every record is a transaction of its
//! own; where a receive can be resumed, the same transaction group carries how far it came.
use crate::dmu::{DmuTx, Dnode, Objset, TxSpace};
use crate::send::dump::ResumePoint;
use crate::send::resume::ResumeState;
use crate::spa::Spa;
use crate::txg::TXG_SLOTS;
use crate::zio::Packed;
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use ondisk::feature::Feature;
use ondisk::stream::{
    BeginFlags, ByteOrder, Embedded, FreeObjects, Range, Record, RecordFlags, Spill, StreamWrite, TO_THE_END,
};
use ondisk::{Bookmark, Compression, DmuType, ObjectId, byteswap};
use rt::SpinLock;

/// How far each group in flight came: where to go on, bytes of the stream.
type Reached = [(u64, Option<(ResumePoint, u64)>); TXG_SLOTS];

/// Applies one stream.
pub(super) struct Applier {
    pub(super) spa: Arc<Spa>,
    pub(super) objset: Arc<Objset>,
    pub(super) order: ByteOrder,
    pub(super) flags: BeginFlags,
    /// Replaces whatever there is, even if it looks alike.
    pub(super) is_full: bool,
    /// Highest object of the stream.
    pub(super) max_object: u64,
    pub(super) max_block_size: u32,
    pub(super) max_slots: u8,
    /// The dataset, when how far it came is to be kept in it.
    pub(super) resumable: Option<ObjectId>,
    reached: Arc<SpinLock<Reached>>,
    /// The object used last.
    last: Option<Arc<Dnode>>,
}

/// What a stream's BEGIN and its target say.
pub(super) struct Setting {
    pub(super) order: ByteOrder,
    pub(super) flags: BeginFlags,
    pub(super) is_full: bool,
    pub(super) max_block_size: u32,
    pub(super) max_slots: u8,
    pub(super) resumable: Option<ObjectId>,
}

impl Applier {
    pub(super) fn new(spa: Arc<Spa>, objset: Arc<Objset>, setting: Setting) -> Self {
        Self {
            spa,
            objset,
            order: setting.order,
            flags: setting.flags,
            is_full: setting.is_full,
            max_object: 0,
            max_block_size: setting.max_block_size,
            max_slots: setting.max_slots,
            resumable: setting.resumable,
            reached: Arc::new(SpinLock::default()),
            last: None,
        }
    }

    /// Applies a record of which the stream's first `bytes` bytes are the end.
    ///
    /// # Errors
    /// `StreamDamaged` for what no sender writes, `Unsupported` for streams of kinds that are not received; writing's.
    pub(super) fn apply(&mut self, record: &Record, payload: Vec<u8>, bytes: u64) -> Result<()> {
        match record {
            Record::Object(r) => self.object(r, payload, bytes),
            Record::FreeObjects(r) => self.free_objects(r),
            Record::Write(r) => self.write(r, payload, bytes),
            Record::Free(r) => self.free(r),
            Record::Spill(r) => self.spill(r, payload),
            Record::WriteEmbedded(r) => self.write_embedded(r, &payload),
            Record::WriteByRef | Record::ObjectRange | Record::Redact(_) => Err(Error::Unsupported),
            Record::Begin(_) | Record::End(_) => Err(Error::StreamDamaged),
        }
    }

    /// The object, which must be there.
    fn hold(&mut self, id: ObjectId) -> Result<Arc<Dnode>> {
        if let Some(last) = self.last.as_ref().filter(|d| d.id() == id && !d.is_free()) {
            return Ok(last.clone());
        }
        let dnode = hold(&self.objset, id)?.ok_or(Error::StreamDamaged)?;
        self.last = Some(dnode.clone());
        Ok(dnode)
    }

    /// Notes how far the stream came with this transaction.
    pub(super) fn reach(&self, tx: &DmuTx, point: ResumePoint, bytes: u64) {
        let Some(id) = self.resumable else {
            return;
        };
        let txg = tx.txg();
        let is_first = {
            let mut reached = self.reached.lock();
            let slot = &mut reached[txg.slot()];
            let is_first = slot.0 != txg.0;
            *slot = (txg.0, Some((point, bytes)));
            is_first
        };
        if is_first {
            let reached = self.reached.clone();
            self.spa.at_sync(tx, move |spa, tx| {
                let (_, point) = reached.lock()[tx.txg().slot()];
                match point {
                    Some((point, bytes)) => ResumeState::store_point(spa.mos(), tx, id, point, bytes),
                    None => Ok(()),
                }
            });
        }
    }

    fn write(&mut self, record: &StreamWrite, payload: Vec<u8>, bytes: u64) -> Result<()> {
        let dnode = self.hold(record.object)?;
        let (mut data, mut packed) = (payload, None);
        if record.is_compressed() {
            let mut plain = vec![0; record.logical_size as usize];
            decompress(record.compression, &data, &mut plain)?;
            packed = self
                .keeps(&dnode, record)
                .then(|| Packed { compression: record.compression, data: Abd::copy_from(&data) });
            data = plain;
        } else {
            self.swap(record.kind, &mut data);
        }
        let space = TxSpace::write_range(record.offset, data.len() as u64, dnode.block_size());
        let tx = DmuTx::begin(&self.objset, space)?;
        match packed {
            Some(packed) => {
                let blkid = record.offset / u64::from(dnode.block_size());
                dnode
                    .set_block_packed(&tx, blkid, Abd::copy_from(&data), packed)
                    .map_err(damaged_if_too_large)?;
            }
            None => write_at(&dnode, &tx, record.offset, &data)?,
        }
        let point = ResumePoint { object: record.object.0, offset: record.offset };
        self.reach(&tx, point, bytes);
        Ok(())
    }

    /// Whether a compressed record is stored as it came: a whole block, in a form that this pool may have.
    fn keeps(&self, dnode: &Dnode, record: &StreamWrite) -> bool {
        let size = u64::from(dnode.block_size());
        let is_whole = u64::from(record.logical_size) == size && record.offset.is_multiple_of(size);
        let (psize, lsize) = (record.compressed_size as usize, record.logical_size as usize);
        let is_allowed =
            record.compression != Compression::Zstd || self.spa.has_feature(Feature::ZstdCompress);
        is_whole && is_allowed && self.spa.storage().can_keep(record.compression, psize, lsize)
    }

    fn write_embedded(&mut self, record: &Embedded, payload: &[u8]) -> Result<()> {
        let dnode = self.hold(record.object)?;
        let mut data = vec![0; record.lsize as usize];
        let payload = payload.get(..record.psize as usize).ok_or(Error::StreamDamaged)?;
        if record.etype != 0 {
            return Err(Error::Unsupported);
        }
        match record.compression {
            Compression::Off if payload.len() == data.len() => data.copy_from_slice(payload),
            Compression::Off => return Err(Error::StreamDamaged),
            alg => decompress(alg, payload, &mut data)?,
        }
        data.resize(record.length as usize, 0);
        // OpenZFS 2.3 sends an embedded spill block so: by the number that stands for it, times its size.
        if record.offset == Bookmark::SPILL_BLKID.wrapping_mul(record.length.into()) {
            return self.set_spill(&dnode, &data);
        }
        self.swap(dnode.kind(), &mut data);
        let space = TxSpace::write_range(record.offset, data.len() as u64, dnode.block_size());
        let tx = DmuTx::begin(&self.objset, space)?;
        write_at(&dnode, &tx, record.offset, &data)
    }

    fn free(&mut self, record: &Range) -> Result<()> {
        let is_sane = record.length == TO_THE_END || record.offset.checked_add(record.length).is_some();
        if !is_sane {
            return Err(Error::StreamDamaged);
        }
        let dnode = self.hold(record.object)?;
        let size = u64::from(dnode.block_size());
        let is_beyond = record.offset / size > dnode.max_blkid();
        if is_beyond {
            return Ok(());
        }
        let tx = DmuTx::begin(&self.objset, TxSpace::write(2 * size).net_free())?;
        dnode.free_range(&tx, record.offset, record.length)
    }

    fn spill(&mut self, record: &Spill, payload: Vec<u8>) -> Result<()> {
        let dnode = self.hold(record.object)?;
        // What OBJECT says of it has been done, and it has not changed.
        if self.flags.contains(BeginFlags::SPILL_BLOCK)
            && record.flags.contains(RecordFlags::SPILL)
            && dnode.has_spill()
        {
            return Ok(());
        }
        self.set_spill(&dnode, &payload)
    }

    fn set_spill(&mut self, dnode: &Dnode, data: &[u8]) -> Result<()> {
        let tx = DmuTx::begin(&self.objset, TxSpace::write(data.len() as u64))?;
        dnode.set_spill(&tx, Some(data)).map_err(damaged_if_too_large)
    }

    fn free_objects(&mut self, record: &FreeObjects) -> Result<()> {
        let end = record.first.checked_add(record.count).ok_or(Error::StreamDamaged)?;
        self.free_between(record.first, end)
    }

    /// Frees all objects of these numbers.
    pub(super) fn free_between(&mut self, first: u64, end: u64) -> Result<()> {
        self.last = None;
        let mut at = ObjectId(first.saturating_sub(1));
        while let Some(id) = self.objset.next_object(at)?.filter(|id| id.0 < end) {
            let tx = DmuTx::begin(&self.objset, TxSpace::names(1, 0).net_free())?;
            self.objset.free(&tx, id)?;
            at = id;
        }
        Ok(())
    }

    /// Turns data of the sender's byte order into ours.
    pub(super) fn swap(&self, kind: DmuType, data: &mut [u8]) {
        if self.order == ByteOrder::Big {
            byteswap::swap_block(kind, data);
        }
    }

    pub(super) fn forget_last(&mut self) {
        self.last = None;
    }
}

/// An object, if there is one.
pub(super) fn hold(objset: &Objset, id: ObjectId) -> Result<Option<Arc<Dnode>>> {
    if id.is_none() || id.0 >> ondisk::dnode::OBJECT_SHIFT != 0 {
        return Err(Error::StreamDamaged);
    }
    match objset.hold(id) {
        Ok(dnode) => Ok(Some(dnode)),
        Err(Error::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes a record's data: whole blocks take the data's memory, others are changed in place.
fn write_at(dnode: &Dnode, tx: &DmuTx, offset: u64, data: &[u8]) -> Result<()> {
    let size = u64::from(dnode.block_size());
    let is_whole = data.len() as u64 == size && offset.is_multiple_of(size);
    let written = match is_whole {
        true => dnode.set_block(tx, offset / size, Abd::copy_from(data)),
        false => dnode.write_slice(tx, offset, data),
    };
    // A stream that writes beyond the only block of an odd size, or beyond all offsets, is no sender's.
    written.map_err(damaged_if_too_large)
}

pub(super) fn damaged_if_too_large(error: Error) -> Error {
    match error {
        Error::TooLarge | Error::Invalid | Error::NotFound => Error::StreamDamaged,
        other => other,
    }
}

fn decompress(alg: Compression, bytes: &[u8], out: &mut [u8]) -> Result<()> {
    if alg == Compression::Off {
        if bytes.len() != out.len() {
            return Err(Error::StreamDamaged);
        }
        out.copy_from_slice(bytes);
        return Ok(());
    }
    codec::decompress(alg, bytes, out).map_err(|e| match e {
        codec::CodecError::Unsupported => Error::Unsupported,
        _ => Error::StreamDamaged,
    })
}
