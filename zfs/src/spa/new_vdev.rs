//! Vdevs that are being made: checking their devices, choosing their numbers, and their first configuration.
//!
//! Keys are written in the order in which OpenZFS writes them (`vdev_config_generate`).
use super::config::{CHILDREN, VDEV_ZAPS};
use super::environment::Environment;
use super::spec::{Purpose, TopKind, TopSpec, VdevSpec};
use crate::vdev::{VdevKind, VdevSpec as OpenVdev, layout};
use crate::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;
use nvpair::NvList;
use ondisk::ObjectId;

/// Most children of a vdev; the format has 8 bits for them.
const WIDTH_MAX: usize = 255;

/// A leaf that is being made.
#[derive(Clone, Debug)]
pub(crate) struct NewLeaf {
    pub(crate) guid: u64,
    pub(crate) path: String,
    pub(crate) is_file: bool,
    pub(crate) zap: ObjectId,
}

/// A top-level vdev that is being made.
#[derive(Clone, Debug)]
pub(crate) struct NewTop {
    kind: TopKind,
    purpose: Purpose,
    /// That of the leaf for a single device.
    guid: u64,
    leaves: Vec<NewLeaf>,
    ashift: u8,
    asize: u64,
    metaslab_shift: u8,
    pub(crate) metaslab_array: ObjectId,
    zap: ObjectId,
}

/// Checks that a device can become a leaf of a vdev with such an allocation unit; its allocatable bytes.
///
/// # Errors
/// `ReadOnly`, `NoSpace` below 64 MiB, `Invalid` when its blocks are larger than the unit.
pub(crate) fn check_device(device: &VdevSpec, ashift: u8) -> Result<u64> {
    let geometry = device.device.geometry();
    if geometry.is_read_only {
        return Err(Error::ReadOnly);
    }
    if geometry.capacity < layout::DEVICE_SIZE_MIN {
        return Err(Error::NoSpace);
    }
    if u64::from(geometry.logical_block_size) > 1 << ashift {
        return Err(Error::Invalid);
    }
    Ok(layout::leaf_asize(geometry.capacity))
}

impl NewTop {
    /// Numbers for a vdev of this shape; those of MOS objects are still to come.
    ///
    /// # Errors
    /// As [`check_device`]; `Invalid` for shapes that cannot be, `Unsupported` for spares, which are no vdevs.
    pub(crate) fn plan(top: &TopSpec, ashift: u8, env: &Environment) -> Result<Self> {
        if !(layout::ASHIFT_MIN..=layout::ASHIFT_MAX).contains(&ashift) {
            return Err(Error::Invalid);
        }
        let width = top.devices.len();
        let is_sane = match top.kind {
            TopKind::Disk => width == 1,
            TopKind::Mirror => (2..=WIDTH_MAX).contains(&width),
            TopKind::RaidZ { nparity } => {
                (1..=3).contains(&nparity)
                    && (usize::from(nparity) + 1..=WIDTH_MAX).contains(&width)
                    && top.purpose != Purpose::Log
            }
        };
        if !is_sane {
            return Err(Error::Invalid);
        }
        if top.purpose == Purpose::Spare {
            return Err(Error::Unsupported);
        }
        let sizes = top.devices.iter().map(|d| check_device(d, ashift)).collect::<Result<Vec<_>>>()?;
        let smallest = sizes.into_iter().min().unwrap_or(0);
        let asize = match top.kind {
            TopKind::RaidZ { .. } => smallest.checked_mul(width as u64).ok_or(Error::TooLarge)?,
            TopKind::Disk | TopKind::Mirror => smallest,
        };
        let guid = env.guid();
        let leaves = top.devices.iter().map(|d| NewLeaf {
            guid: if top.kind == TopKind::Disk { guid } else { env.guid() },
            path: d.path.clone(),
            is_file: d.is_file,
            zap: ObjectId(0),
        });
        Ok(Self {
            kind: top.kind,
            purpose: top.purpose,
            guid,
            leaves: leaves.collect(),
            ashift,
            asize,
            metaslab_shift: layout::metaslab_shift_for(asize),
            metaslab_array: ObjectId(0),
            zap: ObjectId(0),
        })
    }

    /// Where the numbers of its ZAPs go: those of the leaves, then its own.
    pub(crate) fn zaps_mut(&mut self) -> impl Iterator<Item = &mut ObjectId> {
        self.leaves.iter_mut().map(|leaf| &mut leaf.zap).chain([&mut self.zap])
    }

    /// What its space is for.
    pub(crate) fn class(&self) -> crate::vdev::AllocClass {
        self.purpose.class()
    }

    /// Its leaves.
    pub(crate) fn leaves(&self) -> &[NewLeaf] {
        &self.leaves
    }

    /// Its ZAP, once it has one.
    pub(crate) fn zap(&self) -> ObjectId {
        self.zap
    }

    /// As a vdev to open.
    ///
    /// # Errors
    /// `Invalid` for too many vdevs.
    pub(crate) fn open(&self, index: usize, top: &TopSpec) -> Result<OpenVdev> {
        let leaves = self.leaves.iter().zip(&top.devices).enumerate().map(|(id, (leaf, device))| OpenVdev {
            device: Some(device.device.clone()),
            ..OpenVdev::new(VdevKind::Leaf, id as u32, leaf.guid)
        });
        let mut leaves: Vec<OpenVdev> = leaves.collect();
        let id = u32::try_from(index).map_err(|_| Error::Invalid)?;
        let kind = match self.kind {
            TopKind::Disk => VdevKind::Leaf,
            TopKind::Mirror => VdevKind::Mirror,
            TopKind::RaidZ { nparity } => VdevKind::RaidZ { nparity },
        };
        let device = match self.kind {
            TopKind::Disk => leaves.pop().and_then(|leaf| leaf.device),
            _ => None,
        };
        Ok(OpenVdev {
            device,
            ashift: self.ashift,
            asize: self.asize,
            metaslab_shift: self.metaslab_shift,
            metaslab_array: self.metaslab_array,
            class: self.purpose.class(),
            children: leaves,
            ..OpenVdev::new(kind, id, self.guid)
        })
    }

    /// Its configuration as top-level vdev `id`, made in `txg`.
    pub(crate) fn config(&self, id: u64, txg: u64) -> NvList {
        let own = match (self.kind, self.leaves.first()) {
            (TopKind::Disk, Some(leaf)) => leaf.identity(id),
            (kind, _) => {
                let name = if kind == TopKind::Mirror { "mirror" } else { "raidz" };
                let list = NvList::new().add_str("type", name).add_u64("id", id).add_u64("guid", self.guid);
                match kind {
                    TopKind::RaidZ { nparity } => list.add_u64("nparity", nparity.into()),
                    _ => list,
                }
            }
        };
        let own = own
            .add_u64("metaslab_array", self.metaslab_array.0)
            .add_u64("metaslab_shift", self.metaslab_shift.into())
            .add_u64("ashift", self.ashift.into())
            .add_u64("asize", self.asize)
            .add_u64("is_log", (self.purpose == Purpose::Log).into())
            .add_u64("create_txg", txg);
        if self.kind == TopKind::Disk {
            let leaf_zap = self.leaves.first().map_or(0, |leaf| leaf.zap.0);
            return own.add_u64(VDEV_ZAPS[0], leaf_zap).add_u64(VDEV_ZAPS[1], self.zap.0);
        }
        let leaves = self.leaves.iter().enumerate().map(|(id, leaf)| leaf.config(id as u64, txg));
        own.add_u64(VDEV_ZAPS[1], self.zap.0).add_nvlist_array(CHILDREN, leaves.collect())
    }
}

impl NewLeaf {
    /// Its configuration as child `id`, made in `txg`.
    pub(crate) fn config(&self, id: u64, txg: u64) -> NvList {
        self.identity(id).add_u64("create_txg", txg).add_u64(VDEV_ZAPS[0], self.zap.0)
    }

    fn identity(&self, id: u64) -> NvList {
        NvList::new()
            .add_str("type", if self.is_file { "file" } else { "disk" })
            .add_u64("id", id)
            .add_u64("guid", self.guid)
            .add_str("path", &self.path)
            .add_u64("whole_disk", 0)
    }
}
