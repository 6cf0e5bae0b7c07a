//! Streams between pools of ours: whatever happens to objects between two snapshots, the receiver has it afterwards;
//! and whatever happens to a stream on its way, the receiver has it whole or not at all.
use blockdev::{BlockDevice, Op};
use blockdev_host::MemDisk;
use codec::fletcher::Fletcher4;
use ondisk::sa::SA_MAGIC;
use ondisk::stream::{ByteOrder, CHECKSUM_OFFSET, End, RECORD_SIZE, Record};
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use zfs::Error;
use zfs::dmu::{DmuTx, Dnode, NewObject, Objset, TxSpace};
use zfs::dsl::{Property, PropertyValue};
use zfs::send::{BlockOptions, ReceiveOptions, ResumeToken, SendSpec};
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};
use zfs::zap::{Zap, ZapOptions};

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

fn pool(name: &str) -> (Arc<MemDisk>, Arc<Spa>) {
    let disk = Arc::new(MemDisk::new(512 << 20));
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    let spa = Spa::create(vec![vdev], &PoolSpec::new(name), &mut nothing).unwrap();
    (disk, spa)
}

fn assert_clean(spa: &Arc<Spa>) {
    spa.sync().unwrap();
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

/// A file system's first object, and nothing else.
fn master_node(tx: &DmuTx, objset: &Arc<Objset>) -> zfs::Result<()> {
    let zap = Zap::create_at(objset, tx, ObjectId::ONE, DmuType::MASTER_NODE, ZapOptions::default())?;
    zap.insert_u64(tx, b"VERSION", 5)
}

/// A reproducible stream of numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        // Half of it compresses.
        (0..len).map(|i| if i % 64 < 32 { self.next() as u8 } else { 7 }).collect()
    }
}

/// The attributes of a file of that generation, as file systems keep them.
fn attributes(generation: u64, len: usize) -> Vec<u8> {
    let mut bonus = Vec::from(SA_MAGIC.to_le_bytes());
    bonus.extend_from_slice(&(2u16 | 1 << 10).to_le_bytes());
    bonus.extend_from_slice(&[0; 2]);
    for word in [0o644, 0, generation] {
        bonus.extend_from_slice(&u64::to_le_bytes(word));
    }
    bonus.resize(len, 0);
    bonus
}

/// Everything of an object that a receiver must have.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: DmuType,
    bonus_kind: DmuType,
    bonus: Vec<u8>,
    spill: Option<Vec<u8>>,
    slots: u8,
    /// Without the zeroes at its end.
    data: Vec<u8>,
}

fn look(dnode: &Dnode) -> Seen {
    let len = (dnode.max_blkid() + 1) * u64::from(dnode.block_size());
    let mut data = dnode.read_vec(0, len as usize).unwrap();
    data.truncate(data.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1));
    Seen {
        kind: dnode.kind(),
        bonus_kind: dnode.bonus_kind(),
        bonus: dnode.bonus_vec(),
        spill: dnode.spill().unwrap().map(|abd| abd.to_vec()),
        slots: dnode.slots(),
        data,
    }
}

fn contents(spa: &Arc<Spa>, name: &str) -> BTreeMap<u64, Seen> {
    let objset = spa.open_dataset(name).unwrap().objset();
    let mut all = BTreeMap::new();
    let mut at = ObjectId(0);
    while let Some(id) = objset.next_object(at).unwrap() {
        all.insert(id.0, look(&objset.hold(id).unwrap()));
        at = id;
    }
    all
}

fn assert_same(source: (&Arc<Spa>, &str), target: (&Arc<Spa>, &str), context: &str) {
    let [there, here] = [source, target].map(|(spa, name)| contents(spa, name));
    let ids = |all: &BTreeMap<u64, Seen>| all.keys().copied().collect::<Vec<_>>();
    assert_eq!(ids(&there), ids(&here), "{context}: objects");
    for (id, seen) in &there {
        assert!(*seen == here[id], "{context}: object {id}: {}", difference(seen, &here[id]));
    }
}

fn difference(there: &Seen, here: &Seen) -> String {
    let brief = |s: &Seen| {
        let spill = s.spill.as_ref().map(Vec::len);
        (s.kind, s.bonus_kind, s.bonus.len(), spill, s.slots, s.data.len())
    };
    let at = there.data.iter().zip(&here.data).position(|(a, b)| a != b);
    format!("{:?} became {:?}; data differ at {at:?}", brief(there), brief(here))
}

/// A dataset that is changed at random.
struct Source {
    objset: Arc<Objset>,
    random: Random,
    generation: u64,
    large: bool,
}

impl Source {
    fn pick(&mut self) -> Option<Arc<Dnode>> {
        let after = ObjectId(1 + self.random.below(200));
        let id =
            self.objset.next_object(after).unwrap().or(self.objset.next_object(ObjectId::ONE).unwrap())?;
        Some(self.objset.hold(id).unwrap())
    }

    fn create(&mut self) {
        let sizes: &[u32] =
            if self.large { &[512, 1024, 3584, 4096, 131_072, 1 << 20] } else { &[512, 1536, 4096, 131_072] };
        let block_size = sizes[self.random.below(sizes.len() as u64) as usize];
        let slots = [1, 1, 2, 3][self.random.below(4) as usize];
        let is_file = self.random.below(4) > 0;
        let (kind, bonus_kind, bonus_len) = match is_file {
            true => (DmuType::PLAIN_FILE_CONTENTS, DmuType::SA, 168),
            false => (DmuType::UINT64_OTHER, DmuType::UINT64_OTHER, 8 * self.random.below(24) as u16),
        };
        let new = NewObject {
            dnode_slots: slots,
            ..NewObject::new(kind, block_size).with_bonus(bonus_kind, bonus_len)
        };
        self.generation += 1;
        let tx = DmuTx::begin(&self.objset, TxSpace::names(1, 0)).unwrap();
        let dnode = self.objset.allocate(&tx, &new).unwrap();
        let bonus =
            if is_file { attributes(self.generation, 168) } else { self.random.bytes(bonus_len.into()) };
        dnode.set_bonus(&tx, &mut |old| old.clone_from(&bonus)).unwrap();
        drop(tx);
        self.write(&dnode);
    }

    fn write(&mut self, dnode: &Dnode) {
        let size = u64::from(dnode.block_size());
        let nr_blocks = if size.is_power_of_two() { 12 } else { 1 };
        let offset = self.random.below(size * nr_blocks);
        let len = 1 + self.random.below((size * nr_blocks - offset).min(3 * size));
        let data = match self.random.below(6) {
            0 => vec![0; len as usize],
            1 => vec![1; len as usize],
            _ => self.random.bytes(len as usize),
        };
        let tx = DmuTx::begin(&self.objset, TxSpace::write(len)).unwrap();
        dnode.write_slice(&tx, offset, &data).unwrap();
    }

    fn step(&mut self) {
        let Some(dnode) = self.pick() else { return self.create() };
        let tx = || DmuTx::begin(&self.objset, TxSpace::write(1 << 21)).unwrap();
        match self.random.below(12) {
            0..3 => self.create(),
            3..7 => self.write(&dnode),
            7 => {
                let tx = tx();
                let id = dnode.id();
                drop(dnode);
                self.objset.free(&tx, id).unwrap();
            }
            8 => {
                let size = u64::from(dnode.block_size());
                let tx = tx();
                let (offset, len) = (self.random.below(8 * size), self.random.below(6 * size));
                dnode.free_range(&tx, offset, len).unwrap();
            }
            9 => {
                let tx = tx();
                let offset = self.random.below(8 * u64::from(dnode.block_size()));
                dnode.free_range(&tx, offset, u64::MAX).unwrap();
            }
            10 => {
                let tx = tx();
                let len = [0, 512, 1024, 4096][self.random.below(4) as usize];
                let data = (len > 0).then(|| self.random.bytes(len));
                // Attributes of others leave no room for the pointer now and then.
                let _ = dnode.set_spill(&tx, data.as_deref());
            }
            _ => {
                // A file of one block grows.
                let size = dnode.block_size();
                if dnode.kind() == DmuType::PLAIN_FILE_CONTENTS && dnode.max_blkid() == 0 && size < 65_536 {
                    let tx = tx();
                    dnode.set_block_size(&tx, (size * 2).next_multiple_of(512), 0).unwrap();
                    drop(tx);
                    self.write(&dnode);
                }
            }
        }
    }
}

fn send(spa: &Arc<Spa>, spec: &SendSpec) -> Vec<u8> {
    let mut stream = Vec::new();
    spa.send(spec, &mut |bytes| {
        stream.extend_from_slice(bytes);
        Ok(())
    })
    .unwrap();
    let sizes = spa.send_size(spec).unwrap();
    assert!(spec.is_compound() || sizes[0].bytes == stream.len() as u64);
    stream
}

fn receive(spa: &Arc<Spa>, stream: &[u8], target: &str, options: &ReceiveOptions) -> zfs::Result<()> {
    let mut rest = stream;
    let received = spa.receive(target, options, &mut |buf| {
        // In odd pieces, as pipes give them.
        let n = buf.len().min(rest.len()).min(10_007);
        let (now, later) = rest.split_at(n);
        buf[..n].copy_from_slice(now);
        rest = later;
        Ok(n)
    });
    received.map(drop)
}

fn spec(to: &str, from: Option<&str>, blocks: BlockOptions) -> SendSpec {
    SendSpec { to: to.to_owned(), from: from.map(str::to_owned), blocks, ..SendSpec::default() }
}

fn source(spa: &Arc<Spa>, seed: u64) -> Source {
    let objset = spa.open_dataset("src/fs").unwrap().objset();
    Source { objset, random: Random(seed), generation: 0, large: seed.is_multiple_of(2) }
}

/// One source, changed and sent again and again.
fn rounds(seed: u64) {
    let (_, src) = pool("src");
    let (disk, dst) = pool("dst");
    let compression = [15, 2, 14][(seed % 3) as usize];
    let properties = [(Property::Compression, PropertyValue::Number(compression))];
    src.create_dataset("src/fs", &properties, &mut master_node).unwrap();
    let mut source = source(&src, seed);
    let blocks = BlockOptions {
        large: source.large,
        compressed: source.random.below(2) == 0,
        embedded: source.random.below(2) == 0,
    };
    let mut last: Option<String> = None;
    for round in 0..5 {
        for _ in 0..(30 + source.random.below(60)) {
            source.step();
            if source.random.below(20) == 0 {
                src.sync().unwrap();
            }
        }
        let name = format!("src/fs@{round}");
        src.snapshot(&[&name], false, &[]).unwrap();
        let stream = send(&src, &spec(&name, last.as_deref(), blocks));
        receive(&dst, &stream, "dst/fs", &ReceiveOptions::default())
            .unwrap_or_else(|e| panic!("seed {seed}, round {round}: {e}"));
        let here = format!("dst/fs@{round}");
        assert_same((&src, &name), (&dst, &here), &format!("seed {seed}, round {round}"));
        last = Some(name);
    }
    assert_same((&src, "src/fs@0"), (&dst, "dst/fs@0"), "the first one, in the end");
    drop(source);
    assert_clean(&src);
    assert_clean(&dst);
    dst.export().unwrap();
    let again = Spa::import(&[disk as Arc<dyn BlockDevice>], &ImportOptions::default()).unwrap();
    assert_clean(&again);
    again.export().unwrap();
    src.export().unwrap();
}

/// `STREAM_SEEDS` asks for more.
#[test]
fn whatever_changed_arrives() {
    let nr_seeds = std::env::var("STREAM_SEEDS").map_or(12, |n| n.parse().expect("a number"));
    (0..nr_seeds).for_each(rounds);
}

/// A source with two snapshots, and its full and incremental streams.
fn two_streams(seed: u64) -> (Arc<Spa>, Vec<u8>, Vec<u8>) {
    let (_, src) = pool("src");
    src.create_dataset("src/fs", &[], &mut master_node).unwrap();
    let mut source = source(&src, seed);
    let blocks = BlockOptions { large: source.large, compressed: true, embedded: true };
    for name in ["src/fs@a", "src/fs@b"] {
        (0..40).for_each(|_| source.step());
        src.snapshot(&[name], false, &[]).unwrap();
    }
    drop(source);
    let full = send(&src, &spec("src/fs@a", None, blocks));
    let incremental = send(&src, &spec("src/fs@b", Some("src/fs@a"), blocks));
    (src, full, incremental)
}

/// Names, guids and contents of all datasets.
fn state(spa: &Arc<Spa>) -> Vec<(String, u64, BTreeMap<u64, Seen>)> {
    let all = spa.datasets().unwrap().into_iter();
    all.map(|d| (d.name.clone(), d.guid, contents(spa, &d.name))).collect()
}

#[test]
fn damaged_and_cut_streams_change_nothing() {
    let (src, full, incremental) = two_streams(11);
    let (_, dst) = pool("dst");
    receive(&dst, &full, "dst/fs", &ReceiveOptions::default()).unwrap();
    let before = state(&dst);
    let mut random = Random(3);
    for round in 0..60u64 {
        let (stream, target) = if round % 2 == 0 { (&full, "dst/new") } else { (&incremental, "dst/fs") };
        let mut bad = stream.clone();
        let at = random.below(bad.len() as u64) as usize;
        let what = match round % 3 {
            0 => {
                bad.truncate(at);
                "cut"
            }
            1 => {
                bad[at] ^= 1 << random.below(8);
                "flipped"
            }
            _ => {
                let len = (1 + random.below(2000) as usize).min(bad.len() - at);
                bad[at..at + len].iter_mut().for_each(|b| *b = random.next() as u8);
                "overwritten"
            }
        };
        let force = ReceiveOptions { force: random.below(2) == 0, ..ReceiveOptions::default() };
        match receive(&dst, &bad, target, &force) {
            // What follows the name's NUL in BEGIN's record means nothing, nor does a changed name's length.
            Ok(()) => assert!(at < 312, "round {round}: {what} at {at} was accepted"),
            Err(_) => {
                assert!(state(&dst) == before, "round {round}: {what} at {at}");
                continue;
            }
        }
        dst.destroy_snapshots(&[if target == "dst/fs" { "dst/fs@b" } else { "dst/new@a" }], false).unwrap();
        panic!("round {round}: a damaged BEGIN was accepted");
    }
    receive(&dst, &incremental, "dst/fs", &ReceiveOptions::default()).unwrap();
    assert_same((&src, "src/fs@b"), (&dst, "dst/fs@b"), "in the end");
    assert_clean(&dst);
}

/// A stream in which one record says something else, with all checksums right.
fn forged(stream: &[u8], random: &mut Random) -> Vec<u8> {
    let mut records: Vec<([u8; RECORD_SIZE], Vec<u8>)> = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let bytes: [u8; RECORD_SIZE] = stream[at..at + RECORD_SIZE].try_into().unwrap();
        let len = Record::parse(&bytes, ByteOrder::Little).unwrap().payload_len();
        at += RECORD_SIZE + len;
        records.push((bytes, stream[at - len..at].to_vec()));
    }
    for _ in 0..=random.below(3) {
        let index = random.below(records.len() as u64) as usize;
        let (bytes, payload) = &mut records[index];
        let field = 8 + 4 * random.below(28) as usize;
        match random.below(6) {
            0 if !payload.is_empty() => {
                let at = random.below(payload.len() as u64) as usize;
                payload[at] = random.next() as u8;
            }
            1 => bytes[0] = random.below(11) as u8,
            2 => bytes[field..field + 4].copy_from_slice(&[0xff; 4]),
            3 => bytes[field..field + 4].copy_from_slice(&(random.next() as u32).to_le_bytes()),
            _ => bytes[field] = bytes[field].wrapping_add(1 << random.below(8)),
        }
    }
    let mut sums = Fletcher4::default();
    let mut out = Vec::new();
    for (mut bytes, mut payload) in records {
        if let Ok(record) = Record::parse(&bytes, ByteOrder::Little) {
            payload.resize(record.payload_len().min(1 << 21), 3);
            if let Record::End(_) = record {
                let (digest, to_guid) =
                    (sums.finish(), u64::from_le_bytes(bytes[40..48].try_into().unwrap()));
                bytes = Record::End(End { digest, to_guid }).to_bytes(ByteOrder::Little);
            }
        }
        sums.update(&bytes[..CHECKSUM_OFFSET]);
        if bytes[..4] != [0; 4] {
            Record::set_checksum(&mut bytes, ByteOrder::Little, sums.finish());
        }
        sums.update(&bytes[CHECKSUM_OFFSET..]);
        sums.update(&payload);
        out.extend_from_slice(&bytes);
        out.extend_from_slice(&payload);
    }
    out
}

/// Whoever makes a stream can make its checksums: the receiver's pool stays whole whatever it says. `FORGED_STREAMS` asks
/// for more.
#[test]
fn forged_streams_do_no_harm() {
    let nr_streams = std::env::var("FORGED_STREAMS").map_or(120, |n| n.parse().expect("a number"));
    let (_, full, incremental) = two_streams(13);
    let (_, dst) = pool("dst");
    let mut random = Random(17);
    let mut nr_accepted = 0;
    receive(&dst, &full, "dst/fs", &ReceiveOptions::default()).unwrap();
    for round in 0..nr_streams {
        let (stream, target) = if round % 2 == 0 { (&full, "dst/new") } else { (&incremental, "dst/fs") };
        let bad = forged(stream, &mut random);
        if receive(&dst, &bad, target, &ReceiveOptions::default()).is_ok() {
            nr_accepted += 1;
            let snapshot = if target == "dst/fs" { "dst/fs@b" } else { "dst/new@a" };
            let name = dst.datasets().unwrap().into_iter().find(|d| {
                d.is_snapshot && d.name.starts_with(&snapshot[..snapshot.len() - 1]) && d.name != "dst/fs@a"
            });
            if let Some(name) = name {
                dst.destroy_snapshots(&[&name.name], false).unwrap();
            }
            match target {
                "dst/fs" => dst.rollback("dst/fs@a", true).unwrap(),
                _ => dst.destroy_dataset(target).unwrap(),
            }
        }
        dst.sync().unwrap_or_else(|e| panic!("round {round}: {e}"));
    }
    assert!(nr_accepted > 0);
    assert_clean(&dst);
}

#[test]
fn what_was_interrupted_goes_on() {
    let (src, full, incremental) = two_streams(7);
    let (disk, mut dst) = pool("dst");
    let resumable = ReceiveOptions { resumable: true, ..ReceiveOptions::default() };
    for (mut stream, name) in [(full, "a"), (incremental, "b")] {
        let mut nr_pieces = 0;
        let mut at = stream.len() / 3;
        loop {
            let cut = &stream[..at.min(stream.len())];
            match receive(&dst, cut, "dst/fs", &resumable) {
                Ok(()) => break,
                Err(e) => assert_eq!(e, Error::StreamCut),
            }
            nr_pieces += 1;
            if nr_pieces == 2 {
                // It survives the pool's being closed.
                dst.export().unwrap();
                let devices = [disk.clone() as Arc<dyn BlockDevice>];
                dst = Spa::import(&devices, &ImportOptions::default()).unwrap();
            }
            let token = ResumeToken::parse(&dst.resume_token("dst/fs").unwrap().unwrap()).unwrap();
            assert_eq!(token.to_name, format!("src/fs@{name}"));
            assert!(dst.datasets().unwrap().iter().all(|d| !d.name.contains('%')), "it shows");
            // Not from the start again.
            assert!(nr_pieces > 1 || receive(&dst, &stream, "dst/fs", &resumable).is_err());
            let from = token.from_guid.map(|_| "src/fs@a");
            let resume = Some(token.point);
            stream = send(&src, &SendSpec { resume, ..spec(&token.to_name, from, token.blocks) });
            at = stream.len() * nr_pieces / (nr_pieces + 1) + 2000;
        }
        assert!(nr_pieces > 2, "{nr_pieces}");
        assert_eq!(dst.resume_token("dst/fs"), Ok(None));
        assert_same((&src, &format!("src/fs@{name}")), (&dst, &format!("dst/fs@{name}")), name);
        assert_clean(&dst);
    }
    dst.export().unwrap();
}

/// A pool `dst` whose power was cut while it received, and how many datasets it had before.
fn cut_off() -> (Arc<MemDisk>, usize) {
    let ((_, full, _), (disk, dst)) = (two_streams(5), pool("dst"));
    let (before, mut given, crash) = (dst.datasets().unwrap().len(), 0, dst.clone());
    let result = dst.receive("dst/fs", &ReceiveOptions::default(), &mut |buf| {
        if given > full.len() / 2 {
            crash.sync().unwrap();
            crash.abandon();
            return Err(Error::Fault);
        }
        let n = buf.len().min(full.len() - given);
        buf[..n].copy_from_slice(&full[given..given + n]);
        given += n;
        Ok(n)
    });
    assert_eq!(result, Err(Error::Fault));
    (disk, before)
}

#[test]
fn what_a_crash_interrupted_is_gone_at_the_next_import() {
    let (disk, before) = cut_off();
    let again = Spa::import(&[disk as Arc<dyn BlockDevice>], &ImportOptions::default()).unwrap();
    assert_eq!(again.datasets().unwrap().len(), before);
    assert_clean(&again);
    again.export().unwrap();
}

/// Whatever an import cannot read, early or late: nothing of it goes on when it has failed. A pool that nobody has would
/// write to devices that somebody else opens next.
#[test]
fn an_import_that_fails_leaves_nobody_who_writes() {
    let (disk, _) = cut_off();
    for nr_good in 0.. {
        let copy = Arc::new(disk.snapshot());
        let nr_reads = Arc::new(AtomicUsize::new(0));
        let counted = nr_reads.clone();
        copy.set_hook(Some(Arc::new(move |op: &Op| {
            let is_late = matches!(op, Op::Read { .. }) && counted.fetch_add(1, Ordering::Relaxed) >= nr_good;
            is_late.then_some(blockdev::Error::Io)
        })));
        let opened = Spa::import(&[copy.clone() as Arc<dyn BlockDevice>], &ImportOptions::default());
        copy.set_hook(None);
        opened.iter().for_each(|spa| spa.abandon());
        drop(opened);
        let mut pauses = 0..2000;
        while Arc::strong_count(&copy) > 1 {
            assert!(pauses.next().is_some(), "somebody has the disk after {nr_good} reads");
            std::thread::sleep(Duration::from_millis(1));
        }
        if nr_reads.load(Ordering::Relaxed) <= nr_good {
            return assert!(nr_good > 50, "{nr_good}");
        }
    }
}

#[test]
fn clones_arrive_as_clones() {
    let (_, src) = pool("src");
    src.create_dataset("src/fs", &[], &mut master_node).unwrap();
    let mut first = source(&src, 21);
    (0..40).for_each(|_| first.step());
    src.snapshot(&["src/fs@a"], false, &[]).unwrap();
    src.clone_snapshot("src/fs@a", "src/fs/clone", &[]).unwrap();
    let objset = src.open_dataset("src/fs/clone").unwrap().objset();
    let mut second = Source { objset, random: Random(22), generation: 1000, large: false };
    (0..40).for_each(|_| second.step());
    (0..40).for_each(|_| first.step());
    src.snapshot(&["src/fs@b"], true, &[]).unwrap();
    drop((first, second));
    let (_, dst) = pool("dst");
    let all = SendSpec { replicate: true, ..spec("src/fs@b", None, BlockOptions::default()) };
    // The clone has no snapshot of the first name, the file system both.
    receive(&dst, &send(&src, &all), "dst/fs", &ReceiveOptions::default()).unwrap();
    for name in ["fs@a", "fs@b", "fs/clone@b"] {
        assert_same((&src, &format!("src/{name}")), (&dst, &format!("dst/{name}")), name);
    }
    let clone = dst.datasets().unwrap().into_iter().find(|d| d.name == "dst/fs/clone").unwrap();
    assert_eq!(clone.origin.as_deref(), Some("dst/fs@a"));
    assert_clean(&dst);
    // A full stream on top of another snapshot: what it does not name is not in it.
    let plain = send(&src, &spec("src/fs@b", None, BlockOptions::default()));
    let options = ReceiveOptions { origin: Some("dst/fs@a".into()), ..ReceiveOptions::default() };
    receive(&dst, &plain, "dst/on-top", &options).unwrap();
    assert_same((&src, "src/fs@b"), (&dst, "dst/on-top@b"), "on top");
    // And in place of a dataset without snapshots.
    dst.create_dataset("dst/empty", &[], &mut nothing).unwrap();
    let force = ReceiveOptions { force: true, ..ReceiveOptions::default() };
    receive(&dst, &plain, "dst/empty", &force).unwrap();
    assert_same((&src, "src/fs@b"), (&dst, "dst/empty@b"), "in place");
    assert_clean(&dst);
}

fn names(spa: &Arc<Spa>) -> Vec<String> {
    spa.datasets().unwrap().into_iter().map(|d| d.name).filter(|name| name.contains("/fs")).collect()
}

fn origin(spa: &Arc<Spa>, name: &str) -> Option<String> {
    spa.datasets().unwrap().into_iter().find(|d| d.name == name).unwrap().origin
}

/// What was renamed, promoted and destroyed there follows here; what is only here goes with `-F` alone.
#[test]
fn replicas_follow_their_source() {
    let (_, src) = pool("src");
    let (_, dst) = pool("dst");
    for name in ["src/fs", "src/fs/a", "src/fs/b", "src/fs/b/c", "src/fs/d", "src/fs/e"] {
        src.create_dataset(name, &[], &mut master_node).unwrap();
    }
    let mut one = source(&src, 3);
    (0..30).for_each(|_| one.step());
    for name in ["src/fs@0", "src/fs@1"] {
        src.snapshot(&[name], true, &[]).unwrap();
    }
    src.clone_snapshot("src/fs@0", "src/fs/z", &[]).unwrap();
    src.snapshot(&["src/fs/z@1"], false, &[]).unwrap();
    let replicated = |to: &str, from: Option<&str>| {
        let all = SendSpec { replicate: true, intermediate: from.is_some(), ..SendSpec::default() };
        send(&src, &SendSpec { to: to.into(), from: from.map(str::to_owned), ..all })
    };
    let force = ReceiveOptions { force: true, ..ReceiveOptions::default() };
    receive(&dst, &replicated("src/fs@1", None), "dst/fs", &force).unwrap();
    // Two change names with each other, one moves, one is destroyed, snapshots go and are renamed, the clone becomes the origin.
    src.rename_dataset("src/fs/a", "src/fs/x").unwrap();
    src.rename_dataset("src/fs/d", "src/fs/a").unwrap();
    src.rename_dataset("src/fs/x", "src/fs/d").unwrap();
    src.rename_dataset("src/fs/b/c", "src/fs/a/c").unwrap();
    src.destroy_snapshots(&["src/fs/e@0", "src/fs/e@1", "src/fs/b@0"], false).unwrap();
    src.destroy_dataset("src/fs/e").unwrap();
    src.rename_snapshot("src/fs/d@0", "zero", false).unwrap();
    drop(one);
    src.promote("src/fs/z").unwrap();
    src.create_dataset("src/fs/new", &[], &mut master_node).unwrap();
    src.snapshot(&["src/fs@2"], true, &[]).unwrap();
    dst.create_dataset("dst/fs/mine", &[], &mut master_node).unwrap();
    dst.snapshot(&["dst/fs/a@mine"], false, &[]).unwrap();
    let stream = replicated("src/fs@2", Some("src/fs@1"));
    let gently = receive(&dst, &stream, "dst/fs", &ReceiveOptions::default());
    assert!(matches!(gently, Ok(()) | Err(Error::Modified)), "{gently:?}");
    assert!(names(&dst).contains(&"dst/fs/mine".into()), "nothing is destroyed without being asked to");
    receive(&dst, &stream, "dst/fs", &force).unwrap();
    let there: Vec<String> = names(&src).into_iter().map(|n| n.replace("src/", "dst/")).collect();
    assert_eq!(names(&dst), there);
    assert_eq!(origin(&dst, "dst/fs").as_deref(), Some("dst/fs/z@0"));
    assert_eq!(origin(&dst, "dst/fs/z"), None);
    for name in names(&src).iter().filter(|name| name.contains('@')) {
        assert_same((&src, name), (&dst, &name.replace("src/", "dst/")), name);
    }
    assert_clean(&dst);
    [src, dst].iter().for_each(|spa| spa.export().unwrap());
}

/// Nothing is received over what is in use, and it is said before the stream is read.
#[test]
fn what_is_open_is_not_replaced() {
    let (src, full, incremental) = two_streams(4);
    let (_, dst) = pool("dst");
    receive(&dst, &full, "dst/fs", &ReceiveOptions::default()).unwrap();
    let before = state(&dst);
    let user = dst.open_dataset("dst/fs").unwrap();
    let begin = &incremental[..RECORD_SIZE];
    assert_eq!(receive(&dst, begin, "dst/fs", &ReceiveOptions::default()), Err(Error::Busy));
    assert_eq!(receive(&dst, &incremental, "dst/fs", &ReceiveOptions::default()), Err(Error::Busy));
    drop(user);
    assert!(state(&dst) == before);
    receive(&dst, &incremental, "dst/fs", &ReceiveOptions::default()).unwrap();
    assert_same((&src, "src/fs@b"), (&dst, "dst/fs"), "the head");
    assert_clean(&dst);
    [src, dst].iter().for_each(|spa| spa.export().unwrap());
}

#[test]
fn what_is_half_received_has_no_snapshots() {
    let (src, full, _) = two_streams(6);
    let (_, dst) = pool("dst");
    let resumable = ReceiveOptions { resumable: true, ..ReceiveOptions::default() };
    let cut = receive(&dst, &full[..full.len() / 2], "dst/fs", &resumable);
    assert_eq!(cut, Err(Error::StreamCut));
    assert_eq!(dst.snapshot(&["dst/fs@x"], false, &[]), Err(Error::Busy));
    assert_eq!(dst.snapshot(&["dst/fs@x"], true, &[]), Err(Error::Busy));
    dst.snapshot(&["dst@x"], true, &[]).unwrap();
    let all: Vec<String> = dst.datasets().unwrap().into_iter().map(|d| d.name).collect();
    assert_eq!(all, ["dst", "dst@x", "dst/fs"]);
    dst.create_dataset("dst/fs/below", &[], &mut nothing).unwrap();
    assert_eq!(dst.abort_receive("dst/fs"), Err(Error::NotEmpty));
    dst.destroy_dataset("dst/fs/below").unwrap();
    dst.abort_receive("dst/fs").unwrap();
    assert_clean(&dst);
    [src, dst].iter().for_each(|spa| spa.export().unwrap());
}

#[test]
fn a_full_stream_does_not_replace_a_clone() {
    let (src, full, _) = two_streams(8);
    let (_, dst) = pool("dst");
    dst.create_dataset("dst/a", &[], &mut nothing).unwrap();
    dst.snapshot(&["dst/a@s"], false, &[]).unwrap();
    dst.clone_snapshot("dst/a@s", "dst/clone", &[]).unwrap();
    let force = ReceiveOptions { force: true, ..ReceiveOptions::default() };
    assert_eq!(receive(&dst, &full[..RECORD_SIZE], "dst/clone", &force), Err(Error::Exists));
    // What was a clone and has given its origin up is none.
    dst.promote("dst/clone").unwrap();
    assert_eq!(receive(&dst, &full, "dst/a", &force), Err(Error::Exists));
    receive(&dst, &full, "dst/other", &force).unwrap();
    assert_clean(&dst);
    [src, dst].iter().for_each(|spa| spa.export().unwrap());
}

#[test]
fn a_head_that_lost_the_base_to_a_promotion_is_not_replaced() {
    let (src, full, incremental) = two_streams(3);
    let (_, dst) = pool("dst");
    receive(&dst, &full, "dst/fs", &ReceiveOptions::default()).unwrap();
    dst.snapshot(&["dst/fs@newer"], false, &[]).unwrap();
    let options = ReceiveOptions { resumable: true, force: true, ..ReceiveOptions::default() };
    let cut = receive(&dst, &incremental[..incremental.len() / 2], "dst/fs", &options);
    assert_eq!(cut, Err(Error::StreamCut));
    dst.clone_snapshot("dst/fs@newer", "dst/clone", &[]).unwrap();
    dst.promote("dst/clone").unwrap();
    let token = ResumeToken::parse(&dst.resume_token("dst/fs").unwrap().unwrap()).unwrap();
    let rest = SendSpec { resume: Some(token.point), ..spec(&token.to_name, Some("src/fs@a"), token.blocks) };
    assert_eq!(receive(&dst, &send(&src, &rest), "dst/fs", &options), Err(Error::NoBase));
    assert!(dst.datasets().unwrap().iter().any(|d| d.name == "dst/clone@newer"));
    dst.sync().unwrap();
    if dst.resume_token("dst/fs").unwrap().is_some() {
        dst.abort_receive("dst/fs").unwrap();
    }
    assert_clean(&dst);
    [src, dst].iter().for_each(|spa| spa.export().unwrap());
}

#[test]
fn limits_of_the_target_hold_for_what_is_received() {
    let (src, full, incremental) = two_streams(9);
    let (_, dst) = pool("dst");
    let referenced = |name: &str| dst.figures(name).unwrap().space.referenced;
    for name in ["dst/free", "dst/fs"] {
        receive(&dst, &full, name, &ReceiveOptions::default()).unwrap();
    }
    receive(&dst, &incremental, "dst/free", &ReceiveOptions::default()).unwrap();
    let set = |property: Property, value: u64| {
        dst.set_property("dst/fs", &property, &PropertyValue::Number(value)).unwrap();
    };
    let before = state(&dst);
    assert!(referenced("dst/fs") < referenced("dst/free"), "the seed is one with which the source grows");
    set(Property::RefQuota, referenced("dst/free") - 1);
    assert_eq!(receive(&dst, &incremental, "dst/fs", &ReceiveOptions::default()), Err(Error::Quota));
    assert!(state(&dst) == before);
    set(Property::RefQuota, referenced("dst/free"));
    receive(&dst, &incremental, "dst/fs", &ReceiveOptions::default()).unwrap();
    assert_same((&src, "src/fs@b"), (&dst, "dst/fs@b"), "the head");
    assert_clean(&dst);
    [src, dst].iter().for_each(|spa| spa.export().unwrap());
}

#[test]
fn a_whole_stream_does_not_take_the_place_of_a_clone() {
    let (_disk, spa) = pool("tank");
    spa.create_dataset("tank/a", &[], &mut master_node).unwrap();
    spa.snapshot(&["tank/a@1"], false, &[]).unwrap();
    spa.clone_snapshot("tank/a@1", "tank/clone", &[]).unwrap();
    spa.create_dataset("tank/plain", &[], &mut master_node).unwrap();
    let stream = send(&spa, &spec("tank/a@1", None, BlockOptions::default()));
    let force = ReceiveOptions { force: true, ..ReceiveOptions::default() };
    assert_eq!(receive(&spa, &stream, "tank/clone", &force), Err(Error::Exists));
    receive(&spa, &stream, "tank/plain", &force).unwrap();
    assert_eq!(origin(&spa, "tank/clone").as_deref(), Some("tank/a@1"));
    assert_clean(&spa);
}

/// Compressed blocks stay as they were sent, whatever the receiver's properties are; what is written later follows those.
#[test]
fn compressed_blocks_are_kept() {
    let (_, src) = pool("src");
    let (_, dst) = pool("dst");
    let gzip = [(Property::Compression, PropertyValue::Number(10))];
    src.create_dataset("src/fs", &gzip, &mut master_node).unwrap();
    let off = PropertyValue::Number(2);
    dst.set_property("dst", &Property::Compression, &off).unwrap();
    let mut one = source(&src, 9);
    (0..60).for_each(|_| one.step());
    src.snapshot(&["src/fs@a"], false, &[]).unwrap();
    let referenced = |spa: &Arc<Spa>, name: &str| spa.figures(name).unwrap().space.referenced;
    for (compressed, target) in [(true, "dst/kept"), (false, "dst/plain")] {
        let blocks = BlockOptions { large: false, compressed, embedded: true };
        receive(&dst, &send(&src, &spec("src/fs@a", None, blocks)), target, &ReceiveOptions::default())
            .unwrap();
        assert_same((&src, "src/fs@a"), (&dst, &format!("{target}@a")), target);
    }
    let [there, kept, plain] =
        [referenced(&src, "src/fs@a"), referenced(&dst, "dst/kept@a"), referenced(&dst, "dst/plain@a")];
    assert!(kept.abs_diff(there) < there / 10, "{kept} of {there}");
    assert!(plain > kept + kept / 4, "{plain} is not much more than {kept}");
    assert_clean(&dst);
    // A block that is changed is one like any other.
    let objset = dst.open_dataset("dst/kept").unwrap().objset();
    let id = objset.next_object(ObjectId(2)).unwrap().unwrap();
    let object = objset.hold(id).unwrap();
    let tx = DmuTx::begin(&objset, TxSpace::write(4096)).unwrap();
    object.write_slice(&tx, 10, b"changed").unwrap();
    drop(tx);
    assert_clean(&dst);
    assert_eq!(object.read_vec(10, 7).unwrap(), b"changed");
    drop((one, object, objset));
    [src, dst].iter().for_each(|spa| spa.export().unwrap());
}
