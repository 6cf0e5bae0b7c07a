//! `zeo init`: a commented recipe to start from.
use crate::cli::Init;
use crate::failure::{self, Failure};
use crate::say;
use anyhow::{Context, Result};
use mkfs::recipe;

/// Runs it.
pub fn run(args: &Init) -> Result<()> {
    if args.schema {
        crate::output::text(recipe::SCHEMA);
        return Ok(());
    }
    std::fs::create_dir_all(&args.folder).with_context(|| args.folder.display().to_string())?;
    let file = args.folder.join(recipe::FILE_NAME);
    if file.exists() {
        let message = format!("{} is there already", file.display());
        return Err(Failure::new(failure::DATA, message, "name another folder").into());
    }
    std::fs::write(&file, recipe::TEMPLATE).with_context(|| file.display().to_string())?;
    say!("wrote {}", file.display());
    Ok(())
}
