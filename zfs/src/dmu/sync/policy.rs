//! How each block of an object set is to be written (`dmu_write_policy`).
use crate::dmu::config::ObjsetProperties;
use crate::zio::WritePolicy;
use ondisk::objset::ObjsetKind;
use ondisk::{Checksum, Compression, DmuType};

/// What all blocks of one sync have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policies {
    properties: ObjsetProperties,
    is_mos: bool,
    pass: u32,
}

/// What the blocks of one object have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectPolicy {
    pub(super) kind: DmuType,
    pub(super) checksum: Checksum,
    pub(super) compress: Compression,
}

impl Policies {
    pub(super) fn new(properties: ObjsetProperties, kind: ObjsetKind, pass: u32) -> Self {
        Self { properties, is_mos: kind == ObjsetKind::Meta, pass }
    }

    pub(super) fn of(&self, object: &ObjectPolicy, level: u8, fill: u64) -> WritePolicy {
        let is_metadata = level > 0 || object.kind.is_metadata();
        let policy =
            WritePolicy::metadata(object.kind, level, self.copies(object.kind, level), fill, self.pass);
        if is_metadata {
            let compress = match object.compress {
                Compression::Off if level == 0 => Compression::Off,
                _ => Compression::On,
            };
            return WritePolicy { checksum: self.metadata_checksum(), compress, ..policy };
        }
        let checksum = match object.checksum {
            Checksum::Inherit => self.properties.checksum,
            own => own,
        };
        let compress = match object.compress {
            Compression::Inherit => self.properties.compress,
            own => own,
        };
        let small_max = self.properties.small_blocks;
        WritePolicy { checksum, compress, small_max, ..policy }
    }

    /// The data's checksum if it finds more than single flipped bits, else fletcher-4.
    fn metadata_checksum(&self) -> Checksum {
        match self.properties.checksum {
            strong @ (Checksum::Sha256
            | Checksum::Sha512
            | Checksum::Skein
            | Checksum::EdonR
            | Checksum::Blake3)
                if !self.is_mos =>
            {
                strong
            }
            _ => Checksum::Fletcher4,
        }
    }

    fn copies(&self, kind: DmuType, level: u8) -> u8 {
        if self.is_mos {
            return 3;
        }
        let is_metadata = level > 0 || kind.is_metadata();
        // Lost, these lose more than one file.
        let is_critical =
            is_metadata && !matches!(kind, DmuType::DNODE | DmuType::DIRECTORY_CONTENTS | DmuType::SA);
        let has_one_more = match self.properties.redundant_metadata {
            0 => is_metadata,
            1 => level >= 2 || is_critical,
            2 => is_critical,
            _ => false,
        };
        (self.properties.copies + u8::from(has_one_more)).clamp(1, 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: ObjectPolicy = ObjectPolicy {
        kind: DmuType::PLAIN_FILE_CONTENTS,
        checksum: Checksum::Inherit,
        compress: Compression::Inherit,
    };

    #[test]
    fn data_follows_the_properties_and_metadata_does_not() {
        let properties = ObjsetProperties {
            checksum: Checksum::Off,
            compress: Compression::Off,
            ..ObjsetProperties::default()
        };
        let policies = Policies::new(properties, ObjsetKind::Zfs, 1);
        let data = policies.of(&FILE, 0, 1);
        assert_eq!((data.checksum, data.compress, data.copies), (Checksum::Off, Compression::Off, 1));
        let indirect = policies.of(&FILE, 1, 1);
        assert_eq!(
            (indirect.checksum, indirect.compress, indirect.copies),
            (Checksum::Fletcher4, Compression::On, 2)
        );
        let mos = Policies::new(properties, ObjsetKind::Meta, 1);
        assert_eq!(mos.of(&FILE, 0, 1).copies, 3);
    }

    #[test]
    fn the_objects_own_settings_win() {
        let policies = Policies::new(ObjsetProperties::default(), ObjsetKind::Zfs, 1);
        let own = ObjectPolicy { checksum: Checksum::Sha256, compress: Compression::Off, ..FILE };
        let data = policies.of(&own, 0, 1);
        assert_eq!((data.checksum, data.compress), (Checksum::Sha256, Compression::Off));
    }
}
