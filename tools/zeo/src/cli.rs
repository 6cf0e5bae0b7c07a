//! The command line.
pub mod dataset;
pub mod examples;
pub mod pool;
pub mod stream;

use self::dataset::DatasetCommand;
use self::pool::Pool;
use self::stream::{Receive, Send, Stream};
use crate::qemu::Machine;
use clap::{Args, Parser, Subcommand};
use mkfs::layout::Layout;
use mkfs::size::Size;
use std::path::PathBuf;

/// Builds, runs, inspects and measures Zeolite images: one kernel, one Linux program, one ZFS pool.
#[derive(Debug, Parser)]
#[command(name = "zeo", version, max_term_width = 120, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print results (and errors) as JSON.
    #[arg(long, global = true)]
    json: bool,
}

impl Cli {
    /// JSON was asked for.
    pub fn json(&self) -> bool {
        self.json
    }
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a recipe (a folder with image.toml).
    Build(Build),
    /// Write a commented recipe to start from.
    Init(Init),
    /// Run a recipe or an image in QEMU; ends with the program's exit status.
    Run(Run),
    /// Look into or change an image of a powered-off machine.
    Image(Image),
    /// Make, change or look at a pool of a powered-off machine.
    Pool(Pool),
    /// Write a snapshot as a stream, as zfs send does.
    Send(Send),
    /// Make a snapshot of a stream, as zfs receive does.
    #[command(visible_alias = "recv")]
    Receive(Receive),
    /// Look at a stream in a file, or at a resume token.
    Stream(Stream),
    #[command(flatten)]
    Dataset(DatasetCommand),
    /// Measure.
    Bench(Bench),
}

/// `zeo build`
#[derive(Debug, Args)]
pub struct Build {
    /// The recipe: a folder with image.toml, or the file.
    pub recipe: PathBuf,
    /// Where the image goes; target/zeo/NAME/disk.img otherwise.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// disk: partitioned, boots. pool: the bare pool, for data and for other tools.
    #[arg(long, default_value = "disk")]
    pub layout: Layout,
    /// Size of the image, as 4G; the recipe's otherwise.
    #[arg(long)]
    pub size: Option<Size>,
    /// Same seed and same inputs give the same bytes.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The kernel to put on the disk; the one built with zeo otherwise.
    #[arg(long)]
    pub kernel: Option<PathBuf>,
}

/// `zeo init`
#[derive(Debug, Args)]
pub struct Init {
    /// Folder to write image.toml to; made if missing.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Print the JSON schema of recipes instead.
    #[arg(long)]
    pub schema: bool,
}

/// `zeo run`
#[derive(Debug, Args)]
pub struct Run {
    /// A recipe or an image; several images joined by commas when the pool spans them.
    pub what: PathBuf,
    /// Memory, as 512M.
    #[arg(short, long)]
    pub memory: Option<Size>,
    /// Virtual CPUs.
    #[arg(long)]
    pub smp: Option<u32>,
    /// Set an environment variable of the program.
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// More words of the kernel command line (such as --strace).
    #[arg(long, allow_hyphen_values = true, default_value = "")]
    pub cmdline: String,
    /// Build the recipe's disk anew.
    #[arg(long)]
    pub fresh: bool,
    /// Print the QEMU command line instead of running it.
    #[arg(long)]
    pub print_qemu: bool,
    /// Stop the machine after that many seconds, with status 124.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<f64>,
    /// The machine QEMU plays.
    #[arg(long, value_enum, default_value = "q35")]
    pub machine: Machine,
    /// How the machine starts: by the disk's own loader, or with a kernel that QEMU loads.
    #[arg(long, value_enum, default_value = "auto")]
    pub boot: BootFrom,
    /// The kernel to run; the one built with zeo otherwise.
    #[arg(long)]
    pub kernel: Option<PathBuf>,
    /// Emulate, with a clock that counts guest instructions.
    #[arg(long)]
    pub icount: bool,
    /// Emulate even where KVM works.
    #[arg(long)]
    pub no_kvm: bool,
    /// A further argument of QEMU.
    #[arg(long = "qemu-arg", allow_hyphen_values = true, value_name = "ARG")]
    pub qemu_args: Vec<String>,
    /// Run this program of the image instead of its own.
    #[arg(last = true)]
    pub program: Vec<String>,
}

/// Where the kernel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BootFrom {
    /// The disk, if it has a boot partition and the machine a firmware; otherwise QEMU loads the kernel.
    Auto,
    /// The disk.
    Disk,
    /// QEMU loads the kernel.
    Kernel,
}

/// `zeo image`
#[derive(Debug, Args)]
pub struct Image {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Form {
    /// No heading, one tab between fields.
    #[arg(short = 'H')]
    pub script: bool,
    /// Exact numbers.
    #[arg(short = 'p')]
    pub exact: bool,
}

/// Which file system of which image.
#[derive(Debug, Args)]
pub struct Where {
    /// The image: a file or block device; several joined by commas when a pool spans them.
    pub image: String,
    /// A dataset or snapshot; the root file system otherwise.
    #[arg(short, long, value_name = "DATASET[@SNAP]")]
    pub dataset: Option<String>,
}

/// Commands on images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List a directory.
    Ls {
        #[command(flatten)]
        at: Where,
        /// Path in the image.
        #[arg(default_value = "/")]
        path: String,
        /// With attributes.
        #[arg(short, long)]
        long: bool,
    },
    /// Show a directory with all below it.
    Tree {
        #[command(flatten)]
        at: Where,
        /// Path in the image.
        #[arg(default_value = "/")]
        path: String,
        /// At most that many levels.
        #[arg(short = 'L', long)]
        level: Option<usize>,
    },
    /// Show all attributes of a file.
    Stat {
        #[command(flatten)]
        at: Where,
        /// Paths in the image.
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Print files.
    Cat {
        #[command(flatten)]
        at: Where,
        /// Paths in the image.
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Copy out of or into the image; the path in the image starts with a colon.
    Cp {
        #[command(flatten)]
        at: Where,
        /// Directories with all below them.
        #[arg(short, long)]
        recursive: bool,
        /// From: a path of the host, or :PATH in the image.
        from: String,
        /// To: a path of the host, or :PATH in the image.
        to: String,
    },
    /// Write a file from the host, or from standard input.
    Put {
        #[command(flatten)]
        at: Where,
        /// File of the host; - is standard input.
        file: PathBuf,
        /// Path in the image.
        path: String,
        /// Permission bits in octal.
        #[arg(long)]
        mode: Option<String>,
    },
    /// Make directories.
    Mkdir {
        #[command(flatten)]
        at: Where,
        /// Missing parents too.
        #[arg(short, long)]
        parents: bool,
        /// Paths in the image.
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Remove files.
    Rm {
        #[command(flatten)]
        at: Where,
        /// Directories with all below them.
        #[arg(short, long)]
        recursive: bool,
        /// Paths in the image.
        #[arg(required = true)]
        paths: Vec<String>,
    },
    /// Tell about partitions, pool, features, space, datasets.
    Info {
        /// The image.
        image: String,
    },
    /// Check every block's checksum and the allocation; status 1 when something is wrong.
    Verify {
        /// The image.
        image: String,
    },
    /// List hashes, attributes or extended attributes of everything.
    Manifest {
        #[command(flatten)]
        at: Where,
        #[command(flatten)]
        list: ManifestList,
        /// Path in the image.
        #[arg(default_value = "/")]
        path: String,
    },
}

/// Which list.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ManifestList {
    /// As sha256sum prints.
    #[arg(long)]
    pub sha256: bool,
    /// Type, mode, owner, group, links, size, time, name.
    #[arg(long)]
    pub meta: bool,
    /// As getfattr prints.
    #[arg(long)]
    pub xattr: bool,
}

/// `zeo bench`
#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
    /// The kernel to measure; the one built with zeo otherwise.
    #[arg(long, global = true)]
    pub kernel: Option<PathBuf>,
}

/// Measurements.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Time from the start of QEMU to the program's main, and the kernel's size.
    Boot {
        /// Runs; the median counts.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Smallest memory in which `hello` still runs.
    Memory,
    /// Guest instructions per operation, beside their targets.
    Yardstick,
    /// Scrub and resilver, as a share of the devices' own speed.
    Scrub {
        /// Data in the pool.
        #[arg(long, default_value = "512M")]
        size: Size,
    },
    /// Device requests and time of an fsync, on a simulated disk.
    Fsync {
        /// The disk can make single writes durable (FUA).
        #[arg(long)]
        fua: bool,
        /// In the guest, on QEMU's disks, beside one that nobody else uses.
        #[arg(long, conflicts_with = "fua")]
        guest: bool,
        /// Virtual CPUs of the guest.
        #[arg(long, default_value_t = 2, requires = "guest")]
        smp: u32,
    },
    /// Building an image beside `cp -a` to a fresh ext4.
    Build {
        /// The tree to copy.
        #[arg(long, default_value = "/usr/include")]
        tree: PathBuf,
        /// Runs; the medians count.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_program_comes_after_two_dashes() {
        let cli = Cli::try_parse_from([
            "zeo",
            "run",
            "x",
            "-m",
            "1G",
            "--cmdline",
            "--strace",
            "--",
            "/bin/ls",
            "-l",
        ]);
        let Command::Run(run) = cli.expect("good").command else { panic!("not run") };
        assert_eq!((run.memory, &run.cmdline[..]), (Some(Size(1 << 30)), "--strace"));
        assert_eq!(run.program, ["/bin/ls", "-l"]);
        let list = ["zeo", "image", "manifest", "--meta", "--xattr", "i"];
        assert!(Cli::try_parse_from(list).is_err(), "one list at a time");
    }

    #[test]
    fn the_commands_of_the_readme_are_understood() {
        let readme = include_str!("../../../README.md");
        let lines = readme.lines().filter_map(|line| line.strip_prefix("    "));
        let commands: Vec<&str> = lines
            .flat_map(|line| line.split('#').next().unwrap_or_default().split("&&"))
            .filter_map(|command| command.trim().strip_prefix("./zeo "))
            .filter(|command| !command.starts_with("test"))
            .collect();
        assert!(commands.len() > 10, "{commands:?}");
        for command in commands {
            let words = command.split_whitespace().take_while(|word| !matches!(*word, "<" | ">" | "|"));
            if let Err(e) = Cli::try_parse_from(["zeo"].into_iter().chain(words)) {
                panic!("{command}: {e}");
            }
        }
    }
}
