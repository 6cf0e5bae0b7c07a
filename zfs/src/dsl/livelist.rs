//! Live lists: what a clone allocated and freed since its origin, so that destroying it need not walk its tree.
//!
//! A structure like a dead list under the clone's directory (`com.delphix:livelist`). It is an aid, never the truth: a
//! pool without it is whole. This build drops a clone's list when the clone is about to change, as OpenZFS does with
//! lists that do not pay, and destroys clones by their trees.
use super::{deadlist, dir};
use crate::Result;
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use ondisk::dsl::keys;
use ondisk::feature::Feature;
use ondisk::{DmuType, ObjectId};

/// The live list of a directory.
pub(crate) fn of(mos: &Mos, dir_id: ObjectId) -> Result<Option<ObjectId>> {
    if mos.kind(dir_id)? != DmuType::OTN_ZAP_METADATA {
        return Ok(None);
    }
    Ok(mos.zap_lookup(dir_id, keys::LIVELIST)?.and_then(|id| ObjectId(id).non_zero()))
}

/// Drops a directory's live list, if it has one.
pub(crate) fn remove(mos: &Mos, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
    let Some(list) = of(mos, dir_id)? else {
        return Ok(());
    };
    mos.zap_remove(tx, dir_id, keys::LIVELIST)?;
    deadlist::free(mos, tx, list)?;
    features::decrement(mos, tx, Feature::Livelist).map(drop)
}

/// Drops the live list of a dataset whose tree has changed.
pub(crate) fn dataset_changed(mos: &Mos, tx: &DmuTx, dataset: ObjectId) -> Result<()> {
    remove(mos, tx, dir::read_dataset(mos, dataset)?.dir)
}
