//! Why a pool cannot be opened, and what to do: the detail is on the labels and in the events.
use crate::host_id;
use blockdev::BlockDevice;
use std::collections::BTreeSet;
use std::sync::Arc;
use zfs::Error;
use zfs::event::Event;
use zfs::spa::{ImportOptions, LabelSummary, PoolState, Spa};

/// What is said when the import of the image `name` failed with `error`.
pub(super) fn on_import(
    error: Error,
    name: &str,
    options: &ImportOptions,
    devices: &[Arc<dyn BlockDevice>],
) -> String {
    let labels: Vec<LabelSummary> = devices.iter().filter_map(|d| Spa::probe(d).ok()).collect();
    let pools: BTreeSet<&str> = labels.iter().map(|l| l.pool.as_str()).collect();
    let why = match error {
        Error::Busy => busy(name, options, &labels),
        Error::MissingLog => format!(
            "a log device of the pool is missing: name its file too; or, if it is lost, give up the changes that only it \
             holds: zeo pool import -m {name}, or zeo pool remove -m {name} LOG"
        ),
        Error::MissingVdev => missing(&labels),
        Error::NoLabel => {
            "there is no pool on it; 'zeo pool create' makes one, 'zeo build' an image with one".into()
        }
        Error::Invalid if pools.len() > 1 => {
            let pools: Vec<&str> = pools.into_iter().collect();
            format!("the files belong to several pools ({}); name those of one", pools.join(", "))
        }
        Error::NotFound if options.rewind_to_checkpoint => "the pool has no checkpoint to go back to".into(),
        Error::NotFound => {
            "no pool can be opened: it was destroyed, or this is a spare or cache device of another; name the files of the \
             pool's data"
                .into()
        }
        Error::UnsupportedFeature | Error::FeatureReadOnly => features(options),
        Error::Checksum | Error::Damaged | Error::NoUberblock | Error::Io => {
            "no pool can be opened: it is damaged; if it has further devices, name them too (a.img,b.img); else restore it \
             from a backup"
                .into()
        }
        _ => "no pool can be opened".into(),
    };
    format!("{name}: {why}")
}

/// Why a pool is not opened that may be in use.
fn busy(name: &str, options: &ImportOptions, labels: &[LabelSummary]) -> String {
    if options.hostid == 0 && (options.force || labels.iter().any(|l| l.state == PoolState::Exported)) {
        return format!("the pool has multihost protection, and {}", host_id::ADVICE);
    }
    if options.force {
        return "another machine has the pool open: it shows signs of life; export it there".into();
    }
    format!(
        "another machine used the pool last and did not export it; export it there, or, if it is gone for good, take it \
         over: zeo pool import -f {name}"
    )
}

/// Which devices a pool lacks, as far as the labels of the others name them.
fn missing(labels: &[LabelSummary]) -> String {
    let pool = labels.first().map_or("?", |l| l.pool.as_str());
    let here: BTreeSet<u64> = labels.iter().map(|l| l.guid).collect();
    let absent = labels.iter().flat_map(|l| &l.leaves).filter(|leaf| !here.contains(&leaf.guid));
    let mut absent: Vec<String> = absent.map(|leaf| leaf.path.clone()).collect();
    absent.sort();
    absent.dedup();
    let tops: BTreeSet<u64> = labels.iter().map(|l| l.top_guid).collect();
    let nr_tops = labels.iter().map(|l| l.nr_top_vdevs).max().unwrap_or(0);
    let nr_unseen = nr_tops.saturating_sub(tops.len() as u64);
    if nr_unseen > 0 {
        absent.push(format!("those of {nr_unseen} further vdevs"));
    }
    format!(
        "too many devices of the pool '{pool}' are missing: {}; name all its files, joined by commas (a.img,b.img)",
        absent.join(", ")
    )
}

/// Which features stand in the way.
fn features(options: &ImportOptions) -> String {
    let named = options.events.snapshot().into_iter().filter_map(|event| match event {
        Event::Feature { guid, .. } => Some(guid),
        _ => None,
    });
    let named: Vec<String> = named.collect();
    format!("the pool uses features that this build cannot read: {}; open it with OpenZFS", named.join(", "))
}
