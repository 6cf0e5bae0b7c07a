//! GUID partition tables (UEFI specification, chapter 5): read and written.
//!
//! Both copies are written, the backup first, so that a crash in between leaves one that is whole. On reading, the
//! backup is used when the primary's checksums do not hold.
//!
//! What it is not: an editor. A table is made as a whole.
use crate::device::BlockDevice;
use crate::error::Error;
use abd::Abd;
use alloc::string::String;
use alloc::vec::Vec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A GUID in the byte order of the disk (first three fields little-endian).
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Guid(pub [u8; 16]);

/// Type of a partition that holds a ZFS pool.
pub const TYPE_ZFS: Guid = Guid::from_fields(0x6a89_8cc3, 0x1dd2, 0x11b2, 0x99a6_0800_2073_6631);
/// Type of a partition that holds a BIOS boot loader.
pub const TYPE_BIOS_BOOT: Guid = Guid::from_fields(0x2168_6148, 0x6449, 0x6e6f, 0x744e_6565_6445_4649);

const SIGNATURE: [u8; 8] = *b"EFI PART";
const REVISION: u32 = 0x1_0000;
const ENTRY_COUNT: u32 = 128;
const ENTRY_SIZE: u32 = 128;
const HEADER_SIZE: u32 = 92;
/// More than that in a header is not believed.
const TABLE_BYTES_MAX: u64 = 1 << 20;
const NAME_UNITS: usize = 36;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawHeader {
    signature: [u8; 8],
    revision: U32,
    header_size: U32,
    header_crc: U32,
    reserved: U32,
    my_lba: U64,
    alternate_lba: U64,
    first_usable: U64,
    last_usable: U64,
    disk_guid: Guid,
    entries_lba: U64,
    entry_count: U32,
    entry_size: U32,
    entries_crc: U32,
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_SIZE as usize);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawEntry {
    kind: Guid,
    id: Guid,
    first: U64,
    last: U64,
    attributes: U64,
    name: [U16; NAME_UNITS],
}
const _: () = assert!(size_of::<RawEntry>() == ENTRY_SIZE as usize);

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Type.
    pub kind: Guid,
    /// Its own id.
    pub id: Guid,
    /// First byte on the device.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Name; at most 36 UTF-16 units are stored.
    pub name: String,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Id of the disk.
    pub disk_id: Guid,
    /// The partitions in use, in the order of the table.
    pub entries: Vec<Entry>,
}

impl Guid {
    /// From the fields as written: `AAAAAAAA-BBBB-CCCC-` and the last two groups as one number.
    pub const fn from_fields(a: u32, b: u16, c: u16, rest: u64) -> Self {
        let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), rest.to_be_bytes());
        Self([a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]])
    }

    /// A random one (version 4) made of 16 random bytes.
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[7] = bytes[7] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl core::fmt::Display for Guid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let b = &self.0;
        let a = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let (c, d) = (u16::from_le_bytes([b[4], b[5]]), u16::from_le_bytes([b[6], b[7]]));
        write!(f, "{a:08x}-{c:04x}-{d:04x}-{:02x}{:02x}-", b[8], b[9])?;
        b[10..].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl core::fmt::Debug for Guid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl Table {
    /// Reads the table; `None` when the device has none.
    ///
    /// # Errors
    /// The device's.
    pub fn read(device: &dyn BlockDevice) -> Result<Option<Self>, Error> {
        let geometry = device.geometry();
        let nr_blocks = geometry.capacity / u64::from(geometry.logical_block_size);
        if nr_blocks < 4 {
            return Ok(None);
        }
        for lba in [1, nr_blocks - 1] {
            if let Some(table) = read_copy(device, lba, nr_blocks)? {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    /// Writes the table with both copies and a protective MBR whose first 440 bytes are `boot_code` (shorter is
    /// padded), and flushes.
    ///
    /// # Errors
    /// The device's; [`Error::Invalid`] when an entry overlaps the table itself, another entry, or the end.
    pub fn write(&self, device: &dyn BlockDevice, boot_code: &[u8]) -> Result<(), Error> {
        let geometry = device.geometry();
        let block = u64::from(geometry.logical_block_size);
        let nr_blocks = geometry.capacity / block;
        let table_blocks = u64::from(ENTRY_COUNT * ENTRY_SIZE).div_ceil(block);
        if nr_blocks < 2 * table_blocks + 4 || boot_code.len() > 440 {
            return Err(Error::Invalid);
        }
        let (first, last) = (2 + table_blocks, nr_blocks - table_blocks - 2);
        self.check(block, first, last)?;
        let entries = self.raw_entries(block);
        let header = RawHeader {
            signature: SIGNATURE,
            revision: REVISION.into(),
            header_size: HEADER_SIZE.into(),
            header_crc: 0.into(),
            reserved: 0.into(),
            my_lba: 1.into(),
            alternate_lba: (nr_blocks - 1).into(),
            first_usable: first.into(),
            last_usable: last.into(),
            disk_guid: self.disk_id,
            entries_lba: 2.into(),
            entry_count: ENTRY_COUNT.into(),
            entry_size: ENTRY_SIZE.into(),
            entries_crc: crc32fast::hash(&entries).into(),
        };
        let backup = RawHeader {
            my_lba: header.alternate_lba,
            alternate_lba: header.my_lba,
            entries_lba: (last + 1).into(),
            ..header
        };
        for copy in [backup, header] {
            device.write(copy.entries_lba.get() * block, Abd::copy_from(&entries))?;
            device.write(copy.my_lba.get() * block, sealed(copy, block))?;
            device.flush()?;
        }
        device.write(0, protective_mbr(boot_code, nr_blocks, block))?;
        device.flush()
    }

    fn check(&self, block: u64, first: u64, last: u64) -> Result<(), Error> {
        let mut ranges: Vec<(u64, u64)> = self.entries.iter().map(|e| (e.start, e.len)).collect();
        ranges.sort_unstable();
        let mut free_from = first * block;
        for (start, len) in ranges {
            let end = start.checked_add(len).ok_or(Error::Invalid)?;
            let is_aligned = start.is_multiple_of(block) && len.is_multiple_of(block) && len > 0;
            if !is_aligned || start < free_from || end > (last + 1) * block {
                return Err(Error::Invalid);
            }
            free_from = end;
        }
        if self.entries.len() > ENTRY_COUNT as usize { Err(Error::Invalid) } else { Ok(()) }
    }

    fn raw_entries(&self, block: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in &self.entries {
            let mut name = [U16::new(0); NAME_UNITS];
            for (room, unit) in name.iter_mut().zip(entry.name.encode_utf16()) {
                *room = unit.into();
            }
            let raw = RawEntry {
                kind: entry.kind,
                id: entry.id,
                first: (entry.start / block).into(),
                last: ((entry.start + entry.len) / block - 1).into(),
                attributes: 0.into(),
                name,
            };
            bytes.extend_from_slice(raw.as_bytes());
        }
        bytes.resize(((ENTRY_COUNT * ENTRY_SIZE) as u64).next_multiple_of(block) as usize, 0);
        bytes
    }
}

fn sealed(mut header: RawHeader, block: u64) -> Abd {
    header.header_crc = crc32fast::hash(header.as_bytes()).into();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(block as usize, 0);
    Abd::copy_from(&bytes)
}

/// One entry of type 0xEE over the whole disk, marked active: some firmware boots nothing else.
fn protective_mbr(boot_code: &[u8], nr_blocks: u64, block: u64) -> Abd {
    let mut mbr = alloc::vec![0; block as usize];
    mbr[..boot_code.len()].copy_from_slice(boot_code);
    let count = u32::try_from(nr_blocks - 1).unwrap_or(u32::MAX);
    mbr[446..454].copy_from_slice(&[0x80, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
    mbr[458..462].copy_from_slice(&count.to_le_bytes());
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    Abd::copy_from(&mbr)
}

fn read_copy(device: &dyn BlockDevice, lba: u64, nr_blocks: u64) -> Result<Option<Table>, Error> {
    let block = u64::from(device.geometry().logical_block_size);
    let first = device.read(lba * block, block as usize)?.freeze().to_vec();
    let Some(header) = parse_header(&first, lba) else { return Ok(None) };
    let (count, size) = (u64::from(header.entry_count.get()), u64::from(header.entry_size.get()));
    let Some(len) = count.checked_mul(size).filter(|l| *l <= TABLE_BYTES_MAX && *l > 0) else {
        return Ok(None);
    };
    let blocks = len.div_ceil(block);
    let entries_lba = header.entries_lba.get();
    if size < u64::from(ENTRY_SIZE) || entries_lba.checked_add(blocks).is_none_or(|end| end > nr_blocks) {
        return Ok(None);
    }
    let bytes = device.read(entries_lba * block, (blocks * block) as usize)?.freeze().to_vec();
    let bytes = &bytes[..len as usize];
    if crc32fast::hash(bytes) != header.entries_crc.get() {
        return Ok(None);
    }
    let entries =
        bytes.chunks_exact(size as usize).filter_map(|b| parse_entry(b, block, nr_blocks)).collect();
    Ok(Some(Table { disk_id: header.disk_guid, entries }))
}

fn parse_header(block: &[u8], lba: u64) -> Option<RawHeader> {
    let (header, _) = RawHeader::read_from_prefix(block).ok()?;
    let size = header.header_size.get() as usize;
    let sum = |bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..16]);
        hasher.update(&[0; 4]);
        hasher.update(&bytes[20..]);
        hasher.finalize()
    };
    let is_good = header.signature == SIGNATURE
        && size >= HEADER_SIZE as usize
        && header.my_lba.get() == lba
        && block.get(..size).is_some_and(|b| sum(b) == header.header_crc.get());
    is_good.then_some(header)
}

fn parse_entry(bytes: &[u8], block: u64, nr_blocks: u64) -> Option<Entry> {
    let (raw, _) = RawEntry::read_from_prefix(bytes).ok()?;
    let (first, last) = (raw.first.get(), raw.last.get());
    if raw.kind == Guid([0; 16]) || first > last || last >= nr_blocks {
        return None;
    }
    let units = raw.name.iter().map(|u| u.get()).take_while(|u| *u != 0);
    let name = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let (start, len) = (first * block, (last - first + 1) * block);
    Some(Entry { kind: raw.kind, id: raw.id, start, len, name })
}
