//! `zeo get`.
use super::list::{items, json_value};
use super::table::{self, Column};
use super::target;
use super::values::Value;
use crate::cli::dataset::Get;
use crate::report::{Mode, print_json};
use anyhow::{Result, bail};
use mkfs::image::Access;
use serde_json::json;
use zfs::dsl::Source;

/// One line: a dataset's property.
struct Line {
    name: String,
    property: String,
    value: Value,
}

/// Prints properties.
///
/// # Errors
/// Wrong names, reading's.
pub fn run(args: &Get, mode: Mode) -> Result<()> {
    let lines = target::with(&args.image, Access::Read, |target| {
        let mut scope = args.scope.clone();
        if scope.types.is_none() && (args.datasets.is_empty() || scope.recursive || scope.depth.is_some()) {
            scope.types = Some("all".to_owned());
        }
        let mut lines = Vec::new();
        for item in items(target, &scope, &args.datasets)? {
            let names: Vec<String> = match args.properties.as_str() {
                "all" => item.all_names(),
                list => list.split(',').map(str::to_owned).collect(),
            };
            for property in names {
                let value = item.value(target, &property, args.scope.form.exact)?;
                let missing = || Value { text: "-".into(), source: Source::None, number: None };
                let line = Line { name: item.name.clone(), value: value.unwrap_or_else(missing), property };
                if args.properties != "all" || line.value.text != "-" {
                    lines.push(line);
                }
            }
        }
        Ok(lines)
    })?;
    let lines: Vec<Line> = match &args.sources {
        Some(wanted) => lines.into_iter().filter(|line| is_wanted(&line.value.source, wanted)).collect(),
        None => lines,
    };
    print(args, &lines, mode)
}

fn is_wanted(source: &Source, wanted: &str) -> bool {
    let name = match source {
        Source::Default => "default",
        Source::Local => "local",
        Source::Inherited(_) => "inherited",
        Source::Received => "received",
        Source::None => "none",
    };
    wanted.split(',').any(|w| w == name)
}

fn print(args: &Get, lines: &[Line], mode: Mode) -> Result<()> {
    if mode == Mode::Json {
        let object = |line: &Line| {
            let value =
                Value { text: line.value.text.clone(), source: Source::None, number: line.value.number };
            json!({
                "name": line.name,
                "property": line.property,
                "value": json_value(&Some(value)),
                "source": line.value.source_text(),
            })
        };
        return print_json(&lines.iter().map(object).collect::<Vec<_>>());
    }
    const ALL: &str = "name,property,value,source";
    let fields: Vec<&str> =
        args.fields.as_deref().filter(|f| *f != "all").unwrap_or(ALL).split(',').collect();
    let cell = |line: &Line, field: &str| -> Result<String> {
        Ok(match field {
            "name" => line.name.clone(),
            "property" => line.property.clone(),
            "value" => line.value.text.clone(),
            "source" => line.value.source_text(),
            _ => bail!("there is no field '{field}': name, property, value, source"),
        })
    };
    let columns: Vec<Column> =
        fields.iter().map(|name| Column { name: name.to_uppercase(), is_right: false }).collect();
    let rows = lines
        .iter()
        .map(|line| fields.iter().map(|field| cell(line, field)).collect())
        .collect::<Result<Vec<Vec<String>>>>()?;
    table::print(&columns, &rows, args.scope.form.script)
}
