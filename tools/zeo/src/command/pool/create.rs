//! `zeo pool create`.
use crate::cli::pool::Create;
use crate::failure::{self, Failure};
use anyhow::{Context, Result, anyhow, bail};
use blockdev::BlockDevice;
use blockdev_host::OpenOptions;
use mkfs::size::Size;
use mkfs::vdevs::{self, Group};
use mkfs::{file_system, pool};
use std::path::Path;
use std::sync::Arc;
use zfs::spa::{PoolSpec, Spa, TopSpec, VdevSpec};

/// Makes the pool and closes it.
pub fn run(args: &Create) -> Result<()> {
    let groups = vdevs::parse(&args.vdevs)?;
    if !args.force {
        vdevs::check_replication(&groups, None)?;
    }
    let spec = spec(args)?;
    let tops = open_groups(&groups, args.size, args.force)?;
    let spa = file_system::create_pool(tops, &spec, None)
        .with_context(|| format!("cannot create {}", args.pool))?;
    spa.export().context("close the pool")
}

/// Opens the devices of new vdevs, making files that are not there.
///
/// # Errors
/// A device that cannot be opened, or that holds a pool when `force` is not given.
pub fn open_groups(groups: &[Group], size: Option<Size>, force: bool) -> Result<Vec<TopSpec>> {
    let open = |group: &Group| {
        let devices = group.devices.iter().map(|name| open_new(Path::new(name), size, force));
        Ok(TopSpec { kind: group.kind, purpose: group.purpose, devices: devices.collect::<Result<_>>()? })
    };
    groups.iter().map(open).collect()
}

/// Opens a device that is to become part of a pool.
///
/// # Errors
/// As [`open_groups`].
pub fn open_new(path: &Path, size: Option<Size>, force: bool) -> Result<VdevSpec> {
    let shown = path.display();
    let exists = path.exists();
    let mut options = OpenOptions::new();
    match (exists, size) {
        (false, Some(size)) => options = options.create(size.0),
        (false, None) => {
            let hint = "give --size to make it";
            return Err(Failure::new(failure::NO_INPUT, format!("{shown} does not exist"), hint).into());
        }
        (true, _) => {}
    }
    let disk = options.open(path).with_context(|| shown.to_string())?;
    let device: Arc<dyn BlockDevice> = Arc::new(disk);
    if exists && !force {
        match Spa::probe(&device) {
            Ok(label) if label.state != zfs::spa::PoolState::Destroyed => {
                bail!("{shown} is part of the pool '{}'; -f overrides", label.pool)
            }
            _ => {}
        }
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // An image is a disk to the machine it is made for; OpenZFS does not open a disk as a file.
    Ok(VdevSpec { device, path: path.to_string_lossy().into_owned(), is_file: false })
}

fn spec(args: &Create) -> Result<PoolSpec> {
    let mut spec = PoolSpec::new(&args.pool);
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
            _ => bail!("there is no pool property '{name}' that can be set when a pool is made"),
        }
    }
    for property in &args.root_properties {
        let (name, value) = split(property)?;
        spec.root_properties.push(pool::parse_property(name, value).map_err(|e| anyhow!(e))?);
    }
    spec.history = format!("zpool create {} {}", args.pool, args.vdevs.join(" "));
    Ok(spec)
}

/// `NAME=VALUE`
pub fn split(text: &str) -> Result<(&str, &str)> {
    text.split_once('=').ok_or_else(|| anyhow!("'{text}' is not NAME=VALUE"))
}
