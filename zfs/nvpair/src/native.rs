//! The native form: the memory of the host that packed it. Send streams' BEGIN payloads and resume tokens are in it.
//!
//! ```text
//! header {0, 1 = little-endian, 0, 0}, i32 version, u32 flags, pairs, u32 0
//! pair   i32 size, i16 name length with NUL, i16, i32 elements, u32 type, name, pad to 8, value, pad to 8
//! ```
//! A nested list's value is a 24-byte head (version, flags, nothing); its pairs and its own u32 0 follow the pair. Arrays
//! of strings and lists begin with eight meaningless bytes for each element.
use crate::error::{NvError, Result};
use crate::{DEPTH_MAX, NvList, NvPair, NvType, NvValue};
use alloc::vec::Vec;

const ENCODING_NATIVE: u8 = 0;
const LITTLE_ENDIAN: u8 = 1;
/// Size of a pair's head.
const PAIR: usize = 16;
/// Size of a nested list's head.
const LIST: usize = 24;
const POINTER: usize = 8;

impl NvList {
    /// Packed in the native form of a little-endian host.
    ///
    /// # Errors
    /// `TooDeep`, `TooLarge`, or `BadString` for a name or string the format cannot hold.
    pub fn encode_native(&self) -> Result<Vec<u8>> {
        let mut out = Vec::from([ENCODING_NATIVE, LITTLE_ENDIAN, 0, 0]);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        encode_pairs(&mut out, self, 1)?;
        Ok(out)
    }

    /// Decodes the native form of a host of either byte order.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode_native(bytes: &[u8]) -> Result<Self> {
        let (header, rest) = bytes.split_first_chunk::<4>().ok_or(NvError::Truncated)?;
        if header[0] != ENCODING_NATIVE || header[1] > LITTLE_ENDIAN {
            return Err(NvError::BadEncoding);
        }
        let mut reader = Reader { rest, is_little: header[1] == LITTLE_ENDIAN };
        if reader.u32()? != 0 {
            return Err(NvError::BadVersion);
        }
        let flags = reader.u32()?;
        reader.list(flags, 1)
    }
}

fn encode_pairs(out: &mut Vec<u8>, list: &NvList, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(NvError::TooDeep);
    }
    for pair in &list.pairs {
        encode_pair(out, pair, depth)?;
    }
    out.extend_from_slice(&[0; 4]);
    Ok(())
}

fn encode_pair(out: &mut Vec<u8>, pair: &NvPair, depth: usize) -> Result<()> {
    if pair.name.is_empty() || pair.name.contains(&0) {
        return Err(NvError::BadString);
    }
    let name_len = i16::try_from(pair.name.len() + 1).map_err(|_| NvError::TooLarge)?;
    let size = i32::try_from(pair.value.decoded_size(pair.name.len())).map_err(|_| NvError::TooLarge)?;
    let nelem = i32::try_from(pair.value.nelem()).map_err(|_| NvError::TooLarge)?;
    let start = out.len();
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&name_len.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&nelem.to_le_bytes());
    out.extend_from_slice(&(pair.value.kind() as u32).to_le_bytes());
    out.extend_from_slice(&pair.name);
    out.resize(start + (PAIR + pair.name.len() + 1).next_multiple_of(8), 0);
    encode_value(out, &pair.value)?;
    out.resize(start + size as usize, 0);
    match &pair.value {
        NvValue::NvList(list) => encode_pairs(out, list, depth + 1),
        NvValue::NvListArray(lists) => lists.iter().try_for_each(|l| encode_pairs(out, l, depth + 1)),
        _ => Ok(()),
    }
}

fn encode_value(out: &mut Vec<u8>, value: &NvValue) -> Result<()> {
    match value {
        NvValue::Boolean => {}
        NvValue::Byte(v) | NvValue::Uint8(v) => out.push(*v),
        NvValue::Int8(v) => out.push(v.cast_unsigned()),
        NvValue::Int16(v) => out.extend_from_slice(&v.to_le_bytes()),
        NvValue::Uint16(v) => out.extend_from_slice(&v.to_le_bytes()),
        NvValue::Int32(v) => out.extend_from_slice(&v.to_le_bytes()),
        NvValue::Uint32(v) => out.extend_from_slice(&v.to_le_bytes()),
        NvValue::Int64(v) | NvValue::Hrtime(v) => out.extend_from_slice(&v.to_le_bytes()),
        NvValue::Uint64(v) | NvValue::Double(v) => out.extend_from_slice(&v.to_le_bytes()),
        NvValue::BooleanValue(v) => out.extend_from_slice(&u32::from(*v).to_le_bytes()),
        NvValue::String(v) => put_string(out, v)?,
        NvValue::ByteArray(v) | NvValue::Uint8Array(v) => out.extend_from_slice(v),
        NvValue::Int8Array(v) => out.extend(v.iter().map(|v| v.cast_unsigned())),
        NvValue::Int16Array(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        NvValue::Uint16Array(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        NvValue::Int32Array(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        NvValue::Uint32Array(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        NvValue::Int64Array(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        NvValue::Uint64Array(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        NvValue::BooleanArray(v) => out.extend(v.iter().flat_map(|v| u32::from(*v).to_le_bytes())),
        NvValue::StringArray(v) => {
            out.resize(out.len() + POINTER * v.len(), 0);
            v.iter().try_for_each(|s| put_string(out, s))?;
        }
        NvValue::NvList(list) => put_head(out, list),
        NvValue::NvListArray(lists) => {
            out.resize(out.len() + POINTER * lists.len(), 0);
            lists.iter().for_each(|list| put_head(out, list));
        }
    }
    Ok(())
}

fn put_head(out: &mut Vec<u8>, list: &NvList) {
    let end = out.len() + LIST;
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&list.flags.to_le_bytes());
    out.resize(end, 0);
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    if bytes.contains(&0) {
        return Err(NvError::BadString);
    }
    out.extend_from_slice(bytes);
    out.push(0);
    Ok(())
}

struct Reader<'a> {
    rest: &'a [u8],
    is_little: bool,
}

impl<'a> Reader<'a> {
    fn list(&mut self, flags: u32, depth: usize) -> Result<NvList> {
        if depth > DEPTH_MAX {
            return Err(NvError::TooDeep);
        }
        let mut list = NvList::with_flags(flags);
        while let Some(pair) = self.pair(depth)? {
            list.pairs.push(pair);
        }
        Ok(list)
    }

    /// One pair; `None` for the zero size that ends a list.
    fn pair(&mut self, depth: usize) -> Result<Option<NvPair>> {
        let size = self.u32()? as usize;
        if size == 0 {
            return Ok(None);
        }
        let rest = size.checked_sub(4).ok_or(NvError::BadPair)?;
        let mut body = Reader { rest: self.take(rest)?, is_little: self.is_little };
        let name_len = usize::from(body.u16()?);
        body.u16()?;
        let nelem = body.u32()? as usize;
        let kind = NvType::from_id(body.u32()?).ok_or(NvError::BadType)?;
        let padded = (PAIR + name_len).next_multiple_of(8) - PAIR;
        let (name, nul) = match body.take(padded)?.get(..name_len).and_then(|n| n.split_last()) {
            Some((nul, name)) => (name.to_vec(), *nul),
            None => return Err(NvError::BadString),
        };
        if name.is_empty() || nul != 0 || name.contains(&0) {
            return Err(NvError::BadString);
        }
        let value = self.value(&mut body, kind, nelem, depth)?;
        if value.nelem() != nelem {
            return Err(NvError::BadPair);
        }
        Ok(Some(NvPair { name, value }))
    }

    /// A value out of `body`; nested lists' pairs follow in `self`.
    fn value(&mut self, body: &mut Reader<'a>, kind: NvType, nelem: usize, depth: usize) -> Result<NvValue> {
        Ok(match kind {
            NvType::Boolean => NvValue::Boolean,
            NvType::Byte => NvValue::Byte(body.u8()?),
            NvType::Int8 => NvValue::Int8(body.u8()?.cast_signed()),
            NvType::Uint8 => NvValue::Uint8(body.u8()?),
            NvType::Int16 => NvValue::Int16(body.u16()?.cast_signed()),
            NvType::Uint16 => NvValue::Uint16(body.u16()?),
            NvType::Int32 => NvValue::Int32(body.u32()?.cast_signed()),
            NvType::Uint32 => NvValue::Uint32(body.u32()?),
            NvType::Int64 => NvValue::Int64(body.u64()?.cast_signed()),
            NvType::Uint64 => NvValue::Uint64(body.u64()?),
            NvType::Hrtime => NvValue::Hrtime(body.u64()?.cast_signed()),
            NvType::Double => NvValue::Double(body.u64()?),
            NvType::BooleanValue => NvValue::BooleanValue(body.u32()? != 0),
            NvType::String => NvValue::String(body.string()?),
            NvType::ByteArray => NvValue::ByteArray(body.take(nelem)?.to_vec()),
            NvType::Uint8Array => NvValue::Uint8Array(body.take(nelem)?.to_vec()),
            NvType::Int8Array => NvValue::Int8Array(body.repeat(nelem, |r| r.u8().map(u8::cast_signed))?),
            NvType::Int16Array => NvValue::Int16Array(body.repeat(nelem, |r| r.u16().map(u16::cast_signed))?),
            NvType::Uint16Array => NvValue::Uint16Array(body.repeat(nelem, Self::u16)?),
            NvType::Int32Array => NvValue::Int32Array(body.repeat(nelem, |r| r.u32().map(u32::cast_signed))?),
            NvType::Uint32Array => NvValue::Uint32Array(body.repeat(nelem, Self::u32)?),
            NvType::Int64Array => NvValue::Int64Array(body.repeat(nelem, |r| r.u64().map(u64::cast_signed))?),
            NvType::Uint64Array => NvValue::Uint64Array(body.repeat(nelem, Self::u64)?),
            NvType::BooleanArray => NvValue::BooleanArray(body.repeat(nelem, |r| r.u32().map(|v| v != 0))?),
            NvType::StringArray => {
                body.skip_pointers(nelem)?;
                NvValue::StringArray(body.repeat(nelem, Self::string)?)
            }
            NvType::NvList => {
                let flags = body.head()?;
                NvValue::NvList(self.list(flags, depth + 1)?)
            }
            NvType::NvListArray => {
                body.skip_pointers(nelem)?;
                let flags: Vec<u32> = body.repeat(nelem, Self::head)?;
                let lists = flags.into_iter().map(|flags| self.list(flags, depth + 1));
                NvValue::NvListArray(lists.collect::<Result<_>>()?)
            }
        })
    }

    /// `nelem` elements of at least one byte: what cannot fit is refused before memory is asked for.
    fn repeat<T>(&mut self, nelem: usize, element: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if nelem > self.rest.len() {
            return Err(NvError::Truncated);
        }
        (0..nelem).map(|_| element(self)).collect()
    }

    fn skip_pointers(&mut self, nelem: usize) -> Result<()> {
        let len = nelem.checked_mul(POINTER).ok_or(NvError::Truncated)?;
        self.take(len).map(drop)
    }

    /// A nested list's flags.
    fn head(&mut self) -> Result<u32> {
        let mut head = Reader { rest: self.take(LIST)?, is_little: self.is_little };
        if head.u32()? != 0 {
            return Err(NvError::BadVersion);
        }
        head.u32()
    }

    fn string(&mut self) -> Result<Vec<u8>> {
        let len = self.rest.iter().position(|b| *b == 0).ok_or(NvError::BadString)?;
        let bytes = self.take(len)?.to_vec();
        self.take(1)?;
        Ok(bytes)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(NvError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(NvError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8> {
        self.chunk::<1>().map(|b| b[0])
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.chunk()?;
        Ok(if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.chunk()?;
        Ok(if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn u64(&mut self) -> Result<u64> {
        let bytes = self.chunk()?;
        Ok(if self.is_little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}
