//! The pool's history: a ring of records in one object, each a length and a packed nvlist.
//!
//! The bonus says where the ring begins and ends. The first record, that of the pool's creation, is never overwritten:
//! the ring turns behind it.
use super::HistoryRecord;
use super::environment::Environment;
use super::mos::Mos;
use crate::dmu::{DmuTx, NewObject};
use crate::{Error, Result};
use alloc::string::ToString;
use alloc::vec::Vec;
use nvpair::NvList;
use ondisk::pool_directory as names;
use ondisk::{DmuType, ObjectId};

/// Data block size, and least size of the ring.
const BLOCK_SIZE: u64 = 128 << 10;
/// Largest ring.
const SIZE_MAX: u64 = 32 << 20;
/// Longest single record that is read.
const RECORD_MAX: u64 = 1 << 20;
const WORDS: usize = 5;

/// The bonus: five words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offsets {
    /// End of the record of the pool's creation.
    create_len: u64,
    /// Size of the object; offsets wrap there to `create_len`.
    size: u64,
    /// First record, logical (never wraps).
    begin: u64,
    /// End of the last record, logical.
    end: u64,
    /// Records overwritten.
    lost: u64,
}

impl Offsets {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let word = |at: usize| -> Result<u64> {
            let bytes = bytes.get(at * 8..at * 8 + 8).ok_or(Error::Damaged)?;
            Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Damaged)?))
        };
        let offsets =
            Self { create_len: word(0)?, size: word(1)?, begin: word(2)?, end: word(3)?, lost: word(4)? };
        let is_sane = offsets.create_len < offsets.size
            && offsets.size <= 1 << 40
            && offsets.begin <= offsets.end
            && offsets.end <= 1 << 62
            && offsets.end - offsets.begin <= offsets.size;
        if is_sane { Ok(offsets) } else { Err(Error::Damaged) }
    }

    fn to_bytes(self) -> [u8; WORDS * 8] {
        let words = [self.create_len, self.size, self.begin, self.end, self.lost];
        let mut out = [0; WORDS * 8];
        for (chunk, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *chunk = word.to_le_bytes();
        }
        out
    }

    /// Where a logical offset lies in the object.
    fn place(&self, logical: u64) -> u64 {
        if logical < self.size {
            return logical;
        }
        let ring = self.size - self.create_len;
        self.create_len + (logical - self.create_len) % ring
    }
}

/// Makes the object.
pub(crate) fn create(mos: &Mos, tx: &DmuTx, pool_bytes: u64) -> Result<()> {
    let new = NewObject::new(DmuType::SPA_HISTORY, BLOCK_SIZE as u32)
        .with_bonus(DmuType::SPA_HISTORY_OFFSETS, (WORDS * 8) as u16);
    let id = mos.allocate(tx, &new)?;
    // A thousandth of the pool, within limits.
    let size = (pool_bytes / 1000).clamp(BLOCK_SIZE, SIZE_MAX);
    set_offsets(mos, tx, id, Offsets { size, ..Offsets::default() })?;
    mos.set_directory_entry(tx, names::HISTORY, id)
}

fn offsets(mos: &Mos, id: ObjectId) -> Result<Offsets> {
    mos.bonus(id, Offsets::parse)
}

fn set_offsets(mos: &Mos, tx: &DmuTx, id: ObjectId, offsets: Offsets) -> Result<()> {
    mos.modify_bonus(tx, id, |bonus| {
        let room = bonus.get_mut(..WORDS * 8).ok_or(Error::Damaged)?;
        room.copy_from_slice(&offsets.to_bytes());
        Ok(())
    })
}

fn read_at(mos: &Mos, id: ObjectId, offsets: &Offsets, logical: u64, len: u64) -> Result<Vec<u8>> {
    let place = offsets.place(logical);
    let first = len.min(offsets.size - place);
    let mut bytes = mos.read(id, place, first as usize)?;
    if first < len {
        bytes.extend(mos.read(id, offsets.create_len, (len - first) as usize)?);
    }
    Ok(bytes)
}

fn record_len(mos: &Mos, id: ObjectId, offsets: &Offsets, logical: u64) -> Result<u64> {
    let bytes = read_at(mos, id, offsets, logical, 8)?;
    let len = u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Damaged)?);
    if len == 0 || len > RECORD_MAX.min(offsets.size) { Err(Error::Damaged) } else { Ok(len) }
}

/// Adds a record of a command.
pub(crate) fn log(mos: &Mos, tx: &DmuTx, env: &Environment, host: &str, command: &str) -> Result<()> {
    let record = NvList::new()
        .add_u64("history time", env.time())
        .add_u64("history who", 0)
        .add_str("history zone", "global")
        .add_str("history hostname", host)
        .add_str("history command", command);
    add(mos, tx, &record)
}

/// Something that happened to a dataset, as part of a command or on its own.
pub(crate) struct InternalEvent<'a> {
    /// What: `snapshot`, `destroy`...
    pub(crate) what: &'a str,
    /// Full name of the dataset.
    pub(crate) dataset: &'a str,
    /// Its object.
    pub(crate) id: ObjectId,
    /// More about it.
    pub(crate) text: &'a str,
}

/// Adds a record of an internal event.
pub(crate) fn log_internal(
    mos: &Mos,
    tx: &DmuTx,
    env: &Environment,
    host: &str,
    event: &InternalEvent<'_>,
) -> Result<()> {
    let record = NvList::new()
        .add_str("dsname", event.dataset)
        .add_u64("dsid", event.id.0)
        .add_str("history internal str", event.text)
        .add_str("internal_name", event.what)
        .add_u64("history txg", tx.txg().0)
        .add_u64("history time", env.time())
        .add_str("history hostname", host);
    add(mos, tx, &record)
}

/// Adds a record of what the pool did by itself.
pub(crate) fn log_pool_event(
    mos: &Mos,
    tx: &DmuTx,
    env: &Environment,
    host: &str,
    what: &str,
    text: &str,
) -> Result<()> {
    let record = NvList::new()
        .add_str("history internal str", text)
        .add_str("internal_name", what)
        .add_u64("history txg", tx.txg().0)
        .add_u64("history time", env.time())
        .add_str("history hostname", host);
    add(mos, tx, &record)
}

fn add(mos: &Mos, tx: &DmuTx, record: &NvList) -> Result<()> {
    let Some(id) = mos.directory_entry(names::HISTORY)?.and_then(ObjectId::non_zero) else {
        return Ok(());
    };
    let record = record.encode().map_err(|_| Error::Invalid)?;
    let mut bytes = (record.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&record);
    let mut at = offsets(mos, id)?;
    if bytes.len() as u64 > at.size - at.create_len {
        return Err(Error::TooLarge);
    }
    while at.end + bytes.len() as u64 - at.begin > at.size - at.create_len {
        at.begin += 8 + record_len(mos, id, &at, at.begin)?;
        at.lost = at.lost.saturating_add(1);
    }
    let place = at.place(at.end);
    let first = bytes.len().min((at.size - place) as usize);
    mos.write(tx, id, place, &bytes[..first])?;
    if first < bytes.len() {
        mos.write(tx, id, at.create_len, &bytes[first..])?;
    }
    at.end += bytes.len() as u64;
    if at.create_len == 0 {
        at.create_len = at.end;
        at.begin = at.end;
    }
    set_offsets(mos, tx, id, at)
}

/// Every record that this build can decode, oldest first.
pub(crate) fn read(mos: &Mos) -> Result<Vec<HistoryRecord>> {
    let Some(id) = mos.directory_entry(names::HISTORY)?.and_then(ObjectId::non_zero) else {
        return Ok(Vec::new());
    };
    let at = offsets(mos, id)?;
    let mut records = Vec::new();
    for (begin, end) in [(0, at.create_len), (at.begin, at.end)] {
        let mut logical = begin;
        while logical < end {
            let len = record_len(mos, id, &at, logical)?;
            records.extend(decode(&read_at(mos, id, &at, logical + 8, len)?));
            logical += 8 + len;
        }
    }
    Ok(records)
}

/// OpenZFS packs records in its native encoding (a memory image); ours are XDR, which it reads too.
fn decode(bytes: &[u8]) -> Option<HistoryRecord> {
    let list = NvList::decode(bytes).ok().or_else(|| native::decode(bytes))?;
    let text = ["history command", "history internal str"];
    let text = text.iter().find_map(|name| list.get_str(name)).unwrap_or_default();
    let name = list.get_str("internal_name").map(|name| match list.get_str("dsname") {
        Some(dataset) => alloc::format!("{name} {dataset}"),
        None => name.to_string(),
    });
    Some(HistoryRecord {
        time: list.get_u64("history time").unwrap_or(0),
        text: name.map_or_else(|| text.to_string(), |name| (name + " " + text).trim_end().to_string()),
        txg: list.get_u64("history txg").unwrap_or(0),
    })
}

/// The part of the native nvlist encoding that history records use: flat lists of numbers and strings.
mod native {
    use nvpair::{NvList, NvValue};

    const HEADER: usize = 4;
    const LIST: usize = 8;
    const PAIR: usize = 16;
    const TYPE_U64: u32 = 8;
    const TYPE_STRING: u32 = 9;

    pub(super) fn decode(bytes: &[u8]) -> Option<NvList> {
        let (header, body) = bytes.split_at_checked(HEADER)?;
        if header[..2] != [0, 1] {
            return None;
        }
        let mut list = NvList::new();
        let mut rest = body.get(LIST..)?;
        loop {
            let size = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
            if size == 0 {
                return Some(list);
            }
            let (pair, after) = rest.split_at_checked(size)?;
            rest = after;
            let name_len = usize::from(u16::from_le_bytes(pair.get(4..6)?.try_into().ok()?));
            let kind = u32::from_le_bytes(pair.get(12..16)?.try_into().ok()?);
            let name = pair.get(PAIR..PAIR + name_len.checked_sub(1)?)?;
            let value = pair.get((PAIR + name_len).next_multiple_of(8)..)?;
            match kind {
                TYPE_U64 => {
                    let number = u64::from_le_bytes(value.get(..8)?.try_into().ok()?);
                    list.insert(name, NvValue::Uint64(number));
                }
                TYPE_STRING => {
                    let text = value.split(|b| *b == 0).next()?;
                    list.insert(name, NvValue::String(text.to_vec()));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_wrap_behind_the_first_record() {
        let at = Offsets { create_len: 100, size: 1000, begin: 950, end: 1100, lost: 3 };
        assert_eq!(Offsets::parse(&at.to_bytes()), Ok(at));
        assert_eq!((at.place(999), at.place(1000), at.place(1899), at.place(1900)), (999, 100, 999, 100));
    }

    #[test]
    fn contradictory_offsets_are_damage() {
        for bad in [
            Offsets { create_len: 1000, size: 1000, ..Offsets::default() },
            Offsets { size: 1000, begin: 2, end: 1, ..Offsets::default() },
            Offsets { size: 1000, end: 1001, ..Offsets::default() },
        ] {
            assert_eq!(Offsets::parse(&bad.to_bytes()), Err(Error::Damaged));
        }
        assert_eq!(Offsets::parse(&[0; 39]), Err(Error::Damaged));
    }
}
