//! A host file or block device as a disk, or a window of one (a partition).
//!
//! Requests run on a few worker threads, so that many can be in flight and completions never run inside `submit`.
//! A flush is `fdatasync`: it covers every write that completed before it, because completed writes are in the
//! host's page cache by then.
use abd::{Abd, AbdMut};
use blockdev::{BlockDevice, Completion, DiscardLimits, Error, Geometry, Op, QueueFull, Request, WriteCache};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests waiting for a worker; more than that and `submit` reports a full queue.
const QUEUE_MAX: usize = 1024;
const TRANSFER_MAX: usize = 16 << 20;

/// How to open a file as a disk.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    is_read_only: bool,
    is_locked: bool,
    size: Option<u64>,
    window: Option<(u64, u64)>,
    block_size: u32,
    nr_workers: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        let nr_cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            is_read_only: false,
            is_locked: true,
            size: None,
            window: None,
            block_size: 512,
            nr_workers: nr_cpus.clamp(2, 8),
        }
    }
}

impl OpenOptions {
    /// For reading and writing, the whole file, locked against a second user, 512-byte blocks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses writes.
    #[must_use]
    pub fn read_only(mut self, yes: bool) -> Self {
        self.is_read_only = yes;
        self
    }

    /// Takes no lock on the file (for looking at an image that is in use).
    #[must_use]
    pub fn unlocked(mut self) -> Self {
        self.is_locked = false;
        self
    }

    /// Creates the file, or truncates it, sparse with `size` bytes.
    #[must_use]
    pub fn create(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Only `len` bytes from `offset` on: a partition.
    #[must_use]
    pub fn window(mut self, offset: u64, len: u64) -> Self {
        self.window = Some((offset, len));
        self
    }

    /// Another logical block size: a power of two, at least 512.
    #[must_use]
    pub fn block_size(mut self, bytes: u32) -> Self {
        self.block_size = bytes;
        self
    }

    /// Another number of worker threads, at least 1.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.nr_workers = count.max(1);
        self
    }

    /// Opens `path`.
    ///
    /// # Errors
    /// The host's; `WouldBlock` when another process uses the file, `InvalidInput` when the window is not in it.
    pub fn open(&self, path: &Path) -> io::Result<FileDisk> {
        FileDisk::open_with(path, self)
    }
}

/// How long a lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);

/// A host file or block device.
pub struct FileDisk {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    geometry: Geometry,
    path: PathBuf,
}

struct Shared {
    file: Flocked,
    base: u64,
    jobs: Mutex<Jobs>,
    not_empty: Condvar,
}

enum Flocked {
    Yes(Flock<File>),
    No(File),
}

impl Flocked {
    fn file(&self) -> &File {
        match self {
            Self::Yes(lock) => lock,
            Self::No(file) => file,
        }
    }
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<Request>,
    is_closing: bool,
}

impl FileDisk {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().open(path)
    }

    /// Creates (or truncates) a sparse file of `size` bytes.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn create(path: &Path, size: u64) -> io::Result<Self> {
        OpenOptions::new().create(size).open(path)
    }

    /// The file's path, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_with(path: &Path, options: &OpenOptions) -> io::Result<Self> {
        let mut file = File::options()
            .read(true)
            .write(!options.is_read_only)
            .create(options.size.is_some())
            .truncate(false)
            .open(path)?;
        let is_device = file.metadata()?.file_type().is_block_device();
        let locked = if options.is_locked {
            let how = if options.is_read_only {
                FlockArg::LockSharedNonblock
            } else {
                FlockArg::LockExclusiveNonblock
            };
            let lock = lock(file, how)?;
            file = lock.try_clone()?;
            Flocked::Yes(lock)
        } else {
            Flocked::No(file.try_clone()?)
        };
        if let Some(size) = options.size
            && !is_device
        {
            file.set_len(0)?;
            file.set_len(size)?;
        }
        let total = file.seek(SeekFrom::End(0))?;
        let (base, len) = options.window.unwrap_or((0, total));
        if base.checked_add(len).is_none_or(|end| end > total) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the partition lies outside of the file",
            ));
        }
        let geometry = geometry(options, len, is_device);
        let shared =
            Arc::new(Shared { file: locked, base, jobs: Mutex::default(), not_empty: Condvar::new() });
        let mut disk = Self { shared, workers: Vec::new(), geometry, path: path.to_owned() };
        for nr in 0..options.nr_workers.max(1) {
            let shared = disk.shared.clone();
            let name = format!("disk-io-{nr}");
            disk.workers.push(std::thread::Builder::new().name(name).spawn(move || shared.work())?);
        }
        Ok(disk)
    }

    fn check(&self, op: &Op) -> Result<(), Error> {
        let (offset, len, is_write) = match op {
            Op::Read { offset, buf } => (*offset, buf.len() as u64, false),
            Op::Write { offset, data, .. } => (*offset, data.len() as u64, true),
            Op::Flush => return Ok(()),
            Op::Discard { offset, len } | Op::WriteZeroes { offset, len } => (*offset, *len, true),
        };
        let block = u64::from(self.geometry.logical_block_size);
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.geometry.capacity);
        if !is_inside || !offset.is_multiple_of(block) || !len.is_multiple_of(block) {
            return Err(Error::Invalid);
        }
        if is_write && self.geometry.is_read_only {
            return Err(Error::ReadOnly);
        }
        Ok(())
    }
}

/// Locks a file. One who has just closed it may have its last request's completion still at hand, and the file with it:
/// that is waited for; a machine that runs on it is not.
fn lock(mut file: File, how: FlockArg) -> io::Result<Flock<File>> {
    let start = Instant::now();
    loop {
        match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((unlocked, Errno::EWOULDBLOCK)) if start.elapsed() < LOCK_PATIENCE => file = unlocked,
            Err((_, e)) => return Err(e.into()),
        }
        std::thread::sleep(LOCK_PATIENCE / 50);
    }
}

fn geometry(options: &OpenOptions, len: u64, is_device: bool) -> Geometry {
    let block = u64::from(options.block_size);
    let limits = DiscardLimits { max_len: 1 << 30, granularity: 4096 };
    Geometry {
        logical_block_size: options.block_size,
        physical_block_size: options.block_size.max(if is_device { 512 } else { 4096 }),
        capacity: len / block * block,
        nr_queues: 1,
        max_transfer: TRANSFER_MAX,
        max_segments: 1024,
        has_fua: false,
        discard: Some(limits),
        write_zeroes: Some(limits),
        write_cache: WriteCache::Volatile,
        is_read_only: options.is_read_only,
    }
}

impl BlockDevice for FileDisk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn submit(&self, _queue: usize, request: Request) -> Result<(), QueueFull> {
        if let Err(error) = self.check(&request.op) {
            let Request { op, done } = request;
            finish(op, done, Err(error));
            return Ok(());
        }
        let mut jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.queue.len() >= QUEUE_MAX {
            return Err(QueueFull(request));
        }
        jobs.queue.push_back(request);
        drop(jobs);
        self.shared.not_empty.notify_one();
        Ok(())
    }

    fn poll(&self, _queue: usize) -> usize {
        0
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_closing = true;
        self.shared.not_empty.notify_all();
        let me = std::thread::current().id();
        for worker in self.workers.drain(..) {
            // The last reference may be dropped by a completion, on a worker.
            if worker.thread().id() != me {
                let _ = worker.join();
            }
        }
    }
}

impl fmt::Debug for FileDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileDisk({}, {} bytes)", self.path.display(), self.geometry.capacity)
    }
}

impl Shared {
    fn work(&self) {
        while let Some(Request { mut op, done }) = self.next_job() {
            let result = self.run(&mut op).map_err(|e| {
                log::warn!("host i/o failed: {e}");
                error_of(&e)
            });
            finish(op, done, result);
        }
    }

    fn next_job(&self) -> Option<Request> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = jobs.queue.pop_front() {
                return Some(job);
            }
            if jobs.is_closing {
                return None;
            }
            jobs = self.not_empty.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, op: &mut Op) -> io::Result<()> {
        match op {
            Op::Read { offset, buf } => self.read(self.base + *offset, buf),
            Op::Write { offset, data, .. } => self.write(self.base + *offset, data),
            Op::Flush => self.file.file().sync_data(),
            Op::Discard { offset, len } | Op::WriteZeroes { offset, len } => {
                self.zero(self.base + *offset, *len)
            }
        }
    }

    fn read(&self, offset: u64, buf: &mut AbdMut) -> io::Result<()> {
        let file = self.file.file();
        if let Some(whole) = buf.as_mut_slice() {
            return file.read_exact_at(whole, offset);
        }
        let len = buf.len();
        let mut pieces: Vec<IoSliceMut<'_>> = buf.chunks_mut().map(IoSliceMut::new).collect();
        let n = nix::sys::uio::preadv(file, &mut pieces, offset as i64)?;
        drop(pieces);
        // A short vector read is rare (a signal, the end of the file): do the rest piece by piece.
        let mut at = 0;
        for chunk in buf.chunks_mut() {
            let skip = n.saturating_sub(at).min(chunk.len());
            file.read_exact_at(&mut chunk[skip..], offset + (at + skip) as u64)?;
            at += chunk.len();
        }
        debug_assert_eq!(at, len);
        Ok(())
    }

    fn write(&self, offset: u64, data: &Abd) -> io::Result<()> {
        let file = self.file.file();
        if let Some(whole) = data.as_slice() {
            return file.write_all_at(whole, offset);
        }
        let pieces: Vec<IoSlice<'_>> = data.chunks().map(IoSlice::new).collect();
        let n = nix::sys::uio::pwritev(file, &pieces, offset as i64)?;
        let mut at = 0;
        for chunk in data.chunks() {
            let skip = n.saturating_sub(at).min(chunk.len());
            file.write_all_at(&chunk[skip..], offset + (at + skip) as u64)?;
            at += chunk.len();
        }
        Ok(())
    }

    /// Punches a hole, which reads as zeroes; writes zeroes where the host cannot.
    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if fallocate(self.file.file(), flags, offset as i64, len as i64).is_ok() {
            return Ok(());
        }
        let zeroes = vec![0; len.min(1 << 20) as usize];
        let mut at = offset;
        while at < offset + len {
            let n = (offset + len - at).min(zeroes.len() as u64) as usize;
            self.file.file().write_all_at(&zeroes[..n], at)?;
            at += n as u64;
        }
        Ok(())
    }
}

fn finish(op: Op, done: Completion, result: Result<(), Error>) {
    let buf = match op {
        Op::Read { buf, .. } => Some(buf),
        _ => None,
    };
    done.complete(result, buf);
}

fn error_of(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::NoSpace
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly,
        io::ErrorKind::NotFound => Error::Gone,
        _ => Error::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockdev::IoWait;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn content_round_trips_also_in_pieces() {
        let dir = tempfile::tempdir().expect("directory");
        let disk = FileDisk::create(&dir.path().join("d"), 1 << 20).expect("create");
        let data =
            Abd::concat([Abd::copy_from(&[1; 4096]), Abd::copy_from(&[2; 512]), Abd::copy_from(&[3; 8192])]);
        disk.write(512, data.clone()).expect("write");
        disk.flush().expect("flush");
        assert_eq!(disk.read(512, data.len()).expect("read").freeze(), data);
        let pieces = AbdMut::concat([AbdMut::zeroed(4096), AbdMut::zeroed(8704)]);
        let wait = IoWait::new();
        let done = wait.completion(0);
        disk.submit(0, Request { op: Op::Read { offset: 512, buf: pieces }, done }).expect("room");
        assert_eq!(wait.wait_one().expect("read").buf.expect("buffer").freeze(), data);
    }

    #[test]
    fn many_requests_are_in_flight_and_each_completes_once() {
        let dir = tempfile::tempdir().expect("directory");
        let disk = FileDisk::create(&dir.path().join("d"), 4 << 20).expect("create");
        let wait = IoWait::new();
        for i in 0..500_u64 {
            let op = Op::Write { offset: i * 4096, data: Abd::copy_from(&[i as u8; 4096]), is_fua: false };
            disk.submit_blocking(0, Request { op, done: wait.completion(i) });
        }
        let mut tags: Vec<u64> = wait.wait().into_iter().map(|d| d.tag).collect();
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..500));
        assert_eq!(disk.read(77 * 4096, 4096).expect("read").as_slice(), Some(&[77; 4096][..]));
    }

    #[test]
    fn a_window_shows_only_its_part() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("d");
        FileDisk::create(&path, 1 << 20)
            .expect("create")
            .write(4096, Abd::copy_from(&[7; 512]))
            .expect("write");
        let part = OpenOptions::new().window(4096, 8192).open(&path).expect("open");
        assert_eq!(part.geometry().capacity, 8192);
        assert_eq!(part.read(0, 512).expect("read").as_slice(), Some(&[7; 512][..]));
        assert_eq!(part.read(8192, 512).expect_err("outside"), Error::Invalid);
        drop(part);
        let outside = OpenOptions::new().window(1 << 20, 512).open(&path);
        assert_eq!(outside.expect_err("outside").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_second_writer_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("d");
        let first = FileDisk::create(&path, 1 << 20).expect("create");
        assert_eq!(FileDisk::open(&path).expect_err("in use").kind(), io::ErrorKind::WouldBlock);
        assert!(OpenOptions::new().read_only(true).unlocked().open(&path).is_ok());
        drop(first);
        let reader = OpenOptions::new().read_only(true).open(&path).expect("open");
        assert_eq!(reader.write(0, Abd::zeroed(512)).expect_err("read-only"), Error::ReadOnly);
    }

    #[test]
    fn one_who_is_just_letting_go_is_waited_for() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("d");
        let first = FileDisk::create(&path, 1 << 20).expect("create");
        let (begun, has_begun) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || {
                begun.send(()).expect("is received");
                FileDisk::open(&path)
            }
        });
        has_begun.recv().expect("begins");
        std::thread::sleep(Duration::from_millis(10));
        drop(first);
        assert!(second.join().expect("ends").is_ok());
    }

    #[test]
    fn discarded_ranges_read_as_zeroes_and_give_space_back() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("d");
        let disk = FileDisk::create(&path, 4 << 20).expect("create");
        disk.write(0, Abd::copy_from(&vec![9; 2 << 20])).expect("write");
        disk.flush().expect("flush");
        let before = std::fs::metadata(&path).expect("stat").blocks();
        let wait = IoWait::new();
        let done = wait.completion(0);
        disk.submit_blocking(0, Request { op: Op::Discard { offset: 0, len: 2 << 20 }, done });
        wait.wait_one().expect("discard");
        assert_eq!(disk.read(0, 4096).expect("read").as_slice(), Some(&[0; 4096][..]));
        assert!(std::fs::metadata(&path).expect("stat").blocks() < before);
    }
}
