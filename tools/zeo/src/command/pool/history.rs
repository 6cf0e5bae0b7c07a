//! `zeo pool history`.
use super::text::stamp;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::Result;
use mkfs::image::{Access, Image};
use serde::Serialize;

/// A record.
#[derive(Debug, Serialize)]
struct Record {
    time: u64,
    txg: u64,
    text: String,
}

/// Prints the records; `internal` ones (those with a transaction group) only when asked for.
pub fn run(name: &str, internal: bool, mode: Mode) -> Result<()> {
    let image = Image::open(name, Access::Read)?;
    let pool = image.spa().properties()?.name;
    let records: Vec<Record> = image
        .spa()
        .history()?
        .into_iter()
        .filter(|r| internal || r.txg == 0)
        .map(|r| Record { time: r.time, txg: r.txg, text: r.text })
        .collect();
    image.close()?;
    if mode == Mode::Json {
        return print_json(&records);
    }
    say!("History for '{pool}':");
    for record in records {
        let group = if record.txg == 0 { String::new() } else { format!("[txg:{}] ", record.txg) };
        say!("{} {group}{}", stamp(record.time), record.text);
    }
    Ok(())
}
