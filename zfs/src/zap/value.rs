//! Values of ZAP entries: arrays of integers of 1, 2, 4 or 8 bytes.
use crate::{Error, Result};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use ondisk::zap::ZAP_VALUE_MAX;

/// The value of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZapValue {
    /// Bytes of one integer: 1, 2, 4 or 8.
    pub int_size: u8,
    /// The integers.
    pub ints: Vec<u64>,
}

impl ZapValue {
    /// One 64-bit integer.
    pub fn word(value: u64) -> Self {
        Self { int_size: 8, ints: vec![value] }
    }

    /// 64-bit integers.
    pub fn words(values: &[u64]) -> Self {
        Self { int_size: 8, ints: values.to_vec() }
    }

    /// 16-bit integers.
    pub fn shorts(values: &[u16]) -> Self {
        Self { int_size: 2, ints: values.iter().map(|v| u64::from(*v)).collect() }
    }

    /// Bytes as they are.
    pub fn bytes(values: &[u8]) -> Self {
        Self { int_size: 1, ints: values.iter().map(|v| u64::from(*v)).collect() }
    }

    /// A string with its NUL, as properties store it.
    pub fn string(value: &str) -> Self {
        Self::bytes(&[value.as_bytes(), &[0]].concat())
    }

    /// The first (often only) integer, if there is one of 8 bytes.
    pub fn as_word(&self) -> Option<u64> {
        if self.int_size == 8 { self.ints.first().copied() } else { None }
    }

    /// The bytes of a value of one-byte integers.
    pub fn as_bytes(&self) -> Option<Vec<u8>> {
        let byte = |v: &u64| u8::try_from(*v).ok();
        if self.int_size == 1 { self.ints.iter().map(byte).collect() } else { None }
    }

    /// The string of a value of one-byte integers, up to its NUL.
    pub fn as_string(&self) -> Option<String> {
        let bytes = self.as_bytes()?;
        let text = bytes.split(|b| *b == 0).next()?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// The value as leaves store it: integers big-endian.
    pub(super) fn stored(&self) -> Result<Vec<u8>> {
        let size = usize::from(self.int_size);
        if ![1, 2, 4, 8].contains(&size) || self.ints.is_empty() {
            return Err(Error::Invalid);
        }
        if self.ints.len() > ZAP_VALUE_MAX / size {
            return Err(Error::TooLarge);
        }
        let mut out = Vec::with_capacity(size * self.ints.len());
        for int in &self.ints {
            let bytes = int.to_be_bytes();
            let (high, low) = bytes.split_at(8 - size);
            if high.iter().any(|b| *b != 0) {
                return Err(Error::Invalid);
            }
            out.extend_from_slice(low);
        }
        Ok(out)
    }

    /// The value from its stored form.
    pub(super) fn from_stored(int_size: u8, bytes: &[u8]) -> Result<Self> {
        if ![1, 2, 4, 8].contains(&int_size) {
            return Err(Error::Damaged);
        }
        let int = |piece: &[u8]| piece.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte));
        Ok(Self { int_size, ints: bytes.chunks_exact(usize::from(int_size)).map(int).collect() })
    }
}
