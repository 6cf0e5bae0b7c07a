//! `zeo pool status`.
use super::advice;
use super::text::{bytes, date, now, shown, span};
use crate::cli::pool::Status as Args;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::Result;
use mkfs::damage;
use mkfs::image::{Access, Image};
use serde::Serialize;
use zfs::scan::{ScanFunc, ScanState, ScanStatus};
use zfs::spa::{Upkeep, UpkeepState, VdevInfo};
use zfs::vdev::{AllocClass, VdevState};

/// A pool.
#[derive(Debug, Serialize)]
struct Status {
    pool: String,
    guid: u64,
    txg: u64,
    state: String,
    status: Option<&'static str>,
    action: Option<&'static str>,
    scan: Option<Scan>,
    checkpoint: Option<Checkpoint>,
    vdevs: Vec<Vdev>,
    nr_errors: usize,
    errors: Vec<String>,
}

/// The state that is kept.
#[derive(Debug, Serialize)]
struct Checkpoint {
    time: u64,
    bytes: u64,
    is_discarding: bool,
}

/// The last scan.
#[derive(Debug, Serialize)]
struct Scan {
    function: &'static str,
    state: &'static str,
    start_time: u64,
    end_time: u64,
    to_examine: u64,
    examined: u64,
    skipped: u64,
    processed: u64,
    errors: u64,
}

/// A line of the tree.
#[derive(Debug, Default, Serialize)]
struct Vdev {
    name: String,
    guid: u64,
    depth: usize,
    state: String,
    read_errors: u64,
    write_errors: u64,
    checksum_errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Prints what is known of each pool.
pub fn run(args: &Args, mode: Mode) -> Result<()> {
    let mut all = Vec::new();
    for name in &args.images {
        let image = Image::open(name, Access::Read)?;
        let scan = image.spa().scan_status();
        let status = status(&image, &scan, args)?;
        image.close()?;
        if args.unhealthy && status.status.is_none() {
            if mode == Mode::Text && args.images.len() == 1 {
                say!("pool '{}' is healthy", status.pool);
            }
            continue;
        }
        if mode == Mode::Text {
            if !all.is_empty() {
                say!();
            }
            print(&status, &scan, args);
        }
        all.push(status);
    }
    if mode == Mode::Json {
        return print_json(&all);
    }
    if args.unhealthy && all.is_empty() && args.images.len() > 1 {
        say!("all pools are healthy");
    }
    Ok(())
}

fn status(image: &Image, scan: &ScanStatus, args: &Args) -> Result<Status> {
    let spa = image.spa();
    let properties = spa.properties()?;
    let tree = spa.vdev_tree();
    let nr_errors = spa.lost_blocks()?.len();
    let advice = advice::of(image, &tree, scan, nr_errors, properties.is_suspended);
    let checkpoint = spa.checkpoint_info()?;
    Ok(Status {
        vdevs: vdevs(image, &tree, scan, args)?,
        pool: properties.name,
        guid: properties.guid,
        txg: properties.txg,
        state: if properties.is_suspended { "SUSPENDED".into() } else { tree.state.to_string() },
        status: advice.map(|a| a.status),
        action: advice.map(|a| a.action),
        scan: (scan.func != ScanFunc::None).then(|| describe(scan)),
        checkpoint: checkpoint.map(|c| Checkpoint {
            time: c.time,
            bytes: c.bytes,
            is_discarding: c.is_discarding,
        }),
        nr_errors,
        errors: if args.verbose && nr_errors > 0 { damage::files(image)? } else { Vec::new() },
    })
}

fn describe(scan: &ScanStatus) -> Scan {
    Scan {
        function: name(scan.func),
        state: match scan.state {
            ScanState::Scanning if scan.is_paused => "paused",
            ScanState::Scanning => "scanning",
            ScanState::Finished => "finished",
            ScanState::Canceled => "canceled",
            ScanState::None => "none",
        },
        start_time: scan.start_time,
        end_time: scan.end_time,
        to_examine: scan.to_examine,
        examined: scan.examined,
        skipped: scan.skipped,
        processed: scan.processed,
        errors: scan.errors,
    }
}

fn name(func: ScanFunc) -> &'static str {
    match func {
        ScanFunc::Resilver => "resilver",
        ScanFunc::ErrorScrub => "error scrub",
        ScanFunc::Scrub | ScanFunc::None => "scrub",
    }
}

/// The tree as lines: data first, then each other class and the spares below a heading of its own.
fn vdevs(image: &Image, root: &VdevInfo, scan: &ScanStatus, args: &Args) -> Result<Vec<Vdev>> {
    let mut lines = vec![line(image, root, 0, scan, args)?];
    let add = |top: &VdevInfo, lines: &mut Vec<Vdev>| add(image, top, 1, scan, args, lines);
    let of =
        |class: AllocClass| root.children.iter().filter(move |top| top.class == class && top.kind != "hole");
    of(AllocClass::Normal).try_for_each(|top| add(top, &mut lines))?;
    let classes = [(AllocClass::Special, "special"), (AllocClass::Dedup, "dedup"), (AllocClass::Log, "logs")];
    for (class, heading) in classes {
        if of(class).next().is_some() {
            lines.push(Vdev { name: heading.into(), ..Vdev::default() });
            of(class).try_for_each(|top| add(top, &mut lines))?;
        }
    }
    if !root.spares.is_empty() {
        lines.push(Vdev { name: "spares".into(), ..Vdev::default() });
        for spare in &root.spares {
            let state = match spare.state {
                _ if spare.is_in_use => "INUSE",
                VdevState::Online => "AVAIL",
                _ => "UNAVAIL",
            };
            lines.push(Vdev { state: state.into(), ..line(image, spare, 1, scan, args)? });
        }
    }
    Ok(lines)
}

fn add(
    image: &Image,
    vdev: &VdevInfo,
    depth: usize,
    scan: &ScanStatus,
    args: &Args,
    lines: &mut Vec<Vdev>,
) -> Result<()> {
    lines.push(line(image, vdev, depth, scan, args)?);
    vdev.children.iter().try_for_each(|child| add(image, child, depth + 1, scan, args, lines))
}

fn line(image: &Image, vdev: &VdevInfo, depth: usize, scan: &ScanStatus, args: &Args) -> Result<Vdev> {
    let is_leaf = vdev.children.is_empty() && depth > 0;
    let mut notes: Vec<String> = advice::note(vdev, scan).map(String::from).into_iter().collect();
    let upkeeps =
        [(args.trims, Upkeep::Trim, "trimmed"), (args.initialized, Upkeep::Initialize, "initialized")];
    for (_, what, did) in upkeeps.into_iter().filter(|(is_wanted, ..)| *is_wanted && is_leaf) {
        notes.push(upkeep(image, vdev, what, did)?);
    }
    Ok(Vdev {
        name: shown(vdev, args.naming),
        guid: vdev.guid,
        depth,
        state: vdev.state.to_string(),
        read_errors: vdev.errors.read,
        write_errors: vdev.errors.write,
        checksum_errors: vdev.errors.checksum,
        path: vdev.path.clone().filter(|_| is_leaf),
        note: (!notes.is_empty()).then(|| notes.join("  ")),
    })
}

/// How far a device is trimmed or initialized.
fn upkeep(image: &Image, leaf: &VdevInfo, what: Upkeep, did: &str) -> Result<String> {
    let (state, time) = image.spa().upkeep_state(what, leaf.guid)?;
    Ok(match state {
        UpkeepState::None => format!("(not {did})"),
        UpkeepState::Active => format!("(being {did}, started at {})", date(time)),
        UpkeepState::Canceled => format!("(not {did}, given up at {})", date(time)),
        UpkeepState::Suspended => format!("(partly {did}, put off at {})", date(time)),
        UpkeepState::Complete => format!("({did}, completed at {})", date(time)),
    })
}

fn print(status: &Status, scan: &ScanStatus, args: &Args) {
    let amount = |n: u64| if args.exact { n.to_string() } else { bytes(n) };
    say!("  pool: {}", status.pool);
    say!(" state: {}", status.state);
    if let (Some(what), Some(action)) = (status.status, status.action) {
        say!("status: {what}");
        say!("action: {action}");
    }
    say!("  scan: {}", scan_line(scan, now()));
    match &status.checkpoint {
        Some(c) if c.is_discarding => say!("checkpoint: being discarded, {} left", amount(c.bytes)),
        Some(c) => say!("checkpoint: created {}, consumes {}", date(c.time), amount(c.bytes)),
        None => {}
    }
    say!("config:\n");
    let width = status.vdevs.iter().map(|v| v.name.chars().count() + 2 * v.depth).max().unwrap_or(0).max(10);
    say!("\t{:<width$}  {:<8} {:>5} {:>5} {:>5}", "NAME", "STATE", "READ", "WRITE", "CKSUM");
    for vdev in &status.vdevs {
        if vdev.state.is_empty() {
            say!("\t{}", vdev.name);
            continue;
        }
        let name = format!("{:indent$}{}", "", vdev.name, indent = 2 * vdev.depth);
        let note = vdev.note.as_ref().map(|note| format!("  {note}")).unwrap_or_default();
        let count = |n: u64| if args.exact { n.to_string() } else { errors(n) };
        say!(
            "\t{name:<width$}  {:<8} {:>5} {:>5} {:>5}{note}",
            vdev.state,
            count(vdev.read_errors),
            count(vdev.write_errors),
            count(vdev.checksum_errors)
        );
    }
    say!();
    match status.nr_errors {
        0 => say!("errors: No known data errors"),
        n if !args.verbose => say!("errors: {n} data errors, use '-v' for a list"),
        _ => {
            say!("errors: Permanent errors have been detected in the following files:\n");
            status.errors.iter().for_each(|file| say!("        {file}"));
        }
    }
}

/// A number of errors in at most five characters.
fn errors(n: u64) -> String {
    if n < 1000 { n.to_string() } else { bytes(n).trim_end_matches('B').to_owned() }
}

/// What zpool(8) says of a scan; further lines begin with a tab.
pub fn scan_line(scan: &ScanStatus, now: u64) -> String {
    let what = name(scan.func);
    let (start, end) = (scan.start_time, scan.end_time);
    match scan.state {
        ScanState::None => "none requested".into(),
        ScanState::Canceled => format!("{what} canceled on {}", date(end)),
        ScanState::Finished => {
            let did = if scan.func == ScanFunc::Resilver { "resilvered" } else { "scrub repaired" };
            let (amount, time) = (bytes(scan.processed), span(end.saturating_sub(start)));
            format!("{did} {amount} in {time} with {} errors on {}", scan.errors, date(end))
        }
        ScanState::Scanning => progress_lines(scan, what, now),
    }
}

fn progress_lines(scan: &ScanStatus, what: &str, now: u64) -> String {
    let start = date(scan.start_time);
    let head = match scan.is_paused {
        true => format!("{what} paused since {}\n\t{what} started on {start}", date(scan.pass_paused)),
        false => format!("{what} in progress since {start}"),
    };
    let issued = scan.examined.saturating_sub(scan.skipped);
    let total = scan.to_examine.saturating_sub(scan.skipped).max(1);
    let percent = (issued as f64 * 100.0 / total as f64).min(100.0);
    let elapsed = now.saturating_sub(scan.pass_start).max(1);
    let rate = scan.pass_examined / elapsed;
    let left = total.saturating_sub(issued).checked_div(rate);
    let rest = match left {
        _ if scan.is_paused => String::new(),
        Some(left) => format!(", {} to go", span(left)),
        None => ", no estimated completion time".into(),
    };
    let did = if scan.func == ScanFunc::Resilver { "resilvered" } else { "repaired" };
    format!(
        "{head}\n\t{} / {} scanned, {} / {} issued\n\t{} {did}, {percent:.2}% done{rest}",
        bytes(scan.examined),
        bytes(scan.to_examine),
        bytes(issued),
        bytes(total),
        bytes(scan.processed),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_told_as_zpool_tells_them() {
        let scan = ScanStatus {
            func: ScanFunc::Scrub,
            state: ScanState::Finished,
            start_time: 1_795_414_800,
            end_time: 1_795_414_816,
            processed: 640 << 10,
            ..ScanStatus::default()
        };
        let expected = "scrub repaired 640K in 00:00:16 with 0 errors on Mon Nov 23 06:20:16 2026";
        assert_eq!(scan_line(&scan, 0), expected);
        assert_eq!(scan_line(&ScanStatus::default(), 0), "none requested");
        let running = ScanStatus {
            state: ScanState::Scanning,
            to_examine: 2 << 20,
            examined: 1 << 20,
            pass_examined: 1 << 20,
            pass_start: 100,
            ..scan
        };
        let line = scan_line(&running, 104);
        assert!(
            line.ends_with(
                "\n\t1M / 2M scanned, 1M / 2M issued\n\t640K repaired, 50.00% done, 00:00:04 to go"
            )
        );
    }
}
