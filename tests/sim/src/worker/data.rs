//! Operations on content.
use super::{Stamp, Worker};
use crate::content::{Content, PAGE};
use crate::plan::Class;
use crate::tree::Body;
use std::sync::Arc;
use vfs::{
    CloneMode, Error, FallocateMode, File, MapAccess, OpenFlags, SeekWhat, SetAttr, SliceSink, SliceSource,
};

/// A write is split into transactions at multiples of this; a power cut may come between them.
const CHUNK: u64 = 1 << 20;
/// Bytes cloned at most: one transaction, whatever the records' size.
const CLONE_MAX: u64 = 256 << 10;

impl Worker {
    /// Bytes to write, up to `max`: noise, text that compresses, or zeroes.
    pub(super) fn bytes(&mut self, max: u64) -> Vec<u8> {
        let len = match self.random.below(4) {
            0 => self.random.within(1, max.min(200) + 1),
            1 => self.random.within(1, max.div_ceil(4096) + 1) * 4096,
            _ => self.random.within(1, max + 1),
        };
        let len = len.min(max.max(1)) as usize;
        match self.random.below(8) {
            0 => vec![0; len],
            1..=3 => {
                let word = self.random.next_u64().to_le_bytes();
                word.iter().copied().cycle().take(len).collect()
            }
            _ => {
                let mut random = self.random.fork();
                let mut bytes = Vec::with_capacity(len + 8);
                while bytes.len() < len {
                    bytes.extend_from_slice(&random.next_u64().to_le_bytes());
                }
                bytes.truncate(len);
                bytes
            }
        }
    }

    fn content(&self, at: usize) -> &Content {
        match &self.node(at).body {
            Body::File(content) => content,
            _ => unreachable!("picked among files"),
        }
    }

    fn content_mut(&mut self, at: usize) -> &mut Content {
        match &mut self.node_mut(at).body {
            Body::File(content) => content,
            _ => unreachable!("picked among files"),
        }
    }

    fn open(&mut self, at: usize, flags: OpenFlags) -> Option<Arc<File>> {
        let path = self.path(at);
        let opened = self.with_root(|ns, from| ns.open(from, &path, flags, 0));
        self.expect("open", opened)
    }

    fn pick_offset(&mut self, at: usize) -> u64 {
        let size = self.content(at).size();
        let max = self.shared.plan.offset_max;
        match self.random.below(8) {
            0 => size.min(max),
            1 => self.random.below(max),
            2 => self.random.below(size.min(max) + 1) / 4096 * 4096,
            3 => 0,
            _ => self.random.below(size.min(max).max(5000) + 1),
        }
    }

    pub(super) fn write(&mut self, is_sync: bool) {
        let Some(at) = self.pick_file() else { return };
        if self.held_bytes() > self.shared.plan.content_max {
            return self.truncate();
        }
        let offset = self.pick_offset(at);
        let bytes = self.bytes(self.shared.plan.write_max);
        let how = match is_sync {
            true if self.random.chance(1, 2) => OpenFlags::SYNC,
            true => OpenFlags::DSYNC,
            false => OpenFlags::empty(),
        };
        self.note(format!("write {} at {offset}, {} bytes, {how:?}", self.show(at), bytes.len()));
        let Some(file) = self.open(at, OpenFlags::WRITE | how) else { return };
        let stamp = self.begin();
        let written = file.write_at(offset, &mut SliceSource::new(&bytes));
        let Some(n) = self.expect("write", written) else { return };
        self.written(at, offset, &bytes[..n], stamp);
        if is_sync {
            self.acked(at);
        }
    }

    fn written(&mut self, at: usize, offset: u64, bytes: &[u8], stamp: Stamp) {
        let mut done = 0;
        while done < bytes.len() {
            let here = offset + done as u64;
            let n = ((CHUNK - here % CHUNK) as usize).min(bytes.len() - done);
            self.content_mut(at).write(here, &bytes[done..done + n]);
            self.changed(at, stamp);
            done += n;
        }
    }

    pub(super) fn append(&mut self) {
        let Some(at) = self.pick_file() else { return };
        if self.held_bytes() > self.shared.plan.content_max {
            return;
        }
        let bytes = self.bytes(self.shared.plan.write_max / 2);
        let end = self.content(at).size();
        self.note(format!("append {} at {end}, {} bytes", self.show(at), bytes.len()));
        let Some(file) = self.open(at, OpenFlags::WRITE | OpenFlags::APPEND) else { return };
        let stamp = self.begin();
        let written = file.write(&mut SliceSource::new(&bytes));
        let Some(n) = self.expect("append", written) else { return };
        self.written(at, end, &bytes[..n], stamp);
    }

    pub(super) fn truncate(&mut self) {
        let Some(at) = self.pick_file() else { return };
        let size = self.content(at).size();
        let to = match self.random.below(4) {
            0 => 0,
            1 => self.random.below(self.shared.plan.offset_max),
            _ => self.random.below(size + 1),
        };
        self.note(format!("truncate {} from {size} to {to}", self.show(at)));
        let vnode = self.find(at).vnode().clone();
        let stamp = self.begin();
        let cut = vnode.setattr(&SetAttr { size: Some(to), ..SetAttr::default() });
        if self.expect("truncate", cut).is_some() {
            self.content_mut(at).resize(to);
            self.changed(at, stamp);
        }
    }

    pub(super) fn fallocate(&mut self, class: Class) {
        let Some(at) = self.pick_file() else { return };
        let start = self.pick_offset(at);
        let end = start + self.random.within(1, self.shared.plan.write_max * 2);
        let keep_size = self.random.chance(1, 2);
        let mode = match class {
            Class::Punch => FallocateMode::PunchHole,
            Class::ZeroRange => FallocateMode::ZeroRange { keep_size },
            _ => FallocateMode::Allocate { keep_size },
        };
        self.note(format!("fallocate {} {mode:?} {start}..{end}", self.show(at)));
        let vnode = self.find(at).vnode().clone();
        let stamp = self.begin();
        let done = vnode.fallocate(mode, start..end);
        if done == Err(Error::Unsupported) || self.expect("fallocate", done).is_none() {
            return;
        }
        let content = self.content_mut(at);
        if !matches!(mode, FallocateMode::Allocate { .. }) {
            content.clear(start, end);
        }
        if !matches!(mode, FallocateMode::PunchHole) && !keep_size && end > content.size() {
            content.resize(end);
        }
        self.changed(at, stamp);
    }

    /// The start of a file takes the place of the start of another, or of one of its later records.
    pub(super) fn clone_range(&mut self) {
        let (Some(at), Some(from)) = (self.pick_file(), self.pick_file()) else { return };
        if self.held_bytes() > self.shared.plan.content_max {
            return;
        }
        let to = self.random.below(3) * CLONE_MAX;
        let range = 0..self.content(from).size().min(CLONE_MAX);
        let mode = if self.random.chance(1, 2) { CloneMode::Wait } else { CloneMode::Ready };
        self.note(format!("clone {range:?} of {} to {} at {to}, {mode:?}", self.show(from), self.show(at)));
        let Some(source) = self.open(from, OpenFlags::READ) else { return };
        let Some(target) = self.open(at, OpenFlags::WRITE) else { return };
        let stamp = self.begin();
        let cloned = target.clone_range(to, &source, range, mode);
        // What does not fit changes nothing.
        if matches!(cloned, Err(Error::Invalid | Error::Unsupported | Error::WouldBlock)) {
            return;
        }
        let Some(n) = self.expect("clone", cloned) else { return };
        if n > 0 {
            let bytes = self.content(from).read(0, n as usize);
            self.content_mut(at).write(to, &bytes);
            self.changed(at, stamp);
        }
    }

    /// What a store through a shared mapping comes to: the page as it is, and later the page as it became.
    pub(super) fn map_write(&mut self) {
        let Some(at) = self.pick_file() else { return };
        let size = self.content(at).size();
        if size == 0 || self.held_bytes() > self.shared.plan.content_max {
            return;
        }
        let offset = self.random.below(size) / PAGE as u64 * PAGE as u64;
        self.note(format!("map {} at {offset}", self.show(at)));
        let vnode = self.find(at).vnode().clone();
        let mapped = vnode.map_page(offset, MapAccess::Write);
        let Some(page) = self.expect("map", mapped) else { return };
        let mut bytes = page.bytes().to_vec();
        let mut expected = self.content(at).read(offset, PAGE);
        let len = expected.len();
        expected.resize(PAGE, 0);
        if bytes != expected {
            self.finding(&format!("{}: page at {offset} is mapped wrong", self.show(at)));
        }
        let new = self.bytes(2000);
        let start = self.random.below(len as u64) as usize;
        let n = new.len().min(len - start);
        bytes[start..start + n].copy_from_slice(&new[..n]);
        let stamp = self.begin();
        let written = vnode.write_page(offset, &bytes);
        if self.expect("write page", written).is_some() {
            self.content_mut(at).write(offset, &bytes[..len]);
            self.changed(at, stamp);
        }
    }

    pub(super) fn read_back(&mut self) {
        let Some(at) = self.pick_file() else { return };
        let (offset, len) = (self.pick_offset(at), self.random.within(1, 200_000) as usize);
        let Some(file) = self.open(at, OpenFlags::READ) else { return };
        let mut got = vec![0xaa; len];
        let read = file.read_at(offset, &mut SliceSink::new(&mut got));
        let Some(n) = self.expect("read", read) else { return };
        let expected = self.content(at).read(offset, len);
        if n != expected.len() {
            self.finding(&format!(
                "{}: {n} bytes read at {offset}, expected {}",
                self.show(at),
                expected.len()
            ));
        }
        if let Some(wrong) = got.iter().zip(&expected).position(|(a, b)| a != b) {
            self.finding(&format!("{}: byte {} is wrong", self.show(at), offset + wrong as u64));
        }
    }

    pub(super) fn seek(&mut self) {
        let Some(at) = self.pick_file() else { return };
        let size = self.content(at).size();
        if size == 0 {
            return;
        }
        let offset = self.random.below(size);
        let vnode = self.find(at).vnode().clone();
        let end = match vnode.seek(SeekWhat::Data, offset) {
            Ok(data) if data >= offset && data < size => data,
            Err(Error::NoSuchAddress) => size,
            other => self.finding(&format!("{}: data from {offset}: {other:?}", self.show(at))),
        };
        if self.content(at).has_data(offset, end) {
            self.finding(&format!("{}: data between {offset} and {end} is not found", self.show(at)));
        }
        match vnode.seek(SeekWhat::Hole, offset) {
            Ok(hole) if hole >= offset && hole <= size => {}
            other => self.finding(&format!("{}: hole from {offset}: {other:?}", self.show(at))),
        }
    }
}
