use super::*;
use crate::event::EventLog;
use crate::vdev::{AllocClass, TopInfo, Vdev, VdevKind, VdevSpec, layout};
use crate::zio::{Format, Storage, StorageConfig, SyncCtx};
use crate::{Error, Result};
use blockdev_host::MemDisk;
use ondisk::pool_directory::VDEV_CHECKPOINT_SM;
use ondisk::{Bookmark, DmuType, Dva, ObjectId, Txg};
use proptest::prelude::*;
use rt_std as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Objects in memory.
#[derive(Default)]
struct FakeMos(Mutex<BTreeMap<u64, Object>>, Mutex<FakeLogs>);

/// Where the pool's logs are.
#[derive(Default)]
struct FakeLogs {
    logs: BTreeMap<Txg, ObjectId>,
    /// By the vdev's ZAP.
    arrays: BTreeMap<u64, ObjectId>,
    /// What a checkpoint keeps, by the vdev's ZAP.
    lists: BTreeMap<u64, ObjectId>,
}

struct Object {
    new: NewMapObject,
    data: Vec<u8>,
    bonus: Vec<u8>,
}

impl FakeMos {
    fn index(&self, vdevs: &[TopInfo]) -> LogIndex {
        let found = self.1.lock().unwrap();
        let of = |info: &TopInfo| VdevLogs {
            array: found.arrays.get(&info.top_zap.0).copied().unwrap_or(ObjectId(0)),
            metaslab_shift: info.metaslab_shift,
            nr_metaslabs: info.nr_metaslabs(),
        };
        LogIndex { logs: found.logs.clone(), vdevs: vdevs.iter().map(|info| (info.id, of(info))).collect() }
    }

    fn logs(&self, allocator: &Allocator) -> UnflushedLogs {
        let infos: Vec<TopInfo> = allocator.groups().iter().map(|g| g.info).collect();
        UnflushedLogs::read(self, &self.index(&infos)).unwrap()
    }

    fn with<R>(&self, object: ObjectId, f: impl FnOnce(&mut Object) -> R) -> Result<R> {
        self.0.lock().unwrap().get_mut(&object.0).map(f).ok_or(Error::NotFound)
    }
}

impl MosStore for FakeMos {
    fn read(&self, object: ObjectId, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.with(object, |o| {
            (0..len).map(|i| o.data.get(offset as usize + i).copied().unwrap_or(0)).collect()
        })
    }
    fn bonus(&self, object: ObjectId) -> Result<Vec<u8>> {
        self.with(object, |o| o.bonus.clone())
    }
    fn block_size(&self, object: ObjectId) -> Result<u32> {
        self.with(object, |o| o.new.block_size)
    }
    fn create(&self, _ctx: &SyncCtx, object: &NewMapObject) -> Result<ObjectId> {
        let mut all = self.0.lock().unwrap();
        let id = all.len() as u64 + 1;
        let bonus = vec![0; usize::from(object.bonus_len)];
        all.insert(id, Object { new: *object, data: Vec::new(), bonus });
        Ok(ObjectId(id))
    }
    fn write(&self, _ctx: &SyncCtx, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<()> {
        self.with(object, |o| {
            let end = offset as usize + bytes.len();
            o.data.resize(o.data.len().max(end), 0);
            o.data[offset as usize..end].copy_from_slice(bytes);
        })
    }
    fn set_bonus(&self, _ctx: &SyncCtx, object: ObjectId, bytes: &[u8]) -> Result<()> {
        self.with(object, |o| o.bonus[..bytes.len()].copy_from_slice(bytes))
    }
    fn add_log(&self, _ctx: &SyncCtx, txg: Txg, object: ObjectId) -> Result<()> {
        assert_eq!(self.1.lock().unwrap().logs.insert(txg, object), None);
        Ok(())
    }
    fn remove_log(&self, _ctx: &SyncCtx, txg: Txg, object: ObjectId) -> Result<()> {
        assert_eq!(self.1.lock().unwrap().logs.remove(&txg), Some(object));
        self.0.lock().unwrap().get_mut(&object.0).unwrap().data.clear();
        Ok(())
    }
    fn add_vdev_object(&self, _ctx: &SyncCtx, zap: ObjectId, key: &str, object: ObjectId) -> Result<()> {
        let mut found = self.1.lock().unwrap();
        let all = if key == VDEV_CHECKPOINT_SM { &mut found.lists } else { &mut found.arrays };
        assert_eq!(all.insert(zap.0, object), None);
        Ok(())
    }
    fn remove_vdev_map(&self, _ctx: &SyncCtx, zap: ObjectId, key: &str, object: ObjectId) -> Result<()> {
        assert_eq!(key, VDEV_CHECKPOINT_SM);
        assert_eq!(self.1.lock().unwrap().lists.remove(&zap.0), Some(object));
        Ok(())
    }
    fn truncate(&self, _ctx: &SyncCtx, object: ObjectId) -> Result<()> {
        self.with(object, |o| o.data.clear())
    }
}

fn spec(id: u32, size: u64, array: u64) -> VdevSpec {
    let asize = layout::leaf_asize(size);
    VdevSpec {
        kind: VdevKind::Leaf,
        id,
        guid: u64::from(id) + 1,
        device: Some(Arc::new(MemDisk::new(size))),
        state: crate::vdev::VdevState::Online,
        ashift: 12,
        asize,
        metaslab_shift: layout::metaslab_shift_for(asize),
        metaslab_array: ObjectId(array),
        class: AllocClass::Normal,
        is_excluded: false,
        top_zap: ObjectId(u64::from(id) + 1),
        children: Vec::new(),
    }
}

fn vdevs(sizes: &[u64], arrays: &[u64]) -> Vec<TopInfo> {
    let arrays = arrays.iter().copied().chain(core::iter::repeat(0));
    let specs = sizes.iter().zip(arrays).enumerate().map(|(id, (size, array))| spec(id as u32, *size, array));
    specs.map(|s| *Vdev::open(&s, &[], &EventLog::new()).unwrap().info()).collect()
}

/// Allocates what every pool has room for.
fn take(a: &Allocator, psize: u64, copies: usize, txg: u64, blkid: u64) -> Result<Vec<Dva>> {
    a.allocate(SpaceClass::Normal, psize, copies, Txg(txg), &bookmark(blkid)).map(|dvas| dvas.to_vec())
}

fn new_allocator(sizes: &[u64]) -> Allocator {
    let allocator = Allocator::new(vdevs(sizes, &[]), 1);
    allocator.init().unwrap();
    allocator
}

fn ctx(txg: u64) -> SyncCtx {
    let config =
        StorageConfig { is_read_only: false, arc_target: 0, nr_allocators: 1, events: EventLog::new() };
    Storage::open(&[], &config).unwrap().begin_sync(Txg(txg))
}

fn format() -> Format {
    Format::all()
}

fn bookmark(blkid: u64) -> Bookmark {
    Bookmark::new(1, ObjectId(2), 0, blkid)
}

/// The reference: which ranges are allocated, and when freed ones may be used again.
#[derive(Default)]
struct Model {
    used: BTreeMap<(u32, u64), u64>,
    freed: BTreeMap<(u32, u64), (u64, u64)>,
}

impl Model {
    fn check_new(&self, dva: &Dva, txg: u64) {
        let overlaps = |(&(vdev, start), len): (&(u32, u64), u64)| {
            vdev == dva.vdev && start < dva.offset + dva.asize && dva.offset < start + len
        };
        assert!(!self.used.iter().any(|(k, len)| overlaps((k, *len))), "{dva:?} is in use");
        let is_protected =
            |(k, (len, since)): (&(u32, u64), &(u64, u64))| overlaps((k, *len)) && txg <= since + 2;
        assert!(!self.freed.iter().any(is_protected), "{dva:?} was freed a moment ago");
    }
}

fn allocated_on_disk(allocator: &Allocator, mos: &FakeMos) -> BTreeMap<u32, RangeTree> {
    let mut out: BTreeMap<u32, RangeTree> = BTreeMap::new();
    let logs = mos.logs(allocator);
    for group in allocator.groups().iter() {
        for id in 0..group.metaslabs.len() as u32 {
            let ranges = allocator.allocated_ranges(mos, group.info.id, id, &logs).unwrap();
            let all = out.entry(group.info.id).or_default();
            ranges.iter().for_each(|(s, l)| all.add(s, l).unwrap());
        }
    }
    out
}

fn check_disk(allocator: &Allocator, mos: &FakeMos, model: &Model) {
    let mut expected: BTreeMap<u32, RangeTree> = BTreeMap::new();
    for group in allocator.groups().iter() {
        expected.insert(group.info.id, RangeTree::new());
    }
    for (&(vdev, start), &len) in &model.used {
        expected.get_mut(&vdev).unwrap().add(start, len).unwrap();
    }
    assert_eq!(allocated_on_disk(allocator, mos), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn never_overlaps_never_reuses_early_and_the_maps_say_what_is_used(
        txgs in prop::collection::vec(prop::collection::vec((0u8..4, 0u64..64, 1usize..4), 0..60), 1..14),
        v2: bool,
        has_logs: bool,
    ) {
        let sizes = [64 << 20, 96 << 20];
        let mut allocator = new_allocator(&sizes);
        let mos = FakeMos::default();
        let mut model = Model::default();
        let format = match (v2, has_logs) {
            (true, true) => format(),
            (true, false) => format().difference(Format::LOG_SPACEMAP),
            _ => Format::SPACEMAP_HISTOGRAM,
        };
        for (index, ops) in txgs.iter().enumerate() {
            let txg = index as u64 + 4;
            let mut ctx = ctx(txg);
            for (n, &(op, size, copies)) in ops.iter().enumerate() {
                if op > 0 {
                    let psize = (size + 1) * 4096;
                    let Ok(dvas) = take(&allocator, psize, copies, txg, n as u64) else { continue };
                    prop_assert_eq!(dvas.len(), copies);
                    for dva in &dvas {
                        model.check_new(dva, txg);
                        model.used.insert((dva.vdev, dva.offset), dva.asize);
                    }
                } else if let Some((&(vdev, offset), &len)) = model.used.iter().nth(size as usize % model.used.len().max(1)) {
                    allocator.free(vdev, offset, len, Txg(txg)).unwrap();
                    prop_assert_eq!(allocator.free(vdev, offset, len, Txg(txg)), Err(Error::Damaged));
                    model.used.remove(&(vdev, offset));
                    model.freed.insert((vdev, offset), (len, txg));
                }
                if n % 20 == 19 {
                    allocator.sync(&mos, &ctx, format).unwrap();
                    ctx = ctx.next_pass();
                }
            }
            allocator.sync(&mos, &ctx, format).unwrap();
            prop_assert!(!allocator.sync(&mos, &ctx.next_pass(), format).unwrap(), "nothing new, nothing written");
            check_disk(&allocator, &mos, &model);
            let used: u64 = model.used.values().sum();
            prop_assert_eq!(allocator.space().allocated, used);
            allocator.sync_done(Txg(txg)).unwrap();
            model.freed.retain(|_, (_, since)| *since + 2 >= txg);
            if index % 5 == 4 {
                let arrays: Vec<u64> = allocator.groups().iter().map(|g| g.array.load(core::sync::atomic::Ordering::Relaxed)).collect();
                if index % 2 == 0 {
                    allocator.flush_all();
                }
                let infos = vdevs(&sizes, &arrays);
                allocator = Allocator::new(infos.clone(), 1);
                allocator.load(&mos, &mos.index(&infos), false).unwrap();
                model.freed.clear();
                prop_assert_eq!(allocator.space().allocated, used);
            }
        }
    }
}

#[test]
fn copies_lie_on_different_vdevs_or_far_apart() {
    let two = new_allocator(&[1 << 30, 1 << 30]);
    let dvas = take(&two, 8192, 2, 4, 0).unwrap();
    assert_ne!(dvas[0].vdev, dvas[1].vdev);
    let one = new_allocator(&[1 << 30]);
    let dvas = take(&one, 8192, 3, 4, 0).unwrap();
    let size = one.groups()[0].size();
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert!(dvas[a].offset.abs_diff(dvas[b].offset) >= size / 8 - (1 << 26), "{dvas:?}");
    }
}

#[test]
fn vdevs_take_turns_by_their_free_space() {
    let allocator = new_allocator(&[1 << 30, 1 << 30]);
    let mut bytes = [0u64; 2];
    let run = |txg: u64, nr: u64, bytes: &mut [u64; 2]| {
        for n in 0..nr {
            let dva = take(&allocator, 128 << 10, 1, txg, n).unwrap()[0];
            bytes[dva.vdev as usize] += dva.asize;
        }
    };
    run(4, 512, &mut bytes);
    assert_eq!(bytes[0], bytes[1]);
    // Fill the first one up, then the second one gets more.
    let mos = FakeMos::default();
    let half = allocator.groups()[0].size() / 2;
    let mut at = half;
    while at < half + (half / 2) {
        allocator.claim(0, at, 1 << 20, Txg(4)).unwrap();
        at += 1 << 20;
    }
    allocator.sync(&mos, &ctx(4), format()).unwrap();
    allocator.sync_done(Txg(4)).unwrap();
    let mut bytes = [0u64; 2];
    run(5, 1024, &mut bytes);
    assert!(bytes[1] > bytes[0] + bytes[0] / 8, "{bytes:?}");
}

#[test]
fn a_full_pool_says_so_and_what_is_freed_comes_back_after_two_more_txgs() {
    let allocator = new_allocator(&[64 << 20]);
    let mos = FakeMos::default();
    let mut dvas = Vec::new();
    while let Ok(d) = take(&allocator, 128 << 10, 1, 4, 0) {
        dvas.push(d[0]);
    }
    assert_eq!(allocator.space().free, 0);
    assert_eq!(dvas.len() as u64 * (128 << 10), allocator.space().size);
    allocator.sync(&mos, &ctx(4), format()).unwrap();
    allocator.sync_done(Txg(4)).unwrap();
    allocator.free(0, dvas[7].offset, dvas[7].asize, Txg(5)).unwrap();
    for txg in 5..8 {
        assert_eq!(take(&allocator, 128 << 10, 1, txg, 0), Err(Error::NoSpace), "txg {txg}");
        allocator.sync(&mos, &ctx(txg), format()).unwrap();
        allocator.sync_done(Txg(txg)).unwrap();
    }
    let again = take(&allocator, 128 << 10, 1, 8, 0).unwrap()[0];
    assert_eq!(again.offset, dvas[7].offset);
}

#[test]
fn a_failed_allocation_of_copies_leaves_nothing_behind() {
    let allocator = new_allocator(&[64 << 20]);
    let size = allocator.space().size;
    assert_eq!(take(&allocator, 17 << 20, 1, 4, 0), Err(Error::NoSpace));
    let mut nr = 0;
    while take(&allocator, 12 << 20, 2, 4, 0).is_ok() {
        nr += 1;
    }
    assert_eq!(allocator.space().allocated, nr * (24 << 20));
    assert!(allocator.space().allocated <= size);
}

#[test]
fn a_long_map_is_condensed_and_says_the_same() {
    let allocator = new_allocator(&[64 << 20]);
    let mos = FakeMos::default();
    let mut longest = 0;
    let mut keep = Vec::new();
    for txg in 4..200 {
        let dvas: Vec<Dva> = (0..64).map(|n| take(&allocator, 4096, 1, txg, n).unwrap()[0]).collect();
        keep.push(dvas[0]);
        for dva in &dvas[1..] {
            allocator.free(dva.vdev, dva.offset, dva.asize, Txg(txg)).unwrap();
        }
        allocator.sync(&mos, &ctx(txg), format().difference(Format::LOG_SPACEMAP)).unwrap();
        allocator.sync_done(Txg(txg)).unwrap();
        longest = longest.max(mos.0.lock().unwrap().values().map(|o| o.data.len()).max().unwrap());
    }
    assert!(longest < 3 * (16 << 10), "{longest} bytes");
    let mut expected = RangeTree::new();
    keep.iter().for_each(|d| expected.add(d.offset, d.asize).unwrap());
    assert_eq!(allocated_on_disk(&allocator, &mos)[&0], expected);
}

#[test]
fn histogram_counts_the_free_ranges() {
    let allocator = new_allocator(&[64 << 20]);
    let mos = FakeMos::default();
    let first = take(&allocator, 4096, 1, 4, 0).unwrap()[0];
    take(&allocator, 4096, 1, 4, 0).unwrap();
    allocator.free(0, first.offset, first.asize, Txg(4)).unwrap();
    allocator.sync(&mos, &ctx(4), format().difference(Format::LOG_SPACEMAP)).unwrap();
    assert_eq!(allocator.nr_histograms(), 1);
    let objects = mos.0.lock().unwrap();
    let map = objects.values().find(|o| o.new.kind == DmuType::SPACE_MAP).unwrap();
    let phys = ondisk::space_map::SpaceMapPhys::parse(&map.bonus).unwrap();
    assert_eq!(phys.alloc, 4096);
    // 16 MiB less two blocks (2^23 and more), and one block.
    assert_eq!((phys.histogram[0], phys.histogram[11]), (1, 1));
    assert_eq!(phys.histogram.iter().sum::<u64>(), 2);
}

#[test]
fn damaged_maps_are_refused() {
    let allocator = new_allocator(&[64 << 20]);
    let mos = FakeMos::default();
    take(&allocator, 4096, 1, 4, 0).unwrap();
    allocator.sync(&mos, &ctx(4), format().difference(Format::LOG_SPACEMAP)).unwrap();
    let array = allocator.groups()[0].array.load(core::sync::atomic::Ordering::Relaxed);
    let load = || Allocator::new(vdevs(&[64 << 20], &[array]), 1).load(&mos, &LogIndex::default(), false);
    load().unwrap();
    let map = mos
        .0
        .lock()
        .unwrap()
        .iter()
        .find(|(_, o)| o.new.kind == DmuType::SPACE_MAP)
        .map(|(id, _)| *id)
        .unwrap();
    let poke = |at: usize, byte: u8| {
        mos.0.lock().unwrap().get_mut(&map).map(|o| core::mem::replace(&mut o.data[at], byte)).unwrap()
    };
    let kept = poke(14, 0xff);
    assert_eq!(load(), Err(Error::Damaged), "beyond the metaslab");
    poke(14, kept);
    let kept = poke(8, 9);
    assert_eq!(load(), Err(Error::Damaged), "more allocated than the header says");
    poke(8, kept);
    mos.0.lock().unwrap().get_mut(&map).unwrap().bonus[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(load(), Err(Error::Damaged), "an absurd length");
}

fn classed(classes: &[AllocClass], size: u64) -> Allocator {
    let mut infos = vdevs(&vec![size; classes.len()], &[]);
    infos.iter_mut().zip(classes).for_each(|(info, class)| info.class = *class);
    let allocator = Allocator::new(infos, 2);
    allocator.init().unwrap();
    allocator
}

fn vdev_of(a: &Allocator, class: SpaceClass, psize: u64) -> Option<u32> {
    a.allocate(class, psize, 1, Txg(4), &bookmark(0)).ok().map(|dvas| dvas[0].vdev)
}

#[test]
fn each_class_has_its_vdevs_and_normal_ones_to_fall_back_to() {
    use AllocClass::{Dedup, Log, Normal, Special};
    let all = classed(&[Normal, Log, Special, Dedup], 64 << 20);
    for (class, vdev) in
        [(SpaceClass::Normal, 0), (SpaceClass::Log, 1), (SpaceClass::Special, 2), (SpaceClass::Dedup, 3)]
    {
        assert_eq!(vdev_of(&all, class, 4096), Some(vdev), "{class:?}");
        assert_eq!(all.figures(class).1, 4096, "{class:?}");
    }
    let space = all.space();
    assert_eq!(
        (space.size, space.allocated),
        (3 * all.groups()[0].size(), 3 * 4096),
        "log vdevs hold no data"
    );
    // Full classes overflow into the next one, normal data never into theirs.
    while vdev_of(&all, SpaceClass::Dedup, 128 << 10) == Some(3) {}
    while vdev_of(&all, SpaceClass::Special, 128 << 10) == Some(2) {}
    assert_eq!(vdev_of(&all, SpaceClass::Dedup, 128 << 10), Some(0));
    while vdev_of(&all, SpaceClass::Normal, 128 << 10) == Some(0) {}
    assert_eq!(vdev_of(&all, SpaceClass::Normal, 128 << 10), None);
    assert_eq!(vdev_of(&all, SpaceClass::Log, 128 << 10), Some(1));
}

#[test]
fn special_vdevs_take_metadata_and_small_blocks() {
    let block = |kind, level, psize, small_max| BlockTraits { kind, level, psize, small_max };
    let data = |psize, small| block(DmuType::PLAIN_FILE_CONTENTS, 0, psize, small);
    let plain = classed(&[AllocClass::Normal], 64 << 20);
    assert_eq!(plain.class_of(&block(DmuType::DNODE, 0, 4096, 0)), SpaceClass::Normal);
    let a = classed(&[AllocClass::Normal, AllocClass::Special], 64 << 20);
    assert_eq!(a.class_of(&block(DmuType::DNODE, 0, 4096, 0)), SpaceClass::Special);
    assert_eq!(a.class_of(&block(DmuType::PLAIN_FILE_CONTENTS, 1, 4096, 0)), SpaceClass::Special);
    assert_eq!(a.class_of(&data(4096, 0)), SpaceClass::Normal);
    assert_eq!(a.class_of(&data(4096, 4096)), SpaceClass::Special);
    assert_eq!(a.class_of(&data(8192, 4096)), SpaceClass::Normal);
    // The last quarter is the metadata's.
    while a.figures(SpaceClass::Special).1 < a.figures(SpaceClass::Special).0 / 4 * 3 {
        assert_eq!(vdev_of(&a, SpaceClass::Special, 128 << 10), Some(1));
    }
    assert_eq!(a.class_of(&data(4096, 4096)), SpaceClass::Normal);
    assert_eq!(a.class_of(&block(DmuType::DNODE, 0, 4096, 0)), SpaceClass::Special);
}

#[test]
fn a_large_vdev_keeps_a_metaslab_for_logs() {
    let a = new_allocator(&[40 << 30]);
    let kept = a.groups()[0].embedded_log().expect("more than 64 metaslabs");
    let dva = a.allocate(SpaceClass::Log, 8192, 1, Txg(4), &bookmark(0)).unwrap()[0];
    assert_eq!(dva.offset >> a.groups()[0].info.metaslab_shift, u64::from(kept));
    let (size, allocated) = a.figures(SpaceClass::EmbeddedLog);
    assert_eq!((size, allocated), (1 << a.groups()[0].info.metaslab_shift, 8192));
    while let Ok(dvas) = take(&a, 16 << 20, 1, 4, 0) {
        assert_ne!(dvas[0].offset >> a.groups()[0].info.metaslab_shift, u64::from(kept));
    }
    a.untake(&dva, Txg(4));
    assert_eq!(a.figures(SpaceClass::EmbeddedLog).1, 0);
    assert_eq!(new_allocator(&[64 << 20]).groups()[0].embedded_log(), None);
}

#[test]
fn vdevs_come_and_go() {
    let a = new_allocator(&[64 << 20]);
    let mut new = vdevs(&[64 << 20, 64 << 20], &[])[1];
    new.class = AllocClass::Log;
    a.add_group(new).unwrap();
    assert_eq!(a.add_group(new), Err(Error::Invalid));
    let dva = a.allocate(SpaceClass::Log, 4096, 1, Txg(4), &bookmark(0)).unwrap()[0];
    assert_eq!(dva.vdev, 1);
    assert_eq!(a.remove_group(1), Err(Error::Busy));
    a.untake(&dva, Txg(4));
    a.remove_group(1).unwrap();
    assert_eq!(vdev_of(&a, SpaceClass::Log, 4096), Some(0));
    a.add_group(new).unwrap();
    assert_eq!(vdev_of(&a, SpaceClass::Log, 4096), Some(1));
}

#[test]
fn allocators_keep_out_of_each_others_metaslabs() {
    let a = Allocator::new(vdevs(&[1 << 30], &[]), 2);
    a.init().unwrap();
    let mut metaslabs: Vec<u64> = (0..64)
        .map(|object| {
            let bookmark = Bookmark::new(1, ObjectId(object), 0, 0);
            let dva = a.allocate(SpaceClass::Normal, 4096, 1, Txg(4), &bookmark).unwrap()[0];
            dva.offset >> a.groups()[0].info.metaslab_shift
        })
        .collect();
    metaslabs.sort_unstable();
    metaslabs.dedup();
    assert_eq!(metaslabs.len(), 2);
}

#[test]
fn logs_stay_few_and_short_and_nothing_in_them_is_lost() {
    let a = new_allocator(&[64 << 20]);
    let mos = FakeMos::default();
    let mut kept = RangeTree::new();
    let (mut most, mut last) = (0, None);
    for txg in 4..600u64 {
        for n in 0..8 {
            let dva = take(&a, 4096, 1, txg, n).unwrap()[0];
            if n == 0 {
                kept.add(dva.offset, dva.asize).unwrap();
            } else {
                a.free(0, dva.offset, dva.asize, Txg(txg)).unwrap();
            }
        }
        if txg == 599 {
            a.flush_all();
        }
        a.sync(&mos, &ctx(txg), format()).unwrap();
        a.sync_done(Txg(txg)).unwrap();
        let logs = a.nr_logs();
        most = most.max(logs.0);
        last = Some(logs);
    }
    assert!((32..=66).contains(&most), "{most} logs");
    assert_eq!(last.map(|l| l.0), Some(1), "flushing everything leaves the group's own log");
    assert_eq!(mos.1.lock().unwrap().logs.len(), 1);
    assert_eq!(allocated_on_disk(&a, &mos)[&0], kept);
}

#[test]
fn what_is_only_in_logs_is_found_again() {
    let a = new_allocator(&[64 << 20]);
    let mos = FakeMos::default();
    let first = take(&a, 8192, 1, 4, 0).unwrap()[0];
    a.sync(&mos, &ctx(4), format()).unwrap();
    a.sync_done(Txg(4)).unwrap();
    a.free(0, first.offset, 4096, Txg(5)).unwrap();
    a.sync(&mos, &ctx(5), format()).unwrap();
    let infos = vdevs(&[64 << 20], &[a.groups()[0].array.load(core::sync::atomic::Ordering::Relaxed)]);
    for is_read_only in [true, false] {
        let b = Allocator::new(infos.clone(), 1);
        b.load(&mos, &mos.index(&infos), is_read_only).unwrap();
        assert_eq!((b.space().allocated, b.nr_logs().0), (4096, 2));
        if !is_read_only {
            b.claim(0, first.offset, 4096, Txg(6)).unwrap();
            assert_eq!(b.claim(0, first.offset + 4096, 4096, Txg(6)), Err(Error::Damaged));
            b.flush_all();
            b.sync(&mos, &ctx(6), format()).unwrap();
            assert_eq!(b.nr_logs(), (1, 1));
        }
    }
    // A log that frees what is free is not believed.
    let log = *mos.1.lock().unwrap().logs.values().next().unwrap();
    mos.with(log, |o| o.data[23] ^= 0x80).unwrap();
    assert_eq!(Allocator::new(infos.clone(), 1).load(&mos, &mos.index(&infos), false), Err(Error::Damaged));
}

#[test]
fn what_a_checkpoint_keeps_stays_until_it_is_discarded() {
    let a = new_allocator(&[64 << 20]);
    let mos = FakeMos::default();
    let kept: Vec<Dva> = (0..3000).map(|n| take(&a, 4096, 1, 4, n).unwrap()[0]).collect();
    a.sync(&mos, &ctx(4), format()).unwrap();
    a.sync_done(Txg(4)).unwrap();
    for dva in kept.iter().step_by(2) {
        a.retain(0, dva.offset, dva.asize, Txg(5)).unwrap();
        assert_eq!(a.retain(0, dva.offset, dva.asize, Txg(5)), Err(Error::Damaged));
    }
    a.sync(&mos, &ctx(5), format()).unwrap();
    a.sync_done(Txg(5)).unwrap();
    assert_eq!((a.checkpointed(), a.space().allocated), (1500 * 4096, 3000 * 4096));
    // Opened again, and discarded in steps.
    let infos = vdevs(&[64 << 20], &[a.groups()[0].array.load(core::sync::atomic::Ordering::Relaxed)]);
    let b = Allocator::new(infos.clone(), 1);
    b.load(&mos, &mos.index(&infos), false).unwrap();
    let list = mos.1.lock().unwrap().lists[&1];
    b.load_checkpoint(&mos, 0, list).unwrap();
    assert_eq!(b.checkpointed(), 1500 * 4096);
    let mut txg = 6;
    while b.discard_step(&mos, &ctx(txg)).unwrap() {
        b.sync(&mos, &ctx(txg), format()).unwrap();
        b.sync_done(Txg(txg)).unwrap();
        txg += 1;
    }
    assert_eq!((b.checkpointed(), b.space().allocated), (0, 1500 * 4096));
    assert!(mos.1.lock().unwrap().lists.is_empty());
    let mut expected = RangeTree::new();
    kept.iter().skip(1).step_by(2).for_each(|d| expected.add(d.offset, d.asize).unwrap());
    assert_eq!(allocated_on_disk(&b, &mos)[&0], expected);
}
