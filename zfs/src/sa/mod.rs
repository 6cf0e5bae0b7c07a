//! System attributes: the typed attributes of a file, packed into its dnode's bonus and, when they do not fit, a spill
//! block.
//!
//! A header names a *layout*: a list of attribute numbers. Attribute numbers (the *registry*) and layouts are stored
//! per dataset, so nothing about them is assumed, only looked up. File systems older than ZPL 5 have a fixed structure
//! (`znode_phys_t`, 264 bytes) in the bonus instead; it is read, and changed in place, through the same calls.
//!
//! | module | holds |
//! |---|---|
//! | [`attr`] | the attributes of a file system |
//! | [`tables`] | registry and layouts |
//! | `foreign` | attributes of the other byte order |
//! | [`owner`] | whose account an object is charged to |
//! | [`pack`] | packing and finding attributes in bytes |
//!
//! Invariants: a layout is on disk no later than the first header that names it (same transaction); attributes keep
//! the order they were first written in, since raw receive depends on the fixed prefix of a file's layout; padding is
//! zero.
mod attr;
mod foreign;
mod owner;
mod pack;
mod tables;

#[cfg(test)]
mod tests;

use crate::dmu::{DmuTx, Dnode, Objset};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use ondisk::sa::LAYOUT_LEGACY;
use ondisk::{DmuType, ObjectId};
use pack::{Packed, Value};
use smallvec::SmallVec;
use tables::Tables;

pub use attr::Attr;
pub(crate) use foreign::is_foreign;
pub use owner::{HAS_PROJECT, owner_of};

/// Bytes a spill block pointer takes from the bonus.
const SPILL_POINTER: usize = 128;

/// The attributes of a dataset's files.
#[derive(Debug)]
pub struct Sa {
    tables: Tables,
}

impl Sa {
    /// Reads registry and layouts; `master` is the object the master node's `SA_ATTRS` names.
    ///
    /// # Errors
    /// [`Error::Damaged`], or what reading may report.
    pub fn open(objset: &Arc<Objset>, master: ObjectId) -> Result<Self> {
        Ok(Self { tables: Tables::open(objset, master)? })
    }

    /// Makes an empty set of layouts with every attribute of [`Attr`] registered; the object's number goes into the
    /// master node as `SA_ATTRS`.
    ///
    /// # Errors
    /// What writing may report.
    pub fn create(objset: &Arc<Objset>, tx: &DmuTx) -> Result<(Self, ObjectId)> {
        let (tables, master) = Tables::create(objset, tx)?;
        Ok((Self { tables }, master))
    }

    /// Attributes of a file system older than ZPL 5, which has no registry.
    pub fn legacy() -> Self {
        Self { tables: Tables::legacy() }
    }

    /// Calls `each` with every attribute of an object, in the order they are stored. `each` must not use the object.
    ///
    /// # Errors
    /// [`Error::Damaged`], or what reading a spill block may report.
    pub fn read_all(&self, dnode: &Arc<Dnode>, each: &mut dyn FnMut(Attr, &[u8])) -> Result<()> {
        let mut result = Ok(());
        let is_legacy = is_legacy(dnode);
        let mut named = |number: u16, bytes: &[u8]| {
            if let Some(attr) = self.tables.attr(number) {
                each(attr, bytes);
            }
        };
        dnode.bonus(&mut |bonus| result = self.tables.for_each(bonus, is_legacy, &mut named));
        result?;
        if let Some(spill) = dnode.spill()? {
            self.tables.for_each(&spill.to_contiguous(), false, &mut named)?;
        }
        Ok(())
    }

    /// The bytes of one attribute, or `None` when the object does not have it.
    ///
    /// # Errors
    /// As [`Sa::read_all`].
    pub fn get(&self, dnode: &Arc<Dnode>, attr: Attr) -> Result<Option<Vec<u8>>> {
        let Some(number) = self.tables.number(attr) else { return Ok(None) };
        let is_legacy = is_legacy(dnode);
        let mut found = Ok(None);
        dnode.bonus(&mut |bonus| {
            found = self.tables.find(bonus, is_legacy, number).map(|range| range.map(|r| bonus[r].to_vec()));
        });
        if let Some(bytes) = found? {
            return Ok(Some(bytes));
        }
        let Some(spill) = dnode.spill()? else { return Ok(None) };
        let spill = spill.to_contiguous();
        Ok(self.tables.find(&spill, false, number)?.map(|range| spill[range].to_vec()))
    }

    /// Calls `each` with every attribute that lies in the bonus, and its place there. Places stay the same until an
    /// attribute is added, removed or changes its length. `each` must not use the object.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn places_in_bonus(
        &self,
        dnode: &Arc<Dnode>,
        each: &mut dyn FnMut(Attr, Range<usize>),
    ) -> Result<()> {
        let is_legacy = is_legacy(dnode);
        let mut result = Ok(());
        dnode.bonus(&mut |bonus| {
            result = self.tables.for_each_place(bonus, is_legacy, &mut |number, range| {
                if let Some(attr) = self.tables.attr(number) {
                    each(attr, range);
                }
            });
        });
        result
    }

    /// The first eight bytes of one attribute as a number.
    ///
    /// # Errors
    /// As [`Sa::read_all`]; [`Error::NotFound`] when the object does not have it.
    pub fn get_u64(&self, dnode: &Arc<Dnode>, attr: Attr) -> Result<u64> {
        let bytes = self.get(dnode, attr)?.ok_or(Error::NotFound)?;
        bytes.first_chunk().map(|b| u64::from_le_bytes(*b)).ok_or(Error::Damaged)
    }

    /// Gives an object that has none its attributes, in this order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when they do not fit bonus and spill block, or what writing may report.
    pub fn init(&self, tx: &DmuTx, dnode: &Arc<Dnode>, attrs: &[(Attr, &[u8])]) -> Result<()> {
        let value = |(attr, bytes): &(Attr, &[u8])| {
            let number = self.tables.number(*attr).ok_or(Error::Unsupported)?;
            Ok(Value { number, bytes: SmallVec::from_slice(bytes) })
        };
        let values: Vec<Value> = attrs.iter().map(value).collect::<Result<_>>()?;
        self.store(tx, dnode, &values)
    }

    /// Changes, adds (`Some`) or removes (`None`) attributes.
    ///
    /// # Errors
    /// As [`Sa::init`]; [`Error::Unsupported`] for attributes that an old file system's fixed structure lacks.
    pub fn set(&self, tx: &DmuTx, dnode: &Arc<Dnode>, changes: &[(Attr, Option<&[u8]>)]) -> Result<()> {
        if self.set_in_place(tx, dnode, changes)? {
            return Ok(());
        }
        if is_legacy(dnode) {
            return Err(Error::Unsupported);
        }
        let mut values = Vec::new();
        let mut result = Ok(());
        let mut keep =
            |number: u16, bytes: &[u8]| values.push(Value { number, bytes: SmallVec::from_slice(bytes) });
        dnode.bonus(&mut |bonus| result = self.tables.for_each(bonus, false, &mut keep));
        result?;
        if let Some(spill) = dnode.spill()? {
            self.tables.for_each(&spill.to_contiguous(), false, &mut keep)?;
        }
        for (attr, change) in changes {
            let number = self.tables.number(*attr).ok_or(Error::Unsupported)?;
            let place = values.iter().position(|v| v.number == number);
            match (place, change) {
                (Some(at), Some(bytes)) => values[at].bytes = SmallVec::from_slice(bytes),
                (Some(at), None) => drop(values.remove(at)),
                (None, Some(bytes)) => values.push(Value { number, bytes: SmallVec::from_slice(bytes) }),
                (None, None) => {}
            }
        }
        self.store(tx, dnode, &values)
    }

    /// The common case: every attribute is in the bonus already and keeps its length.
    fn set_in_place(
        &self,
        tx: &DmuTx,
        dnode: &Arc<Dnode>,
        changes: &[(Attr, Option<&[u8]>)],
    ) -> Result<bool> {
        let is_legacy = is_legacy(dnode);
        let mut places = SmallVec::<[(usize, &[u8]); 8]>::new();
        let mut result = Ok(true);
        dnode.bonus(&mut |bonus| {
            for (attr, change) in changes {
                let (Some(number), Some(bytes)) = (self.tables.number(*attr), change) else {
                    result = Ok(false);
                    return;
                };
                match self.tables.find(bonus, is_legacy, number) {
                    Ok(Some(range)) if range.len() == bytes.len() => places.push((range.start, *bytes)),
                    Ok(_) => result = Ok(false),
                    Err(e) => result = Err(e),
                }
            }
        });
        if !result? {
            return Ok(false);
        }
        dnode.set_bonus(tx, &mut |bonus| {
            for (start, bytes) in &places {
                if let Some(place) = bonus.get_mut(*start..*start + bytes.len()) {
                    place.copy_from_slice(bytes);
                }
            }
        })?;
        Ok(true)
    }

    /// Packs all attributes: as many leading ones as fit into the bonus, the others into the spill block.
    fn store(&self, tx: &DmuTx, dnode: &Arc<Dnode>, values: &[Value]) -> Result<()> {
        let has_spill = dnode.has_spill();
        let room = dnode.bonus_max() + if has_spill { SPILL_POINTER } else { 0 };
        let nr_in_bonus = if self.tables.packed_size(values)? <= room {
            values.len()
        } else {
            let fits = |nr: &usize| {
                self.tables.packed_size(&values[..*nr]).is_ok_and(|size| size + SPILL_POINTER <= room)
            };
            (0..values.len()).rev().find(fits).ok_or(Error::TooLarge)?
        };
        let (bonus, spilled) = values.split_at(nr_in_bonus);
        let bonus = self.pack(tx, bonus)?;
        let spill = if spilled.is_empty() { None } else { Some(self.pack(tx, spilled)?) };
        // The bonus gives way before a spill block comes, and takes the room after one has gone.
        if spill.is_none() && has_spill {
            dnode.set_spill(tx, None)?;
        }
        if dnode.bonus_kind() != DmuType::SA {
            dnode.set_bonus_kind(tx, DmuType::SA)?;
        }
        dnode.set_bonus(tx, &mut |bytes| bytes.clone_from(&bonus))?;
        if let Some(spill) = spill {
            dnode.set_spill(tx, Some(&spill))?;
        }
        Ok(())
    }

    fn pack(&self, tx: &DmuTx, values: &[Value]) -> Result<Packed> {
        let numbers: Vec<u16> = values.iter().map(|v| v.number).collect();
        let layout = self.tables.layout_for(tx, &numbers)?;
        debug_assert_ne!(layout, LAYOUT_LEGACY);
        self.tables.pack(layout, values)
    }
}

fn is_legacy(dnode: &Dnode) -> bool {
    dnode.bonus_kind() == DmuType::ZNODE
}
