//! `zeo`: builds images, runs them, looks into them, measures them.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`failure`] | what can go wrong, and the exit status it becomes |
//! | [`output`] | standard output |
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
mod output;
mod place;
mod qemu;
mod report;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;

fn main() -> ExitCode {
    codec::simd::use_best();
    let matches = cli::examples::add(cli::Cli::command()).try_get_matches();
    let cli = match matches.and_then(|matches| cli::Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        // clap prints help to stdout with status 0, mistakes to stderr with status 2.
        Err(e) => e.exit(),
    };
    let json = cli.json();
    let done = command::dispatch(cli);
    let written = output::finish().context("standard output");
    match done.and_then(|status| written.map(|()| status)) {
        Ok(status) => ExitCode::from(status),
        Err(e) if output::is_no_reader(&e) => ExitCode::from(output::NO_READER),
        Err(e) => failure::report(&e, json),
    }
}
