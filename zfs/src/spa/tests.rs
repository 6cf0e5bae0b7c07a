use super::{ImportOptions, PoolSpec, Spa, VdevSpec, When, config};
use crate::Error;
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use rt_std as _;
use std::sync::Arc;

fn pool() -> Arc<Spa> {
    pool_on(Arc::new(MemDisk::new(64 << 20)))
}

fn pool_on(device: Arc<dyn BlockDevice>) -> Arc<Spa> {
    let vdev = VdevSpec { device, path: "/dev/vda".into(), is_file: false };
    Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut |_, _| Ok(())).unwrap()
}

#[test]
fn a_sync_thread_that_panics_leaves_nobody_waiting() {
    let spa = pool();
    let waiter = {
        let spa = spa.clone();
        std::thread::spawn(move || {
            let hold = spa.txgs().hold_open();
            let next = hold.txg().next();
            drop(hold);
            spa.txgs().wait_synced(next)
        })
    };
    let died = spa.run_task(When::AfterDatasets, |_, _, _| panic!("as a bug would"));
    assert_eq!(died, Err(Error::Suspended));
    assert!(matches!(waiter.join().unwrap(), Ok(()) | Err(Error::Suspended)));
    assert_eq!(spa.sync(), Err(Error::Suspended));
    assert_eq!(spa.clear(None), Err(Error::Suspended), "nobody is there to go on");
    assert!(spa.properties().unwrap().is_suspended);
    assert_eq!(spa.export(), Err(Error::Suspended));
}

/// Not even the first group could be written: the import would end with a suspended pool.
#[test]
fn a_pool_whose_logs_of_space_maps_have_lost_their_place_is_only_read() {
    let device: Arc<dyn BlockDevice> = Arc::new(MemDisk::new(64 << 20));
    let spa = pool_on(device.clone());
    spa.log_history("something to allocate for").unwrap();
    spa.run_task(When::AfterDatasets, |spa, _, _| {
        let guid = spa.vdevs()[0].guid;
        config::change(&mut spa.config.lock(), guid, &mut |top| drop(top.remove(config::VDEV_ZAPS[1])))?;
        spa.mos.mark_config_dirty();
        Ok(())
    })
    .unwrap();
    spa.abandon();
    let options = ImportOptions { force: true, ..ImportOptions::default() };
    let spa = Spa::import(&[device], &options).unwrap();
    let reason = spa.properties().unwrap().read_only_reason.unwrap();
    assert!(reason.contains("ZAP"), "{reason}");
    spa.abandon();
}
