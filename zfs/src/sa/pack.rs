//! Attributes in bytes: header, lengths of the variable ones, then each attribute padded to eight bytes.
use crate::{Error, Result};
use alloc::vec::Vec;
use core::ops::Range;
use ondisk::sa::SaHeader;
use zerocopy::IntoBytes;

/// Packed attributes with their header.
pub(super) type Packed = Vec<u8>;

/// An attribute to pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// Its number in the dataset.
    pub(super) number: u16,
    pub(super) bytes: Vec<u8>,
}

/// Where attributes of a layout lie. `lengths`: of each attribute, 0 = variable. Calls `each` with the place in the
/// layout and the range, until it returns false.
pub(super) fn walk(
    bytes: &[u8],
    header: &SaHeader,
    lengths: &[u16],
    mut each: impl FnMut(usize, Range<usize>) -> bool,
) -> Result<()> {
    let mut at = header.size;
    let mut nr_variable = 0;
    for (place, length) in lengths.iter().enumerate() {
        let length = if *length == 0 {
            nr_variable += 1;
            usize::from(header.variable_length(bytes, nr_variable - 1).ok_or(Error::Damaged)?)
        } else {
            usize::from(*length)
        };
        // A foreign writer may have left out the last attribute's padding.
        let end = at + length;
        if end > bytes.len() {
            return Err(Error::Damaged);
        }
        if !each(place, at..end) {
            return Ok(());
        }
        at = end.next_multiple_of(8);
    }
    Ok(())
}

/// Bytes that attributes take with their header.
pub(super) fn packed_size(lengths: &[u16], values: &[Value]) -> Result<usize> {
    let mut size = SaHeader::size_for(lengths.iter().filter(|l| **l == 0).count());
    for (length, value) in lengths.iter().zip(values) {
        let is_right = *length == 0 || usize::from(*length) == value.bytes.len();
        if !is_right {
            return Err(Error::Invalid);
        }
        if value.bytes.len() > usize::from(u16::MAX) {
            return Err(Error::TooLarge);
        }
        size += value.bytes.len().next_multiple_of(8);
    }
    Ok(size)
}

/// Packs attributes under a layout's number.
pub(super) fn pack(layout: u16, lengths: &[u16], values: &[Value]) -> Result<Packed> {
    let mut out = Vec::with_capacity(packed_size(lengths, values)?);
    let variable = || lengths.iter().zip(values).filter(|(length, _)| **length == 0).map(|(_, value)| value);
    let header = SaHeader { layout, size: SaHeader::size_for(variable().count()) };
    out.extend_from_slice(header.to_raw().map_err(|_| Error::TooLarge)?.as_bytes());
    for value in variable() {
        out.extend_from_slice(&(value.bytes.len() as u16).to_le_bytes());
    }
    out.resize(header.size, 0);
    for value in values {
        out.extend_from_slice(&value.bytes);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    Ok(out)
}
