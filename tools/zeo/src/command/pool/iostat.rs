//! `zeo pool iostat`: space of each vdev, and the requests that reading the pool's metadata took.
//!
//! A pool of a powered-off machine has nobody else to serve: the figures are those of this command's own reading, from
//! the labels to the list of datasets.
use super::text::{bytes, shown};
use crate::cli::pool::Iostat;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::Result;
use mkfs::image::{Access, Image};
use serde::Serialize;
use zfs::spa::VdevInfo;

/// A vdev's line.
#[derive(Debug, Default, Serialize)]
struct Line {
    name: String,
    depth: usize,
    /// Of top-level vdevs; of the pool, what it can allocate.
    size: u64,
    allocated: Option<u64>,
    free: Option<u64>,
    reads: u64,
    writes: u64,
    bytes_read: u64,
    bytes_written: u64,
}

/// Prints the pool, or with `-v` every vdev.
pub fn run(args: &Iostat, mode: Mode) -> Result<()> {
    let image = Image::open(&args.image, Access::Read)?;
    image.spa().datasets()?;
    let tree = image.spa().vdev_tree();
    let space = image.spa().space()?;
    let mut lines = Vec::new();
    add(&image, &tree, 0, args, &mut lines);
    image.close()?;
    if let Some(pool) = lines.first_mut() {
        (pool.size, pool.allocated, pool.free) = (space.size, Some(space.allocated), Some(space.free));
    }
    if mode == Mode::Json {
        return print_json(&lines);
    }
    lines.retain(|line| args.verbose || line.depth == 0);
    let exact = args.form.exact;
    let amount = |n: u64| if exact { n.to_string() } else { bytes(n) };
    let count = |n: u64| if exact { n.to_string() } else { bytes(n).trim_end_matches('B').to_owned() };
    let space = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), amount);
    let cells = |line: &Line| {
        [
            space(line.allocated),
            space(line.free),
            count(line.reads),
            count(line.writes),
            amount(line.bytes_read),
            amount(line.bytes_written),
        ]
    };
    if args.form.script {
        lines.iter().for_each(|line| say!("{}\t{}", line.name, cells(line).join("\t")));
        return Ok(());
    }
    let name = |line: &Line| format!("{:indent$}{}", "", line.name, indent = 2 * line.depth);
    let width = lines.iter().map(|line| name(line).chars().count()).max().unwrap_or(0).max(10);
    let rule = format!("{:-<width$}  -----  -----  -----  -----  -----  -----", "");
    say!("{:<width$}    capacity     operations     bandwidth", "");
    say!("{:<width$}  alloc   free   read  write   read  write", "pool");
    say!("{rule}");
    for line in &lines {
        let [alloc, free, read, write, bytes_read, bytes_written] = cells(line);
        let name = name(line);
        say!(
            "{name:<width$}  {alloc:>5}  {free:>5}  {read:>5}  {write:>5}  {bytes_read:>5}  {bytes_written:>5}"
        );
    }
    say!("{rule}");
    Ok(())
}

/// Adds a vdev and those below it; the requests of a vdev are those of its devices.
fn add(image: &Image, vdev: &VdevInfo, depth: usize, args: &Iostat, lines: &mut Vec<Line>) {
    let place = lines.len();
    let leaves = image.spa().storage().leaves();
    let mut line = Line { name: shown(vdev, args.naming), depth, size: vdev.asize, ..Line::default() };
    if let Some(leaf) = leaves.iter().find(|leaf| leaf.guid() == vdev.guid) {
        (line.reads, line.writes) = leaf.nr_requests();
        (line.bytes_read, line.bytes_written) = leaf.nr_bytes();
    }
    lines.push(line);
    for child in vdev.children.iter().filter(|child| child.kind != "hole") {
        let at = lines.len();
        add(image, child, depth + 1, args, lines);
        let of = |line: &Line| [line.reads, line.writes, line.bytes_read, line.bytes_written];
        let [reads, writes, bytes_read, bytes_written] = of(&lines[at]);
        lines[place].reads += reads;
        lines[place].writes += writes;
        lines[place].bytes_read += bytes_read;
        lines[place].bytes_written += bytes_written;
    }
}
