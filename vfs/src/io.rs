//! Where read data goes and where written data comes from.
//!
//! A sink or source may be the memory of an application and fault: both report [`Error::Fault`] after having moved
//! what they could. The file system calls them without holding a lock that a page fault on a mapping of the same
//! file would need; kernels fault the range in before the call, so that a fault inside is the exception.
use crate::error::{Error, Result};

/// Where read data goes.
pub trait ReadSink {
    /// Room left, in bytes.
    fn remaining(&self) -> usize;

    /// Takes `bytes`, at most `remaining()` of them.
    ///
    /// # Errors
    /// [`Error::Fault`] when the memory behind it is not there.
    fn put(&mut self, bytes: &[u8]) -> Result<()>;

    /// Takes `len` zero bytes (a hole).
    ///
    /// # Errors
    /// As for `put`.
    fn put_zeroes(&mut self, len: usize) -> Result<()> {
        const ZEROES: [u8; 512] = [0; 512];
        let mut left = len;
        while left > 0 {
            let n = left.min(ZEROES.len());
            self.put(&ZEROES[..n])?;
            left -= n;
        }
        Ok(())
    }
}

/// Where written data comes from.
pub trait WriteSource {
    /// Bytes left.
    fn remaining(&self) -> usize;

    /// Moves the next `out.len()` (at most `remaining()`) bytes into `out`.
    ///
    /// # Errors
    /// [`Error::Fault`] when the memory behind it is not there.
    fn take(&mut self, out: &mut [u8]) -> Result<()>;
}

/// A slice as a sink.
#[derive(Debug)]
pub struct SliceSink<'a> {
    room: &'a mut [u8],
    filled: usize,
}

impl<'a> SliceSink<'a> {
    /// Fills `room` from its start.
    pub fn new(room: &'a mut [u8]) -> Self {
        Self { room, filled: 0 }
    }

    /// Bytes taken so far.
    pub fn filled(&self) -> usize {
        self.filled
    }
}

impl ReadSink for SliceSink<'_> {
    fn remaining(&self) -> usize {
        self.room.len() - self.filled
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let room = self.room.get_mut(self.filled..self.filled + bytes.len()).ok_or(Error::Fault)?;
        room.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }
}

/// A slice as a source.
#[derive(Debug)]
pub struct SliceSource<'a>(&'a [u8]);

impl<'a> SliceSource<'a> {
    /// Gives `bytes` in order.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl WriteSource for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, out: &mut [u8]) -> Result<()> {
        let (now, later) = self.0.split_at_checked(out.len()).ok_or(Error::Fault)?;
        out.copy_from_slice(now);
        self.0 = later;
        Ok(())
    }
}
