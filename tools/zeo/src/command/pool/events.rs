//! `zeo pool events`: what opening a pool, and reading what every opening reads, came upon.
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::Result;
use mkfs::image::{Access, Image};
use serde::Serialize;
use zfs::event::Event;
use zfs::spa::Spa;

/// An event: its class as zpool-events(8) names it, and what happened.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Told {
    class: &'static str,
    text: String,
}

/// Prints them, oldest first.
pub fn run(name: &str, mode: Mode) -> Result<()> {
    let image = Image::open(name, Access::Read)?;
    let log = image.spa().events();
    // Datasets are looked at as well: their roots are where damage hurts most.
    image.spa().datasets()?;
    let events: Vec<Told> = log.snapshot().iter().map(|event| tell(image.spa(), event)).collect();
    image.close()?;
    if mode == Mode::Json {
        return print_json(&events);
    }
    events.iter().for_each(|event| say!("{:<32} {}", event.class, event.text));
    if log.nr_dropped() > 0 {
        say!("({} older ones were dropped)", log.nr_dropped());
    }
    Ok(())
}

fn tell(spa: &Spa, event: &Event) -> Told {
    let device = |guid: u64| {
        let tree = spa.vdev_tree();
        let leaves = super::advice::leaves(&tree);
        leaves.iter().find(|v| v.guid == guid).map_or_else(|| guid.to_string(), |v| v.name())
    };
    let (class, text) = match event {
        Event::BadCopy { bookmark, vdev, offset, is_device_error: true } => (
            "ereport.fs.zfs.io",
            format!("block {bookmark}: a copy cannot be read, vdev {vdev} offset {offset:#x}"),
        ),
        Event::BadCopy { bookmark, vdev, offset, .. } => (
            "ereport.fs.zfs.checksum",
            format!("block {bookmark}: the checksum of a copy is wrong, vdev {vdev} offset {offset:#x}"),
        ),
        Event::Repaired { bookmark, vdev, offset } => (
            "sysevent.fs.zfs.repaired",
            format!("block {bookmark}: a bad copy was rewritten, vdev {vdev} offset {offset:#x}"),
        ),
        Event::Lost { bookmark, offset } => {
            ("ereport.fs.zfs.data", format!("block {bookmark}: no copy is good, file offset {offset:#x}"))
        }
        Event::WriteFailed { vdev, offset } => {
            ("ereport.fs.zfs.io", format!("a write failed, vdev {vdev} offset {offset:#x}"))
        }
        Event::VdevState { guid, state } => {
            ("resource.fs.zfs.statechange", format!("the device {} is {state} now", device(*guid)))
        }
        Event::SpareActivated { guid, original } => (
            "sysevent.fs.zfs.vdev_spare",
            format!("the spare {} stands in for {}", device(*guid), device(*original)),
        ),
        Event::Damaged { what } => ("ereport.fs.zfs.zpool", format!("damaged: {what}")),
        Event::Feature { guid, is_readable: true } => {
            ("ereport.fs.zfs.zpool", format!("the feature {guid} can be read, and not written"))
        }
        Event::Feature { guid, .. } => {
            ("ereport.fs.zfs.zpool", format!("the feature {guid} is not known here"))
        }
        Event::ForcedReadOnly { reason } => ("ereport.fs.zfs.zpool", format!("read-only: {reason}")),
        Event::Suspended => ("ereport.fs.zfs.io_failure", "the pool is suspended".to_owned()),
    };
    Told { class, text }
}
