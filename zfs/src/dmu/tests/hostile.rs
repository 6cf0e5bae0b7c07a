//! Damage whose checksums are right: blocks are forged, from the root block down.
use super::*;
use crate::zio::WritePolicy;
use abd::Abd;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::{Bookmark, dnode};
use proptest::prelude::*;

/// Overwrites of a block: place and bytes.
type Damage = Vec<(usize, Vec<u8>)>;

fn damage(interesting: &'static [usize], len: usize) -> impl Strategy<Value = Damage> {
    let place = prop_oneof![
        3 => prop::sample::select(interesting).prop_flat_map(|at| at..at + 8),
        1 => 0..len,
    ];
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        prop::sample::select(vec![0u64, 1, 2, 3, 0xff, 1 << 17, 1 << 40, u64::MAX, u64::MAX - 1, 1 << 63])
            .prop_map(|n| n.to_le_bytes().to_vec()),
    ];
    prop::collection::vec((place, bytes), 0..3)
}

fn apply(block: &mut [u8], damage: &Damage) {
    for (at, bytes) in damage {
        for (to, from) in block.iter_mut().skip(*at).zip(bytes) {
            *to = *from;
        }
    }
}

/// Writes a block as it is and gives its pointer.
fn put(pool: &Pool, ctx: &SyncCtx, kind: DmuType, level: u8, bytes: &[u8], fill: u64) -> BlkPtr {
    let policy = WritePolicy::metadata(kind, level, 1, fill, 1);
    let prepared = pool.storage.prepare(Abd::copy_from(bytes), &policy).unwrap();
    pool.storage.issue(ctx, prepared, &BlkPtr::HOLE, Bookmark::root(21)).unwrap()
}

/// A pool whose object set has its dnode file in one block (as the pool's own has), with a file of two levels.
fn victim() -> (Pool, ObjectId) {
    let pool = Pool::new(ObjsetKind::Meta);
    let ctx = pool.storage.begin_sync(Txg(4));
    let tx = DmuTx::syncing(&ctx);
    let new = NewObject { indirect_shift: 12, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512) }
        .with_bonus(DmuType::SA, 24);
    let file = pool.objset.allocate(&tx, &new).unwrap();
    for block in 0..16u64 {
        file.write_slice(&tx, block * 1024, &noise(512, block)).unwrap();
    }
    file.set_spill(&tx, Some(&noise(600, 3))).unwrap();
    let large = NewObject { dnode_slots: 3, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 1024) };
    pool.objset.allocate(&tx, &large).unwrap().write_slice(&tx, 0, &noise(1024, 9)).unwrap();
    pool.objset.sync(&ctx).unwrap();
    ctx.batch.wait().unwrap();
    let id = file.id();
    (pool, id)
}

struct Forgery {
    root: Damage,
    dnodes: Damage,
    indirect: Damage,
}

/// Writes damaged copies of the indirect block, the dnode block and the root block over each other.
fn forge(pool: &Pool, id: ObjectId, forgery: &Forgery) -> BlkPtr {
    let ctx = pool.storage.begin_sync(Txg(4));
    let file = pool.objset.hold(id).unwrap();
    let mut indirect = file.indirect(1, 0).unwrap().unwrap().to_vec();
    apply(&mut indirect, &forgery.indirect);
    let indirect = put(pool, &ctx, DmuType::PLAIN_FILE_CONTENTS, 1, &indirect, 16);
    let mut dnodes = pool.objset.metadnode.block(0).unwrap().to_vec();
    let at = (id.0 as usize % 32) * dnode::DNODE_SIZE;
    dnodes[at + 64..][..BLKPTR_SIZE].copy_from_slice(&indirect.to_bytes());
    apply(&mut dnodes[at..], &forgery.dnodes);
    let dnodes = put(pool, &ctx, DmuType::DNODE, 0, &dnodes, 2);
    let mut root = pool.objset.root.lock().block.clone();
    root[64..][..BLKPTR_SIZE].copy_from_slice(&dnodes.to_bytes());
    apply(&mut root, &forgery.root);
    let root = put(pool, &ctx, DmuType::OBJSET, 0, &root, 2);
    ctx.batch.wait().unwrap();
    root
}

/// Uses everything; errors are fine.
fn use_all(objset: &Arc<Objset>) {
    let mut at = ObjectId(0);
    for _ in 0..100 {
        let Ok(Some(id)) = objset.next_object(at) else { break };
        at = id;
        let Ok(dnode) = objset.hold(id) else { continue };
        for offset in [0, 512, 3000, 1 << 20, 1 << 50, u64::MAX - 5000] {
            let _ = dnode.read(offset, 4096, &mut |_| Ok(()));
            let _ = dnode.next_offset(offset, Seek::Data);
            let _ = dnode.next_offset(offset, Seek::Hole);
            let _ = dnode.page(offset);
        }
        let _ = (dnode.spill(), dnode.bonus_vec(), dnode.bonus_max());
    }
}

/// Changes everything, and writes what can be written.
fn change_all(pool: &Pool, objset: &Arc<Objset>) -> Result<()> {
    let ctx = pool.storage.begin_sync(Txg(5));
    let tx = DmuTx::syncing(&ctx);
    let _ = objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512));
    for id in 1..40 {
        let Ok(dnode) = objset.hold(ObjectId(id)) else { continue };
        let _ = dnode.write_slice(&tx, 100, b"damaged?");
        let _ = dnode.write_slice(&tx, 30 * 1024, &noise(2000, 5));
        let _ = dnode.free_range(&tx, 5000, 20_000);
        let _ = dnode.set_bonus(&tx, &mut |b| b.truncate(5));
        if id % 2 == 0 {
            let _ = objset.free(&tx, ObjectId(id));
        }
    }
    objset.sync(&ctx)?;
    ctx.batch.wait()
}

const DNODE_FIELDS: &[usize] = &[0, 1, 2, 3, 4, 7, 8, 10, 12, 16, 24, 64, 112, 120, 144, 152, 192, 384, 432];
const ROOT_FIELDS: &[usize] = &[0, 1, 2, 3, 8, 12, 16, 64, 112, 120, 152, 192, 704, 712, 1024, 2048];
const POINTER_FIELDS: &[usize] = &[0, 8, 48, 80, 88, 96, 256, 304, 512, 560];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn forged_blocks_give_errors_and_nothing_worse(
        root in damage(ROOT_FIELDS, 4096),
        dnodes in damage(DNODE_FIELDS, 1536),
        indirect in damage(POINTER_FIELDS, 4096),
    ) {
        let (pool, id) = victim();
        let forgery = Forgery { root, dnodes, indirect };
        let root = forge(&pool, id, &forgery);
        let config = ObjsetConfig {
            id: 21,
            kind: ObjsetKind::None,
            hooks: pool.books.clone(),
            properties: ObjsetProperties::default(),
            is_read_only: false,
        };
        if let Ok(objset) = Objset::open(pool.storage.clone(), pool.txgs.clone(), Some(root), config) {
            use_all(&objset);
            let _ = change_all(&pool, &objset);
            use_all(&objset);
        }
    }
}

#[test]
fn a_block_above_itself_is_not_followed_for_ever() {
    let (pool, id) = victim();
    let file = pool.objset.hold(id).unwrap();
    let root_pointer = file.phys.lock().blkptrs[0];
    // The indirect block's first entry is the indirect block itself: of level 1 where level 0 must be.
    let forgery =
        Forgery { root: vec![], dnodes: vec![], indirect: vec![(0, root_pointer.to_bytes().to_vec())] };
    let again = pool.reopen(forge(&pool, id, &forgery));
    let file = again.hold(id).unwrap();
    assert_eq!(file.read_vec(0, 10).unwrap_err(), Error::Damaged);
    assert_eq!(file.read_vec(1024, 512).unwrap(), noise(512, 1));
}

#[test]
fn levels_that_no_number_of_blocks_needs_are_refused() {
    let (pool, id) = victim();
    for (at, byte) in [(2usize, 31u8), (1, 3), (1, 18), (3, 0), (3, 4), (2, 25)] {
        let forgery = Forgery { root: vec![], dnodes: vec![(at, vec![byte])], indirect: vec![] };
        let again = pool.reopen(forge(&pool, id, &forgery));
        assert_eq!(again.hold(id).unwrap_err(), Error::Damaged, "byte {at} = {byte}");
    }
}
