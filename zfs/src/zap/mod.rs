//! ZAP: objects that map names (or arrays of words) to arrays of integers.
//!
//! | module | holds |
//! |---|---|
//! | [`hash`] | keys and their hashes |
//! | [`value`] | values |
//! | [`micro`] | the micro form: one block, names below 50 bytes, one 64-bit value each |
//! | [`fat`] | the fat form: header, pointer table, leaves |
//! | [`leaf`] | one leaf block |
//! | [`blocks`] | what a ZAP needs of its object |
//!
//! A ZAP starts micro and becomes fat when an entry does not fit; it never goes back. All handles of one object share
//! one in-memory state, with one reader-writer lock: lookups run in parallel.
//!
//! Invariants: what is in memory (a micro-ZAP's index, a fat one's header) equals what the newest version of the blocks
//! says; both change under the write lock. A caller's closure never runs under the lock (it may take locks of lower
//! rank, or fault).
//!
//! Not here: names that are compared without regard to case or after normalisation. Such ZAPs can be listed; looking a
//! name up, or changing them, is refused, since an entry hashed our way would be invisible to OpenZFS.
mod blocks;
mod fat;
mod hash;
mod leaf;
mod micro;
mod value;

#[cfg(test)]
mod tests;

use crate::dmu::{DmuTx, Dnode, NewObject, Objset};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blocks::Blocks;
use fat::{Fat, format_fat};
use hash::{Key, hash_bits};
use micro::{Inserted, Micro, format_micro};
use ondisk::zap::{FZAP_BLOCK_SHIFT, ZBT_HEADER, ZBT_MICRO, ZapFlags};
use ondisk::{DmuType, ObjectId};
use rt::RwLock;

pub use value::ZapValue;

/// Lock rank of a ZAP's state (`docs/ZFS-INTERNALS.md`, section 8).
const RANK: u16 = 600;
/// Entries handed out per locking during iteration of a micro-ZAP.
const BATCH: usize = 256;
/// Size a micro-ZAP starts with.
const MICRO_START: u32 = 512;

/// How to make a ZAP.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZapOptions {
    /// Word keys, long hashes; any flag makes it fat from the start.
    pub flags: ZapFlags,
    /// Type of the object's bonus.
    pub bonus_kind: Option<DmuType>,
    /// Length of the object's bonus, bytes.
    pub bonus_len: u16,
    /// 512-byte slots of the object's dnode; 0 means 1.
    pub dnode_slots: u8,
}

/// An entry during iteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZapEntry {
    /// The name; empty in a ZAP with word keys.
    pub name: Vec<u8>,
    /// The words of the key; empty in a ZAP with names.
    pub words: Vec<u64>,
    /// The value.
    pub value: ZapValue,
    /// Where iteration goes on after this entry: `zap_cursor_serialize`'s form, stable while the entry exists.
    pub next_cursor: u64,
}

/// A ZAP object.
#[derive(Clone, Debug)]
pub struct Zap {
    map: ZapMap<Arc<Dnode>>,
}

impl Zap {
    /// Allocates an object and makes it an empty ZAP.
    ///
    /// # Errors
    /// What allocating and writing may report.
    pub fn create(objset: &Arc<Objset>, tx: &DmuTx, kind: DmuType, options: ZapOptions) -> Result<Self> {
        let dnode = objset.allocate(tx, &Self::object(kind, &options))?;
        Self::format(dnode, tx, options.flags, objset.id())
    }

    /// Allocates the object `id` and makes it an empty ZAP.
    ///
    /// # Errors
    /// As [`Zap::create`]; [`Error::Exists`] when the object is in use.
    pub fn create_at(
        objset: &Arc<Objset>,
        tx: &DmuTx,
        id: ObjectId,
        kind: DmuType,
        options: ZapOptions,
    ) -> Result<Self> {
        let dnode = objset.claim(tx, id, &Self::object(kind, &options))?;
        Self::format(dnode, tx, options.flags, objset.id())
    }

    fn object(kind: DmuType, options: &ZapOptions) -> NewObject {
        let block_size = if options.flags.is_empty() { MICRO_START } else { 1 << FZAP_BLOCK_SHIFT };
        let mut object = NewObject::new(kind, block_size);
        if let Some(bonus_kind) = options.bonus_kind {
            object.bonus_kind = bonus_kind;
            object.bonus_len = options.bonus_len;
        }
        object.dnode_slots = options.dnode_slots;
        object
    }

    /// Makes an object that has no content yet an empty ZAP.
    ///
    /// # Errors
    /// What writing may report.
    pub fn format(dnode: Arc<Dnode>, tx: &DmuTx, flags: ZapFlags, objset_id: u64) -> Result<Self> {
        let salt = salt_for(objset_id, dnode.id().0, tx.txg().0);
        let map = ZapMap { state: dnode.user(SharedState::default), blocks: dnode };
        map.format(tx, salt, flags)?;
        Ok(Self { map })
    }

    /// The ZAP in an object.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is none.
    pub fn open(dnode: Arc<Dnode>) -> Result<Self> {
        let map = ZapMap { state: dnode.user(SharedState::default), blocks: dnode };
        map.read(|_, _| Ok(()))?;
        Ok(Self { map })
    }

    /// The ZAP in the object `id`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`].
    pub fn hold(objset: &Arc<Objset>, id: ObjectId) -> Result<Self> {
        Self::open(objset.hold(id)?)
    }

    /// The object.
    pub fn dnode(&self) -> &Arc<Dnode> {
        &self.map.blocks
    }

    /// The object's number.
    pub fn id(&self) -> ObjectId {
        self.dnode().id()
    }

    /// Number of entries.
    ///
    /// # Errors
    /// [`Error::Damaged`], or what reading may report.
    pub fn len(&self) -> Result<u64> {
        self.map.len()
    }

    /// Whether there are no entries.
    ///
    /// # Errors
    /// As [`Zap::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The value of `name` as one 64-bit integer (the first, of several).
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Damaged`] when the value is none.
    pub fn lookup_u64(&self, name: &[u8]) -> Result<u64> {
        self.map.lookup_word(name)
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`].
    pub fn lookup(&self, name: &[u8]) -> Result<ZapValue> {
        self.map.lookup(&Key::Name(name))
    }

    /// Adds `name` with one 64-bit integer.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NameTooLong`], [`Error::NoSpace`].
    pub fn insert_u64(&self, tx: &DmuTx, name: &[u8], value: u64) -> Result<()> {
        self.map.insert(tx, &Key::Name(name), &ZapValue::word(value))
    }

    /// Adds `name`.
    ///
    /// # Errors
    /// As [`Zap::insert_u64`]; [`Error::TooLarge`].
    pub fn insert(&self, tx: &DmuTx, name: &[u8], value: &ZapValue) -> Result<()> {
        self.map.insert(tx, &Key::Name(name), value)
    }

    /// Adds `name` or replaces its value.
    ///
    /// # Errors
    /// As [`Zap::insert`], without `Exists`.
    pub fn update(&self, tx: &DmuTx, name: &[u8], value: &ZapValue) -> Result<()> {
        self.map.update(tx, &Key::Name(name), value)
    }

    /// Adds `name` or replaces its value by one 64-bit integer.
    ///
    /// # Errors
    /// As [`Zap::update`].
    pub fn update_u64(&self, tx: &DmuTx, name: &[u8], value: u64) -> Result<()> {
        self.map.update(tx, &Key::Name(name), &ZapValue::word(value))
    }

    /// Removes `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn remove(&self, tx: &DmuTx, name: &[u8]) -> Result<()> {
        self.map.remove(tx, &Key::Name(name))
    }

    /// The value under an array of words.
    ///
    /// # Errors
    /// As [`Zap::lookup`].
    pub fn lookup_key(&self, key: &[u64]) -> Result<ZapValue> {
        self.map.lookup(&Key::Words(key))
    }

    /// Adds an array of words.
    ///
    /// # Errors
    /// As [`Zap::insert`].
    pub fn insert_key(&self, tx: &DmuTx, key: &[u64], value: &ZapValue) -> Result<()> {
        self.map.insert(tx, &Key::Words(key), value)
    }

    /// Adds an array of words or replaces its value.
    ///
    /// # Errors
    /// As [`Zap::update`].
    pub fn update_key(&self, tx: &DmuTx, key: &[u64], value: &ZapValue) -> Result<()> {
        self.map.update(tx, &Key::Words(key), value)
    }

    /// Removes an array of words.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn remove_key(&self, tx: &DmuTx, key: &[u64]) -> Result<()> {
        self.map.remove(tx, &Key::Words(key))
    }

    /// Calls `each` for the entries from `cursor` on (0: the first), in the order of their hashes, until it returns
    /// false. No lock is held meanwhile; entries that come or go during the iteration may or may not be seen.
    ///
    /// # Errors
    /// [`Error::Damaged`], or what reading may report.
    pub fn for_each(&self, cursor: u64, each: &mut dyn FnMut(&ZapEntry) -> bool) -> Result<()> {
        self.map.for_each(cursor, each)
    }
}

/// A salt no two ZAPs of a pool share. It need not be secret, but it must be the same when an image is built again.
fn salt_for(objset: u64, object: u64, txg: u64) -> u64 {
    let mut mixed = objset.rotate_left(48) ^ object.rotate_left(16) ^ txg;
    for _ in 0..2 {
        mixed =
            (mixed ^ (mixed >> 30)).wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^= mixed >> 27;
    }
    mixed | 1
}

/// What all handles of one object share.
type SharedState = RwLock<Option<Form>, RANK>;

#[derive(Debug)]
enum Form {
    Micro(Micro),
    Fat(Fat),
}

impl Form {
    fn load<B: Blocks>(blocks: &B) -> Result<Self> {
        let block = blocks.block(0)?;
        let bytes = block.to_contiguous();
        match bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)) {
            Some(ZBT_MICRO) => Ok(Self::Micro(Micro::open(&bytes)?)),
            Some(ZBT_HEADER) => Ok(Self::Fat(Fat::open(&bytes)?)),
            _ => Err(Error::Damaged),
        }
    }

    fn normflags(&self) -> u64 {
        match self {
            Self::Micro(micro) => micro.normflags,
            Self::Fat(fat) => fat.normflags(),
        }
    }

    fn flags(&self) -> ZapFlags {
        match self {
            Self::Micro(_) => ZapFlags::empty(),
            Self::Fat(fat) => fat.flags,
        }
    }

    fn check_key(&self, key: &Key<'_>) -> Result<()> {
        key.check(self.flags(), self.normflags())
    }
}

/// A ZAP over any object.
#[derive(Clone, Debug)]
struct ZapMap<B> {
    blocks: B,
    state: Arc<SharedState>,
}

impl<B: Blocks> ZapMap<B> {
    fn format(&self, tx: &B::Tx, salt: u64, flags: ZapFlags) -> Result<()> {
        let mut state = self.state.write();
        *state = None;
        *state = Some(if flags.is_empty() {
            self.blocks.modify(tx, 0, &mut |bytes| format_micro(bytes, salt, 0))?;
            Form::load(&self.blocks)?
        } else {
            Form::Fat(format_fat(&self.blocks, tx, salt, 0, flags)?)
        });
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        self.read(|form, _| {
            Ok(match form {
                Form::Micro(micro) => micro.len(),
                Form::Fat(fat) => fat.len(),
            })
        })
    }

    fn lookup_word(&self, name: &[u8]) -> Result<u64> {
        self.read(|form, blocks| {
            form.check_key(&Key::Name(name))?;
            match form {
                Form::Micro(micro) => micro.lookup(&blocks.block(0)?.to_contiguous(), name),
                Form::Fat(fat) => fat.lookup(blocks, &Key::Name(name))?.as_word().ok_or(Error::Damaged),
            }
        })
    }

    fn lookup(&self, key: &Key<'_>) -> Result<ZapValue> {
        self.read(|form, blocks| {
            form.check_key(key)?;
            lookup(form, blocks, key)
        })
    }

    fn insert(&self, tx: &B::Tx, key: &Key<'_>, value: &ZapValue) -> Result<()> {
        self.write(|form, blocks| {
            form.check_key(key)?;
            match lookup(form, blocks, key) {
                Ok(_) => Err(Error::Exists),
                Err(Error::NotFound) => insert(form, blocks, tx, key, value),
                Err(e) => Err(e),
            }
        })
    }

    fn update(&self, tx: &B::Tx, key: &Key<'_>, value: &ZapValue) -> Result<()> {
        self.write(|form, blocks| {
            form.check_key(key)?;
            match lookup(form, blocks, key) {
                Err(Error::NotFound) => return insert(form, blocks, tx, key, value),
                Err(e) => return Err(e),
                Ok(old) if old == *value => return Ok(()),
                Ok(_) => {}
            }
            match (&mut *form, key, single_word(value)) {
                (Form::Micro(micro), Key::Name(name), Some(word)) => {
                    return micro.update(blocks, tx, name, word);
                }
                (Form::Micro(_), ..) => upgrade(form, blocks, tx)?,
                (Form::Fat(_), ..) => {}
            }
            match form {
                Form::Fat(fat) => fat.update(blocks, tx, key, value),
                Form::Micro(_) => Err(Error::Damaged),
            }
        })
    }

    fn remove(&self, tx: &B::Tx, key: &Key<'_>) -> Result<()> {
        self.write(|form, blocks| {
            form.check_key(key)?;
            match (form, key) {
                (Form::Micro(micro), Key::Name(name)) => micro.remove(blocks, tx, name),
                (Form::Fat(fat), _) => fat.remove(blocks, tx, key),
                (Form::Micro(_), Key::Words(_)) => Err(Error::Invalid),
            }
        })
    }

    fn for_each(&self, cursor: u64, each: &mut dyn FnMut(&ZapEntry) -> bool) -> Result<()> {
        let bits = self.read(|form, _| Ok(hash_bits(form.flags())))?;
        let mut from = Some((cursor << (64 - bits), u32::try_from(cursor >> bits).unwrap_or(u32::MAX)));
        while let Some(place) = from {
            let (batch, next) = self.read(|form, blocks| batch(form, blocks, place))?;
            for (hash, cd, mut entry) in batch {
                entry.next_cursor = hash >> (64 - bits) | (u64::from(cd) + 1) << bits;
                if !each(&entry) {
                    return Ok(());
                }
            }
            from = next;
        }
        Ok(())
    }

    fn read<R>(&self, f: impl FnOnce(&Form, &B) -> Result<R>) -> Result<R> {
        {
            let state = self.state.read();
            if let Some(form) = &*state {
                return f(form, &self.blocks);
            }
        }
        self.write(|form, blocks| f(form, blocks))
    }

    fn write<R>(&self, f: impl FnOnce(&mut Form, &B) -> Result<R>) -> Result<R> {
        let mut state = self.state.write();
        let mut form = match state.take() {
            Some(form) => form,
            None => Form::load(&self.blocks)?,
        };
        let result = f(&mut form, &self.blocks);
        // After a failure half-way the memory may be ahead of the blocks: it is built anew from them.
        let is_settled = matches!(result, Ok(_) | Err(Error::NotFound | Error::Exists | Error::Unsupported));
        *state = is_settled.then_some(form);
        result
    }
}

/// Entries with their places, and the place where the next batch starts.
type Batch = (Vec<(u64, u32, ZapEntry)>, Option<(u64, u32)>);

fn batch<B: Blocks>(form: &Form, blocks: &B, from: (u64, u32)) -> Result<Batch> {
    match form {
        Form::Micro(micro) => {
            let raw = micro.entries_from(&blocks.block(0)?.to_contiguous(), from, BATCH)?;
            let next = (raw.len() == BATCH).then(|| raw.last()).flatten();
            let next = next.and_then(|(hash, entry)| Some((*hash, entry.cd.get().checked_add(1)?)));
            let entry = |(hash, entry): &(u64, ondisk::zap::RawMzapEntry)| {
                let value = ZapValue::word(entry.value.get());
                let name = entry.name().to_vec();
                (*hash, entry.cd.get(), ZapEntry { name, words: Vec::new(), value, next_cursor: 0 })
            };
            Ok((raw.iter().map(entry).collect(), next))
        }
        Form::Fat(fat) => {
            let (entries, next) = fat.leaf_entries(blocks, from.0)?;
            let is_words = fat.flags.contains(ZapFlags::UINT64_KEY);
            let entry = |e: leaf::LeafEntry| {
                let (name, words) = if is_words {
                    (Vec::new(), fat::words_of(&e.key))
                } else {
                    (e.key.strip_suffix(&[0]).ok_or(Error::Damaged)?.to_vec(), Vec::new())
                };
                Ok((e.hash, e.cd, ZapEntry { name, words, value: e.value, next_cursor: 0 }))
            };
            let wanted = entries.into_iter().filter(|e| (e.hash, e.cd) >= from);
            Ok((wanted.map(entry).collect::<Result<_>>()?, next.map(|hash| (hash, 0))))
        }
    }
}

fn lookup<B: Blocks>(form: &Form, blocks: &B, key: &Key<'_>) -> Result<ZapValue> {
    match (form, key) {
        (Form::Micro(micro), Key::Name(name)) => {
            micro.lookup(&blocks.block(0)?.to_contiguous(), name).map(ZapValue::word)
        }
        (Form::Fat(fat), _) => fat.lookup(blocks, key),
        (Form::Micro(_), Key::Words(_)) => Err(Error::Invalid),
    }
}

/// Adds an entry known to be absent.
fn insert<B: Blocks>(form: &mut Form, blocks: &B, tx: &B::Tx, key: &Key<'_>, value: &ZapValue) -> Result<()> {
    if let (Form::Micro(micro), Key::Name(name), Some(word)) = (&mut *form, key, single_word(value))
        && micro.insert(blocks, tx, name, word)? == Inserted::Done
    {
        return Ok(());
    }
    if matches!(form, Form::Micro(_)) {
        value.stored()?;
        upgrade(form, blocks, tx)?;
    }
    match form {
        Form::Fat(fat) => fat.insert(blocks, tx, key, value, None),
        Form::Micro(_) => Err(Error::Damaged),
    }
}

fn single_word(value: &ZapValue) -> Option<u64> {
    if value.ints.len() == 1 { value.as_word() } else { None }
}

/// Micro to fat. Entries keep their differentiators, so cursors stay valid.
fn upgrade<B: Blocks>(form: &mut Form, blocks: &B, tx: &B::Tx) -> Result<()> {
    let Form::Micro(micro) = &*form else { return Ok(()) };
    let entries = micro.entries_from(&blocks.block(0)?.to_contiguous(), (0, 0), usize::MAX)?;
    let (salt, normflags) = (micro.salt(), micro.normflags);
    blocks.set_block_size(tx, 1 << FZAP_BLOCK_SHIFT)?;
    let mut fat = format_fat(blocks, tx, salt, normflags, ZapFlags::empty())?;
    for (_, entry) in &entries {
        let value = ZapValue::word(entry.value.get());
        fat.insert(blocks, tx, &Key::Name(entry.name()), &value, Some(entry.cd.get()))?;
    }
    *form = Form::Fat(fat);
    Ok(())
}
