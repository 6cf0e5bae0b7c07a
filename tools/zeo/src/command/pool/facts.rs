//! Properties of a pool by name, as `zeo pool list` and `zeo pool get` show them.
use super::text::bytes;
use anyhow::{Result, anyhow};
use mkfs::image::Image;
use zfs::spa::PoolNumber;

/// A property's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The property's name.
    pub property: String,
    /// As zpool(8) prints it.
    pub value: String,
    /// `local`, `default` or `-`.
    pub source: &'static str,
}

/// Every property, the features last.
///
/// # Errors
/// Reading's.
pub fn all(image: &Image, exact: bool) -> Result<Vec<Fact>> {
    let spa = image.spa();
    let (own, space) = (spa.properties()?, spa.space()?);
    let amount = |n: u64| if exact { n.to_string() } else { bytes(n) };
    let unit = |text: String, unit: &str| if exact { text } else { text + unit };
    let mut facts = Vec::new();
    let mut add = |name: &str, value: String, source| {
        facts.push(Fact { property: name.to_owned(), value, source });
    };
    add("name", own.name, "-");
    add("size", amount(space.size), "-");
    add("capacity", unit((space.allocated * 100 / space.size.max(1)).to_string(), "%"), "-");
    add("health", spa.vdev_tree().state.to_string(), "-");
    add("guid", own.guid.to_string(), "-");
    add("version", if own.version == 5000 { "-".into() } else { own.version.to_string() }, "default");
    let text = |value: Option<String>| match value {
        Some(value) => (value, "local"),
        None => ("-".to_owned(), "default"),
    };
    for (name, value) in [("bootfs", own.bootfs), ("comment", own.comment)] {
        let (value, source) = text(value);
        add(name, value, source);
    }
    let (compatibility, source) = match own.compatibility {
        Some(value) => (value, "local"),
        None => ("off".to_owned(), "default"),
    };
    add("compatibility", compatibility, source);
    for property in PoolNumber::ALL {
        let stored = spa.pool_number(property);
        let index = stored.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let value = property.values().get(index).copied().unwrap_or("?").to_owned();
        add(property.name(), value, if stored.is_some() { "local" } else { "default" });
    }
    add("free", amount(space.free), "-");
    add("allocated", amount(space.allocated), "-");
    add("freeing", amount(space.freeing), "-");
    let checkpoint = spa.checkpoint_info()?.map_or_else(|| "-".to_owned(), |c| amount(c.bytes));
    add("checkpoint", checkpoint, "-");
    let clones = spa.storage().brt().figures();
    add("bcloneused", amount(clones.used), "-");
    add("bclonesaved", amount(clones.saved), "-");
    let ratio = format!("{}.{:02}", clones.ratio() / 100, clones.ratio() % 100);
    add("bcloneratio", unit(ratio, "x"), "-");
    let ashift = spa.vdevs().iter().filter(|top| top.kind != "hole").map(|top| top.ashift).max().unwrap_or(0);
    add("ashift", ashift.to_string(), "local");
    for feature in spa.features()? {
        let name = feature.guid.rsplit(':').next().unwrap_or_default();
        let state = if feature.refcount > 0 { "active" } else { "enabled" };
        add(&format!("feature@{name}"), state.to_owned(), "local");
    }
    Ok(facts)
}

/// The fact of that name, which may be one of zpool(8)'s short names.
///
/// # Errors
/// There is none.
pub fn find<'a>(facts: &'a [Fact], name: &str) -> Result<&'a Fact> {
    let full = match name {
        "alloc" => "allocated",
        "cap" => "capacity",
        "ckpoint" => "checkpoint",
        other => other,
    };
    facts.iter().find(|fact| fact.property == full).ok_or_else(|| {
        let known: Vec<&str> = facts.iter().map(|f| f.property.as_str()).collect();
        let known = known.into_iter().filter(|name| !name.starts_with("feature@")).collect::<Vec<_>>();
        anyhow!("a pool has no property '{name}'; there are: {}, and feature@NAME", known.join(", "))
    })
}
