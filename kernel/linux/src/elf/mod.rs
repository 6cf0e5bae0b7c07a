//! ELF files: headers, checked.
//!
//! What it is: the part of loading that looks at bytes no one vouches for. It yields segments whose arithmetic cannot
//! overflow any more. What it is not: the mapping ([`crate::task::exec`]).
use crate::errno::Errno;
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the file header.
pub const HEADER_SIZE: usize = 64;
/// Bytes of a program header.
pub const PHENT: usize = 56;
/// Most program headers.
const PHNUM_MAX: usize = 128;
/// Longest interpreter path.
pub const INTERP_MAX: u64 = 4096;

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_GNU_STACK: u32 = 0x6474_e551;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;

/// Highest address a segment may have.
const ADDRESS_MAX: u64 = mm::space::USER_END;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawProgram {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_SIZE && size_of::<RawProgram>() == PHENT);

/// The file header's useful part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Linked to run at its own addresses.
    pub is_fixed: bool,
    /// First instruction.
    pub entry: u64,
    /// Offset of the program headers.
    pub phoff: u64,
    /// Number of program headers, at least 1.
    pub phnum: usize,
}

/// A loadable segment. `vaddr..vaddr + memsz` and `offset..offset + filesz` do not overflow, `filesz <= memsz`, and
/// address and offset agree modulo the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address, without bias.
    pub vaddr: u64,
    /// Bytes in memory.
    pub memsz: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// `PF_R`.
    pub is_readable: bool,
    /// `PF_W`.
    pub is_writable: bool,
    /// `PF_X`.
    pub is_executable: bool,
    /// Alignment, a power of two.
    pub align: u64,
}

/// All that loading needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Segments by address, disjoint, at least one.
    pub segments: Vec<Segment>,
    /// Where the interpreter's path is in the file: offset and length.
    pub interp: Option<(u64, u64)>,
    /// Address of the program headers in memory, without bias, if a segment holds them.
    pub phdr: Option<u64>,
    /// The stack must be executable.
    pub has_executable_stack: bool,
}

/// Reads a file header.
///
/// # Errors
/// [`Errno::ENOEXEC`] for anything but a 64-bit little-endian x86-64 executable or shared object.
pub fn parse_header(bytes: &[u8]) -> Result<Header, Errno> {
    let (raw, _) = RawHeader::read_from_prefix(bytes).map_err(|_| Errno::ENOEXEC)?;
    let is_known = raw.ident.starts_with(b"\x7fELF\x02\x01\x01")
        && raw.machine == EM_X86_64
        && matches!(raw.kind, ET_EXEC | ET_DYN)
        && usize::from(raw.phentsize) == PHENT
        && (1..=PHNUM_MAX).contains(&usize::from(raw.phnum));
    if !is_known {
        return Err(Errno::ENOEXEC);
    }
    Ok(Header { is_fixed: raw.kind == ET_EXEC, entry: raw.entry, phoff: raw.phoff, phnum: raw.phnum.into() })
}

/// Reads the program headers, `bytes` long `header.phnum * PHENT`.
///
/// # Errors
/// [`Errno::ENOEXEC`].
pub fn parse_program(header: &Header, bytes: &[u8]) -> Result<Program, Errno> {
    let mut program = Program { segments: Vec::new(), interp: None, phdr: None, has_executable_stack: false };
    for entry in bytes.chunks_exact(PHENT).take(header.phnum) {
        let (raw, _) = RawProgram::read_from_prefix(entry).map_err(|_| Errno::ENOEXEC)?;
        match raw.kind {
            PT_LOAD if raw.memsz > 0 => program.segments.push(parse_segment(&raw)?),
            PT_INTERP if (2..=INTERP_MAX).contains(&raw.filesz) => {
                program.interp = Some((raw.offset, raw.filesz));
            }
            PT_INTERP => return Err(Errno::ENOEXEC),
            PT_PHDR => program.phdr = Some(raw.vaddr),
            PT_GNU_STACK => program.has_executable_stack = raw.flags & 1 != 0,
            _ => {}
        }
    }
    program.segments.sort_by_key(|s| s.vaddr);
    let is_disjoint = program.segments.windows(2).all(|w| w[0].vaddr + w[0].memsz <= w[1].vaddr);
    if program.segments.is_empty() || !is_disjoint {
        return Err(Errno::ENOEXEC);
    }
    let length = (header.phnum * PHENT) as u64;
    let holds_headers = |s: &&Segment| {
        s.offset <= header.phoff
            && header.phoff.checked_add(length).is_some_and(|end| end <= s.offset + s.filesz)
    };
    if program.phdr.is_none() {
        program.phdr =
            program.segments.iter().find(holds_headers).map(|s| s.vaddr + (header.phoff - s.offset));
    }
    Ok(program)
}

fn parse_segment(raw: &RawProgram) -> Result<Segment, Errno> {
    let end = raw.vaddr.checked_add(raw.memsz).filter(|end| *end <= ADDRESS_MAX);
    let file_end = raw.offset.checked_add(raw.filesz).filter(|end| *end <= i64::MAX as u64);
    let is_congruent = raw.vaddr % 4096 == raw.offset % 4096;
    if end.is_none() || file_end.is_none() || raw.filesz > raw.memsz || !is_congruent {
        return Err(Errno::ENOEXEC);
    }
    let align = if raw.align.is_power_of_two() { raw.align.min(1 << 30) } else { 4096 };
    Ok(Segment {
        vaddr: raw.vaddr,
        memsz: raw.memsz,
        offset: raw.offset,
        filesz: raw.filesz,
        is_readable: raw.flags & 4 != 0,
        is_writable: raw.flags & 2 != 0,
        is_executable: raw.flags & 1 != 0,
        align,
    })
}

impl Program {
    /// Page-aligned span of all segments, without bias: start and length.
    pub fn span(&self) -> (u64, u64) {
        let start = self.segments.first().map_or(0, |s| s.vaddr / 4096 * 4096);
        let end = self.segments.last().map_or(0, |s| (s.vaddr + s.memsz).next_multiple_of(4096));
        (start, end - start)
    }

    /// Largest alignment of a segment, at least a page.
    pub fn align(&self) -> u64 {
        self.segments.iter().map(|s| s.align).max().unwrap_or(4096).max(4096)
    }
}

/// A `#!` line: interpreter and optional single argument.
///
/// # Errors
/// [`Errno::ENOEXEC`] when there is none, or none that fits into `bytes`.
pub fn parse_script(bytes: &[u8]) -> Result<(&[u8], Option<&[u8]>), Errno> {
    let line = bytes.strip_prefix(b"#!").ok_or(Errno::ENOEXEC)?;
    let end = line.iter().position(|b| *b == b'\n').ok_or(Errno::ENOEXEC)?;
    let line = line[..end].trim_ascii();
    if line.is_empty() || line.contains(&0) {
        return Err(Errno::ENOEXEC);
    }
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    Ok(match line.iter().position(is_blank) {
        None => (line, None),
        Some(at) => (&line[..at], Some(line[at..].trim_ascii())),
    })
}

#[cfg(test)]
mod tests;
