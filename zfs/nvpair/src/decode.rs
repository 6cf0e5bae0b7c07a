//! XDR to list.

use crate::error::{NvError, Result};
use crate::{DEPTH_MAX, NvList, NvPair, NvType, NvValue};
use alloc::vec::Vec;

/// Encoding byte of the four-byte header: XDR.
pub(crate) const ENCODING_XDR: u8 = 1;
const LIST_VERSION: u32 = 0;

impl NvList {
    /// Decodes a packed list: four-byte header, list, and anything after it (labels are padded with zeros).
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::decode_prefix(bytes).map(|(list, _)| list)
    }

    /// As [`Self::decode`]; also returns how many bytes the list took, header included.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode_prefix(bytes: &[u8]) -> Result<(Self, usize)> {
        let (header, body) = bytes.split_first_chunk::<4>().ok_or(NvError::Truncated)?;
        if header[0] != ENCODING_XDR {
            return Err(NvError::BadEncoding);
        }
        let (list, used) = Self::decode_nested(body)?;
        Ok((list, used + header.len()))
    }

    /// Decodes a list without the four-byte header, as it is nested in others; also returns the bytes it took.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode_nested(bytes: &[u8]) -> Result<(Self, usize)> {
        let mut reader = Reader { rest: bytes };
        let list = reader.list(1)?;
        Ok((list, bytes.len() - reader.rest.len()))
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn list(&mut self, depth: usize) -> Result<NvList> {
        if depth > DEPTH_MAX {
            return Err(NvError::TooDeep);
        }
        if self.u32()? != LIST_VERSION {
            return Err(NvError::BadVersion);
        }
        let mut list = NvList::with_flags(self.u32()?);
        while let Some(pair) = self.pair(depth)? {
            list.pairs.push(pair);
        }
        Ok(list)
    }

    /// One pair; `None` for the eight zero bytes that end a list.
    fn pair(&mut self, depth: usize) -> Result<Option<NvPair>> {
        let encoded_size = self.u32()? as usize;
        let decoded_size = self.u32()?;
        if encoded_size == 0 && decoded_size == 0 {
            return Ok(None);
        }
        let body_len = encoded_size.checked_sub(8).ok_or(NvError::BadPair)?;
        let mut body = Reader { rest: self.take(body_len)? };
        let name = body.string()?;
        if name.is_empty() {
            return Err(NvError::BadString);
        }
        let kind = NvType::from_id(body.u32()?).ok_or(NvError::BadType)?;
        let nelem = body.u32()? as usize;
        let value = body.value(kind, nelem, depth)?;
        if value.nelem() != nelem {
            return Err(NvError::BadPair);
        }
        Ok(Some(NvPair { name, value }))
    }

    fn value(&mut self, kind: NvType, nelem: usize, depth: usize) -> Result<NvValue> {
        Ok(match kind {
            NvType::Boolean => NvValue::Boolean,
            NvType::Byte => NvValue::Byte(self.u32()? as u8),
            NvType::Int8 => NvValue::Int8(self.u32()? as i8),
            NvType::Uint8 => NvValue::Uint8(self.u32()? as u8),
            NvType::Int16 => NvValue::Int16(self.u32()? as i16),
            NvType::Uint16 => NvValue::Uint16(self.u32()? as u16),
            NvType::Int32 => NvValue::Int32(self.u32()?.cast_signed()),
            NvType::Uint32 => NvValue::Uint32(self.u32()?),
            NvType::Int64 => NvValue::Int64(self.u64()?.cast_signed()),
            NvType::Uint64 => NvValue::Uint64(self.u64()?),
            NvType::Hrtime => NvValue::Hrtime(self.u64()?.cast_signed()),
            NvType::Double => NvValue::Double(self.u64()?),
            NvType::BooleanValue => NvValue::BooleanValue(self.u32()? != 0),
            NvType::String => NvValue::String(self.string()?),
            NvType::ByteArray => NvValue::ByteArray(self.opaque(nelem)?.to_vec()),
            NvType::Int8Array => NvValue::Int8Array(self.array(nelem, |r| r.u32().map(|v| v as i8))?),
            NvType::Uint8Array => NvValue::Uint8Array(self.array(nelem, |r| r.u32().map(|v| v as u8))?),
            NvType::Int16Array => NvValue::Int16Array(self.array(nelem, |r| r.u32().map(|v| v as i16))?),
            NvType::Uint16Array => NvValue::Uint16Array(self.array(nelem, |r| r.u32().map(|v| v as u16))?),
            NvType::Int32Array => NvValue::Int32Array(self.array(nelem, |r| r.u32().map(u32::cast_signed))?),
            NvType::Uint32Array => NvValue::Uint32Array(self.array(nelem, Self::u32)?),
            NvType::Int64Array => NvValue::Int64Array(self.array(nelem, |r| r.u64().map(u64::cast_signed))?),
            NvType::Uint64Array => NvValue::Uint64Array(self.array(nelem, Self::u64)?),
            NvType::BooleanArray => NvValue::BooleanArray(self.array(nelem, |r| r.u32().map(|v| v != 0))?),
            NvType::StringArray => NvValue::StringArray(self.repeat(nelem, Self::string)?),
            NvType::NvList => NvValue::NvList(self.list(depth + 1)?),
            NvType::NvListArray => NvValue::NvListArray(self.repeat(nelem, |r| r.list(depth + 1))?),
        })
    }

    /// A counted array: the count is stated again.
    fn array<T>(&mut self, nelem: usize, element: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if self.u32()? as usize != nelem {
            return Err(NvError::BadPair);
        }
        self.repeat(nelem, element)
    }

    /// `nelem` elements, each of which takes at least four bytes: what cannot fit is refused before memory is asked for.
    fn repeat<T>(&mut self, nelem: usize, element: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if nelem > self.rest.len() / 4 {
            return Err(NvError::Truncated);
        }
        let mut out = Vec::with_capacity(nelem);
        for _ in 0..nelem {
            out.push(element(self)?);
        }
        Ok(out)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(NvError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(NvError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(NvError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    /// Bytes, padded to four.
    fn opaque(&mut self, len: usize) -> Result<&'a [u8]> {
        let padded = len.checked_next_multiple_of(4).ok_or(NvError::Truncated)?;
        self.take(padded).map(|bytes| &bytes[..len])
    }

    fn string(&mut self) -> Result<Vec<u8>> {
        let len = self.u32()? as usize;
        let bytes = self.opaque(len)?;
        if bytes.contains(&0) {
            return Err(NvError::BadString);
        }
        Ok(bytes.to_vec())
    }
}
