//! Attributes of files that came in the other byte order.
//!
//! They can be turned only once their layouts are there, and those may come after the first files: so at the end of the
//! stream, before anything is made visible.
use crate::dmu::{DmuTx, Dnode, Objset, TxSpace};
use crate::sa::{self, Sa};
use crate::zap::Zap;
use crate::{Error, Result};
use alloc::sync::Arc;
use ondisk::objset::ObjsetKind;
use ondisk::{DmuType, ObjectId};

/// Turns all of an object set's attributes into ours.
///
/// # Errors
/// `StreamDamaged` when they do not fit their layouts; reading's and writing's.
pub(super) fn swap_attributes(objset: &Arc<Objset>) -> Result<()> {
    if objset.kind() != ObjsetKind::Zfs {
        return Ok(());
    }
    let master = Zap::hold(objset, ObjectId::ONE).map_err(damaged)?;
    let attributes = match master.lookup_u64(b"SA_ATTRS") {
        Ok(id) => Sa::open(objset, ObjectId(id)).map_err(damaged)?,
        // Older file systems have a fixed structure, which was turned with the bonus.
        Err(Error::NotFound) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut at = ObjectId(0);
    while let Some(id) = objset.next_object(at)? {
        let dnode = objset.hold(id)?;
        if dnode.bonus_kind() == DmuType::SA {
            swap_object(objset, &attributes, &dnode)?;
        }
        at = id;
    }
    Ok(())
}

fn swap_object(objset: &Arc<Objset>, attributes: &Sa, dnode: &Dnode) -> Result<()> {
    let mut bonus = dnode.bonus_vec();
    if sa::is_foreign(&bonus) {
        attributes.swap_foreign(&mut bonus).map_err(damaged)?;
        let tx = DmuTx::begin(objset, TxSpace::names(1, 0))?;
        dnode.set_bonus(&tx, &mut |old| old.clone_from(&bonus))?;
    }
    let Some(spill) = dnode.spill()? else {
        return Ok(());
    };
    let mut spill = spill.to_vec();
    if sa::is_foreign(&spill) {
        attributes.swap_foreign(&mut spill).map_err(damaged)?;
        let tx = DmuTx::begin(objset, TxSpace::write(spill.len() as u64))?;
        dnode.set_spill(&tx, Some(&spill))?;
    }
    Ok(())
}

/// What does not parse came so.
fn damaged(error: Error) -> Error {
    match error {
        Error::Damaged | Error::NotFound => Error::StreamDamaged,
        other => other,
    }
}
