//! Commands that change one thing: what the pool is asked, and what is said when it refuses.
use super::target::{self, About, Target};
use super::{destroy, names, space};
use crate::cli::dataset::{Create, Hold, Rename, Rollback};
use crate::failure::{DATA, Failure};
use anyhow::{Result, anyhow, bail};
use mkfs::pool::parse_property;
use vfs::TimeSpec;
use zfs::Error;
use zfs::dsl::{Property, PropertyValue};

const LIMITS: &str = "`zeo get IMAGE filesystem_limit,snapshot_limit` shows whose; set it higher, or to none";

/// `NAME=VALUE`..
fn parse(properties: &[String]) -> Result<Vec<(Property, PropertyValue)>> {
    let one = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| anyhow!("'{text}' is not NAME=VALUE"))?;
        parse_property(name, value).map_err(|e| anyhow!(e))
    };
    properties.iter().map(one).collect()
}

/// `zeo create`
///
/// # Errors
/// What the pool says.
pub fn create(args: &Create) -> Result<()> {
    let properties = parse(&args.properties)?;
    target::change(&args.image, |target| {
        let full = target.full(&args.dataset);
        if args.parents {
            make_parents(target, &full)?;
        }
        names::new_dataset(target, &full)?;
        mkfs::file_system::create_dataset(target.spa(), &full, &properties, now())
            .map_err(|e| e.context(format!("cannot create '{full}'")))
    })
}

fn now() -> TimeSpec {
    let now = rt::wall_clock();
    TimeSpec { secs: now.secs, nanos: now.nanos }
}

fn make_parents(target: &Target, full: &str) -> Result<()> {
    let all = target.spa().datasets()?;
    for (at, _) in full.match_indices('/') {
        let parent = &full[..at];
        if !all.iter().any(|info| info.name == parent) {
            mkfs::file_system::create_dataset(target.spa(), parent, &[], now())?;
        }
    }
    Ok(())
}

/// `zeo set`
///
/// # Errors
/// What the pool says.
pub fn set(image: &str, words: &[String]) -> Result<()> {
    let (properties, datasets): (Vec<_>, Vec<_>) = words.iter().cloned().partition(|word| word.contains('='));
    if properties.is_empty() || datasets.is_empty() {
        return Err(Failure::new(
            2,
            "a property and a dataset are needed",
            "zeo set IMAGE NAME=VALUE DATASET",
        )
        .into());
    }
    let (limits, properties): (Vec<_>, Vec<_>) = properties
        .into_iter()
        .partition(|word| space::is_account(word.split('=').next().unwrap_or_default()));
    let properties = parse(&properties)?;
    target::change(image, |target| {
        for name in &datasets {
            let full = target.full(name);
            match full.contains('@') {
                true => names::snapshot(target, &full)?,
                false => names::dataset(target, &full)?,
            }
            for (name, value) in limits.iter().filter_map(|word| word.split_once('=')) {
                space::set(target, &full, name, value)?;
            }
            for (property, value) in &properties {
                let what = || format!("cannot set property '{}' of '{full}'", property.name());
                match target.spa().set_property(&full, property, value) {
                    Err(Error::Quota) => {
                        let hint =
                            "a quota is not below what is used or reserved: `zeo get IMAGE used,reservation`";
                        return Err(Failure::new(DATA, what() + ": too little", hint).into());
                    }
                    Err(Error::Invalid) if full.contains('@') => {
                        let hint = "snapshots have user properties only (with a colon)";
                        return Err(Failure::new(DATA, what(), hint).into());
                    }
                    Err(Error::Unsupported) => {
                        let hint = "the pool lacks the feature filesystem_limits";
                        return Err(Failure::new(DATA, what(), hint).into());
                    }
                    other => other.about(what)?,
                }
            }
        }
        Ok(())
    })
}

/// `zeo inherit`
///
/// # Errors
/// What the pool says.
pub fn inherit(
    image: &str,
    (is_recursive, to_received): (bool, bool),
    property: &str,
    datasets: &[String],
) -> Result<()> {
    let property = Property::parse(property).map_err(|_| anyhow!("there is no property '{property}'"))?;
    if !property.is_inheritable() {
        let hint = format!("use `zeo set IMAGE {}=none DATASET` to clear it", property.name());
        return Err(Failure::new(2, format!("'{}' cannot be inherited", property.name()), hint).into());
    }
    target::change(image, |target| {
        for name in datasets {
            let top = target.full(name);
            let is_meant = |name: &str| {
                name == top || is_recursive && name.starts_with(&format!("{top}/")) && !name.contains('@')
            };
            let all = target.spa().datasets()?;
            let mut nr = 0;
            for info in all.iter().filter(|info| is_meant(&info.name)) {
                nr += 1;
                let what = || format!("cannot inherit '{}' for '{}'", property.name(), info.name);
                target.spa().inherit_property(&info.name, &property, to_received).about(what)?;
            }
            if nr == 0 {
                bail!("cannot open '{top}': dataset does not exist");
            }
        }
        Ok(())
    })
}

/// `zeo snap create`
///
/// # Errors
/// What the pool says.
pub fn snapshot(image: &str, is_recursive: bool, properties: &[String], names: &[String]) -> Result<()> {
    let properties = parse(properties)?;
    target::change(image, |target| {
        let full: Vec<String> = names.iter().map(|name| target.full(name)).collect();
        full.iter().try_for_each(|name| names::new_snapshot(target, name))?;
        let names: Vec<&str> = full.iter().map(String::as_str).collect();
        if let Some(twice) = (0..names.len()).find(|n| names[..*n].contains(&names[*n])) {
            let message = format!("'{}' is named twice", names[twice]);
            return Err(Failure::new(2, message, "name each snapshot once").into());
        }
        let what = || format!("cannot create snapshot {}", names.join(" "));
        match target.spa().snapshot(&names, is_recursive, &properties) {
            Err(Error::Quota) => {
                Err(Failure::new(DATA, what() + ": snapshot_limit is reached", LIMITS).into())
            }
            Err(Error::Busy) => {
                let hint = "end the receive, or give it up with `zeo receive -A`";
                Err(Failure::new(DATA, what() + ": a dataset is half received", hint).into())
            }
            other => other.about(what),
        }
    })
}

/// `zeo clone`
///
/// # Errors
/// What the pool says.
pub fn clone(image: &str, properties: &[String], snapshot: &str, dataset: &str) -> Result<()> {
    let properties = parse(properties)?;
    target::change(image, |target| {
        let (snapshot, full) = (target.full(snapshot), target.full(dataset));
        let what = || format!("cannot create '{full}' of '{snapshot}'");
        names::snapshot(target, &snapshot)?;
        names::new_dataset(target, &full)?;
        match target.spa().clone_snapshot(&snapshot, &full, &properties) {
            Err(Error::Quota) => {
                Err(Failure::new(DATA, what() + ": filesystem_limit is reached", LIMITS).into())
            }
            other => other.about(what),
        }
    })
}

/// `zeo promote`
///
/// # Errors
/// What the pool says.
pub fn promote(image: &str, dataset: &str) -> Result<()> {
    target::change(image, |target| {
        let full = target.full(dataset);
        names::dataset(target, &full)?;
        match target.spa().promote(&full) {
            Err(Error::Invalid) => bail!("cannot promote '{full}': not a cloned filesystem"),
            Err(Error::Exists) => {
                bail!("cannot promote '{full}': it has a snapshot named like one of its origin's")
            }
            other => other.about(|| format!("cannot promote '{full}'")),
        }
    })
}

/// `zeo rollback`
///
/// # Errors
/// What the pool says.
pub fn rollback(args: &Rollback) -> Result<()> {
    target::change(&args.image, |target| {
        let full = target.full(&args.snapshot);
        names::snapshot(target, &full)?;
        if args.clones {
            destroy::clones_of_newer(target, &full)?;
        }
        match target.spa().rollback(&full, args.recursive || args.clones) {
            Err(Error::Exists) => {
                let hint = "use '-r' to destroy the newer snapshots and bookmarks";
                let message =
                    format!("cannot rollback to '{full}': more recent snapshots or bookmarks exist");
                Err(Failure::new(1, message, hint).into())
            }
            Err(Error::Busy) if args.recursive => {
                let message = format!("cannot rollback to '{full}': newer snapshots have clones or holds");
                Err(Failure::new(1, message, "use '-R' to destroy clones, 'zeo release' for holds").into())
            }
            other => other.about(|| format!("cannot rollback to '{full}'")),
        }
    })
}

/// `zeo rename`
///
/// # Errors
/// What the pool says.
pub fn rename(args: &Rename) -> Result<()> {
    target::change(&args.image, |target| {
        let from = target.full(&args.from);
        let what = || format!("cannot rename '{from}' to '{}'", args.to);
        match from.contains('@') {
            true => names::snapshot(target, &from)?,
            false => names::dataset(target, &from)?,
        }
        if let Some((path, _)) = from.split_once('@') {
            let to = match args.to.split_once('@') {
                Some((other, to)) if other.is_empty() || target.full(other) == path => to,
                Some(_) => bail!("cannot rename '{from}': a snapshot stays with its dataset"),
                None => &args.to,
            };
            return target.spa().rename_snapshot(&from, to, args.recursive).about(what);
        }
        let to = target.full(&args.to);
        if args.parents
            && let Some((parent, _)) = to.rsplit_once('/')
        {
            make_parents(target, &format!("{parent}/"))?;
        }
        if to.starts_with(&format!("{from}/")) {
            bail!("cannot rename '{from}' to '{to}': a dataset cannot be below itself");
        }
        names::new_dataset(target, &to)?;
        match target.spa().rename_dataset(&from, &to) {
            Err(Error::Quota) => Err(Failure::new(DATA, what() + ": a limit is reached", LIMITS).into()),
            other => other.about(what),
        }
    })
}

/// `zeo hold`
///
/// # Errors
/// What the pool says.
pub fn hold(args: &Hold) -> Result<()> {
    with_snapshots(args, |target, names| {
        target
            .spa()
            .hold(&args.tag, names, args.recursive)
            .about(|| format!("cannot hold {}", names.join(" ")))
    })
}

/// `zeo release`
///
/// # Errors
/// What the pool says.
pub fn release(args: &Hold) -> Result<()> {
    with_snapshots(args, |target, names| {
        let what = || format!("cannot release {} from {}", args.tag, names.join(" "));
        match target.spa().release(&args.tag, names, args.recursive) {
            Err(Error::NotFound) => Err(Failure::new(
                DATA,
                what() + ": no such tag",
                "`zeo holds IMAGE SNAPSHOT` shows those it has",
            )
            .into()),
            other => other.about(what),
        }
    })
}

fn with_snapshots(args: &Hold, job: impl FnOnce(&Target, &[&str]) -> Result<()>) -> Result<()> {
    target::change(&args.image, |target| {
        let full: Vec<String> = args.snapshots.iter().map(|name| target.full(name)).collect();
        if !args.recursive {
            full.iter().try_for_each(|name| names::snapshot(target, name))?;
        }
        job(target, &full.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

/// `zeo bookmark`
///
/// # Errors
/// What the pool says.
pub fn bookmark(image: &str, source: &str, name: &str) -> Result<()> {
    target::change(image, |target| {
        let source = target.full(source);
        if !source.contains('#') {
            names::snapshot(target, &source)?;
        }
        let path = source.split(['@', '#']).next().unwrap_or_default();
        let full = if name.starts_with('#') { format!("{path}{name}") } else { target.full(name) };
        target.spa().bookmark(&source, &full).about(|| format!("cannot create bookmark '{full}'"))
    })
}
