//! The tree of vdevs as commands show it.
use super::info::VdevInfo;
use super::{Spa, config};
use crate::vdev::{Leaf, TREE_DEPTH_MAX, VdevErrors, VdevState};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use nvpair::NvList;

impl Spa {
    /// The pool as the root of its tree: children are the top-level vdevs, the spares are beside them.
    pub fn vdev_tree(&self) -> VdevInfo {
        let children = self.vdevs();
        let spares = self.spares.lock().clone();
        let spares = spares.into_iter().enumerate().map(|(id, spare)| VdevInfo {
            id: id as u64,
            guid: spare.guid,
            kind: String::from(if spare.is_file { "file" } else { "disk" }),
            path: Some(spare.path),
            state: if spare.device.is_some() { VdevState::Online } else { VdevState::Unavail },
            is_in_use: self.is_spare_in_use(spare.guid),
            is_spare: true,
            ..VdevInfo::default()
        });
        let worst = children.iter().map(|c| c.state).min().unwrap_or(VdevState::Unavail);
        VdevInfo {
            guid: self.guid,
            kind: String::from("root"),
            path: Some(self.mos.pool_name()),
            state: if worst == VdevState::Online { worst } else { worst.max(VdevState::Degraded) },
            spares: spares.collect(),
            asize: children.iter().map(|c| c.asize).sum(),
            children,
            ..VdevInfo::default()
        }
    }

    /// Top-level vdevs, with all below them.
    pub fn vdevs(&self) -> Vec<VdevInfo> {
        let config = self.config.lock().clone();
        let leaves = self.storage.leaves();
        let tops = self.storage.vdevs();
        let describe = |(id, top): (usize, &NvList)| {
            let mut info = describe(top, &leaves, 0);
            if let Some(vdev) = tops.get(id) {
                info.class = vdev.info().class;
                info.ashift = vdev.info().ashift;
                info.asize = vdev.info().asize;
                info.state = vdev.state();
            }
            info
        };
        config::tops(&config).unwrap_or_default().iter().enumerate().map(describe).collect()
    }
}

fn describe(vdev: &NvList, leaves: &[Arc<Leaf>], depth: usize) -> VdevInfo {
    let number = |name: &str| vdev.get_u64(name).unwrap_or(0);
    let guid = number("guid");
    let below =
        vdev.get_nvlist_array(config::CHILDREN).filter(|_| depth < TREE_DEPTH_MAX).unwrap_or_default();
    let children: Vec<VdevInfo> = below.iter().map(|child| describe(child, leaves, depth + 1)).collect();
    let leaf = leaves.iter().find(|leaf| leaf.guid() == guid && children.is_empty());
    let sum = |f: fn(&VdevErrors) -> u64| children.iter().map(|c| f(&c.errors)).sum();
    let (state, errors) = match leaf {
        Some(leaf) => (leaf.health().state(), leaf.health().errors()),
        None => (
            state_of(&children),
            VdevErrors { read: sum(|e| e.read), write: sum(|e| e.write), checksum: sum(|e| e.checksum) },
        ),
    };
    VdevInfo {
        id: number("id"),
        guid,
        kind: vdev.get_str("type").unwrap_or_default().to_string(),
        nparity: number("nparity") as u8,
        path: vdev.get_str("path").map(ToString::to_string),
        state,
        errors,
        is_stale: leaf.is_some_and(|leaf| leaf.health().is_stale()),
        is_spare: number("is_spare") == 1,
        children,
        ..VdevInfo::default()
    }
}

/// Of a vdev whose children are sides.
fn state_of(children: &[VdevInfo]) -> VdevState {
    let best = children.iter().map(|c| c.state).max().unwrap_or(VdevState::Online);
    let is_whole = children.iter().all(|c| c.state == VdevState::Online);
    match best {
        VdevState::Online if !is_whole => VdevState::Degraded,
        best => best,
    }
}

impl VdevInfo {
    /// What it is called: the path of a device, or its kind and number (`mirror-0`, `raidz2-1`).
    pub fn name(&self) -> String {
        match &self.path {
            Some(path) => path.clone(),
            None if self.nparity > 0 => alloc::format!("{}{}-{}", self.kind, self.nparity, self.id),
            None => alloc::format!("{}-{}", self.kind, self.id),
        }
    }
}
