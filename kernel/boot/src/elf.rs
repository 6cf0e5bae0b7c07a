//! Reading 64-bit little-endian ELF files: program headers, sections, symbols. Checked throughout.
use alloc::vec::Vec;
use core::ops::Range;
use thiserror::Error;

/// Why a kernel image is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// Not an ELF file for x86_64, or cut short.
    #[error("not a 64-bit ELF file")]
    NotElf,
    /// It has no loadable segment where the kernel is linked.
    #[error("no loadable segment at the kernel's address")]
    NotKernel,
    /// It has no PVH entry note.
    #[error("no PVH entry point")]
    NoEntry,
    /// The place for the symbol table's address is missing.
    #[error("no place for the symbol table's address")]
    NoSymbolsPlace,
    /// The command line is longer than the loader's area.
    #[error("the command line is longer than 4095 bytes")]
    CommandLineTooLong,
}

/// Loadable.
pub const PT_LOAD: u32 = 1;
/// Notes.
pub const PT_NOTE: u32 = 4;
const SHT_SYMTAB: u32 = 2;
const STT_FUNC: u8 = 2;

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Kind.
    pub kind: u32,
    /// Permissions.
    pub flags: u32,
    /// Where in the file.
    pub offset: u64,
    /// Virtual address.
    pub virt: u64,
    /// Physical address.
    pub phys: u64,
    /// Bytes in the file.
    pub file_len: u64,
    /// Bytes in memory.
    pub memory_len: u64,
}

/// A function's symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Address.
    pub address: u64,
    /// Mangled name.
    pub name: &'a [u8],
}

/// A file.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a> {
    bytes: &'a [u8],
}

/// `len` bytes at `at`.
pub(crate) fn slice(bytes: &[u8], at: u64, len: u64) -> Result<&[u8], Error> {
    let range = to_range(at, len).ok_or(Error::NotElf)?;
    bytes.get(range).ok_or(Error::NotElf)
}

fn to_range(at: u64, len: u64) -> Option<Range<usize>> {
    Some(usize::try_from(at).ok()?..usize::try_from(at.checked_add(len)?).ok()?)
}

pub(crate) fn u16_at(bytes: &[u8], at: u64) -> Result<u16, Error> {
    slice(bytes, at, 2)?.first_chunk().map(|b| u16::from_le_bytes(*b)).ok_or(Error::NotElf)
}

pub(crate) fn u32_at(bytes: &[u8], at: u64) -> Result<u32, Error> {
    slice(bytes, at, 4)?.first_chunk().map(|b| u32::from_le_bytes(*b)).ok_or(Error::NotElf)
}

pub(crate) fn u64_at(bytes: &[u8], at: u64) -> Result<u64, Error> {
    slice(bytes, at, 8)?.first_chunk().map(|b| u64::from_le_bytes(*b)).ok_or(Error::NotElf)
}

impl<'a> Elf<'a> {
    /// Checks the header.
    ///
    /// # Errors
    /// [`Error::NotElf`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        const MACHINE_X86_64: u16 = 62;
        let is_elf = bytes.starts_with(b"\x7fELF\x02\x01") && u16_at(bytes, 18)? == MACHINE_X86_64;
        if is_elf { Ok(Self { bytes }) } else { Err(Error::NotElf) }
    }

    /// All program headers.
    ///
    /// # Errors
    /// [`Error::NotElf`].
    pub fn segments(&self) -> Result<Vec<Segment>, Error> {
        let (table, nr) = (u64_at(self.bytes, 32)?, u16_at(self.bytes, 56)?);
        (0..u64::from(nr)).map(|n| self.segment(table.checked_add(56 * n).ok_or(Error::NotElf)?)).collect()
    }

    fn segment(&self, at: u64) -> Result<Segment, Error> {
        let header = slice(self.bytes, at, 56)?;
        Ok(Segment {
            kind: u32_at(header, 0)?,
            flags: u32_at(header, 4)?,
            offset: u64_at(header, 8)?,
            virt: u64_at(header, 16)?,
            phys: u64_at(header, 24)?,
            file_len: u64_at(header, 32)?,
            memory_len: u64_at(header, 40)?,
        })
    }

    /// A segment's bytes in the file.
    ///
    /// # Errors
    /// [`Error::NotElf`].
    pub fn data(&self, segment: &Segment) -> Result<&'a [u8], Error> {
        slice(self.bytes, segment.offset, segment.file_len)
    }

    /// Symbols of functions; none in a stripped file.
    ///
    /// # Errors
    /// [`Error::NotElf`].
    pub fn functions(&self) -> Result<Vec<Symbol<'a>>, Error> {
        let (table, nr) = (u64_at(self.bytes, 40)?, u16_at(self.bytes, 60)?);
        let header = |n: u64| {
            let at = table.checked_add(n.checked_mul(64).ok_or(Error::NotElf)?).ok_or(Error::NotElf)?;
            slice(self.bytes, at, 64)
        };
        let mut functions = Vec::new();
        for n in 0..u64::from(nr) {
            let section = header(n)?;
            if u32_at(section, 4)? == SHT_SYMTAB {
                let names = header(u64::from(u32_at(section, 40)?))?;
                let names = slice(self.bytes, u64_at(names, 24)?, u64_at(names, 32)?)?;
                let symbols = slice(self.bytes, u64_at(section, 24)?, u64_at(section, 32)?)?;
                functions.extend(symbols.chunks_exact(24).filter_map(|s| function(s, names)));
            }
        }
        Ok(functions)
    }
}

fn function<'a>(symbol: &[u8], names: &'a [u8]) -> Option<Symbol<'a>> {
    if symbol.get(4)? & 15 != STT_FUNC {
        return None;
    }
    let name = names.get(u32_at(symbol, 0).ok()? as usize..)?;
    let end = name.iter().position(|b| *b == 0)?;
    Some(Symbol { address: u64_at(symbol, 8).ok()?, name: name.get(..end)? })
}
