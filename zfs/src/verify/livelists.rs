//! Live lists against their clones' trees.
use super::counts::compare;
use super::{Finding, Report};
use crate::Result;
use crate::dsl::bpobj::{self, Sums};
use crate::dsl::deadlist::{self, Deadlist};
use crate::dsl::names::Entry;
use crate::dsl::{dir, livelist};
use crate::spa::mos::Mos;
use alloc::format;
use ondisk::dsl::DslDatasetPhys;

/// Checks a head's live list, if it has one: what it says of itself, where its blocks are, and, when the head has no
/// snapshots of its own, that it says of the head what its tree does. `walked`: the blocks born after the last snapshot.
pub(super) fn check(
    mos: &Mos,
    entry: &Entry,
    ds: &DslDatasetPhys,
    walked: Sums,
    report: &mut Report,
) -> Result<()> {
    let Some(id) = livelist::of(mos, ds.dir)? else {
        return Ok(());
    };
    let list = Deadlist::load(mos, id)?;
    let Some(buckets) = list.buckets() else {
        report.add(Finding::Damaged { what: format!("live list of {}: not in buckets", entry.name) });
        return Ok(());
    };
    let mut total = Sums::default();
    let mut until = buckets.keys().copied().skip(1).chain([u64::MAX]);
    let mut is_good = true;
    for (key, bucket) in buckets {
        let until = until.next().unwrap_or(u64::MAX);
        bpobj::for_each(mos, *bucket, &mut |bp| {
            is_good &= bp.birth().0 > *key && bp.birth().0 <= until;
            Ok(())
        })?;
        total.add(bpobj::sums(mos, *bucket)?);
    }
    if !is_good {
        report.add(Finding::Damaged {
            what: format!("live list of {}: a block in the wrong bucket", entry.name),
        });
    }
    compare(report, format!("{}: live list", entry.name), deadlist::sums(mos, id)?.used, total.used);
    let mut counted = Sums::default();
    livelist::for_each_block(mos, id, &mut |bp| {
        counted.add(Sums::of(mos.storage(), bp));
        Ok(())
    })?;
    compare(report, format!("{}: live list's blocks", entry.name), total.used, counted.used);
    if dir::read(mos, ds.dir)?.origin == ds.prev_snap {
        compare(report, format!("{}: live list of its tree", entry.name), counted.used, walked.used);
        let what = format!("{}: live list of its tree, compressed", entry.name);
        compare(report, what, counted.compressed, walked.compressed);
    }
    Ok(())
}
