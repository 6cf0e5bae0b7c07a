//! Pools that OpenZFS made, and the lists of what must be read from them.
//!
//! `data/POOL/dN.img.zst` are the pool's devices; beside them lies one set of lists for each dataset, named after it with
//! `/` as `_` and `@` as `.`: `.sha256`, `.meta`, `.xattr`, and `.volsha256` for a volume.
//!
//! [`walk`] reads whole pools with the leaf crates alone; [`forge`] makes damaged pools whose checksums are right,
//! [`damage`] picks the damage by a seed. [`open`] and [`snapshot`] use the code under test.
//!
//! Unpacking uses the `zstd` program, which writes zeros as holes.
#![forbid(unsafe_code)]

pub mod check;
pub mod damage;
pub mod forge;
pub mod open;
pub mod snapshot;
pub mod streams;
pub mod walk;

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};
use tempfile::TempDir;

/// A golden pool, unpacked. Its images are removed when it is dropped.
pub struct Pool {
    /// Name of the pool and of its folder.
    pub name: String,
    /// Its devices, `d0` first.
    pub images: Vec<PathBuf>,
    dir: TempDir,
}

impl Pool {
    /// Unpacks the pool of that name into a folder of its own.
    ///
    /// # Errors
    /// When there is no such pool, or `zstd` is missing or fails.
    pub fn unpack(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("golden-{name}-")).tempdir()?;
        let mut images = Vec::new();
        for index in 0.. {
            let packed = data_dir(name).join(format!("d{index}.img.zst"));
            if !packed.exists() {
                break;
            }
            let image = dir.path().join(format!("d{index}.img"));
            let status = Command::new("zstd")
                .args(["-dqf", "--sparse"])
                .arg(&packed)
                .arg("-o")
                .arg(&image)
                .status()
                .context("the program zstd is needed to unpack golden pools")?;
            ensure!(status.success(), "zstd could not unpack {}", packed.display());
            images.push(image);
        }
        ensure!(!images.is_empty(), "no golden pool of name {name}");
        Ok(Self { name: name.to_owned(), images, dir })
    }

    /// The folder that holds the images and nothing else.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The datasets and snapshots there are lists for, as `pool/a/b` or `pool/a@snap`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn listed(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(data_dir(&self.name))? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if let Some(stem) = name.trim_end_matches(".zst").strip_suffix(".meta") {
                let is_dataset = stem == self.name || stem.starts_with(&format!("{}_", self.name));
                let is_snapshot = stem.starts_with(&format!("{}.", self.name));
                if is_dataset || is_snapshot {
                    names.push(stem.replace('_', "/").replacen('.', "@", 1));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// The list of that kind (`sha256`, `meta`, `xattr`, `volsha256`) for a dataset; `None` when there is none.
    ///
    /// # Errors
    /// When the list cannot be read or unpacked.
    pub fn list(&self, dataset: &str, kind: &str) -> Result<Option<Vec<u8>>> {
        let stem = format!("{}.{kind}", dataset.replace('/', "_").replace('@', "."));
        let plain = data_dir(&self.name).join(&stem);
        if plain.exists() {
            return Ok(Some(fs::read(plain)?));
        }
        let packed = data_dir(&self.name).join(format!("{stem}.zst"));
        if !packed.exists() {
            return Ok(None);
        }
        let output = Command::new("zstd").arg("-dqc").arg(&packed).output()?;
        ensure!(output.status.success(), "zstd could not unpack {}", packed.display());
        Ok(Some(output.stdout))
    }
}

fn data_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// The first lines in which two lists differ, for a test's message; `None` when they are equal.
#[must_use]
pub fn difference(expected: &[u8], actual: &[u8]) -> Option<String> {
    if expected == actual {
        return None;
    }
    let (want, have): (Vec<_>, Vec<_>) = (lines(expected), lines(actual));
    let missing = want.iter().filter(|l| have.binary_search(l).is_err());
    let extra = have.iter().filter(|l| want.binary_search(l).is_err());
    let show = |sign: char, line: &&[u8]| {
        format!("{sign} {}\n", String::from_utf8_lossy(&line[..line.len().min(300)]))
    };
    let mut text: String = missing.take(8).map(|l| show('-', l)).collect();
    text.extend(extra.take(8).map(|l| show('+', l)));
    if text.is_empty() {
        text = "the same lines in another order\n".to_owned();
    }
    Some(text)
}

/// Lines, sorted, so that both sides can be searched.
fn lines(list: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = list.split(|b| *b == b'\n').collect();
    lines.sort_unstable();
    lines
}
