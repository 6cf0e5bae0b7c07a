use super::step;
use super::{ScanFunc, ScanState, sync};
use crate::spa::{PoolSpec, Spa, VdevSpec, When};
use blockdev_host::MemDisk;
use ondisk::Txg;
use rt_std as _;
use std::sync::Arc;

fn pool() -> Arc<Spa> {
    let device = Arc::new(MemDisk::new(64 << 20));
    let vdev = VdevSpec { device, path: "/dev/vda".into(), is_file: false };
    Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut |_, _| Ok(())).unwrap()
}

#[test]
fn the_end_of_one_scan_does_not_end_the_next() {
    let spa = pool();
    let begin = |func| {
        spa.run_task(When::AfterDatasets, move |spa, _, tx| {
            sync::set_up(spa, tx, func, (Txg::ZERO, tx.txg()))
        })
        .unwrap();
        let mut state = spa.scan().state.lock();
        state.resilver.generation = spa.storage().resilver_generation();
        state.generation
    };
    let first = begin(ScanFunc::Scrub);
    let second = begin(ScanFunc::Resilver);
    step::end(&spa, first).unwrap();
    let phys = spa.scan().state.lock().phys;
    assert_eq!((phys.func, phys.state), (ScanFunc::Resilver, ScanState::Scanning));
    step::end(&spa, second).unwrap();
    assert_eq!(spa.scan().state.lock().phys.state, ScanState::Finished);
    spa.export().unwrap();
}
