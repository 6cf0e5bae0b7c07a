//! `zeo bench`: figures, each with the command that makes it again.
use crate::cli::Bench;
use crate::report::Mode;
use anyhow::Result;

/// Runs it.
pub fn run(_args: &Bench, _mode: Mode) -> Result<()> {
    Ok(())
}
