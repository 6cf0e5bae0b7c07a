//! How the disks make a pool.
use blockdev_sim::Random;
use std::ops::Range;
use zfs::spa::{Purpose, TopKind};

/// A top-level vdev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top {
    /// How it places bytes.
    pub kind: TopKind,
    /// What it is for.
    pub purpose: Purpose,
    /// Disks it takes.
    pub nr_disks: usize,
}

impl Top {
    /// Disks it can do without.
    pub fn spare_disks(&self) -> usize {
        match self.kind {
            TopKind::Disk => 0,
            TopKind::Mirror => self.nr_disks - 1,
            TopKind::RaidZ { nparity } => usize::from(nparity),
        }
    }
}

/// All top-level vdevs of a pool, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// They.
    pub tops: Vec<Top>,
}

const fn data(kind: TopKind, nr_disks: usize) -> Top {
    Top { kind, purpose: Purpose::Data, nr_disks }
}

impl Layout {
    /// One of those that are tried.
    pub fn pick(random: &mut Random) -> Self {
        let raidz = |nparity, nr_disks| data(TopKind::RaidZ { nparity }, nr_disks);
        let disk = data(TopKind::Disk, 1);
        let mirror = |nr_disks| data(TopKind::Mirror, nr_disks);
        let mut tops = match random.below(16) {
            0..=3 => vec![disk],
            4 => vec![disk, disk],
            5 => vec![disk, disk, disk],
            6 | 7 => vec![mirror(2)],
            8 => vec![mirror(3)],
            9 => vec![mirror(2), mirror(2)],
            10 => vec![raidz(1, 3)],
            11 => vec![raidz(1, 2 + random.below(4) as usize)],
            12 => vec![raidz(2, 4 + random.below(2) as usize)],
            13 => vec![raidz(3, 5)],
            14 => vec![raidz(1, 3), raidz(1, 3)],
            _ => vec![raidz(2, 3 + random.below(4) as usize)],
        };
        if random.chance(1, 6) {
            let kind = random.pick(&[TopKind::Disk, TopKind::Mirror]);
            let nr_disks = if kind == TopKind::Disk { 1 } else { 2 };
            tops.push(Top { kind, purpose: Purpose::Log, nr_disks });
        }
        if random.chance(1, 8) {
            tops.push(Top { kind: TopKind::Mirror, purpose: Purpose::Special, nr_disks: 2 });
        }
        Self { tops }
    }

    /// Disks it takes.
    pub fn nr_disks(&self) -> usize {
        self.tops.iter().map(|top| top.nr_disks).sum()
    }

    /// The disks of each top-level vdev.
    pub fn disks(&self) -> impl Iterator<Item = (Top, Range<usize>)> {
        let mut first = 0;
        self.tops.iter().map(move |top| {
            first += top.nr_disks;
            (*top, first - top.nr_disks..first)
        })
    }

    /// Some disks, none of which is missed: never more of one vdev than it can do without.
    pub fn pick_dispensable(&self, random: &mut Random) -> Vec<usize> {
        let mut picked = Vec::new();
        for (top, disks) in self.disks() {
            let mut left: Vec<usize> = disks.collect();
            for _ in 0..random.below(top.spare_disks() as u64 + 1) {
                picked.push(left.swap_remove(random.below(left.len() as u64) as usize));
            }
        }
        picked
    }

    /// Much as the command line of `zpool create` says it.
    pub fn name(&self) -> String {
        let name = |top: &Top| {
            let kind = match top.kind {
                TopKind::Disk => "disk".to_owned(),
                TopKind::Mirror => format!("mirror-{}", top.nr_disks),
                TopKind::RaidZ { nparity } => format!("raidz{nparity}-{}", top.nr_disks),
            };
            match top.purpose {
                Purpose::Data => kind,
                other => format!("{other:?}:{kind}").to_lowercase(),
            }
        };
        self.tops.iter().map(name).collect::<Vec<_>>().join("+")
    }
}
