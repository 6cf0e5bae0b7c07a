//! Blocks by block pointer: verified reads, prepared and issued writes, frees.
//!
//! What it is: [`Storage`], everything below objects. What it is not: it does not know which block belongs to which
//! file (a bookmark only travels into events), and it takes no decision about deferring frees.
//!
//! Invariants:
//! 1. Data leaves here only if its checksum was right (or the block has none), and a block pointer's word is never
//!    believed beyond the format's limits: sizes are checked before memory is asked for.
//! 2. A block is overwritten in place only if it was born in the transaction group that is being written: anything
//!    older may be what the last uberblock points to.
//! 3. Allocation happens in the order of `issue` calls and depends on nothing else: same input, same bytes.
mod ahead;
mod batch;
mod check;
mod columns;
mod decode;
mod flush;
mod gang;
mod heal;
mod in_flight;
mod log;
mod log_block;
mod look;
mod physical;
mod policy;
mod prepare;
mod read;
mod resilver;
mod room;
mod storage;
mod write;

pub(crate) use ahead::{AheadBlock, Unused};
pub use batch::{SyncCtx, WriteBatch};
pub use check::CopyCheck;
pub use heal::Healed;
pub use policy::{PASS_DONT_COMPRESS, PASS_REWRITE, WritePolicy};
pub use prepare::{Packed, Prepared};
pub use room::Room;
pub(crate) use room::{Promise, Share};
pub use storage::{Format, Space, Storage, StorageConfig};

#[cfg(test)]
mod stress_tests;
#[cfg(test)]
mod tests;
