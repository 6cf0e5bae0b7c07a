//! Opening a pool.
//!
//! ```text
//! labels -> pool -> best uberblock -> MOS, over what the labels say -> configuration in the MOS (trusted)
//! -> devices again, by that -> features -> why not to write, if so -> space maps -> sync thread
//! ```
//!
//! Everything up to the last step only reads: an import that fails has changed nothing.
use super::create::{because, format_of};
use super::environment::Environment;
use super::feature::{Support, support};
use super::label::{self, DeviceLabels, Pair};
use super::mmp;
use super::mos::Mos;
use super::mos_hooks::MosHooks;
use super::spec::{ImportOptions, PoolName};
use super::sync::Tasks;
use super::{DeferredFrees, LabelSummary, Spa, State, features, space_maps};
use super::{bias, checkpoint, config, dtl};
use crate::brt;
use crate::bugs::{self, Bug};
use crate::dmu::{DmuTx, Objset, ObjsetConfig, ObjsetProperties};
use crate::dsl::{bpobj, dir, freeing, livelist, log as dsl_log, names as dsl_names};
use crate::event::{Event, EventLog};
use crate::txg::{TxgConfig, Txgs};
use crate::vdev::{AllocClass, Leaf, Priority, VdevKind, VdevSpec};
use crate::zil::chain;
use crate::zio::{Storage, StorageConfig, SyncCtx};
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use nvpair::NvList;
use ondisk::feature::Feature;
use ondisk::label::PoolState;
use ondisk::objset::{ObjsetKind, RawObjset};
use ondisk::pool_directory as names;
use ondisk::uberblock::Uberblock;
use ondisk::zil::ZilHeader;
use ondisk::{Bookmark, DmuType, ObjectId, SPA_VERSION_FEATURES, Txg};
use rt::wait::WaitQueue;

/// Longest packed configuration.
const CONFIG_MAX: u64 = 8 << 20;

/// A device with valid labels.
struct Candidate {
    device: Arc<dyn BlockDevice>,
    labels: DeviceLabels,
    guid: u64,
    top_guid: u64,
}

impl Candidate {
    /// None for a device whose labels are not those of a pool's.
    fn new(device: Arc<dyn BlockDevice>, labels: DeviceLabels) -> Option<(u64, Self)> {
        let number = |name: &str| labels.config.get_u64(name);
        let state = number("state").and_then(PoolState::from_id);
        if !matches!(state, Some(PoolState::Active | PoolState::Exported)) {
            return None;
        }
        let (pool, guid, top_guid) = (number("pool_guid")?, number("guid")?, number("top_guid")?);
        Some((pool, Self { device, labels, guid, top_guid }))
    }

    /// As its labels say that it was in group `txg`; as it is when none of them is so old.
    fn at_group(self, txg: Txg) -> core::result::Result<Self, Self> {
        if label::txg_of(&self.labels.config) <= txg {
            return Ok(self);
        }
        let labels = label::read_config(&self.device, txg).map(|(config, stale)| DeviceLabels {
            config,
            stale,
            uberblocks: self.labels.uberblocks.clone(),
        });
        match labels.ok().and_then(|labels| Self::new(self.device.clone(), labels)) {
            Some((_, older)) => Ok(older),
            None => Err(self),
        }
    }

    /// Its guid, and the transaction groups of its configuration and of its best uberblock.
    fn ages(&self) -> (u64, u64, u64) {
        let best = label::best_uberblock(self.labels.uberblocks.iter().copied(), None);
        (self.guid, label::txg_of(&self.labels.config).0, best.map_or(0, |u| u.txg.0))
    }
}

/// The devices of one pool.
struct Found {
    candidates: Vec<Candidate>,
    /// The newest of their configurations that are not newer than the pool.
    config: NvList,
    /// Devices that say they are hot spares, of whichever pool.
    spares: Vec<(u64, Arc<dyn BlockDevice>)>,
}

impl Found {
    /// The guids of the devices whose labels 1 and 3 may be torn.
    fn with_torn_labels(&self) -> Vec<u64> {
        let torn = self.candidates.iter().filter(|c| c.labels.stale == Some(Pair::Odd));
        torn.map(|c| c.guid).collect()
    }

    /// The guids of the devices on which this uberblock is not, under whichever sign of life.
    fn lacking(&self, uberblock: &Uberblock) -> Vec<u64> {
        let is_it = |u: &Uberblock| u.txg == uberblock.txg && u.rootbp == uberblock.rootbp;
        let lacks = |c: &&Candidate| !c.labels.uberblocks.iter().any(is_it);
        self.candidates.iter().filter(lacks).map(|c| c.guid).collect()
    }
}

impl Spa {
    /// Opens a pool. `devices` may hold others' devices too; order does not matter.
    ///
    /// # Errors
    /// `NotFound`: no such pool; `NoLabel`: none of the devices has a label; `Invalid`: several pools, and no name;
    /// `ForeignLabel`, `MissingVdev`, `MissingLog`, `NoUberblock`, `UnsupportedVersion`, `UnsupportedFeature`, `Unsupported` (vdev
    /// kinds), `Busy` (another host has it open), `Io`, `Checksum`, `Damaged`. The log facade names the detail.
    pub fn import(devices: &[Arc<dyn BlockDevice>], options: &ImportOptions) -> Result<Arc<Self>> {
        let found = find(devices, &options.pool)?;
        let events = options.events.clone();
        check_state(&found.config, options)?;
        check_label_features(&found.config, &events)?;
        let mut choice = choose_uberblock(&found, options)?;
        let look = || {
            let labels: Vec<DeviceLabels> =
                found.candidates.iter().filter_map(|c| label::read(&c.device).ok()).collect();
            mmp::newest(labels.iter()).ok_or(Error::NoUberblock)
        };
        mmp::watch(&found.config, &choice.uberblock, options, &look)?;
        if options.rewind_to_checkpoint {
            let (mos, _) = open_untrusted(&found, &choice.uberblock, &events)?;
            choice.uberblock = checkpoint::read(&mos)?.ok_or(Error::NotFound)?;
        }
        let trusted = read_trusted_config(&found, &choice.uberblock, &events)?;
        if config::guid_sum(&trusted)? != choice.uberblock.guid_sum {
            log::error!("zfs: the vdevs of the configuration are not those of the uberblock");
            return Err(Error::MissingVdev);
        }
        let spa = open(&found, trusted, &choice, options, events)?;
        spa.load_spares(&spares_of(&found))?;
        if spa.state.lock().read_only_reason.is_none() {
            spa.storage.load_metaslabs(&spa.mos, &space_maps::log_index(&spa.mos, &spa.storage)?)?;
            let is_discarding = spa.load_checkpoint()?;
            if choice.is_newest() && !bugs::is(Bug::NotSettled) {
                spa.settle(&choice.uberblock, &found.lacking(&choice.uberblock))?;
            }
            if !choice.is_newest() {
                spa.forget_logs()?;
            } else if !bugs::is(Bug::ClaimAfterAllocation) {
                spa.claim_logs()?;
            }
            spa.start(|| spa.begin_work(is_discarding))?;
        } else {
            spa.storage.load_metaslabs(&spa.mos, &space_maps::log_index(&spa.mos, &spa.storage)?)?;
            spa.load_checkpoint()?;
            crate::scan::load(&spa)?;
            super::numbers::load(&spa)?;
        }
        Ok(spa)
    }

    /// The first groups of a pool that has been opened for writing: it says that it is in use, and goes on with what was under way.
    fn begin_work(self: &Arc<Self>, is_discarding: bool) -> Result<()> {
        crate::scan::load(self)?;
        super::numbers::load(self)?;
        self.take_over()?;
        self.expand_at_import()?;
        if is_discarding {
            self.finish_discarding()?;
        }
        if bugs::is(Bug::ClaimAfterAllocation) {
            self.claim_logs()?;
        }
        self.start_beat();
        for cleared in [self.destroy_interrupted(), self.release_temporary()] {
            match cleared {
                // What cannot be cleared away stays, and keeps nobody from the rest of the pool.
                Err(e) if e != Error::Suspended => {
                    log::warn!("zfs: what was left over is not cleared away: {e}");
                }
                other => other?,
            }
        }
        crate::scan::Scan::start(self);
        Ok(())
    }

    /// What the labels of a device say.
    ///
    /// # Errors
    /// `NoLabel`, `ForeignLabel`, `Io`.
    pub fn probe(device: &Arc<dyn BlockDevice>) -> Result<LabelSummary> {
        let labels = label::read(device)?;
        let label = &labels.config;
        let number = |name: &str| label.get_u64(name).unwrap_or(0);
        let best = label::best_uberblock(labels.uberblocks.iter().copied(), None);
        Ok(LabelSummary {
            pool: label.get_str("name").unwrap_or_default().to_string(),
            pool_guid: number("pool_guid"),
            guid: number("guid"),
            top_guid: number("top_guid"),
            nr_top_vdevs: number("vdev_children"),
            version: number("version"),
            state: PoolState::from_id(number("state")).ok_or(Error::ForeignLabel)?,
            txg: best.map_or(0, |u| u.txg.0),
            hostid: number("hostid"),
            hostname: label.get_str("hostname").unwrap_or_default().to_string(),
            leaves: label.get_nvlist(config::VDEV_TREE).map(config::describe_leaves).unwrap_or_default(),
        })
    }

    /// Claims the intent logs of all datasets, before anything else is allocated.
    fn claim_logs(self: &Arc<Self>) -> Result<()> {
        let synced = self.uberblock.lock().txg;
        let first = self.txgs.open_txg();
        for (name, _, header) in self.unclaimed_logs()? {
            let objset = self.open_dataset(&name)?.objset();
            if let Some(zil) = objset.zil() {
                zil.claim(&header, synced, first)?;
            }
        }
        Ok(())
    }

    /// Lets go of intent logs instead, when groups are given up: their records tell what happened after those, and what
    /// was in a group that is given up is in no record.
    fn forget_logs(self: &Arc<Self>) -> Result<()> {
        let synced = self.uberblock.lock().txg;
        let hold = self.txgs.hold_open();
        for (_, id, header) in self.unclaimed_logs()? {
            // Those of later groups are free already.
            let mut blocks = Vec::new();
            chain::for_each_block(&self.storage, &header, id.0, &mut |bp, _| {
                let is_kept = bp.dmu_type() == DmuType::INTENT_LOG && bp.birth() <= synced;
                blocks.extend(is_kept.then_some(*bp));
            });
            self.push_task(hold.txg(), move |spa, ctx, tx| {
                blocks.iter().try_for_each(|bp| spa.storage.free(ctx, bp))?;
                dsl_log::clear(&spa.mos, ctx, tx, id)
            });
        }
        Ok(())
    }

    /// The heads that have a log which nobody has claimed.
    fn unclaimed_logs(&self) -> Result<Vec<(String, ObjectId, ZilHeader)>> {
        let mut logs = Vec::new();
        dsl_names::walk(&self.mos, self.root_dir(), &self.mos.pool_name(), false, &mut |entry| {
            if entry.is_snapshot || entry.dataset.is_none() {
                return Ok(());
            }
            let header = log_header(&self.mos, &self.storage, entry.dataset)?;
            if header.claim_txg == Txg::ZERO && !header.log.is_hole() {
                logs.push((entry.name.clone(), entry.dataset, header));
            }
            Ok(())
        })?;
        Ok(logs)
    }

    /// Says in the labels that the pool is in use, before anything else is written.
    fn take_over(self: &Arc<Self>) -> Result<()> {
        self.set_pool_state(PoolState::Active);
        let hold = self.txgs.hold_open();
        let txg = hold.txg();
        drop(hold);
        self.txgs.wait_synced(txg)
    }
}

/// Opens a pool by a configuration that is not that of its devices: they were those of the pool `options` names, and are now
/// one of their own. Its first group runs `first`, and writes its labels.
///
/// # Errors
/// As [`Spa::import`]; `ReadOnly` when it could not be written.
pub(super) fn assemble(
    devices: &[Arc<dyn BlockDevice>],
    config: NvList,
    options: &ImportOptions,
    first: impl FnOnce(&Arc<Spa>, &SyncCtx, &DmuTx) -> Result<()> + Send + 'static,
) -> Result<Arc<Spa>> {
    let mut found = find(devices, &options.pool)?;
    let choice = choose_uberblock(&found, options)?;
    if let Some(name) = config.get("name") {
        found.config.set("name", name.clone());
    }
    let spa = open(&found, config, &choice, options, options.events.clone())?;
    if spa.state.lock().read_only_reason.is_some() {
        return Err(Error::ReadOnly);
    }
    spa.storage.load_metaslabs(&spa.mos, &space_maps::log_index(&spa.mos, &spa.storage)?)?;
    spa.claim_logs()?;
    spa.start(|| {
        crate::scan::load(&spa)?;
        super::numbers::load(&spa)?;
        spa.set_pool_state(PoolState::Active);
        spa.run_task(super::When::AfterDatasets, first)
    })?;
    spa.start_beat();
    Ok(spa)
}

impl Found {
    /// The pool's name and guid, for people.
    fn describe(&self) -> String {
        let guid = self.config.get_u64("pool_guid").unwrap_or(0);
        format!("{} ({guid})", self.config.get_str("name").unwrap_or("?"))
    }
}

/// Sorts the devices by pool and picks the one that is wanted.
fn find(devices: &[Arc<dyn BlockDevice>], wanted: &PoolName) -> Result<Found> {
    let mut pools: BTreeMap<u64, Vec<Candidate>> = BTreeMap::new();
    let mut worst = Error::NoLabel;
    let mut spares = Vec::new();
    for device in devices {
        let labels = match label::read(device) {
            Ok(labels) => labels,
            Err(e) => {
                if e != Error::NoLabel {
                    worst = e;
                }
                continue;
            }
        };
        let number = |name: &str| labels.config.get_u64(name);
        let state = number("state").and_then(PoolState::from_id);
        if let (Some(PoolState::Spare), Some(guid)) = (state, number("guid")) {
            spares.push((guid, device.clone()));
        }
        match Candidate::new(device.clone(), labels) {
            Some((pool, candidate)) => pools.entry(pool).or_default().push(candidate),
            // Spares and cache devices have a label, but of no pool.
            None => worst = Error::ForeignLabel,
        }
    }
    if pools.is_empty() {
        return Err(worst);
    }
    let mut matching: Vec<Found> = pools
        .into_iter()
        .filter_map(|(guid, candidates)| {
            let candidates = believed(guid, candidates);
            let config = candidates.first()?.labels.config.clone();
            let is_wanted = match wanted {
                PoolName::Any => true,
                PoolName::Name(name) => config.get_str("name") == Some(name),
                PoolName::Guid(wanted) => guid == *wanted,
            };
            is_wanted.then(|| Found { candidates, config, spares: spares.clone() })
        })
        .collect();
    match (matching.pop(), matching.is_empty()) {
        (Some(found), true) => Ok(found),
        (Some(last), false) => {
            matching.push(last);
            let names: Vec<String> = matching.iter().map(Found::describe).collect();
            log::error!("zfs: several pools on these devices, say which: {}", names.join(", "));
            Err(Error::Invalid)
        }
        (None, _) => Err(Error::NotFound),
    }
}

/// The devices of a pool by what they said when its newest uberblock was written, those that spoke last first.
///
/// A group that changes the configuration writes two labels of each device before its uberblock. When the power goes in
/// between they tell of a pool that never was: a side whose mirror was to lose its other one already has the mirror's
/// guid, a device that was to come is in the tree. The other two labels are still those of the uberblock. A device that
/// was away keeps what it said last, which may be of a vdev long gone: the newest word on each vdev counts.
///
/// A device that was another pool's then has no part in this one: a power cut ended a split before the new pool's first group.
///
/// Some have no label that old: a device that was in no pool then, or one whose older pair an earlier power cut has torn.
/// The latter belongs to the pool all the same, so they come last: nothing is taken from their labels that another one tells.
fn believed(pool: u64, candidates: Vec<Candidate>) -> Vec<Candidate> {
    let all = candidates.iter().flat_map(|c| c.labels.uberblocks.iter().copied());
    let newest = label::best_uberblock(all, None).map_or(Txg(u64::MAX), |u| u.txg);
    let (mut believed, mut early) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match candidate.at_group(newest) {
            Ok(candidate) if candidate.labels.config.get_u64("pool_guid") == Some(pool) => {
                believed.push(candidate);
            }
            Ok(_) => {}
            Err(candidate) => early.push(candidate),
        }
    }
    for devices in [&mut believed, &mut early] {
        devices.sort_by_key(|c| core::cmp::Reverse(label::txg_of(&c.labels.config)));
    }
    believed.append(&mut early);
    believed
}

fn check_state(config: &NvList, options: &ImportOptions) -> Result<()> {
    let version = config.get_u64("version").unwrap_or(0);
    if !ondisk::is_spa_version(version) {
        log::error!("zfs: pool version {version} is not supported");
        return Err(Error::UnsupportedVersion);
    }
    let is_active = config.get_u64("state") == Some(PoolState::Active as u64);
    let hostid = config.get_u64("hostid").unwrap_or(0);
    let is_foreign = hostid != 0 && hostid != options.hostid;
    if is_active && is_foreign && !options.force && !options.read_only {
        log::error!("zfs: the pool was last used by host {hostid:#x} and not exported");
        return Err(Error::Busy);
    }
    Ok(())
}

/// Labels name the features without which not even the MOS can be read.
fn check_label_features(config: &NvList, events: &EventLog) -> Result<()> {
    for pair in config.get_nvlist("features_for_read").map(NvList::pairs).unwrap_or_default() {
        let guid = String::from_utf8_lossy(&pair.name);
        let level = Feature::from_guid(&guid).map_or(Support::None, support);
        if level == Support::None {
            events.post(Event::Feature { guid: guid.into_owned(), is_readable: false });
            return Err(Error::UnsupportedFeature);
        }
    }
    Ok(())
}

/// The state to open, and the group to go on with. After a rewind the groups that are given up keep their numbers: their
/// uberblocks are still in the labels, and the next one written must be newer than they are.
struct Choice {
    uberblock: Uberblock,
    first_open: Txg,
}

impl Choice {
    /// No group is given up.
    fn is_newest(&self) -> bool {
        self.uberblock.txg.next() == self.first_open
    }
}

fn choose_uberblock(found: &Found, options: &ImportOptions) -> Result<Choice> {
    let all = || found.candidates.iter().flat_map(|c| c.labels.uberblocks.iter().copied());
    let newest = label::best_uberblock(all(), None).ok_or(Error::NoUberblock)?;
    let limit = options.rewind_txg.map(Txg);
    let uberblock = label::best_uberblock(all(), limit).ok_or(Error::NoUberblock)?;
    if !ondisk::is_spa_version(uberblock.version) {
        return Err(Error::UnsupportedVersion);
    }
    Ok(Choice { uberblock, first_open: newest.txg.next() })
}

fn spares_of(found: &Found) -> Vec<(u64, Arc<dyn BlockDevice>)> {
    devices_of(found).into_iter().chain(found.spares.iter().cloned()).collect()
}

fn devices_of(found: &Found) -> Vec<(u64, Arc<dyn BlockDevice>)> {
    found.candidates.iter().map(|c| (c.guid, c.device.clone())).collect()
}

/// A top-level vdev whose labels were not found: whether the pool can do without is for the MOS to say.
fn absent(id: u32) -> VdevSpec {
    VdevSpec { is_excluded: true, ..VdevSpec::new(VdevKind::Missing, id, 0) }
}

/// The vdev tree as the labels tell it: good enough to read the MOS.
fn untrusted_tops(found: &Found) -> Result<Vec<VdevSpec>> {
    let devices = devices_of(found);
    let nr_tops = found.config.get_u64("vdev_children").unwrap_or(1);
    let nr_tops = u32::try_from(nr_tops).ok().filter(|n| (1..=4096).contains(n)).ok_or(Error::Damaged)?;
    let mut tops: Vec<VdevSpec> = (0..nr_tops).map(absent).collect();
    for candidate in &found.candidates {
        let tree = candidate.labels.config.get_nvlist("vdev_tree").ok_or(Error::ForeignLabel)?;
        if tree.get_u64("guid") != Some(candidate.top_guid) {
            return Err(Error::ForeignLabel);
        }
        let id = tree.get_u64("id").and_then(|id| usize::try_from(id).ok()).ok_or(Error::ForeignLabel)?;
        let Some(place) = tops.get_mut(id) else {
            // A stale device of a time with more vdevs.
            continue;
        };
        if place.kind == VdevKind::Missing {
            *place = config::open_top(tree, &devices)?;
        } else if place.guid != candidate.top_guid {
            log::warn!("zfs: device {} was last part of a vdev that is no more", candidate.guid);
        }
    }
    Ok(tops)
}

fn open_storage(
    tops: &[VdevSpec],
    known: &[Arc<Leaf>],
    is_read_only: bool,
    options: Option<&ImportOptions>,
    events: &EventLog,
) -> Result<Arc<Storage>> {
    let memory = options.map(|o| o.memory).unwrap_or_default();
    let config = StorageConfig {
        is_read_only,
        arc_target: memory.arc_bytes as u64,
        nr_allocators: if options.is_some_and(|o| o.deterministic.is_none()) { rt::nr_cpus() } else { 1 },
        events: events.clone(),
    };
    Storage::open_with(tops, known, &config)
}

fn open_mos(
    storage: &Arc<Storage>,
    txgs: &Arc<Txgs>,
    uberblock: &Uberblock,
    pool: &str,
    is_read_only: bool,
) -> Result<(Mos, Arc<MosHooks>)> {
    let hooks = MosHooks::new(storage.clone());
    let config = ObjsetConfig {
        id: 0,
        kind: ObjsetKind::Meta,
        hooks: hooks.clone(),
        properties: ObjsetProperties::default(),
        is_read_only,
    };
    let objset = Objset::open(storage.clone(), txgs.clone(), Some(uberblock.rootbp), config)?;
    Ok((Mos::new(objset, pool), hooks))
}

/// The MOS, over devices as the labels describe them.
fn open_untrusted(found: &Found, uberblock: &Uberblock, events: &EventLog) -> Result<(Mos, Arc<MosHooks>)> {
    let storage = open_storage(&untrusted_tops(found)?, &[], true, None, events)?;
    let txgs = Txgs::new(uberblock.txg.next(), TxgConfig::default());
    let pool = found.config.get_str("name").unwrap_or_default();
    let (mos, hooks) = open_mos(&storage, &txgs, uberblock, pool, true)?;
    mos.load()?;
    Ok((mos, hooks))
}

/// Reads the configuration that the MOS holds, over devices as the labels describe them.
fn read_trusted_config(found: &Found, uberblock: &Uberblock, events: &EventLog) -> Result<NvList> {
    let (mos, _) = open_untrusted(found, uberblock, events)?;
    let id = mos.require(names::CONFIG)?;
    let len = mos.bonus(id, |bonus| {
        let bytes = bonus.get(..8).ok_or(Error::Damaged)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Damaged)?))
    })?;
    if len > CONFIG_MAX {
        return Err(Error::Damaged);
    }
    let packed = mos.read(id, 0, len as usize)?;
    let config = NvList::decode(&packed).map_err(|_| Error::Damaged)?;
    if config.get_u64("pool_guid") != found.config.get_u64("pool_guid") {
        return Err(Error::ForeignLabel);
    }
    Ok(config)
}

fn open(
    found: &Found,
    mut trusted: NvList,
    choice: &Choice,
    options: &ImportOptions,
    events: EventLog,
) -> Result<Arc<Spa>> {
    let uberblock = choice.uberblock;
    // The labels know the name the pool goes by now; the MOS copy may be older.
    let name = found.config.get_str("name").or(trusted.get_str("name")).ok_or(Error::Damaged)?.to_string();
    trusted.set("name", nvpair::NvValue::String(name.clone().into_bytes()));
    let devices = devices_of(found);
    let mut tops: Vec<VdevSpec> =
        config::tops(&trusted)?.iter().map(|top| config::open_top(top, &devices)).collect::<Result<_>>()?;
    excuse_logs(&mut tops, options)?;
    let mut reason = read_only_reason(options, &tops, &devices);
    let labels: Vec<_> = found.candidates.iter().map(Candidate::ages).collect();
    // One look at the pool without the right to write decides whether it may be written.
    let txgs = new_txgs(choice.first_open, options);
    let storage = open_storage(&tops, &[], true, Some(options), &events)?;
    let (mos, _) = open_mos(&storage, &txgs, &uberblock, &name, true)?;
    mos.load()?;
    set_salt(&mos, &storage)?;
    dtl::load(&mos, &trusted, &storage.leaves())?;
    dtl::note_stale(&storage, &labels, found.config.get_u64("txg").unwrap_or(0), uberblock.txg.0);
    let forced = reason_in_pool(&mos, &storage, &events, &uberblock, reason.is_some())?;
    reason = joined(reason, forced);
    let is_forced = reason.is_some() && !options.read_only;
    if is_forced && let Some(reason) = &reason {
        events.post(Event::ForcedReadOnly { reason: reason.clone() });
    }
    let is_read_only = reason.is_some();
    let has_classes = bias::read_all(&mos, &mut tops)?;
    let storage = match is_read_only && !has_classes {
        true => storage,
        false => open_storage(&tops, &storage.leaves(), is_read_only, Some(options), &events)?,
    };
    let (mos, mos_hooks) = open_mos(&storage, &txgs, &uberblock, &name, is_read_only)?;
    mos.load()?;
    set_salt(&mos, &storage)?;
    let enabled = features::list(&mos)?;
    let is_enabled = |f: Feature| enabled.iter().any(|info| info.known == Some(f));
    storage.set_format(format_of(is_enabled, uberblock.version < SPA_VERSION_FEATURES));
    storage.brt().start(Arc::downgrade(mos.objset()), is_enabled(Feature::BlockCloning));
    match storage.brt().load(&mos, &storage) {
        // Only frees need it.
        Err(e) if is_read_only => log::warn!("zfs: the table of cloned blocks cannot be read: {e}"),
        loaded => loaded?,
    }
    let deferred = mos.require(names::SYNC_BPLIST)?;
    let state = State {
        read_only_reason: reason,
        is_forced,
        is_closed: false,
        is_over: false,
        may_go_on: false,
        pool_state: PoolState::Active as u64,
        is_freeing: !is_read_only && freeing::is_pending(&mos)?,
        deferred: DeferredFrees { list: deferred, may_hold: bpobj::header(&mos, deferred)?.num_blkptrs > 0 },
    };
    Ok(Arc::new(Spa {
        guid: trusted.get_u64("pool_guid").ok_or(Error::Damaged)?,
        version: uberblock.version,
        opened_at: uberblock.txg,
        multihost: options.multihost,
        beat: super::mmp::Beat::default(),
        enabled: enabled.iter().filter_map(|info| info.known).collect(),
        hostid: options.hostid,
        hostname: options.hostname.clone(),
        root: mos.require(names::ROOT_DATASET)?.0.into(),
        mos,
        mos_hooks,
        events,
        storage,
        txgs,
        env: Environment::new(options.deterministic),
        config: rt::SpinLock::new(trusted),
        uberblock: rt::SpinLock::new(uberblock),
        torn_labels: rt::SpinLock::new(found.with_torn_labels()),
        open: rt::SpinLock::default(),
        tasks: Tasks::default(),
        spares: rt::SpinLock::new(Vec::new()),
        retired: rt::SpinLock::default(),
        new_space: rt::SpinLock::default(),
        admin: rt::Mutex::new(()),
        syncing: rt::Mutex::new(()),
        suspension: WaitQueue::new(),
        numbers: rt::SpinLock::default(),
        state: rt::SpinLock::new(state),
        thread: rt::SpinLock::new(None),
    }))
}

/// Lets the pool do without its lost log devices, if that is asked for: nothing is allocated on them. Logs that they hold
/// end where they cannot be read, which is at their beginning.
///
/// # Errors
/// `MissingLog` when it is not.
fn excuse_logs(tops: &mut [VdevSpec], options: &ImportOptions) -> Result<()> {
    for top in tops.iter_mut().filter(|top| top.class == AllocClass::Log && top.is_lost()) {
        if !options.without_logs {
            log::error!("zfs: log device {} is missing", top.guid);
            return Err(Error::MissingLog);
        }
        log::warn!("zfs: log device {} is missing: what only it holds is given up", top.guid);
        top.is_excluded = true;
    }
    Ok(())
}

/// Gives the storage what salted checksums need.
fn set_salt(mos: &Mos, storage: &Storage) -> Result<()> {
    let salt = mos.zap_bytes(names::POOL_DIRECTORY, names::CHECKSUM_SALT)?;
    if let Some(salt) = salt.and_then(|bytes| bytes.try_into().ok()) {
        storage.set_salt(salt);
    }
    Ok(())
}

fn new_txgs(first_open: Txg, options: &ImportOptions) -> Arc<Txgs> {
    Txgs::new(
        first_open,
        TxgConfig {
            dirty_max: options.memory.dirty_bytes as u64,
            is_deterministic: options.deterministic.is_some(),
            ..TxgConfig::default()
        },
    )
}

/// Reasons outside the MOS.
fn read_only_reason(
    options: &ImportOptions,
    tops: &[VdevSpec],
    devices: &[(u64, Arc<dyn BlockDevice>)],
) -> Option<String> {
    if options.read_only {
        return because("asked for");
    }
    if devices.iter().any(|(_, device)| device.geometry().is_read_only) {
        return because("a device is read-only");
    }
    if tops.iter().any(|top| top.kind == VdevKind::Missing) {
        return because("a vdev is missing");
    }
    None
}

/// Reasons in the pool not to write it.
fn reason_in_pool(
    mos: &Mos,
    storage: &Storage,
    events: &EventLog,
    uberblock: &Uberblock,
    is_read_only: bool,
) -> Result<Option<String>> {
    let mut reason = reason_in_mos(mos, events, uberblock)?;
    match brt::has_foreign(mos, storage) {
        Ok(false) => {}
        Ok(true) => reason = joined(reason, because("its table of cloned blocks is in the other byte order")),
        Err(e) => reason = joined(reason, Some(format!("its table of cloned blocks cannot be read: {e}"))),
    }
    if space_maps::is_log_place_lost(mos, storage)? {
        reason = joined(reason, because("a vdev has no ZAP to say which logs of space maps matter to it"));
    }
    let log = log_reason(mos, storage, uberblock.txg, is_read_only || reason.is_some())?;
    Ok(joined(reason, log))
}

/// Two reasons as one.
fn joined(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}; {second}")),
        (first, second) => first.or(second),
    }
}

fn reason_in_mos(mos: &Mos, events: &EventLog, uberblock: &Uberblock) -> Result<Option<String>> {
    let version = uberblock.version;
    let verdict = features::judge(mos, events)?;
    if let Some(feature) = verdict.read_only.first() {
        return Ok(Some(format!("feature {feature} is active and not written by this build")));
    }
    if version < SPA_VERSION_FEATURES {
        return Ok(Some(format!("pool version {version} is only read by this build")));
    }
    if mos.directory_entry(names::REMOVING)?.is_some_and(|o| !o.is_none()) {
        return Ok(because("a device is being removed"));
    }
    if !livelist::can_free_deleted(mos)? {
        return Ok(because("a clone is being destroyed by a live list of an unknown shape"));
    }
    Ok(None)
}

/// Reasons in the datasets' intent logs. A log of a pool that is not written anyway is only told.
fn log_reason(mos: &Mos, storage: &Storage, synced: Txg, is_read_only: bool) -> Result<Option<String>> {
    let root = mos.require(names::ROOT_DATASET)?;
    let mut found = None;
    dsl_names::walk(mos, root, &mos.pool_name(), false, &mut |entry| {
        if entry.is_snapshot || entry.dataset.is_none() || found.is_some() {
            return Ok(());
        }
        let (id, name) = (entry.dataset.0, &entry.name);
        let header = match log_header(mos, storage, entry.dataset) {
            // A dataset that cannot be read is refused when it is opened, not its pool.
            Err(Error::Unsupported | Error::Encrypted) if is_read_only => return Ok(()),
            Err(e @ (Error::Unsupported | Error::Encrypted)) => {
                found = Some(format!("the intent log of {name} cannot be read: {e}"));
                return Ok(());
            }
            other => other?,
        };
        if is_read_only && chain::has_records(storage, &header, id, synced) {
            found = Some(format!("the intent log of {name} holds records that are not replayed"));
        }
        Ok(())
    })?;
    Ok(found)
}

/// The intent log's header of a dataset, from disk.
pub(super) fn log_header(mos: &Mos, storage: &Storage, dataset: ObjectId) -> Result<ZilHeader> {
    let bp = dir::read_dataset(mos, dataset)?.bp;
    if bp.is_hole() {
        return Ok(ZilHeader::default());
    }
    let block = storage.read(&bp, Bookmark::root(dataset.0), Priority::SyncRead)?;
    Ok(RawObjset::of(&block.abd().to_contiguous())?.parse()?.zil)
}
