//! `zeo destroy`: what is meant, what hangs on it, and the order in which it can go.
use super::table::nice;
use super::target::{self, About, Target};
use crate::cli::dataset::Destroy;
use crate::failure::Failure;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use zfs::Error;
use zfs::dsl::DatasetInfo;

/// Destroys what is named.
///
/// # Errors
/// Names that are not there; what depends on them when `-r` or `-R` is not given; what the pool says.
pub fn run(args: &Destroy, mode: Mode) -> Result<()> {
    target::change(&args.image, |target| {
        let mut plan = Plan { target, all: target.spa().datasets()?, doomed: BTreeSet::new() };
        for name in &args.names {
            plan.add(&target.full(name), args)?;
        }
        let reclaimed = plan.reclaimed(args)?;
        plan.report(args, mode, reclaimed)?;
        if args.dry_run { Ok(()) } else { plan.carry_out(args.defer) }
    })
}

struct Plan<'a> {
    target: &'a Target,
    all: Vec<DatasetInfo>,
    doomed: BTreeSet<String>,
}

impl Plan<'_> {
    fn add(&mut self, full: &str, args: &Destroy) -> Result<()> {
        if full.contains('#') {
            self.doomed.insert(full.to_owned());
            return Ok(());
        }
        if let Some((path, spec)) = full.split_once('@') {
            return self.add_snapshots(path, spec, args);
        }
        if !self.all.iter().any(|info| info.name == full) {
            bail!("cannot open '{full}': dataset does not exist");
        }
        let below: Vec<String> = self
            .all
            .iter()
            .map(|info| info.name.clone())
            .filter(|name| name.starts_with(&format!("{full}/")) || name.starts_with(&format!("{full}@")))
            .collect();
        if !below.is_empty() && !args.recursive && !args.clones {
            let message = format!("cannot destroy '{full}': filesystem has children\n{}", below.join("\n"));
            return Err(Failure::new(1, message, "use '-r' to destroy them").into());
        }
        self.doomed.insert(full.to_owned());
        for name in below {
            self.add_one(&name, args)?;
        }
        Ok(())
    }

    /// One that is there, and the clones of it.
    fn add_one(&mut self, name: &str, args: &Destroy) -> Result<()> {
        if !self.doomed.insert(name.to_owned()) || args.defer {
            return Ok(());
        }
        let clones: Vec<String> = self
            .all
            .iter()
            .filter(|info| !info.is_snapshot && info.origin.as_deref() == Some(name))
            .map(|info| info.name.clone())
            .filter(|clone| !self.doomed.contains(clone))
            .collect();
        for clone in clones {
            if !args.clones {
                let message = format!("cannot destroy '{name}': it has the clone '{clone}'");
                return Err(Failure::new(1, message, "use '-R' to destroy clones too").into());
            }
            self.add(&clone, args)?;
        }
        Ok(())
    }

    /// `A`, `A,B`, `A%B`, `%B`, `A%`.
    fn add_snapshots(&mut self, path: &str, spec: &str, args: &Destroy) -> Result<()> {
        let heads: Vec<String> = self
            .all
            .iter()
            .filter(|info| !info.is_snapshot)
            .map(|info| info.name.clone())
            .filter(|name| name == path || args.recursive && name.starts_with(&format!("{path}/")))
            .collect();
        let mut found = Vec::new();
        for head in &heads {
            let snapshots: Vec<String> = self
                .all
                .iter()
                .filter_map(|info| info.name.strip_prefix(&format!("{head}@")).map(str::to_owned))
                .collect();
            for part in spec.split(',') {
                found.extend(range(&snapshots, part).into_iter().map(|name| format!("{head}@{name}")));
            }
        }
        if found.is_empty() {
            bail!("could not find any snapshots to destroy; check snapshot names '{path}@{spec}'");
        }
        found.iter().try_for_each(|name| self.add_one(name, args))
    }

    /// Bytes that come back from runs of snapshots; asked for only when shown.
    fn reclaimed(&self, args: &Destroy) -> Result<u64> {
        if !args.verbose && !args.dry_run {
            return Ok(0);
        }
        let (mut sum, mut run): (u64, Option<(&str, &str)>) = (0, None);
        let spa = self.target.spa();
        let head = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
        for info in &self.all {
            let is_doomed = info.is_snapshot && self.doomed.contains(&info.name);
            let is_same = run.is_some_and(|(first, _)| head(first) == head(&info.name));
            if let Some((first, last)) = run.filter(|_| !is_doomed || !is_same) {
                sum += spa.reclaimed(first, last)?;
                run = None;
            }
            if is_doomed {
                run = Some((run.map_or(info.name.as_str(), |(first, _)| first), &info.name));
            }
        }
        Ok(sum + run.map_or(Ok(0), |(first, last)| spa.reclaimed(first, last))?)
    }

    fn report(&self, args: &Destroy, mode: Mode, reclaimed: u64) -> Result<()> {
        if mode == Mode::Json {
            return print_json(&serde_json::json!({ "destroy": self.doomed, "reclaim": reclaimed }));
        }
        if !args.verbose {
            return Ok(());
        }
        let verb = if args.dry_run { "would destroy" } else { "will destroy" };
        for name in &self.doomed {
            if args.exact { say!("destroy\t{name}") } else { say!("{verb} {name}") }
        }
        match args.exact {
            true => say!("reclaim\t{reclaimed}"),
            false => {
                say!("{} reclaim {}", if args.dry_run { "would" } else { "will" }, nice(reclaimed));
            }
        }
        Ok(())
    }

    /// Destroys what nothing hangs on any more, until nothing is left.
    fn carry_out(mut self, defer: bool) -> Result<()> {
        let spa = self.target.spa().clone();
        while !self.doomed.is_empty() {
            let alive = spa.datasets()?;
            let has_clones =
                |name: &str| alive.iter().any(|i| !i.is_snapshot && i.origin.as_deref() == Some(name));
            let has_below = |name: &str| {
                alive.iter().any(|i| i.name.strip_prefix(name).is_some_and(|t| t.starts_with(['/', '@'])))
            };
            let (snapshots, others): (Vec<&String>, Vec<&String>) =
                self.doomed.iter().partition(|name| name.contains('@'));
            let snapshots: Vec<&str> =
                snapshots.into_iter().map(String::as_str).filter(|n| defer || !has_clones(n)).collect();
            let mut gone: Vec<String> = Vec::new();
            if snapshots.is_empty() {
                for name in others {
                    let what = || format!("cannot destroy '{name}'");
                    match name.contains('#') {
                        true => spa.destroy_bookmark(name).about(what)?,
                        false if has_below(name) => continue,
                        false => spa.destroy_dataset(name).about(what)?,
                    }
                    gone.push(name.clone());
                }
            } else {
                let what = || format!("cannot destroy snapshots {}", snapshots.join(" "));
                match spa.destroy_snapshots(&snapshots, defer) {
                    Err(Error::Busy) => {
                        let hint = "`zeo holds IMAGE SNAPSHOT` shows what keeps one; '-d' destroys it when that is gone";
                        return Err(Failure::new(1, what() + ": held, or in use", hint).into());
                    }
                    other => other.about(what)?,
                }
                gone.extend(snapshots.iter().map(|name| (*name).to_owned()));
            }
            if gone.is_empty() {
                bail!("cannot destroy {:?}: something else depends on it", self.doomed);
            }
            self.doomed.retain(|name| !gone.contains(name));
        }
        Ok(())
    }
}

/// The snapshots (oldest first) that a part of a list means.
fn range(snapshots: &[String], part: &str) -> Vec<String> {
    let place = |name: &str| snapshots.iter().position(|s| s == name);
    let Some((from, to)) = part.split_once('%') else {
        return snapshots.iter().filter(|s| *s == part).cloned().collect();
    };
    let from = if from.is_empty() { Some(0) } else { place(from) };
    let to = if to.is_empty() { snapshots.len().checked_sub(1) } else { place(to) };
    match (from, to) {
        (Some(from), Some(to)) if from <= to => snapshots[from..=to].to_vec(),
        _ => Vec::new(),
    }
}

/// Destroys the clones of the snapshots newer than one, with all that depends on them.
///
/// # Errors
/// As [`run`].
pub fn clones_of_newer(target: &Target, snapshot: &str) -> Result<()> {
    let all = target.spa().datasets()?;
    let path = snapshot.split('@').next().unwrap_or_default();
    let txg = all.iter().find(|info| info.name == snapshot).map_or(u64::MAX, |info| info.created_txg);
    let is_newer = |name: &str| {
        name.starts_with(&format!("{path}@")) && all.iter().any(|i| i.name == name && i.created_txg > txg)
    };
    let clones: Vec<String> = all
        .iter()
        .filter(|info| !info.is_snapshot && info.origin.as_deref().is_some_and(is_newer))
        .map(|info| info.name.clone())
        .collect();
    let args = Destroy {
        image: String::new(),
        recursive: true,
        clones: true,
        defer: false,
        dry_run: false,
        verbose: false,
        exact: false,
        names: Vec::new(),
    };
    let mut plan = Plan { target, all, doomed: BTreeSet::new() };
    clones.iter().try_for_each(|clone| plan.add(clone, &args))?;
    plan.carry_out(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_snapshots() {
        let all: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(range(&all, "b"), ["b"]);
        assert_eq!(range(&all, "b%d"), ["b", "c", "d"]);
        assert_eq!(range(&all, "%b"), ["a", "b"]);
        assert_eq!(range(&all, "c%"), ["c", "d"]);
        assert!(range(&all, "d%b").is_empty());
        assert!(range(&all, "x").is_empty());
    }
}
