//! The ZAP over an object in memory.
use super::blocks::Blocks;
use super::*;
use abd::Abd;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;

extern crate std;
use rt_std as _;

/// An object in memory.
#[derive(Debug, Default)]
struct Memory {
    block_size: RefCell<usize>,
    blocks: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl Blocks for &Memory {
    type Tx = ();

    fn block_size(&self) -> usize {
        *self.block_size.borrow()
    }

    fn block(&self, blkid: u64) -> Result<Abd> {
        let zeroes = || vec![0; self.block_size()];
        Ok(Abd::copy_from(&self.blocks.borrow().get(&blkid).cloned().unwrap_or_else(zeroes)))
    }

    fn modify(&self, (): &(), blkid: u64, change: &mut dyn FnMut(&mut [u8]) -> Result<()>) -> Result<()> {
        let size = self.block_size();
        let mut blocks = self.blocks.borrow_mut();
        let before = blocks.entry(blkid).or_insert_with(|| vec![0; size]).clone();
        let result = change(blocks.get_mut(&blkid).unwrap());
        // An object in use must not be half changed: the leaf says so of its own accord only on the way to a split.
        if result.is_err() {
            blocks.insert(blkid, before);
        }
        result
    }

    fn set_block_size(&self, (): &(), bytes: usize) -> Result<()> {
        assert!(self.blocks.borrow().keys().all(|blkid| *blkid == 0), "more than one block");
        *self.block_size.borrow_mut() = bytes;
        if let Some(block) = self.blocks.borrow_mut().get_mut(&0) {
            block.resize(bytes, 0);
        }
        Ok(())
    }

    fn free(&self, (): &(), blkid: u64, nr_blocks: u64) -> Result<()> {
        self.blocks.borrow_mut().retain(|id, _| !(blkid..blkid + nr_blocks).contains(id));
        Ok(())
    }
}

fn open(memory: &Memory) -> ZapMap<&Memory> {
    ZapMap { blocks: memory, state: Arc::new(SharedState::default()) }
}

fn make(memory: &Memory, flags: ZapFlags) -> ZapMap<&Memory> {
    *memory.block_size.borrow_mut() = if flags.is_empty() { 512 } else { 1 << FZAP_BLOCK_SHIFT };
    let map = open(memory);
    map.format(&(), 0x1234_5678_9abc_def1, flags).unwrap();
    map
}

fn list(map: &ZapMap<&Memory>) -> BTreeMap<Vec<u8>, ZapValue> {
    let mut all = BTreeMap::new();
    map.for_each(0, &mut |entry| {
        assert!(all.insert(entry.name.clone(), entry.value.clone()).is_none(), "an entry came twice");
        true
    })
    .unwrap();
    all
}

#[test]
fn a_hundred_thousand_names() {
    let memory = Memory::default();
    let map = make(&memory, ZapFlags::empty());
    let name = |i: u64| format!("file-{i:08}-with-a-name-of-usual-length").into_bytes();
    for i in 0..100_000 {
        map.insert(&(), &Key::Name(&name(i)), &ZapValue::word(i)).unwrap();
    }
    assert_eq!(map.len().unwrap(), 100_000);
    let again = open(&memory);
    for i in (0..100_000).step_by(97) {
        assert_eq!(again.lookup_word(&name(i)).unwrap(), i);
    }
    assert_eq!(again.lookup_word(b"absent"), Err(Error::NotFound));
    assert_eq!(list(&again).len(), 100_000);
    for i in 0..100_000 {
        again.remove(&(), &Key::Name(&name(i))).unwrap();
    }
    assert_eq!(again.len().unwrap(), 0);
    assert!(list(&open(&memory)).is_empty());
}

#[test]
fn micro_becomes_fat_for_what_it_cannot_hold() {
    for (name, value) in [
        (vec![b'n'; 50], ZapValue::word(1)),
        (b"string".to_vec(), ZapValue::string("value")),
        (b"words".to_vec(), ZapValue::words(&[1, 2, 3])),
        (b"short".to_vec(), ZapValue::shorts(&[7])),
        (vec![b'n'; 255], ZapValue::bytes(&[9; 8000])),
    ] {
        let memory = Memory::default();
        let map = make(&memory, ZapFlags::empty());
        map.insert(&(), &Key::Name(b"first"), &ZapValue::word(5)).unwrap();
        map.insert(&(), &Key::Name(&name), &value).unwrap();
        assert_eq!(memory.block_size.borrow().trailing_zeros(), FZAP_BLOCK_SHIFT);
        let again = open(&memory);
        assert_eq!(again.lookup(&Key::Name(&name)).unwrap(), value);
        assert_eq!(again.lookup_word(b"first").unwrap(), 5);
    }
}

#[test]
fn cursors_survive_changes_and_the_fat_form() {
    let memory = Memory::default();
    let map = make(&memory, ZapFlags::empty());
    let name = |i: u32| format!("{i}").into_bytes();
    for i in 0..1000 {
        map.insert(&(), &Key::Name(&name(i)), &ZapValue::word(1)).unwrap();
    }
    let mut seen = Vec::new();
    let mut cursor = 0;
    for round in 0.. {
        let mut nr = 0;
        map.for_each(cursor, &mut |entry| {
            seen.push(entry.name.clone());
            cursor = entry.next_cursor;
            nr += 1;
            nr < 10
        })
        .unwrap();
        if nr < 10 {
            break;
        }
        // What was seen may go, and the form may change, without what remains being skipped or repeated.
        for gone in &seen[seen.len() - 5..] {
            map.remove(&(), &Key::Name(gone)).unwrap();
        }
        if round == 20 {
            map.insert(&(), &Key::Name(&[b'x'; 60]), &ZapValue::word(1)).unwrap();
        }
    }
    seen.retain(|name| name.len() < 60);
    seen.sort();
    let before = seen.len();
    seen.dedup();
    assert_eq!((seen.len(), before), (1000, 1000));
}

#[test]
fn word_keys() {
    let memory = Memory::default();
    let map = make(&memory, ZapFlags::HASH64 | ZapFlags::UINT64_KEY);
    for i in 0..3000u64 {
        map.insert(&(), &Key::Words(&[i, i * i, 3]), &ZapValue::words(&[i])).unwrap();
    }
    let again = open(&memory);
    for i in 0..3000u64 {
        assert_eq!(again.lookup(&Key::Words(&[i, i * i, 3])).unwrap().ints, [i]);
    }
    assert_eq!(again.lookup(&Key::Name(b"name")), Err(Error::Invalid));
    let mut nr = 0;
    again
        .for_each(0, &mut |entry| {
            assert_eq!(entry.words[1], entry.words[0] * entry.words[0]);
            nr += 1;
            true
        })
        .unwrap();
    assert_eq!(nr, 3000);
}

#[test]
fn names_of_one_hash_are_told_apart() {
    // Differentiators must stay unique, or a cursor would skip one of the two.
    let memory = Memory::default();
    let map = make(&memory, ZapFlags::empty());
    let mut by_hash: BTreeMap<u64, String> = BTreeMap::new();
    let salt = 0x1234_5678_9abc_def1;
    let mut pair = None;
    for i in 0..200_000 {
        // Scattered names: a CRC tells short similar ones apart without fail.
        let name = format!("{:x}", salt_for(i, 2, 3));
        let hash = Key::Name(name.as_bytes()).hash(salt, ZapFlags::empty(), 0);
        if let Some(other) = by_hash.insert(hash, name.clone()) {
            pair = Some((other, name));
            break;
        }
    }
    let (a, b) = pair.expect("28 bits collide within 200,000 names");
    for form in 0..2 {
        map.insert(&(), &Key::Name(a.as_bytes()), &ZapValue::word(1)).unwrap();
        map.insert(&(), &Key::Name(b.as_bytes()), &ZapValue::word(2)).unwrap();
        assert_eq!(list(&map).len(), 2 + form);
        assert_eq!(map.lookup_word(a.as_bytes()).unwrap(), 1);
        assert_eq!(map.lookup_word(b.as_bytes()).unwrap(), 2);
        map.remove(&(), &Key::Name(a.as_bytes())).unwrap();
        assert_eq!(map.lookup_word(b.as_bytes()).unwrap(), 2);
        map.remove(&(), &Key::Name(b.as_bytes())).unwrap();
        map.update(&(), &Key::Name(b"makes it fat"), &ZapValue::string("s")).unwrap();
    }
}

/// Names of snapshots are hashed in upper case, so that names that differ by case share a hash and need differentiators.
#[test]
fn upper_case_normalisation_shares_hashes() {
    let hash = |name: &[u8], norm| Key::Name(name).hash(1, ZapFlags::empty(), norm);
    assert_eq!(hash(b"Monday", hash::NORM_UPPER), hash(b"mONDAY", hash::NORM_UPPER));
    assert_eq!(hash(b"MONDAY", 0), hash(b"monday", hash::NORM_UPPER));
    assert_ne!(hash(b"Monday", 0), hash(b"monday", 0));
    let check = |name: &[u8], norm| Key::Name(name).check(ZapFlags::empty(), norm);
    assert_eq!(check(b"monday", hash::NORM_UPPER), Ok(()));
    assert_eq!(check("m\u{f6}nday".as_bytes(), hash::NORM_UPPER), Err(Error::Unsupported));
    assert_eq!(check(b"monday", 8), Err(Error::Unsupported));
}

fn value() -> impl Strategy<Value = ZapValue> {
    prop_oneof![
        4 => any::<u64>().prop_map(ZapValue::word),
        1 => prop::collection::vec(any::<u64>(), 1..40).prop_map(|v| ZapValue::words(&v)),
        1 => prop::collection::vec(any::<u8>(), 1..300).prop_map(|v| ZapValue::bytes(&v)),
        1 => prop::collection::vec(any::<u16>(), 1..50).prop_map(|v| ZapValue::shorts(&v)),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, ZapValue),
    Update(u16, ZapValue),
    Remove(u16),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u16..600, value()).prop_map(|(n, v)| Op::Insert(n, v)),
        3 => (0u16..600, value()).prop_map(|(n, v)| Op::Update(n, v)),
        3 => (0u16..600).prop_map(Op::Remove),
        1 => Just(Op::Reopen),
    ]
}

fn name(n: u16) -> Vec<u8> {
    // Some names too long for the micro form.
    let len = if n.is_multiple_of(17) { 60 + usize::from(n % 150) } else { 1 };
    format!("{n}{}", "-".repeat(len)).into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map(ops in prop::collection::vec(op(), 1..800)) {
        let memory = Memory::default();
        let mut map = make(&memory, ZapFlags::empty());
        let mut model: BTreeMap<Vec<u8>, ZapValue> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Insert(n, v) => {
                    let result = map.insert(&(), &Key::Name(&name(n)), &v);
                    let is_new = !model.contains_key(&name(n));
                    prop_assert_eq!(result, if is_new { Ok(()) } else { Err(Error::Exists) });
                    model.entry(name(n)).or_insert(v);
                }
                Op::Update(n, v) => {
                    map.update(&(), &Key::Name(&name(n)), &v).unwrap();
                    model.insert(name(n), v);
                }
                Op::Remove(n) => {
                    let expected = model.remove(&name(n)).map(drop).ok_or(Error::NotFound);
                    prop_assert_eq!(map.remove(&(), &Key::Name(&name(n))), expected);
                }
                Op::Reopen => map = open(&memory),
            }
        }
        prop_assert_eq!(map.len().unwrap(), model.len() as u64);
        prop_assert_eq!(list(&map), model.clone());
        prop_assert_eq!(list(&open(&memory)), model);
    }

    #[test]
    fn damaged_blocks_give_errors(
        is_fat in any::<bool>(),
        damage in prop::collection::vec((0u64..6, 0usize..16384, any::<u8>()), 1..40),
    ) {
        let memory = Memory::default();
        let map = make(&memory, ZapFlags::empty());
        for n in 0..if is_fat { 500 } else { 30 } {
            let n = if is_fat { n } else { n * 17 + 1 };
            map.insert(&(), &Key::Name(&name(n)), &ZapValue::word(u64::from(n))).unwrap();
        }
        for (blkid, at, byte) in damage {
            if let Some(block) = memory.blocks.borrow_mut().get_mut(&blkid) {
                let at = at % block.len();
                block[at] = byte;
            }
        }
        // Anything but a panic or a hang will do.
        let map = open(&memory);
        let _ = map.for_each(0, &mut |_| true);
        for n in 0..40 {
            let _ = map.lookup_word(&name(n));
            let _ = map.insert(&(), &Key::Name(&name(n + 1000)), &ZapValue::word(1));
            let _ = map.remove(&(), &Key::Name(&name(n)));
        }
    }
}
