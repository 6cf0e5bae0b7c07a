//! null, zero, full, random and urandom.
use crate::device::CharDevice;
use crate::error::{Error, Result};
use crate::io::{ReadSink, WriteSource};
use abd::PageRef;
use core::any::Any;

/// Bytes of randomness drawn at once.
const RANDOM_CHUNK: usize = 256;

/// Empty to read, takes everything.
#[derive(Debug)]
pub struct Null;

/// Zeroes to read, takes everything.
#[derive(Debug)]
pub struct Zero;

/// Zeroes to read, no room to write.
#[derive(Debug)]
pub struct Full;

/// The runtime's randomness.
#[derive(Debug)]
pub struct Random;

fn zeroes(sink: &mut dyn ReadSink) -> Result<usize> {
    let n = sink.remaining();
    sink.put_zeroes(n)?;
    Ok(n)
}

impl CharDevice for Null {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _: u64, _: &mut dyn ReadSink, _: bool) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _: u64, source: &mut dyn WriteSource, _: bool) -> Result<usize> {
        Ok(source.remaining())
    }

    fn is_seekable(&self) -> bool {
        true
    }
}

impl CharDevice for Zero {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _: u64, sink: &mut dyn ReadSink, _: bool) -> Result<usize> {
        zeroes(sink)
    }

    fn write(&self, _: u64, source: &mut dyn WriteSource, _: bool) -> Result<usize> {
        Ok(source.remaining())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn map_page(&self, _: u64) -> Result<Option<PageRef>> {
        Ok(None)
    }
}

impl CharDevice for Full {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _: u64, sink: &mut dyn ReadSink, _: bool) -> Result<usize> {
        zeroes(sink)
    }

    fn write(&self, _: u64, source: &mut dyn WriteSource, _: bool) -> Result<usize> {
        if source.remaining() == 0 { Ok(0) } else { Err(Error::NoSpace) }
    }

    fn is_seekable(&self) -> bool {
        true
    }
}

impl CharDevice for Random {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _: u64, sink: &mut dyn ReadSink, _: bool) -> Result<usize> {
        let mut chunk = [0; RANDOM_CHUNK];
        let mut done = 0;
        while sink.remaining() > 0 {
            let n = sink.remaining().min(RANDOM_CHUNK);
            rt::fill_random(&mut chunk[..n]);
            match sink.put(&chunk[..n]) {
                Ok(()) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, _: u64, source: &mut dyn WriteSource, _: bool) -> Result<usize> {
        Ok(source.remaining())
    }
}
