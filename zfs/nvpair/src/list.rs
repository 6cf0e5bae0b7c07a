//! A list in memory: building, looking up, changing.

use crate::NvValue;
use alloc::vec::Vec;

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvPair {
    /// Name, without its NUL.
    pub name: Vec<u8>,
    /// Value.
    pub value: NvValue,
}

/// An ordered list of pairs.
///
/// A list made by [`NvList::new`] has unique names: adding a name again replaces the earlier pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvList {
    pub(crate) flags: u32,
    pub(crate) pairs: Vec<NvPair>,
}

impl Default for NvList {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! adders {
    ($($(#[$doc:meta])* $name:ident($ty:ty) = $variant:ident;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(self, name: &str, value: $ty) -> Self {
            self.with(name, NvValue::$variant(value.into()))
        })*
    };
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident -> $ty:ty = $variant:ident($v:ident) $get:expr;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(&self, name: &str) -> Option<$ty> {
            match self.get(name)? {
                NvValue::$variant($v) => $get,
                _ => None,
            }
        })*
    };
}

impl NvList {
    /// Flag: names are unique.
    pub const UNIQUE_NAME: u32 = 1;
    /// Flag: names are unique per type.
    pub const UNIQUE_NAME_TYPE: u32 = 2;

    /// An empty list with unique names.
    #[must_use]
    pub const fn new() -> Self {
        Self { flags: Self::UNIQUE_NAME, pairs: Vec::new() }
    }

    /// An empty list with the given flags.
    #[must_use]
    pub const fn with_flags(flags: u32) -> Self {
        Self { flags, pairs: Vec::new() }
    }

    /// The flags word.
    #[must_use]
    pub const fn flags(&self) -> u32 {
        self.flags
    }

    /// The pairs in order.
    #[must_use]
    pub fn pairs(&self) -> &[NvPair] {
        &self.pairs
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// No pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of the first pair of that name.
    #[must_use]
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&NvValue> {
        let name = name.as_ref();
        self.pairs.iter().find(|p| p.name == name).map(|p| &p.value)
    }

    /// The value of the first pair of that name, to be changed.
    pub fn get_mut(&mut self, name: impl AsRef<[u8]>) -> Option<&mut NvValue> {
        let name = name.as_ref();
        self.pairs.iter_mut().find(|p| p.name == name).map(|p| &mut p.value)
    }

    /// There is a pair of that name.
    #[must_use]
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.get(name).is_some()
    }

    /// Appends a pair; with unique names it takes the place (in meaning, not in order) of an earlier one.
    pub fn insert(&mut self, name: impl AsRef<[u8]>, value: NvValue) {
        let name = name.as_ref();
        let flags = self.flags;
        self.pairs.retain(|p| {
            let is_same_type = p.value.kind() == value.kind();
            let is_replaced =
                flags & Self::UNIQUE_NAME != 0 || (flags & Self::UNIQUE_NAME_TYPE != 0 && is_same_type);
            p.name != name || !is_replaced
        });
        self.pairs.push(NvPair { name: name.to_vec(), value });
    }

    /// Sets the value of the first pair of that name where it stands, or appends one.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: NvValue) {
        match self.get_mut(name.as_ref()) {
            Some(place) => *place = value,
            None => self.pairs.push(NvPair { name: name.as_ref().to_vec(), value }),
        }
    }

    /// Removes all pairs of that name; returns the first one's value.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> Option<NvValue> {
        let name = name.as_ref();
        let first = self.pairs.iter().position(|p| p.name == name)?;
        let removed = self.pairs.remove(first).value;
        self.pairs.retain(|p| p.name != name);
        Some(removed)
    }

    /// Builder form of [`Self::insert`].
    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: NvValue) -> Self {
        self.insert(name, value);
        self
    }

    /// Adds a name without value.
    #[must_use]
    pub fn add_boolean(self, name: &str) -> Self {
        self.with(name, NvValue::Boolean)
    }

    adders! {
        /// Adds an unsigned 64-bit number.
        add_u64(u64) = Uint64;
        /// Adds an unsigned 32-bit number.
        add_u32(u32) = Uint32;
        /// Adds a signed 64-bit number.
        add_i64(i64) = Int64;
        /// Adds a string.
        add_str(&str) = String;
        /// Adds a truth value.
        add_bool(bool) = BooleanValue;
        /// Adds bytes.
        add_bytes(&[u8]) = ByteArray;
        /// Adds an array of unsigned 64-bit numbers.
        add_u64_array(&[u64]) = Uint64Array;
        /// Adds a list.
        add_nvlist(NvList) = NvList;
        /// Adds an array of lists.
        add_nvlist_array(Vec<NvList>) = NvListArray;
    }

    getters! {
        /// Unsigned 64-bit number of that name.
        get_u64 -> u64 = Uint64(v) Some(*v);
        /// Unsigned 32-bit number of that name.
        get_u32 -> u32 = Uint32(v) Some(*v);
        /// Signed 64-bit number of that name.
        get_i64 -> i64 = Int64(v) Some(*v);
        /// String of that name, if it is UTF-8.
        get_str -> &str = String(v) core::str::from_utf8(v).ok();
        /// Truth value of that name.
        get_bool -> bool = BooleanValue(v) Some(*v);
        /// Bytes of that name.
        get_bytes -> &[u8] = ByteArray(v) Some(v);
        /// Array of unsigned 64-bit numbers of that name.
        get_u64_array -> &[u64] = Uint64Array(v) Some(v);
        /// List of that name.
        get_nvlist -> &NvList = NvList(v) Some(v);
        /// Array of lists of that name.
        get_nvlist_array -> &[NvList] = NvListArray(v) Some(v);
    }

    /// List of that name, to be changed.
    pub fn get_nvlist_mut(&mut self, name: &str) -> Option<&mut NvList> {
        match self.get_mut(name)? {
            NvValue::NvList(list) => Some(list),
            _ => None,
        }
    }
}
