//! `zeo pool add|attach|detach|replace|offline|online|remove`.
use super::create::{open_groups, open_new, split};
use crate::cli::pool::{Add, Bring};
use crate::failure::{self, Failure};
use crate::report::{Mode, WalkProgress};
use anyhow::{Context, Result, anyhow, bail};
use blockdev::BlockDevice;
use blockdev_host::OpenOptions;
use mkfs::image::{Access, Image};
use mkfs::size::Size;
use mkfs::vdevs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zfs::spa::{Blocks, ImportOptions, Spa, TopKind, VdevInfo, VdevSpec};
use zfs::vdev::AllocClass;

/// How often the bar moves.
const REDRAW: Duration = Duration::from_millis(200);

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
        let tops = open_groups(&groups, args.size, args.force)?;
        spa.add(&tops, ashift).context("add the vdevs")
    })
}

/// Makes a mirror.
pub fn attach(args: &Bring, mode: Mode) -> Result<()> {
    bring(args, mode, |spa, old, new| {
        spa.attach(old, new, blocks(args)).map_err(|e| explained(e, "attach", &args.device, &args.new))
    })
}

/// Replaces a device.
pub fn replace(args: &Bring, mode: Mode) -> Result<()> {
    bring(args, mode, |spa, old, new| {
        spa.replace(old, new, blocks(args)).map_err(|e| explained(e, "replace", &args.device, &args.new))
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
        let size = args.size.or_else(|| spa.size_needed(old).map(|s| Size(s.next_multiple_of(1 << 20))));
        let new = open_new(Path::new(&args.new), size, args.force)?;
        act(spa, old, &new)?;
        if !args.later {
            wait(spa, mode);
        }
        Ok(())
    })
}

fn blocks(args: &Bring) -> Blocks {
    if args.force { Blocks::MayBeLarger } else { Blocks::Fit }
}

fn explained(error: zfs::Error, verb: &str, device: &str, new: &str) -> anyhow::Error {
    match error {
        zfs::Error::NoSpace => anyhow!("{new} is smaller than {device}"),
        zfs::Error::Busy => anyhow!("{new} is in use in this pool"),
        zfs::Error::Unsupported => {
            anyhow!("{device} cannot be {verb}ed: only disks and sides of mirrors take another side")
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

/// Waits until devices that missed something are up to date.
fn wait(spa: &Arc<Spa>, mode: Mode) {
    let bar = WalkProgress::new(mode, "resilver");
    spa.scan_wait(REDRAW, &mut |scan| bar.set(scan.examined, scan.to_examine));
}

/// The vdev of that name; a file that is part of the image may have moved since the pool last saw it.
pub(super) fn resolve(spa: &Spa, name: &str) -> Result<u64> {
    let by_label = || {
        let disk = OpenOptions::new().read_only(true).unlocked().open(Path::new(name)).ok()?;
        let device: Arc<dyn BlockDevice> = Arc::new(disk);
        let label = Spa::probe(&device).ok()?;
        spa.find_vdev(&label.guid.to_string())
    };
    spa.find_vdev(name).or_else(by_label).ok_or_else(|| {
        let hint = "'zeo pool list -v IMAGE' names them";
        Failure::new(failure::NO_INPUT, format!("the pool has no device {name}"), hint).into()
    })
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
