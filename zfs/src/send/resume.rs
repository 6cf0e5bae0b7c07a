//! What an interrupted receive leaves in its dataset's object, so that its sender can be told where to go on.
use super::dump::{BlockOptions, ResumePoint};
use super::token::ResumeToken;
use crate::Result;
use crate::dmu::DmuTx;
use crate::spa::mos::Mos;
use alloc::string::String;
use ondisk::{DmuType, ObjectId};

const FROM_GUID: &str = "com.delphix:resume_fromguid";
const TO_GUID: &str = "com.delphix:resume_toguid";
const TO_NAME: &str = "com.delphix:resume_toname";
const OBJECT: &str = "com.delphix:resume_object";
const OFFSET: &str = "com.delphix:resume_offset";
const BYTES: &str = "com.delphix:resume_bytes";
const LARGE_BLOCKS: &str = "com.delphix:resume_largeblockok";
const EMBEDDED: &str = "com.delphix:resume_embedok";
const COMPRESSED: &str = "com.delphix:resume_compressok";
const RAW: &str = "com.datto:resume_rawok";
const ALL: [&str; 10] =
    [FROM_GUID, TO_GUID, TO_NAME, OBJECT, OFFSET, BYTES, LARGE_BLOCKS, EMBEDDED, COMPRESSED, RAW];

/// The state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResumeState {
    /// 0: a full stream.
    pub(crate) from_guid: u64,
    pub(crate) to_guid: u64,
    pub(crate) to_name: String,
    pub(crate) point: ResumePoint,
    pub(crate) bytes: u64,
    pub(crate) blocks: BlockOptions,
}

impl ResumeState {
    /// Before the first record.
    pub(crate) const START: ResumePoint = ResumePoint { object: 1, offset: 0 };

    /// Reads it; `None` when the dataset has none.
    ///
    /// # Errors
    /// Reading's.
    pub(crate) fn load(mos: &Mos, id: ObjectId) -> Result<Option<Self>> {
        if mos.kind(id)? != DmuType::OTN_ZAP_METADATA {
            return Ok(None);
        }
        let Some(to_guid) = mos.zap_lookup(id, TO_GUID)? else {
            return Ok(None);
        };
        let number = |name: &str| mos.zap_lookup(id, name).map(Option::unwrap_or_default);
        let name = mos.zap_bytes(id, TO_NAME)?.unwrap_or_default();
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        Ok(Some(Self {
            from_guid: number(FROM_GUID)?,
            to_guid,
            to_name: String::from_utf8_lossy(name).into_owned(),
            point: ResumePoint { object: number(OBJECT)?, offset: number(OFFSET)? },
            bytes: number(BYTES)?,
            blocks: BlockOptions {
                large: mos.zap_has(id, LARGE_BLOCKS)?,
                compressed: mos.zap_has(id, COMPRESSED)?,
                embedded: mos.zap_has(id, EMBEDDED)?,
            },
        }))
    }

    /// Writes it, in syncing context.
    ///
    /// # Errors
    /// Writing's.
    pub(crate) fn store(&self, mos: &Mos, tx: &DmuTx, id: ObjectId) -> Result<()> {
        if self.from_guid != 0 {
            mos.zap_update(tx, id, FROM_GUID, self.from_guid)?;
        }
        mos.zap_update(tx, id, TO_GUID, self.to_guid)?;
        mos.zap_set_str(tx, id, TO_NAME, &self.to_name)?;
        Self::store_point(mos, tx, id, self.point, self.bytes)?;
        let flags = [
            (self.blocks.large, LARGE_BLOCKS),
            (self.blocks.embedded, EMBEDDED),
            (self.blocks.compressed, COMPRESSED),
        ];
        flags.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, name)| mos.zap_update(tx, id, name, 1))
    }

    /// Writes how far it came.
    ///
    /// # Errors
    /// Writing's.
    pub(crate) fn store_point(
        mos: &Mos,
        tx: &DmuTx,
        id: ObjectId,
        point: ResumePoint,
        bytes: u64,
    ) -> Result<()> {
        mos.zap_update(tx, id, OBJECT, point.object)?;
        mos.zap_update(tx, id, OFFSET, point.offset)?;
        mos.zap_update(tx, id, BYTES, bytes)
    }

    /// Removes it.
    ///
    /// # Errors
    /// Writing's.
    pub(crate) fn forget(mos: &Mos, tx: &DmuTx, id: ObjectId) -> Result<()> {
        if mos.kind(id)? != DmuType::OTN_ZAP_METADATA {
            return Ok(());
        }
        for name in ALL {
            if mos.zap_has(id, name)? {
                mos.zap_remove(tx, id, name)?;
            }
        }
        Ok(())
    }

    /// A stream with that state goes on where this one stopped.
    pub(crate) fn continues(&self, stream: &Self) -> bool {
        self.from_guid == stream.from_guid && self.to_guid == stream.to_guid && self.point == stream.point
    }

    /// As text for the sender.
    pub(crate) fn token(&self) -> ResumeToken {
        ResumeToken {
            from_guid: (self.from_guid != 0).then_some(self.from_guid),
            to_guid: self.to_guid,
            to_name: self.to_name.clone(),
            point: self.point,
            bytes: self.bytes,
            blocks: self.blocks,
            is_raw: false,
        }
    }
}
