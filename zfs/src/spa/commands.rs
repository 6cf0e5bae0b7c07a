//! What is done to pools and datasets.
//!
//! A command checks under the command lock, leaves a task for the sync thread and waits until that is on disk: what
//! it answers is durable.
use super::create::{Init, because};
use super::info::{HistoryRecord, PoolProperties, PoolSpace};
use super::sync::When;
use super::{FeatureInfo, Spa, features, history};
use crate::dmu::{DmuTx, Objset, ObjsetConfig, TxSpace};
use crate::dsl::dataset::{self, DatasetParts};
use crate::dsl::ledger::Ledger;
use crate::dsl::names::{self, Entry, Found};
use crate::dsl::{
    Dataset, DatasetInfo, DatasetKind, Property, PropertyValue, Source, bookmark, create, destroy, dir,
    limits, livelist, props, snapshot,
};
use crate::event::Event;
use crate::txg::Txgs;
use crate::verify;
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::dsl::{DslDatasetFlags, FREE_DIR_NAME, keys};
use ondisk::feature::Feature;
use ondisk::label::PoolState;
use ondisk::objset::ObjsetKind;
use ondisk::pool_directory as mos_names;
use ondisk::{DmuType, ObjectId, Txg};

/// What the first transaction of a dataset may write.
const INIT_SPACE: TxSpace = TxSpace { write_bytes: 1 << 20, ..TxSpace::names(16, 64) };

/// A dataset that is filled before it has a place in the pool.
pub(super) struct Prepared {
    pub(super) dataset: Arc<Dataset>,
}

impl Prepared {
    /// Runs `init` in a transaction; the dataset must be given its place in that transaction's group.
    pub(super) fn begin(&self, _txgs: &Txgs, init: Init<'_>) -> Result<DmuTx> {
        let objset = self.dataset.objset();
        let tx = DmuTx::begin(&objset, INIT_SPACE)?;
        init(&tx, &objset)?;
        Ok(tx)
    }
}

impl Spa {
    // --- the pool ------------------------------------------------------------------------------------------------

    /// Everything written before the call is durable after it.
    ///
    /// # Errors
    /// `Suspended`.
    pub fn sync(&self) -> Result<()> {
        match self.check_writable() {
            Err(Error::ReadOnly) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.txgs.sync_all(),
        }
    }

    /// Writes everything, marks the labels exported and closes. Datasets still open afterwards only give errors.
    ///
    /// # Errors
    /// `Suspended`, `Io`; the pool is closed all the same.
    pub fn export(&self) -> Result<()> {
        let _admin = self.admin.lock();
        self.scan().stop_unless_suspended(&self.txgs);
        self.beat.stop();
        let result = match self.check_writable() {
            Ok(()) => self.write_exported(),
            Err(Error::ReadOnly) => Ok(()),
            Err(e) => Err(e),
        };
        self.stop();
        result
    }

    /// Closes without writing anything more, as if the power had failed.
    pub fn abandon(&self) {
        self.stop();
    }

    fn write_exported(&self) -> Result<()> {
        self.txgs.sync_all()?;
        self.storage.flush_logs();
        self.set_pool_state(PoolState::Exported);
        // An exported pool has no log blocks: what they would say is on disk.
        self.end_logs()
    }

    /// Ends the intent log of every open dataset with the open group, and waits for that. Who commits meanwhile waits for a
    /// group; the next commits begin new chains.
    ///
    /// # Errors
    /// `Suspended`.
    pub(super) fn end_logs(&self) -> Result<()> {
        let hold = self.txgs.hold_open();
        let txg = hold.txg();
        self.open_datasets()
            .iter()
            .filter_map(|ds| ds.objset().zil().cloned())
            .for_each(|zil| zil.close(txg));
        drop(hold);
        self.txgs.wait_synced(txg)
    }

    /// Facts and properties.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn properties(&self) -> Result<PoolProperties> {
        let (read_only_reason, is_forced) = {
            let state = self.state.lock();
            (state.read_only_reason.clone(), state.is_forced)
        };
        let (comment, compatibility) = {
            let config = self.config.lock();
            let text = |name: &str| config.get_str(name).map(ToString::to_string);
            (text("comment"), text("compatibility"))
        };
        let txg = self.uberblock.lock().txg.0;
        Ok(PoolProperties {
            name: self.mos.pool_name(),
            guid: self.guid,
            version: self.version,
            txg,
            bootfs: self.bootfs()?,
            comment,
            compatibility,
            is_read_only: read_only_reason.is_some(),
            read_only_reason: read_only_reason.filter(|_| is_forced),
            is_suspended: self.txgs.is_suspended(),
        })
    }

    pub(super) fn pool_props(&self) -> Result<Option<ObjectId>> {
        Ok(self.mos.directory_entry(mos_names::PROPS)?.and_then(ObjectId::non_zero))
    }

    fn bootfs(&self) -> Result<Option<String>> {
        let Some(props) = self.pool_props()? else {
            return Ok(None);
        };
        let Some(id) = self.mos.zap_lookup(props, "bootfs")?.filter(|id| *id != 0) else {
            return Ok(None);
        };
        let dir_id = dir::read_dataset(&self.mos, ObjectId(id))?.dir;
        dir::name(&self.mos, dir_id).map(Some)
    }

    /// Sets the dataset to boot from; `None` clears it.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for a snapshot; `ReadOnly`, `Suspended`.
    pub fn set_bootfs(&self, name: Option<&str>) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let id = match name {
            None => ObjectId(0),
            Some(name) => match names::find(&self.mos, self.root_dir(), name)? {
                found if found.is_snapshot => return Err(Error::Invalid),
                found => found.dataset,
            },
        };
        let command = format!("zpool set bootfs={} {}", name.unwrap_or(""), self.mos.pool_name());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            let props = match spa.pool_props()? {
                Some(props) => props,
                None => {
                    let props = spa.mos.create_zap(tx, DmuType::POOL_PROPS, DmuType::NONE, 0)?;
                    spa.mos.set_directory_entry(tx, mos_names::PROPS, props)?;
                    props
                }
            };
            spa.mos.zap_update(tx, props, "bootfs", id.0)?;
            spa.note(tx, &command)
        })
    }

    /// Feature flags that are enabled.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn features(&self) -> Result<Vec<FeatureInfo>> {
        features::list(&self.mos)
    }

    /// Space.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn space(&self) -> Result<PoolSpace> {
        let space = self.storage.space();
        let children = dir::read(&self.mos, self.root_dir())?.child_dir_zap;
        let freeing = match self.mos.zap_lookup(children, FREE_DIR_NAME)? {
            Some(id) => dir::read(&self.mos, ObjectId(id))?.used_bytes,
            None => 0,
        };
        Ok(PoolSpace { size: space.size, allocated: space.allocated, free: space.free, freeing })
    }

    /// The pool's history, oldest first.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn history(&self) -> Result<Vec<HistoryRecord>> {
        history::read(&self.mos)
    }

    /// Adds a command to the history.
    ///
    /// # Errors
    /// `TooLarge`, `ReadOnly`, `Suspended`.
    pub fn log_history(&self, command: &str) -> Result<()> {
        self.check_writable()?;
        let command = command.to_string();
        self.run_task(When::AfterDatasets, move |spa, _, tx| spa.note(tx, &command))
    }

    /// Walks everything; `progress` is called now and then. Of a pool open for writing, what is on disk is walked:
    /// call [`Self::sync`] first and let nothing be written meanwhile.
    ///
    /// # Errors
    /// Only what keeps the walk from beginning; everything else is a finding.
    pub fn verify(&self, progress: &mut dyn FnMut(verify::Progress)) -> Result<verify::Report> {
        let root = self.uberblock.lock().rootbp;
        verify::run(&self.mos, &self.storage, self.root_dir(), &root, progress)
    }

    // --- datasets ------------------------------------------------------------------------------------------------

    /// Every dataset, parents before children, snapshots after their dataset.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn datasets(&self) -> Result<Vec<DatasetInfo>> {
        let mut all = Vec::new();
        names::walk(&self.mos, self.root_dir(), &self.mos.pool_name(), false, &mut |entry| {
            if !entry.dataset.is_none() {
                all.push(self.describe(entry)?);
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn describe(&self, entry: &Entry) -> Result<DatasetInfo> {
        let ds = dir::read_dataset(&self.mos, entry.dataset)?;
        let own = dir::read(&self.mos, entry.dir)?;
        Ok(DatasetInfo {
            name: entry.name.clone(),
            id: entry.dataset.0,
            guid: ds.guid,
            kind: self.kind_of(&ds.bp, entry.dataset),
            is_snapshot: entry.is_snapshot,
            origin: self.origin_name(own.origin)?,
            created_txg: ds.creation_txg.0,
            created: ds.creation_time,
            space: dataset::space_of(&self.mos, entry.dataset, entry.is_snapshot, self.usable_bytes())?,
            is_encrypted: self.is_encrypted(entry.dir)?,
        })
    }

    pub(crate) fn origin_name(&self, origin: ObjectId) -> Result<Option<String>> {
        if origin.is_none() {
            return Ok(None);
        }
        let snapshot = dir::read_dataset(&self.mos, origin)?;
        let path = dir::name(&self.mos, snapshot.dir)?;
        if path.contains('$') {
            return Ok(None);
        }
        let head = dir::read(&self.mos, snapshot.dir)?.head_dataset;
        let names = dir::read_dataset(&self.mos, head)?.snapnames_zap;
        let name = self.mos.zap_name_of(names, origin.0)?.ok_or(Error::Damaged)?;
        Ok(Some(format!("{path}@{name}")))
    }

    fn is_encrypted(&self, dir_id: ObjectId) -> Result<bool> {
        if self.mos.kind(dir_id)? != DmuType::OTN_ZAP_METADATA {
            return Ok(false);
        }
        Ok(self.mos.zap_lookup(dir_id, keys::CRYPTO_KEY_OBJ)?.is_some())
    }

    /// What a root block says it holds; `Other` when it cannot be read.
    pub(super) fn kind_of(&self, root: &ondisk::BlkPtr, id: ObjectId) -> DatasetKind {
        if root.is_hole() {
            return DatasetKind::Other;
        }
        let bookmark = ondisk::Bookmark::root(id.0);
        let Ok(block) = self.storage.read_uncached(root, bookmark, crate::vdev::Priority::SyncRead) else {
            return DatasetKind::Other;
        };
        let header = ondisk::objset::RawObjset::of(&block.to_contiguous()).and_then(|raw| raw.parse());
        kind_from(header.map_or(ObjsetKind::None, |h| h.kind))
    }

    /// Opens `pool/a` or `pool/a@snap`; the same dataset opened twice is one object.
    ///
    /// # Errors
    /// `NotFound`; `Encrypted`; `UnsupportedFeature` when the dataset uses a feature this build cannot read;
    /// `Suspended`, `Io`, `Checksum`, `Damaged`.
    pub fn open_dataset(self: &Arc<Self>, name: &str) -> Result<Arc<Dataset>> {
        let _admin = self.admin.lock();
        self.open_dataset_locked(name)
    }

    fn open_dataset_locked(self: &Arc<Self>, name: &str) -> Result<Arc<Dataset>> {
        if self.state.lock().is_closed {
            return Err(Error::Suspended);
        }
        let found = names::find(&self.mos, self.root_dir(), name)?;
        if found.dataset.is_none() {
            return Err(Error::NotFound);
        }
        if let Some(open) = self.open.lock().get(&found.dataset.0) {
            return Ok(open.clone());
        }
        if self.is_encrypted(found.dir)? {
            return Err(Error::Encrypted);
        }
        self.check_dataset_features(found.dataset)?;
        let ds = dir::read_dataset(&self.mos, found.dataset)?;
        if ds.flags.contains(DslDatasetFlags::INCONSISTENT) {
            log::error!("zfs: {name} is half received or half destroyed");
            return Err(Error::Damaged);
        }
        let pool_reason = self.state.lock().read_only_reason.clone();
        let reason = if found.is_snapshot { because("a snapshot") } else { pool_reason };
        let properties = props::resolve(&self.mos, found.dir, &self.enabled, false)?;
        let ledger = Arc::new(Ledger::new(self.storage.clone(), ds.prev_snap_txg, self.enabled.clone()));
        if !found.is_snapshot {
            ledger.set_prev_snap(ds.prev_snap_txg, bookmark::watched(&self.mos, found.dataset)?);
            ledger.set_live(livelist::since(&self.mos, found.dir)?);
        }
        let objset = Objset::open(
            self.storage.clone(),
            self.txgs.clone(),
            Some(ds.bp),
            ObjsetConfig {
                id: found.dataset.0,
                kind: ObjsetKind::Zfs,
                hooks: ledger.clone(),
                properties: dataset::objset_properties(&properties),
                is_read_only: reason.is_some(),
            },
        )?;
        let dataset = Dataset::new(DatasetParts {
            name: name.to_string(),
            id: found.dataset,
            dir: found.dir,
            is_snapshot: found.is_snapshot,
            kind: kind_from(objset.kind()),
            objset,
            ledger,
            spa: Arc::downgrade(self),
            read_only_reason: reason,
        });
        self.open.lock().insert(found.dataset.0, dataset.clone());
        self.refresh_available()?;
        Ok(dataset)
    }

    /// Refuses a dataset that uses what this build cannot read.
    fn check_dataset_features(&self, id: ObjectId) -> Result<()> {
        if self.mos.kind(id)? != DmuType::OTN_ZAP_METADATA {
            return Ok(());
        }
        let mut refused = None;
        self.mos.for_each_name(id, &mut |name| {
            let is_unread =
                Feature::from_guid(name).is_some_and(|f| super::feature::support(f) == super::Support::None);
            if is_unread {
                refused = Some(name.to_string());
            }
            Ok(())
        })?;
        match refused {
            None => Ok(()),
            Some(guid) => {
                self.events.post(Event::Feature { guid, is_readable: false });
                Err(Error::UnsupportedFeature)
            }
        }
    }

    /// Makes a dataset. `init` fills it; what it writes and the dataset itself reach the disk together.
    ///
    /// # Errors
    /// `Exists`, `NotFound` (no parent), `Invalid`, `NameTooLong`, `NoSpace`, `Quota`, `ReadOnly`, `Suspended`, what
    /// `init` returns.
    pub fn create_dataset(
        self: &Arc<Self>,
        name: &str,
        properties: &[(Property, PropertyValue)],
        init: Init<'_>,
    ) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        names::check(name)?;
        properties.iter().try_for_each(|(property, value)| property.check(value))?;
        let root = self.root_dir();
        let (parent, leaf) = names::split(name)?;
        let parent = names::find_dir(&self.mos, root, parent)?;
        if names::find_dir(&self.mos, root, name).is_ok() {
            return Err(Error::Exists);
        }
        limits::check_new_dir(&self.mos, parent)?;
        check_room(&self.mos, parent, self.usable_bytes(), properties)?;
        let prepared = self.prepare_dataset(name)?;
        let tx = prepared.begin(&self.txgs, init)?;
        let txg = tx.txg();
        let (leaf, properties) = (leaf.to_string(), properties.to_vec());
        let dataset = prepared.dataset.clone();
        let command = format!("zfs create {name}");
        let task = move |spa: &Arc<Self>, _: &crate::zio::SyncCtx, tx: &DmuTx| {
            let dir_id = create::new_dir(&spa.mos, tx, parent, &leaf, &spa.env)?;
            let id = create::new_dataset(&spa.mos, tx, root, dir_id, &spa.env)?;
            for (property, value) in &properties {
                set_stored(spa, tx, dir_id, property, value)?;
            }
            spa.adopt(&dataset, id, dir_id)?;
            spa.note(tx, &command)
        };
        self.tasks.push(txg, When::BeforeDatasets, Box::new(task));
        drop(tx);
        let result = self.txgs.wait_synced(txg);
        self.forget(prepared.dataset.id());
        result
    }

    /// An object set in memory for a dataset that has no place yet.
    pub(super) fn prepare_dataset(self: &Arc<Self>, name: &str) -> Result<Prepared> {
        let ledger = Arc::new(Ledger::new(self.storage.clone(), Txg::ZERO, self.enabled.clone()));
        let objset = Objset::open(
            self.storage.clone(),
            self.txgs.clone(),
            None,
            ObjsetConfig {
                id: 0,
                kind: ObjsetKind::Zfs,
                hooks: ledger.clone(),
                properties: crate::dmu::ObjsetProperties::default(),
                is_read_only: false,
            },
        )?;
        let dataset = Dataset::new(DatasetParts {
            name: name.to_string(),
            id: ObjectId(0),
            dir: ObjectId(0),
            is_snapshot: false,
            kind: DatasetKind::Filesystem,
            objset,
            ledger,
            spa: Arc::downgrade(self),
            read_only_reason: None,
        });
        Ok(Prepared { dataset })
    }

    /// Gives a prepared dataset its place, in syncing context, before datasets are written.
    pub(super) fn adopt(&self, dataset: &Arc<Dataset>, id: ObjectId, dir_id: ObjectId) -> Result<()> {
        dataset.set_place(id, dir_id);
        let properties = props::resolve(&self.mos, dir_id, &self.enabled, false)?;
        dataset.objset().set_properties(dataset::objset_properties(&properties));
        self.open.lock().insert(id.0, dataset.clone());
        Ok(())
    }

    /// Lets go of a dataset that only its creation had open: the next one to open it gets it from disk.
    pub(super) fn forget(&self, id: u64) {
        let mut open = self.open.lock();
        if open.get(&id).is_some_and(|ds| Arc::strong_count(ds) <= 2) {
            open.remove(&id);
        }
    }

    /// Lets go of an open dataset that no one uses any more.
    pub(super) fn close(&self, id: ObjectId) -> Result<()> {
        let _not_syncing = self.syncing.lock();
        let mut open = self.open.lock();
        if open.get(&id.0).is_some_and(|ds| Arc::strong_count(ds) > 1) {
            return Err(Error::Busy);
        }
        open.remove(&id.0);
        Ok(())
    }

    /// Renames a dataset, with all below it, within the pool.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `Invalid`, `NameTooLong`, `Quota` when a limit on datasets is reached, `NoSpace` when a quota above
    /// the new place has no room for it, `ReadOnly`, `Suspended`.
    pub fn rename_dataset(&self, name: &str, to: &str) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let (dir_id, parent) =
            destroy::check_rename(&self.mos, self.root_dir(), name, to, self.usable_bytes())?;
        let leaf = names::split(to)?.1.to_string();
        let command = format!("zfs rename {name} {to}");
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            destroy::rename(&spa.mos, tx, dir_id, parent, &leaf)?;
            spa.note(tx, &command)
        })?;
        for dataset in self.open_datasets() {
            let old = dataset.name();
            let tail = old.strip_prefix(name).filter(|t| t.is_empty() || t.starts_with(['/', '@']));
            if let Some(tail) = tail {
                dataset.set_name(&format!("{to}{tail}"));
            }
        }
        Ok(())
    }

    // --- properties ----------------------------------------------------------------------------------------------

    /// Sets a property.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` (also for a snapshot), `NoSpace` for a reservation that does not fit, `Quota` for a quota
    /// below what is used or reserved, `Unsupported` for a limit that the pool has no feature for, `ReadOnly`, `Suspended`.
    pub fn set_property(&self, name: &str, property: &Property, value: &PropertyValue) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        property.check(value)?;
        let found = names::find(&self.mos, self.root_dir(), name)?;
        if found.is_snapshot && !matches!(property, Property::User(_)) {
            return Err(Error::Invalid);
        }
        check_limits(&self.mos, found.dir, self.usable_bytes(), property, value)?;
        let command = format!("zfs set {}={} {name}", property.name(), property.format_value(value));
        let (property, value) = (property.clone(), value.clone());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            if found.is_snapshot {
                snapshot::set_properties(&spa.mos, tx, found.dataset, &[(property, value)])?;
            } else {
                set_stored(spa, tx, found.dir, &property, &value)?;
            }
            spa.note(tx, &command)
        })?;
        self.properties_changed()
    }

    /// Removes a local property; with `to_received` what a stream brought is in force again.
    ///
    /// # Errors
    /// As [`Self::set_property`].
    pub fn inherit_property(&self, name: &str, property: &Property, to_received: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let found = names::find(&self.mos, self.root_dir(), name)?;
        let is_users = matches!(property, Property::User(_));
        if found.is_snapshot && !is_users || !property.is_inheritable() {
            return Err(Error::Invalid);
        }
        let flag = if to_received { "-S " } else { "" };
        let command = format!("zfs inherit {flag}{} {name}", property.name());
        let property = property.clone();
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            let zap = match found.is_snapshot {
                true => dir::read_dataset(&spa.mos, found.dataset)?.props,
                false => dir::read(&spa.mos, found.dir)?.props_zap,
            };
            if !zap.is_none() {
                let change = if to_received { props::revert_in } else { props::inherit_in };
                change(&spa.mos, tx, zap, &property)?;
            }
            spa.note(tx, &command)
        })?;
        self.properties_changed()
    }

    /// Open datasets write by the new values from now on.
    pub(super) fn properties_changed(&self) -> Result<()> {
        for ds in self.open_datasets() {
            let properties = props::resolve(&self.mos, ds.dir(), &self.enabled, false)?;
            ds.objset().set_properties(dataset::objset_properties(&properties));
        }
        Ok(())
    }

    /// A property's value and where it comes from.
    ///
    /// # Errors
    /// `NotFound`, `Io`, `Checksum`, `Damaged`.
    pub fn get_property(&self, name: &str, property: &Property) -> Result<(PropertyValue, Source)> {
        let found = names::find(&self.mos, self.root_dir(), name)?;
        self.get_property_of(&found, property)
    }

    fn get_property_of(&self, found: &Found, property: &Property) -> Result<(PropertyValue, Source)> {
        if !found.is_snapshot {
            return props::get(&self.mos, found.dir, property);
        }
        let own = dir::read_dataset(&self.mos, found.dataset)?.props;
        props::get_of_snapshot(&self.mos, found.dir, own, property)
    }

    /// The user properties in force on a dataset.
    ///
    /// # Errors
    /// `NotFound`, `Io`, `Checksum`, `Damaged`.
    pub fn user_properties(&self, name: &str) -> Result<Vec<(Property, PropertyValue, Source)>> {
        let found = names::find(&self.mos, self.root_dir(), name)?;
        let inherited = props::user_properties(&self.mos, found.dir)?;
        if !found.is_snapshot {
            return Ok(inherited);
        }
        let mut names = props::user_names_in(&self.mos, dir::read_dataset(&self.mos, found.dataset)?.props)?;
        names.extend(inherited.into_iter().map(|(property, ..)| property.name().to_string()));
        names.sort_unstable();
        names.dedup();
        let get = |name: String| {
            let property = Property::User(name);
            let (value, source) = self.get_property_of(&found, &property)?;
            Ok((property, value, source))
        };
        names.into_iter().map(get).collect()
    }
}

fn kind_from(kind: ObjsetKind) -> DatasetKind {
    match kind {
        ObjsetKind::Zfs => DatasetKind::Filesystem,
        ObjsetKind::Zvol => DatasetKind::Volume,
        ObjsetKind::None | ObjsetKind::Meta | ObjsetKind::Other => DatasetKind::Other,
    }
}

/// Stores a property where it belongs, with what that entails for the space accounting.
pub(super) fn set_stored(
    spa: &Spa,
    tx: &DmuTx,
    dir_id: ObjectId,
    property: &Property,
    value: &PropertyValue,
) -> Result<()> {
    match (property, value) {
        (Property::Quota, PropertyValue::Number(bytes)) => {
            dir::modify(&spa.mos, tx, dir_id, |dir| dir.quota = *bytes)
        }
        (Property::Reservation, PropertyValue::Number(bytes)) => {
            dir::set_reservation(&spa.mos, tx, dir_id, *bytes)
        }
        (Property::RefReservation, PropertyValue::Number(bytes)) => {
            create::set_ref_reservation(&spa.mos, tx, dir_id, *bytes)?;
            props::set(&spa.mos, tx, dir_id, property, value)
        }
        (Property::FilesystemLimit | Property::SnapshotLimit, PropertyValue::Number(limit)) => {
            if *limit != limits::NONE {
                limits::activate(&spa.mos, tx, dir_id)?;
            }
            props::set(&spa.mos, tx, dir_id, property, value)
        }
        _ => props::set(&spa.mos, tx, dir_id, property, value),
    }
}

/// Whether quotas and reservations of a new dataset fit.
pub(super) fn check_room(
    mos: &super::mos::Mos,
    parent: ObjectId,
    usable: u64,
    properties: &[(Property, PropertyValue)],
) -> Result<()> {
    let available = dir::available(mos, parent, usable)?;
    for (property, value) in properties {
        check_limit(mos, property, value)?;
        let is_reservation = matches!(property, Property::Reservation | Property::RefReservation);
        if is_reservation && value.number().unwrap_or(0) > available {
            return Err(Error::NoSpace);
        }
    }
    Ok(())
}

/// Whether the pool can keep a limit on numbers.
fn check_limit(mos: &super::mos::Mos, property: &Property, value: &PropertyValue) -> Result<()> {
    let is_limit = matches!(property, Property::FilesystemLimit | Property::SnapshotLimit);
    if is_limit && value.number() != Some(limits::NONE) { limits::check_enabled(mos) } else { Ok(()) }
}

/// Whether a new quota or reservation fits what is there.
fn check_limits(
    mos: &super::mos::Mos,
    dir_id: ObjectId,
    usable: u64,
    property: &Property,
    value: &PropertyValue,
) -> Result<()> {
    let Some(bytes) = value.number() else {
        return Ok(());
    };
    check_limit(mos, property, value)?;
    let own = dir::read(mos, dir_id)?;
    match property {
        Property::Quota if bytes != 0 && (bytes < own.reserved || bytes < own.used_bytes) => {
            Err(Error::Quota)
        }
        Property::Reservation => {
            let more = bytes.max(own.used_bytes).saturating_sub(own.reserved.max(own.used_bytes));
            // What is reserved is set aside from what the parent has left; here it counts as left already.
            let room = match own.parent.non_zero() {
                Some(parent) => dir::available(mos, parent, usable)?,
                None => usable.saturating_sub(own.used_bytes),
            };
            let is_over_quota = own.quota != 0 && bytes > own.quota;
            if is_over_quota || more > room { Err(Error::NoSpace) } else { Ok(()) }
        }
        Property::RefQuota | Property::RefReservation => {
            let head = dir::read_dataset(mos, own.head_dataset)?;
            let (ref_quota, reserved) = dataset::ref_limits(mos, dir_id)?;
            if *property == Property::RefQuota {
                let is_below = bytes != 0 && (bytes < head.referenced_bytes || bytes < reserved);
                return if is_below { Err(Error::Quota) } else { Ok(()) };
            }
            let more = bytes.max(head.unique_bytes).saturating_sub(reserved.max(head.unique_bytes));
            let is_over_quota = ref_quota != 0 && bytes > ref_quota;
            if is_over_quota || more > dir::available(mos, dir_id, usable)? {
                return Err(Error::NoSpace);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
