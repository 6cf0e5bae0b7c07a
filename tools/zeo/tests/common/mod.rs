//! The program as a user runs it, in a folder of its own.
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A folder with image files, and the commands run in it.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// An empty folder.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `zeo` with these words.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeo"));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs it, whatever comes of it; it never panics.
    pub fn run(&self, words: &[&str]) -> Output {
        let output = self.command(words).output().expect("zeo starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "zeo {}: {said}", words.join(" "));
        output
    }

    /// What it prints when all goes well. The line is split at blanks.
    pub fn ok(&self, line: &str) -> String {
        let output = self.run(&line.split_whitespace().collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "zeo {line}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// As JSON.
    pub fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&format!("{line} --json"))).expect("JSON")
    }

    /// The status and what it says when it refuses; one of `needles` alone is not enough, all must be said.
    pub fn refused(&self, words: &[&str], status: i32, needles: &[&str]) {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "zeo {}: {said}", words.join(" "));
        for needle in needles {
            assert!(said.contains(needle), "zeo {}: '{needle}' is not said: {said}", words.join(" "));
        }
    }
}
