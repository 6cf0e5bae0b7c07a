//! Deliberate mistakes: each has to be found within a bounded number of seeds.
use crate::{Arguments, run_process};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use zfs::bugs::{ALL, Bug};

/// Makes the mistake of this name from now on.
#[cfg(feature = "bugs")]
pub fn make(name: &str) -> Result<(), String> {
    let bug = ALL.iter().find(|bug| format!("{bug:?}") == name);
    zfs::bugs::make(Some(*bug.ok_or_else(|| format!("no mistake is called {name}; there are {ALL:?}"))?));
    Ok(())
}

/// Makes the mistake of this name from now on.
#[cfg(not(feature = "bugs"))]
pub fn make(_name: &str) -> Result<(), String> {
    Err(format!("built without the feature `bugs`, so no mistake can be made; there are {ALL:?}"))
}

/// Every mistake in turn.
pub fn run(arguments: &Arguments, seeds_max: u64) -> ExitCode {
    if cfg!(not(feature = "bugs")) {
        eprintln!("built without the feature `bugs`: ./zeo sim --bite builds it");
        return ExitCode::FAILURE;
    }
    let mut nr_missed = 0;
    for bug in ALL {
        match find(arguments, bug, seeds_max) {
            Some((seed, what)) => {
                let line = what.lines().find(|l| !l.contains("panicked at")).unwrap_or_default();
                let line: String = line.chars().take(150).collect();
                println!("{bug:?}: found by seed {seed} ({} tried): {line}", seed - arguments.seed + 1);
            }
            None => {
                nr_missed += 1;
                println!("{bug:?}: NOT FOUND by {seeds_max} seeds");
            }
        }
    }
    if nr_missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first seed that finds a mistake, and what it says.
fn find(arguments: &Arguments, bug: Bug, seeds_max: u64) -> Option<(u64, String)> {
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let (next, end) = (AtomicU64::new(arguments.seed), arguments.seed.saturating_add(seeds_max));
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let name = format!("{bug:?}");
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_found = found.lock().unwrap_or_else(|e| e.into_inner()).is_some();
                    if seed >= end || is_found {
                        return;
                    }
                    if let Err(what) = run_process(seed, Some(&name)) {
                        let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
                        if found.as_ref().is_none_or(|(first, _)| seed < *first) {
                            *found = Some((seed, what));
                        }
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(|e| e.into_inner())
}
