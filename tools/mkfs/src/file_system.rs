//! The one place where datasets become file systems.
use anyhow::{Result, anyhow};
use std::sync::Arc;
use vfs::{FileSystem, TimeSpec};
use zfs::dmu::{DmuTx, Objset};
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::{PoolSpec, Spa, TopSpec};
use zpl::{CreateOptions, MountOptions};

/// Mounts a dataset or snapshot; with a `clock`, time stands still there.
///
/// # Errors
/// When there is none of that name, or it holds no file system.
pub fn mount(
    spa: &Arc<Spa>,
    name: &str,
    read_only: bool,
    clock: Option<TimeSpec>,
) -> Result<Arc<dyn FileSystem>> {
    let options = MountOptions { read_only, clock };
    let mounted = zpl::mount(spa, name, &options).map_err(|e| anyhow!(e))?;
    Ok(mounted)
}

/// Makes a pool whose root dataset is an empty file system.
///
/// # Errors
/// The pool's.
pub fn create_pool(tops: Vec<TopSpec>, spec: &PoolSpec, clock: Option<TimeSpec>) -> Result<Arc<Spa>> {
    let features =
        spec.compatibility.features().map_err(|name| anyhow!("feature {name} cannot be enabled"))?;
    let has_projects = features.iter().any(|f| f.guid().ends_with(":project_quota"));
    Ok(Spa::create(tops, spec, &mut |tx: &DmuTx, objset: &Arc<Objset>| {
        zpl::create_fs(tx, objset, &CreateOptions { has_projects, clock, ..CreateOptions::default() })
    })?)
}

/// Makes a dataset that is an empty file system.
///
/// # Errors
/// When its parent is missing, or the pool's.
pub fn create_dataset(
    spa: &Arc<Spa>,
    name: &str,
    properties: &[(Property, PropertyValue)],
    clock: TimeSpec,
) -> Result<()> {
    let has_projects = zpl::mount::has_projects(spa)?;
    spa.create_dataset(name, properties, &mut |tx, objset| {
        zpl::create_fs(
            tx,
            objset,
            &CreateOptions { has_projects, clock: Some(clock), ..CreateOptions::default() },
        )
    })?;
    Ok(())
}
