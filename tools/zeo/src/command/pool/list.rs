//! `zeo pool list`.
use super::facts;
use super::text::{bytes, shown};
use crate::cli::pool::List;
use crate::command::dataset::table::{self, Column};
use crate::report::{Mode, print_json};
use anyhow::Result;
use mkfs::image::{Access, Image};
use serde::Serialize;
use zfs::spa::VdevInfo;
use zfs::vdev::VdevState;

/// What is shown when nothing else is asked for.
const COLUMNS: &str = "name,size,allocated,free,checkpoint,capacity,health";

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
    #[serde(skip)]
    cells: Vec<String>,
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
pub fn run(args: &List, mode: Mode) -> Result<()> {
    let names: Vec<&str> = args.columns.as_deref().unwrap_or(COLUMNS).split(',').collect();
    let lines = args.images.iter().map(|image| line(image, &names, args)).collect::<Result<Vec<_>>>()?;
    if mode == Mode::Json {
        return print_json(&lines);
    }
    let column = |name: &&str| Column {
        name: match *name {
            "allocated" => "ALLOC".into(),
            "capacity" => "CAP".into(),
            "checkpoint" => "CKPOINT".into(),
            other => other.to_uppercase(),
        },
        is_right: !matches!(*name, "name" | "health" | "comment" | "bootfs" | "compatibility"),
    };
    let columns: Vec<Column> = names.iter().map(column).collect();
    let mut rows = Vec::new();
    for line in lines {
        rows.push(line.cells);
        for vdev in line.vdevs.iter().filter(|_| args.verbose) {
            rows.push(names.iter().map(|name| vdev_cell(vdev, name, args)).collect());
        }
    }
    table::print(&columns, &rows, args.form.script)
}

fn vdev_cell(vdev: &VdevLine, name: &str, args: &List) -> String {
    match name {
        "name" if args.form.script => vdev.name.clone(),
        "name" => format!("{:indent$}{}", "", vdev.name, indent = 2 * vdev.depth),
        "size" if vdev.size > 0 && args.form.exact => vdev.size.to_string(),
        "size" if vdev.size > 0 => bytes(vdev.size),
        "health" => vdev.health.clone(),
        _ => "-".into(),
    }
}

fn line(name: &str, columns: &[&str], args: &List) -> Result<Line> {
    let image = Image::open(name, Access::Read)?;
    let spa = image.spa();
    let space = spa.space()?;
    let tree = spa.vdev_tree();
    let facts = facts::all(&image, args.form.exact)?;
    let mut vdevs = Vec::new();
    tree.children.iter().for_each(|top| collect(top, 1, args, &mut vdevs));
    if !tree.spares.is_empty() {
        vdevs.push(VdevLine { name: "spare".into(), depth: 0, size: 0, health: "-".into() });
        tree.spares.iter().for_each(|spare| collect(spare, 1, args, &mut vdevs));
    }
    let cell = |name: &&str| facts::find(&facts, name).map(|fact| fact.value.clone());
    let line = Line {
        name: spa.properties()?.name,
        size: space.size,
        allocated: space.allocated,
        free: space.free,
        capacity_percent: space.allocated * 100 / space.size.max(1),
        health: tree.state.to_string(),
        vdevs,
        cells: columns.iter().map(cell).collect::<Result<_>>()?,
    };
    image.close()?;
    Ok(line)
}

fn collect(vdev: &VdevInfo, depth: usize, args: &List, lines: &mut Vec<VdevLine>) {
    if vdev.kind == "hole" {
        return;
    }
    let health = match (vdev.is_in_use, vdev.is_spare && depth == 1) {
        (true, _) => "INUSE".into(),
        (false, true) if vdev.state == VdevState::Online => "AVAIL".into(),
        _ => vdev.state.to_string(),
    };
    lines.push(VdevLine { name: shown(vdev, args.naming), depth, size: vdev.asize, health });
    vdev.children.iter().for_each(|child| collect(child, depth + 1, args, lines));
}
