//! Changing the vdev tree of a configuration: pure functions on name-value lists.
//!
//! The rules are those of `spa_vdev_attach`, `spa_vdev_detach` and `vdev_remove_make_hole_and_free`: a vdev that gets a
//! parent keeps its guid and gives the facts of a top-level vdev to the parent; one that loses its top-level parent
//! takes over the parent's guid and facts, so that a device that was away still recognises the vdev as the same.
use super::config::{CHILDREN, DTL, HOLE_ARRAY, VDEV_CHILDREN, VDEV_TREE, VDEV_ZAPS};
use crate::vdev::TREE_DEPTH_MAX;
use crate::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;
use nvpair::{NvList, NvValue};
use ondisk::ObjectId;

/// What only top-level vdevs have, apart from their ZAP.
const TOP_KEYS: [&str; 8] =
    ["metaslab_array", "metaslab_shift", "ashift", "asize", "is_log", "removing", "noalloc", "alloc_bias"];

/// Where a vdev is in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Indexes of children, from the root.
    path: Vec<usize>,
    /// Type of the parent.
    pub(super) parent: String,
    /// Guid of the parent.
    pub(super) parent_guid: u64,
    /// Guids of the parent's children.
    pub(super) siblings: Vec<u64>,
    /// Type of the vdev.
    pub(super) kind: String,
    /// The vdev is a hot spare in use.
    pub(super) is_spare: bool,
}

impl Place {
    /// Number of its top-level vdev.
    pub(super) fn top(&self) -> usize {
        self.path.first().copied().unwrap_or(0)
    }

    /// 1 for top-level vdevs.
    pub(super) fn depth(&self) -> usize {
        self.path.len()
    }

    pub(super) fn is_top(&self) -> bool {
        self.path.len() == 1
    }

    pub(super) fn index(&self) -> usize {
        self.path.last().copied().unwrap_or(0)
    }
}

fn root(config: &NvList) -> Result<&NvList> {
    config.get_nvlist(VDEV_TREE).ok_or(Error::Damaged)
}

fn root_mut(config: &mut NvList) -> Result<&mut NvList> {
    config.get_nvlist_mut(VDEV_TREE).ok_or(Error::Damaged)
}

fn children(vdev: &NvList) -> &[NvList] {
    vdev.get_nvlist_array(CHILDREN).unwrap_or_default()
}

fn children_mut(vdev: &mut NvList) -> Result<&mut Vec<NvList>> {
    match vdev.get_mut(CHILDREN) {
        Some(NvValue::NvListArray(children)) => Ok(children),
        _ => Err(Error::Damaged),
    }
}

/// Finds a vdev by its guid.
///
/// # Errors
/// `NotFound`.
pub(super) fn place_of(config: &NvList, guid: u64) -> Result<Place> {
    let mut path = Vec::new();
    let parent = search(root(config)?, guid, &mut path).ok_or(Error::NotFound)?;
    let own = path.last().and_then(|index| children(parent).get(*index)).ok_or(Error::NotFound)?;
    let text = |vdev: &NvList| String::from(vdev.get_str("type").unwrap_or_default());
    Ok(Place {
        path: path.clone(),
        parent: text(parent),
        parent_guid: parent.get_u64("guid").unwrap_or(0),
        siblings: children(parent).iter().map(|c| c.get_u64("guid").unwrap_or(0)).collect(),
        kind: text(own),
        is_spare: own.get_u64("is_spare") == Some(1),
    })
}

/// The parent of the vdev of that guid; the path to the vdev.
fn search<'a>(vdev: &'a NvList, guid: u64, path: &mut Vec<usize>) -> Option<&'a NvList> {
    for (index, child) in children(vdev).iter().enumerate() {
        path.push(index);
        let is_hole = child.get_str("type") == Some("hole");
        if !is_hole && child.get_u64("guid") == Some(guid) {
            return Some(vdev);
        }
        if path.len() < TREE_DEPTH_MAX
            && let Some(found) = search(child, guid, path)
        {
            return Some(found);
        }
        path.pop();
    }
    None
}

/// The children among which the vdev of a path is.
fn siblings_mut<'a>(config: &'a mut NvList, path: &[usize]) -> Result<&'a mut Vec<NvList>> {
    let (_, above) = path.split_last().ok_or(Error::Damaged)?;
    let mut at = children_mut(root_mut(config)?)?;
    for index in above {
        at = children_mut(at.get_mut(*index).ok_or(Error::Damaged)?)?;
    }
    Ok(at)
}

/// Adds `new` as another side of the vdev `target`, below a vdev of type `kind` (`mirror`, `replacing`, `spare`): the
/// target's parent if it is of that kind, else a new one with the guid `parent_guid`.
///
/// # Errors
/// `NotFound`, `Damaged`.
pub(super) fn add_side(
    config: &mut NvList,
    target: u64,
    mut new: NvList,
    kind: &str,
    parent_guid: u64,
) -> Result<()> {
    let place = place_of(config, target)?;
    let siblings = siblings_mut(config, &place.path)?;
    if place.parent == kind {
        new.set("id", NvValue::Uint64(siblings.len() as u64));
        siblings.push(new);
        return Ok(());
    }
    let own = siblings.get_mut(place.index()).ok_or(Error::Damaged)?;
    let old = core::mem::replace(own, NvList::new());
    *own = with_parent(old, new, kind, parent_guid, place.is_top());
    Ok(())
}

fn with_parent(mut old: NvList, mut new: NvList, kind: &str, guid: u64, is_top: bool) -> NvList {
    let id = old.get_u64("id").unwrap_or(0);
    let mut parent = NvList::new().add_str("type", kind).add_u64("id", id).add_u64("guid", guid);
    if is_top {
        for key in TOP_KEYS {
            if let Some(value) = old.remove(key) {
                parent.insert(key, value);
            }
        }
    }
    parent.insert("create_txg", NvValue::Uint64(old.get_u64("create_txg").unwrap_or(0)));
    if is_top && let Some(zap) = old.remove(VDEV_ZAPS[1]) {
        parent.insert(VDEV_ZAPS[1], zap);
    }
    old.set("id", NvValue::Uint64(0));
    new.set("id", NvValue::Uint64(1));
    parent.add_nvlist_array(CHILDREN, [old, new].into())
}

/// A side that was taken out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Removed {
    /// What the configuration said of it.
    pub(super) leaf: NvList,
    /// The last side has taken over its parent's guid: old and new.
    pub(super) renamed: Option<(u64, u64)>,
    /// A spare that is a device of the pool like any other from now on.
    pub(super) unspared: Option<u64>,
}

/// Takes a side out of its mirror, replacement or spare; a parent with one side left goes too.
///
/// # Errors
/// `NotFound`, `Invalid` when it is no side of anything, `Damaged`.
pub(super) fn remove_side(config: &mut NvList, guid: u64) -> Result<Removed> {
    let place = place_of(config, guid)?;
    if place.is_top() || place.siblings.len() < 2 || !is_of_sides(&place.parent) {
        return Err(Error::Invalid);
    }
    let siblings = siblings_mut(config, &place.path)?;
    let mut removed = Removed { leaf: siblings.remove(place.index()), renamed: None, unspared: None };
    for (id, sibling) in siblings.iter_mut().enumerate() {
        sibling.set("id", NvValue::Uint64(id as u64));
    }
    if siblings.len() > 1 {
        return Ok(removed);
    }
    let mut last = siblings.pop().ok_or(Error::Damaged)?;
    if place.parent == "spare" && place.index() == 0 && last.remove("is_spare").is_some() {
        removed.unspared = last.get_u64("guid");
    }
    let above = &place.path[..place.path.len() - 1];
    let parent_index = *above.last().ok_or(Error::Damaged)?;
    let uncles = siblings_mut(config, above)?;
    let parent = uncles.get_mut(parent_index).ok_or(Error::Damaged)?;
    let parent_guid = parent.get_u64("guid").ok_or(Error::Damaged)?;
    last.set("id", NvValue::Uint64(parent.get_u64("id").unwrap_or(0)));
    if above.len() == 1 {
        let guid = last.get_u64("guid").ok_or(Error::Damaged)?;
        removed.renamed = Some((guid, parent_guid));
        last.set("guid", NvValue::Uint64(parent_guid));
        last = with_top_keys(last, parent);
    }
    *parent = last;
    Ok(removed)
}

pub(super) fn is_of_sides(kind: &str) -> bool {
    matches!(kind, "mirror" | "replacing" | "spare")
}

/// `vdev` with the facts of a top-level vdev, in the order in which they are written. A device has a ZAP of its own, after
/// which that of the top-level vdev comes; a vdev of sides has none.
fn with_top_keys(vdev: NvList, top: &NvList) -> NvList {
    let mut out = NvList::with_flags(vdev.flags());
    let mut is_done = false;
    for pair in vdev.pairs() {
        if !is_done && (pair.name == DTL.as_bytes() || pair.name == b"create_txg") {
            is_done = true;
            for key in TOP_KEYS {
                if let Some(value) = top.get(key) {
                    out.insert(key, value.clone());
                }
            }
        }
        let zap = top.get(VDEV_ZAPS[1]);
        if pair.name == CHILDREN.as_bytes()
            && let Some(zap) = zap
        {
            out.insert(VDEV_ZAPS[1], zap.clone());
        }
        out.insert(&pair.name, pair.value.clone());
        if pair.name == VDEV_ZAPS[0].as_bytes()
            && let Some(zap) = zap
        {
            out.insert(VDEV_ZAPS[1], zap.clone());
        }
    }
    out
}

/// Adds a top-level vdev in the place of a hole, or at the end; `make` is told its number.
///
/// # Errors
/// `Damaged`.
pub(super) fn add_top(config: &mut NvList, id: usize, top: NvList) -> Result<()> {
    let tops = children_mut(root_mut(config)?)?;
    match tops.get_mut(id) {
        Some(place) => *place = top,
        None => tops.push(top),
    }
    note_tops(config)
}

/// The number that the next top-level vdev gets.
///
/// # Errors
/// `Damaged`.
pub(super) fn next_top(config: &NvList) -> Result<usize> {
    let tops = children(root(config)?);
    Ok(tops.iter().position(|top| top.get_str("type") == Some("hole")).unwrap_or(tops.len()))
}

/// Takes a top-level vdev out: the last one goes, another leaves a hole.
///
/// # Errors
/// `Damaged`.
pub(super) fn remove_top(config: &mut NvList, id: usize) -> Result<NvList> {
    let tops = children_mut(root_mut(config)?)?;
    let is_last = id + 1 == tops.len();
    let own = tops.get_mut(id).ok_or(Error::Damaged)?;
    let removed = core::mem::replace(own, hole(id as u64));
    if is_last {
        tops.pop();
    }
    note_tops(config)?;
    Ok(removed)
}

fn hole(id: u64) -> NvList {
    NvList::new()
        .add_str("type", "hole")
        .add_u64("id", id)
        .add_u64("guid", 0)
        .add_u64("metaslab_array", 0)
        .add_u64("metaslab_shift", 0)
        .add_u64("ashift", 0)
        .add_u64("asize", 0)
        .add_u64("is_log", 0)
        .add_u64("is_hole", 1)
}

/// A top-level vdev of which the new pool has nothing when a pool is split: holes, and logs.
pub(super) fn stays_when_split(top: &NvList) -> bool {
    top.get_str("type") == Some("hole") || top.get_u64("is_log") == Some(1)
}

/// The configuration of the pool that `sides`, one of each mirror, make when they leave: each is a top-level vdev with the
/// facts of its mirror, what stays is a hole.
///
/// # Errors
/// `Invalid` when a vdev is no mirror, or none or several of its sides are meant; `Damaged`.
pub(super) fn split(config: &NvList, sides: &[u64], name: &str, guid: u64) -> Result<NvList> {
    let mut new = config.clone();
    let root = root_mut(&mut new)?;
    root.set("guid", NvValue::Uint64(guid));
    for (id, top) in children_mut(root)?.iter_mut().enumerate() {
        if stays_when_split(top) {
            *top = hole(id as u64);
            continue;
        }
        let is_meant = |side: &&NvList| side.get_u64("guid").is_some_and(|g| sides.contains(&g));
        let meant: Vec<&NvList> = children(top).iter().filter(is_meant).collect();
        let [side] = meant.as_slice() else { return Err(Error::Invalid) };
        if top.get_str("type") != Some("mirror") || !children(side).is_empty() || children(top).len() < 2 {
            return Err(Error::Invalid);
        }
        let mut side = with_top_keys((*side).clone(), top);
        side.set("id", NvValue::Uint64(id as u64));
        *top = side;
    }
    new.set("name", NvValue::String(name.as_bytes().to_vec()));
    new.set("pool_guid", NvValue::Uint64(guid));
    note_tops(&mut new)?;
    Ok(new)
}

/// Brings up to date what the configuration says of all top-level vdevs.
fn note_tops(config: &mut NvList) -> Result<()> {
    let tops = children(root(config)?);
    let nr = tops.len() as u64;
    let is_hole = |top: &NvList| top.get_str("type") == Some("hole");
    let holes: Vec<u64> =
        tops.iter().enumerate().filter(|(_, top)| is_hole(top)).map(|(id, _)| id as u64).collect();
    config.remove(HOLE_ARRAY);
    if !holes.is_empty() {
        super::config::set_before(config, HOLE_ARRAY, NvValue::Uint64Array(holes), VDEV_CHILDREN);
    }
    config.set(VDEV_CHILDREN, NvValue::Uint64(nr));
    Ok(())
}

/// The objects that a subtree of the configuration owns: (ZAPs, space maps of what leaves missed).
pub(super) fn objects_of(vdev: &NvList) -> (Vec<ObjectId>, Vec<ObjectId>) {
    let (mut zaps, mut logs) = (Vec::new(), Vec::new());
    let number = |key: &str| vdev.get_u64(key).map(ObjectId).and_then(ObjectId::non_zero);
    zaps.extend(VDEV_ZAPS[..2].iter().filter_map(|key| number(key)));
    logs.extend(number(DTL));
    for child in children(vdev) {
        let (more_zaps, more_logs) = objects_of(child);
        zaps.extend(more_zaps);
        logs.extend(more_logs);
    }
    (zaps, logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(guid: u64) -> NvList {
        NvList::new()
            .add_str("type", "disk")
            .add_u64("id", 7)
            .add_u64("guid", guid)
            .add_str("path", "/dev/x")
            .add_u64("create_txg", 4)
            .add_u64(VDEV_ZAPS[0], guid + 100)
    }

    fn top_disk(guid: u64, id: u64) -> NvList {
        NvList::new()
            .add_str("type", "disk")
            .add_u64("id", id)
            .add_u64("guid", guid)
            .add_str("path", "/dev/x")
            .add_u64("metaslab_array", 33)
            .add_u64("ashift", 12)
            .add_u64("asize", 1 << 30)
            .add_u64("is_log", 0)
            .add_u64("create_txg", 4)
            .add_u64(VDEV_ZAPS[0], guid + 100)
            .add_u64(VDEV_ZAPS[1], guid + 200)
    }

    fn pool(tops: Vec<NvList>) -> NvList {
        let nr = tops.len() as u64;
        let tree = NvList::new().add_str("type", "root").add_nvlist_array(CHILDREN, tops);
        NvList::new().add_u64(VDEV_CHILDREN, nr).add_nvlist(VDEV_TREE, tree)
    }

    #[test]
    fn a_disk_becomes_a_mirror_and_a_disk_again() {
        let before = pool([top_disk(1, 0), top_disk(2, 1)].into());
        let mut config = before.clone();
        add_side(&mut config, 2, disk(3), "mirror", 50).unwrap();
        add_side(&mut config, 3, disk(4), "mirror", 51).unwrap();
        let place = place_of(&config, 4).unwrap();
        assert_eq!((place.top(), place.index(), place.parent_guid), (1, 2, 50));
        assert_eq!(place.siblings, [2, 3, 4]);
        let mirror = &children(root(&config).unwrap())[1];
        assert_eq!((mirror.get_u64("ashift"), mirror.get_u64(VDEV_ZAPS[1])), (Some(12), Some(202)));
        assert_eq!(children(mirror)[0].get_u64("ashift"), None);
        remove_side(&mut config, 4).unwrap();
        let removed = remove_side(&mut config, 3).unwrap();
        assert_eq!(removed.leaf.get_u64("guid"), Some(3));
        assert_eq!(removed.renamed, Some((2, 50)), "the top-level vdev stays what it was");
        let expected = pool(
            [top_disk(1, 0), {
                let mut top = top_disk(2, 1);
                top.set("guid", NvValue::Uint64(50));
                top
            }]
            .into(),
        );
        assert_eq!(config, expected);
        assert_eq!(remove_side(&mut config, 50), Err(Error::Invalid));
    }

    #[test]
    fn a_spare_takes_over_for_good_when_the_original_goes() {
        let raidz = NvList::new()
            .add_str("type", "raidz")
            .add_u64("id", 0)
            .add_u64("guid", 9)
            .add_nvlist_array(CHILDREN, [disk(1), disk(2), disk(3)].into());
        let mut config = pool([raidz].into());
        add_side(&mut config, 2, disk(4).add_u64("is_spare", 1), "spare", 60).unwrap();
        add_side(&mut config, 2, disk(5), "replacing", 61).unwrap();
        let place = place_of(&config, 5).unwrap();
        assert_eq!((place.parent.as_str(), place.siblings.clone()), ("replacing", [2, 5].into()));
        let removed = remove_side(&mut config, 2).unwrap();
        assert_eq!((removed.renamed, removed.unspared), (None, None));
        let removed = remove_side(&mut config, 5).unwrap();
        assert_eq!(removed.unspared, Some(4));
        let place = place_of(&config, 4).unwrap();
        assert_eq!((place.parent.as_str(), place.index(), place.is_spare), ("raidz", 1, false));
    }

    #[test]
    fn a_replacement_below_a_spare_keeps_the_facts_of_the_top_level_vdev() {
        let mut config = pool([top_disk(1, 0)].into());
        add_side(&mut config, 1, disk(2).add_u64("is_spare", 1), "spare", 50).unwrap();
        add_side(&mut config, 1, disk(3), "replacing", 51).unwrap();
        remove_side(&mut config, 2).unwrap();
        let top = &children(root(&config).unwrap())[0];
        let facts = (top.get_str("type"), top.get_u64("guid"), top.get_u64("metaslab_array"));
        assert_eq!(facts, (Some("replacing"), Some(50), Some(33)));
        assert_eq!(top.get_u64(VDEV_ZAPS[1]), Some(201));
        assert_eq!(children(top).len(), 2);
    }

    #[test]
    fn a_side_with_sides_of_its_own_keeps_the_facts_of_the_mirror() {
        for kind in ["replacing", "spare"] {
            let mut config = pool([top_disk(1, 0)].into());
            add_side(&mut config, 1, disk(2), "mirror", 50).unwrap();
            add_side(&mut config, 1, disk(3), kind, 51).unwrap();
            let removed = remove_side(&mut config, 2).unwrap();
            assert_eq!(removed.renamed, Some((51, 50)));
            let mut expected = pool([top_disk(1, 0)].into());
            add_side(&mut expected, 1, disk(3), kind, 50).unwrap();
            assert_eq!(config, expected, "as if there had been no mirror");
        }
    }

    #[test]
    fn a_split_pool_has_one_side_of_each_mirror() {
        let mut config = pool([top_disk(1, 0), top_disk(2, 1), top_disk(3, 2).add_u64("is_log", 1)].into());
        assert_eq!(split(&config, &[1, 2], "new", 99), Err(Error::Invalid), "no mirrors");
        add_side(&mut config, 1, disk(11), "mirror", 50).unwrap();
        add_side(&mut config, 2, disk(12), "mirror", 51).unwrap();
        assert_eq!(split(&config, &[11], "new", 99), Err(Error::Invalid), "one is missing");
        assert_eq!(split(&config, &[11, 2, 12], "new", 99), Err(Error::Invalid), "both of one");
        let new = split(&config, &[11, 2], "new", 99).unwrap();
        let tops = children(root(&new).unwrap());
        let facts = |top: &NvList| (top.get_u64("guid"), top.get_u64("id"), top.get_u64(VDEV_ZAPS[1]));
        assert_eq!(facts(&tops[0]), (Some(11), Some(0), Some(201)));
        assert_eq!(facts(&tops[1]), (Some(2), Some(1), Some(202)));
        assert_eq!(tops[0].get_u64("metaslab_array"), Some(33));
        assert_eq!((new.get_str("name"), new.get_u64("pool_guid")), (Some("new"), Some(99)));
        assert_eq!(new.get_u64_array(HOLE_ARRAY), Some(&[2][..]), "the log stays");
    }

    #[test]
    fn removed_vdevs_leave_holes_that_are_filled_again() {
        let mut config = pool([top_disk(1, 0), top_disk(2, 1), top_disk(3, 2)].into());
        remove_top(&mut config, 1).unwrap();
        assert_eq!(config.get_u64_array(HOLE_ARRAY), Some(&[1][..]));
        assert_eq!((config.get_u64(VDEV_CHILDREN), next_top(&config)), (Some(3), Ok(1)));
        remove_top(&mut config, 2).unwrap();
        assert_eq!(config.get_u64(VDEV_CHILDREN), Some(2));
        add_top(&mut config, 1, top_disk(4, 1)).unwrap();
        assert_eq!((config.get_u64_array(HOLE_ARRAY), next_top(&config)), (None, Ok(2)));
        assert_eq!(objects_of(root(&config).unwrap()).0.len(), 4);
    }
}
