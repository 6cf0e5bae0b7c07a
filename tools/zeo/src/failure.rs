//! What can go wrong, and the exit status it becomes.
//!
//! | status | meaning |
//! |---:|---|
//! | 0 | done; for `run`: the program ended with 0 |
//! | 1 | `image verify` found something |
//! | 2 | the command line is wrong |
//! | 65 | a recipe or an image is wrong |
//! | 66 | a file that was named is not there |
//! | 69 | a program that is needed is missing |
//! | 74 | reading or writing failed |
//! | 124 | `run`: the time limit passed |
//! | 125 | `run`: the machine ended without an exit status |
//! | 141 | nobody reads the output any more |
//! | other | `run`: the program's own |
use mkfs::recipe::mistake::Mistake;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// `image verify` found something.
pub const FINDINGS: u8 = 1;
/// A recipe or an image is wrong.
pub const DATA: u8 = 65;
/// A file that was named is not there.
pub const NO_INPUT: u8 = 66;
/// A program that is needed is missing.
pub const UNAVAILABLE: u8 = 69;
/// Reading or writing failed.
pub const IO: u8 = 74;
/// The time limit passed.
pub const TIMEOUT: u8 = 124;
/// The machine ended without an exit status.
pub const NO_STATUS: u8 = 125;

/// An error that knows its exit status and a hint.
#[derive(Debug)]
pub struct Failure {
    /// Exit status.
    pub status: u8,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl Failure {
    /// With a hint.
    pub fn new(status: u8, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\nhint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Tells the user and gives the exit status.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let status = status_of(error);
    let text = match json {
        true => serde_json::json!({ "error": format!("{error:#}"), "status": status }).to_string(),
        false => format!("zeo: {error:#}"),
    };
    // Whoever does not read errors is not told: the status says it.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(status)
}

fn status_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.status;
        }
        if cause.downcast_ref::<Mistake>().is_some() {
            return DATA;
        }
        if let Some(e) = cause.downcast_ref::<io::Error>() {
            return if e.kind() == io::ErrorKind::NotFound { NO_INPUT } else { IO };
        }
        if cause.downcast_ref::<serde_json::Error>().is_some_and(serde_json::Error::is_io) {
            return IO;
        }
        if let Some(e) = cause.downcast_ref::<vfs::Error>() {
            return match e {
                vfs::Error::NotFound | vfs::Error::NotDirectory => NO_INPUT,
                _ => IO,
            };
        }
        if cause.downcast_ref::<zfs::Error>().is_some() {
            return DATA;
        }
    }
    DATA
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_decide_the_status() {
        let missing: anyhow::Result<()> = Err(io::Error::from(io::ErrorKind::NotFound)).context("reading x");
        assert_eq!(status_of(&missing.expect_err("an error")), NO_INPUT);
        let denied: anyhow::Result<()> = Err(io::Error::from(io::ErrorKind::PermissionDenied)).context("x");
        assert_eq!(status_of(&denied.expect_err("an error")), IO);
        let failure: anyhow::Result<()> =
            Err(Failure::new(UNAVAILABLE, "no qemu", "install it")).context("run");
        let error = failure.expect_err("an error");
        assert_eq!(status_of(&error), UNAVAILABLE);
        assert!(format!("{error:#}").contains("hint: install it"));
        assert_eq!(status_of(&vfs::Error::NotFound.into()), NO_INPUT);
        assert_eq!(status_of(&zfs::Error::Checksum.into()), DATA);
    }
}
