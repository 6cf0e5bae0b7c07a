//! `zeo pool scrub`: the pool of a powered-off machine is scrubbed here, or what its own scrub is to do is changed.
use super::status::scan_line;
use super::text::now;
use crate::cli::pool::Scrub;
use crate::report::{Mode, WalkProgress, print_json};
use crate::say;
use anyhow::{Context, Result, bail};
use mkfs::image::{Access, Image};
use std::sync::Arc;
use std::time::Duration;
use zfs::Error;
use zfs::spa::Spa;

/// How often the bar moves.
const REDRAW: Duration = Duration::from_millis(200);

/// Status when blocks were found that nothing can repair.
const LOST: u8 = 1;

/// Does it; the exit status.
pub fn run(args: &Scrub, mode: Mode) -> Result<u8> {
    let image = Image::open(&args.image, Access::Write)?;
    let done = act(image.spa(), args, mode);
    let closed = image.close();
    let status = done?;
    closed.map(|()| status)
}

fn act(spa: &Arc<Spa>, args: &Scrub, mode: Mode) -> Result<u8> {
    let none = "no scrub is under way; start one with 'zeo pool scrub IMAGE'";
    if args.pause {
        return match spa.scrub_pause() {
            Err(Error::NotFound) => bail!(none),
            Err(Error::Busy) => bail!("the scrub is paused already; 'zeo pool scrub IMAGE' goes on with it"),
            other => other.map(|()| 0).context("pause the scrub"),
        };
    }
    if args.stop {
        return match spa.scrub_stop() {
            Err(Error::NotFound) => bail!(none),
            other => other.map(|()| 0).context("stop the scrub"),
        };
    }
    if args.errors {
        return errors(spa, mode);
    }
    match if args.new { spa.scrub_new() } else { spa.scrub() } {
        // What was under way went on when the pool was opened.
        Ok(()) | Err(Error::Busy) => {}
        Err(e) => return Err(e).context("start the scrub"),
    }
    if args.later {
        return Ok(0);
    }
    let bar = WalkProgress::new(mode, "scrub");
    spa.scan_wait(REDRAW, &mut |scan| bar.set(scan.examined, scan.to_examine));
    drop(bar);
    let scan = spa.scan_status();
    match mode {
        Mode::Text => say!("{}", scan_line(&scan, now())),
        Mode::Json => print_json(&serde_json::json!({
            "examined": scan.examined,
            "repaired": scan.processed,
            "errors": scan.errors,
            "seconds": scan.end_time.saturating_sub(scan.start_time),
        }))?,
    }
    Ok(if scan.errors > 0 { LOST } else { 0 })
}

fn errors(spa: &Arc<Spa>, mode: Mode) -> Result<u8> {
    let done = match spa.scrub_errors() {
        Err(Error::Busy) => bail!("a scan is under way: 'zeo pool scrub --stop IMAGE' ends it"),
        other => other.context("look at the damaged blocks")?,
    };
    match mode {
        Mode::Text => {
            say!("{} damaged blocks looked at, {} are lost still", done.nr_examined, done.nr_lost);
        }
        Mode::Json => print_json(&serde_json::json!({
            "examined": done.nr_examined,
            "repaired": done.repaired,
            "errors": done.nr_lost,
        }))?,
    }
    Ok(if done.nr_lost > 0 { LOST } else { 0 })
}
