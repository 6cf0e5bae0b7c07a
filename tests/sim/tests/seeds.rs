//! Seeds that found something once, and a few others. Many more: `./zeo sim`.
use sim_tests::plan::Plan;
use sim_tests::seed;

/// One seed on each line, and after it what it found.
const KEPT: &str = include_str!("../seeds");

fn run(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if let Err(hung) = seed::run(&Plan::new(seed)) {
            panic!("seed {seed}: {hung}");
        }
    }
}

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    let number = |line: &str| line.split(' ').next().and_then(|n| n.parse().ok());
    run(KEPT.lines().filter(|line| !line.starts_with('#')).filter_map(number));
}

#[test]
fn a_few_seeds_find_nothing() {
    run(1..=6);
}

#[test]
fn a_seed_says_the_same_every_time() {
    let report = |seed| seed::run(&Plan::new(seed)).expect("ends");
    assert_eq!(report(22), report(22));
    assert_ne!(report(22).digest, report(36).digest);
}
