//! `zeo pool status`.
use super::text::{bytes, date, now, span};
use crate::report::{Mode, print_json};
use anyhow::Result;
use mkfs::damage;
use mkfs::image::{Access, Image};
use serde::Serialize;
use zfs::scan::{ScanFunc, ScanState, ScanStatus};
use zfs::spa::VdevInfo;
use zfs::vdev::AllocClass;

/// A pool.
#[derive(Debug, Serialize)]
struct Status {
    pool: String,
    guid: u64,
    txg: u64,
    state: String,
    scan: Option<Scan>,
    vdevs: Vec<Vdev>,
    nr_errors: usize,
    errors: Vec<String>,
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
}

/// Prints what is known of each pool.
pub fn run(images: &[String], verbose: bool, mode: Mode) -> Result<()> {
    let mut all = Vec::new();
    for (index, name) in images.iter().enumerate() {
        let image = Image::open(name, Access::Read)?;
        let scan = image.spa().scan_status();
        let status = status(&image, verbose)?;
        if mode == Mode::Text {
            if index > 0 {
                println!();
            }
            print(&status, &scan, verbose);
        }
        all.push(status);
        image.close()?;
    }
    if mode == Mode::Json { print_json(&all) } else { Ok(()) }
}

fn status(image: &Image, verbose: bool) -> Result<Status> {
    let spa = image.spa();
    let properties = spa.properties()?;
    let scan = spa.scan_status();
    let tree = spa.vdev_tree();
    let nr_errors = spa.lost_blocks()?.len();
    Ok(Status {
        vdevs: vdevs(&tree),
        pool: properties.name,
        guid: properties.guid,
        txg: properties.txg,
        state: if properties.is_suspended { "SUSPENDED".into() } else { tree.state.to_string() },
        scan: (scan.func != ScanFunc::None).then(|| describe(&scan)),
        nr_errors,
        errors: if verbose && nr_errors > 0 { damage::files(image)? } else { Vec::new() },
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
fn vdevs(root: &VdevInfo) -> Vec<Vdev> {
    let mut lines = vec![line(root, 0)];
    let of =
        |class: AllocClass| root.children.iter().filter(move |top| top.class == class && top.kind != "hole");
    of(AllocClass::Normal).for_each(|top| add(top, 1, &mut lines));
    let classes = [(AllocClass::Special, "special"), (AllocClass::Dedup, "dedup"), (AllocClass::Log, "logs")];
    for (class, heading) in classes {
        if of(class).next().is_some() {
            lines.push(Vdev { name: heading.into(), ..Vdev::default() });
            of(class).for_each(|top| add(top, 1, &mut lines));
        }
    }
    if !root.spares.is_empty() {
        lines.push(Vdev { name: "spares".into(), ..Vdev::default() });
        for spare in &root.spares {
            let state = if spare.is_in_use { "INUSE" } else { "AVAIL" };
            lines.push(Vdev { state: state.into(), ..line(spare, 1) });
        }
    }
    lines
}

fn add(vdev: &VdevInfo, depth: usize, lines: &mut Vec<Vdev>) {
    lines.push(line(vdev, depth));
    vdev.children.iter().for_each(|child| add(child, depth + 1, lines));
}

fn line(vdev: &VdevInfo, depth: usize) -> Vdev {
    Vdev {
        name: name_of(vdev),
        guid: vdev.guid,
        depth,
        state: vdev.state.to_string(),
        read_errors: vdev.errors.read,
        write_errors: vdev.errors.write,
        checksum_errors: vdev.errors.checksum,
    }
}

/// A device's file name, `mirror-0`, `raidz1-0`.
pub fn name_of(vdev: &VdevInfo) -> String {
    match &vdev.path {
        Some(path) => path.rsplit('/').next().unwrap_or_default().to_owned(),
        None if vdev.kind == "raidz" => format!("raidz{}-{}", vdev.nparity, vdev.id),
        None => format!("{}-{}", vdev.kind, vdev.id),
    }
}

fn print(status: &Status, scan: &ScanStatus, verbose: bool) {
    println!("  pool: {}", status.pool);
    println!(" state: {}", status.state);
    if status.nr_errors > 0 {
        println!("status: One or more devices has experienced an error resulting in data");
        println!("\tcorruption.  Applications may be affected.");
        println!("action: Restore the file in question if possible.  Otherwise restore the");
        println!("\tentire pool from backup.");
    }
    println!("  scan: {}", scan_line(scan, now()));
    println!("config:\n");
    let width = status.vdevs.iter().map(|v| v.name.len() + 2 * v.depth).max().unwrap_or(0).max(10);
    println!("\t{:<width$}  {:<8} {:>5} {:>5} {:>5}", "NAME", "STATE", "READ", "WRITE", "CKSUM");
    for vdev in &status.vdevs {
        if vdev.state.is_empty() {
            println!("\t{}", vdev.name);
            continue;
        }
        let name = format!("{:indent$}{}", "", vdev.name, indent = 2 * vdev.depth);
        println!(
            "\t{name:<width$}  {:<8} {:>5} {:>5} {:>5}",
            vdev.state, vdev.read_errors, vdev.write_errors, vdev.checksum_errors
        );
    }
    println!();
    match status.nr_errors {
        0 => println!("errors: No known data errors"),
        n if !verbose => println!("errors: {n} data errors, use '-v' for a list"),
        _ => {
            println!("errors: Permanent errors have been detected in the following files:\n");
            status.errors.iter().for_each(|file| println!("        {file}"));
        }
    }
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
