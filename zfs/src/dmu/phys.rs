//! A dnode as the disk has it (or will, when the group that syncs is through). Only the sync thread changes it.
use crate::{Error, Result};
use alloc::vec;
use alloc::vec::Vec;
use ondisk::blkptr::MAX_BLOCK_SIZE;
use ondisk::dnode::{self, DNODE_BLKPTRS_MAX, DnodeFlags, DnodePhys, LEVELS_MAX};
use ondisk::{BlkPtr, Checksum, Compression, DmuType};

#[derive(Clone, Debug)]
pub(super) struct Phys {
    pub(super) core: DnodePhys,
    pub(super) blkptrs: [BlkPtr; DNODE_BLKPTRS_MAX as usize],
    pub(super) spill: BlkPtr,
    pub(super) bonus: Vec<u8>,
    /// It stands in the dnode file (or will): not so for an object that was never synced or is freed.
    pub(super) is_on_disk: bool,
}

impl Phys {
    /// Of an object that is not on disk yet.
    pub(super) fn unborn(core: DnodePhys) -> Self {
        let bonus = Vec::new();
        Self { core, blkptrs: [BlkPtr::HOLE; 3], spill: BlkPtr::HOLE, bonus, is_on_disk: false }
    }

    /// Parses the dnode at the start of `bytes`; `None` for a free slot.
    ///
    /// # Errors
    /// `Damaged`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(core) = dnode::parse(bytes).map_err(|_| Error::Damaged)? else { return Ok(None) };
        check_reach(&core)?;
        let mut blkptrs = [BlkPtr::HOLE; 3];
        for (index, bp) in blkptrs.iter_mut().enumerate().take(usize::from(core.nr_blkptr)) {
            *bp = core.blkptr(bytes, index).map_err(|_| Error::Damaged)?;
        }
        let spill = core.spill(bytes).map_err(|_| Error::Damaged)?.unwrap_or(BlkPtr::HOLE);
        let bonus = core.bonus(bytes).map_err(|_| Error::Damaged)?.to_vec();
        Ok(Some(Self { core, blkptrs, spill, bonus, is_on_disk: true }))
    }

    /// The dnode's bytes, all slots.
    ///
    /// # Errors
    /// `Damaged` when the parts do not fit the format: a bug above.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut core = self.core;
        core.bonus_len = u16::try_from(self.bonus.len()).map_err(|_| Error::Damaged)?;
        core.flags.set(DnodeFlags::SPILL_BLKPTR, !self.spill.is_hole());
        let raw = core.to_raw().map_err(|_| Error::Damaged)?;
        let mut bytes = vec![0; core.size()];
        let put = |bytes: &mut Vec<u8>, at: usize, from: &[u8]| {
            bytes.get_mut(at..at + from.len()).map(|to| to.copy_from_slice(from)).ok_or(Error::Damaged)
        };
        put(&mut bytes, 0, zerocopy::IntoBytes::as_bytes(&raw))?;
        for (index, bp) in self.blkptrs.iter().enumerate() {
            if let Some(range) = core.blkptr_range(index) {
                put(&mut bytes, range.start, &bp.to_bytes())?;
            }
        }
        put(&mut bytes, core.bonus_offset(), &self.bonus)?;
        if let Some(range) = core.spill_range() {
            put(&mut bytes, range.start, &self.spill.to_bytes())?;
        }
        Ok(bytes)
    }

    /// The first data block that no pointer can name.
    pub(super) fn reach(&self) -> u64 {
        let bits = u32::from(self.core.levels - 1) * self.entries_shift();
        let nr = u64::from(self.core.nr_blkptr);
        if nr.leading_zeros() < bits { u64::MAX } else { nr << bits.min(63) }
    }

    /// log2 of the number of pointers in an indirect block.
    pub(super) fn entries_shift(&self) -> u32 {
        self.core.entries_shift()
    }
}

/// Levels that the number of blocks can need; more would make lookups shift by more bits than a number has.
fn check_reach(core: &DnodePhys) -> Result<()> {
    let bits = u32::from(core.levels - 1) * core.entries_shift();
    // One level of slack beyond 64 bits: foreign pools may be generous.
    if core.levels > LEVELS_MAX || bits >= 64 + core.entries_shift() {
        return Err(Error::Damaged);
    }
    let is_one_block = core.max_blkid == 0;
    if core.block_size > MAX_BLOCK_SIZE || (!is_one_block && !core.block_size.is_power_of_two()) {
        return Err(Error::Damaged);
    }
    // Offsets have 64 bits.
    if core.max_blkid.checked_add(1).and_then(|n| n.checked_mul(u64::from(core.block_size))).is_none() {
        return Err(Error::Damaged);
    }
    Ok(())
}

/// A new dnode's fixed part.
///
/// # Errors
/// `Invalid` when sizes are out of the format's limits.
pub(super) fn new_core(new: &super::config::NewObject) -> Result<DnodePhys> {
    let slots = new.dnode_slots.max(1);
    let indirect_shift = if new.indirect_shift == 0 { dnode::INDIRECT_SHIFT_MAX } else { new.indirect_shift };
    let is_size_ok =
        new.block_size > 0 && new.block_size.is_multiple_of(512) && new.block_size <= MAX_BLOCK_SIZE;
    if !is_size_ok || new.kind == DmuType::NONE {
        return Err(Error::Invalid);
    }
    let room = (usize::from(slots) << dnode::DNODE_SHIFT) - dnode::DNODE_CORE_SIZE;
    let bonus_room = room - ondisk::blkptr::BLKPTR_SIZE;
    let spare = bonus_room.checked_sub(usize::from(new.bonus_len)).ok_or(Error::Invalid)?;
    // System attributes want all the bonus they can get, others leave what is free to block pointers.
    let nr_blkptr = if new.bonus_kind == DmuType::SA {
        1
    } else {
        (1 + spare / ondisk::blkptr::BLKPTR_SIZE).min(usize::from(DNODE_BLKPTRS_MAX)) as u8
    };
    let core = DnodePhys {
        kind: new.kind,
        indirect_shift,
        levels: 1,
        nr_blkptr,
        bonus_kind: new.bonus_kind,
        checksum: Checksum::Inherit,
        compress: Compression::Inherit,
        flags: DnodeFlags::USED_BYTES,
        block_size: new.block_size,
        bonus_len: new.bonus_len,
        slots,
        max_blkid: 0,
        used: 0,
    };
    core.to_raw().map_err(|_| Error::Invalid)?;
    Ok(core)
}
