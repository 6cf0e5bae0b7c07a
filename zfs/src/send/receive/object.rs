//! OBJECT records: an object made, changed, or made anew under an old number.
//!
//! The one question is whether what the object holds is still wanted. Its number may have been freed and given to
//! another file since the base; what is there is then to be dropped, since the stream names only what the new file has.
//! Or the file is the same and has grown, or blocks are sent in other sizes than before; then what the stream does not
//! name must stay. Where types differ it cannot be the same; where only the block size of a plain file differs, the
//! generation in the file's attributes tells.
use super::apply::{Applier, damaged_if_too_large, hold};
use crate::dmu::{DmuTx, Dnode, NewObject, TxSpace};
use crate::send::dump::ResumePoint;
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::dnode::{BONUS_MAX_OLD, DNODE_SIZE};
use ondisk::sa::{SA_MAGIC, SaHeader};
use ondisk::stream::{BeginFlags, ObjectRecord, RecordFlags};
use ondisk::{DmuType, ObjectId};

/// Where the generation stands among a file's attributes, behind the header: after mode and size.
const GENERATION_OFFSET: usize = 16;

/// What becomes of an object that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its content stays.
    Kept,
    /// Its content goes.
    Emptied,
    /// It is freed and made anew: its dnode has another size.
    Replaced,
}

impl Applier {
    pub(super) fn object(&mut self, record: &ObjectRecord, payload: Vec<u8>, bytes: u64) -> Result<()> {
        // Kinds whose blocks are walked through: no object of a dataset is of one.
        let is_structure = matches!(record.kind, DmuType::DNODE | DmuType::OBJSET | DmuType::INTENT_LOG);
        let is_sane = !is_structure
            && record.block_size <= self.max_block_size
            && record.slots <= self.max_slots
            && record.bonus_len as usize <= payload.len();
        if !is_sane {
            return Err(Error::StreamDamaged);
        }
        self.forget_last();
        self.max_object = self.max_object.max(record.object.0);
        let mut bonus = payload;
        self.swap(record.bonus_kind, &mut bonus);
        bonus.truncate(record.bonus_len.into());
        let existing = match hold(&self.objset, record.object)? {
            Some(dnode) if self.fate(&dnode, record, &bonus) == Fate::Replaced => {
                self.free_object(record.object)?;
                None
            }
            existing => existing,
        };
        self.clear_slots(record)?;
        let (dnode, tx) = match existing {
            Some(dnode) => self.change(dnode, record, &bonus)?,
            None => self.claim(record)?,
        };
        dnode.set_bonus(&tx, &mut |old| old.clone_from(&bonus)).map_err(damaged_if_too_large)?;
        dnode.set_checksum(&tx, record.checksum)?;
        dnode.set_compress(&tx, record.compress)?;
        self.reach(&tx, ResumePoint { object: record.object.0, offset: 0 }, bytes);
        Ok(())
    }

    fn fate(&self, dnode: &Dnode, record: &ObjectRecord, bonus: &[u8]) -> Fate {
        if dnode.slots() != record.slots {
            return Fate::Replaced;
        }
        let nr_pointers = nr_blkptr(record);
        if nr_pointers < dnode.nr_blkptr() {
            return Fate::Replaced;
        }
        if dnode.block_size() == record.block_size {
            return Fate::Kept;
        }
        let is_file = |kind| kind == DmuType::PLAIN_FILE_CONTENTS;
        if self.is_full || !is_file(dnode.kind()) || !is_file(record.kind) {
            return Fate::Emptied;
        }
        let before = generation(dnode.bonus_kind(), &dnode.bonus_vec());
        let after = generation(record.bonus_kind, bonus);
        if before.is_some() && before == after { Fate::Kept } else { Fate::Emptied }
    }

    /// Makes an object that is there what the record says.
    fn change(&self, dnode: Arc<Dnode>, record: &ObjectRecord, bonus: &[u8]) -> Result<(Arc<Dnode>, DmuTx)> {
        let fate = self.fate(&dnode, record, bonus);
        let has_spill = record.flags.contains(RecordFlags::SPILL);
        let is_same = dnode.kind() == record.kind
            && dnode.bonus_kind() == record.bonus_kind
            && dnode.bonus_len() == record.bonus_len
            && dnode.block_size() == record.block_size;
        let drops_spill = match self.flags.contains(BeginFlags::SPILL_BLOCK) {
            true => !has_spill,
            // Streams that do not say so send the spill block of an object that changed its shape.
            false => !is_same,
        };
        let space = TxSpace::write_range(0, u64::from(record.block_size) * 2, record.block_size);
        let tx = DmuTx::begin(&self.objset, space)?;
        if fate == Fate::Emptied {
            dnode.free_range(&tx, 0, u64::MAX)?;
        }
        if dnode.has_spill() && drops_spill {
            dnode.set_spill(&tx, None)?;
        }
        // A file of one block grows with it; of more, or if blocks shrink, the size stays and data is written into it.
        let grows = record.block_size > dnode.block_size();
        if dnode.block_size() != record.block_size
            && (fate == Fate::Emptied || (grows && dnode.max_blkid() == 0))
        {
            dnode.set_block_size(&tx, record.block_size, 0).map_err(damaged_if_too_large)?;
        } else if !dnode.block_size().is_power_of_two() && dnode.block_size() != record.block_size {
            // Blocks of an odd size are alone; this one must be able to have others.
            dnode.set_block_size(&tx, dnode.block_size().next_power_of_two(), 0)?;
        }
        if dnode.kind() != record.kind {
            dnode.set_kind(&tx, record.kind)?;
        }
        if dnode.bonus_kind() != record.bonus_kind {
            dnode.set_bonus_kind(&tx, record.bonus_kind)?;
        }
        Ok((dnode, tx))
    }

    fn claim(&self, record: &ObjectRecord) -> Result<(Arc<Dnode>, DmuTx)> {
        let new = NewObject {
            kind: record.kind,
            block_size: record.block_size,
            indirect_shift: 0,
            bonus_kind: record.bonus_kind,
            bonus_len: record.bonus_len,
            dnode_slots: record.slots,
        };
        for is_last in [false, true] {
            let tx = DmuTx::begin(&self.objset, TxSpace::names(1, 0))?;
            match self.objset.claim(&tx, record.object, &new) {
                Ok(dnode) => return Ok((dnode, tx)),
                // Freed in a group that is not on disk yet, or an inner slot of such an object.
                Err(Error::Exists) if !is_last => {
                    drop(tx);
                    self.objset.txgs().sync_all()?;
                }
                Err(Error::Exists | Error::Invalid) => return Err(Error::StreamDamaged),
                Err(e) => return Err(e),
            }
        }
        Err(Error::StreamDamaged)
    }

    /// Frees objects that lie where a large dnode is to grow into.
    fn clear_slots(&mut self, record: &ObjectRecord) -> Result<()> {
        let first = record.object.0.saturating_add(1);
        self.free_between(first, record.object.0.saturating_add(record.slots.into()))
    }

    fn free_object(&self, id: ObjectId) -> Result<()> {
        let tx = DmuTx::begin(&self.objset, TxSpace::names(1, 0).net_free())?;
        self.objset.free(&tx, id)
    }
}

/// Block pointers in a dnode with that bonus.
fn nr_blkptr(record: &ObjectRecord) -> u8 {
    if record.bonus_kind == DmuType::SA {
        return 1;
    }
    let room = BONUS_MAX_OLD + (usize::from(record.slots) - 1) * DNODE_SIZE;
    let spare = room.saturating_sub(record.bonus_len.into());
    (1 + (spare >> ondisk::blkptr::BLKPTR_SHIFT)).min(usize::from(ondisk::dnode::DNODE_BLKPTRS_MAX)) as u8
}

/// The generation in a file's bonus: unlike for every file that ever had its number.
fn generation(kind: DmuType, bonus: &[u8]) -> Option<u64> {
    let at = match kind {
        // Of old file systems: four times, then the generation.
        DmuType::ZNODE => 8 * 8,
        DmuType::SA => {
            let magic = u32::from_le_bytes(*bonus.first_chunk()?);
            (magic == SA_MAGIC).then_some(())?;
            SaHeader::parse(bonus).ok()?.size + GENERATION_OFFSET
        }
        _ => return None,
    };
    Some(u64::from_le_bytes(*bonus.get(at..)?.first_chunk()?))
}
