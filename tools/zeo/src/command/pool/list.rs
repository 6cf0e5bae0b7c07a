//! `zeo pool list`.
use crate::report::{Mode, print_json};
use anyhow::Result;
use mkfs::image::{Access, Image};
use mkfs::size::Size;
use serde::Serialize;
use zfs::spa::VdevInfo;
use zfs::vdev::VdevState;

/// A pool's line.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    size: u64,
    allocated: u64,
    free: u64,
    capacity_percent: u64,
    health: String,
    vdevs: Vec<VdevLine>,
}

/// A vdev's line.
#[derive(Debug, Serialize)]
struct VdevLine {
    name: String,
    depth: usize,
    size: u64,
    health: String,
}

/// Prints a line for each pool.
pub fn run(images: &[String], verbose: bool, mode: Mode) -> Result<()> {
    let lines = images.iter().map(|image| line(image)).collect::<Result<Vec<_>>>()?;
    if mode == Mode::Json {
        return print_json(&lines);
    }
    println!("{:<20} {:>8} {:>8} {:>8} {:>5}  HEALTH", "NAME", "SIZE", "ALLOC", "FREE", "CAP");
    for line in lines {
        println!(
            "{:<20} {:>8} {:>8} {:>8} {:>4}%  {}",
            line.name,
            Size(line.size).to_string(),
            Size(line.allocated).to_string(),
            Size(line.free).to_string(),
            line.capacity_percent,
            line.health
        );
        for vdev in line.vdevs.iter().filter(|_| verbose) {
            let name = format!("{:indent$}{}", "", vdev.name, indent = 2 * vdev.depth);
            let size = if vdev.size > 0 { Size(vdev.size).to_string() } else { "-".into() };
            println!("{name:<20} {size:>8} {:>8} {:>8} {:>5}  {}", "-", "-", "-", vdev.health);
        }
    }
    Ok(())
}

fn line(name: &str) -> Result<Line> {
    let image = Image::open(name, Access::Read)?;
    let spa = image.spa();
    let space = spa.space()?;
    let tree = spa.vdev_tree();
    let mut vdevs = Vec::new();
    tree.children.iter().for_each(|top| collect(top, 1, &mut vdevs));
    if !tree.spares.is_empty() {
        vdevs.push(VdevLine { name: "spare".into(), depth: 0, size: 0, health: String::new() });
        tree.spares.iter().for_each(|spare| collect(spare, 1, &mut vdevs));
    }
    let line = Line {
        name: spa.properties()?.name,
        size: space.size,
        allocated: space.allocated,
        free: space.free,
        capacity_percent: space.allocated * 100 / space.size.max(1),
        health: tree.state.to_string(),
        vdevs,
    };
    image.close()?;
    Ok(line)
}

fn collect(vdev: &VdevInfo, depth: usize, lines: &mut Vec<VdevLine>) {
    let health = match (vdev.is_in_use, vdev.is_spare && depth == 1) {
        (true, _) => "INUSE".into(),
        (false, true) if vdev.state == VdevState::Online => "AVAIL".into(),
        _ => vdev.state.to_string(),
    };
    lines.push(VdevLine { name: vdev.name(), depth, size: vdev.asize, health });
    vdev.children.iter().for_each(|child| collect(child, depth + 1, lines));
}
