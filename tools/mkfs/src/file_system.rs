//! The one place where datasets become file systems.
use anyhow::{Result, bail};
use std::sync::Arc;
use vfs::FileSystem;
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::{PoolSpec, Spa, VdevSpec};

/// Mounts a dataset or snapshot.
///
/// # Errors
/// When there is none of that name, or it holds no file system.
pub fn mount(_spa: &Arc<Spa>, _name: &str, _is_read_only: bool) -> Result<Arc<dyn FileSystem>> {
    bail!("file systems are not there yet")
}

/// Makes a pool whose root dataset is an empty file system.
///
/// # Errors
/// The pool's.
pub fn create_pool(_devices: Vec<VdevSpec>, _spec: &PoolSpec) -> Result<Arc<Spa>> {
    bail!("file systems are not there yet")
}

/// Makes a dataset that is an empty file system.
///
/// # Errors
/// When its parent is missing, or the pool's.
pub fn create_dataset(_spa: &Arc<Spa>, _name: &str, _properties: &[(Property, PropertyValue)]) -> Result<()> {
    bail!("file systems are not there yet")
}
