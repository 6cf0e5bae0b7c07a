//! Registry and layouts of a dataset, in memory and in their ZAP objects.
//!
//! Layouts are only ever added. Adding one holds the lock of the ZAP object across its change, and the layout's number
//! becomes known to others only afterwards: they use it in a transaction group in which it is on disk (groups are
//! joined in order). Known layouts have a lock of their own, of high rank: they are looked at under a dnode's lock.
use super::attr::Attr;
use super::pack::{self, Packed, Value};
use crate::dmu::{DmuTx, Objset};
use crate::zap::{Zap, ZapOptions, ZapValue};
use crate::{Error, Result};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use ondisk::sa::{LAYOUT_FIRST, SaByteswap, SaHeader, SaRegistration, ZPL_ATTRIBUTES};
use ondisk::{DmuType, ObjectId};
use rt::{Mutex, RwLock};

/// Lock rank of adding a layout: below the ZAPs', which are changed under it.
const RANK_ADD: u16 = 590;
/// Lock rank of the known layouts: above a dnode's.
const RANK_KNOWN: u16 = 790;
/// Attribute numbers above this are damage.
const NUMBER_MAX: u16 = 1023;
/// Attributes of the fixed structure of old file systems, in order: the places of these in [`ZPL_ATTRIBUTES`].
const LEGACY_ATTRS: u16 = 16;

#[derive(Debug)]
pub(super) struct Tables {
    /// By number: length (0 = variable) and, if we know it, which attribute it is.
    registry: Vec<Option<(u16, Option<Attr>)>>,
    numbers: [Option<u16>; ZPL_ATTRIBUTES.len()],
    /// `None` in old file systems.
    zap: Mutex<Option<Zap>, RANK_ADD>,
    layouts: RwLock<Layouts, RANK_KNOWN>,
}

#[derive(Debug, Default)]
struct Layouts {
    by_number: Vec<Option<Layout>>,
}

#[derive(Debug)]
struct Layout {
    numbers: Vec<u16>,
    lengths: Vec<u16>,
}

impl Tables {
    pub(super) fn open(objset: &Arc<Objset>, master: ObjectId) -> Result<Self> {
        let master = Zap::hold(objset, master)?;
        let mut tables = Self::empty();
        let registry = Zap::hold(objset, ObjectId(master.lookup_u64(b"REGISTRY")?))?;
        let mut result = Ok(());
        registry.for_each(0, &mut |entry| {
            let word = entry.value.as_word().ok_or(Error::Damaged);
            let register = |word| SaRegistration::unpack(word).map_err(|_| Error::Damaged);
            result = word.and_then(register).and_then(|r| tables.register(&entry.name, &r));
            result.is_ok()
        })?;
        result?;
        let zap = Zap::hold(objset, ObjectId(master.lookup_u64(b"LAYOUTS")?))?;
        let mut layouts = Layouts::default();
        let mut result = Ok(());
        zap.for_each(0, &mut |entry| {
            result = tables.parse_layout(&entry.name, &entry.value).map(|(nr, l)| layouts.put(nr, l));
            result.is_ok()
        })?;
        result?;
        tables.zap = Mutex::new(Some(zap));
        tables.layouts = RwLock::new(layouts);
        Ok(tables)
    }

    pub(super) fn create(objset: &Arc<Objset>, tx: &DmuTx) -> Result<(Self, ObjectId)> {
        let make = |kind| Zap::create(objset, tx, kind, ZapOptions::default());
        let master = make(DmuType::SA_MASTER_NODE)?;
        let registry = make(DmuType::SA_ATTR_REGISTRATION)?;
        let layouts = make(DmuType::SA_ATTR_LAYOUTS)?;
        master.insert_u64(tx, b"REGISTRY", registry.id().0)?;
        master.insert_u64(tx, b"LAYOUTS", layouts.id().0)?;
        let mut tables = Self::empty();
        for (place, (name, byteswap, length)) in ZPL_ATTRIBUTES.into_iter().enumerate() {
            let registration = SaRegistration { number: place as u16, byteswap, length };
            registry.insert_u64(tx, name.as_bytes(), registration.pack())?;
            tables.register(name.as_bytes(), &registration)?;
        }
        tables.zap = Mutex::new(Some(layouts));
        Ok((tables, master.id()))
    }

    pub(super) fn legacy() -> Self {
        let mut tables = Self::empty();
        for (place, (name, byteswap, length)) in ZPL_ATTRIBUTES.into_iter().enumerate() {
            let registration = SaRegistration { number: place as u16, byteswap, length };
            if tables.register(name.as_bytes(), &registration).is_err() {
                unreachable!("the built-in table is valid");
            }
        }
        tables
    }

    fn empty() -> Self {
        Self {
            registry: Vec::new(),
            numbers: [None; ZPL_ATTRIBUTES.len()],
            zap: Mutex::default(),
            layouts: RwLock::default(),
        }
    }

    fn register(&mut self, name: &[u8], registration: &SaRegistration) -> Result<()> {
        let (number, length) = (registration.number, registration.length);
        if number > NUMBER_MAX {
            return Err(Error::Damaged);
        }
        let attr = Attr::from_name(name);
        let place = usize::from(number);
        if self.registry.len() <= place {
            self.registry.resize(place + 1, None);
        }
        self.registry[place] = Some((length, attr));
        if let Some(attr) = attr {
            let (_, byteswap, expected) = ZPL_ATTRIBUTES[attr as usize];
            // An ACL may be registered as words or as ACL; only the length matters to us.
            if length != expected && byteswap != SaByteswap::Acl {
                return Err(Error::Damaged);
            }
            self.numbers[attr as usize] = Some(number);
        }
        Ok(())
    }

    fn parse_layout(&self, name: &[u8], value: &ZapValue) -> Result<(u16, Layout)> {
        let name = core::str::from_utf8(name).map_err(|_| Error::Damaged)?;
        let nr: u16 = name.parse().map_err(|_| Error::Damaged)?;
        if nr > SaHeader::LAYOUT_MAX || value.int_size != 2 {
            return Err(Error::Damaged);
        }
        let numbers: Vec<u16> = value.ints.iter().map(|n| *n as u16).collect();
        Ok((nr, self.layout(numbers)?))
    }

    fn layout(&self, numbers: Vec<u16>) -> Result<Layout> {
        let length = |number: &u16| Ok(self.registered(*number).ok_or(Error::Damaged)?.0);
        let lengths = numbers.iter().map(length).collect::<Result<_>>()?;
        Ok(Layout { numbers, lengths })
    }

    fn registered(&self, number: u16) -> Option<(u16, Option<Attr>)> {
        self.registry.get(usize::from(number)).copied().flatten()
    }

    /// The attribute of that number, if we know it.
    pub(super) fn attr(&self, number: u16) -> Option<Attr> {
        self.registered(number)?.1
    }

    /// The number of that attribute, if it is registered.
    pub(super) fn number(&self, attr: Attr) -> Option<u16> {
        self.numbers[attr as usize]
    }

    /// Calls `each` with number and bytes of every attribute.
    pub(super) fn for_each(
        &self,
        bytes: &[u8],
        is_legacy: bool,
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<()> {
        self.for_each_place(bytes, is_legacy, &mut |number, range| {
            if let Some(value) = bytes.get(range) {
                each(number, value);
            }
        })
    }

    /// Calls `each` with number and place of every attribute; places lie inside `bytes`.
    pub(super) fn for_each_place(
        &self,
        bytes: &[u8],
        is_legacy: bool,
        each: &mut dyn FnMut(u16, Range<usize>),
    ) -> Result<()> {
        if is_legacy {
            for number in 0..LEGACY_ATTRS {
                let range = legacy_range(number);
                if range.end > bytes.len() {
                    return Err(Error::Damaged);
                }
                each(number, range);
            }
            return Ok(());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let header = SaHeader::parse(bytes).map_err(|_| Error::Damaged)?;
        let layouts = self.layouts.read();
        let layout = layouts.get(header.layout)?;
        pack::walk(bytes, &header, &layout.lengths, |place, range| {
            each(layout.numbers[place], range);
            true
        })
    }

    /// Where the attribute of that number lies.
    pub(super) fn find(&self, bytes: &[u8], is_legacy: bool, number: u16) -> Result<Option<Range<usize>>> {
        if is_legacy {
            let range = legacy_range(number);
            return Ok((number < LEGACY_ATTRS && range.end <= bytes.len()).then_some(range));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let header = SaHeader::parse(bytes).map_err(|_| Error::Damaged)?;
        let layouts = self.layouts.read();
        let layout = layouts.get(header.layout)?;
        let Some(wanted) = layout.numbers.iter().position(|n| *n == number) else { return Ok(None) };
        let mut found = None;
        pack::walk(bytes, &header, &layout.lengths, |place, range| {
            if place == wanted {
                found = Some(range);
            }
            place < wanted
        })?;
        Ok(found)
    }

    /// Bytes that attributes take with their header.
    pub(super) fn packed_size(&self, values: &[Value]) -> Result<usize> {
        let lengths: Vec<u16> = self.layout(values.iter().map(|v| v.number).collect())?.lengths;
        pack::packed_size(&lengths, values)
    }

    /// Packs attributes whose numbers are those of the layout.
    pub(super) fn pack(&self, layout: u16, values: &[Value]) -> Result<Packed> {
        pack::pack(layout, &self.layouts.read().get(layout)?.lengths, values)
    }

    /// The number of the layout with exactly these attributes; it is added if there is none.
    pub(super) fn layout_for(&self, tx: &DmuTx, numbers: &[u16]) -> Result<u16> {
        if let Some(nr) = self.layouts.read().find(numbers) {
            return Ok(nr);
        }
        let zap = self.zap.lock();
        let known = self.layouts.read();
        if let Some(nr) = known.find(numbers) {
            return Ok(nr);
        }
        let nr = known.by_number.len().max(usize::from(LAYOUT_FIRST)) as u16;
        drop(known);
        if nr > SaHeader::LAYOUT_MAX {
            return Err(Error::NoSpace);
        }
        let layout = self.layout(numbers.to_vec())?;
        let zap = zap.as_ref().ok_or(Error::Unsupported)?;
        zap.insert(tx, nr.to_string().as_bytes(), &ZapValue::shorts(numbers))?;
        self.layouts.write().put(nr, layout);
        Ok(nr)
    }
}

impl Layouts {
    fn put(&mut self, nr: u16, layout: Layout) {
        let place = usize::from(nr);
        while self.by_number.len() <= place {
            self.by_number.push(None);
        }
        self.by_number[place] = Some(layout);
    }

    fn get(&self, nr: u16) -> Result<&Layout> {
        self.by_number.get(usize::from(nr)).and_then(Option::as_ref).ok_or(Error::Damaged)
    }

    fn find(&self, numbers: &[u16]) -> Option<u16> {
        let is_it = |layout: &Option<Layout>| layout.as_ref().is_some_and(|l| l.numbers == numbers);
        // Layouts 0 and 1 are not ours to name.
        let nr = self.by_number.iter().skip(usize::from(LAYOUT_FIRST)).position(is_it)?;
        Some(nr as u16 + LAYOUT_FIRST)
    }
}

/// Where an attribute lies in `znode_phys_t`: one after the other, in the order of [`ZPL_ATTRIBUTES`].
fn legacy_range(number: u16) -> Range<usize> {
    let length = |(_, _, length): &(&str, SaByteswap, u16)| usize::from(*length);
    let before = ZPL_ATTRIBUTES.iter().take(usize::from(number)).map(length).sum();
    before..before + ZPL_ATTRIBUTES.get(usize::from(number)).map_or(0, length)
}
