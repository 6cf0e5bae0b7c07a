//! Figures that can be counted again: features' refcounts, space of datasets and directories.
use super::{Finding, Report, deadlists, livelists};
use crate::Result;
use crate::brt;
use crate::dsl::bpobj::Sums;
use crate::dsl::deadlist::{self, Deadlist};
use crate::dsl::dir;
use crate::dsl::limits::{self, Counted};
use crate::dsl::livelist;
use crate::dsl::names::Entry;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::zio::Storage;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use ondisk::dsl::{DdUsed, DslDatasetFlags, DslDatasetPhys, DslDirFlags};
use ondisk::feature::{FEATURES, Feature, FeatureFlags};
use ondisk::space_map::SPACE_MAP_SIZE_V1;
use ondisk::{DmuType, ObjectId};

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    features: BTreeMap<Feature, u64>,
    /// By parent: the sum of the children's use, and of what reservations set aside beyond it.
    children: BTreeMap<u64, (u64, u64)>,
    dirs: BTreeMap<u64, String>,
    /// By directory: what its snapshots are charged, from dead lists; `None` where that cannot be told.
    snapshots: BTreeMap<u64, Option<u64>>,
    /// By directory: its parent, if it counts there, and its own snapshots that count.
    limited: BTreeMap<u64, (u64, u64)>,
}

impl Counts {
    fn count(&mut self, feature: Feature) {
        *self.features.entry(feature).or_default() += 1;
    }

    /// Counts a directory (met once for itself and once for each snapshot).
    pub(super) fn dir(&mut self, mos: &Mos, entry: &Entry) -> Result<()> {
        if entry.is_snapshot {
            let own = self.limited.entry(entry.dir.0).or_default();
            own.1 += u64::from(entry.name.rsplit('@').next().is_some_and(limits::is_counted));
            return Ok(());
        }
        let dir = dir::read(mos, entry.dir)?;
        let is_counted = entry.name.rsplit('/').next().is_some_and(limits::is_counted);
        self.limited.insert(entry.dir.0, (if is_counted { dir.parent.0 } else { 0 }, 0));
        self.dirs.insert(entry.dir.0, entry.name.clone());
        let sums = self.children.entry(dir.parent.0).or_default();
        sums.0 = sums.0.wrapping_add(dir.used_bytes);
        sums.1 = sums.1.wrapping_add(dir.reserved.saturating_sub(dir.used_bytes));
        if mos.kind(entry.dir)? == DmuType::OTN_ZAP_METADATA {
            self.count(Feature::ExtensibleDataset);
        }
        if let Some(list) = livelist::of(mos, entry.dir)? {
            self.live_list(mos, list)?;
        }
        Ok(())
    }

    /// Counts a live list, and its references to the shared empty list.
    pub(super) fn live_list(&mut self, mos: &Mos, list: ObjectId) -> Result<()> {
        self.count(Feature::Livelist);
        self.empty_lists(mos, list)
    }

    fn empty_lists(&mut self, mos: &Mos, list: ObjectId) -> Result<()> {
        let Some(empty) = mos.empty_bpobj() else {
            return Ok(());
        };
        for object in Deadlist::load(mos, list)?.lists() {
            if object == empty {
                self.count(Feature::EmptyBpobj);
            }
        }
        Ok(())
    }

    /// Counts the features a dataset is noted to use, and its references to the shared empty list.
    pub(super) fn features(&mut self, mos: &Mos, id: ObjectId) -> Result<()> {
        if mos.kind(id)? == DmuType::OTN_ZAP_METADATA {
            self.count(Feature::ExtensibleDataset);
            mos.for_each_name(id, &mut |name| {
                if let Some(feature) = Feature::from_guid(name) {
                    self.count(feature);
                }
                Ok(())
            })?;
        }
        let list = dir::read_dataset(mos, id)?.deadlist;
        if list.is_none() { Ok(()) } else { self.empty_lists(mos, list) }
    }

    /// Checks a dataset's or snapshot's figures against the blocks that were walked: those born after the snapshot
    /// before it.
    pub(super) fn dataset(
        &mut self,
        mos: &Mos,
        entry: &Entry,
        ds: &DslDatasetPhys,
        walked: Sums,
        report: &mut Report,
    ) -> Result<()> {
        if !entry.is_snapshot && ds.flags.contains(DslDatasetFlags::UNIQUE_ACCURATE) {
            compare(report, format!("{}: unique", entry.name), ds.unique_bytes, walked.used);
        }
        let dead = deadlists::check(mos, entry, ds, report)?;
        if !entry.is_snapshot {
            livelists::check(mos, entry, ds, walked, report)?;
        }
        let sum = self.snapshots.entry(entry.dir.0).or_insert(Some(0));
        *sum = sum.zip(dead).map(|(sum, dead)| sum.wrapping_add(dead));
        // It refers to what the snapshot before it did, less what it gave up since, plus what it wrote.
        let mut expected = walked;
        if let Some(prev) = ds.prev_snap.non_zero() {
            let before = dir::read_dataset(mos, prev)?;
            let dead =
                if ds.deadlist.is_none() { Sums::default() } else { deadlist::sums(mos, ds.deadlist)? };
            let sum = |new: u64, old: u64, dead: u64| new.wrapping_add(old).wrapping_sub(dead);
            expected = Sums {
                used: sum(walked.used, before.referenced_bytes, dead.used),
                compressed: sum(walked.compressed, before.compressed_bytes, dead.compressed),
                uncompressed: sum(walked.uncompressed, before.uncompressed_bytes, dead.uncompressed),
            };
        }
        compare(report, format!("{}: referenced", entry.name), ds.referenced_bytes, expected.used);
        compare(report, format!("{}: compressed", entry.name), ds.compressed_bytes, expected.compressed);
        compare(
            report,
            format!("{}: uncompressed", entry.name),
            ds.uncompressed_bytes,
            expected.uncompressed,
        );
        Ok(())
    }
}

pub(super) fn compare(report: &mut Report, what: String, stored: u64, counted: u64) {
    if stored != counted {
        report.add(Finding::Accounting { what, stored, counted });
    }
}

/// Checks what can only be checked at the end.
pub(super) fn check(mos: &Mos, storage: &Storage, counts: &Counts, report: &mut Report) -> Result<()> {
    check_dirs(mos, counts, report)?;
    check_limits(mos, counts, report)?;
    check_features(mos, storage, counts, report)
}

fn check_dirs(mos: &Mos, counts: &Counts, report: &mut Report) -> Result<()> {
    for (id, name) in &counts.dirs {
        let dir = dir::read(mos, ObjectId(*id))?;
        if !dir.flags.contains(DslDirFlags::USED_BREAKDOWN) {
            continue;
        }
        let (used, reserved) = counts.children.get(id).copied().unwrap_or_default();
        let part = |kind: DdUsed| dir.used_breakdown[kind as usize];
        compare(report, format!("{name}: used by children"), part(DdUsed::Child), used);
        compare(report, format!("{name}: reserved by children"), part(DdUsed::ChildReserved), reserved);
        if let Some(Some(sum)) = counts.snapshots.get(id) {
            compare(report, format!("{name}: used by snapshots"), part(DdUsed::Snap), *sum);
        }
        let sum = dir.used_breakdown.iter().fold(0u64, |sum, part| sum.wrapping_add(*part));
        compare(report, format!("{name}: used"), dir.used_bytes, sum);
    }
    Ok(())
}

/// Counts file systems and snapshots again where they are counted.
fn check_limits(mos: &Mos, counts: &Counts, report: &mut Report) -> Result<()> {
    let mut sums: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
    for (id, (parent, nr_snapshots)) in &counts.limited {
        sums.entry(*id).or_default()[1] += nr_snapshots;
        let (mut at, mut depth) = (*parent, 0);
        while at != 0 && depth < dir::DEPTH_MAX {
            let above = sums.entry(at).or_default();
            above[0] += 1;
            above[1] += nr_snapshots;
            at = counts.limited.get(&at).map_or(0, |(parent, _)| *parent);
            depth += 1;
        }
    }
    for (id, name) in &counts.dirs {
        let counted = sums.get(id).copied().unwrap_or_default();
        for (what, counted) in [Counted::Filesystems, Counted::Snapshots].into_iter().zip(counted) {
            if let Some(stored) = limits::count(mos, ObjectId(*id), what)? {
                compare(report, format!("{name}: number of {what:?}"), stored, counted);
            }
        }
    }
    Ok(())
}

fn check_features(mos: &Mos, storage: &Storage, counts: &Counts, report: &mut Report) -> Result<()> {
    let mut counted = counts.features.clone();
    let enabled_txg = mos.feature_objects().enabled_txg;
    if !enabled_txg.is_none() {
        counted.insert(Feature::EnabledTxg, mos.zap(enabled_txg)?.len()?);
    }
    counted.insert(Feature::SpacemapHistogram, nr_histogram_maps(mos)?);
    let nr_classed = storage.vdevs().iter().filter(|v| v.info().class.is_counted()).count();
    counted.insert(Feature::AllocationClasses, nr_classed as u64);
    let nr_tables = brt::nr_tables(mos, storage)?;
    counted.insert(Feature::BlockCloning, nr_tables);
    if features::is_active(mos, Feature::BlockCloningEndian)? {
        // Active with all tables or with none.
        counted.insert(Feature::BlockCloningEndian, nr_tables);
    }
    for info in FEATURES {
        let Some(stored) = features::refcount(mos, info.id)? else {
            continue;
        };
        let is_countable = info.flags.contains(FeatureFlags::PER_DATASET)
            || matches!(
                info.id,
                Feature::EnabledTxg
                    | Feature::SpacemapHistogram
                    | Feature::EmptyBpobj
                    | Feature::AllocationClasses
                    | Feature::ExtensibleDataset
                    | Feature::BlockCloning
                    | Feature::BlockCloningEndian
                    | Feature::Livelist
            );
        let counted = counted.get(&info.id).copied().unwrap_or(0);
        if is_countable && stored != counted {
            report.add(Finding::FeatureCount { guid: String::from(info.guid), stored, counted });
        }
    }
    Ok(())
}

/// Space maps whose bonus has room for a histogram, whatever they are for.
fn nr_histogram_maps(mos: &Mos) -> Result<u64> {
    let mut count = 0;
    let mut at = ObjectId(0);
    while let Some(id) = mos.objset().next_object(at)? {
        at = id;
        let dnode = mos.hold(id)?;
        if dnode.kind() == DmuType::SPACE_MAP && usize::from(dnode.bonus_len()) >= SPACE_MAP_SIZE_V1 {
            count += 1;
        }
    }
    Ok(count)
}
