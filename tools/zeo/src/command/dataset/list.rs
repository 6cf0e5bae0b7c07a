//! `zeo list`, `zeo snap list`, `zeo holds`.
use super::table::{self, Column};
use super::target::{self, About, Target};
use super::values::{Item, Kind, Value};
use crate::cli::dataset::{Holds, List, Scope};
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Result, bail};
use mkfs::image::Access;
use serde_json::{Map, json};
use std::cmp::Ordering;
use zfs::dsl::DatasetInfo;

const DEFAULT_COLUMNS: &str = "name,used,avail,refer,mountpoint";
/// What `-o space` stands for.
const SPACE_COLUMNS: &str = "name,avail,used,usedsnap,usedds,usedrefreserv,usedchild";

/// Prints the listing; `forced` is the kind when the command says it.
///
/// # Errors
/// Wrong names, reading's.
pub fn run(args: &List, mode: Mode, forced: Option<&str>) -> Result<()> {
    target::with(&args.image, Access::Read, |target| {
        let mut scope = args.scope.clone();
        if scope.types.is_none() {
            scope.types = forced.map(str::to_owned);
        }
        let items = items(target, &scope, &args.datasets)?;
        let columns = match args.columns.as_deref() {
            Some("space") => SPACE_COLUMNS,
            Some(columns) => columns,
            None => DEFAULT_COLUMNS,
        };
        let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
        let mut rows =
            items.iter().map(|item| Row::of(target, item, &columns, args)).collect::<Result<Vec<_>>>()?;
        if rows.is_empty() && mode == Mode::Text {
            eprintln!("no datasets available");
        }
        rows.sort_by(|a, b| a.compare(b, args.sort.len()));
        print(&columns, &rows, args.scope.form.script, mode)
    })
}

/// A line of the listing.
struct Row {
    cells: Vec<Option<Value>>,
    /// Keys to sort by, ascending ones first.
    keys: Vec<Option<Value>>,
}

impl Row {
    fn of(target: &Target, item: &Item, columns: &[&str], args: &List) -> Result<Self> {
        let value = |name: &str| item.value(target, name, args.scope.form.exact);
        let cells = columns.iter().map(|name| value(name)).collect::<Result<_>>()?;
        let keys = args.sort.iter().chain(&args.sort_down).map(|name| value(name)).collect::<Result<_>>()?;
        Ok(Self { cells, keys })
    }

    fn compare(&self, other: &Self, nr_up: usize) -> Ordering {
        let pairs = self.keys.iter().zip(&other.keys).enumerate();
        let mut orders = pairs.map(|(index, (a, b))| {
            let order = compare(a.as_ref(), b.as_ref());
            if index < nr_up { order } else { order.reverse() }
        });
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => match (a.number, b.number) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.text.cmp(&b.text),
        },
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

fn print(columns: &[&str], rows: &[Row], is_script: bool, mode: Mode) -> Result<()> {
    let text = |cell: &Option<Value>| cell.as_ref().map_or("-".to_owned(), |value| value.text.clone());
    if mode == Mode::Json {
        let objects: Vec<_> = rows
            .iter()
            .map(|row| {
                let pairs = columns.iter().zip(&row.cells);
                pairs.map(|(name, cell)| ((*name).to_owned(), json_value(cell))).collect::<Map<_, _>>()
            })
            .collect();
        return print_json(&objects);
    }
    let heading = |name: &&str| Column { name: name.to_uppercase(), is_right: is_number(name) };
    let columns: Vec<Column> = columns.iter().map(heading).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.cells.iter().map(text).collect()).collect();
    if rows.is_empty() {
        if !is_script {
            say!("no datasets available");
        }
        return Ok(());
    }
    table::print(&columns, &rows, is_script)
}

/// A value for programs: a number where there is one.
pub fn json_value(cell: &Option<Value>) -> serde_json::Value {
    match cell {
        None => serde_json::Value::Null,
        Some(Value { number: Some(number), text, .. }) if text.starts_with(|c: char| c.is_ascii_digit()) => {
            json!(number)
        }
        Some(value) => json!(value.text),
    }
}

fn is_number(name: &str) -> bool {
    const TEXT: [&str; 6] = ["name", "mountpoint", "origin", "type", "clones", "creation"];
    !TEXT.contains(&name) && !name.contains(':')
}

/// The kinds that `-t` names.
fn kinds(types: Option<&str>) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for name in types.unwrap_or("filesystem,volume").split(',') {
        match name {
            "filesystem" | "fs" => kinds.push(Kind::Filesystem),
            "volume" | "vol" => kinds.push(Kind::Volume),
            "snapshot" | "snap" => kinds.push(Kind::Snapshot),
            "bookmark" => kinds.push(Kind::Bookmark),
            "all" => kinds.extend([Kind::Filesystem, Kind::Volume, Kind::Snapshot, Kind::Bookmark]),
            _ => bail!("there is no kind '{name}': filesystem, volume, snapshot, bookmark or all"),
        }
    }
    Ok(kinds)
}

/// The datasets that a listing shows, in the order of the pool's tree.
///
/// # Errors
/// Names that are not there; reading's.
pub fn items(target: &Target, scope: &Scope, names: &[String]) -> Result<Vec<Item>> {
    let kinds = kinds(scope.types.as_deref())?;
    let wants_points = kinds.iter().any(|k| matches!(k, Kind::Snapshot | Kind::Bookmark));
    let all = target.spa().datasets()?;
    let mut found = Vec::new();
    if names.is_empty() {
        let depth = scope.depth.unwrap_or(usize::MAX);
        below(target, &all, target.pool(), depth, &kinds, &mut found)?;
        return Ok(found);
    }
    for name in names {
        let full = target.full(name);
        let explicit = scope.depth.or(scope.recursive.then_some(usize::MAX));
        let depth = explicit.unwrap_or(usize::from(wants_points && scope.types.is_some()));
        if full.contains(['@', '#']) {
            found.push(point(target, &all, &full)?);
        } else {
            if !all.iter().any(|info| info.name == full) {
                bail!("cannot open '{full}': dataset does not exist");
            }
            let kinds = if scope.types.is_none() && depth == 0 {
                vec![Kind::Filesystem, Kind::Volume]
            } else {
                kinds.clone()
            };
            below(target, &all, &full, depth, &kinds, &mut found)?;
        }
    }
    Ok(found)
}

/// One snapshot or bookmark by name.
fn point(target: &Target, all: &[DatasetInfo], full: &str) -> Result<Item> {
    if let Some(info) = all.iter().find(|info| info.name == full) {
        return Item::of_dataset(target, info);
    }
    if let Some((path, _)) = full.split_once('#') {
        let marks = target.spa().bookmarks(path).about(|| format!("cannot open '{full}'"))?;
        if let Some(mark) = marks.into_iter().find(|mark| mark.name == full) {
            return Ok(Item::of_mark(mark));
        }
    }
    bail!("cannot open '{full}': dataset does not exist")
}

fn below(
    target: &Target,
    all: &[DatasetInfo],
    top: &str,
    depth: usize,
    kinds: &[Kind],
    found: &mut Vec<Item>,
) -> Result<()> {
    let level = |name: &str| -> Option<usize> {
        let tail = name.strip_prefix(top)?;
        match tail.chars().next() {
            None => Some(0),
            Some('/' | '@' | '#') => Some(tail.matches(['/', '@', '#']).count()),
            Some(_) => None,
        }
    };
    // Bookmarks come after the snapshots of their dataset.
    let mut marks = Vec::new();
    for info in all.iter().filter(|info| level(&info.name).is_some_and(|l| l <= depth)) {
        let item = Item::of_dataset(target, info)?;
        if item.kind != Kind::Snapshot {
            found.append(&mut marks);
            if kinds.contains(&Kind::Bookmark) {
                let own = target.spa().bookmarks(&info.name)?.into_iter();
                marks.extend(own.filter(|m| level(&m.name).is_some_and(|l| l <= depth)).map(Item::of_mark));
            }
        }
        if kinds.contains(&item.kind) {
            found.push(item);
        }
    }
    found.append(&mut marks);
    Ok(())
}

/// `zeo holds`
///
/// # Errors
/// Wrong names, reading's.
pub fn holds(args: &Holds, mode: Mode) -> Result<()> {
    target::with(&args.image, Access::Read, |target| {
        let mut rows = Vec::new();
        for name in &args.snapshots {
            for full in holders(target, &target.full(name), args.recursive)? {
                let held = target.spa().holds(&full).about(|| format!("cannot open '{full}'"))?;
                rows.extend(held.into_iter().map(|(tag, time)| (full.clone(), tag, time)));
            }
        }
        if mode == Mode::Json {
            let objects: Vec<_> = rows
                .iter()
                .map(|(name, tag, time)| json!({ "name": name, "tag": tag, "timestamp": time }))
                .collect();
            return print_json(&objects);
        }
        let column = |name: &str| Column { name: name.to_owned(), is_right: false };
        let columns = [column("NAME"), column("TAG"), column("TIMESTAMP")];
        let when = |time: u64| if args.form.exact { time.to_string() } else { table::date(time) };
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, tag, time)| vec![name, tag, when(time)]).collect();
        table::print(&columns, &rows, args.form.script)
    })
}

/// A snapshot, and those of the same name below.
fn holders(target: &Target, full: &str, is_recursive: bool) -> Result<Vec<String>> {
    let Some((path, snapshot)) = full.split_once('@') else {
        bail!("'{full}' is not a snapshot");
    };
    if !is_recursive {
        return Ok(vec![full.to_owned()]);
    }
    let is_below = |name: &str| {
        let tail = name.strip_suffix(&format!("@{snapshot}")).and_then(|head| head.strip_prefix(path));
        tail.is_some_and(|tail| tail.is_empty() || tail.starts_with('/'))
    };
    let all = target.spa().datasets()?.into_iter().map(|info| info.name);
    Ok(all.filter(|name| is_below(name)).collect())
}
