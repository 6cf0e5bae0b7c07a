//! Which layouts and which states the matrix is made of.
use blockdev_host::MemDisk;
use std::sync::Arc;
use zfs::spa::{Purpose, TopKind, TopSpec, VdevSpec};

/// How a pool of the matrix is built.
#[derive(Debug)]
pub struct Layout {
    /// The pool's name.
    pub name: &'static str,
    tops: &'static [(TopKind, Purpose, usize)],
    pub ashift: u8,
    /// Disks that are away while it is written degraded; empty where the layout bears the loss of none.
    pub lost: &'static [usize],
    /// Disks without which what was brought back to the lost ones is needed.
    pub others: &'static [usize],
    /// The lost disks hold blocks of files (not only those of intent logs), so that there is something to bring back.
    pub resilvers: bool,
}

const fn raidz(nparity: u8) -> TopKind {
    TopKind::RaidZ { nparity }
}

const DISK: TopKind = TopKind::Disk;
const MIRROR: TopKind = TopKind::Mirror;
use Purpose::{Data, Log, Spare, Special};

/// Every layout of the table in docs/INTEROP.md.
pub const LAYOUTS: [Layout; 10] = [
    Layout { name: "t-disk", tops: &[(DISK, Data, 1)], ashift: 12, lost: &[], others: &[], resilvers: false },
    Layout {
        name: "t-stripe",
        tops: &[(DISK, Data, 1), (DISK, Data, 1)],
        ashift: 9,
        lost: &[],
        others: &[],
        resilvers: false,
    },
    Layout {
        name: "t-mirror",
        tops: &[(MIRROR, Data, 2)],
        ashift: 12,
        lost: &[1],
        others: &[0],
        resilvers: true,
    },
    Layout {
        name: "t-raidz1",
        tops: &[(raidz(1), Data, 3)],
        ashift: 9,
        lost: &[1],
        others: &[0],
        resilvers: true,
    },
    Layout {
        name: "t-raidz2",
        tops: &[(raidz(2), Data, 4)],
        ashift: 12,
        lost: &[0, 2],
        others: &[1, 3],
        resilvers: true,
    },
    Layout {
        name: "t-raidz3",
        tops: &[(raidz(3), Data, 5)],
        ashift: 9,
        lost: &[0, 2, 4],
        others: &[1, 3, 0],
        resilvers: true,
    },
    Layout {
        name: "t-special",
        tops: &[(MIRROR, Data, 2), (MIRROR, Special, 2)],
        ashift: 12,
        lost: &[1, 3],
        others: &[0, 2],
        resilvers: true,
    },
    Layout {
        name: "t-log",
        tops: &[(DISK, Data, 1), (DISK, Log, 1)],
        ashift: 12,
        lost: &[],
        others: &[],
        resilvers: false,
    },
    Layout {
        name: "t-mirlog",
        tops: &[(DISK, Data, 1), (MIRROR, Log, 2)],
        ashift: 9,
        lost: &[2],
        others: &[1],
        resilvers: false,
    },
    Layout {
        name: "t-spare",
        tops: &[(MIRROR, Data, 2), (DISK, Spare, 1)],
        ashift: 12,
        lost: &[1],
        others: &[0],
        resilvers: true,
    },
];

impl Layout {
    /// How many disks it has.
    pub fn width(&self) -> usize {
        self.tops.iter().map(|(_, _, width)| width).sum()
    }

    /// Its vdevs, on these disks.
    pub fn specs(&self, disks: &[Arc<MemDisk>]) -> Vec<TopSpec> {
        let mut rest = disks.iter().enumerate();
        let device = |(nr, disk): (usize, &Arc<MemDisk>)| VdevSpec {
            device: disk.clone(),
            path: format!("/dev/{}-{nr}", self.name),
            is_file: false,
        };
        let top = |(kind, purpose, width): &(TopKind, Purpose, usize)| TopSpec {
            kind: *kind,
            purpose: *purpose,
            devices: rest.by_ref().take(*width).map(device).collect(),
        };
        self.tops.iter().map(top).collect()
    }

    /// The numbers of its disks but those of `absent`.
    pub fn without(&self, absent: &[usize]) -> Vec<usize> {
        (0..self.width()).filter(|nr| !absent.contains(nr)).collect()
    }

    pub fn has_spare(&self) -> bool {
        self.tops.iter().any(|(_, purpose, _)| *purpose == Spare)
    }
}

/// In what state one leaves a pool for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Exported; with snapshots, clones, and a replication stream of it beside it.
    Whole,
    /// Written without the lost disks, and exported.
    Degraded,
    /// The lost disks are back and being brought up to date.
    HalfResilvered,
    /// The power was cut: there are records in the intent log.
    Logged,
    /// As `Logged`, written without the lost disks.
    LoggedDegraded,
}

impl State {
    /// The layouts that can be in this state.
    pub fn layouts(self) -> Vec<&'static Layout> {
        let can_be = |layout: &&Layout| match self {
            Self::Whole | Self::Logged => true,
            Self::Degraded | Self::LoggedDegraded => !layout.lost.is_empty(),
            Self::HalfResilvered => layout.resilvers,
        };
        LAYOUTS.iter().filter(can_be).collect()
    }

    /// Its name in the guest's script.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Degraded => "degraded",
            Self::HalfResilvered => "half",
            Self::Logged => "logged",
            Self::LoggedDegraded => "logged-degraded",
        }
    }

    /// The power is cut.
    pub fn is_cut(self) -> bool {
        matches!(self, Self::Logged | Self::LoggedDegraded)
    }

    /// The one who opens it next does so without the lost disks.
    pub fn opens_degraded(self) -> bool {
        self == Self::Degraded
    }
}
