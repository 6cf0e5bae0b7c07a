//! `zeo userspace`, `zeo groupspace`, `zeo projectspace`, and the limits that go with them.
use super::table::{self, Column, nice};
use super::target::{self, Target};
use crate::cli::dataset::Accounts;
use crate::report::{Mode, print_json};
use anyhow::{Result, anyhow};
use mkfs::image::Access;
use serde_json::json;
use zpl::quota::{self, Account, Unit};

/// Prints who uses how much of a dataset.
///
/// # Errors
/// Wrong names, reading's.
pub fn run(args: &Accounts, account: Account, mode: Mode) -> Result<()> {
    let usage = target::with(&args.image, Access::Read, |target| {
        let dataset = target.spa().open_dataset(&target.full(&args.dataset))?;
        Ok(quota::usage(&dataset.objset(), account)?)
    })?;
    let (title, kind) = match account {
        Account::User => ("USER", "POSIX User"),
        Account::Group => ("GROUP", "POSIX Group"),
        Account::Project => ("PROJECT", "Project"),
    };
    if mode == Mode::Json {
        let line = |(id, u): &(u64, quota::Usage)| json!({ "id": id, "used": u.used, "quota": u.quota, "objused": u.objects, "objquota": u.object_quota });
        return print_json(&usage.iter().map(line).collect::<Vec<_>>());
    }
    let column = |name: &str, is_right| Column { name: name.to_owned(), is_right };
    let columns = [
        column("TYPE", false),
        column(title, false),
        column("USED", true),
        column("QUOTA", true),
        column("OBJUSED", true),
        column("OBJQUOTA", true),
    ];
    let bytes = |n: u64| if args.form.exact { n.to_string() } else { nice(n) };
    let limit = |n: u64, text: String| if n == 0 && !args.form.exact { "none".to_owned() } else { text };
    let rows: Vec<Vec<String>> = usage
        .iter()
        .map(|(id, u)| {
            vec![
                kind.to_owned(),
                id.to_string(),
                bytes(u.used),
                limit(u.quota, bytes(u.quota)),
                u.objects.to_string(),
                limit(u.object_quota, u.object_quota.to_string()),
            ]
        })
        .collect();
    table::print(&columns, &rows, args.form.script)
}

/// `userquota@ID`, `groupobjquota@ID`...: whose, of what, and who; the last part tells limits from use.
fn parse(name: &str) -> Option<(Account, Unit, bool, u64)> {
    let (kind, id) = name.split_once('@')?;
    let (account, rest) = [("user", Account::User), ("group", Account::Group), ("project", Account::Project)]
        .into_iter()
        .find_map(|(prefix, account)| kind.strip_prefix(prefix).map(|rest| (account, rest)))?;
    let (unit, rest) = match rest.strip_prefix("obj") {
        Some(rest) => (Unit::Objects, rest),
        None => (Unit::Space, rest),
    };
    match rest {
        "quota" => Some((account, unit, true, id.parse().ok()?)),
        "used" => Some((account, unit, false, id.parse().ok()?)),
        _ => None,
    }
}

/// Whether a property's name is that of a limit or use of a user, group or project.
pub fn is_account(name: &str) -> bool {
    parse(name).is_some()
}

/// The value of such a property.
///
/// # Errors
/// Reading's.
pub fn value(target: &Target, dataset: &str, name: &str) -> Result<Option<u64>> {
    let Some((account, unit, is_limit, id)) = parse(name) else {
        return Ok(None);
    };
    let objset = target.spa().open_dataset(dataset)?.objset();
    let usage = quota::usage(&objset, account)?.into_iter().find(|(other, _)| *other == id);
    let usage = usage.map_or_else(quota::Usage::default, |(_, usage)| usage);
    Ok(Some(match (unit, is_limit) {
        (Unit::Space, true) => usage.quota,
        (Unit::Space, false) => usage.used,
        (Unit::Objects, true) => usage.object_quota,
        (Unit::Objects, false) => usage.objects,
    }))
}

/// Sets a limit; false when the name is none of one.
///
/// # Errors
/// A value that is no number or size; writing's.
pub fn set(target: &Target, dataset: &str, name: &str, text: &str) -> Result<bool> {
    let Some((account, unit, true, id)) = parse(name) else {
        return Ok(false);
    };
    let limit = match (text, unit) {
        ("none", _) => Some(0),
        (_, Unit::Space) => zfs::dsl::property::parse_size(text),
        (_, Unit::Objects) => text.parse().ok(),
    };
    let limit = limit.ok_or_else(|| anyhow!("'{name}' cannot be '{text}'"))?;
    let objset = target.spa().open_dataset(dataset)?.objset();
    quota::set(&objset, account, unit, id, limit)?;
    target.spa().log_history(&format!("zfs set {name}={text} {dataset}"))?;
    Ok(true)
}
