//! A program of the host with its interpreter and all libraries it names, found by reading its dynamic section: nothing
//! is run, so programs of another libc or with another interpreter work as well.
//!
//! Libraries are looked for as the loader does: the run path of who needs it (with `$ORIGIN`), the directories of
//! `/etc/ld.so.conf`, the default ones. What a program opens by itself (`dlopen`) is not found; a recipe adds it.
use crate::tree::host::HostTree;
use crate::tree::item::{Emit, Source};
use anyhow::{Context, Result, bail};
use elf::ElfBytes;
use elf::abi::{DT_NEEDED, DT_RPATH, DT_RUNPATH, PT_INTERP};
use elf::endian::AnyEndian;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DEFAULT_DIRECTORIES: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// More files than that in one closure is a mistake.
const FILES_MAX: usize = 4096;

/// A program and what it needs.
#[derive(Debug)]
pub struct Program {
    source: PathBuf,
    /// Path in the image and file on the host, by path.
    files: BTreeMap<String, PathBuf>,
}

/// What an ELF file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
    run_path: Vec<String>,
}

impl Program {
    /// The program in `source`, which becomes `target`.
    ///
    /// # Errors
    /// When it is no ELF file, or a library is nowhere; the message names who needs it.
    pub fn new(source: &Path, target: &str) -> Result<Self> {
        let mut program = Self { source: source.to_owned(), files: BTreeMap::new() };
        let search = loader_directories();
        let mut todo = vec![(target.to_owned(), source.to_owned())];
        while let Some((target, host)) = todo.pop() {
            if program.files.contains_key(&target) {
                continue;
            }
            if program.files.len() >= FILES_MAX {
                bail!("{} needs more than {FILES_MAX} libraries", source.display());
            }
            let needs = needs(&host).with_context(|| host.display().to_string())?;
            program.files.insert(target, host.clone());
            if let Some(interpreter) = &needs.interpreter {
                todo.push((interpreter.clone(), PathBuf::from(interpreter)));
            }
            for library in &needs.libraries {
                let path = find_library(library, &host, &needs.run_path, &search)
                    .with_context(|| format!("{} needs {library}", host.display()))?;
                todo.push((path.to_string_lossy().into_owned(), path));
            }
        }
        Ok(program)
    }

    /// Paths in the image.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

impl Source for Program {
    fn produce(&mut self, emit: Emit<'_>) -> Result<()> {
        for (target, host) in &self.files {
            // The file itself, where the host has a link to it.
            let host = host.canonicalize()?;
            HostTree::new(&host, target.as_bytes()).owned_by(Some(0), Some(0)).produce(emit)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.source.display().to_string()
    }
}

fn needs(file: &Path) -> Result<Needs> {
    let bytes = std::fs::read(file)?;
    let parsed = ElfBytes::<AnyEndian>::minimal_parse(&bytes).context("not an ELF file")?;
    let mut needs = Needs::default();
    for segment in parsed.segments().into_iter().flatten().filter(|s| s.p_type == PT_INTERP) {
        let text = parsed.segment_data(&segment)?;
        let text = text.split(|b| *b == 0).next().unwrap_or(&[]);
        needs.interpreter = Some(String::from_utf8(text.to_vec())?);
    }
    let common = parsed.find_common_data()?;
    let (Some(dynamic), Some(strings)) = (common.dynamic, common.dynsyms_strs) else { return Ok(needs) };
    for entry in dynamic.iter() {
        let text = || strings.get(entry.d_val() as usize).map(String::from);
        match entry.d_tag {
            DT_NEEDED => needs.libraries.push(text()?),
            DT_RPATH | DT_RUNPATH => needs.run_path.extend(text()?.split(':').map(String::from)),
            _ => {}
        }
    }
    Ok(needs)
}

fn find_library(name: &str, user: &Path, run_path: &[String], search: &[PathBuf]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|p| p.exists());
    }
    let origin = user.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let own = run_path.iter().map(|p| p.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin));
    own.map(PathBuf::from).chain(search.iter().cloned()).map(|d| d.join(name)).find(|p| p.exists())
}

/// The directories the host's loader looks in.
fn loader_directories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    read_loader_config(Path::new("/etc/ld.so.conf"), &mut found, 0);
    found.extend(DEFAULT_DIRECTORIES.map(PathBuf::from));
    found
}

fn read_loader_config(file: &Path, found: &mut Vec<PathBuf>, depth: usize) {
    const DEPTH_MAX: usize = 8;
    let Ok(text) = std::fs::read_to_string(file) else { return };
    if depth > DEPTH_MAX {
        return;
    }
    for line in text.lines().map(|l| l.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty()) {
        match line.strip_prefix("include ") {
            // The only pattern in use is DIRECTORY/*.conf.
            Some(pattern) => {
                let folder = Path::new(pattern.trim()).parent().unwrap_or(Path::new("/etc"));
                let Ok(entries) = std::fs::read_dir(folder) else { continue };
                let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
                files.retain(|f| f.extension().is_some_and(|e| e == "conf"));
                files.sort();
                files.iter().for_each(|f| read_loader_config(f, found, depth + 1));
            }
            None => found.push(PathBuf::from(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_comes_with_its_interpreter_and_libraries() {
        let program = Program::new(Path::new("/bin/sh"), "/bin/sh").expect("every Debian has it");
        let targets: Vec<&str> = program.targets().collect();
        assert!(targets.contains(&"/lib64/ld-linux-x86-64.so.2"), "{targets:?}");
        assert!(targets.iter().any(|t| t.ends_with("/libc.so.6")), "{targets:?}");
        let mut names = Vec::new();
        Program::new(Path::new("/bin/sh"), "/bin/sh")
            .expect("again")
            .produce(&mut |event| {
                if let crate::tree::item::Event::Item(item) = event {
                    assert!(matches!(item.kind, crate::tree::item::Kind::Regular { .. }));
                    names.push(String::from_utf8(item.path).expect("text"));
                }
                Ok(())
            })
            .expect("readable");
        assert_eq!(names, targets);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let error = Program::new(Path::new("/etc/passwd"), "/x").expect_err("text");
        assert!(format!("{error:#}").contains("not an ELF file"), "{error:#}");
        assert!(find_library("libno-such.so.1", Path::new("/bin/x"), &[], &loader_directories()).is_none());
    }
}
