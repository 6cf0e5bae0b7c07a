//! Building an image from a tree beside `cp -a` of the same tree to a fresh ext4, in turns.
//!
//! What `cp -a` measures ends with a sync, as an image's build does: both leave the data on the disk. A fresh ext4 needs
//! a loop device and root; without them the copy goes to the file system that holds the build folder, and the output
//! says so.
use super::median;
use crate::place;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Context, Result, bail};
use mkfs::build::{Options, Progress, build};
use mkfs::layout::Layout;
use mkfs::recipe::Recipe;
use mkfs::tree::import::Totals;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Serialize)]
struct Figures {
    tree: PathBuf,
    files: u64,
    bytes: u64,
    build_seconds: f64,
    cp_seconds: f64,
    /// Speed of building in percent of that of copying.
    percent: f64,
    target_percent: f64,
    cp_target: &'static str,
}

struct Silent;

impl Progress for Silent {
    fn phase(&mut self, _text: &str) {}
    fn copied(&mut self, _from: &str, _totals: Totals) {}
}

/// Measures.
///
/// # Errors
/// When a build or a copy fails.
pub fn run(tree: &Path, runs: usize, mode: Mode) -> Result<()> {
    let tree = tree.canonicalize().with_context(|| tree.display().to_string())?;
    let folder = place::run_folder("bench").join("build");
    std::fs::create_dir_all(&folder)?;
    let text = format!(
        "[pool]\nsize = \"32G\"\nproperties = {{ compression = \"off\" }}\n[[trees]]\nsource = {:?}\ntarget = \"/tree\"\n",
        tree.display().to_string()
    );
    let recipe = Recipe::parse(&text, "bench", folder.clone())?;
    let ext4 = Ext4::mount(&folder);
    let options = Options {
        output: folder.join("image"),
        layout: Layout::Pool,
        size: None,
        seed: Some(1),
        cache: place::cache(),
        boot: None,
    };
    let (mut builds, mut copies) = (Vec::new(), Vec::new());
    let mut totals = Totals::default();
    // The first of each only warms the cache.
    for run in 0..=runs.max(1) {
        let _ = std::fs::remove_file(&options.output);
        let built = build(&recipe, &options, &mut Silent)?;
        let synced = Instant::now();
        sync(&folder)?;
        let build_seconds = built.copy_seconds + synced.elapsed().as_secs_f64();
        let copy_seconds = copy(&tree, ext4.as_ref().map_or(&folder, |e| &e.mountpoint))?;
        if run > 0 {
            builds.push(build_seconds);
            copies.push(copy_seconds);
        }
        totals = built.totals;
    }
    let _ = std::fs::remove_file(&options.output);
    let (build_seconds, cp_seconds) = (median(builds), median(copies));
    let figures = Figures {
        tree,
        files: totals.files,
        bytes: totals.bytes,
        build_seconds,
        cp_seconds,
        percent: 100.0 * cp_seconds / build_seconds,
        target_percent: 70.0,
        cp_target: if ext4.is_some() {
            "fresh ext4 on a loop device"
        } else {
            "the build folder's file system"
        },
    };
    if mode == Mode::Json {
        return print_json(&figures);
    }
    say!("{} files, {:.1} MB of {}", figures.files, figures.bytes as f64 / 1e6, figures.tree.display());
    say!("build {build_seconds:.2} s, cp -a to {} {cp_seconds:.2} s", figures.cp_target);
    say!("speed: {:.0} % of cp -a (target 70 %)", figures.percent);
    Ok(())
}

fn sync(folder: &Path) -> Result<()> {
    run_quietly(Command::new("sync").arg("-f").arg(folder))
}

fn copy(tree: &Path, to: &Path) -> Result<f64> {
    let target = to.join("copy");
    if target.exists() {
        std::fs::remove_dir_all(&target)?;
        sync(to)?;
    }
    let started = Instant::now();
    run_quietly(Command::new("cp").arg("-a").arg(tree).arg(&target))?;
    sync(to)?;
    let took = started.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&target)?;
    Ok(took)
}

fn run_quietly(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A fresh ext4 in a file.
struct Ext4 {
    mountpoint: PathBuf,
    file: PathBuf,
}

impl Ext4 {
    fn mount(folder: &Path) -> Option<Self> {
        let (file, mountpoint) = (folder.join("ext4"), folder.join("mnt"));
        std::fs::create_dir_all(&mountpoint).ok()?;
        std::fs::File::create(&file).and_then(|f| f.set_len(32 << 30)).ok()?;
        run_quietly(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&file)).ok()?;
        let mounted = Self { mountpoint, file };
        run_quietly(Command::new("mount").args(["-o", "loop"]).arg(&mounted.file).arg(&mounted.mountpoint))
            .ok()?;
        Some(mounted)
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = run_quietly(Command::new("umount").arg(&self.mountpoint));
        let _ = std::fs::remove_file(&self.file);
    }
}
