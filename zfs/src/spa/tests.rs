use super::{PoolSpec, Spa, VdevSpec, When};
use crate::Error;
use blockdev_host::MemDisk;
use rt_std as _;
use std::sync::Arc;

fn pool() -> Arc<Spa> {
    let device = Arc::new(MemDisk::new(64 << 20));
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
