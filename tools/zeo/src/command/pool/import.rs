//! `zeo pool import`: opens a pool and exports it again, so that no machine holds it any more.
use crate::say;
use anyhow::Result;
use mkfs::image::{Access, Image};
use zfs::spa::ImportOptions;

/// Opens and closes it; with `force` also a pool of another machine, with `without_logs` also one whose log devices are lost.
pub fn run(name: &str, force: bool, without_logs: bool) -> Result<()> {
    let options = ImportOptions { force, without_logs, ..ImportOptions::default() };
    let image = Image::open_with(name, Access::Write, &options)?;
    let pool = image.spa().properties()?.name;
    image.close()?;
    say!("pool '{pool}' is exported: any machine can open it");
    Ok(())
}
