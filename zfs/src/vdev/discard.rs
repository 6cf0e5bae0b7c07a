//! Telling devices which of their space is not needed, and writing over it.
use super::layout::DATA_START;
use super::leaf::Leaf;
use super::priority::Priority;
use super::queue::Payload;
use super::wait::IoGroup;
use crate::{Error, Result};
use abd::Abd;
use blockdev::{Op, Request};

/// Bytes written at a time.
const CHUNK: u64 = 1 << 20;
/// What space that is initialized is filled with (`zfs_initialize_value`).
const PATTERN: u64 = 0xdead_beef_dead_beee;

impl Leaf {
    /// Discards a range of allocatable space, as far as it covers whole units of the device; the bytes that did.
    ///
    /// # Errors
    /// `Unsupported` when the device does not discard, else the device's.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> Result<u64> {
        let limits = self.geometry().discard.ok_or(Error::Unsupported)?;
        let unit = u64::from(limits.granularity.max(self.geometry().logical_block_size));
        let start = offset.saturating_add(DATA_START).next_multiple_of(unit);
        let end =
            offset.saturating_add(DATA_START).saturating_add(len).min(self.geometry().capacity) / unit * unit;
        let step = (limits.max_len / unit * unit).max(unit);
        let (mut at, mut done) = (start, 0);
        while at < end {
            let len = step.min(end - at);
            let group = IoGroup::new();
            let op = Op::Discard { offset: at, len };
            self.device().submit_blocking(rt::cpu_id(), Request { op, done: group.completion(0) });
            for outcome in group.wait(core::iter::once(self)) {
                outcome.result?;
            }
            at += len;
            done += len;
        }
        Ok(done)
    }

    /// Writes over a range of allocatable space.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn initialize(&self, offset: u64, len: u64) -> Result<u64> {
        let mut at = 0;
        while at < len {
            let size = CHUNK.min(len - at);
            let bytes: alloc::vec::Vec<u8> = PATTERN.to_le_bytes().repeat(size as usize / 8);
            let group = IoGroup::new();
            let payload = Payload::Write(Abd::copy_from(&bytes));
            self.start(offset + at, payload, Priority::Scrub, group.completion(0));
            for outcome in group.wait(core::iter::once(self)) {
                outcome.result?;
            }
            at += size;
        }
        Ok(len)
    }
}
