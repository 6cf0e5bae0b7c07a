//! `zeo pool import`: opens a pool and exports it again, so that no machine holds it any more.
use anyhow::Result;
use mkfs::image::{Access, Image};

/// Opens and closes it; with `force` also a pool of another machine.
pub fn run(name: &str, force: bool) -> Result<()> {
    let image = if force { Image::take_over(name)? } else { Image::open(name, Access::Write)? };
    let pool = image.spa().properties()?.name;
    image.close()?;
    println!("pool '{pool}' is exported: any machine can open it");
    Ok(())
}
