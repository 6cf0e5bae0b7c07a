//! Random operations with the pool closed and opened again between them, against the model.
use crate::pools;
use blockdev_host::MemDisk;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::test_support::model::{Model, Op, op, run_ops};
use zfs::dsl::{Property, PropertyValue};

/// How a pool is left.
#[derive(Clone, Copy, Debug)]
enum Leave {
    /// Synced and exported.
    Export,
    /// Synced, and the power goes.
    Abandon,
}

fn run(rounds: &[(Vec<Op>, Leave)], record_size: u64) -> Result<(), String> {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let mut spa = pools::create(&disk, |spec| {
        spec.root_properties.push((Property::RecordSize, PropertyValue::Number(record_size)));
    });
    let mut model = Model::default();
    for (ops, leave) in rounds {
        let tree = Tree::new(pools::root(&spa));
        model.compare(&tree).map_err(|e| format!("after reopening: {e}"))?;
        run_ops(&tree, &mut model, ops)?;
        model.compare(&tree)?;
        match leave {
            Leave::Export => {
                tree.ns.unmount_all().map_err(|e| e.to_string())?;
                drop(tree);
                spa.export().map_err(|e| e.to_string())?;
            }
            Leave::Abandon => {
                tree.ns.sync().map_err(|e| e.to_string())?;
                spa.abandon();
                drop(tree);
            }
        }
        drop(spa);
        spa = pools::import(&disk);
        let report = spa.verify(&mut |_| ()).map_err(|e| e.to_string())?;
        if !report.findings.is_empty() {
            return Err(format!("{:?}", report.findings));
        }
    }
    let tree = Tree::new(pools::root(&spa));
    model.compare(&tree)
}

#[test]
fn what_was_synced_is_there_after_the_pool_was_opened_again() {
    let leave = prop_oneof![Just(Leave::Export), Just(Leave::Abandon)];
    let rounds = prop::collection::vec((prop::collection::vec(op(), 1..60), leave), 1..5);
    let record_size = prop_oneof![Just(4096u64), Just(16 << 10), Just(128 << 10), Just(1 << 20)];
    let config = Config { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&(rounds, record_size), |(rounds, record_size)| {
        run(&rounds, record_size).map_err(TestCaseError::fail)
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}
