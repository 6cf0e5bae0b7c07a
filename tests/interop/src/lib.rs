//! OpenZFS's own programs as judges of the pools we write: `zdb`, `zhack` (a read-write import in user space) and,
//! as an independent reader, GRUB's `grub-fstest`.
//!
//! The programs come from Debian's packages through `oracle/oracle-vm`, which keeps them in a cache of its own; a
//! missing one is an error, never a skipped test. Pool images start at byte 0 of their file.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Images of one pool in a folder of their own, as `zdb -p` wants them.
#[derive(Debug)]
pub struct Judged {
    folder: tempfile::TempDir,
    pool: String,
}

impl Judged {
    /// Sparse copies of `images`, so that a judge that writes cannot change the originals.
    pub fn copy(images: &[&Path], pool: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (nr, image) in images.iter().enumerate() {
            let to = folder.path().join(format!("d{nr}.img"));
            run(Command::new("cp").arg("--sparse=always").arg(image).arg(&to));
        }
        Self { folder, pool: pool.to_owned() }
    }

    /// The folder with the copies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The copy of the `nr`-th image.
    pub fn image(&self, nr: usize) -> PathBuf {
        self.folder().join(format!("d{nr}.img"))
    }

    /// `zdb -e -p FOLDER ARGS POOL`: status and both outputs together.
    pub fn zdb(&self, args: &[&str]) -> (bool, String) {
        let mut command = oracle("oracle-vm");
        command.args(["zdb", "-e", "-p"]).arg(self.folder()).args(args).arg(&self.pool);
        outcome(command.output().expect("the oracle runs"))
    }

    /// Walks every block, verifies every checksum, accounts for all space and all feature counts.
    ///
    /// # Panics
    /// With zdb's output, when it finds anything wrong.
    pub fn assert_clean(&self) {
        let (is_ok, text) = self.zdb(&["-bcc"]);
        assert!(is_ok && text.contains("No leaks"), "zdb -bcc {}:\n{text}", self.pool);
        let (is_ok, text) = self.zdb(&["-d"]);
        assert!(is_ok, "zdb -d {}:\n{text}", self.pool);
        let is_mismatch = |line: &&str| line.contains("refcount mismatch") || line.contains("leaked");
        let wrong: Vec<_> = text.lines().filter(is_mismatch).collect();
        assert!(wrong.is_empty(), "zdb -d {}: {wrong:?}", self.pool);
    }

    /// OpenZFS imports the copies read-write, claims logs, syncs transaction groups and exports; then zdb again.
    ///
    /// # Panics
    /// With the output, when either objects.
    pub fn assert_openzfs_writes(&self) {
        let (is_ok, text) =
            outcome(oracle("zhack-rw").arg(self.folder()).arg(&self.pool).output().expect("the oracle runs"));
        assert!(is_ok, "zhack-rw {}:\n{text}", self.pool);
    }

    /// What `grub-fstest` prints for `cat` of `path` in the file system `dataset` ("" for the root one).
    ///
    /// # Panics
    /// When GRUB cannot read it.
    pub fn grub_cat(&self, dataset: &str, path: &str) -> Vec<u8> {
        let dataset = if dataset.is_empty() { String::new() } else { format!("{dataset}/") };
        let file = format!("(loop0)/{dataset}@{path}");
        let out = Command::new("grub-fstest").arg(self.image(0)).args(["cat", &file]).output();
        let out = out.expect("grub-fstest is installed");
        assert!(out.status.success(), "grub-fstest cat {file}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }
}

/// Runs a shell script as root in a Linux guest with OpenZFS's kernel module; the images are `/dev/oracle/d0` and on.
///
/// # Panics
/// With the guest's output, when the script fails.
pub fn in_linux(script: &str, images: &[&Path]) {
    Linux { share: None, timeout: 600 }.run(script, images);
}

/// A Linux guest with OpenZFS's kernel module.
#[derive(Clone, Copy, Debug)]
pub struct Linux<'a> {
    /// A folder that the guest sees as `/share`. Then disks hang on a SCSI controller: there is room for a hundred.
    pub share: Option<&'a Path>,
    /// Seconds after which it is stopped.
    pub timeout: u32,
}

impl Linux<'_> {
    /// Runs a shell script as root; the images are `/dev/oracle/d0` and on.
    ///
    /// # Panics
    /// With the guest's output, when the script fails.
    pub fn run(&self, script: &str, images: &[&Path]) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("script.sh");
        fs::write(&file, script).expect("the script is written");
        let mut command = oracle("oracle-vm");
        command.args(["run", "--timeout", &self.timeout.to_string()]);
        if let Some(share) = self.share {
            command.args(["--bus", "scsi", "--share"]).arg(share);
        }
        command.arg(&file).args(images);
        let (is_ok, text) = outcome(command.output().expect("the oracle runs"));
        assert!(is_ok, "{script}:\n{text}");
    }
}

fn oracle(program: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle").join(program));
    command.stdin(Stdio::null());
    command
}

fn outcome(out: Output) -> (bool, String) {
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn run(command: &mut Command) {
    let (is_ok, text) = outcome(command.output().expect("the program runs"));
    assert!(is_ok, "{:?}: {text}", command.get_program());
}

/// Unpacks a zstd-compressed file sparsely.
///
/// # Panics
/// When it cannot.
pub fn unpack(packed: &Path, to: &Path) {
    run(Command::new("zstd")
        .args(["-q", "-d", "-f", "--sparse"].map(OsStr::new))
        .arg(packed)
        .arg("-o")
        .arg(to));
    assert!(fs::metadata(to).is_ok(), "{} was not unpacked", to.display());
}
