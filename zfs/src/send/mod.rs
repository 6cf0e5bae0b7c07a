//! Snapshots as streams of bytes, and back.
//!
//! What it is: `zfs send` and `zfs receive` below their command lines: what to send in which order, the records, and
//! applying them. What it is not: it makes no snapshots, clones and swaps itself ([`crate::dsl`] does), and it knows
//! nothing of files or pipes: bytes come from and go to closures.
//!
//! Invariants:
//! 1. Records leave in the order of objects, and of offsets within one. Receivers resume by it.
//! 2. A record is applied only when its checksum, and so everything before it, was right.
//! 3. What is received lies in a dataset of its own, marked inconsistent, until its last record was checked. It then
//!    takes its place in one transaction group. Whatever happens before (damage, a cut, a crash) leaves the target as it
//!    was.
//!
//! | module | holds |
//! |---|---|
//! | `writer`, `reader` | records and their running checksum |
//! | `walk` | the blocks and holes of a snapshot younger than another one |
//! | `dump` | one snapshot as records |
//! | `plan`, `header` | which snapshots a request means; how a compound stream describes them |
//! | `receive` | streams into datasets |
//! | `token`, `resume` | resume tokens; what an interrupted receive keeps |
mod command;
mod dump;
mod header;
mod plan;
mod reader;
mod receive;
mod resume;
mod token;
mod walk;
mod writer;

pub use command::SendPart;
pub use dump::{BlockOptions, ResumePoint};
pub use plan::SendSpec;
pub use reader::StreamReader;
pub use receive::{Naming, ReceiveOptions, Received};
pub(crate) use resume::ResumeState;
pub use token::ResumeToken;

use crate::Result;

/// Takes a stream's bytes, piece by piece, in order.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;
/// Gives a stream's bytes: fills the start of the buffer and says how much; 0 at the end.
pub type Feed<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<usize>;
