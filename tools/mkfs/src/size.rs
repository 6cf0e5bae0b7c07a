//! Sizes as people write them: `512M`, `4G`, `1.5g`, `65536`.
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a size; write for example 512M, 4G or 65536");
        let text = text.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(bad()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let unit = 1_u64 << shift;
        let bytes = whole.parse::<u64>().map_err(|_| bad())?.checked_mul(unit).ok_or_else(bad)?;
        if fraction.is_empty() {
            return Ok(Self(bytes));
        }
        let tenths = fraction.get(..1).and_then(|d| d.parse::<u64>().ok()).ok_or_else(bad)?;
        if fraction.len() > 1 {
            return Err(bad());
        }
        Ok(Self(bytes + unit * tenths / 10))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
            let bytes = 1_u64 << shift;
            if self.0 >= bytes {
                let tenths = self.0 % bytes * 10 / bytes;
                return if tenths == 0 {
                    write!(f, "{}{unit}", self.0 >> shift)
                } else {
                    write!(f, "{}.{tenths}{unit}", self.0 >> shift)
                };
            }
        }
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"512M\" or a number of bytes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Size, E> {
                u64::try_from(n).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Size, E> {
                Ok(Size(n))
            }
        }
        deserializer.deserialize_any(TextOrNumber).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print() {
        for (text, bytes) in
            [("512", 512), ("4k", 4096), ("1.5G", 3 << 29), ("64MiB", 64 << 20), ("2T", 2 << 40)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "G", "-1", "1.55G", "12X", "99999999999T", "1e3"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!((Size(3 << 29).to_string(), Size(4096).to_string()), ("1.5G".into(), "4K".into()));
    }
}
