//! Everything about a write that needs no allocation: what is stored, and its checksum.
use abd::Abd;
use ondisk::{Checksum, Compression, Digest, DmuType};

/// A block ready to be issued.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) kind: DmuType,
    pub(crate) level: u8,
    pub(crate) copies: u8,
    pub(crate) fill: u64,
    pub(crate) pass: u32,
    pub(crate) lsize: u32,
    pub(crate) checksum: Checksum,
    pub(crate) form: Form,
}

/// How the block's content is stored.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// Only zeroes: not at all.
    Hole,
    /// In the block pointer.
    Embedded { payload: Abd, compression: Compression },
    /// In a block; the data is as it goes to disk.
    Block { data: Abd, compression: Compression, digest: Digest },
}

impl Prepared {
    /// Whether it will be a hole.
    pub fn is_hole(&self) -> bool {
        matches!(self.form, Form::Hole)
    }

    /// Bytes it will take on disk for each copy, before rounding by the vdev; 0 for holes and embedded blocks.
    pub fn psize(&self) -> u32 {
        match &self.form {
            Form::Block { data, .. } => data.len() as u32,
            Form::Hole | Form::Embedded { .. } => 0,
        }
    }
}
