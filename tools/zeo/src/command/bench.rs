//! `zeo bench`: figures, each with the command that makes it again.
//!
//! | module | holds |
//! |---|---|
//! | [`boot`] | time to the program's main, kernel size, smallest memory |
//! | [`build`] | building an image beside `cp -a` |
//! | [`fsync`] | device requests and time of an fsync |
//! | [`fsync_guest`] | the same in the guest |
//! | [`scrub`] | scrub and resilver beside the devices' own speed |
//! | [`yardstick`] | guest instructions per operation |
//!
//! Everything in a guest runs under emulation, whatever the host can do, so that figures of different machines compare.
mod boot;
mod build;
mod fsync;
mod fsync_guest;
mod scrub;
mod yardstick;

use crate::cli::{Bench, BenchCommand};
use crate::command::build::{DISK, make};
use crate::place;
use crate::qemu::{Accel, Boot, Disk, Machine, Vm};
use crate::report::Mode;
use anyhow::{Context, Result};
use mkfs::build::Options;
use mkfs::layout::Layout;
use mkfs::recipe::Recipe;
use std::path::{Path, PathBuf};

/// Runs it.
pub fn run(args: &Bench, mode: Mode) -> Result<()> {
    let kernel = args.kernel.as_deref();
    match &args.command {
        BenchCommand::Boot { runs } => boot::boot(&Setup::new("hello", kernel, mode)?, *runs, mode),
        BenchCommand::Memory => boot::memory(&Setup::new("hello", kernel, mode)?, mode),
        BenchCommand::Yardstick => yardstick::run(&Setup::new("yardstick", kernel, mode)?, mode),
        BenchCommand::Scrub { size } => scrub::run(*size, mode),
        BenchCommand::Fsync { guest: true, smp, .. } => fsync_guest::run(kernel, *smp, mode),
        BenchCommand::Fsync { fua, .. } => fsync::run(*fua, mode),
        BenchCommand::Build { tree, runs } => build::run(tree, *runs, mode),
    }
}

/// A recipe's disk, built for measuring, and the kernel to measure.
struct Setup {
    folder: PathBuf,
    image: PathBuf,
    kernel: PathBuf,
}

impl Setup {
    fn new(recipe: &str, kernel: Option<&Path>, mode: Mode) -> Result<Self> {
        let folder = place::run_folder("bench").join(recipe);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let path = place::images().join(recipe);
        let image = folder.join(DISK);
        let options = Options {
            output: image.clone(),
            layout: Layout::Disk,
            size: None,
            seed: Some(1),
            cache: place::cache(),
            boot: Some(place::boot(kernel)?),
        };
        make(&Recipe::load(&path)?, &options, mode)?;
        let kernel = place::prepared_kernel(kernel, &folder)?;
        Ok(Self { folder, image, kernel })
    }

    /// A machine without input.
    fn vm(&self, accel: Accel, memory: u64) -> Vm {
        Vm {
            accel,
            machine: Machine::Q35,
            memory,
            cpus: 1,
            disks: vec![Disk { path: self.image.clone(), format: String::from("raw") }],
            boot: Boot::Kernel(self.kernel.clone()),
            cmdline: String::new(),
            status_file: self.folder.join("status"),
            has_input: false,
            extra: Vec::new(),
        }
    }
}

/// The middle one; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
