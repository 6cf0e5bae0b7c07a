//! `mkfs`: the image builder as a command for scripts and other build systems.
//!
//!     mkfs RECIPE OUTPUT [--layout disk|pool] [--size SIZE] [--seed N] [--kernel FILE]
//!
//! It prints one line of JSON about what it built. Exit status 0: built; 1: not, and why is on standard error; 2: the
//! command line is wrong.
use mkfs::boot::Boot;
use mkfs::build::{Options, Progress, build};
use mkfs::layout::Layout;
use mkfs::recipe::Recipe;
use mkfs::size::Size;
use mkfs::tree::import::Totals;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str =
    "usage: mkfs RECIPE OUTPUT [--layout disk|pool] [--size SIZE] [--seed N] [--kernel FILE] [--cache DIR]";

struct Silent;

impl Progress for Silent {
    fn phase(&mut self, _text: &str) {}
    fn copied(&mut self, _from: &str, _totals: Totals) {}
}

struct Arguments {
    recipe: PathBuf,
    options: Options,
    kernel: Option<PathBuf>,
}

fn main() -> ExitCode {
    codec::simd::use_best();
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("mkfs: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("mkfs: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<String> {
    let mut options = arguments.options;
    options.boot = match arguments.kernel {
        Some(kernel) => Some(Boot { kernel: std::fs::read(kernel)? }),
        None => None,
    };
    let built = build(&Recipe::load(&arguments.recipe)?, &options, &mut Silent)?;
    Ok(serde_json::to_string(&built)?)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut paths = Vec::new();
    let mut options = Options {
        output: PathBuf::new(),
        layout: Layout::Disk,
        size: None,
        seed: None,
        cache: std::env::temp_dir().join("zeolite-cache"),
        boot: None,
    };
    let mut kernel = None;
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            paths.push(PathBuf::from(word));
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--layout" => options.layout = value.parse()?,
            "--size" => options.size = Some(value.parse::<Size>()?.0),
            "--seed" => options.seed = Some(value.parse().map_err(|_| format!("'{value}' is not a seed"))?),
            "--kernel" => kernel = Some(PathBuf::from(value)),
            "--cache" => options.cache = PathBuf::from(value),
            _ => return Err(format!("there is no option {word}")),
        }
    }
    let [recipe, output] =
        <[PathBuf; 2]>::try_from(paths).map_err(|_| String::from("two paths are needed"))?;
    options.output = output;
    Ok(Arguments { recipe, options, kernel })
}
