//! List to XDR.

use crate::decode::ENCODING_XDR;
use crate::error::{NvError, Result};
use crate::{DEPTH_MAX, NvList, NvPair, NvValue};
use alloc::vec::Vec;

/// Header byte: written by a little-endian host.
const LITTLE_ENDIAN: u8 = 1;

impl NvList {
    /// Packed form with the four-byte header.
    ///
    /// # Errors
    /// `TooDeep`, `TooLarge`, or `BadString` for a name or string the format cannot hold.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::from([ENCODING_XDR, LITTLE_ENDIAN, 0, 0]);
        encode_list(&mut out, self, 1)?;
        Ok(out)
    }

    /// Form without the four-byte header, as it is nested in others.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_nested(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        encode_list(&mut out, self, 1)?;
        Ok(out)
    }
}

fn encode_list(out: &mut Vec<u8>, list: &NvList, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(NvError::TooDeep);
    }
    put_u32(out, 0);
    put_u32(out, list.flags);
    for pair in &list.pairs {
        encode_pair(out, pair, depth)?;
    }
    out.extend_from_slice(&[0; 8]);
    Ok(())
}

fn encode_pair(out: &mut Vec<u8>, pair: &NvPair, depth: usize) -> Result<()> {
    if pair.name.is_empty() {
        return Err(NvError::BadString);
    }
    let start = out.len();
    put_u32(out, 0);
    put_len(out, pair.value.decoded_size(pair.name.len()))?;
    put_string(out, &pair.name)?;
    put_u32(out, pair.value.kind() as u32);
    put_len(out, pair.value.nelem())?;
    encode_value(out, &pair.value, depth)?;
    let encoded_size = u32::try_from(out.len() - start).map_err(|_| NvError::TooLarge)?;
    out[start..start + 4].copy_from_slice(&encoded_size.to_be_bytes());
    Ok(())
}

fn encode_value(out: &mut Vec<u8>, value: &NvValue, depth: usize) -> Result<()> {
    match value {
        NvValue::Boolean => {}
        NvValue::Byte(v) | NvValue::Uint8(v) => put_u32(out, u32::from(*v)),
        NvValue::Int8(v) => put_i32(out, i32::from(*v)),
        NvValue::Int16(v) => put_i32(out, i32::from(*v)),
        NvValue::Uint16(v) => put_u32(out, u32::from(*v)),
        NvValue::Int32(v) => put_i32(out, *v),
        NvValue::Uint32(v) => put_u32(out, *v),
        NvValue::Int64(v) | NvValue::Hrtime(v) => put_u64(out, v.cast_unsigned()),
        NvValue::Uint64(v) | NvValue::Double(v) => put_u64(out, *v),
        NvValue::BooleanValue(v) => put_u32(out, u32::from(*v)),
        NvValue::String(v) => put_string(out, v)?,
        NvValue::ByteArray(v) => put_opaque(out, v),
        NvValue::Int8Array(v) => put_array(out, v, |out, v| put_i32(out, i32::from(*v)))?,
        NvValue::Uint8Array(v) => put_array(out, v, |out, v| put_u32(out, u32::from(*v)))?,
        NvValue::Int16Array(v) => put_array(out, v, |out, v| put_i32(out, i32::from(*v)))?,
        NvValue::Uint16Array(v) => put_array(out, v, |out, v| put_u32(out, u32::from(*v)))?,
        NvValue::Int32Array(v) => put_array(out, v, |out, v| put_i32(out, *v))?,
        NvValue::Uint32Array(v) => put_array(out, v, |out, v| put_u32(out, *v))?,
        NvValue::Int64Array(v) => put_array(out, v, |out, v| put_u64(out, v.cast_unsigned()))?,
        NvValue::Uint64Array(v) => put_array(out, v, |out, v| put_u64(out, *v))?,
        NvValue::BooleanArray(v) => put_array(out, v, |out, v| put_u32(out, u32::from(*v)))?,
        NvValue::StringArray(v) => v.iter().try_for_each(|s| put_string(out, s))?,
        NvValue::NvList(v) => encode_list(out, v, depth + 1)?,
        NvValue::NvListArray(v) => v.iter().try_for_each(|list| encode_list(out, list, depth + 1))?,
    }
    Ok(())
}

fn put_u32(out: &mut Vec<u8>, v: u32) {
    out.extend_from_slice(&v.to_be_bytes());
}

fn put_i32(out: &mut Vec<u8>, v: i32) {
    out.extend_from_slice(&v.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, v: u64) {
    out.extend_from_slice(&v.to_be_bytes());
}

fn put_len(out: &mut Vec<u8>, len: usize) -> Result<()> {
    put_u32(out, u32::try_from(len).map_err(|_| NvError::TooLarge)?);
    Ok(())
}

fn put_opaque(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    let padded = bytes.len().next_multiple_of(4);
    out.extend_from_slice(&[0; 3][..padded - bytes.len()]);
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    if bytes.contains(&0) {
        return Err(NvError::BadString);
    }
    put_len(out, bytes.len())?;
    put_opaque(out, bytes);
    Ok(())
}

fn put_array<T>(out: &mut Vec<u8>, values: &[T], put: impl Fn(&mut Vec<u8>, &T)) -> Result<()> {
    put_len(out, values.len())?;
    values.iter().for_each(|v| put(out, v));
    Ok(())
}
