//! `zeo pool split`.
use super::vdev::resolve;
use crate::cli::pool::Split;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Context, Result, anyhow};
use mkfs::image::{Access, Image};
use serde::Serialize;

/// A side that goes, or would go, to the new pool.
#[derive(Serialize)]
struct Side {
    mirror: String,
    device: String,
}

/// Makes a pool of one side of each mirror.
pub fn run(args: &Split, mode: Mode) -> Result<()> {
    let access = if args.dry_run { Access::Read } else { Access::Write };
    let image = Image::open(&args.image, access)?;
    let done = split(&image, args, mode);
    let closed = image.close();
    done.and(closed)
}

fn split(image: &Image, args: &Split, mode: Mode) -> Result<()> {
    let spa = image.spa();
    let sides = args.devices.iter().map(|device| resolve(spa, device)).collect::<Result<Vec<_>>>()?;
    let plan = spa.split_plan(&sides).map_err(explained)?;
    if !args.dry_run {
        let new = spa.split(&args.new, &sides).map_err(explained)?;
        new.export().with_context(|| format!("close {}", args.new))?;
    }
    let plan: Vec<Side> = plan.into_iter().map(|(mirror, device)| Side { mirror, device }).collect();
    if mode == Mode::Json {
        print_json(&plan)?;
    } else if args.dry_run {
        say!("would create '{}' with the following layout:\n\n        {}", args.new, args.new);
        plan.iter().for_each(|side| say!("          {}", side.device));
    }
    Ok(())
}

fn explained(error: zfs::Error) -> anyhow::Error {
    match error {
        zfs::Error::Invalid => {
            anyhow!(
                "every vdev but logs must be a mirror, one side of each can go, and the new name must be another"
            )
        }
        zfs::Error::NotFound => anyhow!("a device named is no side of a mirror"),
        zfs::Error::Busy => {
            anyhow!("a device is not whole, or the pool cannot do without it, or a resilver is under way")
        }
        zfs::Error::Exists => {
            anyhow!("the pool has a checkpoint: 'zeo pool checkpoint --discard' gives it up")
        }
        other => anyhow::Error::from(other).context("split the pool"),
    }
}
