//! What is wrong with a name, and what to do about it: asked before the pool, which only says "not found" or "invalid".
use super::target::Target;
use crate::failure::{DATA, Failure};
use anyhow::Result;
use zfs::dsl::DATASET_NAME_MAX;

/// Letters of names besides ASCII letters and digits.
const LETTERS: &str = "-_.: ";

fn failure(message: String, hint: &str) -> Result<()> {
    Err(Failure::new(DATA, message, hint).into())
}

fn exists(target: &Target, full: &str) -> bool {
    !matches!(target.spa().figures(full), Err(zfs::Error::NotFound | zfs::Error::Invalid))
}

/// A dataset (no snapshot) that is there.
///
/// # Errors
/// It is not.
pub fn dataset(target: &Target, full: &str) -> Result<()> {
    if full.contains(['@', '#']) {
        return failure(format!("'{full}' is not a dataset"), "leave out what begins with '@' or '#'");
    }
    if exists(target, full) {
        Ok(())
    } else {
        failure(
            format!("cannot open '{full}': dataset does not exist"),
            "`zeo list IMAGE` shows what there is",
        )
    }
}

/// A snapshot that is there.
///
/// # Errors
/// It is not.
pub fn snapshot(target: &Target, full: &str) -> Result<()> {
    let Some((path, _)) = full.split_once('@') else {
        return failure(format!("'{full}' is not a snapshot"), "name one as DATASET@SNAPSHOT");
    };
    dataset(target, path)?;
    if exists(target, full) {
        return Ok(());
    }
    let message = format!("cannot open '{full}': the dataset has no such snapshot");
    failure(message, &format!("`zeo snap list IMAGE {path}` shows those it has"))
}

/// A name for a new dataset.
///
/// # Errors
/// It cannot be one, or there is no parent.
pub fn new_dataset(target: &Target, full: &str) -> Result<()> {
    if full.contains(['@', '#']) {
        let what = if full.contains('@') { "snapshot" } else { "bookmark" };
        let hint =
            format!("`zeo {} IMAGE` makes {what}s", if what == "snapshot" { "snap create" } else { what });
        return failure(format!("'{full}' names a {what}, not a dataset"), &hint);
    }
    full.split('/').try_for_each(|part| letters(full, part))?;
    match full.rsplit_once('/') {
        Some((parent, _)) if !exists(target, parent) => {
            let hint = "make it first; `zeo create -p` makes all that is missing";
            failure(format!("cannot make '{full}': there is no parent '{parent}'"), hint)
        }
        _ => Ok(()),
    }
}

/// A name for a new snapshot of a dataset that is there.
///
/// # Errors
/// It cannot be one, or there is no dataset.
pub fn new_snapshot(target: &Target, full: &str) -> Result<()> {
    match full.split_once('@') {
        None => failure(format!("'{full}' names no snapshot"), "name it as DATASET@SNAPSHOT"),
        Some((path, name)) => {
            letters(full, name)?;
            dataset(target, path)
        }
    }
}

fn letters(full: &str, part: &str) -> Result<()> {
    if part.is_empty() {
        return failure(
            format!("'{full}' has an empty part"),
            "name it as POOL/PARENT/NAME, or without its pool",
        );
    }
    if full.len() > DATASET_NAME_MAX {
        let hint = format!(
            "a name with its pool has {DATASET_NAME_MAX} characters at most; this has {}",
            full.len()
        );
        return failure("the name is too long".into(), &hint);
    }
    if part == "." || part == ".." {
        return failure(
            format!("'{part}' cannot be part of a name"),
            "datasets are named from the pool down",
        );
    }
    match part.chars().find(|c| !c.is_ascii_alphanumeric() && !LETTERS.contains(*c)) {
        Some(c) => {
            let hint = "names have ASCII letters, digits, '-', '_', '.', ':' and spaces";
            failure(format!("invalid character '{c}' in '{full}'"), hint)
        }
        None => Ok(()),
    }
}
