//! Commands on datasets: `zeo create|list|get|set|inherit|snap|clone|promote|rollback|rename|destroy|
//! hold|release|holds|bookmark|userspace|groupspace|projectspace`.
//!
//! | module | holds |
//! |---|---|
//! | [`target`] | the open image, names as people write them |
//! | [`values`] | the value of any property or figure as text |
//! | [`table`] | columns on a terminal, tabs for scripts |
//! | [`list`], [`get`] | listings |
//! | [`change`] | everything that changes one thing |
//! | [`destroy`] | what is to be destroyed, in which order |
//! | [`space`] | what users, groups and projects use and may use |
//! | [`diff`] | what differs between snapshots |
pub mod change;
pub mod destroy;
pub mod diff;
pub mod get;
pub mod list;
mod names;
pub mod space;
pub mod table;
pub mod target;
pub mod values;

use crate::cli::dataset::{DatasetCommand, SnapCommand};
use crate::report::Mode;
use anyhow::Result;
use zpl::quota::Account;

/// Runs it.
///
/// # Errors
/// What the command says.
pub fn run(command: DatasetCommand, mode: Mode) -> Result<()> {
    match command {
        DatasetCommand::Create(args) => change::create(&args),
        DatasetCommand::List(args) => list::run(&args, mode, None),
        DatasetCommand::Get(args) => get::run(&args, mode),
        DatasetCommand::Set { image, words } => change::set(&image, &words),
        DatasetCommand::Inherit { image, recursive, received, property, datasets } => {
            change::inherit(&image, (recursive, received), &property, &datasets)
        }
        DatasetCommand::Snap(snap) => run_snap(snap.command, mode),
        DatasetCommand::Clone { image, properties, snapshot, dataset } => {
            change::clone(&image, &properties, &snapshot, &dataset)
        }
        DatasetCommand::Promote { image, dataset } => change::promote(&image, &dataset),
        DatasetCommand::Rollback(args) => change::rollback(&args),
        DatasetCommand::Rename(args) => change::rename(&args),
        DatasetCommand::Destroy(args) => destroy::run(&args, mode),
        DatasetCommand::Hold(args) => change::hold(&args),
        DatasetCommand::Release(args) => change::release(&args),
        DatasetCommand::Holds(args) => list::holds(&args, mode),
        DatasetCommand::Userspace(args) => space::run(&args, Account::User, mode),
        DatasetCommand::Groupspace(args) => space::run(&args, Account::Group, mode),
        DatasetCommand::Projectspace(args) => space::run(&args, Account::Project, mode),
        DatasetCommand::Bookmark { image, source, bookmark } => change::bookmark(&image, &source, &bookmark),
    }
}

fn run_snap(command: SnapCommand, mode: Mode) -> Result<()> {
    match command {
        SnapCommand::Create { image, recursive, properties, snapshots } => {
            change::snapshot(&image, recursive, &properties, &snapshots)
        }
        SnapCommand::List(args) => list::run(&args, mode, Some("snapshot")),
        SnapCommand::Destroy(args) => destroy::run(&args, mode),
        SnapCommand::Rename(args) => change::rename(&args),
        SnapCommand::Rollback(args) => change::rollback(&args),
        SnapCommand::Diff(args) => diff::run(&args, mode),
    }
}
