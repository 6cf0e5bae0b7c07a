//! From dentries back to paths: getcwd, /proc/self/fd, /proc/mounts.
use crate::dentry::DentryRef;
use crate::namespace::Namespace;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Namespace {
    /// The absolute path of `dentry` as seen from `root`. A dentry outside `root` is told from the root of
    /// everything. Whether its name still exists is [`crate::Dentry::is_removed`]'s matter.
    pub fn path_of(&self, dentry: &DentryRef, root: &DentryRef) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = dentry.clone();
        while !Arc::ptr_eq(&at, root) {
            match at.place() {
                (Some(parent), name) => {
                    names.push(name);
                    at = parent;
                }
                (None, _) => match at.mount().covered.clone() {
                    Some(covered) => at = covered,
                    None => break,
                },
            }
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// Whether `dentry` can be reached from `root` (getcwd fails with ENOENT for a removed directory).
    pub fn is_reachable(&self, dentry: &DentryRef, root: &DentryRef) -> bool {
        let mut at = dentry.clone();
        loop {
            if Arc::ptr_eq(&at, root) {
                return true;
            }
            if at.is_removed() {
                return false;
            }
            let up = at.parent().or_else(|| at.mount().covered.clone());
            match up {
                Some(up) => at = up,
                None => return false,
            }
        }
    }
}
