//! User and group ids.
use alloc::sync::Arc;
use vfs::{Caller, Cred};

/// The ids of a process. Root may become anyone; others only what they are or were.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Real, effective and saved user.
    pub uid: [u32; 3],
    /// Real, effective and saved group.
    pub gid: [u32; 3],
    /// Supplementary groups.
    pub groups: Arc<[u32]>,
}

impl Credentials {
    /// Of one user.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid: [uid; 3], gid: [gid; 3], groups: Arc::from([]) }
    }

    /// For file-system operations.
    pub fn as_caller(&self) -> Caller<'_> {
        Caller { cred: Cred { uid: self.uid[1], gid: self.gid[1] }, groups: &self.groups }
    }

    /// Whether it may do what only root may.
    pub fn is_root(&self) -> bool {
        self.uid[1] == 0
    }
}

/// `-1` of the set*id calls: leave it.
pub const KEEP: u32 = u32::MAX;

/// The result of setresuid and the like on one triple; `None` when it is not allowed.
pub fn change(ids: [u32; 3], to: [u32; 3], is_root: bool) -> Option<[u32; 3]> {
    let is_allowed = |id: u32| id == KEEP || is_root || ids.contains(&id);
    to.iter().all(|id| is_allowed(*id)).then(|| {
        let pick = |i: usize| if to[i] == KEEP { ids[i] } else { to[i] };
        [pick(0), pick(1), pick(2)]
    })
}

/// The result of setuid on one triple.
pub fn change_one(ids: [u32; 3], to: u32, is_root: bool) -> Option<[u32; 3]> {
    if is_root { Some([to; 3]) } else { (to == ids[0] || to == ids[2]).then_some([ids[0], to, ids[2]]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_becomes_someone_else() {
        assert_eq!(change([1, 1, 1], [0, KEEP, KEEP], false), None);
        assert_eq!(change([1, 2, 3], [3, 1, KEEP], false), Some([3, 1, 3]));
        assert_eq!(change([0, 0, 0], [5, 6, KEEP], true), Some([5, 6, 0]));
        assert_eq!(change_one([0, 0, 0], 7, true), Some([7, 7, 7]));
        assert_eq!(change_one([7, 7, 0], 0, false), Some([7, 0, 0]));
        assert_eq!(change_one([7, 7, 7], 0, false), None);
    }
}
