//! Pools that OpenZFS made, imported read-only: configuration, features, datasets and their figures.
use blockdev::BlockDevice;
use golden_tests::Pool;
use rt_std as _;
use std::sync::Arc;
use zfs::spa::{ImportOptions, Spa};

fn import(name: &str, read_only: bool) -> (Pool, zfs::Result<Arc<Spa>>) {
    let pool = Pool::unpack(name).unwrap();
    let devices: Vec<Arc<dyn BlockDevice>> = pool
        .images
        .iter()
        .map(|path| {
            let disk = blockdev_host::OpenOptions::new().read_only(read_only).open(path).unwrap();
            Arc::new(disk) as Arc<dyn BlockDevice>
        })
        .collect();
    let spa = Spa::import(&devices, &ImportOptions { read_only, ..ImportOptions::default() });
    (pool, spa)
}

#[test]
fn probe_it() {
    for name in ["plain", "nofeat", "v28", "v15", "compat20", "grub2", "stripe", "multi", "quota", "snap", "logsm", "gang", "zilmain", "ckpoint", "rz1", "enc", "cksum"] {
        let Ok(_) = Pool::unpack(name) else { println!("{name}: none"); continue };
        let (_pool, spa) = import(name, true);
        match spa {
            Err(e) => println!("{name}: {e:?}"),
            Ok(spa) => {
                println!("{name}: {:?}", spa.properties());
                println!("{:?}", spa.space());
                for ds in spa.datasets().unwrap() {
                    println!("  {ds:?}");
                }
                println!("{:?}", spa.history().unwrap());
            }
        }
    }
}
