//! The buffers of one level of an object by block number: a radix tree that readers walk without a lock.
//!
//! Inner nodes are added and never removed while the tree lives, so walking them needs no lock; they are small (16
//! bytes for every 32 blocks that were ever in memory). Leaves, which hold the buffers, stand behind a spin lock each
//! and go away with their last buffer. Block 0 has a place of its own: most objects have no other.
//!
//! A tree starts with ten roots, one for each order of magnitude: it never has to grow at the top, which would need a
//! lock that readers see.
use super::dbuf::Dbuf;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use once_cell::race::OnceBox;
use rt::SpinLock;

const LEAF_SHIFT: u32 = 5;
const LEAF_LEN: usize = 1 << LEAF_SHIFT;
const FAN_SHIFT: u32 = 6;
const FAN: usize = 1 << FAN_SHIFT;
/// Roots: leaf numbers have 59 bits.
const ROOTS: usize = 10;

type Slot = Option<Arc<Dbuf>>;

#[derive(Default)]
struct Leaf {
    nr_used: usize,
    slots: [Slot; LEAF_LEN],
}

#[expect(clippy::large_enum_variant, reason = "nodes are always boxed, and most are leaves")]
enum Node {
    Inner([OnceBox<Node>; FAN]),
    Leaves([SpinLock<Option<Box<Leaf>>>; FAN]),
}

impl Node {
    fn new(height: usize) -> Box<Self> {
        Box::new(if height == 0 {
            Self::Leaves([const { SpinLock::new(None) }; FAN])
        } else {
            Self::Inner([const { OnceBox::new() }; FAN])
        })
    }
}

pub(super) struct DbufTree {
    first: SpinLock<Slot>,
    roots: [OnceBox<Node>; ROOTS],
}

/// Which root a leaf hangs below: the number of digits of its number, less one.
fn root_of(leaf: u64) -> usize {
    ((63 - (leaf | 1).leading_zeros()) / FAN_SHIFT) as usize
}

fn digit(leaf: u64, height: usize) -> usize {
    (leaf >> (height as u32 * FAN_SHIFT)) as usize & (FAN - 1)
}

impl DbufTree {
    pub(super) const fn new() -> Self {
        Self { first: SpinLock::new(None), roots: [const { OnceBox::new() }; ROOTS] }
    }

    /// The buffer of a block, if there is one.
    pub(super) fn get(&self, blkid: u64) -> Slot {
        if blkid == 0 {
            return self.first.lock().clone();
        }
        let leaf = blkid >> LEAF_SHIFT;
        let mut height = root_of(leaf);
        let mut node = self.roots[height].get()?;
        loop {
            match node {
                Node::Inner(children) => node = children[digit(leaf, height)].get()?,
                Node::Leaves(leaves) => {
                    let leaf = leaves[digit(leaf, 0)].lock();
                    return leaf.as_ref()?.slots[blkid as usize & (LEAF_LEN - 1)].clone();
                }
            }
            height -= 1;
        }
    }

    /// The buffer of a block; `make` is called at most once, when there is none.
    pub(super) fn get_or_insert(&self, blkid: u64, make: impl FnOnce() -> Arc<Dbuf>) -> Arc<Dbuf> {
        if let Some(dbuf) = self.get(blkid) {
            return dbuf;
        }
        let made = make();
        if blkid == 0 {
            return self.first.lock().get_or_insert(made).clone();
        }
        let mut leaf = self.leaf_of(blkid).lock();
        let leaf = leaf.get_or_insert_default();
        let slot = &mut leaf.slots[blkid as usize & (LEAF_LEN - 1)];
        if let Some(dbuf) = slot {
            return dbuf.clone();
        }
        leaf.nr_used += 1;
        slot.insert(made).clone()
    }

    fn leaf_of(&self, blkid: u64) -> &SpinLock<Option<Box<Leaf>>> {
        let leaf = blkid >> LEAF_SHIFT;
        let mut height = root_of(leaf);
        let mut node = self.roots[height].get_or_init(|| Node::new(height));
        loop {
            match node {
                Node::Inner(children) => {
                    node = children[digit(leaf, height)].get_or_init(|| Node::new(height - 1));
                }
                Node::Leaves(leaves) => return &leaves[digit(leaf, 0)],
            }
            height -= 1;
        }
    }

    /// Takes `dbuf` out, if it is the one that is there.
    pub(super) fn remove(&self, blkid: u64, dbuf: &Dbuf) {
        let is_it = |slot: &Slot| slot.as_deref().is_some_and(|d| core::ptr::eq(d, dbuf));
        if blkid == 0 {
            let mut first = self.first.lock();
            let taken = if is_it(&first) { first.take() } else { None };
            drop(first);
            drop(taken);
            return;
        }
        let mut guard = self.leaf_of(blkid).lock();
        let Some(leaf) = guard.as_mut() else { return };
        let slot = &mut leaf.slots[blkid as usize & (LEAF_LEN - 1)];
        if !is_it(slot) {
            return;
        }
        let taken = slot.take();
        leaf.nr_used -= 1;
        let emptied = if leaf.nr_used == 0 { guard.take() } else { None };
        // Memory is given back outside the spin lock.
        drop(guard);
        drop((taken, emptied));
    }

    /// The buffer with the lowest number from `from` on.
    pub(super) fn next(&self, from: u64) -> Option<(u64, Arc<Dbuf>)> {
        if from == 0
            && let Some(dbuf) = self.first.lock().clone()
        {
            return Some((0, dbuf));
        }
        let first_root = root_of(from >> LEAF_SHIFT);
        (first_root..ROOTS).find_map(|root| next_below(self.roots[root].get()?, root, 0, from))
    }
}

/// As [`DbufTree::next`] below `node`, whose first leaf has the number `base`.
fn next_below(node: &Node, height: usize, base: u64, from: u64) -> Option<(u64, Arc<Dbuf>)> {
    let from_leaf = from >> LEAF_SHIFT;
    let span = 1u64 << (height as u32 * FAN_SHIFT);
    let skip = (from_leaf.saturating_sub(base) / span).min(FAN as u64) as usize;
    match node {
        Node::Inner(children) => {
            (skip..FAN).find_map(|i| next_below(children[i].get()?, height - 1, base + i as u64 * span, from))
        }
        Node::Leaves(leaves) => (skip..FAN).find_map(|i| {
            let guard = leaves[i].lock();
            let leaf = guard.as_ref()?;
            let first = (base + i as u64) << LEAF_SHIFT;
            let used = leaf.slots.iter().enumerate().map(|(n, slot)| (first + n as u64, slot));
            used.filter(|(blkid, _)| *blkid >= from).find_map(|(b, slot)| Some((b, slot.clone()?)))
        }),
    }
}

impl fmt::Debug for DbufTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DbufTree")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::sync::Weak;
    use proptest::prelude::*;
    use rt_std as _;

    fn dbuf(blkid: u64) -> Arc<Dbuf> {
        Arc::new(Dbuf::new(Weak::new(), 0, blkid))
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in proptest::collection::vec((0u8..4, 0u32..64, 0u64..70), 0..200)) {
            let tree = DbufTree::new();
            let mut model: BTreeMap<u64, Arc<Dbuf>> = BTreeMap::new();
            for (op, shift, low) in ops {
                let blkid = (1u64 << shift).wrapping_sub(1).wrapping_add(low);
                match op {
                    0 | 1 => {
                        let got = tree.get_or_insert(blkid, || dbuf(blkid));
                        let want = model.entry(blkid).or_insert_with(|| got.clone());
                        prop_assert!(Arc::ptr_eq(&got, want));
                    }
                    2 => {
                        if let Some(old) = model.remove(&blkid) {
                            tree.remove(blkid, &old);
                        }
                        tree.remove(blkid, &dbuf(blkid));
                    }
                    _ => {
                        let next = tree.next(blkid).map(|(b, _)| b);
                        prop_assert_eq!(next, model.range(blkid..).next().map(|(b, _)| *b));
                    }
                }
                prop_assert_eq!(tree.get(blkid).is_some(), model.contains_key(&blkid));
            }
        }
    }
}
