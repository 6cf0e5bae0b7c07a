//! Snapshots and clones that OpenZFS takes of a pool of ours: what we overwrite and free afterwards must stay theirs.
//!
//! Needs a virtual machine for the kernel module, which takes minutes, so it is built only with the feature `slow`.
use blockdev::BlockDevice;
use blockdev_host::FileDisk;
use interop_tests::{Judged, in_linux};
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::path::Path;
use std::sync::Arc;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};

const OBJECTS: u64 = 20;

fn fill(tx: &DmuTx, objset: &Arc<Objset>) -> zfs::Result<()> {
    for n in 0..OBJECTS {
        let object = objset.allocate(tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096))?;
        object.write_slice(tx, 0, &[n as u8 + 1; 5 * 4096])?;
    }
    Ok(())
}

fn disk(path: &Path) -> Arc<dyn BlockDevice> {
    Arc::new(FileDisk::open(path).unwrap())
}

fn verified(spa: &Arc<Spa>) {
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

/// Overwrites the first half of the objects of a dataset, frees the third quarter.
fn spoil(spa: &Arc<Spa>, name: &str) {
    let objset = spa.open_dataset(name).unwrap().objset();
    let mut at = ObjectId(0);
    let mut nr = 0;
    while let Some(id) = objset.next_object(at).unwrap() {
        at = id;
        nr += 1;
        let tx = DmuTx::begin(&objset, TxSpace::write(8192)).unwrap();
        if nr <= OBJECTS / 2 {
            objset.hold(id).unwrap().write_slice(&tx, 2048, &[0xee; 6000]).unwrap();
        } else if nr <= OBJECTS * 3 / 4 {
            objset.free(&tx, id).unwrap();
        }
    }
    drop(objset);
    spa.sync().unwrap();
}

#[test]
fn what_snapshots_hold_stays() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("d0.img");
    let device: Arc<dyn BlockDevice> = Arc::new(FileDisk::create(&image, 128 << 20).unwrap());
    let vdev = VdevSpec { device, path: "/dev/vda".into(), is_file: false };
    let spa = Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut fill).unwrap();
    spa.create_dataset("tank/a", &[], &mut fill).unwrap();
    spa.create_dataset("tank/a/b", &[], &mut fill).unwrap();
    spa.export().unwrap();
    drop(spa);
    in_linux(
        "set -e; zpool import -N -f -d /dev/oracle tank; zfs snapshot -r tank@s1; zfs clone -o canmount=noauto tank/a@s1 tank/clone
         zpool sync; zfs snapshot tank/a@s2; zpool export tank",
        &[&image],
    );
    let spa = Spa::import(&[disk(&image)], &ImportOptions::default()).unwrap();
    assert_eq!(spa.properties().unwrap().read_only_reason, None);
    verified(&spa);
    for name in ["tank", "tank/a", "tank/clone"] {
        spoil(&spa, name);
    }
    verified(&spa);
    let before: Vec<_> = spa.datasets().unwrap().into_iter().map(|d| (d.name, d.space)).collect();
    let held = before.iter().find(|(name, _)| name == "tank@s1").unwrap().1.used;
    assert!(held >= 10 * 3 * 4096, "{held}");
    spa.export().unwrap();
    drop(spa);
    Judged::copy(&[&image], "tank").assert_clean();
    in_linux(
        "set -e; zpool import -N -f -d /dev/oracle tank; zpool scrub -w tank; zpool status tank | grep 'with 0 errors'
         zfs list -Hp -t all -o name,used,refer,usedbysnapshots; zfs destroy -R tank/a@s1; zfs destroy tank@s1; zpool sync; zpool sync; zpool export tank",
        &[&image],
    );
    Judged::copy(&[&image], "tank").assert_clean();
    let spa = Spa::import(&[disk(&image)], &ImportOptions::default()).unwrap();
    verified(&spa);
    assert!(spa.datasets().unwrap().iter().filter(|d| d.is_snapshot).all(|d| !d.name.ends_with("@s1")));
    spa.export().unwrap();
}
