//! One shard: a hash table of entries, each on one of eight lists.
//!
//! Invariants: every entry is in the table and on exactly one list; `bytes` of a list is the sum of its entries'
//! sizes; ghosts hold no buffer.
use super::buf::{ArcBuf, Header, Key};
use super::pending::Pending;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// Lists of a shard.
pub(crate) const NR_LISTS: usize = 8;
const NONE: u32 = u32::MAX;

/// One of a shard's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListId(u8);

impl ListId {
    const GHOST: u8 = 2;
    const METADATA: u8 = 4;
    const FREQUENT: u8 = 1;

    pub(crate) const fn new(is_metadata: bool, is_frequent: bool) -> Self {
        Self(if is_metadata { Self::METADATA } else { 0 } | if is_frequent { Self::FREQUENT } else { 0 })
    }

    pub(crate) const fn is_metadata(self) -> bool {
        self.0 & Self::METADATA != 0
    }

    pub(crate) const fn is_frequent(self) -> bool {
        self.0 & Self::FREQUENT != 0
    }

    pub(crate) const fn is_ghost(self) -> bool {
        self.0 & Self::GHOST != 0
    }

    pub(crate) const fn ghost(self) -> Self {
        Self(self.0 | Self::GHOST)
    }

    pub(crate) const fn frequent(self) -> Self {
        Self(self.0 | Self::FREQUENT)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an entry has.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Cached(ArcBuf),
    Pending(Arc<Pending>),
    Ghost,
}

#[derive(Debug)]
struct Node {
    key: Key,
    content: Content,
    list: ListId,
    size: u64,
    prev: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    bytes: u64,
}

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    table: HashMap<Key, u32>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    lists: [List; NR_LISTS],
    pub(crate) nr_hits: u64,
    pub(crate) nr_misses: u64,
}

impl Default for Shard {
    fn default() -> Self {
        let lists = [List { head: NONE, tail: NONE, bytes: 0 }; NR_LISTS];
        Self { table: HashMap::new(), nodes: Vec::new(), free: Vec::new(), lists, nr_hits: 0, nr_misses: 0 }
    }
}

impl Shard {
    /// Bytes on a list.
    pub(crate) fn bytes(&self, list: ListId) -> u64 {
        self.lists[list.index()].bytes
    }

    /// The entry's content and list.
    pub(crate) fn get(&self, key: &Key) -> Option<(&Content, ListId)> {
        let node = &self.nodes[*self.table.get(key)? as usize];
        Some((&node.content, node.list))
    }

    /// Puts an entry at the head of `list`; what it had before comes back.
    pub(crate) fn put(&mut self, key: Key, content: Content, list: ListId, size: u64) -> Option<Content> {
        if let Some(&at) = self.table.get(&key) {
            self.unlink(at);
            let node = &mut self.nodes[at as usize];
            let old = core::mem::replace(&mut node.content, content);
            node.size = size;
            self.link(at, list);
            return Some(old);
        }
        let node = Node { key, content, list, size, prev: NONE, next: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.table.insert(key, at);
        self.link(at, list);
        None
    }

    /// Replaces the content if the entry still waits for `pending`; the list stays.
    pub(crate) fn resolve(&mut self, key: &Key, pending: &Arc<Pending>, content: Content, size: u64) -> bool {
        let Some(&at) = self.table.get(key) else { return false };
        let is_same =
            matches!(&self.nodes[at as usize].content, Content::Pending(p) if Arc::ptr_eq(p, pending));
        if is_same {
            let list = self.nodes[at as usize].list;
            self.unlink(at);
            let node = &mut self.nodes[at as usize];
            node.content = content;
            node.size = size;
            self.link(at, list);
        }
        is_same
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Content> {
        let at = self.table.remove(key)?;
        self.unlink(at);
        self.free.push(at);
        Some(core::mem::replace(&mut self.nodes[at as usize].content, Content::Ghost))
    }

    /// Keys of the `N` entries that were put on the list first, the oldest first.
    pub(crate) fn oldest<const N: usize>(&self, list: ListId) -> SmallVec<[Key; N]> {
        let mut keys = SmallVec::new();
        let mut at = self.lists[list.index()].tail;
        while at != NONE && keys.len() < N {
            let node = &self.nodes[at as usize];
            keys.push(node.key);
            at = node.prev;
        }
        keys
    }

    /// Moves an entry to the head of `list`.
    pub(crate) fn refresh(&mut self, key: &Key, list: ListId) {
        if let Some(&at) = self.table.get(key) {
            self.unlink(at);
            self.link(at, list);
        }
    }

    /// Takes the buffer out and leaves a ghost, if the cache is the only one left who refers to it besides `extra`
    /// others known to the caller.
    pub(crate) fn make_ghost(&mut self, key: &Key, extra: usize) -> Option<ArcBuf> {
        let &at = self.table.get(key)?;
        let node = &mut self.nodes[at as usize];
        let Content::Cached(buf) = &node.content else { return None };
        if Arc::strong_count(&buf.0) > 1 + extra {
            return None;
        }
        let old = core::mem::replace(&mut node.content, Content::Ghost);
        let list = node.list.ghost();
        self.unlink(at);
        self.link(at, list);
        match old {
            Content::Cached(buf) => Some(buf),
            Content::Pending(_) | Content::Ghost => None,
        }
    }

    /// Whether the entry still has that buffer.
    pub(crate) fn has(&self, header: &Arc<Header>) -> bool {
        header
            .key
            .and_then(|key| self.get(&key).map(|(content, _)| content))
            .is_some_and(|content| matches!(content, Content::Cached(buf) if Arc::ptr_eq(&buf.0, header)))
    }

    fn unlink(&mut self, at: u32) {
        let Node { prev, next, list, size, .. } = self.nodes[at as usize];
        let ends = &mut self.lists[list.index()];
        ends.bytes -= size;
        if prev == NONE {
            ends.head = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        let ends = &mut self.lists[list.index()];
        if next == NONE {
            ends.tail = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
    }

    fn link(&mut self, at: u32, list: ListId) {
        let ends = &mut self.lists[list.index()];
        let head = core::mem::replace(&mut ends.head, at);
        if head == NONE {
            ends.tail = at;
        } else {
            self.nodes[head as usize].prev = at;
        }
        let node = &mut self.nodes[at as usize];
        (node.prev, node.next, node.list) = (NONE, head, list);
        let size = node.size;
        self.lists[list.index()].bytes += size;
    }
}
