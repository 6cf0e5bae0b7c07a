//! The driver against a model of the device that also misbehaves.
extern crate std;

use crate::config::Features;
use crate::model::{HostDma, Misdeed, Model, ModelTransport, Traits};
use crate::{Disk, InitError, Options, Patience};
use abd::{Abd, AbdMut};
use blockdev::{BlockDevice, Error, IoWait, Op, Request, WriteCache};
use core::sync::atomic::Ordering;
use core::time::Duration;
use rt_std as _;
use std::sync::{Arc, Weak};
use std::vec::Vec;

const CAPACITY: usize = 8 << 20;

pub(crate) fn all_features() -> u64 {
    Features::all().bits() & !Features::READ_ONLY.bits()
}

pub(crate) fn traits() -> Traits {
    let mut config = std::vec![0; 60];
    config[..8].copy_from_slice(&(CAPACITY as u64 / 512).to_le_bytes());
    config[8..12].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    config[12..16].copy_from_slice(&126_u32.to_le_bytes());
    config[20..24].copy_from_slice(&512_u32.to_le_bytes());
    config[24] = 3;
    config[32] = 1;
    config[34..36].copy_from_slice(&2_u16.to_le_bytes());
    config[36..40].copy_from_slice(&4096_u32.to_le_bytes());
    config[44..48].copy_from_slice(&8_u32.to_le_bytes());
    config[48..52].copy_from_slice(&4096_u32.to_le_bytes());
    Traits {
        features: all_features(),
        is_legacy: false,
        queue_size: 256,
        config,
        capacity: CAPACITY,
        resets_max: usize::MAX,
    }
}

/// A driver with its completion threads and the device behind it.
pub(crate) struct Bench {
    pub(crate) model: Arc<Model>,
    dma: Arc<HostDma>,
    pub(crate) disk: Arc<Disk<ModelTransport, HostDma>>,
    threads: Vec<rt::JoinHandle>,
}

impl Bench {
    pub(crate) fn new(traits: Traits) -> Self {
        Self::with_memory(traits, HostDma::default())
    }

    fn with_memory(traits: Traits, dma: HostDma) -> Self {
        Self::with_patience(traits, dma, None)
    }

    fn with_patience(traits: Traits, dma: HostDma, patience: Option<Patience>) -> Self {
        let (model, dma) = (Model::new(traits), Arc::new(dma));
        let options = Options { queues_max: 4, patience, ..Options::default() };
        let disk = Disk::new(ModelTransport(model.clone()), dma.clone(), options).expect("device");
        let weak: Weak<Disk<ModelTransport, HostDma>> = Arc::downgrade(&disk);
        model.connect(std::boxed::Box::new(move |whom| {
            if let Some(disk) = weak.upgrade() {
                match whom {
                    Some(queue) => disk.on_interrupt(queue),
                    None => disk.on_config_interrupt(),
                }
            }
        }));
        let threads = (0..disk.nr_queues())
            .map(|q| {
                let disk = disk.clone();
                rt::spawn("completions", move || disk.completion_loop(q))
            })
            .collect();
        Self { model, dma, disk, threads }
    }

    pub(crate) fn run(&self, op: Op) -> Result<Option<AbdMut>, Error> {
        let wait = IoWait::new();
        let done = wait.completion(0);
        self.disk.submit_blocking(0, Request { op, done });
        wait.wait_one().map(|d| d.buf)
    }

    /// Ends everything; the pages of the device's memory that are still out.
    pub(crate) fn end(mut self) -> i64 {
        self.disk.close();
        self.threads.drain(..).for_each(rt::JoinHandle::join);
        self.model.close();
        let dma = self.dma.clone();
        drop(self);
        dma.nr_pages.load(Ordering::SeqCst)
    }
}

pub(crate) fn pattern(len: usize, salt: u8) -> Abd {
    Abd::copy_from(&(0..len).map(|i| (i / 7) as u8 ^ salt).collect::<Vec<u8>>())
}

fn round_trip(traits: Traits, dma: HostDma) {
    let bench = Bench::with_memory(traits, dma);
    let data = pattern(128 << 10, 3);
    bench.disk.write(4096, data.clone()).expect("write");
    bench.disk.flush().expect("flush");
    assert_eq!(bench.disk.read(4096, data.len()).expect("read").freeze(), data);
    assert_eq!(bench.model.medium(4096, data.len()), data.to_vec());
    bench.run(Op::WriteZeroes { offset: 4096, len: 8192 }).expect("zeroes");
    assert_eq!(bench.model.medium(4096, 8192), std::vec![0; 8192]);
    bench.run(Op::Discard { offset: 16384, len: 4096 }).expect("discard");
    assert_eq!(bench.model.nr_flushes.load(Ordering::SeqCst), 1);
    assert_eq!(bench.end(), 0);
}

#[test]
fn data_goes_both_ways() {
    round_trip(traits(), HostDma::default());
}

#[test]
fn data_goes_both_ways_in_many_segments() {
    round_trip(traits(), HostDma { is_fragmented: true, ..HostDma::default() });
}

#[test]
fn data_goes_both_ways_without_indirect_descriptors_and_event_index() {
    let plain = Features::INDIRECT | Features::EVENT_INDEX;
    let t = Traits { features: all_features() & !plain.bits(), ..traits() };
    round_trip(t.clone(), HostDma::default());
    round_trip(t, HostDma { is_fragmented: true, ..HostDma::default() });
}

#[test]
fn data_goes_both_ways_on_the_older_interface() {
    let t = Traits { is_legacy: true, queue_size: 128, ..traits() };
    round_trip(t, HostDma { is_fragmented: true, ..HostDma::default() });
}

#[test]
fn small_segments_are_respected() {
    let mut t = traits();
    t.config[8..12].copy_from_slice(&4096_u32.to_le_bytes());
    let bench = Bench::new(t);
    assert_eq!(bench.disk.geometry().max_transfer, 59 * 4096);
    let data = pattern(59 * 4096, 1);
    bench.disk.write(0, data.clone()).expect("write");
    assert_eq!(bench.model.medium(0, data.len()), data.to_vec());
    bench.end();
}

#[test]
fn the_geometry_is_what_the_device_says() {
    let bench = Bench::new(traits());
    let g = bench.disk.geometry();
    assert_eq!((g.capacity, g.logical_block_size, g.physical_block_size), (CAPACITY as u64, 512, 4096));
    assert_eq!((g.nr_queues, g.write_cache, g.is_read_only), (2, WriteCache::Volatile, false));
    assert_eq!(g.discard.map(|d| (d.max_len, d.granularity)), Some((2 << 20, 4096)));
    bench.end();
}

#[test]
fn the_write_cache_is_told_truthfully() {
    let cache = |features, wce: u8| {
        let mut t = Traits { features, ..traits() };
        t.config[32] = wce;
        let bench = Bench::new(t);
        let answer = (bench.disk.geometry().write_cache, bench.disk.flush());
        bench.end();
        answer
    };
    let all = all_features();
    let no_wce = all & !Features::CONFIG_WCE.bits();
    assert_eq!(cache(all, 0), (WriteCache::None, Ok(())));
    assert_eq!(cache(all, 1), (WriteCache::Volatile, Ok(())));
    assert_eq!(cache(no_wce, 0), (WriteCache::Volatile, Ok(())));
    let none = no_wce & !Features::FLUSH.bits();
    assert_eq!(cache(none, 0), (WriteCache::Unknown, Err(Error::Unsupported)));
}

#[test]
fn nonsense_in_the_configuration_is_survived() {
    for byte in [0, 0xff, 0x80] {
        let mut t = traits();
        t.config.fill(byte);
        t.config[34..36].copy_from_slice(&1_u16.to_le_bytes());
        let bench = Bench::new(t);
        let g = bench.disk.geometry();
        assert!(g.logical_block_size.is_power_of_two() && g.max_transfer > 0 && g.max_segments > 0, "{g:?}");
        assert!(bench.disk.read(g.capacity, 512).is_err());
        bench.end();
    }
}

#[test]
fn requests_that_do_not_fit_never_reach_the_device() {
    let bench = Bench::new(traits());
    let end = CAPACITY as u64;
    for (offset, len) in
        [(end, 512), (end - 512, 1024), (1, 512), (0, 100), (u64::MAX - 511, 512), (0, 2 << 20)]
    {
        assert_eq!(bench.disk.read(offset, len).expect_err("does not fit"), Error::Invalid);
    }
    let too_long = Op::Discard { offset: 0, len: 4 << 20 };
    assert_eq!(bench.run(too_long).expect_err("too long"), Error::Invalid);
    assert_eq!(bench.model.nr_notifications.load(Ordering::SeqCst), 0);
    bench.end();
    let bench =
        Bench::new(Traits { features: Features::VERSION_1.bits() | Features::READ_ONLY.bits(), ..traits() });
    assert_eq!(bench.disk.write(0, Abd::zeroed(512)).expect_err("read-only"), Error::ReadOnly);
    let op = Op::WriteZeroes { offset: 0, len: 512 };
    assert_eq!(bench.run(op).expect_err("no such feature"), Error::Unsupported);
    bench.end();
}

#[test]
fn a_full_queue_hands_requests_back_and_all_complete_once() {
    let bench = Bench::new(traits());
    bench.model.pause(true);
    let wait = IoWait::new();
    let mut nr_accepted = 0;
    loop {
        let op =
            Op::Write { offset: nr_accepted * 512, data: pattern(512, nr_accepted as u8), is_fua: false };
        match bench.disk.submit(0, Request { op, done: wait.completion(nr_accepted) }) {
            Ok(()) => nr_accepted += 1,
            Err(blockdev::QueueFull(request)) => {
                request.done.complete(Ok(()), None);
                break;
            }
        }
    }
    assert_eq!(nr_accepted, 128);
    bench.model.pause(false);
    let mut tags: Vec<u64> = wait.wait().into_iter().map(|d| d.tag).collect();
    tags.sort_unstable();
    assert!(tags.into_iter().eq(0..=nr_accepted));
    for i in 0..nr_accepted {
        assert_eq!(bench.model.medium(i as usize * 512, 512), pattern(512, i as u8).to_vec());
    }
    bench.end();
}

#[test]
fn many_threads_on_all_queues() {
    let bench = Arc::new(Bench::with_memory(traits(), HostDma { is_fragmented: true, ..HostDma::default() }));
    let threads: Vec<_> = (0..4_u64)
        .map(|t| {
            let bench = bench.clone();
            std::thread::spawn(move || {
                for i in 0..200_u64 {
                    let (at, data) = ((t * 200 + i) * 8192, pattern(8192, (t * 7 + i) as u8));
                    let wait = IoWait::new();
                    let op = Op::Write { offset: at, data: data.clone(), is_fua: false };
                    bench.disk.submit_blocking(t as usize, Request { op, done: wait.completion(0) });
                    let is_polling = i % 2 == 0;
                    let done = if is_polling {
                        wait.wait_polling(&*bench.disk, t as usize, Duration::from_micros(200))
                    } else {
                        wait.wait()
                    };
                    assert!(done[0].result.is_ok());
                    assert_eq!(bench.disk.read(at, 8192).expect("read").freeze(), data);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("thread"));
    let bench = Arc::into_inner(bench).expect("last");
    assert_eq!(bench.end(), 0);
}

#[test]
fn a_poller_needs_no_interrupts() {
    for features in [all_features(), all_features() & !Features::EVENT_INDEX.bits()] {
        let bench = Bench::new(Traits { features, ..traits() });
        bench.disk.poll_begin(0);
        for i in 0..50 {
            let wait = IoWait::new();
            let op = Op::Write { offset: i * 512, data: pattern(512, 1), is_fua: false };
            bench.disk.submit_blocking(0, Request { op, done: wait.completion(0) });
            let done = wait.wait_polling(&*bench.disk, 0, Duration::from_secs(10));
            assert!(done[0].result.is_ok());
        }
        assert_eq!(bench.model.nr_interrupts.load(Ordering::SeqCst), 0);
        bench.disk.poll_end(0);
        bench.disk.write(0, pattern(512, 2)).expect("by interrupt");
        assert!(bench.model.nr_interrupts.load(Ordering::SeqCst) > 0);
        bench.end();
    }
}

#[test]
fn a_lost_interrupt_is_found() {
    let bench = Bench::new(traits());
    bench.model.misbehave(&[Misdeed::NoInterrupt]);
    bench.disk.write(0, pattern(512, 1)).expect("write");
    bench.end();
}

#[test]
fn a_missed_notification_is_repeated() {
    let bench = Bench::new(traits());
    bench.model.is_deaf.store(true, Ordering::SeqCst);
    bench.disk.write(0, pattern(512, 1)).expect("write");
    bench.end();
}

#[test]
fn error_statuses_are_mapped() {
    let bench = Bench::new(traits());
    for (status, error) in [(1, Error::Io), (2, Error::Unsupported), (3, Error::Io), (77, Error::Io)] {
        bench.model.misbehave(&[Misdeed::Status(status)]);
        assert_eq!(bench.disk.write(0, pattern(512, 1)).expect_err("status"), error);
    }
    bench.model.misbehave(&[Misdeed::NoStatus]);
    assert_eq!(bench.disk.read(0, 512).expect_err("no status"), Error::Io);
    bench.model.misbehave(&[Misdeed::ShortLength]);
    assert_eq!(bench.disk.read(0, 512).expect_err("short"), Error::Io);
    assert!(bench.disk.read(0, 512).is_ok());
    assert_eq!(bench.model.nr_resets.load(Ordering::SeqCst), 1);
    bench.end();
}

#[test]
fn a_device_that_breaks_the_rules_is_reset_and_works_again() {
    for misdeed in [Misdeed::IdOutOfRange, Misdeed::IdNotInFlight, Misdeed::IndexJump, Misdeed::NeedsReset] {
        let bench = Bench::new(traits());
        bench.disk.write(0, pattern(4096, 9)).expect("write");
        bench.model.misbehave(&[misdeed]);
        assert_eq!(bench.disk.read(0, 512).expect_err("in flight"), Error::Io, "{misdeed:?}");
        // What was in the device's cache may be lost: the next flush says so, the one after that works.
        assert_eq!(bench.disk.flush().expect_err("lost writes"), Error::Io, "{misdeed:?}");
        bench.disk.flush().expect("flush");
        assert_eq!(bench.disk.read(0, 4096).expect("read").freeze(), pattern(4096, 9), "{misdeed:?}");
        assert_eq!(bench.model.nr_resets.load(Ordering::SeqCst), 2, "{misdeed:?}");
        assert_eq!(bench.end(), 0);
    }
}

#[test]
fn a_double_completion_is_caught() {
    let bench = Bench::new(traits());
    bench.model.misbehave(&[Misdeed::Twice]);
    // Good or an error, depending on which of the two is seen first; never twice.
    let _ = bench.disk.read(0, 512);
    while bench.model.nr_resets.load(Ordering::SeqCst) < 2 {
        bench.disk.poll(0);
        let _ = bench.disk.read(0, 512);
    }
    assert!(bench.disk.read(0, 512).is_ok());
    bench.end();
}

#[test]
fn a_device_that_never_gets_well_is_given_up() {
    let bench = Bench::new(traits());
    bench.model.misbehave(&[Misdeed::IdOutOfRange; 32]);
    let mut errors = Vec::new();
    while errors.last() != Some(&Error::Gone) {
        errors.push(bench.disk.read(0, 512).expect_err("bad device"));
        assert!(errors.len() < 32);
    }
    assert_eq!(bench.disk.flush().expect_err("gone"), Error::Io);
    assert_eq!(bench.disk.flush().expect_err("gone"), Error::Gone);
    bench.end();
}

#[test]
fn a_device_that_does_not_reset_keeps_the_memory_it_may_write_to() {
    let bench = Bench::new(Traits { resets_max: 1, ..traits() });
    let nr_pages = bench.dma.nr_pages.load(Ordering::SeqCst);
    bench.model.misbehave(&[Misdeed::Silence, Misdeed::IdOutOfRange]);
    let silent = IoWait::new();
    let op = Op::Read { offset: 0, buf: AbdMut::zeroed(512) };
    bench.disk.submit_blocking(0, Request { op, done: silent.completion(0) });
    assert_eq!(bench.disk.read(0, 512).expect_err("bad device"), Error::Gone);
    let done = silent.wait().pop().expect("one");
    assert_eq!(done.result, Err(Error::Gone));
    assert!(done.buf.is_none(), "the device may still write to it");
    assert_eq!(bench.disk.read(0, 512).expect_err("gone"), Error::Gone);
    assert_eq!(bench.end(), nr_pages);
}

/// A request that is never answered ends in time, and the device works again.
#[test]
fn silence_leads_to_a_reset() {
    let start = std::time::Instant::now();
    let patience = Patience { limit: 1, clock: || Some(rt::now().0 / 1_000_000_000) };
    let bench = Bench::with_patience(traits(), HostDma::default(), Some(patience));
    bench.model.misbehave(&[Misdeed::Silence]);
    assert_eq!(bench.disk.read(0, 512).expect_err("silent"), Error::Timeout);
    assert!(start.elapsed() >= Duration::from_secs(1));
    bench.disk.write(0, pattern(512, 1)).expect("works again");
    // What was written before the reset may be lost.
    assert_eq!(bench.disk.flush().expect_err("unknown"), Error::Io);
    bench.disk.flush().expect("from here on");
    assert_eq!(bench.model.nr_resets.load(Ordering::SeqCst), 2);
    assert_eq!(bench.end(), 0);
}

/// A machine's clock may run ahead of its host: time must pass for the device too.
#[test]
fn a_clock_that_stands_still_gives_a_device_all_the_time() {
    let patience = Patience { limit: 1, clock: || Some(7) };
    let bench = Bench::with_patience(traits(), HostDma::default(), Some(patience));
    bench.model.misbehave(&[Misdeed::Silence]);
    let wait = IoWait::new();
    let op = Op::Read { offset: 0, buf: AbdMut::zeroed(512) };
    bench.disk.submit_blocking(0, Request { op, done: wait.completion(0) });
    let nr_before = bench.model.nr_notifications.load(Ordering::SeqCst);
    // Each look tells the device again; four of them are more than the limit.
    while bench.model.nr_notifications.load(Ordering::SeqCst) < nr_before + 4 {
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(bench.model.nr_resets.load(Ordering::SeqCst), 1);
    bench.end();
    assert_eq!(wait.wait_one().expect_err("closed"), Error::Gone);
}

#[test]
fn closing_fails_what_is_in_flight() {
    let bench = Bench::new(traits());
    bench.model.misbehave(&[Misdeed::Silence]);
    let wait = IoWait::new();
    let op = Op::Read { offset: 0, buf: AbdMut::zeroed(512) };
    bench.disk.submit_blocking(0, Request { op, done: wait.completion(0) });
    assert_eq!(bench.end(), 0);
    assert_eq!(wait.wait_one().expect_err("closed"), Error::Gone);
}

#[test]
fn what_is_no_block_device_is_refused() {
    let no_version = Traits { features: Features::FLUSH.bits(), ..traits() };
    let tiny = Traits { queue_size: 2, ..traits() };
    let stuck = Traits { resets_max: 0, ..traits() };
    for (traits, error) in
        [(no_version, InitError::Features), (tiny, InitError::Queue), (stuck, InitError::NoReset)]
    {
        let model = Model::new(traits);
        if error == InitError::NoReset {
            use crate::transport::Transport;
            ModelTransport(model.clone()).set_status(4);
        }
        let dma = Arc::new(HostDma::default());
        let result = Disk::new(ModelTransport(model.clone()), dma.clone(), Options::default());
        assert_eq!(result.expect_err("refused"), error);
        assert_eq!(dma.nr_pages.load(Ordering::SeqCst), 0);
        model.close();
    }
}
