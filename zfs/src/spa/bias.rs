//! The allocation class of a top-level vdev, as its ZAP keeps it (`org.zfsonlinux:allocation_bias`).
//!
//! The configuration says only of log vdevs what they are. Special and dedup vdevs are counted by the feature
//! `allocation_classes`: one who does not know it must not write, or metadata would be put elsewhere than promised.
use super::features;
use super::mos::Mos;
use crate::dmu::DmuTx;
use crate::vdev::{AllocClass, VdevSpec};
use crate::{Error, Result};
use ondisk::ObjectId;
use ondisk::feature::Feature;
use ondisk::pool_directory as names;

/// The class that a vdev's ZAP names; `Normal` without ZAP or entry.
///
/// # Errors
/// `Damaged` for a name no class has; what reading the MOS gives.
pub(crate) fn read(mos: &Mos, top_zap: ObjectId) -> Result<AllocClass> {
    if top_zap.is_none() {
        return Ok(AllocClass::Normal);
    }
    let Some(bytes) = mos.zap_bytes(top_zap, names::VDEV_ALLOCATION_BIAS)? else {
        return Ok(AllocClass::Normal);
    };
    let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
    core::str::from_utf8(name).ok().and_then(AllocClass::from_name).ok_or(Error::Damaged)
}

/// Puts into the tree what the vdevs' ZAPs say; true if that changed anything.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_all(mos: &Mos, tops: &mut [VdevSpec]) -> Result<bool> {
    let mut has_changed = false;
    for top in tops {
        let class = read(mos, top.top_zap)?;
        if class != AllocClass::Normal && class != top.class {
            top.class = class;
            has_changed = true;
        }
    }
    Ok(has_changed)
}

/// Notes the class of a new vdev in its ZAP.
///
/// # Errors
/// `UnsupportedFeature` when the pool does not have `allocation_classes` and the class needs it.
pub(crate) fn write(mos: &Mos, tx: &DmuTx, top_zap: ObjectId, class: AllocClass) -> Result<()> {
    let Some(name) = class.name() else {
        return Ok(());
    };
    if class.is_counted() {
        if !features::is_enabled(mos, Feature::AllocationClasses)? {
            return Err(Error::UnsupportedFeature);
        }
        features::increment(mos, tx, Feature::AllocationClasses)?;
    }
    mos.zap_set_str(tx, top_zap, names::VDEV_ALLOCATION_BIAS, name)
}
