//! `zeo pool trim` and `initialize`.
use super::text::bytes;
use crate::cli::pool::FreeSpace;
use crate::report::{Mode, WalkProgress, print_json};
use crate::say;
use anyhow::{Result, bail};
use mkfs::image::{Access, Image};
use zfs::spa::Upkeep;

/// Does it to the free space of every device, or stops what was begun.
pub fn run(what: Upkeep, args: &FreeSpace, mode: Mode) -> Result<()> {
    let image = Image::open(&args.image, Access::Write)?;
    let done = act(what, args, &image, mode);
    let closed = image.close();
    done.and(closed)
}

fn act(what: Upkeep, args: &FreeSpace, image: &Image, mode: Mode) -> Result<()> {
    if args.cancel || args.suspend {
        image.spa().stop_upkeep(what, args.cancel)?;
        return Ok(());
    }
    let (name, did) = match what {
        Upkeep::Trim => ("trim", "trimmed"),
        Upkeep::Initialize => ("initialize", "initialized"),
    };
    let bar = WalkProgress::new(mode, name);
    let report = image.spa().upkeep(what, &mut |done, total| bar.set(done, total))?;
    drop(bar);
    let nr_devices = image.spa().storage().leaves().len() as u64;
    if report.nr_unsupported == nr_devices {
        bail!("none of the pool's devices can discard");
    }
    match mode {
        Mode::Text => say!("{did} {}", bytes(report.bytes)),
        Mode::Json => print_json(&serde_json::json!({
            "bytes": report.bytes,
            "devices_that_cannot": report.nr_unsupported,
        }))?,
    }
    Ok(())
}
