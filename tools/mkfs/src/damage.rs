//! What the pool's error log says, by file name.
use crate::image::Image;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zfs::scan::LostBlock;
use zpl::{MountOptions, ZplFs};

/// The files (and other objects) of an image that hold lost blocks, as `zpool status -v` names them:
/// `dataset:/path`, `dataset:<0xobject>`, `<0xdataset>:<0xobject>`, `<metadata>:<0xobject>`.
///
/// # Errors
/// When the log cannot be read.
pub fn files(image: &Image) -> Result<Vec<String>> {
    let mut mounted = BTreeMap::new();
    let objects: BTreeSet<(u64, u64)> = image.spa().lost_blocks()?.iter().map(object_of).collect();
    Ok(objects.into_iter().map(|(objset, object)| name(image, &mut mounted, objset, object)).collect())
}

fn object_of(lost: &LostBlock) -> (u64, u64) {
    (lost.bookmark.objset, lost.bookmark.object.0)
}

type Mounted = BTreeMap<u64, Option<(String, Option<Arc<ZplFs>>)>>;

fn name(image: &Image, mounted: &mut Mounted, objset: u64, object: u64) -> String {
    if objset == 0 {
        return format!("<metadata>:<{object:#x}>");
    }
    let open = || {
        let name = image.spa().dataset_name(objset).ok()?;
        let options = MountOptions { read_only: true, clock: None };
        let file_system = zpl::mount(image.spa(), &name, &options).ok();
        Some((name, file_system))
    };
    let Some((name, file_system)) = mounted.entry(objset).or_insert_with(open) else {
        return format!("<{objset:#x}>:<{object:#x}>");
    };
    match file_system.as_ref().and_then(|fs| fs.path_of(object).ok()) {
        Some(path) => format!("{name}:{}", String::from_utf8_lossy(&path)),
        None => format!("{name}:<{object:#x}>"),
    }
}
