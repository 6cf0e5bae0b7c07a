//! Where an image's files come from, besides directories of the host.
//!
//! | module | holds |
//! |---|---|
//! | [`apt`] | Debian packages with what they depend on, fetched but not installed |
//! | [`deb`] | the files of a package |
//! | [`elf`] | a program of the host with its interpreter and libraries |
//! | [`inline`] | files, directories and links spelled out in the recipe, and the skeleton of every image |
//! | [`compile`] | C programs compiled on the host |
pub mod apt;
pub mod compile;
pub mod deb;
pub mod elf;
pub mod inline;

use crate::recipe::{Elf, Recipe, parse_mode};
use crate::tree::host::HostTree;
use crate::tree::item::Source;
use anyhow::{Context, Result};
use std::path::Path;
use vfs::TimeSpec;

/// Everything a recipe asks for, in the order in which later files replace earlier ones. Packages are fetched and
/// programs compiled here; `note` is told what takes long.
///
/// # Errors
/// A source that is not there, a package that does not exist, a compiler's message.
pub fn sources(
    recipe: &Recipe,
    cache: &Path,
    time: TimeSpec,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<Box<dyn Source>>> {
    let mut all: Vec<Box<dyn Source>> = Vec::new();
    all.push(Box::new(inline::skeleton(!recipe.packages.is_empty(), time)));
    if !recipe.packages.is_empty() {
        let names: Vec<&str> = recipe.packages.iter().map(|p| p.get_ref().as_str()).collect();
        note(&format!("fetching {}", names.join(", ")));
        for file in apt::fetch(&names, cache)? {
            all.push(Box::new(deb::Deb::new(&file)));
        }
    }
    for program in &recipe.elf {
        let (source, target) = match program.get_ref() {
            Elf::Path(path) => (Path::new(path).to_owned(), path.as_str()),
            Elf::Table { source, target } => (recipe.host_path(source), target.as_str()),
        };
        all.push(Box::new(elf::Program::new(&source, target)?));
    }
    for (index, program) in recipe.compile.iter().enumerate() {
        note(&format!("compiling {}", program.source.get_ref()));
        all.push(compile::compile(recipe, program, &cache.join("compile").join(index.to_string()), time)?);
    }
    for tree in &recipe.trees {
        let source = recipe.host_path(tree.source.get_ref());
        source.symlink_metadata().with_context(|| source.display().to_string())?;
        let tree = HostTree::new(&source, tree.target.get_ref().as_bytes()).owned_by(tree.uid, tree.gid);
        all.push(Box::new(tree));
    }
    for file in &recipe.files {
        let source = recipe.host_path(file.source.get_ref());
        source.symlink_metadata().with_context(|| source.display().to_string())?;
        let perm = file.mode.as_ref().and_then(|m| parse_mode(m.get_ref()));
        let tree = HostTree::new(&source, file.target.get_ref().as_bytes());
        all.push(Box::new(tree.owned_by(Some(file.uid), Some(file.gid)).with_perm(perm)));
    }
    all.push(Box::new(inline::of_recipe(recipe, time)));
    Ok(all)
}
