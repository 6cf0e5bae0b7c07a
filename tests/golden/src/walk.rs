//! Reads a whole pool with the leaf crates alone: labels, uberblock, MOS, datasets, objects, blocks.
//!
//! Not for pools whose vdevs need more than an address calculation (RAIDZ, dRAID, removed ones).

use crate::check;
use codec::embedded;
use nvpair::NvList;
use ondisk::dnode::{self, DNODE_SIZE, DnodePhys};
use ondisk::objset::{self, ObjsetPhys, RawObjset};
use ondisk::uberblock::{RawUberblock, Uberblock};
use ondisk::{
    BlkPtr, Bookmark, Checksum, Compression, DmuType, Dva, ObjectId, eck, gang, label, pool_directory,
};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use zerocopy::FromBytes;

/// Takes an object, a block's number, and its content.
pub type Visit<'a> = dyn FnMut(&DnodePhys, u64, &[u8]) -> Result<()> + 'a;

/// Errors are texts for a test's message.
pub type Result<T> = std::result::Result<T, String>;

/// What the walk came across.
#[derive(Default)]
pub struct Seen {
    /// Blocks read.
    pub blocks: usize,
    /// Datasets and snapshots.
    pub datasets: usize,
    /// Of the blocks, those embedded in their pointers.
    pub embedded: usize,
    /// Gang headers, every copy counted.
    pub gangs: usize,
    /// Blocks left alone because their checksum is not built in.
    pub unsupported: usize,
    /// Ids of compression algorithms.
    pub compressions: HashSet<u8>,
    /// Ids of checksum algorithms.
    pub checksums: HashSet<u8>,
}

/// A pool being read.
pub struct Walk {
    /// One leaf of each top-level vdev, with where its partition starts.
    tops: BTreeMap<u64, (File, u64)>,
    /// The uberblock in use.
    pub best: Uberblock,
    salt: Option<[u8; 32]>,
    visited: HashSet<(Dva, u64)>,
    /// What was come across so far.
    pub seen: Seen,
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

impl Walk {
    /// Reads the labels of all images, which start at byte `start`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn open(images: &[PathBuf], start: u64) -> Result<Self> {
        let mut tops = BTreeMap::new();
        let mut best: Option<Uberblock> = None;
        for path in images {
            let file = File::open(path).map_err(text)?;
            let Some(config) = label_config(&file, start)? else { continue };
            let tree = config.get_nvlist("vdev_tree").ok_or("no vdev_tree")?;
            let id = tree.get_u64("id").ok_or("no id")?;
            let ashift = tree.get_u64("ashift").ok_or("no ashift")? as u32;
            for ub in uberblocks(&file, start, ashift)? {
                if best.is_none_or(|b| ub.compare(&b).is_gt()) {
                    best = Some(ub);
                }
            }
            tops.entry(id).or_insert((file, start));
        }
        let best = best.ok_or("no uberblock")?;
        Ok(Self { tops, best, salt: None, visited: HashSet::new(), seen: Seen::default() })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The first block that is not as it must be.
    pub fn pool(&mut self) -> Result<()> {
        let root = self.load_salt()?;
        let mut datasets = Vec::new();
        self.objset(&root, 0, &mut datasets)?;
        for (id, bp) in datasets {
            self.seen.datasets += 1;
            if bp.is_hole() || !codec::supports_checksum(bp.checksum_alg()) {
                self.seen.unsupported += usize::from(!bp.is_hole());
                continue;
            }
            let block = self.read(&bp)?;
            self.objset(&block, id, &mut Vec::new()).map_err(|e| format!("dataset {id}: {e}"))?;
        }
        Ok(())
    }

    /// Reads the MOS's root block, and what keyed checksums need; returns the former.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn load_salt(&mut self) -> Result<Vec<u8>> {
        let rootbp = self.best.rootbp;
        let root = self.read(&rootbp)?;
        self.salt = self.find_salt(&root)?;
        Ok(root)
    }

    /// The salt lies in the pool directory, whose blocks are fletcher-4: it can be read before it is known.
    fn find_salt(&mut self, root: &[u8]) -> Result<Option<[u8; 32]>> {
        let meta = dnode::parse(&root[objset::METADNODE]).map_err(text)?.ok_or("no metadnode")?;
        let mut block = Vec::new();
        self.blocks_of(&meta, &root[objset::METADNODE], &mut |_, blkid, data| {
            if blkid == 0 {
                block = data.to_vec();
            }
            Ok(())
        })?;
        let bytes = &block[DNODE_SIZE..];
        let directory = dnode::parse(bytes).map_err(text)?.ok_or("no pool directory")?;
        let mut salt = None;
        self.blocks_of(&directory, bytes, &mut |_, _, data| {
            salt = salt
                .or(check::zap_value(data, pool_directory::CHECKSUM_SALT).and_then(|v| v.try_into().ok()));
            Ok(())
        })?;
        self.visited.clear();
        Ok(salt)
    }

    fn objset(&mut self, block: &[u8], id: u64, datasets: &mut Vec<(u64, BlkPtr)>) -> Result<()> {
        let phys: ObjsetPhys = RawObjset::of(block).and_then(RawObjset::parse).map_err(text)?;
        let _ = phys.kind;
        let mut dnodes = vec![objset::METADNODE];
        if block.len() >= objset::OBJSET_SIZE_V2 {
            dnodes.extend([objset::USERUSED_DNODE, objset::GROUPUSED_DNODE]);
        }
        if block.len() >= objset::OBJSET_SIZE_V3 {
            dnodes.push(objset::PROJECTUSED_DNODE);
        }
        let mut objects = Vec::new();
        for range in dnodes {
            let bytes = &block[range];
            let Some(dn) = dnode::parse(bytes).map_err(text)? else { continue };
            self.blocks_of(&dn, bytes, &mut |dn, blkid, data| {
                check::block(dn.kind, data)?;
                if dn.kind == DmuType::DNODE {
                    split_dnodes(blkid, data, &mut objects)?;
                }
                Ok(())
            })?;
        }
        for (object, bytes) in objects {
            let dn = dnode::parse(&bytes).map_err(text)?.ok_or("empty dnode")?;
            let bonus = dn.bonus(&bytes).map_err(text)?;
            check::bonus(dn.bonus_kind, bonus).map_err(|e| format!("object {object}: {e}"))?;
            if id == 0 && dn.bonus_kind == DmuType::DSL_DATASET {
                datasets.push((object.0, ondisk::dsl::DslDatasetPhys::parse(bonus).map_err(text)?.bp));
            }
            let mark = Bookmark::new(id, object, 0, 0);
            self.blocks_of(&dn, &bytes, &mut |dn, _, data| check::block(dn.kind, data))
                .map_err(|e| format!("{mark}: {e}"))?;
        }
        Ok(())
    }

    /// Hands every data block of an object (and its spill block, as block `u64::MAX`) to `visit`.
    fn blocks_of(&mut self, dn: &DnodePhys, bytes: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        for index in 0..usize::from(dn.nr_blkptr) {
            let bp = dn.blkptr(bytes, index).map_err(text)?;
            let span = u32::from(dn.levels - 1) * dn.entries_shift();
            let first = (index as u64).checked_shl(span).unwrap_or(0);
            self.tree(dn, &bp, dn.levels - 1, first, visit)?;
        }
        if let Some(bp) = dn.spill(bytes).map_err(text)? {
            let spill = DnodePhys { kind: DmuType::SA, ..*dn };
            self.tree(&spill, &bp, 0, u64::MAX, visit)?;
        }
        Ok(())
    }

    fn tree(
        &mut self,
        dn: &DnodePhys,
        bp: &BlkPtr,
        level: u8,
        blkid: u64,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let key = (bp.dva(0), bp.birth().0);
        if bp.is_hole() || (!bp.is_embedded() && !self.visited.insert(key)) {
            return Ok(());
        }
        if bp.level() != level || (bp.dmu_type() != dn.kind && dn.kind != DmuType::SA) {
            return Err(format!("{bp:?} is not of level {level} and type {}", dn.kind.0));
        }
        if !codec::supports_checksum(bp.checksum_alg()) {
            self.seen.unsupported += 1;
            return Ok(());
        }
        let data = self.read(bp)?;
        if level == 0 {
            return visit(dn, blkid, &data);
        }
        for (index, child) in data.chunks_exact(ondisk::blkptr::BLKPTR_SIZE).enumerate() {
            let child = BlkPtr::from_bytes(child).map_err(text)?;
            let below = u32::from(level - 1) * dn.entries_shift();
            let blkid = blkid.wrapping_add((index as u64).checked_shl(below).unwrap_or(0));
            self.tree(dn, &child, level - 1, blkid, visit)?;
        }
        Ok(())
    }

    /// A block: read from every copy, verified, expanded.
    ///
    /// # Errors
    /// A copy that does not verify or expand.
    pub fn read(&mut self, bp: &BlkPtr) -> Result<Vec<u8>> {
        self.seen.blocks += 1;
        self.seen.compressions.insert(bp.compression().id());
        let mut out = vec![0; bp.lsize() as usize];
        if bp.is_embedded() {
            self.seen.embedded += 1;
            let payload = &bp.payload()[..bp.psize() as usize];
            codec::decompress(bp.compression(), payload, &mut out).map_err(|e| format!("{bp:?}: {e:?}"))?;
            return Ok(out);
        }
        self.seen.checksums.insert(bp.checksum_alg().id());
        for dva in bp.dvas() {
            let stored = self.read_dva(bp, &dva)?;
            let digest =
                codec::checksum(bp.checksum_alg(), &stored, !bp.is_little_endian(), self.salt.as_ref());
            let has_none = matches!(bp.checksum_alg(), Checksum::Off | Checksum::NoParity);
            if !has_none && digest.map_err(text)? != bp.digest() {
                return Err(format!("{bp:?}: wrong checksum at {dva:?}"));
            }
            codec::decompress(bp.compression(), &stored, &mut out).map_err(|e| format!("{bp:?}: {e:?}"))?;
        }
        if bp.compression() == Compression::Off && bp.psize() != bp.lsize() {
            return Err(format!("{bp:?}: sizes differ"));
        }
        Ok(out)
    }

    fn read_dva(&mut self, bp: &BlkPtr, dva: &Dva) -> Result<Vec<u8>> {
        if !dva.gang {
            return self.read_raw(dva, bp.psize() as usize);
        }
        self.seen.gangs += 1;
        let header = self.read_raw(dva, gang::GANG_HEADER_SIZE)?;
        embedded::verify(&header, &eck::gang_verifier(&bp.dva(0), bp.phys_birth()))
            .map_err(|e| format!("gang header of {bp:?}: {e:?}"))?;
        let mut data = Vec::new();
        for index in 0..gang::GANG_CHILDREN {
            let child = gang::gang_child(&header, index).map_err(text)?;
            if !child.is_hole() {
                data.extend(self.read(&child)?);
            }
        }
        if data.len() != bp.psize() as usize {
            return Err(format!("{bp:?}: pieces of {} bytes", data.len()));
        }
        Ok(data)
    }

    fn read_raw(&self, dva: &Dva, len: usize) -> Result<Vec<u8>> {
        let (file, start) = self.tops.get(&u64::from(dva.vdev)).ok_or(format!("no vdev for {dva:?}"))?;
        let mut data = vec![0; len];
        file.read_exact_at(&mut data, start + label::LABEL_START_SIZE + dva.offset).map_err(text)?;
        Ok(data)
    }
}

/// Configuration of label 0; `None` for a device that is no vdev of the pool (cache, spare).
fn label_config(file: &File, start: u64) -> Result<Option<NvList>> {
    let size = file.metadata().map_err(text)?.len() - start;
    let mut found = None;
    for index in 0..label::LABELS {
        let at = label::label_offset(index, size).ok_or("too small")?;
        let mut phys = vec![0; label::PHYS_SIZE];
        file.read_exact_at(&mut phys, start + at + label::PHYS_OFFSET).map_err(text)?;
        embedded::verify(&phys, &eck::label_verifier(at + label::PHYS_OFFSET))
            .map_err(|e| format!("label {index}: {e:?}"))?;
        let (config, used) = NvList::decode_prefix(&phys).map_err(text)?;
        if config.encode().map_err(text)? != phys[..used] {
            return Err(format!("label {index} does not encode to its own bytes"));
        }
        found = found.or(Some(config));
    }
    Ok(found.filter(|c| c.contains("vdev_tree")))
}

fn uberblocks(file: &File, start: u64, ashift: u32) -> Result<Vec<Uberblock>> {
    let mut found = Vec::new();
    for slot in 0..label::slot_count(ashift) {
        let at = label::slot_offset(slot, ashift).ok_or("no slot")?;
        let mut bytes = vec![0; label::slot_size(ashift)];
        file.read_exact_at(&mut bytes, start + at).map_err(text)?;
        if embedded::verify(&bytes, &eck::label_verifier(at)).is_ok() {
            let (raw, _) = RawUberblock::ref_from_prefix(&bytes).map_err(text)?;
            found.push(raw.parse().map_err(text)?);
        }
    }
    Ok(found)
}

fn split_dnodes(blkid: u64, data: &[u8], objects: &mut Vec<(ObjectId, Vec<u8>)>) -> Result<()> {
    let per_block = (data.len() / DNODE_SIZE) as u64;
    let mut slot = 0;
    while slot * DNODE_SIZE < data.len() {
        let bytes = &data[slot * DNODE_SIZE..];
        let object = ObjectId(blkid * per_block + slot as u64);
        match dnode::parse(bytes).map_err(|e| format!("object {object}: {e:?}"))? {
            Some(dn) => {
                objects.push((object, bytes[..dn.size()].to_vec()));
                slot += usize::from(dn.slots);
            }
            None => slot += 1,
        }
    }
    Ok(())
}
