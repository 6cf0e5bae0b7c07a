//! ZFS datasets as file systems of the `vfs` crate.
//!
//! What it is: znodes, directories, extended attributes, the set of unlinked files; everything POSIX asks of a dataset.
//! What it is not: objects and transactions (`zfs::dmu`), names and mounts (`vfs`), nor the intent log itself (`zfs::zil`).
//!
//! | module | holds |
//! |---|---|
//! | [`create`] | an empty file system in a new dataset |
//! | [`mount`] | opening datasets, and all of a pool's at their mount points |
//! | [`fs`] | a mounted dataset |
//! | [`znode`] | a file in memory: attributes, locks |
//! | [`attrs`] | cached attributes and how they reach the bonus |
//! | [`table`] | the znodes in memory |
//! | [`dir`], [`rename`] | directory operations |
//! | [`remove`] | what happens to files without names |
//! | [`file`] | content |
//! | [`clone`] | content shared with other files |
//! | `ctldir` | `.zfs`: snapshots as directories |
//! | [`quota`] | limits by user, group and project |
//! | `path` | from an object back to its name |
//! | [`xattr`] | extended attributes |
//! | [`acl`] | the ACL that says what the mode says |
//! | [`log`], [`replay`] | what operations list in the intent log; applying it after a crash |
//! | [`impl_for_vfs`] | the only place where all this meets `vfs::Vnode` |
//!
//! Lock order, outermost first: directory locks (several: in object order), byte ranges, then `DmuTx::begin`, then an
//! znode's attributes, then everything in `zfs`. Why nothing of the first two may be taken inside a transaction: a
//! transaction waits for the one before it to end, so a holder of such a lock may itself be waiting for us to commit.
//!
//! Crash consistency: every operation changes directory, attributes and content in one transaction. A file that loses
//! its last name while it is open is put in the unlinked set in that same transaction and is freed when it is closed,
//! or at the next mount.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acl;
pub mod attrs;
pub mod clone;
pub mod create;
mod ctldir;
pub mod dir;
pub mod error;
pub mod file;
pub mod fs;
mod impl_for_vfs;
mod log;
pub mod mount;
mod path;
pub mod quota;
pub mod remove;
pub mod rename;
mod replay;
pub mod table;
pub mod xattr;
pub mod znode;

pub use create::{CreateOptions, create_fs};
pub use error::{Error, Result};
pub use fs::{Backing, ZplFs};
pub use mount::{MountOptions, mount, mount_all, mount_flags};
pub use znode::Znode;
