//! Reading tables at import, and writing what a group changed.
//!
//! A table is made with the first shared block of its vdev and goes with the last; the features `block_cloning` and
//! `block_cloning_endian` count tables. Entries are words where the latter is active: it is from the first table of a
//! pool that has it enabled on, and never while tables of the older form exist.
use super::table::Table;
use super::{Brt, references};
use crate::dmu::{DmuTx, NewObject};
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::zap::{Zap, ZapValue};
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use ondisk::brt::{BRT_BLOCK_SIZE, BRT_VDEV_SIZE, BRT_ZAP_SHIFT, BrtVdev};
use ondisk::feature::Feature;
use ondisk::pool_directory::{BRT_PREFIX, POOL_DIRECTORY};
use ondisk::zap::ZapFlags;
use ondisk::{DmuType, ObjectId};
use zerocopy::IntoBytes;

fn directory_name(vdev: u32) -> String {
    format!("{BRT_PREFIX}{vdev}")
}

/// The tables of a pool, by vdev.
fn tables(mos: &Mos, storage: &Storage) -> Result<Vec<(u32, ObjectId, BrtVdev)>> {
    let mut found = Vec::new();
    for vdev in storage.vdevs().iter() {
        let id = vdev.info().id;
        if let Some(object) = mos.directory_entry(&directory_name(id))?.and_then(ObjectId::non_zero) {
            let phys = mos.bonus(object, |bonus| Ok(BrtVdev::parse(bonus)?))?;
            found.push((id, object, phys));
        }
    }
    Ok(found)
}

/// Whether a table was written in the other byte order: the counts of those cannot be kept up.
pub(crate) fn has_foreign(mos: &Mos, storage: &Storage) -> Result<bool> {
    Ok(tables(mos, storage)?.iter().any(|(_, _, phys)| phys.is_big_endian))
}

/// Tables a pool has: the reference count of `block_cloning`.
pub(crate) fn nr_tables(mos: &Mos, storage: &Storage) -> Result<u64> {
    Ok(tables(mos, storage)?.len() as u64)
}

/// What each vdev's table says of itself, and the counts of its ranges.
pub(crate) fn counts(mos: &Mos, storage: &Storage) -> Result<Vec<(u32, BrtVdev, Vec<u16>)>> {
    let read = |(vdev, object, phys)| Ok((vdev, phys, read_counts(mos, storage, vdev, object, &phys)?));
    tables(mos, storage)?.into_iter().map(read).collect()
}

fn read_counts(
    mos: &Mos,
    storage: &Storage,
    vdev: u32,
    object: ObjectId,
    phys: &BrtVdev,
) -> Result<Vec<u16>> {
    let bytes = storage.tree().top(vdev).map_or(0, |top| top.allocatable());
    let nr_counts = phys.size.min(bytes.div_ceil(phys.range_size));
    let len = usize::try_from(nr_counts.saturating_mul(2)).map_err(|_| Error::Damaged)?;
    let bytes = mos.read(object, 0, len)?;
    Ok(bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect())
}

/// Calls `f` with vdev, offset and references beyond the first of each shared block.
pub(crate) fn entries(
    mos: &Mos,
    storage: &Storage,
    f: &mut dyn FnMut(u32, u64, u64) -> Result<()>,
) -> Result<()> {
    for (vdev, _, phys) in tables(mos, storage)? {
        let mut result = Ok(());
        mos.zap(phys.entries)?.for_each(0, &mut |entry| {
            result = match (entry.words.first(), references(&entry.value)) {
                (Some(offset), Some(references)) => f(vdev, *offset, references),
                _ => Err(Error::Damaged),
            };
            result.is_ok()
        })?;
        result?;
    }
    Ok(())
}

impl Brt {
    /// Reads the tables.
    ///
    /// # Errors
    /// `Damaged`, what reading the MOS gives.
    pub(crate) fn load(&self, mos: &Mos, storage: &Storage) -> Result<()> {
        let mut loaded = BTreeMap::new();
        for (vdev, object, phys) in tables(mos, storage)? {
            let counts = read_counts(mos, storage, vdev, object, &phys)?;
            loaded.insert(vdev, Table::of(object, &phys, counts));
        }
        let mut tables = self.tables.lock();
        *tables = loaded;
        self.publish(&tables);
        Ok(())
    }

    /// Writes what the group changed. For the sync thread, after everything that frees data.
    ///
    /// # Errors
    /// `Damaged`, what changing the MOS gives.
    pub(crate) fn sync(&self, mos: &Mos, tx: &DmuTx) -> Result<()> {
        let dirty: Vec<u32> = {
            let mut tables = self.tables.lock();
            // Looked up and left as it was.
            tables.values_mut().filter(|t| !t.is_dirty).for_each(|t| t.changed.clear());
            tables.iter().filter(|(_, t)| t.is_dirty).map(|(vdev, _)| *vdev).collect()
        };
        for vdev in dirty {
            // Without the lock: only this thread changes tables, and frees nothing meanwhile.
            let Some(mut table) = self.tables.lock().remove(&vdev) else { continue };
            sync_table(mos, tx, vdev, &mut table)?;
            if !table.object.is_none() {
                self.tables.lock().insert(vdev, table);
            }
        }
        Ok(())
    }
}

fn sync_table(mos: &Mos, tx: &DmuTx, vdev: u32, table: &mut Table) -> Result<()> {
    let changed = mem::take(&mut table.changed);
    let dirty_blocks = mem::take(&mut table.dirty_blocks);
    table.is_dirty = false;
    if table.object.is_none() {
        if table.total == 0 {
            // Shared and given up again within the group.
            return Ok(());
        }
        create(mos, tx, vdev, table)?;
    }
    if table.total == 0 {
        return destroy(mos, tx, vdev, table);
    }
    let zap = mos.zap(table.entries)?;
    let has_words = features::is_active(mos, Feature::BlockCloningEndian)?;
    for (offset, change) in changed.into_iter().filter(|(_, c)| c.now != c.before) {
        match change.now {
            0 => zap.remove_key(tx, &[offset])?,
            now if has_words => zap.update_key(tx, &[offset], &ZapValue::word(now))?,
            now => zap.update_key(tx, &[offset], &ZapValue::bytes(&now.to_le_bytes()))?,
        }
    }
    store(mos, tx, table, &dirty_blocks)
}

fn create(mos: &Mos, tx: &DmuTx, vdev: u32, table: &mut Table) -> Result<()> {
    let entries = NewObject {
        indirect_shift: BRT_ZAP_SHIFT,
        ..NewObject::new(DmuType::OTN_ZAP_METADATA, 1 << BRT_ZAP_SHIFT)
    };
    let dnode = mos.objset().allocate(tx, &entries)?;
    table.entries = dnode.id();
    Zap::format(dnode, tx, ZapFlags::HASH64 | ZapFlags::UINT64_KEY, mos.objset().id())?;
    let kind = DmuType::OTN_UINT64_METADATA;
    let object = NewObject::new(kind, BRT_BLOCK_SIZE).with_bonus(kind, BRT_VDEV_SIZE as u16);
    table.object = mos.allocate(tx, &object)?;
    mos.zap_add(tx, POOL_DIRECTORY, &directory_name(vdev), table.object.0)?;
    let is_first = !features::is_active(mos, Feature::BlockCloning)?;
    if is_first || features::is_active(mos, Feature::BlockCloningEndian)? {
        features::increment(mos, tx, Feature::BlockCloningEndian)?;
    }
    features::increment(mos, tx, Feature::BlockCloning)?;
    Ok(())
}

fn destroy(mos: &Mos, tx: &DmuTx, vdev: u32, table: &mut Table) -> Result<()> {
    mos.free(tx, table.entries)?;
    mos.free(tx, table.object)?;
    table.object = ObjectId(0);
    mos.zap_remove(tx, POOL_DIRECTORY, &directory_name(vdev))?;
    if features::is_active(mos, Feature::BlockCloningEndian)? {
        features::decrement(mos, tx, Feature::BlockCloningEndian)?;
    }
    features::decrement(mos, tx, Feature::BlockCloning)?;
    Ok(())
}

fn store(mos: &Mos, tx: &DmuTx, table: &Table, dirty_blocks: &BTreeSet<usize>) -> Result<()> {
    for block in dirty_blocks {
        let offset = *block as u64 * u64::from(BRT_BLOCK_SIZE);
        mos.write(tx, table.object, offset, &table.block_of_counts(*block))?;
    }
    let raw = table.to_phys().to_raw();
    mos.modify_bonus(tx, table.object, |bonus| {
        let room = bonus.get_mut(..BRT_VDEV_SIZE).ok_or(Error::Damaged)?;
        room.copy_from_slice(raw.as_bytes());
        Ok(())
    })
}
