//! The number by which pools know this machine, as OpenZFS reads it: four bytes of `/etc/hostid`, as zgenhostid(8)
//! writes them. `ZEO_HOSTID`, hexadecimal, goes before it. 0: the machine has none, and a pool with multihost
//! protection cannot be opened for writing.
use std::path::Path;

/// Where zgenhostid(8) writes it.
const FILE: &str = "/etc/hostid";

/// This machine's.
pub fn get() -> u64 {
    let wanted = std::env::var("ZEO_HOSTID").ok();
    of(wanted.as_deref(), Path::new(FILE))
}

/// What to do about having none.
pub const ADVICE: &str =
    "this machine has no host id: write one with zgenhostid, or say it in the environment: ZEO_HOSTID=7f0101";

fn of(wanted: Option<&str>, file: &Path) -> u64 {
    if let Some(id) = wanted.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()) {
        return id.into();
    }
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.first_chunk().map_or(0, |id| u32::from_le_bytes(*id).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_goes_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hostid");
        assert_eq!(of(None, &file), 0);
        std::fs::write(&file, [0x0c, 0xb1, 0xba, 0x00]).unwrap();
        assert_eq!(of(None, &file), 0x00ba_b10c);
        assert_eq!(of(Some("0x7f0101"), &file), 0x007f_0101);
        assert_eq!(of(Some("nonsense"), &file), 0x00ba_b10c);
        std::fs::write(&file, [1, 2]).unwrap();
        assert_eq!(of(None, &file), 0);
    }
}
