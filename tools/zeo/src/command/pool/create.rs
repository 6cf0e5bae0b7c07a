//! `zeo pool create`.
use super::device::{Made, Terms, open_groups};
use crate::cli::pool::Create;
use crate::failure::{DATA, Failure};
use crate::say;
use anyhow::{Context, Result, anyhow, bail};
use mkfs::vdevs::{self, Group};
use mkfs::{file_system, host_id, pool};
use zfs::Error;
use zfs::dsl::Property;
use zfs::spa::{Compatibility, PoolNumber, PoolSpec, Purpose, TopKind};

/// Makes the pool and closes it.
pub fn run(args: &Create) -> Result<()> {
    let groups = vdevs::parse(&args.vdevs)?;
    if !args.force {
        vdevs::check_replication(&groups, None)?;
    }
    let (spec, numbers) = spec(args)?;
    if args.dry_run {
        say!("would create '{}' with the following layout:\n\n\t{}", args.pool, args.pool);
        layout(&groups);
        return Ok(());
    }
    let mut made = Made::default();
    let tops = open_groups(&groups, Terms { size: args.size, force: args.force }, &mut made)?;
    let spa = file_system::create_pool(tops, &spec, None).map_err(|e| explained(e, &args.pool))?;
    made.keep();
    let set = numbers.into_iter().try_for_each(|(property, value)| spa.set_pool_number(property, value));
    let closed = spa.export().context("close the pool");
    set.context("set the pool's properties")?;
    closed
}

/// Prints vdevs as they would be.
pub fn layout(groups: &[Group]) {
    let mut heading = Purpose::Data;
    for group in groups {
        if group.purpose != heading {
            heading = group.purpose;
            say!("\t{}", ["", "logs", "special", "dedup", "spares"][heading_index(heading)]);
        }
        let kind = match group.kind {
            TopKind::Disk => None,
            TopKind::Mirror => Some("mirror".to_owned()),
            TopKind::RaidZ { nparity } => Some(format!("raidz{nparity}")),
        };
        let indent = if kind.is_some() { 4 } else { 2 };
        kind.into_iter().for_each(|kind| say!("\t  {kind}"));
        group.devices.iter().for_each(|device| say!("\t{:indent$}{device}", ""));
    }
}

fn heading_index(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Data => 0,
        Purpose::Log => 1,
        Purpose::Special => 2,
        Purpose::Dedup => 3,
        Purpose::Spare => 4,
    }
}

/// What is wrong with the name, if that is what the pool says.
fn explained(error: anyhow::Error, pool: &str) -> anyhow::Error {
    let what = format!("cannot create '{pool}'");
    match error.downcast_ref::<Error>() {
        Some(Error::Invalid) => {
            let hint = "a pool's name begins with a letter, has letters, digits, '-', '_', '.', ':' and spaces, and does not \
                        begin with mirror, raidz, draid or spare, nor is it log";
            Failure::new(DATA, what + ": not a name for a pool", hint).into()
        }
        Some(Error::NameTooLong) => {
            Failure::new(DATA, what + ": the name is too long", "255 characters at most").into()
        }
        Some(Error::UnsupportedFeature) => {
            let hint =
                "special and dedup vdevs need the feature allocation_classes: use -o compatibility=full";
            Failure::new(DATA, what + ": the feature set lacks what the layout needs", hint).into()
        }
        _ => error.context(what),
    }
}

/// Properties that are set once the pool is there.
type Numbers = Vec<(PoolNumber, u64)>;

fn spec(args: &Create) -> Result<(PoolSpec, Numbers)> {
    let mut spec = PoolSpec::new(&args.pool);
    let mut numbers = Numbers::new();
    if args.no_features {
        spec.compatibility = Compatibility::NoFeatures;
    }
    for property in &args.properties {
        let (name, value) = split(property)?;
        match name {
            "ashift" => {
                spec.ashift = value.parse().map_err(|_| anyhow!("ashift is a number from 9 to 16"))?;
                if !(9..=16).contains(&spec.ashift) {
                    bail!("ashift is a number from 9 to 16");
                }
            }
            "comment" => spec.comment = Some(value.to_owned()),
            "compatibility" => {
                spec.compatibility =
                    pool::compatibility(value).ok_or_else(|| anyhow!("there is no feature set '{value}'"))?;
            }
            _ => match number(name, value)? {
                Some(number) => numbers.push(number),
                None => bail!(
                    "there is no pool property '{name}' that can be set when a pool is made; there are: ashift, comment, \
                     compatibility, {}",
                    number_names()
                ),
            },
        }
    }
    for property in &args.root_properties {
        let (name, value) = split(property)?;
        spec.root_properties.push(pool::parse_property(name, value).map_err(|e| anyhow!(e))?);
    }
    if let Some(place) = &args.mountpoint {
        let value = pool::parse_property("mountpoint", place).map_err(|e| anyhow!(e))?;
        spec.root_properties.retain(|(property, _)| *property != Property::Mountpoint);
        spec.root_properties.push(value);
    }
    spec.history = format!("zpool create {} {}", args.pool, args.vdevs.join(" "));
    Ok((spec, numbers))
}

/// A property of the pool that is a number, and the value's; `None` when there is none of that name.
///
/// # Errors
/// Values that it cannot have.
pub fn number(name: &str, value: &str) -> Result<Option<(PoolNumber, u64)>> {
    let Some(property) = PoolNumber::ALL.into_iter().find(|p| p.name() == name) else {
        return Ok(None);
    };
    let Some(number) = property.values().iter().position(|v| *v == value) else {
        bail!("'{name}' is one of: {}", property.values().join(", "));
    };
    if property == PoolNumber::MultiHost && number != 0 && host_id::get() == 0 {
        bail!("{}", host_id::ADVICE);
    }
    Ok(Some((property, number as u64)))
}

/// Names of those properties.
pub fn number_names() -> String {
    PoolNumber::ALL.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ")
}

/// `NAME=VALUE`
pub fn split(text: &str) -> Result<(&str, &str)> {
    text.split_once('=').ok_or_else(|| anyhow!("'{text}' is not NAME=VALUE"))
}
