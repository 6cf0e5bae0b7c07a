//! `zeo pool`: make, change and look at pools of powered-off machines.
mod create;
mod list;

use crate::cli::pool::PoolCommand;
use crate::report::Mode;
use anyhow::Result;

/// Runs it; the exit status.
///
/// # Errors
/// What the command says.
pub fn run(command: PoolCommand, mode: Mode) -> Result<u8> {
    match command {
        PoolCommand::Create(args) => create::run(&args)?,
        PoolCommand::List { images, verbose } => list::run(&images, verbose, mode)?,
    }
    Ok(0)
}
