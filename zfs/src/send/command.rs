//! `zfs send`: a request carried out.
use super::dump::{Dump, ResumePoint};
use super::plan::{Part, Plan, SendSpec, plan};
use super::writer::{Payload, StreamWriter};
use super::{Sink, header};
use crate::dsl::{Dataset, DatasetKind, dir};
use crate::spa::mos::Mos;
use crate::spa::{Spa, features};
use crate::zap::Zap;
use crate::{Error, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::dsl::DslDatasetFlags;
use ondisk::feature::Feature;
use ondisk::objset::ObjsetKind;
use ondisk::stream::{Begin, BeginFlags, HeaderKind, Name, Record, StreamFeatures};
use ondisk::{DmuType, ObjectId, Txg};

/// Version of file systems from which on attributes may lie in spill blocks.
const ZPL_VERSION_SA: u64 = 5;

/// One stream of a request, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendPart {
    /// The snapshot.
    pub to: String,
    /// What it builds on; `None`: nothing.
    pub from: Option<String>,
    /// Bytes.
    pub bytes: u64,
}

impl Spa {
    /// Writes snapshots as a stream; the number of bytes.
    ///
    /// # Errors
    /// `NotFound`, `NoBase` when the base is no ancestor of the snapshot, `Invalid` for options that do not go together,
    /// `Encrypted`, `Unsupported` for redacted datasets, `Io`, `Checksum`, `Damaged`; the sink's.
    pub fn send(self: &Arc<Self>, spec: &SendSpec, sink: Sink<'_>) -> Result<u64> {
        let plan = plan(self, spec)?;
        let mut writer = StreamWriter::new(Some(sink));
        self.send_plan(spec, &plan, &mut writer, &mut |_, _| {})?;
        Ok(writer.bytes())
    }

    /// What [`Self::send`] would write, to the byte, without reading data.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_size(self: &Arc<Self>, spec: &SendSpec) -> Result<Vec<SendPart>> {
        let plan = plan(self, spec)?;
        let mut writer = StreamWriter::new(None);
        let mut parts = Vec::new();
        self.send_plan(spec, &plan, &mut writer, &mut |part, bytes| {
            let from = part.base.as_ref().map(|b| b.name.clone());
            parts.push(SendPart { to: part.name.clone(), from, bytes });
        })?;
        Ok(parts)
    }

    fn send_plan(
        self: &Arc<Self>,
        spec: &SendSpec,
        plan: &Plan,
        writer: &mut StreamWriter<'_>,
        done: &mut dyn FnMut(&Part, u64),
    ) -> Result<()> {
        if spec.is_compound() {
            self.send_header(spec, plan, writer)?;
        }
        for part in &plan.parts {
            let before = writer.bytes();
            writer.restart();
            self.send_part(spec, part, writer)?;
            done(part, writer.bytes() - before);
        }
        if spec.is_compound() { writer.compound_end(false) } else { Ok(()) }
    }

    fn send_header(&self, spec: &SendSpec, plan: &Plan, writer: &mut StreamWriter<'_>) -> Result<()> {
        let payload = match header::describe(self.mos(), spec, plan)? {
            Some(list) => header::pack(&list)?,
            None => Vec::new(),
        };
        let begin = Begin {
            header: HeaderKind::Compound,
            features: if spec.holds { StreamFeatures::HOLDS } else { StreamFeatures::empty() },
            creation_time: 0,
            kind: ObjsetKind::None,
            flags: BeginFlags::empty(),
            to_guid: 0,
            from_guid: 0,
            to_name: Name::new(&spec.to).map_err(|_| Error::NameTooLong)?,
            payload_len: u32::try_from(payload.len()).map_err(|_| Error::TooLarge)?,
        };
        writer.record(&Record::Begin(begin), &Payload::Bytes(&payload))?;
        writer.compound_end(true)
    }

    fn send_part(
        self: &Arc<Self>,
        spec: &SendSpec,
        part: &Part,
        writer: &mut StreamWriter<'_>,
    ) -> Result<()> {
        // Open as long as it is sent: what is open is not destroyed.
        let dataset = self.open_dataset(&part.name)?;
        if dataset.id() != part.id.0 {
            return Err(Error::Busy);
        }
        let ds = dir::read_dataset(self.mos(), part.id)?;
        let mut flags = BeginFlags::FREE_RECORDS | BeginFlags::SPILL_BLOCK;
        flags.set(BeginFlags::CLONE, part.base.as_ref().is_some_and(|b| b.is_clone));
        flags.set(BeginFlags::CASE_INSENSITIVE, ds.flags.contains(DslDatasetFlags::CASE_INSENSITIVE));
        let begin = Begin {
            header: HeaderKind::Substream,
            features: self.stream_features(spec, &dataset)?,
            creation_time: ds.creation_time,
            kind: dataset.objset().kind(),
            flags,
            to_guid: ds.guid,
            from_guid: part.base.as_ref().map_or(0, |b| b.guid),
            to_name: Name::new(&part.name).map_err(|_| Error::NameTooLong)?,
            payload_len: 0,
        };
        let dump = Dump {
            storage: self.storage(),
            objset: part.id.0,
            root: ds.bp,
            begin,
            after: part.base.as_ref().map_or(Txg::ZERO, |b| b.txg),
            resume: checked_resume(&dataset, spec.resume)?,
        };
        dump.run(writer)
    }

    fn stream_features(&self, spec: &SendSpec, dataset: &Dataset) -> Result<StreamFeatures> {
        let (mos, id) = (self.mos(), ObjectId(dataset.id()));
        if uses(mos, id, Feature::RedactedDatasets)? {
            return Err(Error::Unsupported);
        }
        let mut all = StreamFeatures::empty();
        if dataset.kind() == DatasetKind::Filesystem && zpl_version(dataset)? >= ZPL_VERSION_SA {
            all |= StreamFeatures::SA_SPILL;
        }
        let blocks = spec.blocks;
        all.set(StreamFeatures::LARGE_BLOCKS, blocks.large && uses(mos, id, Feature::LargeBlocks)?);
        all.set(StreamFeatures::LARGE_DNODE, uses(mos, id, Feature::LargeDnode)?);
        all.set(StreamFeatures::LONGNAME, uses(mos, id, Feature::Longname)?);
        all.set(StreamFeatures::LARGE_MICROZAP, uses(mos, id, Feature::LargeMicrozap)?);
        let embeds = blocks.embedded && features::is_active(mos, Feature::EmbeddedData)?;
        all.set(StreamFeatures::EMBED_DATA, embeds);
        all.set(StreamFeatures::COMPRESSED, blocks.compressed);
        if embeds || blocks.compressed {
            all.set(StreamFeatures::LZ4, features::is_active(mos, Feature::Lz4Compress)?);
            all.set(StreamFeatures::ZSTD, uses(mos, id, Feature::ZstdCompress)?);
        }
        all.set(StreamFeatures::RESUMING, spec.resume.is_some());
        Ok(all)
    }
}

/// Whether a dataset has ever used a feature.
pub(super) fn uses(mos: &Mos, dataset: ObjectId, feature: Feature) -> Result<bool> {
    Ok(mos.kind(dataset)? == DmuType::OTN_ZAP_METADATA && mos.zap_has(dataset, feature.guid())?)
}

fn zpl_version(dataset: &Dataset) -> Result<u64> {
    match Zap::hold(&dataset.objset(), ObjectId::ONE).and_then(|zap| zap.lookup_u64(b"VERSION")) {
        Ok(version) => Ok(version),
        Err(Error::NotFound) => Ok(0),
        Err(e) => Err(e),
    }
}

/// A stream can go on only at an object that the snapshot has.
fn checked_resume(dataset: &Dataset, resume: Option<ResumePoint>) -> Result<Option<ResumePoint>> {
    if let Some(point) = resume {
        dataset.objset().hold(ObjectId(point.object))?;
    }
    Ok(resume)
}
