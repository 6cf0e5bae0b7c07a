//! Space and object counts by user, group and project.
//!
//! Each object is charged 512 bytes and what it uses on disk, and counts as one, under the owner its bonus names. The
//! difference between what the disk said before and what it will say is collected while objects are written, and goes
//! into the three accounting objects at the end of the same group: the sums are right in every uberblock.
use crate::dmu::config::{FeatureUse, NewObject, Owner};
use crate::dmu::dnode::Dnode;
use crate::dmu::objset::{ACCOUNTS, Objset};
use crate::dmu::phys::{self, Phys};
use crate::dmu::tx::DmuTx;
use crate::zap::Zap;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use ondisk::dnode::{DNODE_SIZE, DnodeFlags};
use ondisk::objset::{OBJSET_SIZE_V2, OBJSET_SIZE_V3, ObjsetFlags, ObjsetKind};
use ondisk::zap::ZapFlags;
use ondisk::{DmuType, ObjectId};

const PROJECT: usize = 2;

/// Changes by account (user, group, project), id, and whether objects are counted.
#[derive(Debug, Default)]
pub(super) struct Accounting {
    deltas: BTreeMap<(usize, u64, bool), i64>,
    has_accounts: bool,
    has_projects: bool,
    counts_objects: bool,
}

/// What an object is charged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    owner: Owner,
    used: u64,
    flags: DnodeFlags,
}

impl Accounting {
    pub(super) fn new(objset: &Objset, ctx: &SyncCtx) -> Self {
        objset.start_accounting(ctx);
        let root = objset.root.lock();
        let is_zfs = root.header.kind == ObjsetKind::Zfs;
        let flags = root.header.flags;
        Self {
            deltas: BTreeMap::new(),
            has_accounts: is_zfs && root.block.len() >= OBJSET_SIZE_V2,
            has_projects: is_zfs
                && root.block.len() >= OBJSET_SIZE_V3
                && flags.contains(ObjsetFlags::PROJECTQUOTA_COMPLETE),
            counts_objects: flags.contains(ObjsetFlags::USEROBJACCOUNTING_COMPLETE),
        }
    }

    /// Flags of a dnode that is (from now on) accounted for.
    pub(super) fn flags(&self, id: ObjectId) -> DnodeFlags {
        let mut flags = DnodeFlags::empty();
        let is_special = ACCOUNTS.iter().any(|(account, _)| *account == id) || id.is_none();
        if self.has_accounts && !is_special {
            flags |= DnodeFlags::USERUSED_ACCOUNTED;
            flags.set(DnodeFlags::USEROBJUSED_ACCOUNTED, self.counts_objects);
        }
        flags
    }

    /// What an object is charged as it stands.
    pub(super) fn charge_of(&self, objset: &Objset, phys: &Phys) -> Option<Charge> {
        if !self.has_accounts || !phys.is_on_disk {
            return None;
        }
        let owner = objset.hooks.owner_of(phys.core.bonus_kind, &phys.bonus)?;
        Some(Charge { owner, used: phys.core.used, flags: phys.core.flags })
    }

    pub(super) fn add(&mut self, charge: Option<Charge>, sign: i64) {
        let Some(charge) = charge else { return };
        let owner = charge.owner;
        for (account, id) in [owner.uid, owner.gid, owner.project].into_iter().enumerate() {
            if account == PROJECT && !self.has_projects {
                continue;
            }
            if charge.flags.contains(DnodeFlags::USERUSED_ACCOUNTED) {
                let bytes = i64::try_from(charge.used).unwrap_or(i64::MAX).saturating_add(DNODE_SIZE as i64);
                *self.deltas.entry((account, id, false)).or_default() += sign * bytes;
            }
            if charge.flags.contains(DnodeFlags::USEROBJUSED_ACCOUNTED) {
                *self.deltas.entry((account, id, true)).or_default() += sign;
            }
        }
    }

    /// Puts the changes into the accounting objects (which are dirty then).
    pub(super) fn store(&mut self, objset: &Objset, ctx: &SyncCtx) -> Result<()> {
        let tx = DmuTx::syncing(ctx);
        let mut open: [Option<Zap>; 3] = [const { None }; 3];
        for ((account, id, is_count), delta) in core::mem::take(&mut self.deltas) {
            if delta == 0 {
                continue;
            }
            let zap = match &mut open[account] {
                Some(zap) => zap,
                slot => slot.insert(objset.account(account, &tx)?),
            };
            let name = if is_count { format!("obj-{id:x}") } else { format!("{id:x}") };
            let before = match zap.lookup_u64(name.as_bytes()) {
                Ok(value) => value,
                Err(Error::NotFound) => 0,
                Err(e) => return Err(e),
            };
            match before.saturating_add_signed(delta) {
                0 if before == 0 => {}
                0 => zap.remove(&tx, name.as_bytes())?,
                value => zap.update_u64(&tx, name.as_bytes(), value)?,
            }
        }
        Ok(())
    }
}

impl Objset {
    /// A new file system accounts for everything from its first group on.
    fn start_accounting(&self, ctx: &SyncCtx) {
        let mut root = self.root.lock();
        let is_new = root.bp.is_hole() && root.header.flags.is_empty();
        if !is_new || root.header.kind != ObjsetKind::Zfs {
            return;
        }
        root.header.flags = ObjsetFlags::USERACCOUNTING_COMPLETE;
        let features = [
            (FeatureUse::UserobjAccounting, ObjsetFlags::USEROBJACCOUNTING_COMPLETE),
            (FeatureUse::ProjectQuota, ObjsetFlags::PROJECTQUOTA_COMPLETE),
        ];
        drop(root);
        // The dataset is asked without the root block's lock: it has locks of its own.
        for (feature, flag) in features {
            if self.hooks.is_feature_enabled(feature) {
                self.root.lock().header.flags |= flag;
                self.hooks.feature_used(ctx, feature);
            }
        }
        self.is_root_dirty.store(true, Ordering::Release);
    }

    /// An accounting object, made if there is none.
    fn account(&self, index: usize, tx: &DmuTx) -> Result<Zap> {
        let existing = self.accounts.lock()[index].clone();
        if let Some(dnode) = existing {
            return Zap::open(dnode);
        }
        let core = phys::new_core(&NewObject::new(DmuType::USERGROUP_USED, 512))?;
        let dnode: Arc<Dnode> = self.new_dnode(ACCOUNTS[index].0, Phys::unborn(core));
        self.accounts.lock()[index] = Some(dnode.clone());
        Zap::format(dnode, tx, ZapFlags::empty(), self.id())
    }
}
