//! The pool's vocabulary as recipes and commands use it.
use zfs::dsl::property::ValueKind;
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
    let property = Property::parse(name).map_err(|_| {
        format!("there is no property '{name}' that could be set (names of the user's own have a colon)")
    })?;
    let parsed = property
        .parse_value(value)
        .map_err(|_| format!("property '{name}' cannot be '{value}': it is {}", possible(&property)))?;
    Ok((property, parsed))
}

/// What values a property has, for people.
fn possible(property: &Property) -> String {
    match (property, property.kind()) {
        (Property::RecordSize, _) => "a power of two from 512 to 16M".into(),
        (Property::Copies, _) => "1, 2 or 3".into(),
        (_, ValueKind::Size) => "a size (64K, 1.5G) or none".into(),
        (_, ValueKind::Number) => "a number".into(),
        (_, ValueKind::Limit) => "a number or none".into(),
        (_, ValueKind::Text) => "text".into(),
        (_, ValueKind::Index(names)) => names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
    }
}
