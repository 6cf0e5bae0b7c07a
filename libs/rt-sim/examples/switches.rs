//! Measures switches between threads per second: `cargo run --release -p rt-sim --example switches`.
use rt_sim::{Config, run, stats};

fn main() {
    let start = std::time::Instant::now();
    let stats = run(Config::default(), || {
        let spin = |_| rt::spawn("spinner", || (0..2_000_000).for_each(|_| rt::yield_now()));
        let threads: Vec<_> = (0..4).map(spin).collect();
        threads.into_iter().for_each(rt::JoinHandle::join);
        stats()
    });
    let stats = stats.unwrap_or_else(|e| panic!("{e:?}"));
    let per_second = stats.switches as f64 / start.elapsed().as_secs_f64();
    println!("{} switches, {per_second:.0} per second", stats.switches);
}
