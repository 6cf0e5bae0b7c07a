//! How a compound stream describes what it carries.
//!
//! ```text
//! fromsnap, tosnap: names; not_recursive: present unless -R
//! fss: "0x<guid of the dataset>" -> name, parentfromsnap, [origin], [props], snaps: name -> guid,
//!                                   snapprops: name -> list, [snapholds: name -> list]
//! ```
use super::plan::{Plan, SendSpec, Tree, split};
use crate::dsl::dir;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use nvpair::{NvList, NvValue};
use ondisk::ObjectId;

/// The description; `None` when a row of streams needs none.
pub(super) fn describe(mos: &Mos, spec: &SendSpec, plan: &Plan) -> Result<Option<NvList>> {
    if plan.trees.is_empty() {
        return Ok(None);
    }
    let mut list = NvList::new();
    if let Some((_, from)) = spec.from.as_deref().and_then(|from| from.split_once(['@', '#'])) {
        list = list.add_str("fromsnap", from);
    }
    list = list.add_str("tosnap", split(&spec.to)?.1);
    if !spec.replicate {
        list = list.add_boolean("not_recursive");
    }
    let mut trees = NvList::new();
    for tree in &plan.trees {
        let described = describe_tree(mos, spec, tree)?;
        trees.insert(format!("0x{:x}", tree.guid), NvValue::NvList(described));
    }
    Ok(Some(list.add_nvlist("fss", trees)))
}

fn describe_tree(mos: &Mos, spec: &SendSpec, tree: &Tree) -> Result<NvList> {
    let mut list =
        NvList::new().add_str("name", tree.name.as_str()).add_u64("parentfromsnap", tree.parent_from);
    if let Some((_, guid)) = tree.origin {
        list = list.add_u64("origin", guid);
    }
    if spec.properties || spec.replicate {
        list = list.add_nvlist("props", properties(mos, tree.dir)?);
    }
    let (mut guids, mut props, mut holds) = (NvList::new(), NvList::new(), NvList::new());
    for snapshot in &tree.snapshots {
        let ds = dir::read_dataset(mos, snapshot.id)?;
        guids.insert(&snapshot.name, NvValue::Uint64(snapshot.guid));
        props.insert(&snapshot.name, NvValue::NvList(values(mos, ds.props)?));
        holds.insert(&snapshot.name, NvValue::NvList(values(mos, ds.userrefs)?));
    }
    list = list.add_nvlist("snaps", guids).add_nvlist("snapprops", props);
    Ok(if spec.holds { list.add_nvlist("snapholds", holds) } else { list })
}

/// What is set on a dataset itself: locally, or by a stream.
fn properties(mos: &Mos, dir_id: ObjectId) -> Result<NvList> {
    let own = dir::read(mos, dir_id)?;
    let mut list = values(mos, own.props_zap)?;
    for (name, value) in [("quota", own.quota), ("reservation", own.reserved)] {
        if value != 0 {
            list.insert(name, NvValue::Uint64(value));
        }
    }
    Ok(list)
}

/// The numbers and texts of a ZAP. Of a property that was received and set since, what was set.
fn values(mos: &Mos, zap: ObjectId) -> Result<NvList> {
    let mut found: Vec<(String, NvValue)> = Vec::new();
    if !zap.is_none() {
        mos.zap(zap)?.for_each(0, &mut |entry| {
            let name = String::from_utf8_lossy(&entry.name).to_string();
            let value = match entry.value.as_word() {
                Some(word) => Some(NvValue::Uint64(word)),
                None => entry.value.as_string().map(|text| NvValue::String(text.into_bytes())),
            };
            found.extend(value.map(|value| (name, value)));
            true
        })?;
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let has = |name: &str| found.iter().any(|(n, _)| n == name);
    let mut list = NvList::new();
    for (name, value) in &found {
        let effective = match name.strip_suffix("$recvd") {
            Some(base) if has(base) || has(&format!("{base}$inherit")) => None,
            Some(base) => Some(base),
            None if name.contains('$') => None,
            None => Some(name.as_str()),
        };
        if let Some(name) = effective.filter(|n| !n.is_empty()) {
            list.insert(name, value.clone());
        }
    }
    Ok(list)
}

/// Packs a description for a BEGIN record.
pub(super) fn pack(list: &NvList) -> Result<Vec<u8>> {
    list.encode().map_err(|_| Error::TooLarge)
}
