//! From bytes as they lie on disk to a block's content.
use crate::{Error, Result};
use abd::{Abd, AbdMut};
use ondisk::{BlkPtr, Compression, EmbeddedType, byteswap};

/// The content of a block whose stored bytes have been verified.
///
/// # Errors
/// `Damaged` when the compressed form is not of that block's size, `Unsupported` when its algorithm is not built in.
pub(super) fn decode(bp: &BlkPtr, bytes: Abd) -> Result<Abd> {
    let data = match bp.compression() {
        Compression::Off => bytes,
        alg => expand(alg, &bytes.to_contiguous(), bp.lsize())?.freeze(),
    };
    if bp.is_little_endian() {
        return Ok(data);
    }
    let mut data = data.try_into_mut().unwrap_or_else(|shared| AbdMut::copy_from(&shared.to_contiguous()));
    if data.as_mut_slice().is_none() {
        data = AbdMut::copy_from(&data.freeze().to_contiguous());
    }
    let block = data.as_mut_slice().ok_or(Error::Damaged)?;
    if bp.level() > 0 {
        byteswap::swap_indirect(block);
    } else {
        byteswap::swap_block(bp.dmu_type(), block);
    }
    Ok(data.freeze())
}

/// The content of an embedded block.
///
/// # Errors
/// As [`decode`]; `Unsupported` for what a redacted send left out.
pub(super) fn embedded(bp: &BlkPtr) -> Result<Abd> {
    if bp.embedded_type() != Some(EmbeddedType::Data) {
        return Err(Error::Unsupported);
    }
    let payload = bp.payload();
    let payload = payload.get(..bp.psize() as usize).ok_or(Error::Damaged)?;
    match bp.compression() {
        Compression::Off if payload.len() == bp.lsize() as usize => Ok(Abd::copy_from(payload)),
        Compression::Off => Err(Error::Damaged),
        alg => Ok(expand(alg, payload, bp.lsize())?.freeze()),
    }
}

fn expand(alg: Compression, bytes: &[u8], lsize: u32) -> Result<AbdMut> {
    let mut out = AbdMut::zeroed(lsize as usize);
    let slice = out.as_mut_slice().ok_or(Error::Damaged)?;
    codec::decompress(alg, bytes, slice).map_err(|e| match e {
        codec::CodecError::Unsupported => Error::Unsupported,
        _ => Error::Damaged,
    })?;
    Ok(out)
}
