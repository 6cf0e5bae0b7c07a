//! `zeo pool get` and `set`: properties of the pool itself.
use super::create::{number, number_names};
use super::facts::{self, Fact};
use crate::cli::pool::Get;
use crate::command::dataset::table::{self, Column};
use crate::report::{Mode, print_json};
use anyhow::{Result, bail};
use mkfs::image::{Access, Image};
use serde_json::json;

/// Sets `name=value`.
pub fn set(setting: &str, name: &str) -> Result<()> {
    let Some((property, value)) = setting.split_once('=') else {
        bail!("write NAME=VALUE, as in failmode=wait");
    };
    let Some((property, number)) = number(property, value)? else {
        bail!("there is no property '{property}' to be set; there are: {}", number_names());
    };
    let image = Image::open(name, Access::Write)?;
    let done = image.spa().set_pool_number(property, number);
    let closed = image.close();
    done?;
    closed
}

/// Prints properties.
pub fn get(args: &Get, mode: Mode) -> Result<()> {
    let image = Image::open(&args.image, Access::Read)?;
    let pool = image.spa().properties()?.name;
    let all = facts::all(&image, args.form.exact || mode == Mode::Json);
    image.close()?;
    let all = all?;
    let wanted: Vec<&Fact> = match args.properties.as_str() {
        "all" => all.iter().collect(),
        list => list.split(',').map(|name| facts::find(&all, name)).collect::<Result<_>>()?,
    };
    if mode == Mode::Json {
        let object = |f: &&Fact| json!({ "property": f.property, "value": f.value, "source": f.source });
        return print_json(&wanted.iter().map(object).collect::<Vec<_>>());
    }
    let fields: Vec<&str> =
        args.fields.as_deref().unwrap_or("name,property,value,source").split(',').collect();
    let cell = |fact: &Fact, field: &str| {
        Ok(match field {
            "name" => pool.clone(),
            "property" => fact.property.clone(),
            "value" => fact.value.clone(),
            "source" => fact.source.to_owned(),
            _ => bail!("there is no field '{field}': name, property, value, source"),
        })
    };
    let rows = wanted.iter().map(|fact| fields.iter().map(|field| cell(fact, field)).collect());
    let rows = rows.collect::<Result<Vec<Vec<String>>>>()?;
    let columns: Vec<Column> =
        fields.iter().map(|name| Column { name: name.to_uppercase(), is_right: false }).collect();
    table::print(&columns, &rows, args.form.script)
}
