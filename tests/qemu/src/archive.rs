//! Root file systems for the guest: cpio archives made from host files, and test programs compiled on the spot.
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An archive in the "newc" format under construction.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    next_ino: u32,
}

impl Archive {
    /// With the directories a program expects.
    pub fn new() -> Self {
        let mut archive = Self::default();
        for (dir, perm) in [("bin", 0o755), ("lib", 0o755), ("lib64", 0o755), ("etc", 0o755), ("tmp", 0o1777)]
        {
            archive.entry(dir, 0o040_000 | perm, &[]);
        }
        archive
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.entry(name, 0o100_000 | mode, content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(name, 0o120_777, target.as_bytes())
    }

    /// Adds a file of the host.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn host_file(&mut self, name: &str, path: &Path) -> Result<&mut Self> {
        let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.file(name, 0o755, &content))
    }

    /// Adds a program of the host with its interpreter and libraries.
    ///
    /// # Errors
    /// It cannot be read, or `ldd` does not know it.
    pub fn host_program(&mut self, name: &str, path: &Path) -> Result<&mut Self> {
        self.host_file(name, path)?;
        let output = Command::new("ldd").arg(path).output().context("cannot run ldd")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            let real = std::fs::canonicalize(library)?;
            self.host_file(library.trim_start_matches('/'), &real)?;
        }
        Ok(self)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.next_ino += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_len = name.len() as u32 + 1;
        let fields = [self.next_ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_len, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Writes the archive into `dir`; its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(mut self, dir: &Path) -> Result<PathBuf> {
        self.entry("TRAILER!!!", 0, &[]);
        let path = dir.join("root.cpio");
        std::fs::write(&path, &self.bytes)?;
        Ok(path)
    }
}

/// Compiles one of the programs beside these tests.
///
/// # Errors
/// The compiler fails.
pub fn compile(compiler: &str, source: &str, options: &[&str], dir: &Path) -> Result<PathBuf> {
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/programs")).join(source);
    let program = dir.join(source.file_stem().context("no name")?);
    let mut command = Command::new(compiler);
    command.args(["-O2", "-Wall", "-Wno-unused-result", "-o"]).arg(&program).arg(&source).args(options);
    ensure!(
        command.status().with_context(|| format!("cannot run {compiler}"))?.success(),
        "{compiler} fails"
    );
    Ok(program)
}
