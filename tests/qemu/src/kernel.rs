//! The kernel under test: built by cargo in the same profile as the test, prepared with its symbol table.
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The linker's output.
///
/// # Errors
/// The build fails.
pub fn built() -> Result<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(&root).args(["build", "--quiet", "--package", "kernel"]);
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        build.arg("--release");
        "release"
    };
    // Cargo sets variables for the test it runs; the kernel's build must not depend on them.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            build.env_remove(name);
        }
    }
    ensure!(build.status().context("cannot run cargo")?.success(), "the kernel does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join(profile).join("kernel"))
}

/// The prepared kernel, made once per process.
///
/// # Errors
/// It does not build, or its image is not as expected.
pub fn prepared() -> Result<PathBuf> {
    static PREPARED: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let made = PREPARED.get_or_init(|| prepare().map_err(|e| format!("{e:#}")));
    made.clone().map_err(anyhow::Error::msg)
}

fn prepare() -> Result<PathBuf> {
    let built = built()?;
    let image = kernel_boot::prepare(&std::fs::read(&built)?)?;
    // Processes may run at the same time: each its own file, replaced whole.
    let path = built.with_file_name(format!("kernel-prepared-{}", std::process::id()));
    std::fs::write(&path, image)?;
    let shared = built.with_file_name("kernel-prepared");
    std::fs::rename(&path, &shared)?;
    Ok(shared)
}
