//! `zeo run`: a recipe or an image in QEMU.
use crate::cli::Run;
use crate::command::build;
use crate::failure::{self, Failure};
use crate::kvm::{self, Kvm};
use crate::place;
use crate::qemu::{Accel, Boot, Disk, End, PROGRAM, Vm};
use crate::report::Mode;
use anyhow::{Context, Result};
use guest_config::command_line_word;
use mkfs::build::Options;
use mkfs::layout::Layout;
use mkfs::recipe::Recipe;
use mkfs::size::Size;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MEMORY: Size = Size(512 << 20);
/// Beside a recipe's disk: what the recipe was when the disk was built.
const RECIPE_COPY: &str = "image.toml";
const STATUS: &str = "status";

/// Runs it; the exit status.
pub fn run(args: &Run) -> Result<u8> {
    let target = prepare(args)?;
    let boot = if args.from_disk { Boot::Disk } else { Boot::Kernel(place::kernel(args.kernel.as_deref())?) };
    let vm = Vm {
        accel: accel(args),
        machine: args.machine,
        memory: args.memory.unwrap_or(target.memory).0,
        cpus: args.smp.unwrap_or(target.cpus).clamp(1, 255),
        disks: vec![Disk { path: target.image, format: String::from("raw") }],
        boot,
        cmdline: command_line(args)?,
        status_file: target.folder.join(STATUS),
        has_input: true,
        extra: args.qemu_args.clone(),
    };
    if args.print_qemu {
        println!("{}", vm.shell_line());
        return Ok(0);
    }
    let timeout =
        args.timeout.map(Duration::try_from_secs_f64).transpose().map_err(|_| {
            Failure::new(2, "--timeout takes a number of seconds", "for example --timeout 60")
        })?;
    let end = vm.run(timeout)?;
    explain(end, args);
    Ok(end.exit_status())
}

/// What is run, and with what defaults.
struct Target {
    image: PathBuf,
    folder: PathBuf,
    memory: Size,
    cpus: u32,
}

fn prepare(args: &Run) -> Result<Target> {
    let what = &args.what;
    if !place::is_recipe(what) {
        if !what.exists() || what.is_dir() {
            let message = format!("{}: neither an image nor a folder with image.toml", what.display());
            return Err(Failure::new(failure::NO_INPUT, message, "`zeo init` writes a recipe").into());
        }
        let folder = place::run_folder(&format!("{}.run", place::recipe_name(what)));
        std::fs::create_dir_all(&folder)?;
        return Ok(Target { image: what.clone(), folder, memory: MEMORY, cpus: 1 });
    }
    let recipe = Recipe::load(what)?;
    let folder = place::run_folder(&place::recipe_name(what));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let image = folder.join(build::DISK);
    let text = std::fs::read(if what.is_dir() { what.join(mkfs::recipe::FILE_NAME) } else { what.clone() })?;
    let copy = folder.join(RECIPE_COPY);
    if args.fresh || !image.exists() {
        let options = Options {
            output: image.clone(),
            layout: Layout::Disk,
            size: None,
            seed: None,
            cache: place::cache(),
            boot: Some(place::boot(args.kernel.as_deref())?),
        };
        build::make(&recipe, &options, Mode::Text)?;
        std::fs::write(&copy, &text)?;
    } else if std::fs::read(&copy).ok().as_deref() != Some(&text[..]) {
        eprintln!("zeo: the recipe has changed since its disk was built; --fresh builds it anew");
    }
    Ok(Target { image, folder, memory: recipe.memory(), cpus: recipe.cpus() })
}

/// The accelerator, with one line when it is not the fast one.
fn accel(args: &Run) -> Accel {
    if args.icount {
        return Accel::InstructionCount;
    }
    if args.no_kvm {
        return Accel::Tcg;
    }
    match kvm::probe(PROGRAM, &place::cache()) {
        Kvm::Works => Accel::Kvm,
        Kvm::Not(why) => {
            eprintln!("zeo: emulating, because KVM does not work here: {why}");
            Accel::Tcg
        }
    }
}

fn command_line(args: &Run) -> Result<String> {
    let mut words = Vec::new();
    for entry in &args.env {
        if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            let message = format!("-e {entry}: not NAME=VALUE");
            return Err(Failure::new(2, message, "write -e NAME=VALUE").into());
        }
        words.push(format!("zeo.env={}", command_line_word(entry.as_bytes())));
    }
    if !args.cmdline.is_empty() {
        words.push(args.cmdline.clone());
    }
    if !args.program.is_empty() {
        words.push(String::from("--"));
        words.extend(args.program.iter().map(|w| command_line_word(w.as_bytes())));
    }
    Ok(words.join(" "))
}

fn explain(end: End, args: &Run) {
    match end {
        End::Status(_) => {}
        End::Panic => eprintln!("zeo: the kernel panicked"),
        End::Timeout => {
            eprintln!("zeo: stopped after {} s (--timeout)", args.timeout.unwrap_or_default());
        }
        End::Unknown(code) => {
            let code = code.map_or_else(|| String::from("a signal"), |c| format!("status {c}"));
            eprintln!("zeo: the machine ended without an exit status (QEMU: {code})");
        }
    }
}

/// The folder of an image's runs, for other commands.
pub fn scratch(name: &str) -> Result<PathBuf> {
    let folder = place::run_folder(name);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// A machine for measurements: emulated, without input.
pub fn quiet_vm(kernel: &Path, image: Option<&Path>, folder: &Path, cmdline: &str) -> Vm {
    Vm {
        accel: Accel::Tcg,
        machine: crate::qemu::Machine::Q35,
        memory: 256 << 20,
        cpus: 1,
        disks: image.map(|i| Disk { path: i.to_owned(), format: String::from("raw") }).into_iter().collect(),
        boot: Boot::Kernel(kernel.to_owned()),
        cmdline: cmdline.to_owned(),
        status_file: folder.join(STATUS),
        has_input: false,
        extra: Vec::new(),
    }
}
