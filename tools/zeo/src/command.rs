//! One module for each command.
pub mod bench;
pub mod build;
pub mod dataset;
pub mod image;
pub mod init;
pub mod pool;
pub mod run;
pub mod stream;

use crate::cli::{Cli, Command};
use crate::report::Mode;
use anyhow::Result;

/// Runs the command; the exit status.
///
/// # Errors
/// What the command says.
pub fn dispatch(cli: Cli) -> Result<u8> {
    let mode = Mode::new(cli.json());
    match cli.command {
        Command::Build(args) => build::run(&args, mode).map(|()| 0),
        Command::Init(args) => init::run(&args).map(|()| 0),
        Command::Run(args) => run::run(&args),
        Command::Image(args) => image::run(args.command, mode),
        Command::Pool(args) => pool::run(args.command, mode),
        Command::Send(args) => stream::send::run(&args, mode),
        Command::Receive(args) => stream::receive::run(&args, mode),
        Command::Stream(args) => stream::info::run(args.command, mode),
        Command::Dataset(command) => dataset::run(command, mode).map(|()| 0),
        Command::Bench(args) => bench::run(&args, mode).map(|()| 0),
    }
}
