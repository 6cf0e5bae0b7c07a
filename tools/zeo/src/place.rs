//! Where things lie: caches, the kernel, the disks of recipes.
use crate::failure::{self, Failure};
use anyhow::Result;
use mkfs::boot::Boot;
use std::path::{Path, PathBuf};

/// What is fetched once and used again: `$ZEO_CACHE`, else `$XDG_CACHE_HOME/zeolite`, else `~/.cache/zeolite`.
pub fn cache() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("ZEO_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|d| d.join("zeolite")))
        .or_else(|| from("HOME").map(|d| d.join(".cache/zeolite")))
        .unwrap_or_else(|| std::env::temp_dir().join("zeolite"))
}

/// The directory of this program's own build, if it runs from one.
fn target() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let target = own.parent()?.parent()?;
    target.join("CACHEDIR.TAG").exists().then(|| target.to_owned())
}

/// The project's own recipes: `images` beside the build folder, or in the current folder.
pub fn images() -> PathBuf {
    let beside = target().and_then(|t| t.parent().map(|p| p.join("images"))).filter(|p| p.is_dir());
    beside.unwrap_or_else(|| PathBuf::from("images"))
}

/// Where a recipe's disk and other traces of its runs are kept: `target/zeo/NAME`.
pub fn run_folder(name: &str) -> PathBuf {
    target().unwrap_or_else(|| cache().join("run")).join("zeo").join(name)
}

/// The kernel: what was asked for, else `$ZEO_KERNEL`, else the one built beside this program.
///
/// # Errors
/// When it is not there.
pub fn kernel(asked: Option<&Path>) -> Result<PathBuf> {
    let named = std::env::var_os("ZEO_KERNEL").filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = match asked.map(Path::to_owned).or(named) {
        Some(path) => path,
        None => {
            let own = std::env::current_exe()?;
            own.parent().unwrap_or(Path::new(".")).join("kernel")
        }
    };
    if path.exists() {
        return Ok(path);
    }
    let hint =
        "build it with `cargo build --release -p kernel`, start zeo as ./zeo, or name one with --kernel";
    Err(Failure::new(failure::NO_INPUT, format!("there is no kernel at {}", path.display()), hint).into())
}

/// What a disk needs to boot.
///
/// # Errors
/// When the kernel cannot be read.
pub fn boot(kernel_asked: Option<&Path>) -> Result<Boot> {
    Ok(Boot { kernel: std::fs::read(kernel(kernel_asked)?)? })
}

/// The kernel as QEMU loads it, in `folder`.
///
/// # Errors
/// When the kernel is not there or no ELF file.
pub fn prepared_kernel(asked: Option<&Path>, folder: &Path) -> Result<PathBuf> {
    let prepared = mkfs::boot::prepared_kernel(&std::fs::read(kernel(asked)?)?)?;
    let path = folder.join("kernel");
    std::fs::write(&path, prepared)?;
    Ok(path)
}

/// The name of a recipe: its folder's.
pub fn recipe_name(path: &Path) -> String {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let full = folder.and_then(|f| f.canonicalize().ok());
    let name = full.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    name.unwrap_or_else(|| String::from("image"))
}

/// Whether a path names a recipe rather than an image.
pub fn is_recipe(path: &Path) -> bool {
    path.join(mkfs::recipe::FILE_NAME).is_file() || path.extension().is_some_and(|e| e == "toml")
}
