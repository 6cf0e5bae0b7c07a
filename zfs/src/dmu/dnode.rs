//! Objects.
use super::tx::DmuTx;
use crate::{Error, Result};
use abd::{Abd, PageRef};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use ondisk::{Checksum, Compression, DmuType, ObjectId};

/// A piece of what is read.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// That many zeroes.
    Zeroes(usize),
}

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Data.
    Data,
    /// A hole.
    Hole,
}

/// An object.
#[derive(Debug)]
pub struct Dnode {
    id: ObjectId,
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "interface first")]
impl Dnode {
    pub fn id(&self) -> ObjectId {
        self.id
    }
    pub fn kind(&self) -> DmuType {
        DmuType::NONE
    }
    pub fn block_size(&self) -> u32 {
        0
    }
    pub fn indirect_shift(&self) -> u8 {
        0
    }
    pub fn max_blkid(&self) -> u64 {
        0
    }
    pub fn slots(&self) -> u8 {
        0
    }
    pub fn bonus_kind(&self) -> DmuType {
        DmuType::NONE
    }
    pub fn bonus_len(&self) -> u16 {
        0
    }
    pub fn bonus_max(&self) -> usize {
        0
    }
    pub fn has_spill(&self) -> bool {
        false
    }
    pub fn used_bytes(&self) -> u64 {
        0
    }
    pub fn read(
        self: &Arc<Self>,
        _offset: u64,
        _len: usize,
        _sink: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn read_vec(self: &Arc<Self>, _offset: u64, _len: usize) -> Result<Vec<u8>> {
        Err(Error::Unsupported)
    }
    pub fn read_exact(self: &Arc<Self>, _offset: u64, _out: &mut [u8]) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn write(
        self: &Arc<Self>,
        _tx: &DmuTx,
        _offset: u64,
        _len: usize,
        _source: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<usize> {
        Err(Error::Unsupported)
    }
    pub fn write_slice(self: &Arc<Self>, _tx: &DmuTx, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn block(self: &Arc<Self>, _blkid: u64) -> Result<Abd> {
        Err(Error::Unsupported)
    }
    pub fn modify_block(
        self: &Arc<Self>,
        _tx: &DmuTx,
        _blkid: u64,
        _change: &mut dyn FnMut(&mut Abd) -> Result<()>,
    ) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn set_block(self: &Arc<Self>, _tx: &DmuTx, _blkid: u64, _content: Abd) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn free_range(self: &Arc<Self>, _tx: &DmuTx, _offset: u64, _len: u64) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn next_offset(self: &Arc<Self>, _offset: u64, _what: Seek) -> Result<Option<u64>> {
        Err(Error::Unsupported)
    }
    pub fn prefetch(self: &Arc<Self>, _offset: u64, _len: u64) {}
    pub fn page(self: &Arc<Self>, _offset: u64) -> Result<Option<PageRef>> {
        Err(Error::Unsupported)
    }
    pub fn bonus(&self, _look: &mut dyn FnMut(&[u8])) {}
    pub fn bonus_vec(&self) -> Vec<u8> {
        Vec::new()
    }
    pub fn set_bonus(self: &Arc<Self>, _tx: &DmuTx, _change: &mut dyn FnMut(&mut Vec<u8>)) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn set_bonus_kind(self: &Arc<Self>, _tx: &DmuTx, _kind: DmuType) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn spill(self: &Arc<Self>) -> Result<Option<Abd>> {
        Err(Error::Unsupported)
    }
    pub fn set_spill(self: &Arc<Self>, _tx: &DmuTx, _bytes: Option<&[u8]>) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn set_block_size(self: &Arc<Self>, _tx: &DmuTx, _bytes: u32, _indirect_shift: u8) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn set_compress(self: &Arc<Self>, _tx: &DmuTx, _compress: Compression) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn set_checksum(self: &Arc<Self>, _tx: &DmuTx, _checksum: Checksum) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn user<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        Arc::new(make())
    }
}
