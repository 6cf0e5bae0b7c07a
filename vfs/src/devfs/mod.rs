//! /dev: device nodes in a file system in memory, and the drivers of the memory devices.
//!
//! Nodes are ordinary device nodes; opening one goes through the name space's [`DeviceTable`], so nodes on a disk
//! (mknod) work as well. The kernel registers console and terminals with [`DevFs::register`].
use crate::access::Caller;
use crate::attr::{Cred, DeviceId};
use crate::device::{CharDevice, DeviceTable};
use crate::error::{Error, Result};
use crate::node::{FileSystem, NewNode, VnodeRef};
use crate::ramfs::RamFs;
use alloc::sync::Arc;
use core::fmt;

mod memory;

pub use memory::{Full, Null, Random, Zero};

/// Bytes of ordinary files that /dev may hold.
const BYTES_MAX: u64 = 1 << 20;

/// /dev under construction and in use.
pub struct DevFs {
    fs: Arc<RamFs>,
    root: VnodeRef,
}

impl DevFs {
    /// A /dev with the memory devices (drivers registered in `table`), the directories `pts` and `shm`, and the
    /// links `fd`, `stdin`, `stdout`, `stderr` into /proc/self/fd.
    ///
    /// # Errors
    /// None in practice: what the file system in memory may report.
    pub fn new(table: &DeviceTable) -> Result<Self> {
        let fs = RamFs::with_type("devtmpfs", BYTES_MAX, 0o755);
        let root = fs.root()?;
        let dev = Self { fs, root };
        let memory: [(&str, u32, Arc<dyn CharDevice>); 5] = [
            ("null", 3, Arc::new(Null)),
            ("zero", 5, Arc::new(Zero)),
            ("full", 7, Arc::new(Full)),
            ("random", 8, Arc::new(Random)),
            ("urandom", 9, Arc::new(Random)),
        ];
        for (name, minor, device) in memory {
            dev.register(table, name, DeviceId { major: 1, minor }, 0o666, device)?;
        }
        dev.add(b"shm", NewNode::Directory, 0o1777)?;
        dev.add(b"pts", NewNode::Directory, 0o755)?;
        let links: [(&[u8], &[u8]); 4] = [
            (b"fd", b"/proc/self/fd"),
            (b"stdin", b"/proc/self/fd/0"),
            (b"stdout", b"/proc/self/fd/1"),
            (b"stderr", b"/proc/self/fd/2"),
        ];
        for (name, target) in links {
            dev.add(name, NewNode::Symlink(target), 0o777)?;
        }
        Ok(dev)
    }

    fn add(&self, name: &[u8], node: NewNode<'_>, perm: u32) -> Result<VnodeRef> {
        let Cred { uid, gid } = Caller::ROOT.cred;
        self.root.create(name, node, perm, Cred { uid, gid })
    }

    /// Adds a device node `name`, with its driver. Register before the file system is mounted, or the name may be
    /// remembered as absent.
    ///
    /// # Errors
    /// [`Error::Exists`].
    pub fn register(
        &self,
        table: &DeviceTable,
        name: &str,
        id: DeviceId,
        perm: u32,
        device: Arc<dyn CharDevice>,
    ) -> Result<()> {
        match self.add(name.as_bytes(), NewNode::CharDevice(id), perm) {
            Ok(_) | Err(Error::Exists) => {}
            Err(e) => return Err(e),
        }
        table.register(id, device);
        Ok(())
    }

    /// The file system, to mount at /dev.
    pub fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }
}

impl fmt::Debug for DevFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DevFs")
    }
}
