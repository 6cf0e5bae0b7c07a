//! From a recipe to an image.
//!
//! The image is written beside its final name and renamed at the end, so that a build that fails leaves what was there.
//! With a seed, two builds of the same inputs write the same bytes: guids and salts come from the seed, and no time
//! but those of the inputs enters.
use crate::boot::Boot;
use crate::file_system;
use crate::layout::{self, Layout};
use crate::pool;
use crate::recipe::Recipe;
use crate::source::inline::Inline;
use crate::source::sources;
use crate::tree::edit::{Parents, make_directory};
use crate::tree::import::{Importer, Mounts, Totals};
use crate::tree::pipeline;
use anyhow::{Context, Result, anyhow};
use blockdev::{BlockDevice, Partition};
use blockdev_host::FileDisk;
use guest_config::Config;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use vfs::TimeSpec;
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::{Deterministic, PoolSpec, Spa, TopSpec, VdevSpec};

/// The time of what has none of its own, in builds with a seed: 2025-01-01.
const FIXED_TIME: u64 = 1_735_689_600;

/// How to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the image goes.
    pub output: PathBuf,
    /// Its layout.
    pub layout: Layout,
    /// Its size, where the recipe's is not wanted.
    pub size: Option<u64>,
    /// Same seed and inputs, same bytes.
    pub seed: Option<u64>,
    /// Where fetched packages are kept.
    pub cache: PathBuf,
    /// Loader and kernel; a disk without them holds data only.
    pub boot: Option<Boot>,
}

/// What was built.
#[derive(Clone, Debug, Serialize)]
pub struct Built {
    /// The image, or the first of several.
    pub image: PathBuf,
    /// All images of the pool.
    pub disks: Vec<PathBuf>,
    /// Its bytes, holes included.
    pub size: u64,
    /// Bytes allocated in the pool.
    pub allocated: u64,
    /// The seed, given or drawn.
    pub seed: u64,
    /// What was copied.
    #[serde(flatten)]
    pub totals: Totals,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How long of it the copying took (the rest is fetching and compiling).
    pub copy_seconds: f64,
}

/// Who is told how far the build is.
pub trait Progress {
    /// A phase begins.
    fn phase(&mut self, text: &str);
    /// Copying: from what, and how much so far.
    fn copied(&mut self, from: &str, totals: Totals);
}

/// Builds the image.
///
/// # Errors
/// Whatever stands in the way, with what was being done.
pub fn build(recipe: &Recipe, options: &Options, progress: &mut dyn Progress) -> Result<Built> {
    let started = Instant::now();
    let seed = options.seed.unwrap_or_else(random_seed);
    let time = build_time(options.seed.is_some());
    let stamp = TimeSpec { secs: time as i64, nanos: 0 };
    let all = sources(recipe, &options.cache, stamp, &mut |text| progress.phase(text))?;
    let size = options.size.unwrap_or(recipe.size().0);
    let (start, len) = options.layout.pool(size)?;

    progress.phase("making the pool");
    let copy_started = Instant::now();
    let files = recipe.disk_files(&options.output);
    let mut cleanups = Vec::new();
    let mut devices: Vec<Arc<dyn BlockDevice>> = Vec::new();
    for (nr, file) in files.iter().enumerate() {
        let partial = partial_name(file);
        // Only the first disk boots; the others are as large as its part of the pool.
        let is_first = nr == 0;
        let disk = FileDisk::create(&partial, if is_first { size } else { len })
            .with_context(|| partial.display().to_string())?;
        cleanups.push((RemoveOnDrop(Some(partial)), file));
        let disk: Arc<dyn BlockDevice> = Arc::new(disk);
        if is_first && options.layout == Layout::Disk {
            write_disk(&disk, size, seed, options.boot.as_ref())?;
        }
        devices.push(if is_first { Arc::new(Partition::new(disk, start, len)?) } else { disk });
    }
    let spa = create_pool(recipe, devices, Deterministic { seed, time }, stamp)?;
    let mounts = make_datasets(recipe, &spa, stamp)?;

    let mut all = all;
    all.push(Box::new(config_file(recipe, stamp)));
    progress.phase("copying");
    let importer = Importer::new(mounts, stamp)?;
    let totals = pipeline::run(all, importer, &mut |from, totals| progress.copied(from, totals))?;
    progress.phase("writing the pool");
    spa.sync().context("write the pool")?;
    let allocated = spa.space()?.allocated;
    spa.export().context("close the pool")?;
    drop(spa);
    for (cleanup, file) in cleanups {
        cleanup.keep_as(file)?;
    }
    Ok(Built {
        image: options.output.clone(),
        disks: files,
        size,
        allocated,
        seed,
        totals,
        seconds: started.elapsed().as_secs_f64(),
        copy_seconds: copy_started.elapsed().as_secs_f64(),
    })
}

/// The configuration a recipe gives its guest.
pub fn guest_config(recipe: &Recipe) -> Config {
    let text = |s: &Option<toml::Spanned<String>>| {
        s.as_ref().map_or(Vec::new(), |s| s.get_ref().clone().into_bytes())
    };
    Config {
        program: text(&recipe.program),
        args: recipe.args.iter().map(|a| a.clone().into_bytes()).collect(),
        env: recipe.env.iter().map(|(k, v)| format!("{k}={v}").into_bytes()).collect(),
        cwd: text(&recipe.cwd),
        hostname: recipe.hostname.clone().into_bytes(),
        tmpfs: recipe.tmpfs.iter().map(|t| t.get_ref().clone().into_bytes()).collect(),
        uid: recipe.uid,
        gid: recipe.gid,
        unknown: Vec::new(),
    }
}

fn config_file(recipe: &Recipe, stamp: TimeSpec) -> Inline {
    let mut file = Inline::new(stamp);
    file.file(guest_config::PATH, 0o644, (0, 0), guest_config(recipe).format().as_bytes());
    file
}

fn write_disk(disk: &Arc<dyn BlockDevice>, size: u64, seed: u64, boot: Option<&Boot>) -> Result<()> {
    let code = match boot {
        Some(boot) => {
            boot.install(&**disk, layout::BOOT_START, layout::BOOT_LEN).context("loader and kernel")?
        }
        None => Vec::new(),
    };
    layout::table(size, seed)?.write(&**disk, &code).context("partition table")
}

fn create_pool(
    recipe: &Recipe,
    devices: Vec<Arc<dyn BlockDevice>>,
    fixed: Deterministic,
    clock: TimeSpec,
) -> Result<Arc<Spa>> {
    let compatibility = recipe.pool.compatibility.as_ref().map_or("full", |c| c.get_ref().as_str());
    let mut spec = PoolSpec::new(recipe.pool_name());
    spec.ashift = recipe.ashift();
    spec.compatibility = pool::compatibility(compatibility).unwrap_or_default();
    spec.root_properties = vec![(Property::Mountpoint, PropertyValue::Text("/".into()))];
    spec.root_properties.extend(properties(&recipe.pool.all_properties())?);
    spec.deterministic = Some(fixed);
    spec.history = format!("zeo build {}", recipe.pool_name());
    let mut devices = devices.into_iter().enumerate().map(|(nr, device)| {
        let path = if nr == 0 { String::from("/dev/vda2") } else { format!("/dev/vd{}", letters(nr)) };
        VdevSpec { device, path, is_file: false }
    });
    let tops = recipe.vdevs().into_iter().map(|group| TopSpec {
        kind: group.kind,
        purpose: group.purpose,
        devices: devices.by_ref().take(group.devices.len()).collect(),
    });
    let tops: Vec<TopSpec> = tops.collect();
    file_system::create_pool(tops, &spec, Some(clock)).context("make the pool")
}

/// The letters of the `nr`th virtual disk: a to z, then aa and on.
fn letters(nr: usize) -> String {
    let last = char::from(b'a' + (nr % 26) as u8);
    if nr < 26 { last.to_string() } else { format!("{}{last}", letters(nr / 26 - 1)) }
}

/// Makes the recipe's datasets, parents first, and mounts all of them.
fn make_datasets(recipe: &Recipe, spa: &Arc<Spa>, clock: TimeSpec) -> Result<Mounts> {
    let pool = recipe.pool_name();
    let mut mounts = Mounts::new();
    mounts.insert(b"/".to_vec(), file_system::mount(spa, pool, false, Some(clock))?.root()?);
    let mut wanted: Vec<_> = recipe.datasets.iter().map(|d| (d.name.get_ref().clone(), d)).collect();
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut existing = vec![pool.to_owned()];
    for (name, dataset) in wanted {
        let full = format!("{pool}/{name}");
        make_parents(spa, &full, &mut existing, clock)?;
        let mut set = vec![(Property::Mountpoint, PropertyValue::Text(dataset.mountpoint()))];
        set.extend(properties(&dataset.all_properties())?);
        file_system::create_dataset(spa, &full, &set, clock).with_context(|| format!("dataset {full}"))?;
        existing.push(full.clone());
        let root = file_system::mount(spa, &full, false, Some(clock))?.root()?;
        mounts.insert(dataset.mountpoint().into_bytes(), root);
    }
    make_mountpoints(&mounts)?;
    Ok(mounts)
}

/// Makes the directories that file systems will be mounted on, in the file systems around them. Before anything is
/// copied, so that directories that come with times of their own keep them.
fn make_mountpoints(mounts: &Mounts) -> Result<()> {
    for mountpoint in mounts.keys().filter(|m| m.as_slice() != b"/") {
        let is_around = |outer: &[u8]| {
            outer == b"/" || mountpoint.strip_prefix(outer).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        // Keys are sorted: the last that is around is the innermost.
        let Some((outer, root)) = mounts.iter().rfind(|(outer, _)| is_around(outer)) else { continue };
        let inside = mountpoint.strip_prefix(outer.as_slice()).unwrap_or(mountpoint);
        make_directory(root, inside, Parents::Make)?;
    }
    Ok(())
}

/// Parents that the recipe does not describe hold nothing and are not mounted.
fn make_parents(spa: &Arc<Spa>, full: &str, existing: &mut Vec<String>, clock: TimeSpec) -> Result<()> {
    for (at, _) in full.match_indices('/') {
        let parent = &full[..at];
        if !existing.iter().any(|e| e == parent) {
            let off = Property::CanMount.parse_value("off").map_err(|e| anyhow!("canmount: {e}"))?;
            file_system::create_dataset(spa, parent, &[(Property::CanMount, off)], clock)?;
            existing.push(parent.to_owned());
        }
    }
    Ok(())
}

fn properties(list: &[(String, String)]) -> Result<Vec<(Property, PropertyValue)>> {
    list.iter().map(|(name, value)| pool::parse_property(name, value).map_err(|e| anyhow!(e))).collect()
}

fn build_time(is_fixed: bool) -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|t| t.parse().ok());
    given.unwrap_or_else(|| {
        if is_fixed {
            FIXED_TIME
        } else {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(FIXED_TIME, |d| d.as_secs())
        }
    })
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    rt::fill_random(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn partial_name(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// A file that is removed unless it is kept.
struct RemoveOnDrop(Option<PathBuf>);

impl RemoveOnDrop {
    fn keep_as(mut self, name: &Path) -> Result<()> {
        if let Some(file) = self.0.take() {
            std::fs::rename(&file, name).with_context(|| name.display().to_string())?;
        }
        Ok(())
    }
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = std::fs::remove_file(file);
        }
    }
}
