//! Attributes in bytes: header, lengths of the variable ones, then each attribute padded to eight bytes.
use crate::{Error, Result};
use alloc::vec::Vec;
use core::ops::Range;
use ondisk::sa::SaHeader;
use smallvec::SmallVec;
use zerocopy::IntoBytes;

/// Packed attributes with their header.
pub(super) type Packed = Vec<u8>;

/// An attribute to pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// Its number in the dataset.
    pub(super) number: u16,
    /// Nearly all are one or two words.
    pub(super) bytes: SmallVec<[u8; 16]>,
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
    let mut out = alloc::vec![0; packed_size(lengths, values)?];
    let variable = || lengths.iter().zip(values).filter(|(length, _)| **length == 0).map(|(_, value)| value);
    let header = SaHeader { layout, size: SaHeader::size_for(variable().count()) };
    let raw = header.to_raw().map_err(|_| Error::TooLarge)?;
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        // Room for all of them was made.
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        at += bytes.len();
    };
    put(raw.as_bytes());
    variable().for_each(|value| put(&(value.bytes.len() as u16).to_le_bytes()));
    at = header.size;
    for value in values {
        if let Some(place) = out.get_mut(at..at + value.bytes.len()) {
            place.copy_from_slice(&value.bytes);
        }
        at += value.bytes.len().next_multiple_of(8);
    }
    Ok(out)
}
