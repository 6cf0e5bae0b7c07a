//! `zeo run`: a recipe or an image in QEMU.
use crate::cli::{BootFrom, Run};
use crate::command::build;
use crate::failure::{self, Failure};
use crate::kvm::{self, Kvm};
use crate::place;
use crate::qemu::{Accel, Boot, Disk, End, Machine, PROGRAM, Vm};
use crate::report::Mode;
use crate::say;
use anyhow::{Context, Result};
use blockdev::gpt::{TYPE_BIOS_BOOT, Table};
use guest_config::command_line_word;
use mkfs::build::Options;
use mkfs::layout::{self, Layout};
use mkfs::recipe::Recipe;
use mkfs::size::Size;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MEMORY: Size = Size(512 << 20);
/// Beside a recipe's disk: what the recipe was when the disk was built.
const RECIPE_COPY: &str = "image.toml";
const STATUS: &str = "status";

/// Runs it; the exit status.
pub fn run(args: &Run) -> Result<u8> {
    let target = prepare(args)?;
    let cmdline = command_line(args)?;
    let boot = boot(args, &target, &cmdline)?;
    let vm = Vm {
        accel: accel(args),
        machine: args.machine,
        memory: args.memory.unwrap_or(target.memory).0,
        cpus: args.smp.unwrap_or(target.cpus).clamp(1, 255),
        disks: target.disks.into_iter().map(|path| Disk { path, format: String::from("raw") }).collect(),
        boot,
        cmdline,
        status_file: target.folder.join(STATUS),
        has_input: true,
        extra: args.qemu_args.clone(),
    };
    if args.print_qemu {
        say!("{}", vm.shell_line());
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

/// Makes the disk or the kernel ready to start with `cmdline`.
fn boot(args: &Run, target: &Target, cmdline: &str) -> Result<Boot> {
    let has_firmware = args.machine != Machine::Microvm;
    let from_disk = match args.boot {
        BootFrom::Auto => has_firmware && has_boot_partition(&target.image)?,
        BootFrom::Disk => true,
        BootFrom::Kernel => false,
    };
    let asked = args.kernel.as_deref();
    if !from_disk {
        return Ok(Boot::Kernel(place::prepared_kernel(asked, &target.folder)?));
    }
    let disk = OpenOptions::new().read(true).write(true).open(&target.image)?;
    // A recipe's disk starts the kernel of today; an image of the user's own starts its own, unless another is asked for.
    if target.is_recipe || asked.is_some() {
        let (code, partition) = place::boot(asked)?.area(layout::BOOT_START, layout::BOOT_LEN)?;
        write_if_changed(&disk, 0, &code)?;
        write_if_changed(&disk, layout::BOOT_START, &partition)?;
    }
    let (offset, area) = mkfs::boot::command_line(cmdline)?;
    write_if_changed(&disk, layout::BOOT_START + offset, &area)?;
    Ok(Boot::Disk)
}

fn has_boot_partition(image: &Path) -> Result<bool> {
    let disk = blockdev_host::OpenOptions::new().read_only(true).unlocked().open(image)?;
    let table = Table::read(&disk)?;
    let is_boot = |e: &blockdev::gpt::Entry| e.kind == TYPE_BIOS_BOOT && e.start == layout::BOOT_START;
    Ok(table.is_some_and(|t| t.entries.iter().any(is_boot)))
}

/// Writes what differs: a disk that is started again the same way stays as it is.
fn write_if_changed(file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut old = vec![0; bytes.len()];
    file.read_exact_at(&mut old, offset)?;
    if old != bytes {
        file.write_all_at(bytes, offset)?;
    }
    Ok(())
}

/// What is run, and with what defaults.
struct Target {
    /// The disk that boots.
    image: PathBuf,
    /// All of them, that one first.
    disks: Vec<PathBuf>,
    folder: PathBuf,
    memory: Size,
    cpus: u32,
    is_recipe: bool,
}

fn prepare(args: &Run) -> Result<Target> {
    let what = &args.what;
    if !place::is_recipe(what) {
        return prepare_images(what);
    }
    let recipe = Recipe::load(what)?;
    let folder = place::run_folder(&place::recipe_name(what));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let image = folder.join(build::DISK);
    let text = std::fs::read(if what.is_dir() { what.join(mkfs::recipe::FILE_NAME) } else { what.clone() })?;
    let copy = folder.join(RECIPE_COPY);
    if args.fresh || !recipe.disk_files(&image).iter().all(|disk| disk.exists()) {
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
    let disks = recipe.disk_files(&image);
    Ok(Target { image, disks, folder, memory: recipe.memory(), cpus: recipe.cpus(), is_recipe: true })
}

/// Images of the user's own: one, or several joined by commas.
fn prepare_images(what: &Path) -> Result<Target> {
    let disks: Vec<PathBuf> = what.to_string_lossy().split(',').map(PathBuf::from).collect();
    if let Some(missing) = disks.iter().find(|disk| !disk.exists() || disk.is_dir()) {
        let message = format!("{}: neither an image nor a folder with image.toml", missing.display());
        return Err(Failure::new(failure::NO_INPUT, message, "`zeo init` writes a recipe").into());
    }
    let image = disks.first().cloned().unwrap_or_default();
    let folder = place::run_folder(&format!("{}.run", place::recipe_name(&image)));
    std::fs::create_dir_all(&folder)?;
    Ok(Target { image, disks, folder, memory: MEMORY, cpus: 1, is_recipe: false })
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
