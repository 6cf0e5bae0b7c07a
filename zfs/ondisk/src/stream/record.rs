//! The kinds of records, parsed and checked (`dmu_replay_record`).
//!
//! | record | type | body, from byte 8 |
//! |---|---:|---|
//! | BEGIN | 0 | magic, version word, creation time, u32 kind, u32 flags, to guid, from guid, name |
//! | OBJECT | 1 | object, u32 type, u32 bonus type, u32 block size, u32 bonus length, u8 checksum, compression, slots, flags, u32 raw bonus length, to guid, (raw) |
//! | FREEOBJECTS | 2 | first, count, to guid |
//! | WRITE | 3 | object, u32 type, pad, offset, logical size, to guid, u8 checksum, flags, compression, pad, key (digest, sizes), compressed size, (raw) |
//! | FREE | 4 | object, offset, length, to guid |
//! | END | 5 | digest, to guid |
//! | WRITE_BYREF | 6 | refers to data sent earlier; nobody sends it any more |
//! | SPILL | 7 | object, length, to guid, u8 flags, compression, pad, compressed size, (raw), u32 type |
//! | WRITE_EMBEDDED | 8 | object, offset, length, to guid, u8 compression, u8 kind, pad, u32 lsize, u32 psize |
//! | OBJECT_RANGE | 9 | raw streams only |
//! | REDACT | 10 | object, offset, length, to guid |
use super::fields::{ByteOrder, Fields, View};
use super::{
    BEGIN_PAYLOAD_MAX, BeginFlags, CHECKSUM_OFFSET, MAGIC, RECORD_SIZE, RecordFlags, StreamFeatures,
};
use crate::blkptr::{EMBEDDED_PAYLOAD_SIZE, MAX_BLOCK_SIZE, SECTOR_SIZE};
use crate::checksum::{Checksum, Digest};
use crate::compression::Compression;
use crate::dmu_type::DmuType;
use crate::dnode::{DNODE_SIZE, DNODE_SLOTS_MAX};
use crate::error::{OndiskError, Result};
use crate::ids::ObjectId;
use crate::objset::ObjsetKind;
use core::fmt;

/// Room for a name, its NUL included.
const NAME_SIZE: usize = 256;
const KIND_BITS: u64 = 3;
const FEATURES_SHIFT: u32 = 2;
const FEATURES_MASK: u64 = (1 << 30) - 1;

/// A snapshot's full name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name([u8; NAME_SIZE]);

impl Name {
    /// # Errors
    /// `DoesNotFit` above 255 bytes or with a NUL.
    pub fn new(name: &str) -> Result<Self> {
        if name.len() >= NAME_SIZE || name.bytes().any(|b| b == 0) {
            return Err(OndiskError::DoesNotFit);
        }
        let mut bytes = [0; NAME_SIZE];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self(bytes))
    }

    /// The name; empty when it is no text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(NAME_SIZE);
        core::str::from_utf8(&self.0[..len]).unwrap_or("")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What a BEGIN begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKind {
    /// One snapshot.
    Substream = 1,
    /// A row of them.
    Compound = 2,
}

/// The start of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// What it begins.
    pub header: HeaderKind,
    /// What the receiver must understand.
    pub features: StreamFeatures,
    /// When the snapshot was made, seconds since 1970.
    pub creation_time: u64,
    /// What it holds; `None` in compound headers.
    pub kind: ObjsetKind,
    /// Flags.
    pub flags: BeginFlags,
    /// Guid of the snapshot.
    pub to_guid: u64,
    /// Guid of the snapshot it is based on; 0 for a full stream.
    pub from_guid: u64,
    /// Name of the snapshot where it came from.
    pub to_name: Name,
    /// Bytes of nvlist that follow.
    pub payload_len: u32,
}

/// An object, made or changed; its bonus follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Number.
    pub object: ObjectId,
    /// Type.
    pub kind: DmuType,
    /// Type of the bonus.
    pub bonus_kind: DmuType,
    /// Block size in bytes: a multiple of 512 up to 16 MiB.
    pub block_size: u32,
    /// Length of the bonus; the payload is that rounded up to 8.
    pub bonus_len: u16,
    /// Checksum of its blocks.
    pub checksum: Checksum,
    /// Compression of its blocks.
    pub compress: Compression,
    /// Slots of 512 bytes, 1 to 32.
    pub slots: u8,
    /// Flags.
    pub flags: RecordFlags,
    /// The snapshot's guid.
    pub to_guid: u64,
}

/// Numbers at which there is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeObjects {
    /// First.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The snapshot's guid.
    pub to_guid: u64,
}

/// A block's data; it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamWrite {
    /// Object.
    pub object: ObjectId,
    /// Its type.
    pub kind: DmuType,
    /// Byte offset.
    pub offset: u64,
    /// Bytes, uncompressed: 1 to 16 MiB.
    pub logical_size: u32,
    /// The snapshot's guid.
    pub to_guid: u64,
    /// Checksum the sender had it under.
    pub checksum: Checksum,
    /// Flags.
    pub flags: RecordFlags,
    /// Compression of the payload; `Inherit` (0) means none.
    pub compression: Compression,
    /// The sender's digest.
    pub key_digest: Digest,
    /// The sender's sizes and compression (`ddk_prop`).
    pub key_prop: u64,
    /// Bytes of payload when compressed, else 0.
    pub compressed_size: u32,
}

/// A range of an object: freed, or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Object.
    pub object: ObjectId,
    /// Byte offset.
    pub offset: u64,
    /// Bytes; [`super::TO_THE_END`]: all that follows.
    pub length: u64,
    /// The snapshot's guid.
    pub to_guid: u64,
}

/// The end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Running sum of all before this record; zero at the end of a compound stream.
    pub digest: Digest,
    /// The snapshot's guid.
    pub to_guid: u64,
}

/// A spill block; its data follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spill {
    /// Object.
    pub object: ObjectId,
    /// Bytes: a multiple of 512 up to 16 MiB.
    pub length: u32,
    /// The snapshot's guid.
    pub to_guid: u64,
    /// Flags.
    pub flags: RecordFlags,
    /// Type (0 from old senders).
    pub kind: DmuType,
}

/// An embedded block; its payload, rounded up to 8 bytes, follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Object.
    pub object: ObjectId,
    /// Byte offset.
    pub offset: u64,
    /// Bytes it stands for: the object's block size.
    pub length: u32,
    /// The snapshot's guid.
    pub to_guid: u64,
    /// Compression of the payload.
    pub compression: Compression,
    /// Kind of content; 0 is data.
    pub etype: u8,
    /// Bytes uncompressed.
    pub lsize: u32,
    /// Bytes of payload, 1 to 112.
    pub psize: u32,
}

/// A record.
#[expect(
    clippy::large_enum_variant,
    reason = "this crate allocates nothing, and records are handled one at a time"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Start.
    Begin(Begin),
    /// Object.
    Object(ObjectRecord),
    /// No objects.
    FreeObjects(FreeObjects),
    /// Data.
    Write(StreamWrite),
    /// A freed range.
    Free(Range),
    /// End.
    End(End),
    /// Data sent before: not received any more.
    WriteByRef,
    /// Spill block.
    Spill(Spill),
    /// Embedded block.
    WriteEmbedded(Embedded),
    /// Encryption parameters of a block of dnodes: raw streams only.
    ObjectRange,
    /// A range that was left out.
    Redact(Range),
}

fn payload_u32(value: u64) -> Result<u32> {
    u32::try_from(value).ok().filter(|n| *n <= MAX_BLOCK_SIZE).ok_or(OndiskError::BadSize)
}

fn kind_u32(value: u32) -> Result<DmuType> {
    u8::try_from(value).ok().and_then(DmuType::from_id).ok_or(OndiskError::BadType)
}

fn compression(id: u8) -> Result<Compression> {
    Compression::from_id(id).ok_or(OndiskError::BadCompressionId)
}

fn checksum(id: u8) -> Result<Checksum> {
    Checksum::from_id(id).ok_or(OndiskError::BadChecksumId)
}

impl Record {
    /// The byte order of a stream that starts with these bytes.
    ///
    /// # Errors
    /// `BadMagic` when it is no stream.
    pub fn byte_order(begin: &[u8; RECORD_SIZE]) -> Result<ByteOrder> {
        let magic = |order| View { bytes: begin, order }.u64(8);
        match (magic(ByteOrder::Little), magic(ByteOrder::Big)) {
            (MAGIC, _) => Ok(ByteOrder::Little),
            (_, MAGIC) => Ok(ByteOrder::Big),
            _ => Err(OndiskError::BadMagic),
        }
    }

    /// Parses a record.
    ///
    /// # Errors
    /// The first field out of its limits; `BadType` for an unknown kind.
    pub fn parse(bytes: &[u8; RECORD_SIZE], order: ByteOrder) -> Result<Self> {
        let v = View { bytes, order };
        Ok(match v.u32(0) {
            0 => Self::Begin(Begin::parse(&v)?),
            1 => Self::Object(ObjectRecord::parse(&v)?),
            2 => Self::FreeObjects(FreeObjects { first: v.u64(8), count: v.u64(16), to_guid: v.u64(24) }),
            3 => Self::Write(StreamWrite::parse(&v)?),
            4 => Self::Free(Range::parse(&v)),
            5 => Self::End(End { digest: Digest(v.words(8)), to_guid: v.u64(40) }),
            6 => Self::WriteByRef,
            7 => Self::Spill(Spill::parse(&v)?),
            8 => Self::WriteEmbedded(Embedded::parse(&v)?),
            9 => Self::ObjectRange,
            10 => Self::Redact(Range::parse(&v)),
            _ => return Err(OndiskError::BadType),
        })
    }

    /// The record's bytes, without the running checksum. `WriteByRef` and `ObjectRange` are only ever read; their bodies
    /// are zeroes.
    #[must_use]
    pub fn to_bytes(&self, order: ByteOrder) -> [u8; RECORD_SIZE] {
        let mut f = Fields { bytes: [0; RECORD_SIZE], order };
        f.u32(0, self.id());
        match self {
            Self::Begin(r) => r.store(&mut f),
            Self::Object(r) => r.store(&mut f),
            Self::FreeObjects(r) => {
                f.u64(8, r.first);
                f.u64(16, r.count);
                f.u64(24, r.to_guid);
            }
            Self::Write(r) => r.store(&mut f),
            Self::Free(r) | Self::Redact(r) => r.store(&mut f),
            Self::End(r) => {
                f.words(8, &r.digest.0);
                f.u64(40, r.to_guid);
            }
            Self::Spill(r) => r.store(&mut f),
            Self::WriteEmbedded(r) => r.store(&mut f),
            Self::WriteByRef | Self::ObjectRange => {}
        }
        f.bytes
    }

    const fn id(&self) -> u32 {
        match self {
            Self::Begin(_) => 0,
            Self::Object(_) => 1,
            Self::FreeObjects(_) => 2,
            Self::Write(_) => 3,
            Self::Free(_) => 4,
            Self::End(_) => 5,
            Self::WriteByRef => 6,
            Self::Spill(_) => 7,
            Self::WriteEmbedded(_) => 8,
            Self::ObjectRange => 9,
            Self::Redact(_) => 10,
        }
    }

    /// Name, as `zstream dump` prints it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Begin(_) => "BEGIN",
            Self::Object(_) => "OBJECT",
            Self::FreeObjects(_) => "FREEOBJECTS",
            Self::Write(_) => "WRITE",
            Self::Free(_) => "FREE",
            Self::End(_) => "END",
            Self::WriteByRef => "WRITE_BYREF",
            Self::Spill(_) => "SPILL",
            Self::WriteEmbedded(_) => "WRITE_EMBEDDED",
            Self::ObjectRange => "OBJECT_RANGE",
            Self::Redact(_) => "REDACT",
        }
    }

    /// Bytes of payload that follow: at most 16 MiB, for BEGIN 64 MiB.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        match self {
            Self::Begin(r) => r.payload_len as usize,
            Self::Object(r) => (r.bonus_len as usize).next_multiple_of(8),
            Self::Write(r) => r.payload_len(),
            Self::Spill(r) => r.length as usize,
            Self::WriteEmbedded(r) => (r.psize as usize).next_multiple_of(8),
            Self::FreeObjects(_)
            | Self::Free(_)
            | Self::End(_)
            | Self::WriteByRef
            | Self::ObjectRange
            | Self::Redact(_) => 0,
        }
    }

    /// The running sum that the record carries; BEGIN has none.
    #[must_use]
    pub fn checksum(bytes: &[u8; RECORD_SIZE], order: ByteOrder) -> Digest {
        Digest(View { bytes, order }.words(CHECKSUM_OFFSET))
    }

    /// Puts the running sum where it belongs.
    pub fn set_checksum(bytes: &mut [u8; RECORD_SIZE], order: ByteOrder, digest: Digest) {
        let mut f = Fields { bytes: *bytes, order };
        f.words(CHECKSUM_OFFSET, &digest.0);
        *bytes = f.bytes;
    }
}

impl Begin {
    fn parse(v: &View<'_>) -> Result<Self> {
        if v.u64(8) != MAGIC {
            return Err(OndiskError::BadMagic);
        }
        let version = v.u64(16);
        let header = match version & KIND_BITS {
            1 => HeaderKind::Substream,
            2 => HeaderKind::Compound,
            _ => return Err(OndiskError::BadType),
        };
        let payload_len = v.u32(4);
        if payload_len > BEGIN_PAYLOAD_MAX {
            return Err(OndiskError::BadSize);
        }
        let mut name = v.array::<NAME_SIZE>(56);
        // What follows the NUL means nothing.
        let len = name.iter().position(|b| *b == 0).ok_or(OndiskError::BadSize)?;
        name[len..].fill(0);
        core::str::from_utf8(&name[..len]).map_err(|_| OndiskError::Inconsistent)?;
        Ok(Self {
            header,
            features: StreamFeatures::from_bits_retain((version >> FEATURES_SHIFT & FEATURES_MASK) as u32),
            creation_time: v.u64(24),
            kind: ObjsetKind::from_id(v.u32(32).into()).ok_or(OndiskError::BadType)?,
            flags: BeginFlags::from_bits_retain(v.u32(36)),
            to_guid: v.u64(40),
            from_guid: v.u64(48),
            to_name: Name(name),
            payload_len,
        })
    }

    fn store(&self, f: &mut Fields) {
        f.u32(4, self.payload_len);
        f.u64(8, MAGIC);
        let features = u64::from(self.features.bits()) & FEATURES_MASK;
        f.u64(16, self.header as u64 | features << FEATURES_SHIFT);
        f.u64(24, self.creation_time);
        f.u32(32, self.kind as u32);
        f.u32(36, self.flags.bits());
        f.u64(40, self.to_guid);
        f.u64(48, self.from_guid);
        f.put(56, &self.to_name.0);
    }
}

impl ObjectRecord {
    fn parse(v: &View<'_>) -> Result<Self> {
        let slots = v.u8(34).max(1);
        let block_size = v.u32(24);
        let bonus_len = v.u32(28);
        let is_size_ok =
            block_size > 0 && block_size.is_multiple_of(SECTOR_SIZE) && block_size <= MAX_BLOCK_SIZE;
        if !is_size_ok || bonus_len as usize > DNODE_SIZE * DNODE_SLOTS_MAX {
            return Err(OndiskError::BadSize);
        }
        if usize::from(slots) > DNODE_SLOTS_MAX {
            return Err(OndiskError::BadCount);
        }
        let kind = kind_u32(v.u32(16))?;
        if kind == DmuType::NONE {
            return Err(OndiskError::BadType);
        }
        Ok(Self {
            object: ObjectId(v.u64(8)),
            kind,
            bonus_kind: kind_u32(v.u32(20))?,
            block_size,
            bonus_len: bonus_len as u16,
            checksum: checksum(v.u8(32))?,
            compress: compression(v.u8(33))?,
            slots,
            flags: RecordFlags::from_bits_retain(v.u8(35)),
            to_guid: v.u64(40),
        })
    }

    fn store(&self, f: &mut Fields) {
        f.u64(8, self.object.0);
        f.u32(16, self.kind.id().into());
        f.u32(20, self.bonus_kind.id().into());
        f.u32(24, self.block_size);
        f.u32(28, self.bonus_len.into());
        f.put(32, &[self.checksum.id(), self.compress.id(), self.slots, self.flags.bits()]);
        f.u64(40, self.to_guid);
    }
}

impl StreamWrite {
    fn parse(v: &View<'_>) -> Result<Self> {
        let logical_size = payload_u32(v.u64(32))?;
        let write = Self {
            object: ObjectId(v.u64(8)),
            kind: kind_u32(v.u32(16))?,
            offset: v.u64(24),
            logical_size,
            to_guid: v.u64(40),
            checksum: checksum(v.u8(48))?,
            flags: RecordFlags::from_bits_retain(v.u8(49)),
            compression: compression(v.u8(50))?,
            key_digest: Digest(v.words(56)),
            key_prop: v.u64(88),
            compressed_size: payload_u32(v.u64(96))?,
        };
        let is_empty = logical_size == 0 || (write.is_compressed() && write.compressed_size == 0);
        if is_empty || (write.is_compressed() && write.compressed_size > logical_size) {
            return Err(OndiskError::BadSize);
        }
        if write.offset.checked_add(logical_size.into()).is_none() {
            return Err(OndiskError::BadOffset);
        }
        Ok(write)
    }

    fn store(&self, f: &mut Fields) {
        f.u64(8, self.object.0);
        f.u32(16, self.kind.id().into());
        f.u64(24, self.offset);
        f.u64(32, self.logical_size.into());
        f.u64(40, self.to_guid);
        f.put(48, &[self.checksum.id(), self.flags.bits(), self.compression.id()]);
        f.words(56, &self.key_digest.0);
        f.u64(88, self.key_prop);
        f.u64(96, self.compressed_size.into());
    }

    /// The payload is compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.compression as u8 != 0
    }

    /// Bytes that follow.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        (if self.is_compressed() { self.compressed_size } else { self.logical_size }) as usize
    }
}

impl Range {
    fn parse(v: &View<'_>) -> Self {
        Self { object: ObjectId(v.u64(8)), offset: v.u64(16), length: v.u64(24), to_guid: v.u64(32) }
    }

    fn store(&self, f: &mut Fields) {
        f.u64(8, self.object.0);
        f.u64(16, self.offset);
        f.u64(24, self.length);
        f.u64(32, self.to_guid);
    }
}

impl Spill {
    fn parse(v: &View<'_>) -> Result<Self> {
        let length = payload_u32(v.u64(16))?;
        // A compressed spill block is a raw stream's.
        if length == 0 || !length.is_multiple_of(SECTOR_SIZE) || v.u64(40) != 0 {
            return Err(OndiskError::BadSize);
        }
        Ok(Self {
            object: ObjectId(v.u64(8)),
            length,
            to_guid: v.u64(24),
            flags: RecordFlags::from_bits_retain(v.u8(32)),
            kind: kind_u32(v.u32(84))?,
        })
    }

    fn store(&self, f: &mut Fields) {
        f.u64(8, self.object.0);
        f.u64(16, self.length.into());
        f.u64(24, self.to_guid);
        f.put(32, &[self.flags.bits()]);
        f.u32(84, self.kind.id().into());
    }
}

impl Embedded {
    fn parse(v: &View<'_>) -> Result<Self> {
        let (lsize, psize) = (v.u32(48), v.u32(52));
        let length = payload_u32(v.u64(24))?;
        let is_psize_ok = psize > 0 && psize as usize <= EMBEDDED_PAYLOAD_SIZE;
        if !is_psize_ok || lsize == 0 || lsize > MAX_BLOCK_SIZE || length == 0 || lsize > length {
            return Err(OndiskError::BadSize);
        }
        let offset = v.u64(16);
        if offset.checked_add(length.into()).is_none() {
            return Err(OndiskError::BadOffset);
        }
        Ok(Self {
            object: ObjectId(v.u64(8)),
            offset,
            length,
            to_guid: v.u64(32),
            compression: compression(v.u8(40))?,
            etype: v.u8(41),
            lsize,
            psize,
        })
    }

    fn store(&self, f: &mut Fields) {
        f.u64(8, self.object.0);
        f.u64(16, self.offset);
        f.u64(24, self.length.into());
        f.u64(32, self.to_guid);
        f.put(40, &[self.compression.id(), self.etype]);
        f.u32(48, self.lsize);
        f.u32(52, self.psize);
    }
}
