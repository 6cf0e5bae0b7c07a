//! `zeo`: builds images, runs them, looks into them, measures them.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`failure`] | what can go wrong, and the exit status it becomes |
//! | [`place`] | where images, kernels and caches lie |
//! | [`report`] | progress bars and JSON |
//! | [`command`] | one module for each command |
//! | [`qemu`] | the machine: its command line, running it, its end |
//! | [`kvm`] | whether hardware virtualisation really works here |
#![forbid(unsafe_code)]

mod cli;
mod command;
mod failure;
mod kvm;
mod place;
mod qemu;
mod report;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    codec::fletcher::use_best();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        // clap prints help to stdout with status 0, mistakes to stderr with status 2.
        Err(e) => e.exit(),
    };
    let json = cli.json();
    match command::dispatch(cli) {
        Ok(status) => ExitCode::from(status),
        Err(e) => failure::report(&e, json),
    }
}
