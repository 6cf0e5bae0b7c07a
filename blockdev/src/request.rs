//! Requests and their completions.
use crate::error::Error;
use abd::{Abd, AbdMut};
use alloc::sync::Arc;
use core::fmt;

/// What to do. Offsets and lengths in bytes, multiples of the logical block size.
#[derive(Debug)]
pub enum Op {
    /// Fill `buf` from `offset`; the completion hands it back.
    Read {
        /// Where.
        offset: u64,
        /// Into what; its length is the request's.
        buf: AbdMut,
    },
    /// Write `data` at `offset`.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Abd,
        /// Durable on completion. Only where the geometry offers it.
        is_fua: bool,
    },
    /// Make durable every write completed before this was submitted.
    Flush,
    /// The range's content is not needed any more; reading it afterwards gives anything.
    Discard {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// Make the range read as zeroes.
    WriteZeroes {
        /// Where.
        offset: u64,
        /// How much.
        len: u64,
    },
}

/// An operation and whom to tell when it is done.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// Whom to tell.
    pub done: Completion,
}

/// The outcome of a request.
#[derive(Debug)]
pub struct Done {
    /// The number given to [`Completion::new`].
    pub tag: u64,
    /// Success, or what went wrong.
    pub result: Result<(), Error>,
    /// A read's buffer (also after an error, when the device gave it back).
    pub buf: Option<AbdMut>,
}

/// Who is told of completions.
pub trait Complete: Send + Sync {
    /// Called once for each completion. Thread context; short locks allowed, blocking not.
    fn complete(&self, done: Done);
}

/// The duty to report one outcome, exactly once.
pub struct Completion {
    target: Option<Arc<dyn Complete>>,
    tag: u64,
}

impl Completion {
    /// Reports to `target`; `tag` tells its requests apart.
    pub fn new(target: Arc<dyn Complete>, tag: u64) -> Self {
        Self { target: Some(target), tag }
    }

    /// Reports the outcome.
    pub fn complete(mut self, result: Result<(), Error>, buf: Option<AbdMut>) {
        if let Some(target) = self.target.take() {
            target.complete(Done { tag: self.tag, result, buf });
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            target.complete(Done { tag: self.tag, result: Err(Error::Io), buf: None });
            debug_assert!(false, "a completion was dropped unfulfilled");
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Completion(tag {})", self.tag)
    }
}
