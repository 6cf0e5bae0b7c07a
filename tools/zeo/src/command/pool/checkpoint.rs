//! `zeo pool checkpoint`: keeps, gives up or goes back to an earlier state of a whole pool.
use crate::cli::pool::Checkpoint;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Context, Result, bail};
use mkfs::image::{Access, Image};
use mkfs::size::Size;
use zfs::Error;

/// Does it.
pub fn run(args: &Checkpoint, mode: Mode) -> Result<()> {
    let image = match args.rewind {
        true => Image::open_checkpoint(&args.image, Access::Write)?,
        false => Image::open(&args.image, if args.show { Access::Read } else { Access::Write })?,
    };
    let done = act(&image, args, mode);
    let closed = image.close();
    done.and(closed)
}

fn act(image: &Image, args: &Checkpoint, mode: Mode) -> Result<()> {
    let spa = image.spa();
    if args.show {
        return show(image, mode);
    }
    if args.rewind {
        // Opening it did it; closing it makes it stay.
        return Ok(());
    }
    if args.discard {
        return match spa.discard_checkpoint() {
            Err(Error::NotFound) => bail!("the pool has no checkpoint"),
            other => other.context("discard the checkpoint"),
        };
    }
    match spa.checkpoint() {
        Err(Error::Exists) => {
            bail!("the pool has a checkpoint; give it up with 'zeo pool checkpoint --discard {}'", args.image)
        }
        Err(Error::UnsupportedFeature) => {
            bail!("the pool was made without the feature zpool_checkpoint")
        }
        other => other.context("make a checkpoint"),
    }
}

fn show(image: &Image, mode: Mode) -> Result<()> {
    let info = image.spa().checkpoint_info()?;
    match (mode, info) {
        (Mode::Json, info) => {
            return print_json(&match info {
                Some(c) => serde_json::json!({
                    "txg": c.txg,
                    "time": c.time,
                    "bytes": c.bytes,
                    "is_discarding": c.is_discarding,
                }),
                None => serde_json::Value::Null,
            });
        }
        (Mode::Text, None) => say!("checkpoint: none"),
        (Mode::Text, Some(c)) if c.is_discarding => {
            say!("checkpoint: being discarded, {} left", Size(c.bytes));
        }
        (Mode::Text, Some(c)) => {
            say!("checkpoint: transaction group {}, keeps {}", c.txg, Size(c.bytes));
        }
    }
    Ok(())
}
