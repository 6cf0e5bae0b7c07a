//! A window of a device, as a device.
use crate::device::{BlockDevice, Geometry, QueueFull};
use crate::error::Error;
use crate::request::{Op, Request};
use alloc::sync::Arc;

/// `len` bytes of a device from `start` on.
#[derive(Debug)]
pub struct Partition {
    device: Arc<dyn BlockDevice>,
    start: u64,
    len: u64,
}

impl Partition {
    /// A window, in bytes; both ends on logical blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it does not lie inside the device or is not aligned.
    pub fn new(device: Arc<dyn BlockDevice>, start: u64, len: u64) -> Result<Self, Error> {
        let geometry = device.geometry();
        let block = u64::from(geometry.logical_block_size);
        let is_inside = start.checked_add(len).is_some_and(|end| end <= geometry.capacity);
        if !is_inside || !start.is_multiple_of(block) || !len.is_multiple_of(block) {
            return Err(Error::Invalid);
        }
        Ok(Self { device, start, len })
    }

    /// The offset on the whole device, if the range lies in the window.
    fn shift(&self, offset: u64, len: u64) -> Option<u64> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| self.start + offset)
    }
}

impl BlockDevice for Partition {
    fn geometry(&self) -> Geometry {
        Geometry { capacity: self.len, ..self.device.geometry() }
    }

    fn submit(&self, queue: usize, request: Request) -> Result<(), QueueFull> {
        let Request { mut op, done } = request;
        let shifted = match &mut op {
            Op::Read { offset, buf } => self.shift(*offset, buf.len() as u64).map(|o| *offset = o),
            Op::Write { offset, data, .. } => self.shift(*offset, data.len() as u64).map(|o| *offset = o),
            Op::Discard { offset, len } | Op::WriteZeroes { offset, len } => {
                self.shift(*offset, *len).map(|o| *offset = o)
            }
            Op::Flush => Some(()),
        };
        if shifted.is_none() {
            let buf = match op {
                Op::Read { buf, .. } => Some(buf),
                _ => None,
            };
            done.complete(Err(Error::Invalid), buf);
            return Ok(());
        }
        self.device.submit(queue, Request { op, done }).map_err(|QueueFull(mut request)| {
            // Handed back as it came: the caller submits it again.
            match &mut request.op {
                Op::Read { offset, .. }
                | Op::Write { offset, .. }
                | Op::Discard { offset, .. }
                | Op::WriteZeroes { offset, .. } => *offset -= self.start,
                Op::Flush => {}
            }
            QueueFull(request)
        })
    }

    fn poll(&self, queue: usize) -> usize {
        self.device.poll(queue)
    }

    fn poll_begin(&self, queue: usize) {
        self.device.poll_begin(queue);
    }

    fn poll_end(&self, queue: usize) {
        self.device.poll_end(queue);
    }
}
