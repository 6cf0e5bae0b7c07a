//! `zeo pool list`.
use crate::report::{Mode, print_json};
use anyhow::Result;
use mkfs::image::{Access, Image};
use mkfs::size::Size;
use serde::Serialize;

/// A pool's line.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    size: u64,
    allocated: u64,
    free: u64,
    capacity_percent: u64,
    vdevs: Vec<VdevLine>,
}

/// A vdev's line.
#[derive(Debug, Serialize)]
struct VdevLine {
    name: String,
    size: u64,
}

/// Prints a line for each pool.
pub fn run(images: &[String], verbose: bool, mode: Mode) -> Result<()> {
    let lines = images.iter().map(|image| line(image)).collect::<Result<Vec<_>>>()?;
    if mode == Mode::Json {
        return print_json(&lines);
    }
    println!("{:<20} {:>8} {:>8} {:>8} {:>5}", "NAME", "SIZE", "ALLOC", "FREE", "CAP");
    for line in lines {
        println!(
            "{:<20} {:>8} {:>8} {:>8} {:>4}%",
            line.name,
            Size(line.size).to_string(),
            Size(line.allocated).to_string(),
            Size(line.free).to_string(),
            line.capacity_percent
        );
        for vdev in line.vdevs.iter().filter(|_| verbose) {
            println!("  {:<18} {:>8}", vdev.name, Size(vdev.size).to_string());
        }
    }
    Ok(())
}

fn line(name: &str) -> Result<Line> {
    let image = Image::open(name, Access::Read)?;
    let spa = image.spa();
    let space = spa.space()?;
    let vdevs = spa
        .vdevs()
        .into_iter()
        .map(|v| VdevLine { name: v.path.unwrap_or_else(|| format!("{}-{}", v.kind, v.id)), size: v.asize });
    let line = Line {
        name: spa.properties()?.name,
        size: space.size,
        allocated: space.allocated,
        free: space.free,
        capacity_percent: space.allocated * 100 / space.size.max(1),
        vdevs: vdevs.collect(),
    };
    image.close()?;
    Ok(line)
}
