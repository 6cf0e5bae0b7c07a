//! One snapshot's stream, from its BEGIN to its END.
use super::apply::{Applier, Setting};
use super::foreign;
use crate::send::dump::{BlockOptions, ResumePoint};
use crate::send::reader::StreamReader;
use crate::send::resume::ResumeState;
use crate::spa::Spa;
use crate::spa::receive::{Finish, Inbox, InboxSpec, history_line, is_extensible};
use crate::{Error, Result};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use nvpair::NvList;
use ondisk::blkptr::{MAX_BLOCK_SIZE, OLD_MAX_BLOCK_SIZE};
use ondisk::dnode::DNODE_SLOTS_MAX;
use ondisk::feature::Feature;
use ondisk::objset::ObjsetKind;
use ondisk::stream::{Begin, BeginFlags, ByteOrder, Record, StreamFeatures};

/// Where one stream goes.
pub(super) struct Target<'a> {
    pub(super) name: &'a str,
    pub(super) snapshot: &'a str,
    pub(super) force: bool,
    pub(super) resumable: bool,
    pub(super) origin: Option<&'a str>,
}

/// What a stream may ask for: all that does not need keys, or the rest of what was left out.
const RECEIVED: StreamFeatures = StreamFeatures::SA_SPILL
    .union(StreamFeatures::EMBED_DATA)
    .union(StreamFeatures::LZ4)
    .union(StreamFeatures::LARGE_BLOCKS)
    .union(StreamFeatures::RESUMING)
    .union(StreamFeatures::COMPRESSED)
    .union(StreamFeatures::LARGE_DNODE)
    .union(StreamFeatures::ZSTD)
    .union(StreamFeatures::HOLDS)
    .union(StreamFeatures::SWITCH_TO_LARGE_BLOCKS)
    .union(StreamFeatures::LONGNAME)
    .union(StreamFeatures::LARGE_MICROZAP);

/// What a stream needs of the pool.
const NEEDED: [(StreamFeatures, Feature); 4] = [
    (StreamFeatures::LARGE_BLOCKS, Feature::LargeBlocks),
    (StreamFeatures::LARGE_DNODE, Feature::LargeDnode),
    (StreamFeatures::LONGNAME, Feature::Longname),
    (StreamFeatures::LARGE_MICROZAP, Feature::LargeMicrozap),
];

/// Checks that a stream is of a kind that is received here.
///
/// # Errors
/// `Encrypted` for raw streams; `Unsupported` for redacted and deduplicated ones, for what is not known, and when the
/// pool lacks a feature; `StreamDamaged`.
pub(super) fn check(spa: &Spa, begin: &Begin) -> Result<()> {
    if begin.features.contains(StreamFeatures::RAW) {
        return Err(Error::Encrypted);
    }
    if !RECEIVED.contains(begin.features) {
        return Err(Error::Unsupported);
    }
    for (needed, feature) in NEEDED {
        if begin.features.contains(needed) && !spa.has_feature(feature) {
            return Err(Error::Unsupported);
        }
    }
    match begin.kind {
        ObjsetKind::Zfs | ObjsetKind::Zvol | ObjsetKind::Other => Ok(()),
        ObjsetKind::None | ObjsetKind::Meta => Err(Error::StreamDamaged),
    }
}

/// Receives the stream whose BEGIN was just read.
///
/// # Errors
/// As [`check`] and [`Spa::open_inbox`]; `StreamCut`, `StreamDamaged`; writing's. The target is then as it was; what was
/// received stays aside if it can be resumed.
pub(super) fn receive(
    spa: &Arc<Spa>,
    begin: &Begin,
    payload: &[u8],
    reader: &mut StreamReader<'_>,
    target: &Target<'_>,
) -> Result<()> {
    check(spa, begin)?;
    let point = resume_point(begin, payload)?;
    let state = state_of(begin, point.unwrap_or(ResumeState::START));
    let spec = InboxSpec {
        target: target.name,
        snapshot: target.snapshot,
        base_guid: begin.from_guid,
        is_clone: begin.flags.contains(BeginFlags::CLONE),
        origin: target.origin,
        kind: begin.kind,
        force: target.force,
        ignores_case: begin.flags.contains(BeginFlags::CASE_INSENSITIVE),
        has_large_blocks: begin.features.contains(StreamFeatures::LARGE_BLOCKS),
        resume: (target.resumable && point.is_none()).then(|| state.clone()),
        resuming: point.map(|_| state.clone()),
    };
    if spec.resume.is_some() && !spa.has_feature(Feature::ExtensibleDataset) {
        return Err(Error::Unsupported);
    }
    let inbox = spa.open_inbox(&spec)?;
    let received = records(spa, begin, reader, &inbox).and_then(|()| finish(spa, begin, target, &inbox));
    match received {
        Ok(()) => {
            spa.close_inbox(inbox);
            Ok(())
        }
        Err(error) => {
            // The first error is the one to tell.
            let _ = spa.discard_inbox(&inbox, is_interruption(error));
            Err(error)
        }
    }
}

/// After these a stream can go on; after others what was received is of no use.
fn is_interruption(error: Error) -> bool {
    matches!(
        error,
        Error::StreamCut
            | Error::StreamDamaged
            | Error::Fault
            | Error::Interrupted
            | Error::Io
            | Error::NoSpace
            | Error::Quota
    )
}

fn resume_point(begin: &Begin, payload: &[u8]) -> Result<Option<ResumePoint>> {
    if !begin.features.contains(StreamFeatures::RESUMING) {
        return Ok(None);
    }
    let list = NvList::decode_native(payload).map_err(|_| Error::StreamDamaged)?;
    let number = |name| list.get_u64(name).ok_or(Error::StreamDamaged);
    Ok(Some(ResumePoint { object: number("resume_object")?, offset: number("resume_offset")? }))
}

fn state_of(begin: &Begin, point: ResumePoint) -> ResumeState {
    ResumeState {
        from_guid: begin.from_guid,
        to_guid: begin.to_guid,
        to_name: begin.to_name.as_str().to_string(),
        point,
        bytes: 0,
        blocks: BlockOptions {
            large: begin.features.contains(StreamFeatures::LARGE_BLOCKS),
            compressed: begin.features.contains(StreamFeatures::COMPRESSED),
            embedded: begin.features.contains(StreamFeatures::EMBED_DATA),
        },
    }
}

/// Applies all records up to END.
fn records(spa: &Arc<Spa>, begin: &Begin, reader: &mut StreamReader<'_>, inbox: &Inbox) -> Result<()> {
    let id = ondisk::ObjectId(inbox.dataset.id());
    let keeps_state = inbox.is_resumable && is_extensible(spa, id)?;
    let before = match ResumeState::load(spa.mos(), id)? {
        Some(state) if keeps_state => state.bytes,
        _ => 0,
    };
    let setting = Setting {
        order: reader.order(),
        flags: begin.flags,
        is_full: begin.from_guid == 0,
        max_block_size: match spa.has_feature(Feature::LargeBlocks) {
            true => MAX_BLOCK_SIZE,
            false => OLD_MAX_BLOCK_SIZE,
        },
        max_slots: if spa.has_feature(Feature::LargeDnode) { DNODE_SLOTS_MAX as u8 } else { 1 },
        resumable: keeps_state.then_some(id),
    };
    let mut applier = Applier::new(spa.clone(), inbox.dataset.objset(), setting);
    let start = reader.bytes();
    loop {
        let (record, payload) = reader.read_record()?.ok_or(Error::StreamCut)?;
        if let Record::End(end) = &record {
            reader.check_end(end)?;
            if end.to_guid != begin.to_guid {
                return Err(Error::StreamDamaged);
            }
            break;
        }
        let bytes = before + (reader.bytes() - start);
        applier.apply(&record, payload, bytes)?;
    }
    if reader.order() == ByteOrder::Big {
        foreign::swap_attributes(&inbox.dataset.objset())?;
    }
    if begin.from_guid == 0 && inbox.base.is_some() {
        // On top of something else: what a full stream does not name is not in it.
        let first = applier.max_object.saturating_add(1);
        applier.free_between(first, u64::MAX)?;
    }
    Ok(())
}

fn finish(spa: &Arc<Spa>, begin: &Begin, target: &Target<'_>, inbox: &Inbox) -> Result<()> {
    let snapshot = String::from(target.snapshot);
    let finish = Finish {
        command: history_line(target.name, &snapshot),
        snapshot,
        guid: begin.to_guid,
        creation_time: begin.creation_time,
        force: target.force,
    };
    spa.finish_inbox(inbox, &finish)
}
