//! Makes pools whose content is damaged although every checksum is right.
//!
//! A flipped bit on a disk meets a checksum and goes no further. Code that reads structures must also stand content that
//! verifies and is nonsense all the same. The forger changes one block, writes it uncompressed to unused space, puts the
//! new pointer into the parent, writes that elsewhere too, and so on up to the uberblock in all four labels.
//!
//! Single-disk pools only. Nothing is changed in place but the uberblock's slot: the result is a list of patches.

use crate::walk::{Result, Walk};
use codec::embedded;
use ondisk::dnode::{self, DNODE_SIZE};
use ondisk::{BlkPtr, Checksum, Compression, DmuType, Dva, Txg, eck, label, objset};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use zerocopy::IntoBytes;

/// Bytes to be written at a device offset.
pub type Patch = (u64, Vec<u8>);

/// What a block is: type and level.
pub type BlockKind = (DmuType, u8);

/// Position of the object set's pointer in a dataset's bonus.
const DATASET_BP: usize = 128;

struct Node {
    bp: BlkPtr,
    /// The block that points to this one, and where in it; none for the MOS, which the uberblock points to.
    parent: Option<(usize, usize)>,
}

/// Every block of a pool, with the way to it.
pub struct Forger {
    walk: Walk,
    nodes: Vec<Node>,
    by_kind: BTreeMap<BlockKind, Vec<usize>>,
    device_size: u64,
    ashift: u32,
    /// Offset within allocatable space from which forged blocks are laid down.
    unused: u64,
}

impl Forger {
    /// Finds all blocks of a single-disk pool. Space above three quarters of the device must be unused.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn open(image: &PathBuf, ashift: u32) -> Result<Self> {
        let device_size = std::fs::metadata(image).map_err(|e| e.to_string())?.len();
        let mut walk = Walk::open(std::slice::from_ref(image), 0)?;
        walk.load_salt()?;
        let root = Node { bp: walk.best.rootbp, parent: None };
        let unused = (device_size / 4 * 3) & !0xffff;
        let mut forger =
            Self { walk, nodes: vec![root], by_kind: BTreeMap::new(), device_size, ashift, unused };
        forger.index()?;
        Ok(forger)
    }

    fn index(&mut self) -> Result<()> {
        let mut visited = HashSet::new();
        let mut next = 0;
        while let Some(node) = self.nodes.get(next) {
            let bp = node.bp;
            self.by_kind.entry((bp.dmu_type(), bp.level())).or_default().push(next);
            if may_have_children(&bp) {
                let content = self.walk.read(&bp)?;
                for (at, child) in children(&bp, &content) {
                    let is_new = child.is_embedded() || visited.insert((child.dva(0), child.birth()));
                    if !child.is_hole() && is_new {
                        self.nodes.push(Node { bp: child, parent: Some((next, at)) });
                    }
                }
            }
            next += 1;
        }
        Ok(())
    }

    /// The kinds of blocks there are.
    #[must_use]
    pub fn kinds(&self) -> Vec<BlockKind> {
        self.by_kind.keys().copied().collect()
    }

    /// How many blocks of a kind there are.
    #[must_use]
    pub fn count(&self, kind: BlockKind) -> usize {
        self.by_kind.get(&kind).map_or(0, Vec::len)
    }

    /// Content of the `index`th block of a kind.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn content(&mut self, kind: BlockKind, index: usize) -> Result<Vec<u8>> {
        let node = *self.by_kind.get(&kind).and_then(|nodes| nodes.get(index)).ok_or("no such block")?;
        self.walk.read(&self.nodes[node].bp)
    }

    /// Pointer to the `index`th block of a kind.
    ///
    /// # Errors
    /// When there is none.
    pub fn pointer(&self, kind: BlockKind, index: usize) -> Result<BlkPtr> {
        let node = self.by_kind.get(&kind).and_then(|nodes| nodes.get(index)).ok_or("no such block")?;
        Ok(self.nodes[*node].bp)
    }

    /// The patches after which the `index`th block of a kind holds `content` (of the same length).
    ///
    /// # Errors
    /// When there is no such block, or one above it cannot be read.
    pub fn replace(&mut self, kind: BlockKind, index: usize, content: Vec<u8>) -> Result<Vec<Patch>> {
        let mut node = *self.by_kind.get(&kind).and_then(|nodes| nodes.get(index)).ok_or("no such block")?;
        let (mut content, mut at, mut patches) = (content, self.unused, Vec::new());
        loop {
            content.resize(content.len().next_multiple_of(512), 0);
            let bp = forged(&self.nodes[node].bp, &content, at)?;
            at += (content.len() as u64).next_multiple_of(1 << self.ashift);
            patches.push((label::LABEL_START_SIZE + bp.dva(0).offset, content));
            let Some((parent, place)) = self.nodes[node].parent else {
                self.patch_uberblock(&bp, &mut patches)?;
                return Ok(patches);
            };
            content = self.walk.read(&self.nodes[parent].bp)?;
            content[place..place + ondisk::blkptr::BLKPTR_SIZE].copy_from_slice(&bp.to_bytes());
            node = parent;
        }
    }

    fn patch_uberblock(&self, rootbp: &BlkPtr, patches: &mut Vec<Patch>) -> Result<()> {
        let ub = ondisk::uberblock::Uberblock { rootbp: *rootbp, ..self.walk.best };
        let slot = label::slot_of_txg(ub.txg, self.ashift, false);
        let within = label::slot_offset(slot, self.ashift).ok_or("no slot")?;
        for index in 0..label::LABELS {
            let at = label::label_offset(index, self.device_size).ok_or("device too small")? + within;
            let mut bytes = vec![0; label::slot_size(self.ashift)];
            let raw = ub.to_raw();
            bytes[..raw.as_bytes().len()].copy_from_slice(raw.as_bytes());
            embedded::seal(&mut bytes, &eck::label_verifier(at));
            patches.push((at, bytes));
        }
        Ok(())
    }
}

/// The pointer to a forged block: like the old one, but to one plain copy at `at`.
fn forged(old: &BlkPtr, content: &[u8], at: u64) -> Result<BlkPtr> {
    let text = |e| format!("{e:?}");
    let size = u32::try_from(content.len()).map_err(|e| e.to_string())?;
    let mut bp = BlkPtr::HOLE;
    bp.set_dva(0, Dva::new(0, at, content.len() as u64)).map_err(text)?;
    bp.set_type(old.dmu_type());
    bp.set_level(old.level());
    bp.set_lsize(size);
    bp.set_psize(size);
    bp.set_compression(Compression::Off);
    bp.set_checksum_alg(Checksum::Fletcher4);
    bp.set_little_endian(true);
    bp.set_birth(old.birth(), Txg(old.birth().0));
    bp.set_fill(old.fill());
    bp.set_digest(codec::fletcher::fletcher4(content));
    Ok(bp)
}

fn may_have_children(bp: &BlkPtr) -> bool {
    bp.level() > 0 || matches!(bp.dmu_type(), DmuType::OBJSET | DmuType::DNODE)
}

/// The pointers in a block, each with its position.
fn children(bp: &BlkPtr, content: &[u8]) -> Vec<(usize, BlkPtr)> {
    let mut places = Vec::new();
    if bp.level() > 0 {
        places.extend((0..content.len()).step_by(ondisk::blkptr::BLKPTR_SIZE));
    } else if bp.dmu_type() == DmuType::OBJSET {
        let dnodes =
            [objset::METADNODE, objset::USERUSED_DNODE, objset::GROUPUSED_DNODE, objset::PROJECTUSED_DNODE];
        for range in dnodes.into_iter().filter(|r| r.end <= content.len()) {
            dnode_places(range.start, &content[range], &mut places);
        }
    } else {
        let mut slot = 0;
        while slot < content.len() / DNODE_SIZE {
            slot += dnode_places(slot * DNODE_SIZE, &content[slot * DNODE_SIZE..], &mut places);
        }
    }
    let parse = |at: usize| BlkPtr::from_bytes(content.get(at..at + ondisk::blkptr::BLKPTR_SIZE)?).ok();
    places.into_iter().filter_map(|at| Some((at, parse(at)?))).collect()
}

/// Positions of the pointers of the dnode at `base`; returns its slots.
fn dnode_places(base: usize, bytes: &[u8], places: &mut Vec<usize>) -> usize {
    let Ok(Some(dn)) = dnode::parse(bytes) else { return 1 };
    places.extend((0..4).filter_map(|i| dn.blkptr_range(i)).map(|r| base + r.start));
    places.extend(dn.spill_range().map(|r| base + r.start));
    if dn.bonus_kind == DmuType::DSL_DATASET {
        places.push(base + dn.bonus_offset() + DATASET_BP);
    }
    usize::from(dn.slots)
}
