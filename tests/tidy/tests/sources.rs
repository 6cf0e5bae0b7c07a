//! What every source file looks like.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The only places where `unsafe` code may be; every other crate forbids it.
const UNSAFE_ALLOWED: [&str; 14] = [
    "libs/abd/src/run.rs",
    "libs/rt/src/",
    "libs/rt-sim/src/",
    "libs/rt-std/src/",
    "zfs/codec/src/",
    "blockdev/virtio-blk/src/queue",
    "blockdev/virtio-blk/src/dma",
    "blockdev/virtio-blk/src/model",
    "kernel/src/",
    "kernel/boot/",
    "kernel/hal/",
    "kernel/sched/",
    "kernel/mm/",
    "kernel/linux/src/",
];

const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root exists")
}

/// Every tracked file, or every untracked one that is not ignored.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let list = String::from_utf8(out.stdout).expect("paths are UTF-8");
    let wanted = list.lines().filter(|path| endings.iter().any(|e| path.ends_with(e)));
    let read = |path: &str| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?));
    let files: Vec<_> = wanted.filter_map(read).collect();
    assert!(!files.is_empty(), "git listed no files");
    files
}

/// Collects every file a rule rejects, so that one run shows all of them.
fn check(endings: &[&str], rule: impl Fn(&str, &str) -> Option<String>) {
    let found: Vec<String> = files(endings)
        .iter()
        .filter_map(|(path, text)| Some(format!("{path}: {}", rule(path, text)?)))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_module_has_its_head_comment() {
    check(&[".rs"], |path, text| {
        let is_test = path.ends_with("tests.rs") || path.contains("/tests/") || path.contains("/benches/");
        let is_script = path.ends_with("build.rs");
        (!is_test && !is_script && !text.starts_with("//!")).then(|| "does not start with //!".to_owned())
    });
}

#[test]
fn unsafe_lives_only_where_it_may() {
    check(&[".rs"], |path, text| {
        let is_allowed =
            UNSAFE_ALLOWED.iter().any(|place| path.starts_with(place)) || path.starts_with("tests/");
        let has_unsafe = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or(""))
            .any(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe"));
        (!is_allowed && has_unsafe).then(|| "unsafe outside the list".to_owned())
    });
}

#[test]
fn crates_without_unsafe_forbid_it() {
    check(&["src/lib.rs"], |path, text| {
        let folder = path.trim_end_matches("lib.rs");
        let may = UNSAFE_ALLOWED.iter().any(|place| place.starts_with(folder) || folder.starts_with(place));
        (!may && !text.contains("#![forbid(unsafe_code)]"))
            .then(|| "lacks #![forbid(unsafe_code)]".to_owned())
    });
}

#[test]
fn sources_are_short_and_ascii() {
    check(&[".rs"], |_, text| {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            return Some(format!("{lines} lines, more than {LINES_MAX}"));
        }
        let odd = text.lines().position(|line| !line.is_ascii())?;
        Some(format!("line {} is not ASCII", odd + 1))
    });
}

#[test]
fn nothing_is_left_open() {
    // Spelled in pieces so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("#[ign", "ore")];
    check(&[".rs", ".sh", "zeo", ".toml"], |_, text| {
        marks.iter().find(|mark| text.contains(*mark)).map(|mark| format!("contains {mark}"))
    });
}
