//! [`AbdMut`] and [`Abd`]: sequences of run segments.
//!
//! Invariant: `len` is the sum of the segments' lengths, and every segment lies inside its run.
use crate::run::{PAGE_SIZE, PageRef, Run};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use smallvec::SmallVec;

#[derive(Clone)]
struct Segment {
    run: Run,
    start: usize,
    len: usize,
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        &self.run.bytes()[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let range = self.start..self.start + self.len;
        self.run.bytes_mut().map(|all| &mut all[range])
    }

    fn slice(&self, range: Range<usize>) -> Self {
        Self { run: self.run.clone(), start: self.start + range.start, len: range.len() }
    }
}

type Segments = SmallVec<[Segment; 1]>;

/// A unique, writable buffer.
pub struct AbdMut {
    segments: Segments,
    len: usize,
}

impl AbdMut {
    /// `len` zero bytes, contiguous.
    pub fn zeroed(len: usize) -> Self {
        let mut segments = Segments::new();
        if len > 0 {
            segments.push(Segment { run: Run::zeroed(len), start: 0, len });
        }
        Self { segments, len }
    }

    /// A copy of `bytes`, contiguous.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self::gathered(bytes.len(), core::iter::once(bytes))
    }

    /// A copy of `pieces`, which are `len` bytes together, contiguous.
    fn gathered<'a>(len: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut segments = Segments::new();
        if len > 0 {
            segments.push(Segment { run: Run::gathered(len, pieces), start: 0, len });
        }
        Self { segments, len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes as one slice, if they lie in one piece (always so for a buffer fresh from this type's makers).
    pub fn as_slice(&self) -> Option<&[u8]> {
        contiguous(&self.segments)
    }

    /// The bytes as one writable slice, if they lie in one piece.
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        match self.segments.as_mut_slice() {
            [] => Some(&mut []),
            [one] => one.bytes_mut(),
            _ => None,
        }
    }

    /// The pieces in order.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(Segment::bytes)
    }

    /// The pieces in order, writable.
    pub fn chunks_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.segments.iter_mut().filter_map(Segment::bytes_mut)
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// When they do not fit: a bug of the caller, never a matter of disk content.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len, "write past the end of a buffer");
        let (mut at, mut rest) = (0, bytes);
        for chunk in self.chunks_mut() {
            let skip = offset.saturating_sub(at).min(chunk.len());
            at += chunk.len();
            let room = &mut chunk[skip..];
            let n = room.len().min(rest.len());
            room[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
        }
    }

    /// Copies bytes from `offset` into `out`.
    ///
    /// # Panics
    /// When they are not there: a bug of the caller.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) {
        read_at(&self.segments, self.len, offset, out);
    }

    /// Shares it; it cannot be written any more.
    pub fn freeze(self) -> Abd {
        Abd { segments: self.segments, len: self.len }
    }

    /// Joins buffers into one, without copying.
    pub fn concat(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self { segments: Segments::new(), len: 0 };
        for part in parts {
            all.len += part.len;
            all.segments.extend(part.segments);
        }
        all
    }
}

impl fmt::Debug for AbdMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AbdMut({} bytes, {} segments)", self.len, self.segments.len())
    }
}

/// A shared, immutable buffer.
#[derive(Clone)]
pub struct Abd {
    segments: Segments,
    len: usize,
}

impl Abd {
    /// No bytes.
    pub fn empty() -> Self {
        AbdMut::zeroed(0).freeze()
    }

    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        AbdMut::zeroed(len).freeze()
    }

    /// A copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        AbdMut::copy_from(bytes).freeze()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes as one slice, if they lie in one piece.
    pub fn as_slice(&self) -> Option<&[u8]> {
        contiguous(&self.segments)
    }

    /// The bytes as one slice, copied if they do not lie in one piece.
    pub fn to_contiguous(&self) -> Cow<'_, [u8]> {
        match self.as_slice() {
            Some(bytes) => Cow::Borrowed(bytes),
            None => Cow::Owned(self.to_vec()),
        }
    }

    /// A contiguous copy.
    pub fn joined(&self) -> Self {
        AbdMut::gathered(self.len, self.chunks()).freeze()
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len);
        self.chunks().for_each(|c| out.extend_from_slice(c));
        out
    }

    /// The pieces in order.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(Segment::bytes)
    }

    /// The pieces of `range` in order.
    ///
    /// # Panics
    /// When the range is not inside the buffer: a bug of the caller.
    pub fn chunks_of(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        assert!(range.start <= range.end && range.end <= self.len, "range outside a buffer");
        let mut at = 0;
        self.segments.iter().filter_map(move |s| {
            let (from, to) = (range.start.max(at), range.end.min(at + s.len));
            let piece = (from < to).then(|| &s.bytes()[from - at..to - at]);
            at += s.len;
            piece
        })
    }

    /// Copies bytes from `offset` into `out`.
    ///
    /// # Panics
    /// When they are not there: a bug of the caller.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) {
        read_at(&self.segments, self.len, offset, out);
    }

    /// Part of the buffer, sharing its memory.
    ///
    /// # Panics
    /// When the range is not inside the buffer: a bug of the caller.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "range outside a buffer");
        let mut segments = Segments::new();
        let mut at = 0;
        for s in &self.segments {
            let (from, to) = (range.start.max(at), range.end.min(at + s.len));
            if from < to {
                segments.push(s.slice(from - at..to - at));
            }
            at += s.len;
        }
        Self { segments, len: range.len() }
    }

    /// Joins buffers into one, without copying.
    pub fn concat(parts: impl IntoIterator<Item = Self>) -> Self {
        AbdMut::concat(parts.into_iter().map(|p| AbdMut { segments: p.segments, len: p.len })).freeze()
    }

    /// The buffer as a unique one again, if no one else shares any of its memory.
    ///
    /// # Errors
    /// The buffer itself, when it is shared.
    pub fn try_into_mut(self) -> Result<AbdMut, Self> {
        if self.segments.iter().all(|s| s.run.is_unique()) {
            Ok(AbdMut { segments: self.segments, len: self.len })
        } else {
            Err(self)
        }
    }

    /// Copies `bytes` to `offset` of *this* buffer. Pages that others see are replaced by copies first, so the
    /// others keep what they had.
    ///
    /// # Panics
    /// When they do not fit: a bug of the caller.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        self.modify(offset..offset + bytes.len(), |at, piece| {
            piece.copy_from_slice(&bytes[at..at + piece.len()]);
        });
    }

    /// Calls `change` with each writable piece of `range` and its distance from the range's start, in order,
    /// after replacing shared pages by copies.
    ///
    /// # Panics
    /// When the range is not inside the buffer: a bug of the caller.
    pub fn modify(&mut self, range: Range<usize>, mut change: impl FnMut(usize, &mut [u8])) {
        assert!(range.start <= range.end && range.end <= self.len, "range outside a buffer");
        self.unshare(&range);
        let mut at = 0;
        for s in &mut self.segments {
            let len = s.len;
            let (from, to) = (range.start.max(at), range.end.min(at + len));
            if from < to
                && let Some(bytes) = s.bytes_mut()
            {
                change(from - range.start, &mut bytes[from - at..to - at]);
            }
            at += len;
        }
    }

    /// All bytes as one writable slice, after copying them into new memory if they are shared or in pieces.
    pub fn make_mut(&mut self) -> &mut [u8] {
        if !matches!(self.segments.as_slice(), [one] if one.run.is_unique()) {
            self.segments = self.joined().segments;
        }
        match self.segments.as_mut_slice() {
            [one] => one.bytes_mut().unwrap_or(&mut []),
            _ => &mut [],
        }
    }

    /// The page at `offset` (a multiple of the page size), if one whole page of memory holds it.
    pub fn page_at(&self, offset: usize) -> Option<PageRef> {
        let mut at = 0;
        for s in &self.segments {
            if offset < at + s.len {
                let start = s.start + (offset - at);
                let is_whole = start.is_multiple_of(PAGE_SIZE) && start + PAGE_SIZE <= s.run.len();
                let is_inside = offset + PAGE_SIZE <= at + s.len;
                return (is_whole && is_inside).then(|| PageRef { run: s.run.clone(), offset: start });
            }
            at += s.len;
        }
        None
    }

    /// Replaces the shared memory under `range` by copies, in whole pages of the buffer.
    fn unshare(&mut self, range: &Range<usize>) {
        let mut at = 0;
        let is_needed = self.segments.iter().any(|s| {
            let overlaps = at < range.end && range.start < at + s.len;
            at += s.len;
            overlaps && !s.run.is_unique()
        });
        if !is_needed {
            return;
        }
        let mut segments = Segments::new();
        let mut at = 0;
        for s in core::mem::take(&mut self.segments) {
            let end = at + s.len;
            if range.end <= at || end <= range.start || s.run.is_unique() {
                segments.push(s);
            } else {
                // Page boundaries of the run, so that untouched pages stay shared and mappable.
                let base = s.start;
                let from = (base + range.start.max(at) - at) / PAGE_SIZE * PAGE_SIZE;
                let to = (base + range.end.min(end) - at).next_multiple_of(PAGE_SIZE);
                let (from, to) = (from.max(base) - base, to.min(base + s.len) - base);
                if from > 0 {
                    segments.push(s.slice(0..from));
                }
                let copy = AbdMut::copy_from(&s.bytes()[from..to]);
                segments.extend(copy.segments);
                if to < s.len {
                    segments.push(s.slice(to..s.len));
                }
            }
            at = end;
        }
        self.segments = segments;
    }
}

impl fmt::Debug for Abd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Abd({} bytes, {} segments)", self.len, self.segments.len())
    }
}

impl PartialEq for Abd {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.to_contiguous() == other.to_contiguous()
    }
}

impl Eq for Abd {}

fn contiguous(segments: &Segments) -> Option<&[u8]> {
    match segments.as_slice() {
        [] => Some(&[]),
        [one] => Some(one.bytes()),
        _ => None,
    }
}

fn read_at(segments: &Segments, len: usize, offset: usize, out: &mut [u8]) {
    assert!(offset + out.len() <= len, "read past the end of a buffer");
    let (mut at, mut done) = (0, 0);
    for s in segments {
        let skip = offset.saturating_sub(at).min(s.len);
        at += s.len;
        let n = (s.len - skip).min(out.len() - done);
        out[done..done + n].copy_from_slice(&s.bytes()[skip..skip + n]);
        done += n;
    }
}
