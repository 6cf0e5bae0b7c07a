//! `zeo pool events`: what opening a pool, and reading what every opening reads, came upon.
use crate::report::{Mode, print_json};
use anyhow::Result;
use mkfs::image::{Access, Image};

/// Prints them, oldest first.
pub fn run(name: &str, mode: Mode) -> Result<()> {
    let image = Image::open(name, Access::Read)?;
    let log = image.spa().events();
    // Datasets are looked at as well: their roots are where damage hurts most.
    image.spa().datasets()?;
    let events: Vec<String> = log.snapshot().iter().map(|event| format!("{event:?}")).collect();
    image.close()?;
    if mode == Mode::Json {
        return print_json(&events);
    }
    events.iter().for_each(|event| println!("{event}"));
    if log.nr_dropped() > 0 {
        println!("({} older ones were dropped)", log.nr_dropped());
    }
    Ok(())
}
