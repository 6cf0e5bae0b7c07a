//! `zeo pool`: its commands and their options.
use super::Form;
use clap::{Args, Subcommand};
use mkfs::size::Size;

/// `zeo pool`
#[derive(Debug, Args)]
pub struct Pool {
    /// What to do.
    #[command(subcommand)]
    pub command: PoolCommand,
}

/// Commands on pools. IMAGE is a file or block device, or several joined by commas when the pool spans them.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Add vdevs or spares to a pool.
    Add(Add),
    /// Make a device a mirror, or a mirror wider.
    Attach(Bring),
    /// Keep the pool's present state, to go back to; or give up or go back to what is kept.
    Checkpoint(Checkpoint),
    /// Forget errors of a device, or of all, and bring back what they missed.
    Clear {
        /// The image.
        image: String,
        /// Name, path or guid of the device.
        device: Option<String>,
    },
    /// Make a pool on files or block devices.
    Create(Create),
    /// Take a device out of its mirror, or end its replacement.
    Detach {
        /// The image.
        image: String,
        /// The device: its path, the last part of it, or its guid.
        device: String,
    },
    /// Show what opening a pool came upon.
    Events {
        /// The image.
        image: String,
    },
    /// Show properties of a pool.
    Get(Get),
    /// Show the commands that changed a pool.
    History {
        /// The image.
        image: String,
        /// What the pool did by itself, too.
        #[arg(short, long)]
        internal: bool,
        /// Accepted as zpool(8) has it: records have all that is known of them.
        #[arg(short, long, hide = true)]
        long: bool,
    },
    /// Open a pool, replay and finish what was under way, and leave it exported for every machine.
    Import {
        /// Take over a pool that another machine used last and did not export. It must not use it any more.
        #[arg(short, long)]
        force: bool,
        /// Do without log devices that are lost. Changes that only they hold are given up for good.
        #[arg(short, long)]
        missing_log: bool,
        /// The image.
        image: String,
    },
    /// Write over all free space, so that a thin medium has it.
    Initialize(FreeSpace),
    /// Show space and requests of the vdevs.
    Iostat(Iostat),
    /// List pools: size, allocated, free, health.
    List(List),
    /// Stop using devices.
    Offline {
        /// The image.
        image: String,
        /// The devices.
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// Use devices again that were taken offline, and bring them up to date.
    Online {
        /// Let their vdevs grow to all that their devices have.
        #[arg(short, long)]
        expand: bool,
        /// The image.
        image: String,
        /// The devices.
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// Take spares or log devices out of a pool.
    Remove {
        /// Do without log devices that are lost: those to be removed. Changes that only they hold are given up for good.
        #[arg(short, long)]
        missing_log: bool,
        /// The image.
        image: String,
        /// The devices, or top-level vdevs as mirror-1.
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// Put a device in the place of another.
    Replace(Bring),
    /// Bring devices up to date that missed writes.
    Resilver {
        /// The image.
        image: String,
    },
    /// Read every copy of everything and repair what is bad; status 1 when something cannot be.
    Scrub(Scrub),
    /// Set a property of the pool: failmode, autotrim, autoexpand, multihost.
    Set {
        /// The property.
        #[arg(value_name = "NAME=VALUE")]
        setting: String,
        /// The image.
        image: String,
    },
    /// Make a pool of one side of each mirror.
    Split(Split),
    /// Discard all free space, so that a thin medium gives it back.
    Trim(FreeSpace),
    /// Show health: what is wrong and what to do, vdevs with their errors, the last scan, damaged files.
    Status(Status),
}

/// How vdevs are named.
#[derive(Clone, Copy, Debug, Args)]
pub struct Naming {
    /// Full paths of devices.
    #[arg(short = 'P')]
    pub full_paths: bool,
    /// Guids instead of names.
    #[arg(short = 'g')]
    pub guids: bool,
}

/// `zeo pool status`
#[derive(Debug, Args)]
pub struct Status {
    /// The images of each pool.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// With the names of damaged files.
    #[arg(short, long)]
    pub verbose: bool,
    /// Only pools with which something is wrong.
    #[arg(short = 'x')]
    pub unhealthy: bool,
    /// Exact numbers.
    #[arg(short = 'p')]
    pub exact: bool,
    /// How far each device is trimmed.
    #[arg(short = 't')]
    pub trims: bool,
    /// How far each device is initialized.
    #[arg(short = 'i')]
    pub initialized: bool,
    #[command(flatten)]
    pub naming: Naming,
}

/// `zeo pool list`
#[derive(Debug, Args)]
pub struct List {
    /// The images of each pool.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// With every vdev.
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub form: Form,
    /// Properties to show, joined by commas.
    #[arg(short = 'o', value_name = "PROPERTY")]
    pub columns: Option<String>,
    #[command(flatten)]
    pub naming: Naming,
}

/// `zeo pool get`
#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    pub form: Form,
    /// Fields to show: name, property, value, source; joined by commas.
    #[arg(short = 'o', value_name = "FIELD")]
    pub fields: Option<String>,
    /// The image.
    pub image: String,
    /// Properties joined by commas, or all (with the features).
    #[arg(default_value = "all")]
    pub properties: String,
}

/// `zeo pool iostat`
#[derive(Debug, Args)]
pub struct Iostat {
    /// The image.
    pub image: String,
    /// Every vdev.
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub form: Form,
    #[command(flatten)]
    pub naming: Naming,
}

/// `zeo pool checkpoint`
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// Give the checkpoint up, and free what only it kept.
    #[arg(short, long, conflicts_with_all = ["rewind", "show"])]
    pub discard: bool,
    /// Go back to the checkpoint: everything that is newer is lost.
    #[arg(long, visible_alias = "rewind-to-checkpoint", conflicts_with = "show")]
    pub rewind: bool,
    /// Say what is kept.
    #[arg(long)]
    pub show: bool,
    /// The image.
    pub image: String,
}

/// `zeo pool add`
#[derive(Debug, Args)]
pub struct Add {
    /// Use devices that hold a pool already, and vdevs of other redundancy than the pool's.
    #[arg(short, long)]
    pub force: bool,
    /// A property of the new vdevs: ashift.
    #[arg(short = 'o', value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    /// Make files that do not exist, sparse, of this size.
    #[arg(long)]
    pub size: Option<Size>,
    /// Only show what would be added.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// The image.
    pub image: String,
    /// Files and block devices, as for create.
    #[arg(required = true, value_name = "VDEV")]
    pub vdevs: Vec<String>,
}

/// `zeo pool attach`, `zeo pool replace`
#[derive(Debug, Args)]
pub struct Bring {
    /// Use a device that holds a pool already, or that works with larger blocks than the vdev.
    #[arg(short, long)]
    pub force: bool,
    /// Make the new file, if it does not exist, sparse, of this size; that of the old one otherwise.
    #[arg(long)]
    pub size: Option<Size>,
    /// Wait until the new device is up to date, as without any option.
    #[arg(short, long)]
    pub wait: bool,
    /// Do not wait until the new device is up to date: that goes on when the pool is opened the next time.
    #[arg(long, conflicts_with = "wait")]
    pub later: bool,
    /// The image.
    pub image: String,
    /// The device that is there: its path, the last part of it, or its guid.
    pub device: String,
    /// The new file or block device; for replace, a new one in the place of the old one when it is left out.
    pub new: Option<String>,
}

/// `zeo pool trim` and `zeo pool initialize`
#[derive(Debug, Args)]
pub struct FreeSpace {
    /// The image.
    pub image: String,
    /// Give up what was begun.
    #[arg(short, long, conflicts_with = "suspend")]
    pub cancel: bool,
    /// Put off what was begun; the next time it goes on.
    #[arg(short, long)]
    pub suspend: bool,
}

/// `zeo pool scrub`
#[derive(Debug, Args)]
pub struct Scrub {
    /// The image.
    pub image: String,
    /// Pause the scrub that is under way; it stays paused until it is started again.
    #[arg(short, long, conflicts_with_all = ["stop", "later"])]
    pub pause: bool,
    /// Give up the scrub that is under way.
    #[arg(short, long, conflicts_with = "later")]
    pub stop: bool,
    /// Only what was written since the last scrub that came to its end.
    #[arg(short = 'C', long, conflicts_with_all = ["pause", "stop"])]
    pub new: bool,
    /// Only the blocks known to be damaged; those that can be read again are so no more.
    #[arg(short, long, conflicts_with_all = ["pause", "stop", "new", "later"])]
    pub errors: bool,
    /// Wait for the end, as without any option.
    #[arg(short, long)]
    pub wait: bool,
    /// Only start it: it goes on when the pool is opened the next time, here or in its machine.
    #[arg(long, conflicts_with = "wait")]
    pub later: bool,
}

/// `zeo pool split`
#[derive(Debug, Args)]
pub struct Split {
    /// Only show what the new pool would be made of.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// The image.
    pub image: String,
    /// Name of the new pool.
    pub new: String,
    /// The side that goes, for mirrors of which it is not to be the last one.
    #[arg(value_name = "DEVICE")]
    pub devices: Vec<String>,
}

/// `zeo pool create`
#[derive(Debug, Args)]
pub struct Create {
    /// Use devices that hold a pool already, and vdevs of different redundancy.
    #[arg(short, long)]
    pub force: bool,
    /// A property of the pool: ashift, comment, compatibility, failmode, autotrim, autoexpand, multihost.
    #[arg(short = 'o', value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    /// A property of the root file system.
    #[arg(short = 'O', value_name = "NAME=VALUE")]
    pub root_properties: Vec<String>,
    /// Where the root file system is mounted; /NAME otherwise.
    #[arg(short, long, value_name = "PATH")]
    pub mountpoint: Option<String>,
    /// Enable no features.
    #[arg(short = 'd')]
    pub no_features: bool,
    /// Only show what the pool would be made of.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Make files that do not exist, sparse, of this size.
    #[arg(long)]
    pub size: Option<Size>,
    /// Name of the pool.
    pub pool: String,
    /// Files and block devices: [mirror|raidz|raidz2|raidz3] FILE.. [log|special|dedup|spare ..].
    #[arg(required = true, value_name = "VDEV")]
    pub vdevs: Vec<String>,
}
