//! What the MOS gains and loses: charged to `$MOS`, freed at once.
use crate::Result;
use crate::dmu::{FeatureUse, ObjsetHooks, Owner};
use crate::dsl::bpobj::Sums;
use crate::dsl::dir::Change;
use crate::zio::{Storage, SyncCtx};
use alloc::sync::Arc;
use ondisk::{BlkPtr, DmuType};
use rt::SpinLock;

/// The hooks of the MOS.
#[derive(Debug)]
pub(crate) struct MosHooks {
    storage: Arc<Storage>,
    sums: SpinLock<(Sums, Sums)>,
}

impl MosHooks {
    pub(crate) fn new(storage: Arc<Storage>) -> Arc<Self> {
        Arc::new(Self { storage, sums: SpinLock::default() })
    }

    /// The change since it was last taken, `None` when there is none.
    pub(crate) fn take(&self) -> Option<Change> {
        let (born, killed) = core::mem::take(&mut *self.sums.lock());
        let change = Change {
            used: born.used.wrapping_sub(killed.used).cast_signed(),
            compressed: born.compressed.wrapping_sub(killed.compressed).cast_signed(),
            uncompressed: born.uncompressed.wrapping_sub(killed.uncompressed).cast_signed(),
        };
        (change != Change::default()).then_some(change)
    }
}

impl ObjsetHooks for MosHooks {
    fn block_born(&self, _ctx: &SyncCtx, bp: &BlkPtr) {
        self.sums.lock().0.add(Sums::of(&self.storage, bp));
    }

    fn block_killed(&self, ctx: &SyncCtx, bp: &BlkPtr) -> Result<()> {
        if bp.is_hole() {
            return Ok(());
        }
        self.sums.lock().1.add(Sums::of(&self.storage, bp));
        if bp.is_embedded() { Ok(()) } else { self.storage.free(ctx, bp) }
    }

    fn owner_of(&self, _bonus_kind: DmuType, _bonus: &[u8]) -> Option<Owner> {
        None
    }

    fn space_available(&self) -> u64 {
        u64::MAX
    }

    fn feature_used(&self, _ctx: &SyncCtx, _feature: FeatureUse) {}
}
