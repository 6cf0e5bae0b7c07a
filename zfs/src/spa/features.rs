//! The pool's feature flags on disk: reading them, judging them at import, and keeping their refcounts.
//!
//! `features_for_read` and `features_for_write` map a guid to its refcount; a key that is there means *enabled*, a
//! refcount above zero *active*. Whoever misses an active unknown one in the first cannot read the pool; in the
//! second, must not write it.
use super::feature::{FeatureInfo, Support, support};
use super::mos::Mos;
use crate::dmu::DmuTx;
use crate::event::{Event, EventLog};
use crate::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::feature::{Feature, FeatureFlags};
use ondisk::pool_directory as names;
use ondisk::{DmuType, ObjectId};

/// Where the feature objects are; version 28 and older pools have none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeatureObjects {
    pub(crate) for_read: ObjectId,
    pub(crate) for_write: ObjectId,
    pub(crate) descriptions: ObjectId,
    pub(crate) enabled_txg: ObjectId,
}

impl FeatureObjects {
    pub(crate) fn load(mos: &Mos) -> Result<Self> {
        let get = |name| mos.directory_entry(name).map(|o| o.unwrap_or_default());
        Ok(Self {
            for_read: get(names::FEATURES_FOR_READ)?,
            for_write: get(names::FEATURES_FOR_WRITE)?,
            descriptions: get(names::FEATURE_DESCRIPTIONS)?,
            enabled_txg: get(names::FEATURE_ENABLED_TXG)?,
        })
    }

    fn of(&self, feature: Feature) -> Option<ObjectId> {
        let object = if feature.is_readonly_compatible() { self.for_write } else { self.for_read };
        object.non_zero()
    }
}

/// Every enabled feature.
pub(crate) fn list(mos: &Mos) -> Result<Vec<FeatureInfo>> {
    let objects = mos.feature_objects();
    let mut all = Vec::new();
    for (object, is_ro) in [(objects.for_read, false), (objects.for_write, true)] {
        if object.is_none() {
            continue;
        }
        mos.for_each_u64(object, &mut |guid, refcount| {
            all.push(FeatureInfo {
                guid: String::from(guid),
                refcount,
                enabled_txg: None,
                is_read_only_compatible: is_ro,
                known: Feature::from_guid(guid),
            });
            Ok(())
        })?;
    }
    if !objects.enabled_txg.is_none() {
        for info in &mut all {
            info.enabled_txg = mos.zap_lookup(objects.enabled_txg, &info.guid)?;
        }
    }
    all.sort_by(|a, b| a.guid.cmp(&b.guid));
    Ok(all)
}

/// What the active features allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Features that forbid writing.
    pub(crate) read_only: Vec<String>,
}

/// Judges the active features at import.
///
/// Features counted per dataset do not stand in the way of the pool: a dataset that uses one which this build does
/// not read is refused when it is opened, the others are not. They do forbid writing, as accounting or freeing might
/// need them.
///
/// # Errors
/// `UnsupportedFeature`, after an event that names the feature.
pub(crate) fn judge(mos: &Mos, events: &EventLog) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for info in list(mos)?.into_iter().filter(|f| f.refcount > 0) {
        let level = info.known.map_or(Support::None, support);
        let is_per_dataset = info.known.is_some_and(|f| f.info().flags.contains(FeatureFlags::PER_DATASET));
        if level == Support::Write {
            continue;
        }
        let is_readable = level == Support::Read || info.is_read_only_compatible || is_per_dataset;
        events.post(Event::Feature { guid: info.guid.clone(), is_readable });
        if !is_readable {
            return Err(Error::UnsupportedFeature);
        }
        verdict.read_only.push(info.guid);
    }
    Ok(verdict)
}

/// The refcount, `None` when not enabled.
pub(crate) fn refcount(mos: &Mos, feature: Feature) -> Result<Option<u64>> {
    match mos.feature_objects().of(feature) {
        Some(object) => mos.zap_lookup(object, feature.guid()),
        None => Ok(None),
    }
}

pub(crate) fn is_enabled(mos: &Mos, feature: Feature) -> Result<bool> {
    Ok(refcount(mos, feature)?.is_some())
}

pub(crate) fn is_active(mos: &Mos, feature: Feature) -> Result<bool> {
    Ok(refcount(mos, feature)?.is_some_and(|n| n > 0))
}

/// Adds one reference; does nothing when the feature is not enabled. Returns the new count.
pub(crate) fn increment(mos: &Mos, tx: &DmuTx, feature: Feature) -> Result<u64> {
    add(mos, tx, feature, 1)
}

/// Drops one reference. Returns the new count.
pub(crate) fn decrement(mos: &Mos, tx: &DmuTx, feature: Feature) -> Result<u64> {
    add(mos, tx, feature, -1)
}

/// Changes the count by `change`; does nothing when the feature is not enabled.
pub(crate) fn add(mos: &Mos, tx: &DmuTx, feature: Feature, change: i64) -> Result<u64> {
    let (Some(object), Some(count)) = (mos.feature_objects().of(feature), refcount(mos, feature)?) else {
        return Ok(0);
    };
    let count = count.checked_add_signed(change).ok_or(Error::Damaged)?;
    mos.zap_update(tx, object, feature.guid(), count)?;
    let is_in_labels = feature.info().flags.contains(FeatureFlags::MOS);
    if is_in_labels && (count == 0 || (count == 1 && change > 0)) {
        mos.mark_config_dirty();
    }
    Ok(count)
}

/// Enables features on a new pool, each after what it needs, as one transaction group does.
pub(crate) fn enable_all(mos: &Mos, tx: &DmuTx, features: &[Feature]) -> Result<()> {
    for feature in features {
        let info = feature.info();
        let Some(object) = mos.feature_objects().of(*feature) else {
            return Err(Error::Invalid);
        };
        mos.zap_set_str(tx, mos.feature_objects().descriptions, info.guid, info.description)?;
        let initial = u64::from(info.flags.contains(FeatureFlags::ACTIVATE_ON_ENABLE));
        mos.zap_update(tx, object, info.guid, initial)?;
        if is_enabled(mos, Feature::EnabledTxg)? {
            if mos.feature_objects().enabled_txg.is_none() {
                let object = mos.create_zap(tx, DmuType::OTN_ZAP_METADATA, DmuType::NONE, 0)?;
                mos.set_directory_entry(tx, names::FEATURE_ENABLED_TXG, object)?;
                mos.reload_feature_objects()?;
            }
            increment(mos, tx, Feature::EnabledTxg)?;
            mos.zap_update(tx, mos.feature_objects().enabled_txg, info.guid, tx.txg().0)?;
        }
    }
    Ok(())
}

/// The guids that labels must list: active ones that must be known to read the MOS.
pub(crate) fn for_labels(mos: &Mos) -> Result<Vec<&'static str>> {
    let mut guids = Vec::new();
    for info in ondisk::feature::FEATURES.iter().filter(|f| f.flags.contains(FeatureFlags::MOS)) {
        if is_active(mos, info.id)? {
            guids.push(info.guid);
        }
    }
    Ok(guids)
}
