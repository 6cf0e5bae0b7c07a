//! Character devices: drivers, found by device number when a device node of any file system is opened.
use crate::attr::DeviceId;
use crate::error::{Error, Result};
use crate::io::{ReadSink, WriteSource};
use crate::poll::{PollQueue, Pollable, Readiness};
use abd::PageRef;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use rt::RwLock;

/// The driver side of a device node.
pub trait CharDevice: Send + Sync {
    /// For the ABI layer to recognise devices it treats specially (the terminal).
    fn as_any(&self) -> &dyn Any;

    /// Called at open; another device may take this one's place (`/dev/tty`, a pty multiplexer).
    ///
    /// # Errors
    /// [`Error::NoSuchAddress`] when there is nothing behind it.
    fn open(&self) -> Result<Option<Arc<dyn CharDevice>>> {
        Ok(None)
    }

    /// Reads at least one byte, blocking unless `is_nonblocking`; 0 is the end.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::Interrupted`], [`Error::Fault`].
    fn read(&self, offset: u64, sink: &mut dyn ReadSink, is_nonblocking: bool) -> Result<usize>;

    /// Writes.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::Interrupted`], [`Error::NoSpace`], [`Error::Fault`].
    fn write(&self, offset: u64, source: &mut dyn WriteSource, is_nonblocking: bool) -> Result<usize>;

    /// Whether a file offset means something.
    fn is_seekable(&self) -> bool {
        false
    }

    /// What it is ready for.
    fn readiness(&self) -> Readiness {
        Readiness::IN | Readiness::OUT
    }

    /// Where changes of readiness are announced.
    fn poll_queue(&self) -> Option<&PollQueue> {
        None
    }

    /// A page to map; `None` for fresh zero pages (`/dev/zero`).
    ///
    /// # Errors
    /// [`Error::NoDevice`] when it cannot be mapped.
    fn map_page(&self, _offset: u64) -> Result<Option<PageRef>> {
        Err(Error::NoDevice)
    }
}

/// Drivers by device number.
#[derive(Default)]
pub struct DeviceTable {
    // Read once per open of a device node; a handful of entries.
    chars: RwLock<Vec<(DeviceId, Arc<dyn CharDevice>)>>,
}

impl DeviceTable {
    /// Makes `device` the driver of `id`, in place of any before it.
    pub fn register(&self, id: DeviceId, device: Arc<dyn CharDevice>) {
        let mut chars = self.chars.write();
        chars.retain(|(known, _)| *known != id);
        chars.push((id, device));
    }

    /// The driver of `id`.
    ///
    /// # Errors
    /// [`Error::NoSuchAddress`].
    pub fn get(&self, id: DeviceId) -> Result<Arc<dyn CharDevice>> {
        let chars = self.chars.read();
        chars.iter().find(|(known, _)| *known == id).map(|(_, d)| d.clone()).ok_or(Error::NoSuchAddress)
    }
}

impl fmt::Debug for DeviceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceTable({})", self.chars.read().len())
    }
}

impl fmt::Debug for dyn CharDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CharDevice")
    }
}

impl Pollable for dyn CharDevice {
    fn readiness(&self) -> Readiness {
        CharDevice::readiness(self)
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        CharDevice::poll_queue(self)
    }
}
