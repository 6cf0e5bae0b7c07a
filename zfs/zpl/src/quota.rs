//! Limits by user, group and project: on space and on the number of objects.
//!
//! The master node names up to six ZAPs (`userquota@`, `groupobjquota@`...), each from an id in hexadecimal to a limit.
//! What counts against them is what the accounting objects say, as of the last transaction group on disk: a user
//! may go over by what one group takes, as with OpenZFS.
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::{DmuType, ObjectId};
use vfs::{Error, Result};
use zfs::dmu::{DmuTx, Objset, TxSpace};
use zfs::zap::{Zap, ZapOptions};

/// Whose account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// A user's.
    User,
    /// A group's.
    Group,
    /// A project's.
    Project,
}

/// In what a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Bytes.
    Space,
    /// Files, directories and the like.
    Objects,
}

impl Account {
    /// All.
    pub const ALL: [Self; 3] = [Self::User, Self::Group, Self::Project];

    fn used(self) -> ObjectId {
        match self {
            Self::User => ObjectId::USERUSED,
            Self::Group => ObjectId::GROUPUSED,
            Self::Project => ObjectId::PROJECTUSED,
        }
    }

    /// The master node's name of the limits.
    fn key(self, unit: Unit) -> &'static [u8] {
        match (self, unit) {
            (Self::User, Unit::Space) => b"userquota@",
            (Self::User, Unit::Objects) => b"userobjquota@",
            (Self::Group, Unit::Space) => b"groupquota@",
            (Self::Group, Unit::Objects) => b"groupobjquota@",
            (Self::Project, Unit::Space) => b"projectquota@",
            (Self::Project, Unit::Objects) => b"projectobjquota@",
        }
    }
}

/// What one user, group or project uses and may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub used: u64,
    /// Limit, bytes; 0 is none.
    pub quota: u64,
    /// Objects.
    pub objects: u64,
    /// Limit of objects; 0 is none.
    pub object_quota: u64,
}

fn found<T>(result: zfs::Result<T>) -> zfs::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(zfs::Error::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

fn used_zap(objset: &Arc<Objset>, account: Account) -> zfs::Result<Option<Zap>> {
    found(objset.hold(account.used()))?.map(Zap::open).transpose()
}

fn limits(objset: &Arc<Objset>, account: Account, unit: Unit) -> zfs::Result<Option<Zap>> {
    let master = Zap::hold(objset, ObjectId::ONE)?;
    found(master.lookup_u64(account.key(unit)))?.map(|id| Zap::hold(objset, ObjectId(id))).transpose()
}

/// The limits of a mounted file system.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    /// Those that exist.
    limits: Vec<(Account, Unit, Zap)>,
}

impl Quotas {
    pub(crate) fn load(objset: &Arc<Objset>) -> zfs::Result<Self> {
        let mut found = Vec::new();
        for account in Account::ALL {
            for unit in [Unit::Space, Unit::Objects] {
                if let Some(zap) = limits(objset, account, unit)? {
                    found.push((account, unit, zap));
                }
            }
        }
        Ok(Self { limits: found })
    }

    /// Nobody has a limit.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Whether one of the owners has reached a limit: of space, and of objects if `with_objects`.
    ///
    /// # Errors
    /// `Quota`, reading's.
    pub(crate) fn check(
        &self,
        objset: &Arc<Objset>,
        owners: &[(Account, u64)],
        with_objects: bool,
    ) -> Result<()> {
        for (account, unit, zap) in &self.limits {
            if *unit == Unit::Objects && !with_objects {
                continue;
            }
            for (_, id) in owners.iter().filter(|(owner, _)| owner == account) {
                if is_reached(objset, *account, *unit, zap, *id).map_err(crate::error::to_vfs)? {
                    return Err(Error::Quota);
                }
            }
        }
        Ok(())
    }
}

fn is_reached(
    objset: &Arc<Objset>,
    account: Account,
    unit: Unit,
    limits: &Zap,
    id: u64,
) -> zfs::Result<bool> {
    let Some(limit) = found(limits.lookup_u64(format!("{id:x}").as_bytes()))?.filter(|limit| *limit > 0)
    else {
        return Ok(false);
    };
    let Some(zap) = used_zap(objset, account)? else {
        return Ok(false);
    };
    Ok(found(zap.lookup_u64(used_key(unit, id).as_bytes()))?.unwrap_or(0) >= limit)
}

fn used_key(unit: Unit, id: u64) -> String {
    match unit {
        Unit::Space => format!("{id:x}"),
        Unit::Objects => format!("obj-{id:x}"),
    }
}

/// What everybody with an account uses and may use, by id.
///
/// # Errors
/// Reading's.
pub fn usage(objset: &Arc<Objset>, account: Account) -> zfs::Result<Vec<(u64, Usage)>> {
    let mut all: alloc::collections::BTreeMap<u64, Usage> = alloc::collections::BTreeMap::new();
    let mut add = |zap: Zap, set: &dyn Fn(&mut Usage, bool, u64)| {
        zap.for_each(0, &mut |entry| {
            let name = core::str::from_utf8(&entry.name).unwrap_or_default();
            let (is_count, id) = match name.strip_prefix("obj-") {
                Some(id) => (true, id),
                None => (false, name),
            };
            if let (Ok(id), Some(value)) = (u64::from_str_radix(id, 16), entry.value.as_word()) {
                set(all.entry(id).or_default(), is_count, value);
            }
            true
        })
    };
    if let Some(zap) = used_zap(objset, account)? {
        add(zap, &|usage, is_count, value| {
            if is_count { usage.objects = value } else { usage.used = value }
        })?;
    }
    if let Some(zap) = limits(objset, account, Unit::Space)? {
        add(zap, &|usage, _, value| usage.quota = value)?;
    }
    if let Some(zap) = limits(objset, account, Unit::Objects)? {
        add(zap, &|usage, _, value| usage.object_quota = value)?;
    }
    Ok(all.into_iter().collect())
}

/// Sets a limit; 0 takes it away. File systems that are mounted learn of it when they are mounted again.
///
/// # Errors
/// `NoSpace`, `ReadOnly`, reading's and writing's.
pub fn set(objset: &Arc<Objset>, account: Account, unit: Unit, id: u64, limit: u64) -> zfs::Result<()> {
    let master = Zap::hold(objset, ObjectId::ONE)?;
    let tx = DmuTx::begin(objset, TxSpace::names(2, 2))?;
    let zap = match limits(objset, account, unit)? {
        Some(zap) => zap,
        None => {
            let zap = Zap::create(objset, &tx, DmuType::USERGROUP_QUOTA, ZapOptions::default())?;
            master.insert_u64(&tx, account.key(unit), zap.id().0)?;
            zap
        }
    };
    let key = format!("{id:x}");
    if limit > 0 {
        return zap.update_u64(&tx, key.as_bytes(), limit);
    }
    found(zap.remove(&tx, key.as_bytes())).map(drop)
}
