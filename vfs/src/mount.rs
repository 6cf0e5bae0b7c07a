//! A mounted file system and what a mount may forbid.
use crate::attr::DeviceId;
use crate::dentry::DentryRef;
use crate::node::FileSystem;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

bitflags::bitflags! {
    /// What a mount forbids.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MountFlags: u32 {
        /// Every change.
        const READ_ONLY = 1;
        /// Set-id bits have no effect.
        const NO_SUID = 2;
        /// Device nodes do not open.
        const NO_DEV = 4;
        /// No execution.
        const NO_EXEC = 8;
        /// Reading does not update access times.
        const NO_ATIME = 16;
    }
}

/// A mounted file system.
pub struct Mount {
    /// Differs between mounts, never reused.
    pub id: u64,
    /// What is mounted.
    pub fs: Arc<dyn FileSystem>,
    /// Its restrictions.
    pub flags: MountFlags,
    /// The directory it hides; `None` for the root mount.
    pub covered: Option<DentryRef>,
}

impl Mount {
    /// Whether changes are forbidden.
    pub fn is_read_only(&self) -> bool {
        self.flags.contains(MountFlags::READ_ONLY)
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({}, {:?})", self.id, self.flags)
    }
}

/// A line of /proc/self/mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// This mount.
    pub id: u64,
    /// The mount it is mounted on (its own id for the root).
    pub parent_id: u64,
    /// `st_dev` of its files.
    pub device: DeviceId,
    /// Where, as an absolute path.
    pub path: alloc::vec::Vec<u8>,
    /// What, as in /proc/mounts.
    pub source: String,
    /// File-system type.
    pub fs_type: &'static str,
    /// Its restrictions.
    pub flags: MountFlags,
}
