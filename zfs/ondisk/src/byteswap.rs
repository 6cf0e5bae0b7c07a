//! Turns a block of foreign byte order into little-endian, in place, once, when its read completes.
//!
//! Content is not trusted: a field that would lead beyond the block ends the walk there, since what follows cannot be
//! meaningful; the parsers refuse it afterwards. Embedded payloads and XDR need no swapping. System attributes do, but
//! only their layout tells how: the SA reader sees a swapped magic number and refuses
//! ([`crate::OndiskError::ForeignEndian`]).

use crate::blkptr::BLKPTR_SIZE;
use crate::dmu_type::{ByteswapClass, DmuType};
use crate::dnode::{DNODE_CORE_SIZE, DNODE_SIZE, DnodeFlags};
use crate::zap::{
    CHUNK_ARRAY, CHUNK_ENTRY, CHUNK_FREE, CHUNK_SIZE, LEAF_HEADER_SIZE, MZAP_ENTRY_SIZE, ZBT_LEAF, ZBT_MICRO,
    leaf_chunks, leaf_chunks_offset,
};

/// Swaps a level-0 block (or bonus) of that type. An undefined type is left alone.
pub fn swap_block(ty: DmuType, block: &mut [u8]) {
    if let Some(class) = ty.byteswap_class() {
        swap_class(class, block);
    }
}

/// Swaps an indirect block: an array of block pointers.
pub fn swap_indirect(block: &mut [u8]) {
    swap_u64s(block);
}

/// Swaps a block of that class.
pub fn swap_class(class: ByteswapClass, block: &mut [u8]) {
    match class {
        ByteswapClass::U8 => {}
        ByteswapClass::U16 => swap_words::<2>(block),
        ByteswapClass::U32 => swap_words::<4>(block),
        ByteswapClass::U64 => swap_u64s(block),
        ByteswapClass::Zap => swap_zap(block),
        ByteswapClass::Dnode => swap_dnodes(block),
        ByteswapClass::Objset => swap_objset(block),
        ByteswapClass::Znode => swap_znode(block),
        ByteswapClass::OldAcl => swap_old_acl(block),
        ByteswapClass::Acl => swap_acl(block),
    }
}

/// Swaps an array of 64-bit words; a rest shorter than a word is left alone.
pub fn swap_u64s(block: &mut [u8]) {
    swap_words::<8>(block);
}

fn swap_words<const N: usize>(block: &mut [u8]) {
    for word in block.as_chunks_mut::<N>().0 {
        word.reverse();
    }
}

/// Swaps one field of `len` bytes; nothing when it lies beyond the block.
fn swap_field(block: &mut [u8], at: usize, len: usize) {
    if let Some(field) = at.checked_add(len).and_then(|end| block.get_mut(at..end)) {
        field.reverse();
    }
}

fn u64_at(block: &[u8], at: usize) -> Option<u64> {
    block.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn u16_at(block: &[u8], at: usize) -> Option<u16> {
    block.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn swap_zap(block: &mut [u8]) {
    let Some(first) = u64_at(block, 0) else { return };
    if first == ZBT_MICRO.swap_bytes() {
        swap_micro_zap(block);
    } else if first == ZBT_LEAF.swap_bytes() {
        swap_zap_leaf(block);
    } else {
        // header blocks and the pointer table's blocks are words throughout
        swap_u64s(block);
    }
}

fn swap_micro_zap(block: &mut [u8]) {
    for (index, entry) in block.as_chunks_mut::<MZAP_ENTRY_SIZE>().0.iter_mut().enumerate() {
        if index == 0 {
            swap_u64s(entry);
        } else {
            swap_field(entry, 0, 8);
            swap_field(entry, 8, 4);
            swap_field(entry, 12, 2);
        }
    }
}

fn swap_zap_leaf(block: &mut [u8]) {
    if block.len() < 512 || !block.len().is_power_of_two() {
        return;
    }
    let shift = block.len().trailing_zeros();
    for (at, len) in [(0, 8), (8, 8), (16, 8), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2)] {
        swap_field(block, at, len);
    }
    let chunks_at = leaf_chunks_offset(shift);
    if let Some(hash) = block.get_mut(LEAF_HEADER_SIZE..chunks_at) {
        swap_words::<2>(hash);
    }
    let chunks = block.get_mut(chunks_at..).unwrap_or_default();
    for chunk in chunks.as_chunks_mut::<CHUNK_SIZE>().0.iter_mut().take(leaf_chunks(shift)) {
        match chunk[0] {
            CHUNK_ENTRY => {
                for (at, len) in [(2, 2), (4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 8)] {
                    swap_field(chunk, at, len);
                }
            }
            CHUNK_ARRAY | CHUNK_FREE => swap_field(chunk, 22, 2),
            _ => {}
        }
    }
}

/// An array of dnodes: a block of the dnode file, or a single one.
pub fn swap_dnodes(block: &mut [u8]) {
    let mut at = 0;
    while let Some(rest) = block.get_mut(at..).filter(|rest| rest.len() >= DNODE_SIZE) {
        let slots = if rest[0] == 0 { 1 } else { usize::from(rest[12]) + 1 };
        let size = (slots * DNODE_SIZE).min(rest.len());
        swap_dnode(&mut rest[..size]);
        at += size;
    }
}

fn swap_dnode(dnode: &mut [u8]) {
    if dnode[0] == 0 {
        return;
    }
    let (nr_blkptr, bonus_kind) = (usize::from(dnode[3]), DmuType(dnode[4]));
    let has_spill = DnodeFlags::from_bits_retain(dnode[7]).contains(DnodeFlags::SPILL_BLKPTR);
    swap_field(dnode, 8, 2);
    swap_field(dnode, 10, 2);
    swap_field(dnode, 16, 8);
    swap_field(dnode, 24, 8);
    swap_u64s(&mut dnode[32..DNODE_CORE_SIZE]);
    let bonus_at = DNODE_CORE_SIZE + nr_blkptr * BLKPTR_SIZE;
    let spill_at = if has_spill { dnode.len() - BLKPTR_SIZE } else { dnode.len() };
    if bonus_at > spill_at {
        return;
    }
    swap_u64s(&mut dnode[DNODE_CORE_SIZE..bonus_at]);
    let bonus_len = usize::from(u16_at(dnode, 10).unwrap_or(0)).min(spill_at - bonus_at);
    swap_block(bonus_kind, &mut dnode[bonus_at..bonus_at + bonus_len]);
    swap_u64s(&mut dnode[spill_at..]);
}

fn swap_objset(block: &mut [u8]) {
    if block.len() < crate::objset::OBJSET_SIZE_V1 {
        return;
    }
    let (head, accounting) = block.split_at_mut(crate::objset::OBJSET_SIZE_V1);
    swap_dnode(&mut head[..DNODE_SIZE]);
    swap_u64s(&mut head[DNODE_SIZE..720]);
    for dnode in accounting.as_chunks_mut::<DNODE_SIZE>().0.iter_mut().take(3) {
        swap_dnode(dnode);
    }
}

/// The fixed znode: 8 words of times, 10 of attributes, 4 reserved, then the ACL.
fn swap_znode(block: &mut [u8]) {
    const ACL_AT: usize = 176;
    const ACES_AT: usize = ACL_AT + 16;
    const ZNODE_SIZE: usize = 264;
    if block.len() < ZNODE_SIZE {
        return;
    }
    swap_u64s(&mut block[..ACL_AT]);
    swap_field(block, ACL_AT, 8);
    swap_field(block, ACL_AT + 8, 4);
    swap_field(block, ACL_AT + 12, 2);
    swap_field(block, ACL_AT + 14, 2);
    let is_old = u16_at(block, ACL_AT + 12) == Some(0);
    let aces = &mut block[ACES_AT..ZNODE_SIZE];
    if is_old { swap_old_acl(aces) } else { swap_acl(aces) }
}

/// Old entries: id u32, mask u32, flags u16, type u16.
fn swap_old_acl(block: &mut [u8]) {
    for ace in block.as_chunks_mut::<12>().0 {
        for (at, len) in [(0, 4), (4, 4), (8, 2), (10, 2)] {
            swap_field(ace, at, len);
        }
    }
}

/// Entries of different length: type u16, flags u16, mask u32, and for most a 64-bit id; object entries 16 bytes twice.
fn swap_acl(block: &mut [u8]) {
    const ABSTRACT_WHO: u16 = 0x1000 | 0x2000 | 0x4000;
    const GROUP: u16 = 0x40;
    let mut at = 0;
    while at + 8 <= block.len() {
        swap_field(block, at, 2);
        swap_field(block, at + 2, 2);
        swap_field(block, at + 4, 4);
        let kind = u16_at(block, at).unwrap_or(0);
        let who = u16_at(block, at + 2).unwrap_or(0) & (ABSTRACT_WHO | GROUP);
        let is_object = (5..=8).contains(&kind);
        let has_id = is_object || !matches!(who, 0x1000 | 0x2040 | 0x4000);
        if has_id {
            swap_field(block, at + 8, 8);
        }
        at += match (is_object, has_id) {
            (true, _) => 48,
            (false, true) => 16,
            (false, false) => 8,
        };
    }
}
