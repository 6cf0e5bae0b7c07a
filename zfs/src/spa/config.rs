//! The pool's configuration: an nvlist with the vdev tree, kept in the MOS (trusted) and, in part, in every label.
//!
//! The MOS copy is the authority; a label only finds the devices and the MOS. Keys are written in the order in which
//! OpenZFS writes them, and pairs of a foreign pool that this build does not know are kept as they are.
use super::info::LeafSummary;
use super::new_vdev::NewTop;
use super::spec::PoolSpec;
use crate::vdev::{AllocClass, TREE_DEPTH_MAX, VdevKind, VdevSpec, VdevState, layout};
use crate::{Error, Result};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use nvpair::{NvList, NvValue};
use ondisk::{ObjectId, SPA_VERSION_FEATURES};

/// Most vdevs of one tree.
const VDEVS_MAX: usize = 4096;

const VERSION: &str = "version";
const NAME: &str = "name";
const STATE: &str = "state";
const TXG: &str = "txg";
const POOL_GUID: &str = "pool_guid";
const ERRATA: &str = "errata";
const COMMENT: &str = "comment";
const COMPATIBILITY: &str = "compatibility";
const HOSTID: &str = "hostid";
const HOSTNAME: &str = "hostname";
const HAS_VDEV_ZAPS: &str = "com.delphix:has_per_vdev_zaps";
pub(super) const VDEV_CHILDREN: &str = "vdev_children";
pub(super) const VDEV_TREE: &str = "vdev_tree";
/// Numbers of the top-level vdevs that are holes.
pub(super) const HOLE_ARRAY: &str = "hole_array";
const FEATURES_FOR_READ: &str = "features_for_read";
pub(super) const CHILDREN: &str = "children";
/// The space map of what a leaf missed.
pub(super) const DTL: &str = "DTL";
/// ZAPs of a leaf, of a top-level vdev, of the root.
pub(super) const VDEV_ZAPS: [&str; 3] =
    ["com.delphix:vdev_zap_leaf", "com.delphix:vdev_zap_top", "com.klarasystems:vdev_zap_root"];

/// The MOS configuration of a new pool.
pub(crate) fn of_new_pool(spec: &PoolSpec, guid: u64, txg: u64, vdevs: &[NewTop]) -> NvList {
    let mut config = NvList::new()
        .add_u64(VERSION, SPA_VERSION_FEATURES)
        .add_str(NAME, &spec.name)
        .add_u64(STATE, 0)
        .add_u64(TXG, txg)
        .add_u64(POOL_GUID, guid)
        .add_u64(ERRATA, 0);
    if let Some(comment) = &spec.comment {
        config = config.add_str(COMMENT, comment);
    }
    if let Some(name) = spec.compatibility.name() {
        config = config.add_str(COMPATIBILITY, name);
    }
    if spec.hostid != 0 {
        config = config.add_u64(HOSTID, spec.hostid);
    }
    config = config
        .add_str(HOSTNAME, &spec.hostname)
        .add_boolean(HAS_VDEV_ZAPS)
        .add_u64(VDEV_CHILDREN, vdevs.len() as u64);
    let children = vdevs.iter().enumerate().map(|(id, v)| v.config(id as u64, txg)).collect();
    let tree = NvList::new()
        .add_str("type", "root")
        .add_u64("id", 0)
        .add_u64("guid", guid)
        .add_u64("create_txg", txg)
        .add_nvlist_array(CHILDREN, children);
    config.add_nvlist(VDEV_TREE, tree).add_nvlist(FEATURES_FOR_READ, NvList::new())
}

/// Sets what changes from one writing of the configuration to the next.
pub(crate) fn update(config: &mut NvList, state: u64, txg: u64, host: (u64, &str), features: &[&str]) {
    config.set(STATE, NvValue::Uint64(state));
    config.set(TXG, NvValue::Uint64(txg));
    if host.0 != 0 {
        set_before(config, HOSTID, NvValue::Uint64(host.0), HOSTNAME);
    }
    if !host.1.is_empty() {
        set_before(config, HOSTNAME, NvValue::String(host.1.as_bytes().to_vec()), HAS_VDEV_ZAPS);
    }
    if config.get_u64(VERSION) == Some(SPA_VERSION_FEATURES) {
        let list = features.iter().fold(NvList::new(), |list, guid| list.add_boolean(guid));
        config.set(FEATURES_FOR_READ, NvValue::NvList(list));
    }
}

/// Sets a value where it stands, or puts it in front of `next`.
pub(super) fn set_before(config: &mut NvList, name: &str, value: NvValue, next: &str) {
    if config.contains(name) || !config.contains(next) {
        config.set(name, value);
        return;
    }
    let mut out = NvList::with_flags(config.flags());
    for pair in config.pairs() {
        if pair.name == next.as_bytes() {
            out.insert(name, value.clone());
        }
        out.insert(&pair.name, pair.value.clone());
    }
    *config = out;
}

/// The configuration that the label of one leaf holds: the pool's facts and the subtree of the leaf's top-level vdev.
///
/// # Errors
/// `Damaged` when the configuration has no such leaf.
pub(crate) fn for_label(config: &NvList, leaf_guid: u64) -> Result<NvList> {
    let top = tops(config)?
        .iter()
        .find(|top| leaves_of(top).is_ok_and(|all| all.contains(&leaf_guid)))
        .ok_or(Error::Damaged)?;
    let mut label = NvList::new();
    for pair in config.pairs() {
        let name = pair.name.as_slice();
        if name == HAS_VDEV_ZAPS.as_bytes() {
            continue;
        }
        if name == VDEV_CHILDREN.as_bytes() {
            label.insert("top_guid", NvValue::Uint64(top.get_u64("guid").ok_or(Error::Damaged)?));
            label.insert("guid", NvValue::Uint64(leaf_guid));
            if top.get_u64("is_log") == Some(1) {
                label.insert("is_log", NvValue::Uint64(1));
            }
        }
        let value = match name == VDEV_TREE.as_bytes() {
            true => NvValue::NvList(without_zaps(top, 0)),
            false => pair.value.clone(),
        };
        label.insert(name, value);
    }
    Ok(label)
}

pub(crate) fn without_zaps(vdev: &NvList, depth: usize) -> NvList {
    let mut out = NvList::with_flags(vdev.flags());
    for pair in vdev.pairs() {
        let is_zap = VDEV_ZAPS.iter().any(|zap| zap.as_bytes() == pair.name);
        let value = match &pair.value {
            NvValue::NvListArray(children) if depth < TREE_DEPTH_MAX => {
                NvValue::NvListArray(children.iter().map(|c| without_zaps(c, depth + 1)).collect())
            }
            other => other.clone(),
        };
        if !is_zap {
            out.insert(&pair.name, value);
        }
    }
    out
}

/// The top-level vdevs of a MOS configuration.
///
/// # Errors
/// `Damaged` when there are none.
pub(crate) fn tops(config: &NvList) -> Result<&[NvList]> {
    config.get_nvlist(VDEV_TREE).and_then(|tree| tree.get_nvlist_array(CHILDREN)).ok_or(Error::Damaged)
}

/// The guids of the leaves of a vdev.
///
/// # Errors
/// `Damaged` for trees no pool has.
pub(crate) fn leaves_of(vdev: &NvList) -> Result<Vec<u64>> {
    let mut leaves = Vec::new();
    visit(vdev, 0, &mut 0, &mut |v| {
        if v.get_nvlist_array(CHILDREN).is_none_or(<[NvList]>::is_empty)
            && let Some(guid) = v.get_u64("guid")
        {
            leaves.push(guid);
        }
    })?;
    Ok(leaves)
}

/// The devices of a vdev, as far as its tree can be read: for people, not to open anything by.
pub(super) fn describe_leaves(vdev: &NvList) -> Vec<LeafSummary> {
    let mut leaves = Vec::new();
    // A tree that no pool has is described as far as it was read.
    let _ = visit(vdev, 0, &mut 0, &mut |v| {
        if let (Some(guid), Some(path)) = (v.get_u64("guid"), v.get_str("path")) {
            leaves.push(LeafSummary { guid, path: path.to_string() });
        }
    });
    leaves
}

/// The wrapping sum of all guids of the tree, root included: what an uberblock's `guid_sum` must be.
///
/// # Errors
/// `Damaged`.
pub(crate) fn guid_sum(config: &NvList) -> Result<u64> {
    let mut sum = 0u64;
    let tree = config.get_nvlist(VDEV_TREE).ok_or(Error::Damaged)?;
    visit(tree, 0, &mut 0, &mut |v| sum = sum.wrapping_add(v.get_u64("guid").unwrap_or(0)))?;
    Ok(sum)
}

fn visit(vdev: &NvList, depth: usize, count: &mut usize, f: &mut dyn FnMut(&NvList)) -> Result<()> {
    *count += 1;
    if depth > TREE_DEPTH_MAX || *count > VDEVS_MAX {
        return Err(Error::Damaged);
    }
    f(vdev);
    vdev.get_nvlist_array(CHILDREN).unwrap_or_default().iter().try_for_each(|c| visit(c, depth + 1, count, f))
}

/// A device found by its labels, by the guid of the leaf it is.
pub(crate) type Devices = [(u64, Arc<dyn BlockDevice>)];

/// A top-level vdev with its devices.
///
/// # Errors
/// `MissingVdev` when a device it cannot do without is not there; `Unsupported` for kinds this build has no code for;
/// `Damaged`.
pub(crate) fn open_top(vdev: &NvList, devices: &Devices) -> Result<VdevSpec> {
    let number = |name: &str| vdev.get_u64(name).unwrap_or(0);
    let small = |name: &str| u8::try_from(number(name)).map_err(|_| Error::Damaged);
    let spec = open_vdev(vdev, devices, 0)?;
    let is_absent = matches!(spec.kind, VdevKind::Hole | VdevKind::Missing);
    let ashift = small("ashift")?;
    if !is_absent && !(layout::ASHIFT_MIN..=layout::ASHIFT_MAX).contains(&ashift) {
        return Err(Error::Damaged);
    }
    // OpenZFS keeps the bias in the vdev's ZAP; only what a split pool's configuration says may be here too.
    let class = match vdev.get_str("alloc_bias").and_then(AllocClass::from_name) {
        _ if number("is_log") == 1 => AllocClass::Log,
        Some(class) => class,
        None => AllocClass::Normal,
    };
    Ok(VdevSpec {
        ashift,
        asize: number("asize"),
        metaslab_shift: small("metaslab_shift")?,
        metaslab_array: ObjectId(number("metaslab_array")),
        class,
        is_excluded: number("removing") == 1,
        top_zap: ObjectId(number(VDEV_ZAPS[1])),
        ..spec
    })
}

fn open_vdev(vdev: &NvList, devices: &Devices, depth: usize) -> Result<VdevSpec> {
    if depth > TREE_DEPTH_MAX {
        return Err(Error::Damaged);
    }
    let guid = vdev.get_u64("guid").unwrap_or(0);
    let id = vdev.get_u64("id").and_then(|id| u32::try_from(id).ok()).ok_or(Error::Damaged)?;
    let kind = vdev.get_str("type").ok_or(Error::Damaged)?;
    let children = vdev.get_nvlist_array(CHILDREN).unwrap_or_default();
    let device = devices.iter().find(|(g, _)| *g == guid).map(|(_, d)| d.clone());
    let kind = match kind {
        "disk" | "file" => VdevKind::Leaf,
        "mirror" | "replacing" | "spare" => VdevKind::Mirror,
        "raidz" => {
            let nparity = vdev.get_u64("nparity").and_then(|n| u8::try_from(n).ok()).unwrap_or(1);
            VdevKind::RaidZ { nparity }
        }
        "hole" => VdevKind::Hole,
        "missing" => VdevKind::Missing,
        other => {
            log::error!("zfs: vdev {guid} is of kind {other}, which is not supported");
            return Err(Error::Unsupported);
        }
    };
    // What else is recorded (faulted, removed) was the judgement of another time: what was missed meanwhile is known.
    let state = match vdev.get_u64("offline") {
        Some(1) => VdevState::Offline,
        _ => VdevState::Online,
    };
    let children: Vec<VdevSpec> =
        children.iter().map(|c| open_vdev(c, devices, depth + 1)).collect::<Result<_>>()?;
    Ok(VdevSpec { device, state, children, ..VdevSpec::new(kind, id, guid) })
}

/// The vdev of that guid, wherever in the tree it is.
pub(crate) fn find(config: &NvList, guid: u64) -> Option<&NvList> {
    fn search(vdev: &NvList, guid: u64, depth: usize) -> Option<&NvList> {
        if vdev.get_u64("guid") == Some(guid) {
            return Some(vdev);
        }
        let children = vdev.get_nvlist_array(CHILDREN).filter(|_| depth < TREE_DEPTH_MAX)?;
        children.iter().find_map(|child| search(child, guid, depth + 1))
    }
    tops(config).ok()?.iter().find_map(|top| search(top, guid, 0))
}

/// Calls `f` with the vdev of that guid, to change it.
///
/// # Errors
/// `Damaged` when there is none.
pub(crate) fn change(config: &mut NvList, guid: u64, f: &mut dyn FnMut(&mut NvList)) -> Result<()> {
    fn search(vdev: &mut NvList, guid: u64, depth: usize, f: &mut dyn FnMut(&mut NvList)) -> bool {
        if depth > 0 && vdev.get_u64("guid") == Some(guid) {
            f(vdev);
            return true;
        }
        match vdev.get_mut(CHILDREN) {
            Some(NvValue::NvListArray(children)) if depth <= TREE_DEPTH_MAX => {
                children.iter_mut().any(|child| search(child, guid, depth + 1, f))
            }
            _ => false,
        }
    }
    let tree = config.get_nvlist_mut(VDEV_TREE).ok_or(Error::Damaged)?;
    if search(tree, guid, 0, f) { Ok(()) } else { Err(Error::Damaged) }
}

/// Names the space map of what a leaf missed.
///
/// # Errors
/// `Damaged` when there is no such leaf.
pub(crate) fn set_dtl(config: &mut NvList, guid: u64, object: ObjectId) -> Result<()> {
    change(config, guid, &mut |leaf| set_before(leaf, DTL, NvValue::Uint64(object.0), "create_txg"))
}

/// Says whether a leaf is not to be used.
///
/// # Errors
/// `Damaged` when there is no such leaf.
pub(crate) fn set_offline(config: &mut NvList, guid: u64, is_offline: bool) -> Result<()> {
    change(config, guid, &mut |leaf| match is_offline {
        true => leaf.set("offline", NvValue::Uint64(1)),
        false => drop(leaf.remove("offline")),
    })
}

/// Puts `top` in the place of top-level vdev `index`.
///
/// # Errors
/// `Damaged` when there is no such vdev.
pub(crate) fn set_top(config: &mut NvList, index: usize, top: NvList) -> Result<()> {
    let tree = config.get_nvlist_mut(VDEV_TREE).ok_or(Error::Damaged)?;
    let Some(NvValue::NvListArray(children)) = tree.get_mut(CHILDREN) else {
        return Err(Error::Damaged);
    };
    *children.get_mut(index).ok_or(Error::Damaged)? = top;
    Ok(())
}
