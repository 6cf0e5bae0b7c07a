//! `zeo send`, `zeo receive`, `zeo stream`: options as in zfs(8).
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `zeo send`
#[derive(Debug, Args)]
pub struct Send {
    /// The image: a file or block device; several joined by commas when a pool spans them.
    pub image: String,
    /// The snapshot, as fs@snap; not with -t.
    #[arg(required_unless_present = "token")]
    pub snapshot: Option<String>,
    /// Send the difference from this snapshot or bookmark: @snap, #mark, or with its dataset.
    #[arg(short = 'i', value_name = "FROM", conflicts_with = "all_from")]
    pub from: Option<String>,
    /// As -i, with all snapshots between the two.
    #[arg(short = 'I', value_name = "FROM")]
    pub all_from: Option<String>,
    /// The datasets below too, with all snapshots, clones and properties.
    #[arg(short = 'R', long)]
    pub replicate: bool,
    /// With -R: leave out datasets below that have no such snapshot.
    #[arg(short = 's', long, requires = "replicate")]
    pub skip_missing: bool,
    /// Properties too.
    #[arg(short, long)]
    pub props: bool,
    /// Holds too.
    #[arg(long)]
    pub holds: bool,
    /// Blocks above 128 KiB whole.
    #[arg(short = 'L', long)]
    pub large_block: bool,
    /// Compressed blocks as they are stored.
    #[arg(short, long)]
    pub compressed: bool,
    /// Embedded blocks as such.
    #[arg(short, long)]
    pub embed: bool,
    /// Blocks as they are stored, whatever they are: -L, -c and -e. Encrypted datasets are refused.
    #[arg(short = 'w', long)]
    pub raw: bool,
    /// Accepted as zfs(8) has it: streams are never deduplicated.
    #[arg(short = 'D', long, hide = true)]
    pub dedup: bool,
    /// Go on with an interrupted stream: the token of its receiver.
    #[arg(short = 't', value_name = "TOKEN",
        conflicts_with_all = ["snapshot", "from", "all_from", "replicate", "props", "holds"])]
    pub token: Option<String>,
    /// Send nothing: tell how much it would be.
    #[arg(short = 'n', long)]
    pub dryrun: bool,
    /// Figures for programs, separated by tabs.
    #[arg(short = 'P', long)]
    pub parsable: bool,
    /// Tell what is sent.
    #[arg(short, long)]
    pub verbose: bool,
    /// The file to write; standard output otherwise.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// `zeo receive`
#[derive(Debug, Args)]
pub struct Receive {
    /// The image: a file or block device; several joined by commas when a pool spans them.
    pub image: String,
    /// The dataset, or dataset@snap to name the snapshot; with -d and -e the dataset to receive below.
    pub target: String,
    /// Roll the target back to the stream's base: what came after it goes.
    #[arg(short = 'F', long)]
    pub force: bool,
    /// Keep what was received when the stream breaks off.
    #[arg(short = 's', long)]
    pub resumable: bool,
    /// Accepted as zfs(8) has it: nothing is ever mounted here.
    #[arg(short = 'u')]
    pub unmounted: bool,
    /// Keep the sender's name but for its pool.
    #[arg(short = 'd', conflicts_with = "last_part")]
    pub without_pool: bool,
    /// Keep the last part of the sender's name.
    #[arg(short = 'e')]
    pub last_part: bool,
    /// Set a property, whatever the stream says; origin=SNAPSHOT makes a clone.
    #[arg(short = 'o', value_name = "PROPERTY=VALUE")]
    pub set: Vec<String>,
    /// Leave out a property of the stream.
    #[arg(short = 'x', value_name = "PROPERTY")]
    pub exclude: Vec<String>,
    /// Receive nothing: check the stream and tell what it holds.
    #[arg(short = 'n', long)]
    pub dryrun: bool,
    /// Tell what is received.
    #[arg(short, long)]
    pub verbose: bool,
    /// Give up an interrupted receive.
    #[arg(short = 'A', long)]
    pub abort: bool,
    /// The file to read; standard input otherwise.
    #[arg(short = 'f', long)]
    pub file: Option<PathBuf>,
}

/// `zeo stream`
#[derive(Debug, Args)]
pub struct Stream {
    /// What to do with it.
    #[command(subcommand)]
    pub command: StreamCommand,
}

/// Commands on streams in files.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Tell what a stream holds, and check it.
    Info {
        /// The file; - is standard input.
        file: PathBuf,
        /// Every record.
        #[arg(short, long)]
        verbose: bool,
    },
    /// Tell what a resume token says.
    Token {
        /// The token.
        token: String,
    },
}
