//! The pool's vocabulary as recipes and commands use it.
use zfs::Error;
use zfs::dsl::property::{NAME_MAX, VALUE_MAX, ValueKind};
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
    let property = Property::parse(name).map_err(|e| match e {
        Error::NameTooLong => format!("a property's name has {NAME_MAX} characters at most"),
        _ => {
            format!("there is no property '{name}' that could be set (names of the user's own have a colon)")
        }
    })?;
    if matches!(property, Property::User(_)) {
        check_user_name(name)?;
    }
    let is_possible = property != Property::Mountpoint || is_mountpoint(value);
    match property.parse_value(value) {
        Ok(parsed) if is_possible => Ok((property, parsed)),
        Err(Error::TooLarge) => Err(format!("the value of '{name}' is too long: {VALUE_MAX} bytes at most")),
        _ => Err(format!("property '{name}' cannot be '{value}': it is {}", possible(&property))),
    }
}

/// Refuses names that OpenZFS does not take for a user's own.
fn check_user_name(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.:+".contains(c);
    if name.starts_with('-') || !name.chars().all(is_good) {
        return Err(format!(
            "'{name}' cannot be a property: its name has small ASCII letters, digits, '-', '_', '.', '+' and a colon"
        ));
    }
    Ok(())
}

/// A path from the root, or a word for none.
fn is_mountpoint(value: &str) -> bool {
    value.starts_with('/') || matches!(value, "none" | "legacy")
}

/// What values a property has, for people.
fn possible(property: &Property) -> String {
    match (property, property.kind()) {
        (Property::RecordSize, _) => "a power of two from 512 to 16M".into(),
        (Property::Mountpoint, _) => "a path that begins with '/', none or legacy".into(),
        (Property::Copies, _) => "1, 2 or 3".into(),
        (_, ValueKind::Size) => "a size (64K, 1.5G) or none".into(),
        (_, ValueKind::Number) => "a number".into(),
        (_, ValueKind::Limit) => "a number or none".into(),
        (_, ValueKind::Text) => "text".into(),
        (_, ValueKind::Index(names)) => names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_checked() {
        for (name, value) in
            [("mountpoint", "/srv"), ("mountpoint", "none"), ("org.x:y+z", "Any"), ("quota", "1G")]
        {
            assert!(parse_property(name, value).is_ok(), "{name}={value}");
        }
        for (name, value) in
            [("mountpoint", "srv"), ("mountpoint", ""), ("A:b", ""), ("-a:b", ""), ("used", "1")]
        {
            assert!(parse_property(name, value).is_err(), "{name}={value}");
        }
        let long = parse_property("a:b", &"x".repeat(9000)).expect_err("too long");
        assert!(long.len() < 200, "{long}");
    }
}
