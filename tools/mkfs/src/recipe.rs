//! Recipes: the `image.toml` of an image's folder.
//!
//! | module | holds |
//! |---|---|
//! | [`mistake`] | what is wrong with a recipe, with line and hint |
//! | [`preset`] | named sets of dataset properties |
//!
//! Parsing is strict: an unknown key is a mistake, and everything that can be checked without touching a source is
//! checked before anything is fetched or built. The schema for editors is `image.schema.json` beside this crate; a
//! test keeps the two in step.
pub mod mistake;
pub mod preset;

#[cfg(test)]
mod tests;

use crate::size::Size;
use crate::vdevs::{self, Group};
use anyhow::{Context, Result};
use mistake::Mistake;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use zfs::spa::{Purpose, TopKind};

/// File name of a recipe in its folder.
pub const FILE_NAME: &str = "image.toml";
/// The JSON schema of recipes.
pub const SCHEMA: &str = include_str!("../image.schema.json");
/// A commented recipe to start from.
pub const TEMPLATE: &str = include_str!("../template.toml");

const POOL_NAME: &str = "zeolite";
const SIZE: Size = Size(4 << 30);
const SIZE_MIN: Size = Size(64 << 20);
const MEMORY: Size = Size(512 << 20);
const MEMORY_MIN: Size = Size(16 << 20);

/// A recipe, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Absolute path of the program in the image.
    pub program: Option<Spanned<String>>,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: Option<Spanned<String>>,
    /// Host name.
    #[serde(default)]
    pub hostname: String,
    /// Where file systems in memory are mounted.
    #[serde(default)]
    pub tmpfs: Vec<Spanned<String>>,
    /// User to run as.
    #[serde(default)]
    pub uid: u32,
    /// Group to run as.
    #[serde(default)]
    pub gid: u32,
    /// Defaults for running.
    #[serde(default)]
    pub machine: Machine,
    /// The pool.
    #[serde(default)]
    pub pool: Pool,
    /// Debian packages, with what they depend on.
    #[serde(default)]
    pub packages: Vec<Spanned<String>>,
    /// C programs to compile.
    #[serde(default)]
    pub compile: Vec<Compile>,
    /// Programs of the host, with their interpreter and libraries.
    #[serde(default)]
    pub elf: Vec<Spanned<Elf>>,
    /// Single files of the host.
    #[serde(default)]
    pub files: Vec<HostFile>,
    /// Directories of the host.
    #[serde(default)]
    pub trees: Vec<HostTree>,
    /// Files written out here.
    #[serde(default)]
    pub text: Vec<Text>,
    /// Directories to make.
    #[serde(default)]
    pub directories: Vec<Directory>,
    /// Symbolic links to make.
    #[serde(default)]
    pub symlinks: Vec<Symlink>,
    /// Datasets besides the root file system.
    #[serde(default)]
    pub datasets: Vec<Dataset>,
    /// The folder relative paths start from.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Defaults for running the image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Memory.
    pub memory: Option<Spanned<Size>>,
    /// Virtual CPUs.
    pub cpus: Option<Spanned<u32>>,
}

/// The pool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: Option<Spanned<String>>,
    /// Size of the image.
    pub size: Option<Spanned<Size>>,
    /// Disks and how they make up the pool, as zpool-create(8) has it: `raidz a b c log d`. The first is the one that
    /// boots; names are the recipe's own. One disk otherwise.
    pub vdevs: Option<Spanned<String>>,
    /// log2 of the smallest allocation.
    pub ashift: Option<Spanned<u8>>,
    /// Feature set: `full`, `grub2`, `openzfs-2.0-linux`, `none`.
    pub compatibility: Option<Spanned<String>>,
    /// Properties of the root dataset; the others inherit them.
    #[serde(default)]
    pub properties: BTreeMap<String, Spanned<toml::Value>>,
}

/// A C program to compile on the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compile {
    /// Source file, relative to the recipe.
    pub source: Spanned<String>,
    /// Path in the image.
    pub target: Spanned<String>,
    /// Options of the compiler.
    #[serde(default = "default_flags")]
    pub flags: Vec<String>,
    /// The compiler.
    #[serde(default = "default_compiler")]
    pub compiler: String,
}

fn default_flags() -> Vec<String> {
    ["-O2", "-static"].map(String::from).to_vec()
}

fn default_compiler() -> String {
    String::from("cc")
}

/// A program of the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Elf {
    /// At the same path in the image.
    Path(String),
    /// Elsewhere.
    Table {
        /// Path on the host.
        source: String,
        /// Path in the image.
        target: String,
    },
}

/// A file of the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFile {
    /// Path on the host, relative to the recipe.
    pub source: Spanned<String>,
    /// Path in the image.
    pub target: Spanned<String>,
    /// Permission bits, as `"0755"`; those of the source otherwise.
    pub mode: Option<Spanned<String>>,
    /// Owner; root otherwise.
    #[serde(default)]
    pub uid: u32,
    /// Group; root otherwise.
    #[serde(default)]
    pub gid: u32,
}

/// A directory of the host with all that is in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostTree {
    /// Path on the host, relative to the recipe.
    pub source: Spanned<String>,
    /// Path in the image.
    pub target: Spanned<String>,
    /// Owner of everything; as on the host otherwise.
    pub uid: Option<u32>,
    /// Group of everything; as on the host otherwise.
    pub gid: Option<u32>,
}

/// A file written out in the recipe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Path in the image.
    pub target: Spanned<String>,
    /// Content.
    pub content: String,
    /// Permission bits, as `"0644"`.
    pub mode: Option<Spanned<String>>,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// A directory to make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Path in the image.
    pub target: Spanned<String>,
    /// Permission bits, as `"0755"`.
    pub mode: Option<Spanned<String>>,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// A symbolic link to make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symlink {
    /// Path in the image.
    pub target: Spanned<String>,
    /// What it points at.
    pub to: String,
}

/// A dataset besides the root file system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Name below the pool: `data`, `data/log`.
    pub name: Spanned<String>,
    /// Where it is mounted; `/NAME` otherwise.
    pub mountpoint: Option<Spanned<String>>,
    /// A named set of properties, see [`preset`].
    pub preset: Option<Spanned<String>>,
    /// Properties by their ZFS names.
    #[serde(default)]
    pub properties: BTreeMap<String, Spanned<toml::Value>>,
}

impl Recipe {
    /// Reads a recipe: a folder with an `image.toml`, or the file itself.
    ///
    /// # Errors
    /// When it cannot be read, or a [`Mistake`].
    pub fn load(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self::parse(&text, &file.to_string_lossy(), folder)?)
    }

    /// Parses and checks a recipe; `file` is for messages.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str, file: &str, folder: PathBuf) -> Result<Self, Mistake> {
        let mut recipe: Self =
            toml::from_str(text).map_err(|e| Mistake::from_toml(&e, text)).map_err(|m| m.in_file(file))?;
        recipe.folder = folder;
        recipe.check(text).map_err(|m| m.in_file(file))?;
        Ok(recipe)
    }

    /// Name of the pool.
    pub fn pool_name(&self) -> &str {
        self.pool.name.as_ref().map_or(POOL_NAME, |n| n.get_ref())
    }

    /// Size of the image.
    pub fn size(&self) -> Size {
        self.pool.size.as_ref().map_or(SIZE, |s| *s.get_ref())
    }

    /// How its disks make up the pool.
    pub fn vdevs(&self) -> Vec<Group> {
        let one =
            || Group { kind: TopKind::Disk, purpose: Purpose::Data, devices: vec![String::from("disk")] };
        let words = self.pool.vdevs.as_ref().and_then(|v| vdevs::parse_text(v.get_ref()).ok());
        words.unwrap_or_else(|| vec![one()])
    }

    /// The files of its disks when the first is `image`: the others lie beside it, with their names.
    pub fn disk_files(&self, image: &Path) -> Vec<PathBuf> {
        let names = self.vdevs().into_iter().flat_map(|group| group.devices);
        let file = |(nr, name): (usize, String)| match nr {
            0 => image.to_owned(),
            _ => image.with_extension(format!("{name}.img")),
        };
        names.enumerate().map(file).collect()
    }

    /// log2 of the smallest allocation.
    pub fn ashift(&self) -> u8 {
        self.pool.ashift.as_ref().map_or(12, |a| *a.get_ref())
    }

    /// Memory to run with.
    pub fn memory(&self) -> Size {
        self.machine.memory.as_ref().map_or(MEMORY, |m| *m.get_ref())
    }

    /// CPUs to run with.
    pub fn cpus(&self) -> u32 {
        self.machine.cpus.as_ref().map_or(1, |c| *c.get_ref())
    }

    /// A path of the host, as written in the recipe.
    pub fn host_path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn check(&self, text: &str) -> Result<(), Mistake> {
        let check = Checker { text };
        if let Some(program) = &self.program {
            check.absolute(program, "the program")?;
        }
        if let Some(cwd) = &self.cwd {
            check.absolute(cwd, "the working directory")?;
        }
        self.tmpfs.iter().try_for_each(|t| check.absolute(t, "a tmpfs"))?;
        check.machine(&self.machine)?;
        check.pool(&self.pool)?;
        for package in &self.packages {
            check.package(package)?;
        }
        check.sources(self)?;
        let mut mountpoints = BTreeMap::new();
        for dataset in &self.datasets {
            check.dataset(dataset)?;
            if mountpoints.insert(dataset.mountpoint(), ()).is_some() {
                let message = format!("two datasets are mounted at {}", dataset.mountpoint());
                return Err(check.mistake(dataset.name.span(), message, "give each its own mountpoint"));
            }
        }
        Ok(())
    }
}

impl Dataset {
    /// Where it is mounted.
    pub fn mountpoint(&self) -> String {
        match &self.mountpoint {
            Some(m) if m.get_ref().len() > 1 => m.get_ref().trim_end_matches('/').to_owned(),
            Some(m) => m.get_ref().clone(),
            None => format!("/{}", self.name.get_ref()),
        }
    }

    /// The preset's properties, then its own: name and value in the syntax of `zfs set`.
    pub fn all_properties(&self) -> Vec<(String, String)> {
        let preset = self.preset.as_ref().and_then(|p| preset::find(p.get_ref())).unwrap_or(&[]);
        let mut all: BTreeMap<String, String> =
            preset.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        all.extend(self.properties.iter().map(|(k, v)| (k.clone(), property_text(v.get_ref()))));
        all.into_iter().collect()
    }
}

impl Pool {
    /// Properties of the root dataset.
    pub fn all_properties(&self) -> Vec<(String, String)> {
        self.properties.iter().map(|(k, v)| (k.clone(), property_text(v.get_ref()))).collect()
    }
}

/// A property's value in the syntax of `zfs set`.
fn property_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(s) => s.clone(),
        toml::Value::Boolean(b) => String::from(if *b { "on" } else { "off" }),
        other => other.to_string(),
    }
}

/// Parses permission bits written as `"0755"`.
pub fn parse_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777 && !text.is_empty())
}

struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn mistake(&self, span: std::ops::Range<usize>, message: impl Into<String>, hint: &str) -> Mistake {
        Mistake::at(self.text, span, message.into(), hint)
    }

    fn absolute(&self, path: &Spanned<String>, what: &str) -> Result<(), Mistake> {
        let p = path.get_ref();
        if p.is_empty() || p.contains('\0') {
            return Err(self.mistake(path.span(), format!("{what} has no name"), "write a path"));
        }
        if !p.starts_with('/') {
            let message = format!("{what} '{p}' is not an absolute path of the image");
            return Err(self.mistake(path.span(), message, &format!("write \"/{p}\"")));
        }
        if p.split('/').any(|part| part == "..") {
            let message = format!("{what} '{p}' goes up with '..'");
            return Err(self.mistake(path.span(), message, "write the path without '..'"));
        }
        Ok(())
    }

    fn mode(&self, mode: Option<&Spanned<String>>) -> Result<(), Mistake> {
        match mode {
            Some(m) if parse_mode(m.get_ref()).is_none() => {
                let message = format!("'{}' are no permission bits", m.get_ref());
                Err(self.mistake(m.span(), message, "write them in octal as a string, like mode = \"0755\""))
            }
            _ => Ok(()),
        }
    }

    fn machine(&self, machine: &Machine) -> Result<(), Mistake> {
        if let Some(memory) = &machine.memory
            && *memory.get_ref() < MEMORY_MIN
        {
            let message = format!("{} of memory is too little", memory.get_ref());
            return Err(self.mistake(memory.span(), message, &format!("give it at least {MEMORY_MIN}")));
        }
        match &machine.cpus {
            Some(c) if !(1..=64).contains(c.get_ref()) => {
                let message = format!("{} CPUs cannot be", c.get_ref());
                Err(self.mistake(c.span(), message, "1 to 64 are possible"))
            }
            _ => Ok(()),
        }
    }

    fn pool(&self, pool: &Pool) -> Result<(), Mistake> {
        if let Some(name) = &pool.name
            && !is_pool_name(name.get_ref())
        {
            let message = format!("'{}' cannot name a pool", name.get_ref());
            let hint =
                "a letter first, then letters, digits, '-', '_', '.'; not mirror, raidz, draid, spare or log";
            return Err(self.mistake(name.span(), message, hint));
        }
        if let Some(size) = &pool.size
            && *size.get_ref() < SIZE_MIN
        {
            let message = format!("an image of {} is too small", size.get_ref());
            return Err(self.mistake(size.span(), message, &format!("a pool needs at least {SIZE_MIN}")));
        }
        if let Some(layout) = &pool.vdevs {
            let hint = "for example: mirror a b, or: raidz a b c log d";
            let groups = vdevs::parse_text(layout.get_ref())
                .map_err(|e| self.mistake(layout.span(), e.to_string(), hint))?;
            let is_name =
                |n: &String| n.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            let names = groups.iter().flat_map(|group| &group.devices);
            if let Some(odd) = names.into_iter().find(|name| !is_name(name)) {
                let message = format!("'{odd}' cannot name a disk");
                return Err(self.mistake(layout.span(), message, "letters, digits, '-' and '_'"));
            }
            if groups[0].purpose != Purpose::Data {
                let message = "the first disk must hold data: it boots";
                return Err(self.mistake(layout.span(), message, hint));
            }
        }
        if let Some(ashift) = &pool.ashift
            && !(9..=16).contains(ashift.get_ref())
        {
            let hint = "9 means 512 bytes, 12 means 4 KiB, 16 is the largest";
            return Err(self.mistake(ashift.span(), format!("ashift {} cannot be", ashift.get_ref()), hint));
        }
        if let Some(c) = &pool.compatibility
            && crate::pool::compatibility(c.get_ref()).is_none()
        {
            let message = format!("there is no compatibility set '{}'", c.get_ref());
            return Err(self.mistake(c.span(), message, "there are full, grub2, openzfs-2.0-linux and none"));
        }
        self.properties(&pool.properties)
    }

    fn package(&self, package: &Spanned<String>) -> Result<(), Mistake> {
        let name = package.get_ref();
        let is_good = name.len() >= 2
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.=~:".contains(c));
        if is_good {
            return Ok(());
        }
        let message = format!("'{name}' is not a Debian package name");
        Err(self.mistake(
            package.span(),
            message,
            "write it as apt does: \"sqlite3\", or \"sqlite3=3.40.1-2\"",
        ))
    }

    fn sources(&self, recipe: &Recipe) -> Result<(), Mistake> {
        for c in &recipe.compile {
            self.absolute(&c.target, "the target")?;
        }
        for f in &recipe.files {
            self.absolute(&f.target, "the target")?;
            self.mode(f.mode.as_ref())?;
        }
        for t in &recipe.trees {
            self.absolute(&t.target, "the target")?;
        }
        for t in &recipe.text {
            self.absolute(&t.target, "the target")?;
            self.mode(t.mode.as_ref())?;
        }
        for d in &recipe.directories {
            self.absolute(&d.target, "the target")?;
            self.mode(d.mode.as_ref())?;
        }
        for s in &recipe.symlinks {
            self.absolute(&s.target, "the target")?;
        }
        for e in &recipe.elf {
            let (Elf::Path(path) | Elf::Table { target: path, .. }) = e.get_ref();
            self.absolute(&Spanned::new(e.span(), path.clone()), "the program")?;
        }
        Ok(())
    }

    fn dataset(&self, dataset: &Dataset) -> Result<(), Mistake> {
        let name = dataset.name.get_ref();
        let is_good = name.split('/').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.: ".contains(c))
        });
        if !is_good {
            let message = format!("'{name}' cannot name a dataset");
            let hint = "names below the pool, without the pool's own: \"data\" or \"data/log\"";
            return Err(self.mistake(dataset.name.span(), message, hint));
        }
        if let Some(m) = &dataset.mountpoint {
            self.absolute(m, "the mountpoint")?;
        }
        if let Some(p) = &dataset.preset
            && preset::find(p.get_ref()).is_none()
        {
            let message = format!("there is no preset '{}'", p.get_ref());
            return Err(self.mistake(p.span(), message, &format!("there are {}", preset::names())));
        }
        self.properties(&dataset.properties)
    }

    fn properties(&self, properties: &BTreeMap<String, Spanned<toml::Value>>) -> Result<(), Mistake> {
        for (name, value) in properties {
            let text = property_text(value.get_ref());
            if let Err(why) = crate::pool::parse_property(name, &text) {
                let hint = "properties and values are those of `zfs set`; user properties have a colon";
                return Err(self.mistake(value.span(), why, hint));
            }
        }
        Ok(())
    }
}

fn is_pool_name(name: &str) -> bool {
    const RESERVED: [&str; 5] = ["mirror", "raidz", "draid", "spare", "log"];
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 255
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
        && !RESERVED.iter().any(|r| name == *r || (name.starts_with(r) && *r != "log" && *r != "spare"))
}
