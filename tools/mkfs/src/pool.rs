//! The pool's vocabulary as recipes and commands use it.
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::Compatibility;

/// The feature set of that name.
pub fn compatibility(name: &str) -> Option<Compatibility> {
    Some(match name {
        "full" => Compatibility::Full,
        "grub2" => Compatibility::Grub2,
        "openzfs-2.0-linux" => Compatibility::OpenZfs20Linux,
        "none" => Compatibility::NoFeatures,
        _ => return None,
    })
}

/// A property and its value, in the syntax of `zfs set`.
///
/// # Errors
/// What is wrong, for people.
pub fn parse_property(name: &str, value: &str) -> Result<(Property, PropertyValue), String> {
    let property = Property::parse(name).map_err(|_| format!("there is no property '{name}'"))?;
    let parsed = property.parse_value(value).map_err(|_| format!("property '{name}' cannot be '{value}'"))?;
    Ok((property, parsed))
}
