//! `zeo build`: an image from a recipe.
use crate::cli::Build;
use crate::place;
use crate::report::{BuildProgress, Mode, print_json};
use crate::say;
use anyhow::{Context, Result};
use mkfs::build::{Built, Options, build};
use mkfs::layout::Layout;
use mkfs::recipe::Recipe;
use mkfs::size::Size;
use std::path::Path;

/// Name of a recipe's disk in its run folder.
pub const DISK: &str = "disk.img";

/// Runs it.
pub fn run(args: &Build, mode: Mode) -> Result<()> {
    let recipe = Recipe::load(&args.recipe)?;
    let folder = place::run_folder(&place::recipe_name(&args.recipe));
    let boot = match args.layout {
        Layout::Disk => Some(place::boot(args.kernel.as_deref())?),
        Layout::Pool => None,
    };
    let options = Options {
        output: args.output.clone().unwrap_or_else(|| folder.join(DISK)),
        layout: args.layout,
        size: args.size.map(|s| s.0),
        seed: args.seed,
        cache: place::cache(),
        boot,
    };
    let built = make(&recipe, &options, mode)?;
    match mode {
        Mode::Json => print_json(&built)?,
        Mode::Text => say!("{}", summary(&built)),
    }
    Ok(())
}

/// Builds and shows how far it is.
///
/// # Errors
/// The build's.
pub fn make(recipe: &Recipe, options: &Options, mode: Mode) -> Result<Built> {
    if let Some(folder) = options.output.parent().filter(|f| *f != Path::new("")) {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let mut progress = BuildProgress::new(mode);
    let built = build(recipe, options, &mut progress);
    progress.finish();
    built
}

fn summary(built: &Built) -> String {
    format!(
        "{}: {} files, {} of data, {} allocated of {}, {:.1} s, seed {}",
        built.image.display(),
        built.totals.files,
        Size(built.totals.bytes),
        Size(built.allocated),
        Size(built.size),
        built.seconds,
        built.seed
    )
}
