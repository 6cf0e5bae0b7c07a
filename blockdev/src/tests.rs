//! Partition tables, windows and middleware, on a plain disk of bytes.
extern crate std;

use crate::gpt::{Entry, Guid, TYPE_BIOS_BOOT, TYPE_ZFS, Table};
use crate::middleware::{Fault, Faulty, Traced};
use crate::{BlockDevice, Error, Geometry, IoWait, Op, Partition, QueueFull, Request, WriteCache};
use abd::{Abd, AbdMut};
use core::sync::atomic::{AtomicUsize, Ordering};
use rt_std as _;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// Bytes as a disk; refuses the first `nr_full` submissions.
#[derive(Debug)]
struct Plain {
    bytes: Mutex<Vec<u8>>,
    block: u32,
    nr_full: AtomicUsize,
}

impl Plain {
    fn new(len: usize, block: u32) -> Arc<Self> {
        Arc::new(Self { bytes: Mutex::new(std::vec![0; len]), block, nr_full: AtomicUsize::new(0) })
    }
}

impl BlockDevice for Plain {
    fn geometry(&self) -> Geometry {
        Geometry {
            logical_block_size: self.block,
            physical_block_size: self.block,
            capacity: self.bytes.lock().expect("lock").len() as u64,
            nr_queues: 1,
            max_transfer: 1 << 20,
            max_segments: 64,
            has_fua: false,
            discard: None,
            write_zeroes: None,
            write_cache: WriteCache::None,
            is_read_only: false,
        }
    }

    fn submit(&self, _queue: usize, request: Request) -> Result<(), QueueFull> {
        if self.nr_full.load(Ordering::SeqCst) > 0 {
            self.nr_full.fetch_sub(1, Ordering::SeqCst);
            return Err(QueueFull(request));
        }
        let mut bytes = self.bytes.lock().expect("lock");
        let Request { op, done } = request;
        match op {
            Op::Read { offset, mut buf } => {
                let at = offset as usize;
                buf.write_at(0, &bytes[at..at + buf.len()]);
                done.complete(Ok(()), Some(buf));
            }
            Op::Write { offset, data, .. } => {
                let at = offset as usize;
                bytes[at..at + data.len()].copy_from_slice(&data.to_contiguous());
                done.complete(Ok(()), None);
            }
            _ => done.complete(Ok(()), None),
        }
        Ok(())
    }

    fn poll(&self, _queue: usize) -> usize {
        0
    }
}

fn table() -> Table {
    let entry = |kind, nr: u8, start, len, name: &str| Entry {
        kind,
        id: Guid::from_random([nr; 16]),
        start,
        len,
        name: name.into(),
    };
    Table {
        disk_id: Guid::from_random([9; 16]),
        entries: std::vec![
            entry(TYPE_BIOS_BOOT, 1, 1 << 20, 1 << 20, "boot"),
            entry(TYPE_ZFS, 2, 2 << 20, 5 << 20, "zfs \u{e9}"),
        ],
    }
}

#[test]
fn a_table_reads_back_from_either_copy() {
    for block in [512, 4096] {
        let disk = Plain::new(8 << 20, block);
        assert_eq!(Table::read(&*disk), Ok(None));
        table().write(&*disk, b"boot code").expect("write");
        assert_eq!(Table::read(&*disk), Ok(Some(table())));
        let flip = |at: usize| disk.bytes.lock().expect("lock")[at] ^= 1;
        assert_eq!(disk.bytes.lock().expect("lock")[..9], *b"boot code");
        assert_eq!(disk.bytes.lock().expect("lock")[510..512], [0x55, 0xaa]);
        flip(2 * block as usize + 5);
        assert_eq!(Table::read(&*disk), Ok(Some(table())), "the backup");
        flip((8 << 20) - block as usize + 40);
        assert_eq!(Table::read(&*disk), Ok(None));
        flip(2 * block as usize + 5);
        assert_eq!(Table::read(&*disk), Ok(Some(table())), "the primary");
    }
}

#[test]
fn tables_that_overlap_are_not_written() {
    let disk = Plain::new(8 << 20, 512);
    for (start, len) in
        [(0, 512), (512 * 33, 512), (2 << 20, 512), (7 << 20, 1 << 20), (7 << 20, 100), (7 << 20, 0)]
    {
        let mut table = table();
        table.entries.push(Entry { start, len, ..table.entries[0].clone() });
        assert_eq!(table.write(&*disk, &[]), Err(Error::Invalid), "{start} {len}");
    }
    assert_eq!(table().write(&*disk, &[0; 441]), Err(Error::Invalid));
    assert_eq!(table().write(&*Plain::new(4096, 512), &[]), Err(Error::Invalid));
}

#[test]
fn guids_print_as_people_write_them() {
    assert_eq!(std::format!("{TYPE_ZFS}"), "6a898cc3-1dd2-11b2-99a6-080020736631");
    assert_eq!(std::format!("{TYPE_BIOS_BOOT}"), "21686148-6449-6e6f-744e-656564454649");
}

proptest::proptest! {
    #[test]
    fn damaged_tables_never_panic(at in 0_usize..20_000, value: u8, tail in 0_usize..20_000) {
        let disk = Plain::new(8 << 20, 512);
        table().write(&*disk, &[]).expect("write");
        {
            let mut bytes = disk.bytes.lock().expect("lock");
            bytes[at] = value;
            let end = bytes.len();
            bytes[end - 1 - tail] = value;
        }
        let _ = Table::read(&*disk);
    }
}

#[test]
fn a_partition_is_a_window() {
    let disk = Plain::new(1 << 20, 512);
    let part = Partition::new(disk.clone(), 4096, 8192).expect("inside");
    part.write(512, Abd::copy_from(&[5; 512])).expect("write");
    assert_eq!(disk.bytes.lock().expect("lock")[4608..5120], [5; 512]);
    assert_eq!(part.read(512, 512).expect("read").as_slice(), Some(&[5; 512][..]));
    assert_eq!(part.read(8192, 512).expect_err("outside"), Error::Invalid);
    assert_eq!(part.read(u64::MAX - 100, 512).expect_err("overflow"), Error::Invalid);
    assert!(part.flush().is_ok());
    // A request that did not fit comes back with the offset it had.
    disk.nr_full.store(3, Ordering::SeqCst);
    part.write(1024, Abd::copy_from(&[6; 512])).expect("after retries");
    assert_eq!(disk.bytes.lock().expect("lock")[5120], 6);
    for (start, len) in [(1 << 20, 512), (100, 512), (0, 100), (u64::MAX, 512)] {
        assert!(Partition::new(disk.clone(), start, len).is_err());
    }
}

#[test]
fn a_traced_device_counts_and_tells() {
    let disk = Plain::new(1 << 20, 512);
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = events.clone();
    let traced = Traced::with_listener(disk.clone(), move |e| {
        log.lock().expect("lock").push((e.kind, e.offset, e.len));
    });
    disk.nr_full.store(2, Ordering::SeqCst);
    traced.write(512, Abd::zeroed(1024)).expect("after retries");
    traced.read(0, 512).expect("read");
    traced.flush().expect("flush");
    assert_eq!(*events.lock().expect("lock"), [('W', 512, 1024), ('R', 0, 512), ('F', 0, 0)]);
    let counts = traced.counts();
    assert_eq!((counts.reads, counts.writes, counts.written_bytes, counts.flushes), (1, 1, 1024, 1));
}

#[test]
fn a_faulty_device_fails_what_it_is_told_to() {
    let disk = Plain::new(1 << 20, 512);
    let faulty = Faulty::new(disk.clone(), |op| match op {
        Op::Write { offset: 0, .. } => Some(Fault::Fail(Error::NoSpace)),
        Op::Write { offset: 512, .. } => Some(Fault::Lose),
        Op::Write { offset: 1024, .. } => Some(Fault::Damage(3)),
        Op::Read { offset: 2048, .. } => Some(Fault::Fail(Error::Io)),
        _ => None,
    });
    assert_eq!(faulty.write(0, Abd::copy_from(&[1; 512])), Err(Error::NoSpace));
    faulty.write(512, Abd::copy_from(&[1; 512])).expect("lost");
    faulty.write(1024, Abd::copy_from(&[1; 512])).expect("damaged");
    faulty.write(1536, Abd::copy_from(&[1; 512])).expect("good");
    let bytes = disk.bytes.lock().expect("lock").clone();
    assert_eq!((bytes[0], bytes[512], bytes[1024], bytes[1027], bytes[1536]), (0, 0, 1, 0xfe, 1));
    let wait = IoWait::new();
    let op = Op::Read { offset: 2048, buf: AbdMut::zeroed(512) };
    faulty.submit_blocking(0, Request { op, done: wait.completion(0) });
    let done = wait.wait().pop().expect("one");
    assert_eq!((done.result, done.buf.is_some()), (Err(Error::Io), true));
}
