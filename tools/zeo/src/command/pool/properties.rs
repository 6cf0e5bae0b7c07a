//! `zeo pool get` and `set`: properties of the pool itself.
use crate::report::{Mode, print_json};
use anyhow::{Result, bail};
use mkfs::image::{Access, Image};
use serde::Serialize;
use zfs::spa::PoolNumber;

/// A property's line.
#[derive(Debug, Serialize)]
struct Line {
    property: &'static str,
    value: String,
    source: &'static str,
}

/// Sets `name=value`.
pub fn set(setting: &str, name: &str) -> Result<()> {
    let Some((property, value)) = setting.split_once('=') else {
        bail!("write NAME=VALUE, as in failmode=wait");
    };
    let Some(property) = PoolNumber::ALL.into_iter().find(|p| p.name() == property) else {
        let known: Vec<_> = PoolNumber::ALL.iter().map(|p| p.name()).collect();
        bail!("there is no property '{property}' to be set; there are: {}", known.join(", "));
    };
    let Some(number) = property.values().iter().position(|v| *v == value) else {
        bail!("'{}' is one of: {}", property.name(), property.values().join(", "));
    };
    if property == PoolNumber::MultiHost && number != 0 && mkfs::host_id::get() == 0 {
        bail!("{}", mkfs::host_id::ADVICE);
    }
    let image = Image::open(name, Access::Write)?;
    let done = image.spa().set_pool_number(property, number as u64);
    let closed = image.close();
    done?;
    closed
}

/// Prints all.
pub fn get(name: &str, mode: Mode) -> Result<()> {
    let image = Image::open(name, Access::Read)?;
    let facts = image.spa().properties()?;
    let space = image.spa().space()?;
    let mut lines = Vec::new();
    let mut add = |property, value: String, source| lines.push(Line { property, value, source });
    add("name", facts.name, "-");
    add("guid", facts.guid.to_string(), "-");
    add("version", facts.version.to_string(), "-");
    add("size", space.size.to_string(), "-");
    add("allocated", space.allocated.to_string(), "-");
    add("free", space.free.to_string(), "-");
    add("freeing", space.freeing.to_string(), "-");
    let clones = image.spa().storage().brt().figures();
    add("bcloneused", clones.used.to_string(), "-");
    add("bclonesaved", clones.saved.to_string(), "-");
    add("bcloneratio", format!("{}.{:02}x", clones.ratio() / 100, clones.ratio() % 100), "-");
    add("bootfs", facts.bootfs.unwrap_or_else(|| "-".into()), "local");
    add("comment", facts.comment.unwrap_or_else(|| "-".into()), "local");
    for property in PoolNumber::ALL {
        let stored = image.spa().pool_number(property);
        let index = stored.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let value = property.values().get(index).copied().unwrap_or("?").to_owned();
        add(property.name(), value, if stored.is_some() { "local" } else { "default" });
    }
    image.close()?;
    if mode == Mode::Json {
        return print_json(&lines);
    }
    println!("{:<12} {:<24} SOURCE", "PROPERTY", "VALUE");
    lines.iter().for_each(|l| println!("{:<12} {:<24} {}", l.property, l.value, l.source));
    Ok(())
}
