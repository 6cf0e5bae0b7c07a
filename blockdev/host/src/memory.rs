//! A disk in memory, sparse, with the write cache of a real one.
//!
//! A completed write is in the cache; [`Op::Flush`] moves the cache to the medium; [`MemDisk::crash`] throws away
//! what a power cut could throw away. That is the whole point: code that forgets a flush fails its test here.
//!
//! Content is kept in reference-counted pages, so a second disk of the same content ([`MemDisk::snapshot`]) costs
//! one map, and the medium and the cache share what is equal.
//!
//! What it is not: fast (one lock), and not a model of a disk's timing. Requests complete inside `submit`.
use abd::Abd;
use blockdev::{BlockDevice, DiscardLimits, Error, Geometry, Op, QueueFull, Request, WriteCache};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

const PAGE: usize = 4096;
const PAGE_U64: u64 = PAGE as u64;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

type Page = Arc<[u8; PAGE]>;
type Pages = BTreeMap<u64, Page>;
type Hook = Arc<dyn Fn(&Op) -> Option<Error> + Send + Sync>;

/// What happened to a disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
}

/// What a power cut does to the writes that were completed but not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All are lost.
    DropAll,
    /// All have reached the medium.
    KeepAll,
    /// Each sector of each write reached the medium or did not, in any order: picked by the seed.
    Random(u64),
    /// As `Random`, but a write is kept or lost whole, and no write survives an earlier one that is lost.
    Prefix(u64),
}

struct CachedWrite {
    offset: u64,
    data: Abd,
}

#[derive(Default)]
struct State {
    /// What a read sees.
    current: Pages,
    /// What survives a power cut for certain.
    medium: Pages,
    /// Writes since the last flush, in order of completion.
    cache: Vec<CachedWrite>,
    stats: Stats,
    hook: Option<Hook>,
    is_dead: bool,
}

/// A disk in memory.
pub struct MemDisk {
    capacity: u64,
    block_size: u32,
    write_cache: WriteCache,
    is_read_only: bool,
    state: Mutex<State>,
}

impl MemDisk {
    /// A disk of `capacity` zero bytes with 512-byte blocks and a volatile write cache.
    pub fn new(capacity: u64) -> Self {
        Self::with(capacity, 512, WriteCache::Volatile)
    }

    /// A disk with another block size or another kind of cache. With [`WriteCache::None`] every completed write is
    /// on the medium; with [`WriteCache::Unknown`] a flush fails and nothing ever is.
    pub fn with(capacity: u64, block_size: u32, write_cache: WriteCache) -> Self {
        let capacity = capacity / u64::from(block_size) * u64::from(block_size);
        Self { capacity, block_size, write_cache, is_read_only: false, state: Mutex::default() }
    }

    /// A disk with the content of a file; its size is the file's, rounded up to a whole block.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let disk = Self::new(len.next_multiple_of(SECTOR as u64));
        let mut pages = Pages::new();
        let mut page = [0; PAGE];
        for index in 0..len.div_ceil(PAGE_U64) {
            let n = read_fully_at(&file, &mut page, index * PAGE_U64)?;
            page[n..].fill(0);
            if page.iter().any(|b| *b != 0) {
                pages.insert(index, Arc::new(page));
            }
        }
        let mut state = disk.lock();
        state.medium = pages.clone();
        state.current = pages;
        drop(state);
        Ok(disk)
    }

    /// Writes what a reader sees now to a sparse file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.capacity)?;
        let pages = self.lock().current.clone();
        for (index, page) in &pages {
            let at = index * PAGE_U64;
            let n = (self.capacity - at).min(PAGE_U64) as usize;
            file.write_all_at(&page[..n], at)?;
        }
        Ok(())
    }

    /// The same disk, refusing writes.
    pub fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// A second disk with the content a reader sees now, all of it on the medium.
    pub fn snapshot(&self) -> Self {
        let pages = self.lock().current.clone();
        let state = State { current: pages.clone(), medium: pages, ..State::default() };
        Self { state: Mutex::new(state), ..Self::with(self.capacity, self.block_size, self.write_cache) }
    }

    /// A second, larger disk with the content a reader sees now, and zeroes after it.
    pub fn grown(&self, capacity: u64) -> Self {
        let copy = self.snapshot();
        let state = State { current: copy.lock().current.clone(), ..State::default() };
        let state = State { medium: state.current.clone(), ..state };
        Self { state: Mutex::new(state), ..Self::with(capacity, self.block_size, self.write_cache) }
    }

    /// A second disk with the content this one would have after a power cut now. This one goes on.
    pub fn after_crash(&self, crash: Crash) -> Self {
        let state = self.lock();
        let mut pages = state.medium.clone();
        survive(&mut pages, &state.cache, crash);
        let state = State { current: pages.clone(), medium: pages, ..State::default() };
        Self { state: Mutex::new(state), ..Self::with(self.capacity, self.block_size, self.write_cache) }
    }

    /// A power cut now: unflushed writes are lost as `crash` says.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.lock();
        let mut pages = state.medium.clone();
        survive(&mut pages, &state.cache, crash);
        state.current = pages.clone();
        state.medium = pages;
        state.cache.clear();
    }

    /// From now on every request fails with [`Error::Gone`].
    pub fn kill(&self) {
        self.lock().is_dead = true;
    }

    /// Asks `hook` about every request first: the error it gives is the request's outcome and nothing else happens.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.lock().hook = hook;
    }

    /// Overwrites bytes behind everyone's back, as rot does.
    ///
    /// # Panics
    /// When the range is not on the disk.
    pub fn rot(&self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= self.capacity, "outside the disk");
        let state = &mut *self.lock();
        put(&mut state.current, offset, bytes);
        put(&mut state.medium, offset, bytes);
    }

    /// Bytes as a reader sees them, without counting as a read.
    ///
    /// # Panics
    /// When the range is not on the disk.
    pub fn peek(&self, offset: u64, len: usize) -> Vec<u8> {
        assert!(offset + len as u64 <= self.capacity, "outside the disk");
        let mut out = vec![0; len];
        get(&self.lock().current, offset, &mut out);
        out
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.lock().stats
    }

    /// Writes completed and not flushed.
    pub fn nr_unflushed(&self) -> usize {
        self.lock().cache.len()
    }

    /// Bytes of memory that hold content.
    pub fn allocated(&self) -> u64 {
        self.lock().current.len() as u64 * PAGE_U64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn check(&self, offset: u64, len: u64) -> Result<(), Error> {
        let block = u64::from(self.block_size);
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.capacity);
        if !is_inside || !offset.is_multiple_of(block) || !len.is_multiple_of(block) {
            return Err(Error::Invalid);
        }
        Ok(())
    }

    fn run(&self, op: &mut Op) -> Result<(), Error> {
        let hook = self.lock().hook.clone();
        if let Some(error) = hook.and_then(|hook| hook(op)) {
            return Err(error);
        }
        let state = &mut *self.lock();
        if state.is_dead {
            return Err(Error::Gone);
        }
        if self.is_read_only && !matches!(op, Op::Read { .. } | Op::Flush) {
            return Err(Error::ReadOnly);
        }
        match op {
            Op::Read { offset, buf } => {
                self.check(*offset, buf.len() as u64)?;
                state.stats.reads += 1;
                state.stats.read_bytes += buf.len() as u64;
                let mut at = *offset;
                for chunk in buf.chunks_mut() {
                    get(&state.current, at, chunk);
                    at += chunk.len() as u64;
                }
            }
            Op::Write { offset, data, .. } => {
                self.check(*offset, data.len() as u64)?;
                state.stats.writes += 1;
                state.stats.written_bytes += data.len() as u64;
                self.store(state, *offset, data.clone());
            }
            Op::Flush if self.write_cache == WriteCache::Unknown => return Err(Error::Unsupported),
            Op::Flush => {
                state.stats.flushes += 1;
                flush(state);
            }
            Op::Discard { offset, len } => {
                self.check(*offset, *len)?;
                state.stats.discards += 1;
                self.store_zeroes(state, *offset, *len);
            }
            Op::WriteZeroes { offset, len } => {
                self.check(*offset, *len)?;
                state.stats.writes += 1;
                self.store_zeroes(state, *offset, *len);
            }
        }
        Ok(())
    }

    fn store(&self, state: &mut State, offset: u64, data: Abd) {
        put_abd(&mut state.current, offset, &data);
        if self.write_cache == WriteCache::None {
            put_abd(&mut state.medium, offset, &data);
        } else {
            state.cache.push(CachedWrite { offset, data });
        }
    }

    fn store_zeroes(&self, state: &mut State, offset: u64, len: u64) {
        const STEP: u64 = 1 << 20;
        let zeroes = Abd::zeroed(len.min(STEP) as usize);
        let mut at = offset;
        while at < offset + len {
            let n = (offset + len - at).min(STEP);
            self.store(state, at, zeroes.slice(0..n as usize));
            at += n;
        }
    }
}

impl BlockDevice for MemDisk {
    fn geometry(&self) -> Geometry {
        let limits = Some(DiscardLimits { max_len: 1 << 30, granularity: self.block_size });
        Geometry {
            logical_block_size: self.block_size,
            physical_block_size: self.block_size,
            capacity: self.capacity,
            nr_queues: 1,
            max_transfer: 16 << 20,
            max_segments: 1024,
            has_fua: false,
            discard: limits,
            write_zeroes: limits,
            write_cache: self.write_cache,
            is_read_only: self.is_read_only,
        }
    }

    fn submit(&self, _queue: usize, request: Request) -> Result<(), QueueFull> {
        let Request { mut op, done } = request;
        let result = self.run(&mut op);
        let buf = match op {
            Op::Read { buf, .. } => Some(buf),
            _ => None,
        };
        done.complete(result, buf);
        Ok(())
    }

    fn poll(&self, _queue: usize) -> usize {
        0
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemDisk({} bytes)", self.capacity)
    }
}

fn flush(state: &mut State) {
    for write in state.cache.drain(..) {
        let first = write.offset / PAGE_U64;
        let end = (write.offset + write.data.len() as u64).div_ceil(PAGE_U64);
        // Everything in the cache is going to the medium, so whole pages of the newest content do.
        for index in first..end {
            match state.current.get(&index) {
                Some(page) => state.medium.insert(index, page.clone()),
                None => state.medium.remove(&index),
            };
        }
    }
}

/// Applies to `pages` those unflushed writes that survive.
fn survive(pages: &mut Pages, cache: &[CachedWrite], crash: Crash) {
    match crash {
        Crash::DropAll => {}
        Crash::KeepAll => cache.iter().for_each(|w| put_abd(pages, w.offset, &w.data)),
        Crash::Prefix(seed) => {
            let mut random = SplitMix(seed);
            let nr_kept = random.below(cache.len() as u64 + 1) as usize;
            cache[..nr_kept].iter().for_each(|w| put_abd(pages, w.offset, &w.data));
        }
        Crash::Random(seed) => {
            let mut random = SplitMix(seed);
            let mut order: Vec<&CachedWrite> = cache.iter().collect();
            for i in (1..order.len()).rev() {
                order.swap(i, random.below(i as u64 + 1) as usize);
            }
            for write in order {
                keep_some_sectors(pages, write, &mut random);
            }
        }
    }
}

fn keep_some_sectors(pages: &mut Pages, write: &CachedWrite, random: &mut SplitMix) {
    let fate = random.below(4);
    let data = write.data.to_contiguous();
    for (nr, sector) in data.chunks(SECTOR).enumerate() {
        let is_kept = match fate {
            0 => true,
            1 => false,
            _ => random.below(2) == 0,
        };
        if is_kept {
            put(pages, write.offset + (nr * SECTOR) as u64, sector);
        }
    }
}

fn put_abd(pages: &mut Pages, offset: u64, data: &Abd) {
    let mut at = offset;
    for chunk in data.chunks() {
        put(pages, at, chunk);
        at += chunk.len() as u64;
    }
}

fn put(pages: &mut Pages, offset: u64, bytes: &[u8]) {
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let (index, start) = (at / PAGE_U64, (at % PAGE_U64) as usize);
        let n = rest.len().min(PAGE - start);
        let (now, later) = rest.split_at(n);
        if n == PAGE && now.iter().all(|b| *b == 0) {
            pages.remove(&index);
        } else {
            let page = pages.entry(index).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[start..start + n].copy_from_slice(now);
        }
        rest = later;
        at += n as u64;
    }
}

fn get(pages: &Pages, offset: u64, out: &mut [u8]) {
    let (mut at, mut rest) = (offset, out);
    while !rest.is_empty() {
        let (index, start) = (at / PAGE_U64, (at % PAGE_U64) as usize);
        let n = rest.len().min(PAGE - start);
        let (now, later) = rest.split_at_mut(n);
        match pages.get(&index) {
            Some(page) => now.copy_from_slice(&page[start..start + n]),
            None => now.fill(0),
        }
        rest = later;
        at += n as u64;
    }
}

fn read_fully_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match file.read_at(&mut out[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// A small generator of reproducible numbers (splitmix64).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_two_writes() -> MemDisk {
        let disk = MemDisk::new(1 << 20);
        disk.write(0, Abd::copy_from(&[1; 4096])).expect("write");
        disk.flush().expect("flush");
        disk.write(0, Abd::copy_from(&[2; 512])).expect("write");
        disk.write(8192, Abd::copy_from(&[3; 512])).expect("write");
        disk
    }

    #[test]
    fn reads_see_the_cache_and_a_crash_loses_it() {
        let disk = disk_with_two_writes();
        assert_eq!(disk.nr_unflushed(), 2);
        assert_eq!(disk.peek(0, 513)[511..], [2, 1]);
        disk.crash(Crash::DropAll);
        assert_eq!(disk.peek(0, 512), vec![1; 512]);
        assert_eq!(disk.peek(8192, 512), vec![0; 512]);
        assert_eq!(disk.nr_unflushed(), 0);
    }

    #[test]
    fn a_flush_makes_the_cache_survive() {
        let disk = disk_with_two_writes();
        disk.flush().expect("flush");
        disk.crash(Crash::DropAll);
        assert_eq!(disk.peek(0, 512), vec![2; 512]);
        assert_eq!(disk.peek(8192, 512), vec![3; 512]);
        assert_eq!(disk.stats().flushes, 2);
    }

    #[test]
    fn a_random_crash_is_reproducible_and_mixes_whole_sectors() {
        let disk = MemDisk::new(1 << 20);
        for i in 0..64_u64 {
            disk.write(i * 4096, Abd::copy_from(&[i as u8 + 1; 4096])).expect("write");
        }
        let image = |seed| disk.after_crash(Crash::Random(seed)).peek(0, 64 * 4096);
        assert_eq!(image(7), image(7));
        assert_ne!(image(7), image(8));
        for (nr, sector) in image(9).chunks(512).enumerate() {
            let expected = (nr / 8) as u8 + 1;
            assert!(sector.iter().all(|b| *b == sector[0]) && (sector[0] == 0 || sector[0] == expected));
        }
    }

    #[test]
    fn a_prefix_crash_keeps_an_initial_part() {
        let disk = MemDisk::new(1 << 20);
        for i in 0..32_u64 {
            disk.write(i * 512, Abd::copy_from(&[1; 512])).expect("write");
        }
        for seed in 0..20 {
            let after = disk.after_crash(Crash::Prefix(seed)).peek(0, 32 * 512);
            let kept: Vec<u8> = after.chunks(512).map(|s| s[0]).collect();
            assert!(kept.is_sorted_by(|a, b| a >= b), "{kept:?}");
        }
    }

    #[test]
    fn requests_outside_or_unaligned_are_refused() {
        let disk = MemDisk::new(1 << 20);
        assert_eq!(disk.read(100, 512).expect_err("unaligned"), Error::Invalid);
        assert_eq!(disk.read((1 << 20) - 512, 1024).expect_err("past the end"), Error::Invalid);
        assert_eq!(disk.write(u64::MAX - 511, Abd::zeroed(512)).expect_err("overflow"), Error::Invalid);
    }

    #[test]
    fn hooks_and_death_give_errors() {
        let disk = MemDisk::new(1 << 20);
        disk.set_hook(Some(Arc::new(|op| matches!(op, Op::Write { .. }).then_some(Error::NoSpace))));
        assert_eq!(disk.write(0, Abd::zeroed(512)).expect_err("hook"), Error::NoSpace);
        assert!(disk.read(0, 512).is_ok());
        disk.kill();
        assert_eq!(disk.flush().expect_err("dead"), Error::Gone);
    }

    #[test]
    fn a_disk_that_cannot_flush_says_so() {
        let disk = MemDisk::with(1 << 20, 4096, WriteCache::Unknown);
        assert_eq!(disk.flush().expect_err("unknown"), Error::Unsupported);
        assert_eq!(disk.geometry().logical_block_size, 4096);
    }

    #[test]
    fn saving_and_loading_keeps_the_content() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("disk");
        let disk = disk_with_two_writes();
        disk.save(&path).expect("save");
        let again = MemDisk::from_file(&path).expect("load");
        assert_eq!(again.peek(0, 1 << 20), disk.peek(0, 1 << 20));
        assert_eq!(again.allocated(), 8192);
    }

    #[test]
    fn zeroes_and_discards_free_memory() {
        let disk = disk_with_two_writes();
        let wait = blockdev::IoWait::new();
        let done = wait.completion(0);
        let op = Op::WriteZeroes { offset: 0, len: 1 << 20 };
        disk.submit(0, Request { op, done }).expect("room");
        wait.wait_one().expect("done");
        assert_eq!(disk.allocated(), 0);
    }
}
