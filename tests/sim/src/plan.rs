//! What a seed stands for: the pool, its disks, its properties, and which operations are done how often.
//!
//! A swarm: each seed leaves whole classes of operations out and weighs the others anew, so that rare combinations come
//! up often in some seeds instead of seldom in all.
use crate::harm::Harm;
use crate::layout::Layout;
use crate::manage::Extra;
use blockdev::WriteCache;
use blockdev_sim::Random;
use std::time::Duration;

/// A class of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// open(O_CREAT | O_EXCL).
    Create,
    /// mkdir.
    Mkdir,
    /// symlink.
    Symlink,
    /// A named pipe.
    Mknod,
    /// link.
    Link,
    /// unlink.
    Unlink,
    /// rmdir.
    Rmdir,
    /// renameat2, all modes.
    Rename,
    /// pwrite.
    Write,
    /// write with O_APPEND.
    Append,
    /// pwrite with O_SYNC or O_DSYNC.
    SyncWrite,
    /// ftruncate.
    Truncate,
    /// A hole.
    Punch,
    /// A range of zeroes.
    ZeroRange,
    /// Reserved space.
    Allocate,
    /// FICLONERANGE.
    Clone,
    /// chmod.
    Chmod,
    /// chown.
    Chown,
    /// utimensat.
    Utimes,
    /// setxattr.
    SetXattr,
    /// removexattr.
    RemoveXattr,
    /// fsync.
    Fsync,
    /// fdatasync.
    Fdatasync,
    /// fsync of a directory.
    FsyncDir,
    /// syncfs, or the pool.
    SyncAll,
    /// A store through a shared mapping.
    MapWrite,
    /// pread, compared.
    Read,
    /// SEEK_DATA and SEEK_HOLE, compared.
    Seek,
    /// getdents, compared.
    Readdir,
    /// O_TMPFILE.
    Unnamed,
    /// A file used after its last name went.
    OpenUnlinked,
    /// Time passes.
    Sleep,
    /// The name cache is emptied.
    Forget,
    /// A property of the dataset changes.
    SetProperty,
}

/// All of them, with the weight they have where nothing else is said.
const CLASSES: [(Class, u64); 34] = [
    (Class::Create, 10),
    (Class::Mkdir, 4),
    (Class::Symlink, 3),
    (Class::Mknod, 1),
    (Class::Link, 3),
    (Class::Unlink, 6),
    (Class::Rmdir, 3),
    (Class::Rename, 6),
    (Class::Write, 24),
    (Class::Append, 8),
    (Class::SyncWrite, 3),
    (Class::Truncate, 5),
    (Class::Punch, 4),
    (Class::ZeroRange, 2),
    (Class::Allocate, 2),
    (Class::Clone, 5),
    (Class::Chmod, 3),
    (Class::Chown, 2),
    (Class::Utimes, 2),
    (Class::SetXattr, 4),
    (Class::RemoveXattr, 2),
    (Class::Fsync, 6),
    (Class::Fdatasync, 3),
    (Class::FsyncDir, 1),
    (Class::SyncAll, 1),
    (Class::MapWrite, 4),
    (Class::Read, 6),
    (Class::Seek, 2),
    (Class::Readdir, 2),
    (Class::Unnamed, 2),
    (Class::OpenUnlinked, 2),
    (Class::Sleep, 3),
    (Class::Forget, 1),
    (Class::SetProperty, 1),
];

/// Everything a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Disks and how they are put together.
    pub layout: Layout,
    /// Bytes of each disk.
    pub disk_size: u64,
    /// Logical block size of the disks.
    pub block_size: u32,
    /// What a completed write means to them.
    pub write_cache: WriteCache,
    /// They write durably when asked to.
    pub has_fua: bool,
    /// Shortest and longest time of a request.
    pub latency: (Duration, Duration),
    /// Of the pool.
    pub ashift: u8,
    /// Dataset properties, by name and value as a user writes them.
    pub properties: Vec<(&'static str, String)>,
    /// Bounds of memory, bytes: block cache, dirty data.
    pub memory: (usize, usize),
    /// CPUs the code sees.
    pub nr_cpus: usize,
    /// Chance of pre-emption, in 1/65536.
    pub preempt: u32,
    /// Threads that work at the same time.
    pub nr_threads: usize,
    /// Times the pool is worked on; after each the power is cut and the next goes on from what is left.
    pub nr_generations: usize,
    /// Operations of each thread in a generation.
    pub nr_ops: usize,
    /// Commands of the administrator in a generation.
    pub nr_commands: usize,
    /// Moments of a generation whose power cut is tried, at most.
    pub nr_captures: usize,
    /// Different power cuts tried at each moment.
    pub nr_cuts: usize,
    /// Largest single write, bytes.
    pub write_max: u64,
    /// Farthest offset, bytes.
    pub offset_max: u64,
    /// Bytes of content the files of one thread may have together.
    pub content_max: u64,
    /// Operations and their weights.
    pub weights: Vec<(Class, u64)>,
    /// What disks do wrong.
    pub harm: Harm,
    /// The disks that do.
    pub harmed: Vec<usize>,
    /// Disks that are in no vdev to begin with.
    pub extra: Extra,
}

impl Plan {
    /// What the seed says.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7a65_6f6c_6974_6500);
        let random = &mut random;
        let layout = Layout::pick(random);
        let ashift = random.pick(&[9, 9, 12, 12, 12, 13]);
        let block_size = if ashift >= 12 { random.pick(&[512, 512, 4096]) } else { 512 };
        let record_size = random.pick(&[512_u64, 4096, 16 << 10, 128 << 10, 128 << 10, 1 << 20]);
        let write_max = random.pick(&[2_000_u64, 20_000, 20_000, 100_000, 400_000]);
        let fast = random.within(5, 100);
        let slow = fast + random.pick(&[1, 50, 400, 3000]);
        let nr_threads = random.pick(&[1, 1, 2, 3, 4]);
        let mut plan = Self {
            seed,
            layout,
            disk_size: random.pick(&[64_u64, 64, 96, 160]) << 20,
            block_size,
            write_cache: if random.chance(1, 10) { WriteCache::None } else { WriteCache::Volatile },
            has_fua: random.chance(1, 3),
            latency: (Duration::from_micros(fast), Duration::from_micros(slow)),
            ashift,
            properties: properties(random, record_size),
            memory: (random.pick(&[2, 8, 32]) << 20, random.pick(&[1, 4, 16]) << 20),
            nr_cpus: random.pick(&[1, 2, 4]),
            preempt: random.pick(&[0, 256, 2048, 8192]),
            nr_threads,
            nr_generations: random.within(1, 4) as usize,
            nr_ops: random.pick(&[40, 80, 120]) / nr_threads.min(2),
            nr_commands: random.pick(&[0, 0, 4, 10, 20]),
            nr_captures: random.pick(&[8, 16, 30]),
            nr_cuts: random.pick(&[1, 1, 2]),
            write_max,
            offset_max: random.pick(&[50_000, 300_000, 300_000, 2_000_000, 300_000_000]),
            content_max: (write_max * 10).clamp(300_000, 1_500_000),
            weights: weights(random),
            harm: Harm::None,
            harmed: Vec::new(),
            extra: Extra::default(),
        };
        // Last, so that all else is as it was before there was harm.
        (plan.harm, plan.harmed) = Harm::pick(&plan.layout, random);
        if plan.harm == Harm::Managed {
            plan.extra = Extra::pick(random);
        }
        if random.chance(1, 20) {
            plan.hurry(random);
        }
        plan
    }

    /// A few operations, most of which are waited for, and a power cut at nearly each of their requests: what is promised
    /// while the first groups and logs are still being written.
    fn hurry(&mut self, random: &mut Random) {
        self.nr_ops = random.pick(&[5, 10, 20]);
        self.nr_threads = random.pick(&[2, 4, 8]);
        self.nr_commands = 0;
        self.nr_generations = 4;
        self.nr_captures = 40;
        let classes = [Class::Create, Class::Write, Class::Append, Class::Rename, Class::Unlink];
        let waited = [Class::Fsync, Class::Fdatasync, Class::SyncWrite];
        self.weights = classes.map(|class| (class, 4)).into_iter().chain(waited.map(|c| (c, 8))).collect();
    }
}

fn properties(random: &mut Random, record_size: u64) -> Vec<(&'static str, String)> {
    let compression = random.pick(&["off", "on", "lz4", "zle", "lzjb", "gzip-1"]);
    let checksum = random.pick(&["on", "on", "on", "fletcher4", "sha256", "sha512"]);
    let copies = random.pick(&["1", "1", "1", "1", "2", "3"]);
    let mut properties = vec![
        ("recordsize", record_size.to_string()),
        ("compression", compression.to_owned()),
        ("checksum", checksum.to_owned()),
        ("copies", copies.to_owned()),
        ("atime", random.pick(&["off", "on"]).to_owned()),
        ("xattr", random.pick(&["sa", "sa", "on"]).to_owned()),
        ("dnodesize", random.pick(&["legacy", "legacy", "auto", "2k"]).to_owned()),
        ("redundant_metadata", random.pick(&["all", "all", "most"]).to_owned()),
    ];
    if random.chance(1, 4) {
        properties.push(("sync", random.pick(&["always", "disabled"]).to_owned()));
    }
    if random.chance(1, 4) {
        properties.push(("logbias", "throughput".to_owned()));
    }
    properties
}

fn weights(random: &mut Random) -> Vec<(Class, u64)> {
    let mut weights = Vec::new();
    for (class, usual) in CLASSES {
        let is_needed = matches!(class, Class::Create | Class::Write);
        match random.below(10) {
            0..=3 if !is_needed => {}
            4..=5 => weights.push((class, usual * random.within(2, 6))),
            _ => weights.push((class, usual)),
        }
    }
    weights
}
