//! `zeo pool add|attach|detach|replace|offline|online|remove`.
use super::create::{layout, split};
use super::device::{Made, SMALLEST, Terms, open_groups, open_new};
use crate::cli::pool::{Add, Bring};
use crate::failure::{self, Failure};
use crate::report::{Mode, WalkProgress};
use crate::say;
use anyhow::{Context, Result, anyhow, bail};
use blockdev::BlockDevice;
use blockdev_host::OpenOptions;
use mkfs::image::{Access, Image};
use mkfs::size::Size;
use mkfs::vdevs;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zfs::spa::{Blocks, ImportOptions, Spa, TopKind, VdevInfo, VdevSpec};
use zfs::vdev::AllocClass;

/// How often the bar moves.
const REDRAW: Duration = Duration::from_millis(200);

/// Resilvers that are waited for one after the other.
const RESILVERS_MAX: usize = 4;

/// Adds vdevs.
pub fn add(args: &Add) -> Result<()> {
    let groups = vdevs::parse(&args.vdevs)?;
    with_pool(&args.image, |spa| {
        if !args.force {
            vdevs::check_replication(&groups, replication(spa))?;
        }
        let mut ashift = None;
        for property in &args.properties {
            match split(property)? {
                ("ashift", value) => {
                    let parsed = value.parse().ok().filter(|a| (9..=16).contains(a));
                    ashift = Some(parsed.ok_or_else(|| anyhow!("ashift is a number from 9 to 16"))?);
                }
                (name, _) => bail!("there is no property '{name}' of new vdevs"),
            }
        }
        if args.dry_run {
            say!("would add the following to '{}':\n", spa.properties()?.name);
            layout(&groups);
            return Ok(());
        }
        let mut made = Made::default();
        let tops = open_groups(&groups, Terms { size: args.size, force: args.force }, &mut made)?;
        match spa.add(&tops, ashift) {
            Err(zfs::Error::UnsupportedFeature) => {
                bail!(
                    "special and dedup vdevs need the feature allocation_classes, which the pool was made without"
                )
            }
            other => other.context("add the vdevs")?,
        }
        made.keep();
        Ok(())
    })
}

/// Makes a mirror.
pub fn attach(args: &Bring, mode: Mode) -> Result<()> {
    if args.new.is_none() {
        let hint = "zeo pool attach IMAGE DEVICE NEW";
        return Err(Failure::new(2, "the new device is missing", hint).into());
    }
    bring(args, mode, |spa, old, new| {
        spa.attach(old, new, blocks(args)).map_err(|e| explained(e, "attach", args))
    })
}

/// Replaces a device.
pub fn replace(args: &Bring, mode: Mode) -> Result<()> {
    bring(args, mode, |spa, old, new| {
        spa.replace(old, new, blocks(args)).map_err(|e| explained(e, "replace", args))
    })
}

/// Takes a device out of its mirror.
pub fn detach(image: &str, device: &str) -> Result<()> {
    with_pool(image, |spa| match spa.detach(resolve(spa, device)?) {
        Err(zfs::Error::Invalid) => bail!("{device} is no side of a mirror and is not being replaced"),
        Err(zfs::Error::Busy) => bail!("{device} has what the other sides lack: no valid replicas"),
        other => other.with_context(|| format!("detach {device}")),
    })
}

/// Stops using devices.
pub fn offline(image: &str, devices: &[String]) -> Result<()> {
    with_pool(image, |spa| {
        devices.iter().try_for_each(|device| match spa.offline(resolve(spa, device)?, false) {
            Err(zfs::Error::Busy) => bail!("the pool cannot do without {device}: no valid replicas"),
            other => other.with_context(|| format!("take {device} offline")),
        })
    })
}

/// Uses devices again.
pub fn online(image: &str, devices: &[String], expand: bool, mode: Mode) -> Result<()> {
    with_pool(image, |spa| {
        for device in devices {
            match spa.online(resolve(spa, device)?, expand) {
                Err(zfs::Error::MissingVdev) => {
                    let hint = "name its file in IMAGE, or replace it";
                    let what = format!("{device} is not among the devices of the image");
                    return Err(Failure::new(failure::NO_INPUT, what, hint).into());
                }
                other => other.with_context(|| format!("bring {device} online"))?,
            }
        }
        wait(spa, mode);
        Ok(())
    })
}

/// Takes spares and logs out.
pub fn remove(image: &str, devices: &[String], without_logs: bool) -> Result<()> {
    let options = ImportOptions { without_logs, ..ImportOptions::default() };
    with_image(Image::open_with(image, Access::Write, &options)?, |spa| {
        devices.iter().try_for_each(|device| match spa.remove(resolve(spa, device)?) {
            Err(zfs::Error::Unsupported) => {
                bail!("{device} is neither a spare nor a log; other vdevs cannot be removed")
            }
            Err(zfs::Error::Busy) => bail!("{device} is in use"),
            other => other.with_context(|| format!("remove {device}")),
        })
    })
}

fn bring(args: &Bring, mode: Mode, act: impl FnOnce(&Arc<Spa>, u64, &VdevSpec) -> Result<()>) -> Result<()> {
    with_pool(&args.image, |spa| {
        let old = resolve(spa, &args.device)?;
        let size = args
            .size
            .or_else(|| spa.size_needed(old).map(|s| Size(s.next_multiple_of(1 << 20).max(SMALLEST))));
        let mut made = Made::default();
        let path = args.new.as_ref().unwrap_or(&args.device);
        let new = open_new(Path::new(path), Terms { size, force: args.force }, &mut made)?;
        act(spa, old, &new)?;
        made.keep();
        if !args.later {
            wait(spa, mode);
        }
        Ok(())
    })
}

fn blocks(args: &Bring) -> Blocks {
    if args.force { Blocks::MayBeLarger } else { Blocks::Fit }
}

fn explained(error: zfs::Error, verb: &str, args: &Bring) -> anyhow::Error {
    let device = &args.device;
    let new = args.new.as_ref().unwrap_or(device);
    match error {
        zfs::Error::NoSpace => anyhow!("{new} is smaller than {device}"),
        zfs::Error::Busy => anyhow!("{new} is in use in this pool"),
        zfs::Error::Unsupported => {
            let what =
                if verb == "attach" { "nothing can be attached to" } else { "nothing can take the place of" };
            anyhow!(
                "{what} {device}: it is being replaced, or part of a raidz, which takes no further device"
            )
        }
        zfs::Error::Invalid => {
            anyhow!(
                "the blocks of {new} are larger than the vdev's; -f takes one that can be addressed all the same"
            )
        }
        other => anyhow::Error::from(other).context(format!("{verb} {device}")),
    }
}

/// Opens the pool for writing, does the job, closes it whatever came of it.
fn with_pool(image: &str, job: impl FnOnce(&Arc<Spa>) -> Result<()>) -> Result<()> {
    with_image(Image::open(image, Access::Write)?, job)
}

fn with_image(image: Image, job: impl FnOnce(&Arc<Spa>) -> Result<()>) -> Result<()> {
    let done = job(image.spa());
    let closed = image.close();
    done.and(closed)
}

/// Waits until devices that missed something are up to date. A resilver that ends when another device has just come is
/// followed by another one; a device that goes on missing writes is not waited for.
pub(super) fn wait(spa: &Arc<Spa>, mode: Mode) {
    let bar = WalkProgress::new(mode, "resilver");
    for nr in 1..=RESILVERS_MAX {
        spa.scan_wait(REDRAW, &mut |scan| bar.set(scan.examined, scan.to_examine));
        if nr == RESILVERS_MAX || spa.resilver().is_err() {
            return;
        }
    }
}

/// The vdev of that name: a guid, a path, the last part of a path that only one device has, `mirror-0`. A file that is
/// part of the image may have moved since the pool last saw it: its label tells.
///
/// # Errors
/// There is none, or several.
pub(super) fn resolve(spa: &Spa, name: &str) -> Result<u64> {
    let by_label = || {
        let disk = OpenOptions::new().read_only(true).unlocked().open(Path::new(name)).ok()?;
        let device: Arc<dyn BlockDevice> = Arc::new(disk);
        let label = Spa::probe(&device).ok()?;
        spa.find_vdev(&label.guid.to_string())
    };
    let by_path = || {
        let full = Path::new(name).canonicalize().ok()?;
        spa.find_vdev(full.to_str()?)
    };
    let tree = spa.vdev_tree();
    let tops = tree.children.iter().chain(&tree.spares);
    let devices: Vec<&VdevInfo> = tops.flat_map(super::advice::leaves).collect();
    let is_named = |v: &&&VdevInfo| v.path.as_deref().is_some_and(|p| p.rsplit('/').next() == Some(name));
    let namesakes: BTreeSet<u64> = devices.iter().filter(is_named).map(|v| v.guid).collect();
    let by_name = || spa.find_vdev(name).filter(|_| namesakes.len() < 2);
    if let Some(guid) = by_path().or_else(by_name).or_else(by_label) {
        return Ok(guid);
    }
    let (what, hint) = match namesakes.len() {
        0 | 1 => (format!("the pool has no device {name}"), "'zeo pool list -v IMAGE' names them"),
        _ => (
            format!("several devices of the pool are called {name}"),
            "name one by its path or guid: 'zeo pool status -P IMAGE', 'zeo pool status -g IMAGE'",
        ),
    };
    Err(Failure::new(failure::NO_INPUT, what, hint).into())
}

/// Kind and width of the pool's data vdevs.
fn replication(spa: &Spa) -> Option<(TopKind, usize)> {
    let is_data = |v: &&VdevInfo| v.class == AllocClass::Normal && v.kind != "hole";
    let first = spa.vdevs();
    let first = first.iter().find(is_data)?;
    Some(match first.kind.as_str() {
        "mirror" => (TopKind::Mirror, first.children.len()),
        "raidz" => (TopKind::RaidZ { nparity: first.nparity }, first.children.len()),
        _ => (TopKind::Disk, 1),
    })
}
