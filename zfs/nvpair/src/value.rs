//! The 27 types of values.

use crate::NvList;
use alloc::vec::Vec;

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $id:literal $(($inner:ty))?,)*) => {
        /// Type number of a value (`data_type_t`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum NvType {
            $($(#[$doc])* $name = $id,)*
        }

        impl NvType {
            /// The type of that number.
            #[must_use]
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        /// A value.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum NvValue {
            $($(#[$doc])* $name $(($inner))?,)*
        }

        impl NvValue {
            /// Its type.
            #[must_use]
            pub const fn kind(&self) -> NvType {
                match self {
                    $(Self::$name { .. } => NvType::$name,)*
                }
            }
        }
    };
}

types! {
    /// Presence only.
    Boolean = 1,
    /// Byte.
    Byte = 2(u8),
    /// Signed, 16 bits.
    Int16 = 3(i16),
    /// Unsigned, 16 bits.
    Uint16 = 4(u16),
    /// Signed, 32 bits.
    Int32 = 5(i32),
    /// Unsigned, 32 bits.
    Uint32 = 6(u32),
    /// Signed, 64 bits.
    Int64 = 7(i64),
    /// Unsigned, 64 bits.
    Uint64 = 8(u64),
    /// String, without its NUL.
    String = 9(Vec<u8>),
    /// Bytes, stored densely.
    ByteArray = 10(Vec<u8>),
    /// Signed, 16 bits each.
    Int16Array = 11(Vec<i16>),
    /// Unsigned, 16 bits each.
    Uint16Array = 12(Vec<u16>),
    /// Signed, 32 bits each.
    Int32Array = 13(Vec<i32>),
    /// Unsigned, 32 bits each.
    Uint32Array = 14(Vec<u32>),
    /// Signed, 64 bits each.
    Int64Array = 15(Vec<i64>),
    /// Unsigned, 64 bits each.
    Uint64Array = 16(Vec<u64>),
    /// Strings.
    StringArray = 17(Vec<Vec<u8>>),
    /// Nanoseconds.
    Hrtime = 18(i64),
    /// List.
    NvList = 19(NvList),
    /// Lists.
    NvListArray = 20(Vec<NvList>),
    /// Truth value.
    BooleanValue = 21(bool),
    /// Signed, 8 bits.
    Int8 = 22(i8),
    /// Unsigned, 8 bits.
    Uint8 = 23(u8),
    /// Truth values.
    BooleanArray = 24(Vec<bool>),
    /// Signed, 8 bits each.
    Int8Array = 25(Vec<i8>),
    /// Unsigned, 8 bits each.
    Uint8Array = 26(Vec<u8>),
    /// IEEE double, as its bits.
    Double = 27(u64),
}

/// Size of a nested list's head in the memory of the implementation that defined `decoded_size`.
const NATIVE_LIST: usize = 24;
/// Size of a pair's head, likewise.
const NATIVE_PAIR: usize = 16;

const fn align8(n: usize) -> usize {
    n.next_multiple_of(8)
}

impl NvValue {
    /// Number of elements as pairs state it: 0 for presence, 1 for scalars, the length for arrays.
    #[must_use]
    pub fn nelem(&self) -> usize {
        match self {
            Self::Boolean => 0,
            Self::ByteArray(v) | Self::Uint8Array(v) => v.len(),
            Self::Int8Array(v) => v.len(),
            Self::Int16Array(v) => v.len(),
            Self::Uint16Array(v) => v.len(),
            Self::Int32Array(v) => v.len(),
            Self::Uint32Array(v) => v.len(),
            Self::Int64Array(v) => v.len(),
            Self::Uint64Array(v) => v.len(),
            Self::StringArray(v) => v.len(),
            Self::NvListArray(v) => v.len(),
            Self::BooleanArray(v) => v.len(),
            _ => 1,
        }
    }

    /// Bytes of the value in the memory of the implementation that defined `decoded_size`; that implementation's decoder
    /// allocates by it.
    fn native_size(&self) -> usize {
        match self {
            Self::Boolean => 0,
            Self::Byte(_) | Self::Int8(_) | Self::Uint8(_) => 1,
            Self::Int16(_) | Self::Uint16(_) => 2,
            Self::Int32(_) | Self::Uint32(_) | Self::BooleanValue(_) => 4,
            Self::Int64(_) | Self::Uint64(_) | Self::Hrtime(_) | Self::Double(_) => 8,
            Self::String(s) => s.len() + 1,
            Self::ByteArray(_) | Self::Int8Array(_) | Self::Uint8Array(_) => self.nelem(),
            Self::Int16Array(_) | Self::Uint16Array(_) => 2 * self.nelem(),
            Self::Int32Array(_) | Self::Uint32Array(_) | Self::BooleanArray(_) => 4 * self.nelem(),
            Self::Int64Array(_) | Self::Uint64Array(_) => 8 * self.nelem(),
            Self::StringArray(v) => v.iter().map(|s| 8 + s.len() + 1).sum(),
            Self::NvList(_) => NATIVE_LIST,
            Self::NvListArray(v) => v.len() * (8 + NATIVE_LIST),
        }
    }

    /// The `decoded_size` of a pair with a name of that length.
    pub(crate) fn decoded_size(&self, name_len: usize) -> usize {
        align8(NATIVE_PAIR + name_len + 1) + align8(self.native_size())
    }
}
