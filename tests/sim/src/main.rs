//! `zeo sim`: runs seeds, each in a process of its own, on all CPUs.
#![forbid(unsafe_code)]
use clap::Parser;
use serde::Serialize;
use sim_tests::plan::Plan;
use sim_tests::seed::{self, Report};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod bite;

/// Attacks pools on simulated disks: random operations, power cuts at any request, a model that says what must be left.
#[derive(Clone, Debug, Parser)]
#[command(name = "zeo sim")]
struct Arguments {
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds to run, one after the other from the first [default: 300, or as many as there is time for].
    #[arg(long)]
    seeds: Option<u64>,
    /// Stop after this many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Run this seed alone, and say everything it does.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seed", "seeds", "minutes"])]
    replay: Option<u64>,
    /// Seeds at a time [default: one for each CPU].
    #[arg(long)]
    jobs: Option<usize>,
    /// Figures as JSON.
    #[arg(long)]
    json: bool,
    /// Make each of the deliberate mistakes in turn, and show after how many seeds (at most so many) it is found.
    #[arg(long, value_name = "SEEDS", num_args = 0..=1, default_missing_value = "100")]
    bite: Option<u64>,
    /// Make this mistake (a name of `--bite`'s list).
    #[arg(long)]
    bug: Option<String>,
    /// What a process of its own is told: one seed, its figures as JSON.
    #[arg(long, hide = true)]
    one: Option<u64>,
}

/// Longest a seed may take.
const SEED_TIME_MAX: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.bug
        && let Err(e) = bite::make(name)
    {
        eprintln!("{e}");
        return ExitCode::FAILURE;
    }
    if let Some(seeds_max) = arguments.bite {
        return bite::run(&arguments, seeds_max);
    }
    if let Some(seed) = arguments.one {
        return run_one(seed);
    }
    if let Some(seed) = arguments.replay {
        log::set_max_level(log::LevelFilter::Trace);
        println!("{:#?}", Plan::new(seed));
        return run_one(seed);
    }
    run_many(&arguments)
}

struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{}: {}", record.level(), record.args());
    }
    fn flush(&self) {}
}

fn run_one(seed: u64) -> ExitCode {
    if log::set_logger(&Stderr).is_err() {
        eprintln!("no log: another logger is set");
    }
    match seed::run(&Plan::new(seed)) {
        Ok(report) => {
            println!("{}", serde_json::json!(report));
            ExitCode::SUCCESS
        }
        Err(hung) => {
            eprintln!("hangs: {hung}");
            ExitCode::FAILURE
        }
    }
}

/// Figures of all seeds.
#[derive(Debug, Default, Serialize)]
struct Summary {
    seeds: u64,
    crash_points: u64,
    operations: u64,
    requests: u64,
    switches: u64,
    virtual_seconds: f64,
    seconds: f64,
    /// Crash points by layout.
    layouts: BTreeMap<String, u64>,
    /// Seeds that found something, and what.
    findings: BTreeMap<u64, String>,
}

fn run_many(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let nr = arguments.seeds.unwrap_or(if arguments.minutes.is_some() { u64::MAX } else { 300 });
    let end = arguments.seed.saturating_add(nr);
    let time = arguments.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let next = AtomicU64::new(arguments.seed);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while time.is_none_or(|time| start.elapsed() < time) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run_process(seed, arguments.bug.as_deref());
                    let mut summary = summary.lock().unwrap_or_else(|e| e.into_inner());
                    summary.add(seed, outcome);
                    if !arguments.json && summary.seeds.is_multiple_of(100) {
                        eprintln!("{} seeds, {} crash points", summary.seeds, summary.crash_points);
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(|e| e.into_inner());
    summary.seconds = start.elapsed().as_secs_f64();
    summary.print(arguments.json);
    if summary.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_process(seed: u64, bug: Option<&str>) -> Result<Report, String> {
    let own = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
    let limit = SEED_TIME_MAX.as_secs().to_string();
    let out = Command::new("timeout")
        .args(["-s", "KILL", &limit])
        .arg(own)
        .args(["--one", &seed.to_string()])
        .args(bug.iter().flat_map(|bug| ["--bug", bug]))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start: {e}"))?;
    if out.status.success() {
        let report = serde_json::from_slice(&out.stdout);
        return report.map_err(|e| format!("its figures cannot be read: {e}"));
    }
    let text = String::from_utf8_lossy(&out.stderr);
    let from = text.find("panicked at").map_or(text.len().saturating_sub(2000), |at| at);
    let text = text.get(from..).unwrap_or(&text);
    Err(if text.is_empty() { format!("ended with {}", out.status) } else { text.trim().to_owned() })
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: Result<Report, String>) {
        self.seeds += 1;
        match outcome {
            Ok(report) => {
                self.crash_points += report.crash_points;
                self.operations += report.operations;
                self.requests += report.requests;
                self.switches += report.switches;
                self.virtual_seconds += report.virtual_ms as f64 / 1000.0;
                *self.layouts.entry(report.layout).or_default() += report.crash_points;
            }
            Err(what) => {
                eprintln!("seed {seed}: {what}\n  again: ./zeo sim --replay {seed}");
                self.findings.insert(seed, what);
            }
        }
    }

    fn print(&self, is_json: bool) {
        let text = if is_json {
            format!("{:#}", serde_json::json!(self))
        } else {
            format!(
                "{} seeds, {} crash points, {} operations, {} disk requests, {:.0} s of virtual time in {:.0} s\n\
                 crash points by layout: {:?}\n{} findings{}",
                self.seeds,
                self.crash_points,
                self.operations,
                self.requests,
                self.virtual_seconds,
                self.seconds,
                self.layouts,
                self.findings.len(),
                self.findings.keys().map(|seed| format!(" {seed}")).collect::<String>()
            )
        };
        // A closed pipe is the reader's choice.
        if let Err(e) = writeln!(std::io::stdout(), "{text}") {
            eprintln!("cannot print: {e}");
        }
    }
}
