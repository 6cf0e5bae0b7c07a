//! `zeo send`, `zeo receive`, `zeo stream`: snapshots of a powered-off machine's pool as streams of bytes.
pub mod info;
pub mod receive;
pub mod send;

use std::io::{Read, Write};
use zfs::Error;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// Gives a stream's bytes out of a reader; keeps the reader's own error.
pub struct Source<R> {
    reader: R,
    error: Option<std::io::Error>,
}

impl<R: Read> Source<R> {
    /// Over a reader.
    pub fn new(reader: R) -> Self {
        Self { reader, error: None }
    }

    /// Fills the start of the buffer.
    ///
    /// # Errors
    /// `Fault`, with the reader's error kept.
    pub fn fill(&mut self, buf: &mut [u8]) -> zfs::Result<usize> {
        loop {
            match self.reader.read(buf) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.error = Some(e);
                    return Err(Error::Fault);
                }
                Ok(n) => return Ok(n),
            }
        }
    }

    /// What went wrong, if it was the reader.
    pub fn error(self) -> Option<std::io::Error> {
        self.error
    }
}

/// Writes a stream's bytes; keeps the writer's own error.
pub struct Target<W> {
    writer: W,
    error: Option<std::io::Error>,
}

impl<W: Write> Target<W> {
    /// Over a writer.
    pub fn new(writer: W) -> Self {
        Self { writer, error: None }
    }

    /// Writes.
    ///
    /// # Errors
    /// `Fault`, with the writer's error kept.
    pub fn put(&mut self, bytes: &[u8]) -> zfs::Result<()> {
        self.writer.write_all(bytes).map_err(|e| {
            self.error = Some(e);
            Error::Fault
        })
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// The writer's, now or before.
    pub fn finish(mut self) -> std::io::Result<()> {
        match self.error.take() {
            Some(e) => Err(e),
            None => self.writer.flush(),
        }
    }
}
