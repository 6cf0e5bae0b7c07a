//! Attributes of the other byte order. Dnodes are swapped when they are read, but attributes in them only by who knows
//! their layout: OpenZFS leaves them as they came until someone uses the file. Here they are turned once, at the end of
//! the receive that brought them.
use super::Sa;
use super::tables::Tables;
use crate::{Error, Result};
use alloc::vec::Vec;
use core::ops::Range;
use ondisk::ByteswapClass;
use ondisk::byteswap::swap_class;
use ondisk::sa::{SA_MAGIC, SaByteswap, SaHeader, ZPL_ATTRIBUTES};

/// Where a header's lengths begin; before them magic and layout.
const LENGTHS: usize = 6;

/// Whether packed attributes are of the other byte order.
pub(crate) fn is_foreign(bytes: &[u8]) -> bool {
    bytes.first_chunk() == Some(&SA_MAGIC.to_be_bytes())
}

impl Sa {
    /// Turns packed attributes of the other byte order into ours; others stay as they are.
    ///
    /// # Errors
    /// [`Error::Damaged`] when they do not fit their layout.
    pub(crate) fn swap_foreign(&self, bytes: &mut [u8]) -> Result<()> {
        if is_foreign(bytes) { self.tables.swap_foreign(bytes) } else { Ok(()) }
    }
}

impl Tables {
    fn swap_foreign(&self, bytes: &mut [u8]) -> Result<()> {
        let head = bytes.get_mut(..LENGTHS).ok_or(Error::Damaged)?;
        head[..4].reverse();
        head[4..].reverse();
        let header = SaHeader::parse(bytes)?;
        let lengths = bytes.get_mut(LENGTHS..header.size).ok_or(Error::Damaged)?;
        swap_class(ByteswapClass::U16, lengths);
        let mut places: Vec<(u16, Range<usize>)> = Vec::new();
        self.for_each_place(bytes, false, &mut |number, range| places.push((number, range)))?;
        for (number, range) in places {
            let value = bytes.get_mut(range).ok_or(Error::Damaged)?;
            // What is not known is left as it is: nobody here looks at it.
            let class = self.attr(number).map(|attr| ZPL_ATTRIBUTES[attr as usize].1);
            swap_class(class.map_or(ByteswapClass::U8, class_of), value);
        }
        Ok(())
    }
}

const fn class_of(class: SaByteswap) -> ByteswapClass {
    match class {
        SaByteswap::U64 => ByteswapClass::U64,
        SaByteswap::U32 => ByteswapClass::U32,
        SaByteswap::U16 => ByteswapClass::U16,
        SaByteswap::U8 => ByteswapClass::U8,
        SaByteswap::Acl => ByteswapClass::Acl,
    }
}
