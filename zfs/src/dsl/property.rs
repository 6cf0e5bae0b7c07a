//! Dataset properties: names, kinds of value, defaults, text forms. Storage and inheritance are [`super::props`].
//!
//! Numbers are those that OpenZFS stores in the properties ZAP, so a value travels unchanged between disk and user.
use super::limits;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};

/// A property of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// Largest block of files, bytes.
    RecordSize,
    /// Block compression.
    Compression,
    /// Block checksum.
    Checksum,
    /// Copies of user data, 1 to 3.
    Copies,
    /// Access times are kept.
    Atime,
    /// Access times are kept only relative to modification.
    Relatime,
    /// Where the file system is mounted.
    Mountpoint,
    /// Whether it is mounted.
    CanMount,
    /// Limit of the dataset with its descendants, bytes; 0 is none.
    Quota,
    /// Space set aside for the dataset with its descendants, bytes.
    Reservation,
    /// Limit of the dataset alone, bytes; 0 is none.
    RefQuota,
    /// Space set aside for the dataset alone, bytes.
    RefReservation,
    /// Most file systems below the dataset.
    FilesystemLimit,
    /// Most snapshots of the dataset and below it.
    SnapshotLimit,
    /// No writes.
    ReadOnly,
    /// Programs may be run.
    Exec,
    /// Set-id bits count.
    Setuid,
    /// Device nodes work.
    Devices,
    /// How extended attributes are stored.
    Xattr,
    /// Kind of access control lists.
    AclType,
    /// How access control lists are inherited.
    AclInherit,
    /// What chmod does to them.
    AclMode,
    /// Size of new dnodes.
    DnodeSize,
    /// When synchronous writes are honoured.
    Sync,
    /// What synchronous writes are tuned for.
    LogBias,
    /// What the cache keeps.
    PrimaryCache,
    /// What the second-level cache keeps.
    SecondaryCache,
    /// Whether `.zfs` is visible.
    SnapDir,
    /// How much metadata has a second copy.
    RedundantMetadata,
    /// Deduplication.
    Dedup,
    /// Blocks up to this size go to the special class.
    SpecialSmallBlocks,
    /// May be mounted over a directory that is not empty.
    Overlay,
    /// Reading ahead.
    Prefetch,
    /// Direct I/O.
    Direct,
    /// File names up to 1023 bytes.
    LongName,
    /// Visibility of volume device nodes.
    VolMode,
    /// Visibility of snapshot devices.
    SnapDev,
    /// Virus scanning.
    Vscan,
    /// Mandatory locks.
    Nbmand,
    /// NFS sharing.
    ShareNfs,
    /// SMB sharing.
    ShareSmb,
    /// A property of the user's own; its name contains a colon.
    User(String),
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PropertyValue {
    /// A number, a size, a flag (0, 1) or an index, as stored on disk.
    Number(u64),
    /// Text.
    Text(String),
}

impl PropertyValue {
    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Text(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Number(_) => None,
            Self::Text(t) => Some(t),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Set nowhere: the built-in default.
    Default,
    /// Set on the dataset itself.
    Local,
    /// Set on the ancestor named here.
    Inherited(String),
    /// Came with a received stream.
    Received,
    /// Has no source (figures and facts).
    None,
}

type Names = &'static [(&'static str, u64)];

/// How the values of a property look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Bytes: `128K`, `1M`, a plain number, `none`.
    Size,
    /// A number.
    Number,
    /// A number; the greatest is `none`.
    Limit,
    /// One of these names.
    Index(Names),
    /// Text.
    Text,
}

const ON_OFF: Names = &[("off", 0), ("on", 1)];
const CACHE: Names = &[("none", 0), ("metadata", 1), ("all", 2)];
const CHECKSUMS: Names = &[
    ("on", 1),
    ("off", 2),
    ("fletcher2", 6),
    ("fletcher4", 7),
    ("sha256", 8),
    ("noparity", 10),
    ("sha512", 11),
    ("skein", 12),
    ("edonr", 13),
    ("blake3", 14),
];
const COMPRESSIONS: Names = &[
    ("on", 1),
    ("off", 2),
    ("lzjb", 3),
    ("empty", 4),
    ("gzip", 10),
    ("gzip-1", 5),
    ("gzip-2", 6),
    ("gzip-3", 7),
    ("gzip-4", 8),
    ("gzip-5", 9),
    ("gzip-6", 10),
    ("gzip-7", 11),
    ("gzip-8", 12),
    ("gzip-9", 13),
    ("zle", 14),
    ("lz4", 15),
    ("zstd", 16),
];
const DEDUPS: Names = &[
    ("off", 2),
    ("on", 1),
    ("verify", 0x101),
    ("sha256", 8),
    ("sha256,verify", 0x108),
    ("sha512", 11),
    ("sha512,verify", 0x10b),
    ("skein", 12),
    ("skein,verify", 0x10c),
    ("edonr,verify", 0x10d),
    ("blake3", 14),
    ("blake3,verify", 0x10e),
];
const ACL_INHERIT: Names = &[
    ("discard", 0),
    ("noallow", 1),
    ("restricted", 4),
    ("passthrough", 3),
    ("passthrough-x", 5),
    ("secure", 4),
];
const ACL_MODE: Names = &[("discard", 0), ("groupmask", 2), ("passthrough", 3), ("restricted", 4)];
const ACL_TYPE: Names =
    &[("off", 0), ("posix", 1), ("nfsv4", 2), ("disabled", 0), ("noacl", 0), ("posixacl", 1)];
const XATTR: Names = &[("off", 0), ("on", 2), ("sa", 2), ("dir", 1)];
const DNODE_SIZE: Names =
    &[("legacy", 0), ("auto", 1), ("1k", 1024), ("2k", 2048), ("4k", 4096), ("8k", 8192), ("16k", 16384)];
const REDUNDANT: Names = &[("all", 0), ("most", 1), ("some", 2), ("none", 3)];

/// One row of the table of native properties.
struct Row {
    property: Property,
    name: &'static str,
    kind: ValueKind,
    default: u64,
    is_inheritable: bool,
}

const fn row(property: Property, name: &'static str, kind: ValueKind, default: u64) -> Row {
    Row { property, name, kind, default, is_inheritable: true }
}

const fn own(property: Property, name: &'static str, kind: ValueKind, default: u64) -> Row {
    Row { property, name, kind, default, is_inheritable: false }
}

use Property as P;
use ValueKind::{Index, Limit, Number, Size, Text};

static TABLE: &[Row] = &[
    row(P::RecordSize, "recordsize", Size, 128 << 10),
    row(P::Compression, "compression", Index(COMPRESSIONS), 1),
    row(P::Checksum, "checksum", Index(CHECKSUMS), 1),
    row(P::Copies, "copies", Number, 1),
    row(P::Atime, "atime", Index(ON_OFF), 1),
    row(P::Relatime, "relatime", Index(ON_OFF), 1),
    row(P::Mountpoint, "mountpoint", Text, 0),
    own(P::CanMount, "canmount", Index(&[("off", 0), ("on", 1), ("noauto", 2)]), 1),
    own(P::Quota, "quota", Size, 0),
    own(P::Reservation, "reservation", Size, 0),
    own(P::RefQuota, "refquota", Size, 0),
    own(P::RefReservation, "refreservation", Size, 0),
    own(P::FilesystemLimit, "filesystem_limit", Limit, limits::NONE),
    own(P::SnapshotLimit, "snapshot_limit", Limit, limits::NONE),
    row(P::ReadOnly, "readonly", Index(ON_OFF), 0),
    row(P::Exec, "exec", Index(ON_OFF), 1),
    row(P::Setuid, "setuid", Index(ON_OFF), 1),
    row(P::Devices, "devices", Index(ON_OFF), 1),
    row(P::Xattr, "xattr", Index(XATTR), 2),
    row(P::AclType, "acltype", Index(ACL_TYPE), 0),
    row(P::AclInherit, "aclinherit", Index(ACL_INHERIT), 4),
    row(P::AclMode, "aclmode", Index(ACL_MODE), 0),
    row(P::DnodeSize, "dnodesize", Index(DNODE_SIZE), 0),
    row(P::Sync, "sync", Index(&[("standard", 0), ("always", 1), ("disabled", 2)]), 0),
    row(P::LogBias, "logbias", Index(&[("latency", 0), ("throughput", 1)]), 0),
    row(P::PrimaryCache, "primarycache", Index(CACHE), 2),
    row(P::SecondaryCache, "secondarycache", Index(CACHE), 2),
    row(P::SnapDir, "snapdir", Index(&[("hidden", 0), ("visible", 1), ("disabled", 2)]), 0),
    row(P::RedundantMetadata, "redundant_metadata", Index(REDUNDANT), 0),
    row(P::Dedup, "dedup", Index(DEDUPS), 2),
    row(P::SpecialSmallBlocks, "special_small_blocks", Size, 0),
    row(P::Overlay, "overlay", Index(ON_OFF), 1),
    row(P::Prefetch, "prefetch", Index(CACHE), 2),
    row(P::Direct, "direct", Index(&[("disabled", 0), ("standard", 1), ("always", 2)]), 1),
    row(P::LongName, "longname", Index(ON_OFF), 0),
    row(P::VolMode, "volmode", Index(&[("default", 0), ("full", 1), ("dev", 2), ("none", 3)]), 0),
    row(P::SnapDev, "snapdev", Index(&[("hidden", 0), ("visible", 1)]), 0),
    row(P::Vscan, "vscan", Index(ON_OFF), 0),
    row(P::Nbmand, "nbmand", Index(ON_OFF), 0),
    row(P::ShareNfs, "sharenfs", Text, 0),
    row(P::ShareSmb, "sharesmb", Text, 0),
];

/// Longest name of a user property, as OpenZFS has it (256 with the final NUL).
pub const NAME_MAX: usize = 255;
/// Longest value of a user property, as OpenZFS has it (8 KiB with the final NUL).
pub const VALUE_MAX: usize = 8191;

impl Property {
    /// Every native property.
    pub fn native() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|r| r.property.clone())
    }

    /// The property of that name; names with a colon are user properties.
    ///
    /// # Errors
    /// `Invalid` for an unknown native name, `NameTooLong`.
    pub fn parse(name: &str) -> Result<Self> {
        if name.len() > NAME_MAX {
            return Err(Error::NameTooLong);
        }
        if name.contains(':') {
            return Ok(Self::User(name.to_string()));
        }
        TABLE.iter().find(|r| r.name == name).map(|r| r.property.clone()).ok_or(Error::Invalid)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match (self, self.row()) {
            (Self::User(name), _) => name,
            (_, Some(row)) => row.name,
            (_, None) => "",
        }
    }

    fn row(&self) -> Option<&'static Row> {
        TABLE.iter().find(|r| r.property == *self)
    }

    /// How its values look.
    pub fn kind(&self) -> ValueKind {
        self.row().map_or(ValueKind::Text, |r| r.kind)
    }

    /// Whether descendants inherit it.
    pub fn is_inheritable(&self) -> bool {
        self.row().is_none_or(|r| r.is_inheritable)
    }

    /// The value when it is set nowhere. `mountpoint`'s is `/NAME` and made by the reader.
    pub fn default_value(&self) -> PropertyValue {
        match (self, self.row()) {
            (Self::ShareNfs | Self::ShareSmb, _) => PropertyValue::Text("off".to_string()),
            (_, Some(Row { kind, default, .. })) if *kind != ValueKind::Text => {
                PropertyValue::Number(*default)
            }
            _ => PropertyValue::Text(String::new()),
        }
    }

    /// Reads a value as a person writes it: `128K`, `on`, `lz4`, `zstd-3`, `none`.
    ///
    /// # Errors
    /// `Invalid` when the property cannot have it.
    pub fn parse_value(&self, text: &str) -> Result<PropertyValue> {
        let value = match self.kind() {
            ValueKind::Text if text.len() > VALUE_MAX => return Err(Error::TooLarge),
            ValueKind::Text => PropertyValue::Text(text.to_string()),
            ValueKind::Size if text == "none" => PropertyValue::Number(0),
            ValueKind::Size => PropertyValue::Number(parse_size(text).ok_or(Error::Invalid)?),
            ValueKind::Limit if text == "none" => PropertyValue::Number(limits::NONE),
            ValueKind::Number | ValueKind::Limit => {
                PropertyValue::Number(text.parse().map_err(|_| Error::Invalid)?)
            }
            ValueKind::Index(names) => {
                let known = names.iter().find(|(name, _)| *name == text).map(|(_, n)| *n);
                let number = known.or_else(|| parse_zstd(self, text)).ok_or(Error::Invalid)?;
                PropertyValue::Number(number)
            }
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Whether the property can have the value.
    ///
    /// # Errors
    /// `Invalid` when it cannot.
    pub fn check(&self, value: &PropertyValue) -> Result<()> {
        let is_good = match (self, self.kind(), value) {
            (Self::RecordSize, _, PropertyValue::Number(n)) => {
                n.is_power_of_two() && (512..=16 << 20).contains(n)
            }
            (Self::Copies, _, PropertyValue::Number(n)) => (1..=3).contains(n),
            (Self::Compression, _, PropertyValue::Number(n)) => (1..=16).contains(&(n & 0x7f)),
            (_, ValueKind::Index(names), PropertyValue::Number(n)) => names.iter().any(|(_, v)| v == n),
            (_, ValueKind::Size | ValueKind::Number | ValueKind::Limit, PropertyValue::Number(_)) => true,
            (_, ValueKind::Text, PropertyValue::Text(t)) => t.len() <= VALUE_MAX,
            _ => false,
        };
        if is_good { Ok(()) } else { Err(Error::Invalid) }
    }

    /// A value as a person reads it. Sizes are printed as exact numbers.
    pub fn format_value(&self, value: &PropertyValue) -> String {
        match (self.kind(), value) {
            (_, PropertyValue::Text(text)) => text.clone(),
            (ValueKind::Index(names), PropertyValue::Number(n)) => names
                .iter()
                .find(|(_, v)| v == n)
                .map_or_else(|| format_zstd(self, *n), |(name, _)| (*name).to_string()),
            (ValueKind::Limit, PropertyValue::Number(limits::NONE)) => "none".to_string(),
            (_, PropertyValue::Number(n)) => n.to_string(),
        }
    }
}

/// Compression values carry a zstd level above the seven bits of the algorithm.
const ZSTD_LEVEL_SHIFT: u32 = 7;
const ZSTD: u64 = 16;
const ZSTD_FAST_BASE: u64 = 100;

fn parse_zstd(property: &Property, text: &str) -> Option<u64> {
    if *property != Property::Compression {
        return None;
    }
    let level = text.strip_prefix("zstd-")?;
    let level: u64 = match level.strip_prefix("fast-") {
        Some(n) => {
            let n: u64 = n.parse().ok()?;
            match n {
                1..=10 => ZSTD_FAST_BASE + n,
                20..=100 if n.is_multiple_of(10) => ZSTD_FAST_BASE + 10 + (n / 10 - 1),
                500 => ZSTD_FAST_BASE + 20,
                1000 => ZSTD_FAST_BASE + 21,
                _ => return None,
            }
        }
        None => level.parse().ok().filter(|n| (1..=19).contains(n))?,
    };
    Some(ZSTD | level << ZSTD_LEVEL_SHIFT)
}

fn format_zstd(property: &Property, value: u64) -> String {
    let level = value >> ZSTD_LEVEL_SHIFT;
    if *property != Property::Compression || value & 0x7f != ZSTD || level == 0 {
        return value.to_string();
    }
    match level.checked_sub(ZSTD_FAST_BASE) {
        None | Some(0) => format!("zstd-{level}"),
        Some(n @ 1..=10) => format!("zstd-fast-{n}"),
        Some(n @ 11..=19) => format!("zstd-fast-{}", (n - 9) * 10),
        Some(20) => "zstd-fast-500".to_string(),
        Some(_) => "zstd-fast-1000".to_string(),
    }
}

/// `4096`, `128K`, `1.5M`, `2GiB`: bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B')).unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        "P" | "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let whole = whole.checked_mul(1 << shift)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * (1u128 << shift) / u128::from(scale);
    whole.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_native_property_round_trips_its_default() {
        for p in Property::native() {
            assert_eq!(Property::parse(p.name()), Ok(p.clone()));
            let text = p.format_value(&p.default_value());
            assert_eq!(p.parse_value(&text), Ok(p.default_value()), "{}", p.name());
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("128K"), Some(131_072));
        assert_eq!(parse_size("1.5M"), Some(1_572_864));
        assert_eq!(parse_size("2GiB"), Some(2 << 30));
        assert_eq!(parse_size("12Q"), None);
        assert_eq!(parse_size("99999999999P"), None);
        assert_eq!(Property::RecordSize.parse_value("100K"), Err(Error::Invalid));
        assert_eq!(Property::Quota.parse_value("none"), Ok(PropertyValue::Number(0)));
    }

    #[test]
    fn zstd_levels() {
        for text in ["zstd-1", "zstd-19", "zstd-fast-1", "zstd-fast-10", "zstd-fast-100", "zstd-fast-1000"] {
            let value = Property::Compression.parse_value(text).unwrap();
            assert_eq!(Property::Compression.format_value(&value), text);
        }
        assert!(Property::Compression.parse_value("zstd-20").is_err());
    }

    #[test]
    fn user_properties_need_a_colon() {
        assert_eq!(Property::parse("org.x:y"), Ok(Property::User("org.x:y".to_string())));
        assert_eq!(Property::parse("nonsense"), Err(Error::Invalid));
    }

    #[test]
    fn names_and_values_fit_the_buffers_of_openzfs() {
        let name = |len: usize| alloc::format!("a:{}", "b".repeat(len - 2));
        assert!(Property::parse(&name(255)).is_ok());
        assert_eq!(Property::parse(&name(256)), Err(Error::NameTooLong));
        let property = Property::User("a:b".to_string());
        assert!(property.parse_value(&"x".repeat(8191)).is_ok());
        assert_eq!(property.parse_value(&"x".repeat(8192)), Err(Error::TooLarge));
    }
}
