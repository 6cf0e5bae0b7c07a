//! From the linker's output to what is booted.
use crate::elf::{Elf, Error, PT_LOAD, PT_NOTE, Segment, u32_at};
use crate::symbols::{self, IMAGE_BASE};
use alloc::vec;
use alloc::vec::Vec;

/// Marks the place in the kernel's data where the symbol table's address and length go.
const SYMBOLS_PLACE: &[u8; 16] = b"zeolite-symbols\0";
const PAGE: u64 = 4096;
const READ_ONLY: u32 = 4;
/// An image that claims more than this is damaged.
const FLAT_MAX: u64 = 256 << 20;

/// Turns the kernel ELF that cargo built into the one that is booted: only loadable segments and the entry note, plus
/// a segment with the symbol table, whose address is written into the kernel's data. A prepared image goes through
/// unchanged. It boots with `-kernel`.
///
/// # Errors
/// [`Error`].
pub fn prepare(kernel: &[u8]) -> Result<Vec<u8>, Error> {
    let elf = Elf::parse(kernel)?;
    let functions = elf.functions()?;
    if functions.is_empty() {
        return Ok(kernel.to_vec());
    }
    let segments = elf.segments()?;
    let mut parts: Vec<(Segment, Vec<u8>)> = Vec::new();
    for segment in segments.iter().filter(|s| s.kind == PT_LOAD && s.memory_len != 0) {
        parts.push((*segment, elf.data(segment)?.to_vec()));
    }
    let end = parts.iter().map(|(s, _)| s.virt.saturating_add(s.memory_len)).max().ok_or(Error::NotKernel)?;
    let virt = end.checked_next_multiple_of(PAGE).filter(|&v| v > IMAGE_BASE).ok_or(Error::NotKernel)?;
    let table = symbols::build(&functions);
    note_symbols(&mut parts, virt, table.len() as u64)?;
    let len = table.len() as u64;
    let segment = Segment {
        kind: PT_LOAD,
        flags: READ_ONLY,
        offset: 0,
        virt,
        phys: virt - IMAGE_BASE,
        file_len: len,
        memory_len: len,
    };
    parts.push((segment, table));
    let note = segments.iter().find(|s| s.kind == PT_NOTE).ok_or(Error::NoEntry)?;
    write_elf(kernel, parts, note)
}

fn note_symbols(parts: &mut [(Segment, Vec<u8>)], virt: u64, len: u64) -> Result<(), Error> {
    for (_, data) in parts {
        if let Some(at) = data.windows(16).position(|w| w == SYMBOLS_PLACE) {
            let place = data.get_mut(at + 16..at + 32).ok_or(Error::NoSymbolsPlace)?;
            place[..8].copy_from_slice(&virt.to_le_bytes());
            place[8..].copy_from_slice(&len.to_le_bytes());
            return Ok(());
        }
    }
    Err(Error::NoSymbolsPlace)
}

/// A file of header, program headers and segments, each at an offset congruent to its address.
fn write_elf(kernel: &[u8], parts: Vec<(Segment, Vec<u8>)>, note: &Segment) -> Result<Vec<u8>, Error> {
    const HEADER: usize = 64;
    let mut file = kernel.get(..HEADER).ok_or(Error::NotElf)?.to_vec();
    file[32..40].copy_from_slice(&(HEADER as u64).to_le_bytes());
    file[40..48].fill(0);
    file[56..58].copy_from_slice(&(parts.len() as u16 + 1).to_le_bytes());
    file[58..64].fill(0);
    let mut at = (HEADER + 56 * (parts.len() + 1)) as u64;
    let mut headers = Vec::new();
    let mut body = Vec::new();
    let body_start = at;
    let mut moved_note = None;
    for (mut segment, data) in parts {
        at = at.next_multiple_of(PAGE) + segment.virt % PAGE;
        let from = segment.offset;
        if (from..from + segment.file_len).contains(&note.offset) {
            moved_note = Some(Segment { offset: at + (note.offset - from), ..*note });
        }
        segment.offset = at;
        body.resize((at - body_start) as usize, 0);
        at += data.len() as u64;
        body.extend(data);
        headers.push(segment);
    }
    headers.push(moved_note.ok_or(Error::NoEntry)?);
    for s in headers {
        file.extend(s.kind.to_le_bytes());
        file.extend(s.flags.to_le_bytes());
        let align = if s.kind == PT_LOAD { PAGE } else { 4 };
        for word in [s.offset, s.virt, s.phys, s.file_len, s.memory_len, align] {
            file.extend(word.to_le_bytes());
        }
    }
    file.extend(body);
    Ok(file)
}

/// A kernel as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flat {
    /// From `address` on, zeroed parts included.
    pub bytes: Vec<u8>,
    /// Physical address of the first byte.
    pub address: u64,
    /// Physical address of the PVH entry point.
    pub entry: u32,
}

/// Lays out a (prepared) kernel ELF as memory.
///
/// # Errors
/// [`Error`].
pub fn flatten(kernel: &[u8]) -> Result<Flat, Error> {
    let elf = Elf::parse(kernel)?;
    let segments = elf.segments()?;
    let loads: Vec<&Segment> = segments.iter().filter(|s| s.kind == PT_LOAD).collect();
    let address = loads.iter().map(|s| s.phys).min().ok_or(Error::NotKernel)?;
    let end = loads.iter().map(|s| s.phys.saturating_add(s.memory_len)).max().ok_or(Error::NotKernel)?;
    if end - address > FLAT_MAX {
        return Err(Error::NotKernel);
    }
    let mut bytes = vec![0; (end - address) as usize];
    for segment in loads {
        let at = (segment.phys - address) as usize;
        let data = elf.data(segment)?;
        bytes.get_mut(at..at + data.len()).ok_or(Error::NotKernel)?.copy_from_slice(data);
    }
    let notes = segments.iter().filter(|s| s.kind == PT_NOTE);
    let entry = notes.filter_map(|s| pvh_entry(elf.data(s).ok()?)).next().ok_or(Error::NoEntry)?;
    Ok(Flat { bytes, address, entry })
}

/// The value of the note `Xen` of type 18.
fn pvh_entry(mut notes: &[u8]) -> Option<u32> {
    const PHYS32_ENTRY: u32 = 18;
    while !notes.is_empty() {
        let (name_len, value_len) = (u32_at(notes, 0).ok()?, u32_at(notes, 4).ok()?);
        let kind = u32_at(notes, 8).ok()?;
        let value_at = 12 + name_len.checked_next_multiple_of(4)? as usize;
        if kind == PHYS32_ENTRY && notes.get(12..16)? == b"Xen\0" {
            return u32_at(notes, value_at as u64).ok();
        }
        notes = notes.get(value_at.checked_add(value_len.checked_next_multiple_of(4)? as usize)?..)?;
    }
    None
}
