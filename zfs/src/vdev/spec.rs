//! The vdev tree as the pool's configuration describes it, with its opened devices.
use super::class::AllocClass;
use super::health::VdevState;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use ondisk::ObjectId;

/// Deepest vdev that is read and shown, and that commands make, top-level vdevs counted as 1: below a mirror spares and
/// replacements stand in for one another.
pub(crate) const TREE_DEPTH_MAX: usize = 8;

/// What a vdev is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VdevKind {
    /// A device or a file.
    Leaf,
    /// Copies on every child: mirrors, and devices with their replacements or spares.
    Mirror,
    /// Parity over the children.
    RaidZ {
        /// 1 to 3.
        nparity: u8,
    },
    /// Was removed; its number stays taken.
    Hole,
    /// Its device could not be opened.
    Missing,
}

/// A vdev of the tree.
#[derive(Clone, Debug)]
pub struct VdevSpec {
    /// What it is.
    pub kind: VdevKind,
    /// Index among its siblings; for a top-level vdev the number in block pointers.
    pub id: u32,
    /// Its guid.
    pub guid: u64,
    /// The device of a leaf.
    pub device: Option<Arc<dyn BlockDevice>>,
    /// What is known of a leaf's state when its device is opened.
    pub state: VdevState,
    /// log2 of the smallest allocation (top-level vdevs).
    pub ashift: u8,
    /// Allocatable bytes, a multiple of the metaslab size less the rest (top-level vdevs).
    pub asize: u64,
    /// log2 of the metaslab size (top-level vdevs).
    pub metaslab_shift: u8,
    /// MOS object with the space maps' numbers, [`ObjectId`] 0 when there is none yet (top-level vdevs).
    pub metaslab_array: ObjectId,
    /// What its space is for (top-level vdevs).
    pub class: AllocClass,
    /// Nothing new is allocated here: vdevs being removed (top-level vdevs).
    pub is_excluded: bool,
    /// The vdev ZAP of a top-level vdev, 0 without.
    pub top_zap: ObjectId,
    /// Children of mirrors and raidz.
    pub children: Vec<Self>,
}

impl VdevSpec {
    /// None of its devices is there.
    pub(crate) fn is_lost(&self) -> bool {
        match self.kind {
            VdevKind::Leaf => self.device.is_none(),
            VdevKind::Mirror | VdevKind::RaidZ { .. } => self.children.iter().all(Self::is_lost),
            VdevKind::Hole | VdevKind::Missing => false,
        }
    }

    /// The pool can do without its devices: a log that nothing is allocated on.
    pub(crate) fn is_excused(&self) -> bool {
        self.is_excluded && self.class == AllocClass::Log
    }

    /// A vdev without devices, children or space.
    pub fn new(kind: VdevKind, id: u32, guid: u64) -> Self {
        Self {
            kind,
            id,
            guid,
            device: None,
            state: VdevState::Online,
            ashift: 0,
            asize: 0,
            metaslab_shift: 0,
            metaslab_array: ObjectId(0),
            class: AllocClass::Normal,
            is_excluded: false,
            top_zap: ObjectId(0),
            children: Vec::new(),
        }
    }
}
