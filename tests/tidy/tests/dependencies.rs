//! The direction of dependencies, read from `cargo metadata`.
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate to its ordinary and build dependencies inside the workspace (tests may look anywhere).
fn project_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let name = |v: &serde_json::Value| v["name"].as_str().expect("a name").to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let direct = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        let kept = dependencies.iter().filter(|d| d["kind"].as_str() != Some("dev"));
        kept.map(name).filter(|d| ours.contains(d)).collect()
    };
    packages.iter().map(|p| (name(p), direct(p))).collect()
}

const LEAVES: [&str; 7] = ["abd", "rt", "rt-sim", "rt-std", "ondisk", "nvpair", "codec"];
const GUEST: [&str; 6] = ["kernel", "kernel-boot", "hal", "linux", "mm", "sched"];

fn assert_only(all: &BTreeMap<String, BTreeSet<String>>, package: &str, allowed: &[&str]) {
    let used = all.get(package).unwrap_or_else(|| panic!("no crate {package}"));
    let foreign: Vec<_> = used.iter().filter(|d| !allowed.contains(&d.as_str())).collect();
    assert!(foreign.is_empty(), "{package} must not depend on {foreign:?}");
}

#[test]
fn leaves_know_only_leaves() {
    let all = project_dependencies();
    for leaf in LEAVES {
        assert_only(&all, leaf, &LEAVES);
    }
}

#[test]
fn zfs_and_vfs_do_not_know_each_other() {
    let all = project_dependencies();
    let below_zfs: Vec<&str> = LEAVES.into_iter().chain(["blockdev"]).collect();
    assert_only(&all, "zfs", &below_zfs);
    assert_only(&all, "vfs", &LEAVES);
    let both: Vec<&str> = LEAVES.into_iter().chain(["zfs", "vfs", "blockdev"]).collect();
    assert_only(&all, "zpl", &both);
}

#[test]
fn drivers_know_blockdev_and_leaves() {
    let all = project_dependencies();
    let allowed: Vec<&str> = LEAVES.into_iter().chain(["blockdev"]).collect();
    for driver in ["blockdev-host", "blockdev-sim", "virtio-blk"] {
        assert_only(&all, driver, &allowed);
    }
    assert_only(&all, "blockdev", &LEAVES);
}

#[test]
fn nothing_outside_the_kernel_knows_the_kernel() {
    // The loader's bytes are data to the image builder, not code of the kernel.
    let loader = "kernel-boot";
    for (package, used) in project_dependencies() {
        if GUEST.contains(&package.as_str()) {
            continue;
        }
        let kernel: Vec<_> = used.iter().filter(|d| GUEST.contains(&d.as_str()) && *d != loader).collect();
        assert!(kernel.is_empty(), "{package} must not depend on {kernel:?}");
    }
}
