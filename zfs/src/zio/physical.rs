//! Reading the stored bytes of a block: every copy in turn, each in every way its vdev offers, until one is right.
//!
//! What was wrong on the way is rewritten from what was right, and told. Nothing is rewritten when the pool is
//! read-only, nor when the block has no checksum (then nothing can be known to be right).
use super::storage::Storage;
use crate::event::Event;
use crate::vdev::{IoGroup, Leaf, Priority, ReadIo, Standing, Vdev, WriteIo};
use crate::{Error, Result};
use abd::{Abd, AbdMut};
use alloc::sync::Arc;
use ondisk::blkptr::DVAS_PER_BP;
use ondisk::{BlkPtr, Bookmark, Checksum, Compression, DmuType, Dva, Txg};
use smallvec::SmallVec;

/// Ways tried to read one copy: all of the widest raidz, as long as none of its children has several sides.
const ATTEMPTS_MAX: usize = 1 << 22;
/// Wrong ways that are remembered: those after them say no more of who is to blame.
const BAD_MAX: usize = 1 << 10;

/// A copy that was not right, or not in every way its vdev offers.
#[derive(Clone, Debug)]
struct BadCopy {
    dva: Dva,
    /// The ways that failed.
    attempts: SmallVec<[usize; 2]>,
    /// The way that was right.
    good: Option<usize>,
    is_device_error: bool,
}

impl Storage {
    /// The stored bytes of a block, verified.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub(super) fn read_physical(&self, bp: &BlkPtr, bookmark: Bookmark, priority: Priority) -> Result<Abd> {
        self.check(bp)?;
        if bp.is_gang() {
            return self.read_gang(bp, bookmark, priority, 0);
        }
        let first = bp.dva(0);
        if let Some(data) = self.in_flight.get(first.vdev, first.offset)
            && data.len() == bp.psize() as usize
            && self.verify(bp, &data).is_ok()
        {
            return Ok(data);
        }
        let size = bp.psize() as usize;
        self.read_copies(bp, bookmark, priority, &mut |_| Some(size), &mut |bytes| self.verify(bp, bytes))
    }

    /// Tries every copy until `verify` accepts one. `size_of` gives the bytes to read from a vdev.
    pub(super) fn read_copies(
        &self,
        bp: &BlkPtr,
        bookmark: Bookmark,
        priority: Priority,
        size_of: &mut dyn FnMut(&Vdev) -> Option<usize>,
        verify: &mut dyn FnMut(&Abd) -> Result<()>,
    ) -> Result<Abd> {
        let mut bad: SmallVec<[BadCopy; DVAS_PER_BP]> = SmallVec::new();
        let mut error = Error::Io;
        // What should be right comes first, in every copy; then what is only known to have missed the block's group.
        for wanted in [Standing::Good, Standing::Stale] {
            if wanted == Standing::Stale && !self.has_checksum(bp) {
                break;
            }
            for dva in bp.dvas() {
                let mut copy = BadCopy { dva, attempts: SmallVec::new(), good: None, is_device_error: true };
                let mut columns = None;
                for attempt in self.attempts_at(&dva, bp.phys_birth(), wanted) {
                    let read = match &columns {
                        Some(columns) => self.try_columns(columns, attempt),
                        None => self.read_copy(&dva, attempt, priority, size_of),
                    };
                    copy.is_device_error &= read.is_err();
                    match read.and_then(|bytes| verify(&bytes).map(|()| bytes)) {
                        Ok(bytes) => {
                            copy.good = Some(attempt);
                            bad.extend((!copy.attempts.is_empty()).then_some(copy));
                            // A scrub looks at every copy itself, and counts what it rewrites.
                            if priority != Priority::Scrub {
                                self.repair(&bad, &bytes, bp, bookmark);
                            }
                            return Ok(bytes);
                        }
                        Err(e @ (Error::Unsupported | Error::Encrypted)) => return Err(e),
                        Err(e) => {
                            if copy.attempts.is_empty() {
                                columns = self.read_columns(&dva, priority, size_of);
                            }
                            if copy.attempts.len() < BAD_MAX {
                                copy.attempts.push(attempt);
                            }
                            error = if e == Error::Checksum { e } else { error };
                        }
                    }
                }
                bad.extend((wanted == Standing::Good && !copy.attempts.is_empty()).then_some(copy));
            }
        }
        self.report_lost(&bad, bp, bookmark);
        Err(error)
    }

    /// The ways to read a copy of which that is to be expected, the best first.
    fn attempts_at(&self, dva: &Dva, birth: Txg, wanted: Standing) -> impl Iterator<Item = usize> + use<> {
        let vdev = self.vdevs.top(dva.vdev);
        let first = vdev.as_ref().map_or(0, |v| v.io().first_attempt(dva.offset, birth));
        let nr = vdev.as_ref().map_or(1, |v| v.io().nr_attempts());
        let all = core::iter::once(first).chain((0..nr).filter(move |n| *n != first));
        all.take(ATTEMPTS_MAX).filter(move |attempt| match &vdev {
            Some(vdev) => vdev.io().standing(*attempt, birth) == wanted,
            None => wanted == Standing::Good,
        })
    }

    /// Whether wrong bytes would be noticed.
    pub(super) fn has_checksum(&self, bp: &BlkPtr) -> bool {
        bp.is_gang() || !matches!(bp.checksum_alg(), Checksum::Off | Checksum::NoParity)
    }

    /// Reads one copy in one way.
    ///
    /// # Errors
    /// `Damaged` when the address lies on no vdev, or the device's.
    pub(super) fn read_copy(
        &self,
        dva: &Dva,
        attempt: usize,
        priority: Priority,
        size_of: &mut dyn FnMut(&Vdev) -> Option<usize>,
    ) -> Result<Abd> {
        let vdev = self.vdevs.top(dva.vdev).ok_or(Error::Damaged)?;
        let size = size_of(&vdev).ok_or(Error::Damaged)?;
        let (vdev, len) = self.extent_of(dva, size as u32).ok_or(Error::Damaged)?;
        let group = IoGroup::new();
        let done = group.completion(0);
        vdev.io().read(ReadIo { offset: dva.offset, len, attempt, priority, done });
        let leaves = vdev.io().leaves().iter().map(|l| -> &Leaf { l });
        let done = group.wait(leaves).pop().ok_or(Error::Io)?;
        done.result?;
        let bytes = done.buf.and_then(|buf| self.trim(buf, size)).ok_or(Error::Io)?;
        Ok(bytes.freeze())
    }

    /// Rewrites bad copies from good bytes.
    fn repair(&self, bad: &[BadCopy], good: &Abd, bp: &BlkPtr, bookmark: Bookmark) {
        let has_checksum = self.has_checksum(bp);
        for copy in bad {
            let (vdev, offset) = (u64::from(copy.dva.vdev), copy.dva.offset);
            let is_device_error = copy.is_device_error;
            self.events.post(Event::BadCopy { bookmark, vdev, offset, is_device_error });
            if !is_device_error && let Some(top) = self.vdevs.top(copy.dva.vdev) {
                top.io().note_bad(&copy.attempts, copy.good);
            }
            if self.is_read_only || !has_checksum {
                continue;
            }
            let Some((top, len)) = self.extent_of(&copy.dva, good.len() as u32) else { continue };
            let group = IoGroup::new();
            let data = pad(good, len);
            let done = group.completion(0);
            let io = WriteIo { offset, data, txg: bp.phys_birth(), priority: Priority::Scrub, done };
            top.io().repair(&copy.attempts, copy.good, io);
            let leaves = top.io().leaves().iter().map(|l| -> &Leaf { l });
            if group.wait(leaves).iter().all(|d| d.result.is_ok()) {
                self.events.post(Event::Repaired { bookmark, vdev, offset });
            }
        }
    }

    /// Tells that a block is gone. The end of an intent log is a block that does not verify: no loss.
    fn report_lost(&self, bad: &[BadCopy], bp: &BlkPtr, bookmark: Bookmark) {
        if matches!(bp.checksum_alg(), Checksum::Zilog | Checksum::Zilog2) {
            return;
        }
        for copy in bad {
            let (vdev, offset) = (u64::from(copy.dva.vdev), copy.dva.offset);
            let is_device_error = copy.is_device_error;
            self.events.post(Event::BadCopy { bookmark, vdev, offset, is_device_error });
        }
        let offset = if bp.level() == 0 { bookmark.blkid.saturating_mul(u64::from(bp.lsize())) } else { 0 };
        self.events.note_lost(bookmark, bp.birth());
        self.events.post(Event::Lost { bookmark, offset });
    }

    /// Whether a block pointer's parts can be meant together.
    ///
    /// # Errors
    /// `Damaged` when not, `Encrypted` when a key is needed.
    pub(super) fn check(&self, bp: &BlkPtr) -> Result<()> {
        if bp.is_encrypted() {
            return Err(Error::Encrypted);
        }
        let is_log = matches!(bp.checksum_alg(), Checksum::Zilog | Checksum::Zilog2);
        let is_plain = bp.compression() == Compression::Off;
        let is_sane = bp.psize() <= bp.lsize() && (!is_plain || bp.psize() == bp.lsize());
        let has_checksum = is_log
            || !bp.checksum_alg().is_embedded()
                && !matches!(bp.checksum_alg(), Checksum::Inherit | Checksum::On);
        if is_sane && has_checksum { Ok(()) } else { Err(Error::Damaged) }
    }

    /// Compares the stored bytes with the block pointer's checksum.
    ///
    /// # Errors
    /// `Checksum` when they differ, `Unsupported` when the algorithm is not built in.
    pub(super) fn verify(&self, bp: &BlkPtr, bytes: &Abd) -> Result<()> {
        let alg = bp.checksum_alg();
        if matches!(alg, Checksum::Off | Checksum::NoParity) {
            return Ok(());
        }
        if matches!(alg, Checksum::Zilog | Checksum::Zilog2) {
            let verified = codec::embedded::verify_log(alg, &bytes.to_contiguous(), &bp.digest());
            return verified.map(drop).map_err(|_| Error::Checksum);
        }
        let (mut actual, mut expected) = (self.digest(alg, bytes, !bp.is_little_endian())?, bp.digest());
        if bp.uses_crypt() && bp.dmu_type() != DmuType::OBJSET {
            // The upper two words hold a MAC; weak checksums are folded into the lower two.
            if matches!(alg, Checksum::Fletcher2 | Checksum::Fletcher4) {
                actual.0[0] ^= actual.0[2];
                actual.0[1] ^= actual.0[3];
            }
            for words in [&mut actual.0, &mut expected.0] {
                words[2] = 0;
                words[3] = 0;
            }
        }
        if actual == expected { Ok(()) } else { Err(Error::Checksum) }
    }

    /// The vdev of an address and how many bytes to move for `size` of them; `None` when the range lies on no vdev.
    pub(super) fn extent_of(&self, dva: &Dva, size: u32) -> Option<(Arc<Vdev>, usize)> {
        let vdev = self.vdevs.top(dva.vdev)?;
        let len = u64::from(size).next_multiple_of(1 << vdev.info().ashift);
        let end = dva.offset.checked_add(vdev.asize_of(len))?;
        (end <= vdev.info().asize).then_some((vdev, len as usize))
    }

    /// The first `size` bytes of a buffer that was rounded up to the allocation unit.
    pub(super) fn trim(&self, buf: AbdMut, size: usize) -> Option<AbdMut> {
        if buf.len() <= size {
            return (buf.len() == size).then_some(buf);
        }
        let whole = buf.freeze();
        let part = whole.slice(0..size);
        drop(whole);
        Some(part.try_into_mut().unwrap_or_else(|shared| AbdMut::copy_from(&shared.to_contiguous())))
    }
}

/// `data` with zeroes up to `len`.
pub(super) fn pad(data: &Abd, len: usize) -> Abd {
    if data.len() >= len {
        return data.clone();
    }
    Abd::concat([data.clone(), Abd::zeroed(len - data.len())])
}
