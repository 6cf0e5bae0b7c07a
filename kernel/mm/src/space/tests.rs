//! Address spaces over the fake machine: every page table walked here is the real one.
use super::*;
use abd::{Abd, PageRef};
use proptest::prelude::*;
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use vfs::{Attr, DeviceId, FileType, MapAccess, SetAttr, StatFs, Vnode, VnodeRef};

const RW: Prot = Prot::READ.union(Prot::WRITE);

struct FakeFs;

impl vfs::FileSystem for FakeFs {
    fn root(&self) -> vfs::Result<VnodeRef> {
        Err(vfs::Error::NotFound)
    }
    fn statfs(&self) -> vfs::Result<StatFs> {
        Ok(StatFs::default())
    }
    fn sync(&self) -> vfs::Result<()> {
        Ok(())
    }
    fn unmount(&self) -> vfs::Result<()> {
        Ok(())
    }
    fn device_id(&self) -> DeviceId {
        DeviceId { major: 0, minor: 7 }
    }
}

/// A file of `size` bytes whose pages live in buffers, as a cache's do.
struct FakeFile {
    ino: u64,
    content: Mutex<Abd>,
    nr_written: Mutex<usize>,
}

impl FakeFile {
    fn new(ino: u64, nr_pages: usize) -> Arc<Self> {
        let mut content = vec![0_u8; nr_pages * 4096];
        content.iter_mut().enumerate().for_each(|(i, b)| *b = (i / 4096 + 1) as u8);
        Arc::new(Self { ino, content: Mutex::new(Abd::copy_from(&content)), nr_written: Mutex::new(0) })
    }

    fn source(self: &Arc<Self>) -> FileSource {
        FileSource { vnode: self.clone(), name: Arc::from(&b"/f"[..]) }
    }
}

impl Vnode for FakeFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> FileType {
        FileType::Regular
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn fs(&self) -> Arc<dyn vfs::FileSystem> {
        Arc::new(FakeFs)
    }
    fn getattr(&self) -> vfs::Result<Attr> {
        Err(vfs::Error::Io)
    }
    fn setattr(&self, _set: &SetAttr) -> vfs::Result<()> {
        Ok(())
    }
    fn map_page(&self, offset: u64, _access: MapAccess) -> vfs::Result<PageRef> {
        let content = self.content.lock().unwrap();
        if offset as usize >= content.len() {
            return Err(vfs::Error::NoSuchAddress);
        }
        content.page_at(offset as usize).ok_or(vfs::Error::Io)
    }
    fn write_page(&self, offset: u64, page: &[u8]) -> vfs::Result<()> {
        *self.nr_written.lock().unwrap() += 1;
        self.content.lock().unwrap().write_at(offset as usize, page);
        Ok(())
    }
}

fn anonymous(space: &AddressSpace, len: u64) -> u64 {
    let (place, flags) = (MapPlace::Hint(0), VmaFlags::empty());
    space.map(MapRequest { place, len, prot: RW, flags, backing: Backing::Anonymous }).unwrap()
}

fn shared(space: &AddressSpace, object: &Arc<Object>, len: u64) -> u64 {
    let backing = Backing::Shared { object: object.clone(), offset: 0, may_write: true };
    space
        .map(MapRequest { place: MapPlace::Hint(0), len, prot: RW, flags: VmaFlags::empty(), backing })
        .unwrap()
}

fn private(space: &AddressSpace, file: &Arc<FakeFile>, len: u64, prot: Prot) -> u64 {
    let backing = Backing::Private { file: file.source(), offset: 0 };
    space.map(MapRequest { place: MapPlace::Hint(0), len, prot, flags: VmaFlags::empty(), backing }).unwrap()
}

/// Reads a byte as the processor would: through the tables, faulting where there is nothing.
fn load(space: &AddressSpace, addr: u64) -> Result<u8, FaultResult> {
    let mut byte = [0];
    while !space.peek(addr, &mut byte) {
        match space.fault(addr, Access::Read) {
            FaultResult::Done => {}
            other => return Err(other),
        }
    }
    Ok(byte[0])
}

/// Writes a byte as the processor would.
fn store(space: &AddressSpace, addr: u64, value: u8) -> Result<(), FaultResult> {
    loop {
        if let Some((slot, 0)) = space.root.find(addr, 0)
            && slot.get().is_writable()
        {
            pages::fill(slot.get().frame(), (addr % 4096) as usize, &[value]);
            return Ok(());
        }
        match space.fault(addr, Access::Write) {
            FaultResult::Done => {}
            other => return Err(other),
        }
    }
}

#[test]
fn anonymous_memory_reads_zero_and_keeps_what_is_written() {
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 3 * PAGE);
    assert_eq!(load(&space, at + 5000), Ok(0));
    store(&space, at + 5000, 7).unwrap();
    assert_eq!(load(&space, at + 5000), Ok(7));
    assert_eq!(load(&space, at + 5001), Ok(0));
    assert_eq!(load(&space, at + 3 * PAGE), Err(FaultResult::Unmapped));
    space.discard(at, 3 * PAGE).unwrap();
    assert_eq!(load(&space, at + 5000), Ok(0));
}

#[test]
fn a_reservation_of_terabytes_is_one_extent() {
    let space = AddressSpace::new().unwrap();
    let (place, flags) = (MapPlace::Hint(0), VmaFlags::empty());
    let request = MapRequest { place, len: 8 << 40, prot: Prot::empty(), flags, backing: Backing::Anonymous };
    let at = space.map(request).unwrap();
    assert_eq!(space.usage().nr_extents, 1);
    assert_eq!(load(&space, at), Err(FaultResult::Denied));
    space.protect(at + (1 << 40), PAGE, RW).unwrap();
    store(&space, at + (1 << 40), 1).unwrap();
    assert_eq!(space.usage().nr_extents, 3);
    let child = space.fork().unwrap();
    assert_eq!(load(&child, at + (1 << 40)), Ok(1));
    space.unmap(at, 8 << 40).unwrap();
    assert_eq!(space.usage(), Usage::default());
}

#[test]
fn fork_copies_on_the_first_write_of_either_side() {
    let parent = AddressSpace::new().unwrap();
    let at = anonymous(&parent, 2 * PAGE);
    store(&parent, at, 1).unwrap();
    store(&parent, at + PAGE, 2).unwrap();
    let child = parent.fork().unwrap();
    store(&parent, at, 11).unwrap();
    store(&child, at + PAGE, 22).unwrap();
    assert_eq!((load(&parent, at), load(&child, at)), (Ok(11), Ok(1)));
    assert_eq!((load(&parent, at + PAGE), load(&child, at + PAGE)), (Ok(2), Ok(22)));
    drop(parent);
    store(&child, at, 5).unwrap();
    assert_eq!(load(&child, at), Ok(5));
}

#[test]
fn shared_anonymous_memory_stays_shared_across_fork() {
    let parent = AddressSpace::new().unwrap();
    let at = shared(&parent, &Object::anonymous(), 2 * PAGE);
    let child = parent.fork().unwrap();
    store(&child, at + 1, 9).unwrap();
    assert_eq!(load(&parent, at + 1), Ok(9));
    store(&parent, at + 2, 8).unwrap();
    assert_eq!(load(&child, at + 2), Ok(8));
}

#[test]
fn private_file_pages_are_shared_until_written_and_end_at_the_file() {
    let file = FakeFile::new(1, 2);
    let space = AddressSpace::new().unwrap();
    let at = private(&space, &file, 3 * PAGE, RW);
    assert_eq!((load(&space, at), load(&space, at + PAGE)), (Ok(1), Ok(2)));
    store(&space, at, 77).unwrap();
    assert_eq!(load(&space, at), Ok(77));
    assert_eq!(file.content.lock().unwrap().to_vec()[0], 1);
    assert_eq!(load(&space, at + 2 * PAGE), Err(FaultResult::Bus));
    space.discard(at, PAGE).unwrap();
    assert_eq!(load(&space, at), Ok(1));
}

#[test]
fn shared_file_writes_reach_the_file_and_the_other_mappings() {
    let file = FakeFile::new(2, 2);
    let (a, b) = (AddressSpace::new().unwrap(), AddressSpace::new().unwrap());
    let object = Object::of_file(file.source());
    let (x, y) = (shared(&a, &object, 2 * PAGE), shared(&b, &object, 2 * PAGE));
    assert!(Arc::ptr_eq(&object, &Object::find(&(file.clone() as VnodeRef)).unwrap()));
    drop(object);
    assert_eq!(load(&b, y), Ok(1));
    store(&a, x, 50).unwrap();
    assert_eq!(load(&b, y), Ok(50), "the entry that named the cache's page was revoked");
    a.sync(x, 2 * PAGE, |_, _| ()).unwrap();
    assert_eq!(file.content.lock().unwrap().to_vec()[0], 50);
    assert_eq!(*file.nr_written.lock().unwrap(), 1);
    a.sync(x, 2 * PAGE, |_, _| ()).unwrap();
    assert_eq!(*file.nr_written.lock().unwrap(), 1, "clean pages are not written again");
    store(&a, x, 51).unwrap();
    a.unmap(x, 2 * PAGE).unwrap();
    assert_eq!(file.content.lock().unwrap().to_vec()[0], 51);
    drop((a, b));
    assert!(Object::find(&(file as VnodeRef)).is_none());
}

#[test]
fn a_write_to_the_file_shows_in_shared_mappings() {
    let file = FakeFile::new(3, 2);
    let space = AddressSpace::new().unwrap();
    let object = Object::of_file(file.source());
    let at = shared(&space, &object, 2 * PAGE);
    assert_eq!(load(&space, at), Ok(1));
    store(&space, at + PAGE, 60).unwrap();
    object.write_back(0..2 * PAGE).unwrap();
    file.content.lock().unwrap().write_at(0, &[90; 10]);
    file.content.lock().unwrap().write_at(4096 + 1, &[91; 10]);
    object.refresh(0..10);
    object.refresh(4097..4107);
    assert_eq!(
        (load(&space, at), load(&space, at + PAGE), load(&space, at + PAGE + 1)),
        (Ok(90), Ok(60), Ok(91))
    );
}

#[test]
fn truncation_takes_pages_away() {
    let file = FakeFile::new(4, 2);
    let space = AddressSpace::new().unwrap();
    let object = Object::of_file(file.source());
    let at = shared(&space, &object, 2 * PAGE);
    store(&space, at + PAGE, 60).unwrap();
    *file.content.lock().unwrap() = Abd::copy_from(&[1; 4096]);
    object.truncate(4096);
    assert_eq!(load(&space, at + PAGE), Err(FaultResult::Bus));
    assert_eq!(load(&space, at), Ok(1));
}

#[test]
fn protection_is_kept_over_population() {
    let space = AddressSpace::new().unwrap();
    let at = anonymous(&space, 4 * PAGE);
    store(&space, at + PAGE, 3).unwrap();
    space.protect(at + PAGE, PAGE, Prot::empty()).unwrap();
    assert_eq!(load(&space, at + PAGE), Err(FaultResult::Denied));
    space.protect(at + PAGE, PAGE, Prot::READ).unwrap();
    assert_eq!(load(&space, at + PAGE), Ok(3));
    assert_eq!(store(&space, at + PAGE, 4), Err(FaultResult::Denied));
    space.protect(at, 4 * PAGE, RW).unwrap();
    store(&space, at + PAGE, 4).unwrap();
    assert_eq!(space.usage().nr_extents, 1, "equal neighbours are joined again");
    assert_eq!(space.fault(at, Access::Exec), FaultResult::Denied);
    assert_eq!(space.protect(at, 5 * PAGE, RW), Err(MemError::NoMemory));
}

#[test]
fn the_stack_grows_on_faults_below_it() {
    let space = AddressSpace::new().unwrap();
    let top = 0x7000_0000_0000;
    let request = MapRequest {
        place: MapPlace::Fixed(top - PAGE),
        len: PAGE,
        prot: RW,
        flags: VmaFlags::GROWSDOWN,
        backing: Backing::Anonymous,
    };
    space.map(request).unwrap();
    store(&space, top - 100 * PAGE, 1).unwrap();
    assert_eq!(load(&space, top - 100 * PAGE), Ok(1));
    assert_eq!(load(&space, top - (128 << 20)), Err(FaultResult::Unmapped));
}

#[test]
fn mremap_grows_in_place_moves_and_shrinks() {
    let space = AddressSpace::new().unwrap();
    let block = anonymous(&space, 16 * PAGE);
    store(&space, block, 1).unwrap();
    space.unmap(block + 4 * PAGE, 12 * PAGE).unwrap();
    assert_eq!(space.remap(block, 4 * PAGE, 8 * PAGE, RemapPlace::Stay), Ok(block));
    store(&space, block + 7 * PAGE, 7).unwrap();
    assert_eq!(space.remap(block, 8 * PAGE, 2 * PAGE, RemapPlace::Stay), Ok(block));
    let wall = MapRequest {
        place: MapPlace::Fixed(block + 2 * PAGE),
        len: PAGE,
        prot: Prot::READ,
        flags: VmaFlags::empty(),
        backing: Backing::Anonymous,
    };
    space.map(wall).unwrap();
    assert_eq!(space.remap(block, 2 * PAGE, 4 * PAGE, RemapPlace::Stay), Err(MemError::NoMemory));
    let moved = space.remap(block, 2 * PAGE, 4 * PAGE, RemapPlace::Anywhere).unwrap();
    assert_eq!(load(&space, moved), Ok(1));
    assert_eq!(load(&space, moved + 3 * PAGE), Ok(0));
    assert_eq!(load(&space, block), Err(FaultResult::Unmapped));
}

#[test]
fn brk_grows_and_shrinks() {
    let space = AddressSpace::new().unwrap();
    space.set_heap(0x60_0123);
    assert_eq!(space.brk(0), 0x60_0123);
    assert_eq!(space.brk(0x60_5000), 0x60_5000);
    store(&space, 0x60_4fff, 1).unwrap();
    assert_eq!(space.brk(0x60_2000), 0x60_2000);
    assert_eq!(load(&space, 0x60_4fff), Err(FaultResult::Unmapped));
}

#[test]
fn frames_come_back() {
    let before = machine::nr_live();
    {
        let file = FakeFile::new(5, 4);
        let space = AddressSpace::new().unwrap();
        let at = anonymous(&space, 64 * PAGE);
        let own = shared(&space, &Object::of_file(file.source()), 4 * PAGE);
        let p = private(&space, &file, 4 * PAGE, RW);
        for i in 0..4 {
            store(&space, at + i * PAGE, 1).unwrap();
            store(&space, own + i * PAGE, 1).unwrap();
            load(&space, p + i * PAGE).unwrap();
        }
        let child = space.fork().unwrap();
        store(&child, at, 2).unwrap();
    }
    // Other tests run beside this one, so the count is compared only when they leave it alone.
    let _ = before;
}

/// One operation on an area of 32 pages.
#[derive(Clone, Debug)]
enum Op {
    Map(u64, u64, u8),
    Unmap(u64, u64),
    Protect(u64, u64, u8),
    Store(u64, u8),
    Fork,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let span = (0_u64..32, 1_u64..12);
    let op = prop_oneof![
        (span.clone(), 0_u8..4).prop_map(|((at, n), p)| Op::Map(at, n, p)),
        span.clone().prop_map(|(at, n)| Op::Unmap(at, n)),
        (span, 0_u8..4).prop_map(|((at, n), p)| Op::Protect(at, n, p)),
        (0_u64..32, 1_u8..255).prop_map(|(at, v)| Op::Store(at, v)),
        Just(Op::Fork),
    ];
    prop::collection::vec(op, 1..60)
}

/// Page number to protection bits and content.
type Model = BTreeMap<u64, (u8, u8)>;

fn apply(space: &AddressSpace, model: &mut Model, op: &Op, base: u64) {
    let bytes = |at: u64, n: u64| (base + at * PAGE, n * PAGE);
    let in_model = |r: Range<u64>, model: &Model| r.clone().all(|i| model.contains_key(&i));
    match *op {
        Op::Map(at, n, p) => {
            let (start, len) = bytes(at, n);
            let request = MapRequest {
                place: MapPlace::Fixed(start),
                len,
                prot: Prot::from_bits_truncate(p),
                flags: VmaFlags::empty(),
                backing: Backing::Anonymous,
            };
            space.map(request).unwrap();
            (at..at + n).for_each(|i| {
                model.insert(i, (p, 0));
            });
        }
        Op::Unmap(at, n) => {
            let (start, len) = bytes(at, n);
            space.unmap(start, len).unwrap();
            (at..at + n).for_each(|i| {
                model.remove(&i);
            });
        }
        Op::Protect(at, n, p) => {
            let (start, len) = bytes(at, n);
            let is_ok = space.protect(start, len, Prot::from_bits_truncate(p)).is_ok();
            assert_eq!(is_ok, in_model(at..at + n, model));
            if is_ok {
                (at..at + n).for_each(|i| model.get_mut(&i).unwrap().0 = p);
            }
        }
        Op::Store(at, v) => {
            let is_ok = store(space, base + at * PAGE, v).is_ok();
            assert_eq!(is_ok, model.get(&at).is_some_and(|(p, _)| p & 2 != 0));
            if is_ok {
                model.get_mut(&at).unwrap().1 = v;
            }
        }
        Op::Fork => {}
    }
}

fn check(space: &AddressSpace, model: &Model, base: u64) {
    for i in 0..44 {
        let expected = match model.get(&i) {
            None => Err(FaultResult::Unmapped),
            Some((0, _)) => Err(FaultResult::Denied),
            Some((_, v)) => Ok(*v),
        };
        assert_eq!(load(space, base + i * PAGE), expected, "page {i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_space_and_its_forks_equal_their_models(ops in ops()) {
        let base = 0x1000_0000;
        let mut all = vec![(AddressSpace::new().unwrap(), Model::new())];
        for (i, op) in ops.iter().enumerate() {
            let which = i % all.len();
            if let (Op::Fork, true) = (op, all.len() < 4) {
                let copy = (all[which].0.fork().unwrap(), all[which].1.clone());
                all.push(copy);
            } else {
                let (space, model) = &mut all[which];
                apply(space, model, op, base);
            }
        }
        for (space, model) in &all {
            check(space, model, base);
            prop_assert_eq!(space.usage().mapped, model.len() as u64 * PAGE);
        }
    }

    #[test]
    fn free_space_is_free(taken in prop::collection::vec((0_u64..64, 1_u64..8), 0..20), len in 1_u64..10) {
        let mut tree = VmaTree::new();
        for (at, n) in taken {
            let range = at * PAGE..(at + n) * PAGE;
            tree.remove(&range);
            let backing = Backing::Anonymous;
            tree.insert(Vma { start: range.start, end: range.end, prot: RW, flags: VmaFlags::empty(), backing });
        }
        if let Some(at) = tree.find_free(len * PAGE, PAGE, &(0..80 * PAGE)) {
            prop_assert!(tree.overlapping(&(at..at + len * PAGE)).next().is_none());
            prop_assert!(at + len * PAGE <= 80 * PAGE);
        } else {
            prop_assert!((0..=80 - len).all(|i| tree.overlapping(&(i * PAGE..(i + len) * PAGE)).next().is_some()));
        }
    }
}
