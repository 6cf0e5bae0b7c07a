//! Dead lists against what they say of themselves, and the figures of snapshots that follow from them.
use super::counts::compare;
use super::{Finding, Report};
use crate::Result;
use crate::dsl::bpobj::{self, Sums};
use crate::dsl::deadlist::{self, Deadlist};
use crate::dsl::dir;
use crate::dsl::names::Entry;
use crate::spa::mos::Mos;
use alloc::format;
use ondisk::Txg;
use ondisk::dsl::{DslDatasetFlags, DslDatasetPhys};

/// Checks the dead list of a dataset or snapshot; what of it its directory's snapshots are charged, `None` where that
/// cannot be told (lists of the oldest form, damage).
pub(super) fn check(
    mos: &Mos,
    entry: &Entry,
    ds: &DslDatasetPhys,
    report: &mut Report,
) -> Result<Option<u64>> {
    if ds.deadlist.is_none() {
        return Ok(Some(0));
    }
    let list = Deadlist::load(mos, ds.deadlist)?;
    let Some(buckets) = list.buckets() else {
        return Ok(None);
    };
    let mut total = Sums::default();
    let mut keys = buckets.keys().copied().skip(1).chain([u64::MAX]);
    let mut is_good = true;
    for (key, bucket) in buckets {
        let (mut counted, until) = (Sums::default(), keys.next().unwrap_or(u64::MAX));
        bpobj::for_each(mos, *bucket, &mut |bp| {
            counted.add(Sums::of(mos.storage(), bp));
            let birth = bp.birth().0;
            is_good &= birth > *key && birth <= until && birth <= ds.prev_snap_txg.0;
            Ok(())
        })?;
        let stored = bpobj::sums(mos, *bucket)?;
        compare(report, format!("{}: dead list bucket {key:x}", entry.name), stored.used, counted.used);
        total.add(stored);
    }
    if !is_good {
        report.add(Finding::Damaged {
            what: format!("dead list of {}: a block in the wrong bucket", entry.name),
        });
    }
    let header = deadlist::sums(mos, ds.deadlist)?;
    compare(report, format!("{}: dead list", entry.name), header.used, total.used);
    compare(report, format!("{}: dead list, compressed", entry.name), header.compressed, total.compressed);
    check_unique(mos, entry, ds, report)?;
    let origin = match dir::read(mos, ds.dir)?.origin.non_zero() {
        Some(origin) => dir::read_dataset(mos, origin)?.creation_txg,
        None => Txg::ZERO,
    };
    Ok(Some(list.sum_range(mos, origin, Txg(u64::MAX))?.used))
}

/// A snapshot alone holds what was born for it and the one after it has given up.
fn check_unique(mos: &Mos, entry: &Entry, ds: &DslDatasetPhys, report: &mut Report) -> Result<()> {
    if !entry.is_snapshot || !ds.flags.contains(DslDatasetFlags::UNIQUE_ACCURATE) {
        return Ok(());
    }
    let next = dir::read_dataset(mos, ds.next_snap)?;
    if let list @ Deadlist::Buckets { .. } = Deadlist::load(mos, next.deadlist)? {
        let unique = list.sum_range(mos, ds.prev_snap_txg, Txg(u64::MAX))?.used;
        compare(report, format!("{}: unique", entry.name), ds.unique_bytes, unique);
    }
    Ok(())
}
