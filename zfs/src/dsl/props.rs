//! Where property values are kept and how they are found: the directory's own ZAP, then what a stream brought, then
//! the parents', then the default.
//!
//! In the ZAP: the name holds a local value; `NAME$recvd` a received one; `NAME$inherit` says that a local removal
//! hides the received one. Quotas and reservations are fields of the directory (`quota`, `reserved`); `refquota` and
//! `refreservation` are ZAP entries.
use super::dataset::DatasetProperties;
use super::dir;
use super::property::{Property, PropertyValue, Source, ValueKind};
use crate::dmu::DmuTx;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use ondisk::blkptr::{MAX_BLOCK_SIZE, OLD_MAX_BLOCK_SIZE, SECTOR_SIZE};
use ondisk::feature::Feature;
use ondisk::{Checksum, Compression, ObjectId};

/// A value as the properties ZAP holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Number(u64),
    Text(String),
}

impl From<Stored> for PropertyValue {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Number(n) => Self::Number(n),
            Stored::Text(text) => Self::Text(text),
        }
    }
}

/// Says that properties were received at all.
const HAS_RECEIVED: &str = "$hasrecvd";
const RECEIVED: &str = "$recvd";
const INHERIT: &str = "$inherit";

fn lookup(mos: &Mos, zap: ObjectId, property: &Property, key: &str) -> Result<Option<PropertyValue>> {
    if property.kind() == ValueKind::Text {
        let Some(mut bytes) = mos.zap_bytes(zap, key)? else {
            return Ok(None);
        };
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        return Ok(Some(PropertyValue::Text(String::from_utf8_lossy(&bytes).into_owned())));
    }
    Ok(mos.zap_lookup(zap, key)?.map(PropertyValue::Number))
}

/// The value set on one directory, and whether it was received.
fn set_here(mos: &Mos, zap: ObjectId, property: &Property) -> Result<Option<(PropertyValue, bool)>> {
    if zap.is_none() {
        return Ok(None);
    }
    if let Some(value) = lookup(mos, zap, property, property.name())? {
        return Ok(Some((value, false)));
    }
    if mos.zap_has(zap, &format!("{}{INHERIT}", property.name()))? {
        return Ok(None);
    }
    let received = lookup(mos, zap, property, &format!("{}{RECEIVED}", property.name()))?;
    Ok(received.map(|value| (value, true)))
}

/// A property's value on a directory, and where it comes from.
///
/// # Errors
/// `Damaged`, or what reading the MOS gives.
pub(crate) fn get(mos: &Mos, dir_id: ObjectId, property: &Property) -> Result<(PropertyValue, Source)> {
    let own = dir::read(mos, dir_id)?;
    let field = match property {
        Property::Quota => Some(own.quota),
        Property::Reservation => Some(own.reserved),
        _ => None,
    };
    if let Some(number) = field {
        let source = if number == 0 { Source::Default } else { Source::Local };
        return Ok((PropertyValue::Number(number), source));
    }
    let mut at = dir_id;
    for _ in 0..dir::DEPTH_MAX {
        let here = dir::read(mos, at)?;
        if let Some((value, is_received)) = set_here(mos, here.props_zap, property)? {
            let source = match (at == dir_id, is_received) {
                (true, false) => Source::Local,
                (true, true) => Source::Received,
                (false, _) => Source::Inherited(dir::name(mos, at)?),
            };
            let value = join_mountpoint(mos, property, value, dir_id, at)?;
            return Ok((value, source));
        }
        if !property.is_inheritable() || here.parent.is_none() {
            return default_of(mos, dir_id, property).map(|value| (value, Source::Default));
        }
        at = here.parent;
    }
    Err(Error::Damaged)
}

/// The same for a snapshot: what is set on it, then what is in force on its dataset. Of properties that are not
/// inherited a snapshot has none of its dataset's.
///
/// # Errors
/// As [`get`].
pub(crate) fn get_of_snapshot(
    mos: &Mos,
    dir_id: ObjectId,
    own: ObjectId,
    property: &Property,
) -> Result<(PropertyValue, Source)> {
    if let Some((value, is_received)) = set_here(mos, own, property)? {
        return Ok((value, if is_received { Source::Received } else { Source::Local }));
    }
    if !property.is_inheritable() {
        return Ok((property.default_value(), Source::Default));
    }
    let (value, source) = get(mos, dir_id, property)?;
    let source = match source {
        Source::Local | Source::Received => Source::Inherited(dir::name(mos, dir_id)?),
        other => other,
    };
    Ok((value, source))
}

/// User properties set on a snapshot itself.
pub(crate) fn user_names_in(mos: &Mos, zap: ObjectId) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    if zap.is_none() {
        return Ok(names);
    }
    mos.for_each_name(zap, &mut |name| {
        let name = name.split('$').next().unwrap_or(name);
        if name.contains(':') && !names.iter().any(|n| n == name) {
            names.push(name.to_string());
        }
        Ok(())
    })?;
    Ok(names)
}

fn default_of(mos: &Mos, dir_id: ObjectId, property: &Property) -> Result<PropertyValue> {
    Ok(match property {
        Property::Mountpoint => PropertyValue::Text(format!("/{}", dir::name(mos, dir_id)?)),
        other => other.default_value(),
    })
}

/// An inherited mountpoint gets the names between its owner and the dataset appended.
fn join_mountpoint(
    mos: &Mos,
    property: &Property,
    value: PropertyValue,
    dir_id: ObjectId,
    owner: ObjectId,
) -> Result<PropertyValue> {
    let (Property::Mountpoint, PropertyValue::Text(base)) = (property, &value) else {
        return Ok(value);
    };
    if dir_id == owner || !base.starts_with('/') {
        return Ok(value);
    }
    let (own, above) = (dir::name(mos, dir_id)?, dir::name(mos, owner)?);
    let tail = own.strip_prefix(&above).ok_or(Error::Damaged)?;
    Ok(PropertyValue::Text(format!("{}{tail}", base.trim_end_matches('/'))))
}

/// User properties in force on a directory.
pub(crate) fn user_properties(mos: &Mos, dir_id: ObjectId) -> Result<Vec<(Property, PropertyValue, Source)>> {
    let mut names: Vec<String> = Vec::new();
    let mut at = dir_id;
    for _ in 0..dir::DEPTH_MAX {
        let here = dir::read(mos, at)?;
        if !here.props_zap.is_none() {
            mos.for_each_name(here.props_zap, &mut |name| {
                let name = name.split('$').next().unwrap_or(name);
                if name.contains(':') && !names.iter().any(|n| n == name) {
                    names.push(name.to_string());
                }
                Ok(())
            })?;
        }
        if here.parent.is_none() {
            break;
        }
        at = here.parent;
    }
    names.sort_unstable();
    let mut out = Vec::new();
    for name in names {
        let property = Property::User(name);
        let (value, source) = get(mos, dir_id, &property)?;
        if source != Source::Default {
            out.push((property, value, source));
        }
    }
    Ok(out)
}

/// Stores a local value in the ZAP (or, for quota and reservation, nothing: their owner is the directory).
pub(crate) fn set(
    mos: &Mos,
    tx: &DmuTx,
    dir_id: ObjectId,
    property: &Property,
    value: &PropertyValue,
) -> Result<()> {
    set_in(mos, tx, dir::read(mos, dir_id)?.props_zap, property, value)
}

/// The same in a given ZAP: a directory's, or a snapshot's own.
pub(crate) fn set_in(
    mos: &Mos,
    tx: &DmuTx,
    zap: ObjectId,
    property: &Property,
    value: &PropertyValue,
) -> Result<()> {
    let hidden = format!("{}{INHERIT}", property.name());
    if mos.zap_has(zap, &hidden)? {
        mos.zap_remove(tx, zap, &hidden)?;
    }
    match value {
        PropertyValue::Number(n) => mos.zap_update(tx, zap, property.name(), *n),
        PropertyValue::Text(t) => mos.zap_set_str(tx, zap, property.name(), t),
    }
}

/// Stores received values: in force unless a local one hides them. Quotas and reservations, which the directory itself
/// holds, take effect at once.
pub(crate) fn set_received(
    mos: &Mos,
    tx: &DmuTx,
    dir_id: ObjectId,
    values: &[(String, Stored)],
) -> Result<()> {
    let zap = dir::read(mos, dir_id)?.props_zap;
    mos.zap_update(tx, zap, HAS_RECEIVED, 0)?;
    for (name, value) in values {
        match (name.as_str(), value) {
            ("quota", Stored::Number(bytes)) => dir::modify(mos, tx, dir_id, |dir| dir.quota = *bytes)?,
            ("reservation", Stored::Number(bytes)) => dir::set_reservation(mos, tx, dir_id, *bytes)?,
            ("refreservation", Stored::Number(bytes)) if !mos.zap_has(zap, name)? => {
                super::create::set_ref_reservation(mos, tx, dir_id, *bytes)?;
            }
            _ => {}
        }
        let key = format!("{name}{RECEIVED}");
        match value {
            Stored::Number(n) => mos.zap_update(tx, zap, &key, *n)?,
            Stored::Text(text) => mos.zap_set_str(tx, zap, &key, text)?,
        }
    }
    Ok(())
}

/// Removes a local value; a received one becomes hidden.
pub(crate) fn inherit_in(mos: &Mos, tx: &DmuTx, zap: ObjectId, property: &Property) -> Result<()> {
    if lookup(mos, zap, property, property.name())?.is_some() {
        mos.zap_remove(tx, zap, property.name())?;
    }
    if lookup(mos, zap, property, &format!("{}{RECEIVED}", property.name()))?.is_some() {
        mos.zap_set_str(tx, zap, &format!("{}{INHERIT}", property.name()), "")?;
    }
    Ok(())
}

/// Removes a local value and what hides a received one: that is in force again (`zfs inherit -S`).
pub(crate) fn revert_in(mos: &Mos, tx: &DmuTx, zap: ObjectId, property: &Property) -> Result<()> {
    for key in [property.name().to_string(), format!("{}{INHERIT}", property.name())] {
        if mos.zap_has(zap, &key)? {
            mos.zap_remove(tx, zap, &key)?;
        }
    }
    Ok(())
}

/// Compression's number without the zstd level above it.
const COMPRESSION_MASK: u64 = 0x7f;

/// What the layers above act on: as far as the pool's features (`enabled`) go.
pub(crate) fn resolve(
    mos: &Mos,
    dir_id: ObjectId,
    enabled: &[Feature],
    is_read_only: bool,
) -> Result<DatasetProperties> {
    let has = |feature: Feature| enabled.contains(&feature);
    let largest = if has(Feature::LargeBlocks) { MAX_BLOCK_SIZE } else { OLD_MAX_BLOCK_SIZE };
    let number =
        |property: Property| -> Result<u64> { get(mos, dir_id, &property)?.0.number().ok_or(Error::Damaged) };
    let flag = |property: Property| number(property).map(|n| n != 0);
    let compression = number(Property::Compression)?;
    let kind = Compression::from_id((compression & COMPRESSION_MASK) as u8).ok_or(Error::Damaged)?;
    let checksum = number(Property::Checksum)? & 0xff;
    let checksum = Checksum::from_id(checksum as u8).ok_or(Error::Damaged)?;
    let record_size = number(Property::RecordSize)?;
    let mountpoint = get(mos, dir_id, &Property::Mountpoint)?.0;
    Ok(DatasetProperties {
        record_size: u32::try_from(record_size)
            .ok()
            .filter(|n| n.is_power_of_two() && *n >= SECTOR_SIZE)
            .ok_or(Error::Damaged)?
            .min(largest),
        compression: match (kind, has(Feature::Lz4Compress)) {
            (Compression::On | Compression::Inherit, true) => Compression::Lz4,
            (Compression::On | Compression::Inherit, false) => Compression::Lzjb,
            (kind, _) => kind,
        },
        checksum: match checksum {
            Checksum::On | Checksum::Inherit => Checksum::Fletcher4,
            other => other,
        },
        copies: u8::try_from(number(Property::Copies)?.clamp(1, 3)).unwrap_or(1),
        atime: flag(Property::Atime)?,
        relatime: flag(Property::Relatime)?,
        read_only: is_read_only || flag(Property::ReadOnly)?,
        exec: flag(Property::Exec)?,
        setuid: flag(Property::Setuid)?,
        devices: flag(Property::Devices)?,
        xattr: number(Property::Xattr)?,
        acl_type: number(Property::AclType)?,
        acl_inherit: number(Property::AclInherit)?,
        acl_mode: number(Property::AclMode)?,
        dnode_size: if has(Feature::LargeDnode) { number(Property::DnodeSize)? } else { 0 },
        sync: number(Property::Sync)?,
        log_bias: number(Property::LogBias)?,
        redundant_metadata: number(Property::RedundantMetadata)?,
        special_small_blocks: u32::try_from(number(Property::SpecialSmallBlocks)?).unwrap_or(u32::MAX),
        snap_dir: number(Property::SnapDir)?,
        can_mount: number(Property::CanMount)?,
        mountpoint: mountpoint.text().ok_or(Error::Damaged)?.to_string(),
    })
}
