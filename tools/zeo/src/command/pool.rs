//! `zeo pool`: make, change and look at pools of powered-off machines.
mod advice;
mod checkpoint;
mod create;
mod device;
mod events;
mod facts;
mod history;
mod import;
mod iostat;
mod list;
mod mend;
mod properties;
mod scrub;
mod split;
mod status;
mod text;
mod upkeep;
mod vdev;

use crate::cli::pool::PoolCommand;
use crate::report::Mode;
use anyhow::Result;
use zfs::spa::Upkeep;

/// Runs it; the exit status.
///
/// # Errors
/// What the command says.
pub fn run(command: PoolCommand, mode: Mode) -> Result<u8> {
    match command {
        PoolCommand::Clear { image, device } => mend::clear(&image, device.as_deref(), mode)?,
        PoolCommand::Add(args) => vdev::add(&args)?,
        PoolCommand::Attach(args) => vdev::attach(&args, mode)?,
        PoolCommand::Checkpoint(args) => checkpoint::run(&args, mode)?,
        PoolCommand::Create(args) => create::run(&args)?,
        PoolCommand::Detach { image, device } => vdev::detach(&image, &device)?,
        PoolCommand::Events { image } => events::run(&image, mode)?,
        PoolCommand::Get(args) => properties::get(&args, mode)?,
        PoolCommand::History { image, internal, .. } => history::run(&image, internal, mode)?,
        PoolCommand::Import { image, force, missing_log } => import::run(&image, force, missing_log)?,
        PoolCommand::Initialize(args) => upkeep::run(Upkeep::Initialize, &args, mode)?,
        PoolCommand::Iostat(args) => iostat::run(&args, mode)?,
        PoolCommand::List(args) => list::run(&args, mode)?,
        PoolCommand::Resilver { image } => mend::resilver(&image, mode)?,
        PoolCommand::Offline { image, devices } => vdev::offline(&image, &devices)?,
        PoolCommand::Online { image, devices, expand } => vdev::online(&image, &devices, expand, mode)?,
        PoolCommand::Remove { image, devices, missing_log } => {
            vdev::remove(&image, &devices, missing_log)?;
        }
        PoolCommand::Replace(args) => vdev::replace(&args, mode)?,
        PoolCommand::Scrub(args) => return scrub::run(&args, mode),
        PoolCommand::Set { setting, image } => properties::set(&setting, &image)?,
        PoolCommand::Split(args) => split::run(&args, mode)?,
        PoolCommand::Trim(args) => upkeep::run(Upkeep::Trim, &args, mode)?,
        PoolCommand::Status(args) => status::run(&args, mode)?,
    }
    Ok(0)
}
