//! Making a pool.
//!
//! There is no special path that lays out a pool: an empty one is put together in memory, and its first transaction
//! group, written like any other, holds everything there is. Until that group's uberblock is written the devices have
//! no valid label, so a crash leaves no pool rather than half of one.
use super::environment::Environment;
use super::mos::Mos;
use super::mos_hooks::MosHooks;
use super::new_vdev::{NewTop, check_device};
use super::spec::{PoolSpec, Purpose, TopSpec, VdevSpec};
use super::sync::{Tasks, When};
use super::{Spa, State, features, history, label};
use super::{bias, config};
use crate::dmu::{DmuTx, NewObject, Objset, ObjsetConfig, ObjsetProperties};
use crate::dsl::{bpobj, create as dsl_create, names as dsl_names, props};
use crate::event::EventLog;
use crate::txg::{TxgConfig, Txgs};
use crate::vdev::{AllocClass, VdevSpec as OpenVdev, layout};
use crate::zap::{Zap, ZapOptions};
use crate::zio::{Format, Storage, StorageConfig, SyncCtx};
use crate::{Error, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use ondisk::feature::Feature;
use ondisk::label::PoolState;
use ondisk::objset::ObjsetKind;
use ondisk::pool_directory::{self as names, CHECKSUM_SALT_SIZE, CONFIG_BLOCK_SIZE, POOL_DIRECTORY};
use ondisk::uberblock::Uberblock;
use ondisk::{Compression, DmuType, ObjectId, SPA_VERSION_FEATURES, Txg};

/// What fills a new dataset, in the transaction that makes it.
pub type Init<'a> = &'a mut dyn FnMut(&DmuTx, &Arc<Objset>) -> Result<()>;

/// Longest pool name.
const NAME_MAX: usize = 255;
/// Names that would be taken for vdev types.
const RESERVED: &[&str] = &["mirror", "raidz", "draid", "spare", "log"];
/// Data of an object array.
const ARRAY_BLOCK: u32 = 512;

pub(super) fn check_name(name: &str) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    let is_reserved = name == "log" || RESERVED[..4].iter().any(|word| name.starts_with(word));
    let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    if is_reserved || !starts_well || name.contains('/') || dsl_names::check(name).is_err() {
        return Err(Error::Invalid);
    }
    Ok(())
}

/// The numbers of the new vdevs. Object numbers in the MOS are chosen here, so that the tree, which is fixed once the
/// storage is open, can name them: the pool directory is 1, the arrays of space maps follow.
fn plan(tops: &[&TopSpec], spec: &PoolSpec, env: &Environment) -> Result<Vec<NewTop>> {
    if tops.is_empty() {
        return Err(Error::Invalid);
    }
    let plan = |(index, top): (usize, &&TopSpec)| {
        let mut new = NewTop::plan(top, spec.ashift, env)?;
        new.metaslab_array = ObjectId(POOL_DIRECTORY.0 + 1 + index as u64);
        Ok(new)
    };
    tops.iter().enumerate().map(plan).collect()
}

/// What may be written, by the features enabled.
pub(super) fn format_of(features: impl Fn(Feature) -> bool, is_old: bool) -> Format {
    let flags = [
        (Feature::HoleBirth, Format::HOLE_BIRTH),
        (Feature::EmbeddedData, Format::EMBEDDED_DATA),
        (Feature::Lz4Compress, Format::LZ4),
        (Feature::SpacemapV2, Format::SPACEMAP_V2),
        (Feature::SpacemapHistogram, Format::SPACEMAP_HISTOGRAM),
        (Feature::LogSpacemap, Format::LOG_SPACEMAP),
    ];
    let enabled = flags.into_iter().filter(|(feature, _)| !is_old && features(*feature));
    enabled.fold(Format::empty(), |all, (_, flag)| all | flag)
}

impl Spa {
    /// Makes a pool on empty devices (what was there is lost) and leaves it open. `init` fills the root dataset.
    ///
    /// # Errors
    /// `Invalid` for a name, ashift, layout or feature that cannot be, `NoSpace` for a device below 64 MiB,
    /// `ReadOnly`,
    /// `UnsupportedFeature` for special vdevs without their feature, the devices' errors, what `init` returns.
    pub fn create<T: Into<TopSpec>>(tops: Vec<T>, spec: &PoolSpec, init: Init<'_>) -> Result<Arc<Self>> {
        Self::create_tops(&tops.into_iter().map(Into::into).collect::<Vec<_>>(), spec, init)
    }

    fn create_tops(tops: &[TopSpec], spec: &PoolSpec, init: Init<'_>) -> Result<Arc<Self>> {
        check_name(&spec.name)?;
        for (property, value) in &spec.root_properties {
            property.check(value)?;
        }
        let features = spec.compatibility.features().map_err(|name| {
            log::error!("zfs: feature {name} is unknown or not written by this build");
            Error::Invalid
        })?;
        let has_classes = tops.iter().any(|top| top.purpose.class().is_counted());
        if has_classes && !features.contains(&Feature::AllocationClasses) {
            return Err(Error::UnsupportedFeature);
        }
        let env = Environment::new(spec.deterministic);
        let (spares, tops): (Vec<&TopSpec>, Vec<&TopSpec>) =
            tops.iter().partition(|top| top.purpose == Purpose::Spare);
        let spares: Vec<VdevSpec> = spares.into_iter().flat_map(|top| top.devices.clone()).collect();
        spares.iter().try_for_each(|spare| check_device(spare, spec.ashift).map(drop))?;
        let vdevs = plan(&tops, spec, &env)?;
        let open: Vec<OpenVdev> = vdevs
            .iter()
            .zip(&tops)
            .enumerate()
            .map(|(index, (vdev, top))| vdev.open(index, top))
            .collect::<Result<_>>()?;
        let all = tops.iter().flat_map(|top| &top.devices).chain(&spares);
        all.into_iter().try_for_each(|vdev| wipe_labels(&vdev.device))?;
        let spa = Self::assemble_new(spec, env, &vdevs, &open, &features)?;
        spa.storage.set_format(format_of(|f| features.contains(&f), false));
        let can_clone = features.contains(&Feature::BlockCloning);
        spa.storage.brt().start(Arc::downgrade(spa.mos.objset()), can_clone);
        spa.storage.init_metaslabs()?;
        spa.start(|| spa.fill(spec, vdevs, spares, features, init))?;
        Ok(spa)
    }

    fn assemble_new(
        spec: &PoolSpec,
        env: Environment,
        vdevs: &[NewTop],
        open: &[OpenVdev],
        features: &[Feature],
    ) -> Result<Arc<Self>> {
        let events = EventLog::new();
        let storage = Storage::open(
            open,
            &StorageConfig {
                is_read_only: false,
                arc_target: spec.memory.arc_bytes as u64,
                nr_allocators: 1,
                events: events.clone(),
            },
        )?;
        let txgs = Txgs::new(
            Txg::INITIAL,
            TxgConfig {
                dirty_max: spec.memory.dirty_bytes as u64,
                is_deterministic: spec.deterministic.is_some(),
                ..TxgConfig::default()
            },
        );
        let mos_hooks = MosHooks::new(storage.clone());
        let objset = Objset::open(
            storage.clone(),
            txgs.clone(),
            None,
            ObjsetConfig {
                id: 0,
                kind: ObjsetKind::Meta,
                hooks: mos_hooks.clone(),
                properties: ObjsetProperties::default(),
                is_read_only: false,
            },
        )?;
        let guid = env.guid();
        let config = config::of_new_pool(spec, guid, Txg::INITIAL.0, vdevs);
        Ok(Arc::new(Self {
            guid,
            version: SPA_VERSION_FEATURES,
            multihost: super::Multihost::default(),
            beat: super::mmp::Beat::default(),
            enabled: features.to_vec(),
            hostid: spec.hostid,
            hostname: spec.hostname.clone(),
            mos: Mos::new(objset, &spec.name),
            mos_hooks,
            events,
            storage,
            txgs,
            env,
            root: ObjectId(0).0.into(),
            config: rt::SpinLock::new(config),
            opened_at: Txg::ZERO,
            uberblock: rt::SpinLock::new(Uberblock::default()),
            torn_labels: rt::SpinLock::default(),
            open: rt::SpinLock::default(),
            tasks: Tasks::default(),
            spares: rt::SpinLock::new(Vec::new()),
            retired: rt::SpinLock::default(),
            new_space: rt::SpinLock::default(),
            admin: rt::Mutex::new(()),
            syncing: rt::Mutex::new(()),
            suspension: rt::wait::WaitQueue::new(),
            numbers: rt::SpinLock::default(),
            state: rt::SpinLock::new(State { pool_state: PoolState::Active as u64, ..State::default() }),
            thread: rt::SpinLock::new(None),
        }))
    }

    /// Everything a new pool holds, as tasks of its first transaction group.
    fn fill(
        self: &Arc<Self>,
        spec: &PoolSpec,
        vdevs: Vec<NewTop>,
        spares: Vec<VdevSpec>,
        features: Vec<Feature>,
        init: Init<'_>,
    ) -> Result<()> {
        let root = self.prepare_dataset(&spec.name)?;
        let dataset = root.dataset.clone();
        let tx = root.begin(&self.txgs, init)?;
        let properties = spec.root_properties.clone();
        let history = spec.history.clone();
        let txg = tx.txg();
        let task = move |spa: &Arc<Self>, _: &SyncCtx, tx: &DmuTx| {
            spa.write_new_pool(tx, vdevs, &features)?;
            if !spares.is_empty() {
                spa.add_spares(tx, &spares)?;
            }
            let root_dir = spa.root_dir();
            for (property, value) in &properties {
                props::set(&spa.mos, tx, root_dir, property, value)?;
            }
            let id = dsl_create::new_dataset(&spa.mos, tx, root_dir, root_dir, &spa.env)?;
            spa.adopt(&dataset, id, root_dir)?;
            spa.note(tx, &history)
        };
        self.tasks.push(txg, When::BeforeDatasets, alloc::boxed::Box::new(task));
        drop(tx);
        self.txgs.wait_synced(txg)?;
        self.forget(root.dataset.id());
        Ok(())
    }

    fn write_new_pool(&self, tx: &DmuTx, mut vdevs: Vec<NewTop>, features: &[Feature]) -> Result<()> {
        let mos = &self.mos;
        let objset = mos.objset();
        Zap::create_at(objset, tx, POOL_DIRECTORY, DmuType::OBJECT_DIRECTORY, ZapOptions::default())?;
        for vdev in &vdevs {
            objset.claim(tx, vdev.metaslab_array, &NewObject::new(DmuType::OBJECT_ARRAY, ARRAY_BLOCK))?;
        }
        self.create_config_object(tx)?;
        let root = dsl_create::new_tree(mos, tx, &self.env)?;
        self.root.store(root.0, core::sync::atomic::Ordering::Release);
        self.create_features(tx, features)?;
        let deferred = bpobj::create(mos, tx)?;
        mos.hold(deferred)?.set_compress(tx, Compression::Off)?;
        mos.set_directory_entry(tx, names::SYNC_BPLIST, deferred)?;
        mos.zap_add(tx, POOL_DIRECTORY, names::DEFLATE, 1)?;
        mos.zap_add(tx, POOL_DIRECTORY, names::CREATION_VERSION, self.version)?;
        let mut salt = [0; CHECKSUM_SALT_SIZE];
        salt.as_chunks_mut::<8>().0.iter_mut().for_each(|w| *w = self.env.random().to_le_bytes());
        mos.zap_set_bytes(tx, POOL_DIRECTORY, names::CHECKSUM_SALT, &salt)?;
        history::create(mos, tx, self.storage.vdevs().iter().map(|v| v.info().asize).sum())?;
        self.create_vdev_zaps(tx, &mut vdevs)?;
        mos.mark_config_dirty();
        Ok(())
    }

    fn create_config_object(&self, tx: &DmuTx) -> Result<()> {
        let new = NewObject::new(DmuType::PACKED_NVLIST, CONFIG_BLOCK_SIZE)
            .with_bonus(DmuType::PACKED_NVLIST_SIZE, 8);
        let id = self.mos.allocate(tx, &new)?;
        self.mos.set_directory_entry(tx, names::CONFIG, id)
    }

    fn create_features(&self, tx: &DmuTx, features: &[Feature]) -> Result<()> {
        for name in [names::FEATURES_FOR_READ, names::FEATURES_FOR_WRITE, names::FEATURE_DESCRIPTIONS] {
            let id = self.mos.create_zap(tx, DmuType::OTN_ZAP_METADATA, DmuType::NONE, 0)?;
            self.mos.set_directory_entry(tx, name, id)?;
        }
        self.mos.reload_feature_objects()?;
        features::enable_all(&self.mos, tx, features)
    }

    /// A ZAP for each vdev, as top-level vdev and as leaf, and the map of them all.
    fn create_vdev_zaps(&self, tx: &DmuTx, vdevs: &mut [NewTop]) -> Result<()> {
        let mos = &self.mos;
        let map = mos.create_zap(tx, DmuType::OTN_ZAP_METADATA, DmuType::NONE, 0)?;
        mos.set_directory_entry(tx, names::VDEV_ZAP_MAP, map)?;
        for (index, vdev) in vdevs.iter_mut().enumerate() {
            for place in vdev.zaps_mut() {
                *place = mos.create_zap(tx, DmuType::OTN_ZAP_METADATA, DmuType::NONE, 0)?;
                mos.zap_add(tx, map, &alloc::format!("{:x}", place.0), place.0)?;
            }
            let class = self.storage.vdevs().get(index).map_or(AllocClass::Normal, |v| v.info().class);
            bias::write(mos, tx, vdev.zap(), class)?;
            self.storage.set_top_zap(index as u32, vdev.zap());
            config::set_top(&mut self.config.lock(), index, vdev.config(index as u64, tx.txg().0))?;
        }
        Ok(())
    }
}

/// Overwrites the labels: an old pool's uberblocks must not outlive it.
pub(super) fn wipe_labels(device: &Arc<dyn BlockDevice>) -> Result<()> {
    for offset in layout::label_offsets(device.geometry().capacity) {
        device.write(offset, label::blank(offset))?;
    }
    match device.flush() {
        Err(blockdev::Error::Unsupported) => Ok(()),
        other => other.map_err(Into::into),
    }
}

/// The reason that snapshots and read-only pools give.
pub(super) fn because(text: &str) -> Option<String> {
    Some(String::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_names() {
        for good in ["tank", "a", "rpool-1", "T_2.x"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "1tank", "mirror", "raidz2x", "log", "sparepool", "a/b", "a@b", "-x", "draid"] {
            assert_eq!(check_name(bad), Err(Error::Invalid), "{bad}");
        }
    }
}
