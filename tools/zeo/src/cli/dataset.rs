//! Commands on datasets: their options are those of zfs(8). IMAGE comes first and is a file or block device, or several
//! joined by commas; names may leave the pool out (`home`, `@monday`, `home@monday`, `home#mark`).
use super::Form;
use clap::{Args, Subcommand};

/// Commands on datasets.
#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Make a file system.
    Create(Create),
    /// List datasets and their properties.
    List(List),
    /// Show properties.
    Get(Get),
    /// Set properties.
    Set {
        /// The image.
        image: String,
        /// NAME=VALUE.. DATASET..
        #[arg(required = true, value_name = "NAME=VALUE | DATASET")]
        words: Vec<String>,
    },
    /// Clear a property, so that it is inherited.
    Inherit {
        /// The image.
        image: String,
        /// Below, too.
        #[arg(short)]
        recursive: bool,
        /// Go back to the value that a stream brought, if one did.
        #[arg(short = 'S')]
        received: bool,
        /// The property.
        property: String,
        /// Datasets.
        #[arg(required = true)]
        datasets: Vec<String>,
    },
    /// Take, list, compare and destroy snapshots.
    Snap(Snap),
    /// Make a dataset that begins as a snapshot is.
    Clone {
        /// The image.
        image: String,
        /// Set a property.
        #[arg(short = 'o', value_name = "NAME=VALUE")]
        properties: Vec<String>,
        /// The snapshot.
        snapshot: String,
        /// The new dataset.
        dataset: String,
    },
    /// Make a clone the owner of the snapshots it shares with its origin.
    Promote {
        /// The image.
        image: String,
        /// The clone.
        dataset: String,
    },
    /// Roll a dataset back to a snapshot.
    Rollback(Rollback),
    /// Rename a dataset or snapshot.
    Rename(Rename),
    /// Destroy datasets, snapshots (DATASET@A%B, DATASET@A,B) and bookmarks.
    Destroy(Destroy),
    /// Keep snapshots from being destroyed.
    Hold(Hold),
    /// Take holds away.
    Release(Hold),
    /// List holds.
    Holds(Holds),
    /// What users use of a file system, and their limits.
    Userspace(Accounts),
    /// What groups use of a file system, and their limits.
    Groupspace(Accounts),
    /// What projects use of a file system, and their limits.
    Projectspace(Accounts),
    /// Mark a snapshot's moment.
    Bookmark {
        /// The image.
        image: String,
        /// Snapshot or bookmark.
        source: String,
        /// DATASET#NAME
        bookmark: String,
    },
}

/// `zeo create`
#[derive(Debug, Args)]
pub struct Create {
    /// The image.
    pub image: String,
    /// Make missing parents.
    #[arg(short)]
    pub parents: bool,
    /// Set a property.
    #[arg(short = 'o', value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    /// The new dataset.
    pub dataset: String,
}

/// Which datasets a listing shows, and how.
#[derive(Clone, Debug, Args)]
pub struct Scope {
    /// With all below.
    #[arg(short)]
    pub recursive: bool,
    /// With what is that far below.
    #[arg(short, value_name = "LEVELS")]
    pub depth: Option<usize>,
    /// Kinds: filesystem, snapshot, volume, bookmark, all; joined by commas.
    #[arg(short = 't', value_name = "TYPE")]
    pub types: Option<String>,
    #[command(flatten)]
    pub form: Form,
}

/// `zeo list`
#[derive(Debug, Args)]
pub struct List {
    /// The image.
    pub image: String,
    /// Which and how.
    #[command(flatten)]
    pub scope: Scope,
    /// Properties to show, joined by commas.
    #[arg(short = 'o', value_name = "PROPERTY")]
    pub columns: Option<String>,
    /// Sort by a property.
    #[arg(short = 's', value_name = "PROPERTY")]
    pub sort: Vec<String>,
    /// Sort by a property, greatest first.
    #[arg(short = 'S', value_name = "PROPERTY")]
    pub sort_down: Vec<String>,
    /// Datasets; all otherwise.
    pub datasets: Vec<String>,
}

/// `zeo get`
#[derive(Debug, Args)]
pub struct Get {
    /// The image.
    pub image: String,
    /// Which and how.
    #[command(flatten)]
    pub scope: Scope,
    /// Fields to show: name, property, value, source; joined by commas.
    #[arg(short = 'o', value_name = "FIELD")]
    pub fields: Option<String>,
    /// Only values of these sources: local, default, inherited, received, none; joined by commas.
    #[arg(short = 's', value_name = "SOURCE")]
    pub sources: Option<String>,
    /// Properties joined by commas, or all.
    pub properties: String,
    /// Datasets; all otherwise.
    pub datasets: Vec<String>,
}

/// `zeo snap`
#[derive(Debug, Args)]
pub struct Snap {
    /// What to do.
    #[command(subcommand)]
    pub command: SnapCommand,
}

/// Commands on snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapCommand {
    /// Take snapshots, all of the same moment.
    Create {
        /// The image.
        image: String,
        /// Of everything below, too.
        #[arg(short)]
        recursive: bool,
        /// Set a user property.
        #[arg(short = 'o', value_name = "NAME=VALUE")]
        properties: Vec<String>,
        /// DATASET@NAME
        #[arg(required = true)]
        snapshots: Vec<String>,
    },
    /// List snapshots.
    List(List),
    /// Destroy snapshots: DATASET@NAME, DATASET@FROM%TO, DATASET@A,B.
    Destroy(Destroy),
    /// Rename a snapshot.
    Rename(Rename),
    /// Roll a dataset back to a snapshot.
    Rollback(Rollback),
    /// What differs between two snapshots, or a snapshot and its dataset.
    Diff(Diff),
}

/// `zeo rollback`
#[derive(Debug, Args)]
pub struct Rollback {
    /// The image.
    pub image: String,
    /// Destroy newer snapshots and bookmarks.
    #[arg(short)]
    pub recursive: bool,
    /// Clones of newer snapshots, too.
    #[arg(short = 'R')]
    pub clones: bool,
    /// The snapshot.
    pub snapshot: String,
}

/// `zeo rename`
#[derive(Debug, Args)]
pub struct Rename {
    /// The image.
    pub image: String,
    /// Snapshots of that name below, too.
    #[arg(short)]
    pub recursive: bool,
    /// Make missing parents.
    #[arg(short)]
    pub parents: bool,
    /// Its name now.
    pub from: String,
    /// Its new name.
    pub to: String,
}

/// `zeo destroy`
#[derive(Debug, Args)]
pub struct Destroy {
    /// The image.
    pub image: String,
    /// All below and their snapshots; of a snapshot, those of the same name below.
    #[arg(short)]
    pub recursive: bool,
    /// All that depends on it, clones too.
    #[arg(short = 'R')]
    pub clones: bool,
    /// Snapshots with holds or clones go when the last of these does.
    #[arg(short)]
    pub defer: bool,
    /// Only say what would be destroyed.
    #[arg(short = 'n')]
    pub dry_run: bool,
    /// Say what is destroyed.
    #[arg(short)]
    pub verbose: bool,
    /// Say it for programs.
    #[arg(short = 'p')]
    pub exact: bool,
    /// What to destroy.
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `zeo hold`, `zeo release`
#[derive(Debug, Args)]
pub struct Hold {
    /// The image.
    pub image: String,
    /// Snapshots of that name below, too.
    #[arg(short)]
    pub recursive: bool,
    /// The hold's name.
    pub tag: String,
    /// Snapshots.
    #[arg(required = true)]
    pub snapshots: Vec<String>,
}

/// `zeo holds`
#[derive(Debug, Args)]
pub struct Holds {
    /// The image.
    pub image: String,
    /// Snapshots of that name below, too.
    #[arg(short)]
    pub recursive: bool,
    #[command(flatten)]
    pub form: Form,
    /// Snapshots.
    #[arg(required = true)]
    pub snapshots: Vec<String>,
}

/// `zeo userspace`
#[derive(Debug, Args)]
pub struct Accounts {
    /// The image.
    pub image: String,
    #[command(flatten)]
    pub form: Form,
    /// File system or snapshot.
    pub dataset: String,
}

/// `zeo snap diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// The image.
    pub image: String,
    /// With the kind of each file.
    #[arg(short = 'F')]
    pub kinds: bool,
    /// With the time of each change.
    #[arg(short = 't')]
    pub times: bool,
    /// One tab between fields.
    #[arg(short = 'H')]
    pub script: bool,
    /// The older snapshot.
    pub from: String,
    /// The newer snapshot, or the dataset (the default).
    pub to: Option<String>,
}
