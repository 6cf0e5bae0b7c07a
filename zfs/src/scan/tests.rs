use super::step;
use super::{ScanFunc, ScanState, resilver, sync};
use crate::spa::{PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec, When};
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

#[test]
fn a_resilver_goes_on_only_from_where_its_leaves_were() {
    let devices = (0..3).map(|nr| {
        let device = Arc::new(MemDisk::new(64 << 20));
        VdevSpec { device, path: format!("/dev/vd{nr}"), is_file: false }
    });
    let top = TopSpec { kind: TopKind::Mirror, purpose: Purpose::Data, devices: devices.collect() };
    let spa = Spa::create(vec![top], &PoolSpec::new("tank"), &mut |_, _| Ok(())).unwrap();
    let leaves = spa.storage().leaves();
    let old = Txg(4);
    let store = |spa: &Arc<Spa>, generation| {
        spa.run_task(When::AfterDatasets, move |spa, _, tx| {
            let state = spa.scan().state.lock().clone();
            resilver::store_leaves(spa.mos(), tx, &state.phys, generation)
        })
        .unwrap();
    };
    leaves[1].health().miss(old, old);
    spa.log_history("a resilver begins").unwrap();
    // Whether or not it has ended, it is under way from here on, and moves no more.
    spa.scan().stop();
    let generation = spa.storage().resilver_generation();
    let mut phys = spa.scan().state.lock().phys;
    (phys.func, phys.state, phys.max_txg) = (ScanFunc::Resilver, ScanState::Scanning, old.next());
    spa.scan().state.lock().phys = phys;
    leaves[1].health().miss(old, old);
    leaves[1].health().forget_unhealed();
    store(&spa, Some(generation));
    let place = phys.to_words();
    let goes_on = |place: &[u64]| resilver::goes_on(spa.mos(), place).unwrap();
    assert!(goes_on(&place));
    let mut moved = place;
    moved[22] += 1;
    assert!(!goes_on(&moved), "someone else has moved the place");
    leaves[2].health().miss(old, old);
    assert!(!goes_on(&place), "another leaf has come");
    leaves[2].health().come_back(generation + 1);
    store(&spa, Some(generation));
    assert!(!goes_on(&place), "it was not there");
    leaves[2].health().healed_up_to(old);
    assert!(goes_on(&place));
    leaves[1].health().heal_failed(old);
    store(&spa, Some(generation));
    assert!(!goes_on(&place), "a block could not be written");
    leaves[1].health().forget_unhealed();
    store(&spa, None);
    assert!(!goes_on(&place), "something could not be walked");
    store(&spa, Some(generation));
    assert!(goes_on(&place));
    leaves[1].health().healed_up_to(old);
    assert!(!goes_on(&place), "nothing is missing");
    spa.abandon();
}
