//! Every layout in every state, both ways: ours leaves a pool in a state, OpenZFS's kernel module takes it over, makes it
//! whole and leaves it in the same state; ours takes it over; OpenZFS has the last word. Lists of files are compared whole
//! at each step, zdb and both scrubs judge. Layouts and states are in `layout`, docs/INTEROP.md has the table.
//!
//! Needs a virtual machine for the kernel module, so it is built only with the feature `slow`. One test a state, two boots a
//! test.
mod layout;
mod ours;
mod subject;

use layout::{Layout, State};
use rt_std as _;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use subject::Subject;

const FUNCTIONS: &str = include_str!("guest.sh");

/// `MATRIX_LAYOUTS` (names joined by commas) chooses some of them, for looking closer.
fn chosen(state: State) -> Vec<&'static Layout> {
    let wanted = std::env::var("MATRIX_LAYOUTS").ok();
    let is_wanted = |layout: &&Layout| wanted.as_ref().is_none_or(|w| w.split(',').any(|n| n == layout.name));
    state.layouts().into_iter().filter(is_wanted).collect()
}

/// The guest's script: for each pool, its disks and a step.
fn script(subjects: &[Subject], step: &str, end: &str) -> String {
    let mut text = FUNCTIONS.to_owned();
    for subject in subjects {
        let layout = subject.layout;
        let lost: Vec<_> = layout.lost.iter().map(usize::to_string).collect();
        let (name, first, width) = (layout.name, subject.first, layout.width());
        let lost = lost.join(",");
        writeln!(text, "disks {name} {first} {width} '{lost}'; say \"{name}: {step}\"; {step}").unwrap();
    }
    text + end
}

fn in_linux(script: &str, subjects: &[Subject], share: &Path) {
    let images: Vec<&PathBuf> = subjects.iter().flat_map(|s| &s.images).collect();
    let images: Vec<&Path> = images.into_iter().map(PathBuf::as_path).collect();
    interop_tests::Linux { share: Some(share), timeout: 1800 }.run(script, &images);
}

fn both_ways(state: State) {
    let folder = tempfile::tempdir().unwrap();
    let share = folder.path().join("share");
    let mut subjects: Vec<Subject> = Vec::new();
    for layout in chosen(state) {
        println!("{}, {}: made by ours", layout.name, state.name());
        let first = subjects.iter().map(|s| s.images.len()).sum();
        subjects.push(ours::make(layout, state, folder.path(), &share, first));
    }
    let (before, end) = match state.is_cut() {
        true => ("echo 3600 > $P/zfs_txg_timeout\n", "hard_kill 0\n"),
        false => ("", ""),
    };
    let step = format!("take_{}", state.name().replace('-', "_"));
    let text = script(&subjects, &step, end).replacen(
        "set -e\n",
        &format!("set -e\nP=/sys/module/zfs/parameters\n{before}"),
        1,
    );
    in_linux(&text, &subjects, &share);
    for subject in &subjects {
        println!("{}, {}: taken over by ours", subject.layout.name, state.name());
        ours::take_over(subject, state);
    }
    in_linux(&script(&subjects, "finish", ""), &subjects, &share);
}

#[test]
fn whole() {
    both_ways(State::Whole);
}

#[test]
fn degraded() {
    both_ways(State::Degraded);
}

#[test]
fn half_resilvered() {
    both_ways(State::HalfResilvered);
}

#[test]
fn logged() {
    both_ways(State::Logged);
}

#[test]
fn logged_degraded() {
    both_ways(State::LoggedDegraded);
}
