//! `zeo pool iostat`: space of each vdev, and the requests that reading the pool's metadata took.
use super::status::name_of;
use super::text::bytes;
use crate::report::{Mode, print_json};
use anyhow::Result;
use mkfs::image::{Access, Image};
use serde::Serialize;
use zfs::spa::VdevInfo;

/// A vdev's line.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    depth: usize,
    size: u64,
    reads: u64,
    writes: u64,
}

/// Prints the pool, or with `verbose` every vdev.
pub fn run(name: &str, verbose: bool, mode: Mode) -> Result<()> {
    let image = Image::open(name, Access::Read)?;
    image.spa().datasets()?;
    let tree = image.spa().vdev_tree();
    let space = image.spa().space()?;
    let mut lines = Vec::new();
    add(&image, &tree, 0, &mut lines);
    image.close()?;
    if mode == Mode::Json {
        return print_json(&lines);
    }
    println!("{:<20} {:>6} {:>6}  {:>6} {:>6}", "", "capacity", "", "operations", "");
    println!("{:<20} {:>6} {:>6}  {:>6} {:>6}", "pool", "alloc", "free", "read", "write");
    for line in lines.iter().filter(|line| verbose || line.depth == 0) {
        let name = format!("{:indent$}{}", "", line.name, indent = 2 * line.depth);
        let (alloc, free) = match line.depth {
            0 => (bytes(space.allocated), bytes(space.free)),
            _ => ("-".into(), if line.size > 0 { bytes(line.size) } else { "-".into() }),
        };
        println!("{name:<20} {alloc:>6} {free:>6}  {:>6} {:>6}", line.reads, line.writes);
    }
    Ok(())
}

/// Adds a vdev and those below it; the requests of a vdev are those of its devices.
fn add(image: &Image, vdev: &VdevInfo, depth: usize, lines: &mut Vec<Line>) {
    let place = lines.len();
    let leaves = image.spa().storage().leaves();
    let own = leaves.iter().find(|leaf| leaf.guid() == vdev.guid).map_or((0, 0), |leaf| leaf.nr_requests());
    lines.push(Line { name: name_of(vdev), depth, size: vdev.asize, reads: own.0, writes: own.1 });
    for child in &vdev.children {
        let at = lines.len();
        add(image, child, depth + 1, lines);
        let (reads, writes) = (lines[at].reads, lines[at].writes);
        lines[place].reads += reads;
        lines[place].writes += writes;
    }
}
