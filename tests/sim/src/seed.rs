//! A whole seed: generations of work on one pool, each ended by a power cut, and every kept moment of it tried.
use crate::admin::{Admin, AdminRecord};
use crate::check::{check_pool, check_tree};
use crate::harm::{self, Harm};
use crate::history::Cut;
use crate::manage::{self, Manager};
use crate::plan::Plan;
use crate::pool::{self, Open};
use crate::split::Split;
use crate::tree::Tree;
use crate::watch::{Capture, Watch};
use crate::worker::{Record, Shared, Worker};
use blockdev_sim::{CrashMode, Image, Random, SimDisk};
use rt_sim::Config;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vfs::{Caller, NewNode, WalkFrom};

/// Directories in which every thread works.
const SHARED_DIRS: [&str; 2] = ["/shared", "/Z"];

/// Power cuts among which one is looked for whose disks disagree.
const BASES_TRIED: usize = 8;

/// Side datasets and snapshots that are read after a power cut.
const DATASETS_READ: usize = 2;

/// Figures of a seed that found nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The layout of its pool.
    pub layout: String,
    /// Power cuts tried.
    pub crash_points: u64,
    /// Operations done.
    pub operations: u64,
    /// Requests the disks were asked while they were watched.
    pub requests: u64,
    /// Switches between threads.
    pub switches: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// Equal for equal runs.
    pub digest: u64,
}

/// Runs a seed.
///
/// # Errors
/// A thread that hangs: who waits for what.
///
/// # Panics
/// With what it finds.
pub fn run(plan: &Plan) -> Result<Report, String> {
    let config = Config {
        seed: plan.seed,
        nr_cpus: plan.nr_cpus,
        preempt: plan.preempt,
        switch_time: Duration::from_nanos(500),
        time_limit: Duration::from_secs(24 * 3600),
    };
    let plan = plan.clone();
    let result = rt_sim::run(config, move || {
        let mut run = Run::new(plan);
        run.generations();
        run.finish()
    });
    result.map_err(|failure| format!("{failure:?}"))
}

struct Run {
    plan: Plan,
    random: Random,
    /// What no group holds may come out of an intent log.
    has_log: bool,
    /// Flushes of this generation do nothing.
    is_lying: bool,
    report: Report,
}

impl Run {
    fn new(plan: Plan) -> Self {
        let report = Report { seed: plan.seed, layout: plan.layout.name(), ..Report::default() };
        let has_log = !plan.properties.contains(&("sync", "disabled".to_owned()));
        Self { random: Random::new(plan.seed), has_log, is_lying: false, plan, report }
    }

    fn generations(&mut self) {
        let mut images: Option<Vec<Image>> = None;
        for generation in 0..self.plan.nr_generations as u64 {
            self.is_lying = self.plan.harm == Harm::Lies && generation + 1 == self.plan.nr_generations as u64;
            images = Some(self.generation(generation, images.as_deref()));
        }
        let digests = images.iter().flatten().map(Image::digest);
        self.report.digest = digests.fold(0, |sum, digest| sum.rotate_left(7) ^ digest);
    }

    /// Works on the pool, tries power cuts, and gives what one of them left.
    fn generation(&mut self, generation: u64, images: Option<&[Image]>) -> Vec<Image> {
        let disks = pool::disks(&self.plan, images, generation);
        let base_txg = pool::newest_txg(&disks);
        let (open, watch) = self.open(&disks, images.is_some());
        let tree = must("reading the tree to start from", Tree::read(&open));
        let shared = Shared::new(&self.plan, &open);
        watch.follow(&shared);
        self.harm(&disks);
        let troubles = self.make_trouble(&open, &disks, &shared);
        let (records, admin) = self.work(&shared, &open, &tree);
        troubles.end();
        let sync_acks = shared.sync_acks.lock().clone();
        let split = shared.split.lock().clone();
        drop(shared);
        let (captures, nr_requests) = watch.finish();
        self.report.requests += nr_requests;
        self.report.operations += records.iter().map(|r| r.log.len() as u64).sum::<u64>();
        let ends_clean = self.random.chance(1, 5);
        if ends_clean && !self.is_lying {
            must("closing", open.export());
            self.check_closed(&disks, &records, &admin);
        } else {
            open.abandon();
        }
        drop(disks);
        must("a snapshot", admin.check_taken(&records, &sync_acks));
        let moments = Moments { generation, base_txg, records, admin, sync_acks, split };
        self.try_cuts(&captures, &moments);
        if self.is_lying {
            return Vec::new();
        }
        let (base, left) = self.pick_base(&captures);
        // What the next generation starts from is a crash point like the others.
        self.try_cut(&captures[base], &left, &moments, "base");
        left
    }

    /// From now on disks do wrong what the plan says.
    fn harm(&mut self, disks: &[Arc<SimDisk>]) {
        for disk in &self.plan.harmed {
            match self.plan.harm {
                Harm::Faulty => disks[*disk].set_rates(harm::rates(&mut self.random)),
                Harm::Lies => disks[*disk].set_lying(self.is_lying),
                Harm::None | Harm::Rot | Harm::Vanishing | Harm::Managed => {}
            }
        }
    }

    /// What is on the disks may lack redundancy.
    fn has_damage(&self) -> bool {
        matches!(self.plan.harm, Harm::Faulty | Harm::Vanishing | Harm::Managed)
    }

    /// From now on disks vanish and come back, or are taken out and put in, if the plan says so.
    fn make_trouble(&mut self, open: &Open, disks: &[Arc<SimDisk>], shared: &Arc<Shared>) -> Troubles {
        let is_over = Arc::new(AtomicBool::new(false));
        let (until, harmed) = (is_over.clone(), self.plan.harmed.clone());
        let thread = match self.plan.harm {
            Harm::Vanishing => {
                let disks: Vec<_> = harmed.iter().map(|disk| disks[*disk].clone()).collect();
                let random = self.random.fork();
                Some(rt::spawn("troubles", move || harm::vanish(&disks, random, &until)))
            }
            Harm::Managed => {
                let (spa, plan, random) = (open.spa.clone(), self.plan.clone(), self.random.fork());
                let (disks, shared) = (disks.to_vec(), shared.clone());
                let manager = Manager { spa, plan, disks, random, shared };
                Some(rt::spawn("troubles", move || manager.run(&until)))
            }
            Harm::None | Harm::Rot | Harm::Faulty | Harm::Lies => None,
        };
        Troubles { thread, is_over }
    }

    fn open(&mut self, disks: &[Arc<SimDisk>], is_old: bool) -> (Open, Arc<Watch>) {
        let random = self.random.fork();
        if is_old {
            let watch = Watch::new(disks, self.plan.nr_captures, random);
            return (must("opening the pool", pool::import(&self.plan, disks)), watch);
        }
        let open = must("making the pool", pool::create(&self.plan, disks));
        for dir in SHARED_DIRS {
            let root = open.ns.root().clone();
            let from = WalkFrom { caller: Caller::ROOT, root: &root, start: &root };
            let made = open.ns.create_at(&from, dir.as_bytes(), NewNode::Directory, 0o755);
            must("making a shared directory", made.map(drop).map_err(|e| e.to_string()));
        }
        must("the first sync", open.spa.sync().map_err(|e| e.to_string()));
        (open, Watch::new(disks, self.plan.nr_captures, random))
    }

    /// All threads at work, until each has done its share.
    fn work(&mut self, shared: &Arc<Shared>, open: &Open, tree: &Tree) -> (Vec<Record>, AdminRecord) {
        let admin = must("taking in the datasets", Admin::adopt(shared, open, self.random.fork()));
        let slot: Arc<rt::Mutex<AdminRecord>> = Arc::default();
        let filled = slot.clone();
        let admin = rt::spawn("administrator", move || {
            let record = admin.run();
            *filled.lock() = record;
        });
        let slots: Arc<rt::Mutex<Vec<Option<Record>>>> =
            Arc::new(rt::Mutex::new((0..self.plan.nr_threads).map(|_| None).collect()));
        let start = |id: usize| {
            let worker = Worker::adopt(id, shared, tree, self.random.fork());
            let slots = slots.clone();
            rt::spawn("worker", move || {
                let record = worker.run();
                slots.lock()[id] = Some(record);
            })
        };
        let threads: Vec<_> = (0..self.plan.nr_threads).map(start).collect();
        threads.into_iter().for_each(rt::JoinHandle::join);
        admin.join();
        let records = core::mem::take(&mut *slots.lock());
        let admin = core::mem::take(&mut *slot.lock());
        (records.into_iter().map(|record| record.unwrap_or_default()).collect(), admin)
    }

    /// A pool that was closed is as it was when the last operation ended.
    fn check_closed(&mut self, disks: &[Arc<SimDisk>], records: &[Record], admin: &AdminRecord) {
        let images: Vec<Image> = disks.iter().map(|disk| disk.state().medium).collect();
        let disks = pool::instant_disks(&self.plan, &images);
        let open = must("opening a closed pool", pool::import(&self.plan, &disks));
        let tree = must("reading a closed pool", Tree::read(&open));
        let all =
            Cut { at: u64::MAX, acked_by: u64::MAX, txg: u64::MAX, has_log: false, all_before: u64::MAX };
        must("a closed pool", check_tree(&tree, records, &all));
        must("a closed pool", admin.check(&open, &all, usize::MAX, &mut self.random));
        must("a closed pool", check_pool(&open, self.has_damage()));
        open.abandon();
    }

    /// What the next generation goes on from: often one whose disks disagree on which group is the newest, where there are
    /// such among some.
    fn pick_base(&mut self, captures: &[Capture]) -> (usize, Vec<Image>) {
        let has_sides = self.plan.harm == Harm::None && self.plan.layout.nr_disks() > 1;
        let is_to_disagree = has_sides && self.random.chance(1, 2);
        let mut nr_left = if is_to_disagree { BASES_TRIED } else { 1 };
        loop {
            nr_left -= 1;
            let base = self.random.below(captures.len() as u64) as usize;
            let left = cut(&captures[base], &mut self.random.fork()).1;
            let disagree = || {
                let disks = pool::instant_disks(&self.plan, &left);
                let newest = |disk: &Arc<SimDisk>| pool::newest_txg(core::slice::from_ref(disk));
                disks.iter().map(newest).collect::<BTreeSet<u64>>().len() > 1
            };
            if nr_left == 0 || disagree() {
                return (base, left);
            }
        }
    }

    fn try_cuts(&mut self, captures: &[Capture], moments: &Moments) {
        for capture in captures {
            for _ in 0..self.plan.nr_cuts {
                let mut random = self.random.fork();
                let (mode, images) = cut(capture, &mut random);
                self.try_cut(capture, &images, moments, &format!("{mode:?}"));
            }
        }
    }

    /// Opens what a power cut left and compares it.
    fn try_cut(&mut self, capture: &Capture, images: &[Image], moments: &Moments, mode: &str) {
        self.report.crash_points += 1;
        let mut disks = pool::instant_disks(&self.plan, images);
        let mut missing = match self.random.below(3) {
            0 if self.plan.harm == Harm::Managed => manage::pick_dispensable(&self.plan, &mut self.random),
            0 => self.plan.layout.pick_dispensable(&mut self.random),
            _ => Vec::new(),
        };
        // While the pool is being opened a side may still lack what it is opened by, the group or the end of a log: that
        // was never acknowledged, nobody has seen it yet, and only all of the disks together must have it. Each side
        // must have a whole pool all the same.
        let is_opening = capture.at == 0;
        if is_opening && self.plan.harm != Harm::None {
            missing.clear();
        }
        let mut is_harmed = false;
        match self.plan.harm {
            Harm::None | Harm::Lies => {}
            Harm::Rot if capture.at == 0 => {}
            Harm::Rot => {
                let harmed = core::mem::take(&mut missing);
                harmed.iter().for_each(|disk| harm::rot(&disks[*disk], &mut self.random));
                is_harmed = !harmed.is_empty();
            }
            Harm::Managed => is_harmed = true,
            Harm::Faulty | Harm::Vanishing => {
                missing.retain(|disk| self.plan.harmed.contains(disk));
                is_harmed = true;
            }
        }
        let mut number = 0..;
        disks.retain(|_| number.next().is_none_or(|n: usize| !missing.contains(&n)));
        // What the group before the newest consists of is not used again yet: whoever rewinds finds it whole.
        let is_older_checked = self.random.chance(1, 6) && !is_harmed;
        let mut result = if is_opening && !missing.is_empty() {
            self.walk(&disks)
        } else if self.is_lying {
            self.look(capture, &disks, moments)
        } else {
            self.recover(capture, &disks, moments, (is_older_checked, is_harmed))
        };
        // What only a checkpoint keeps is brought to no device that comes: those that stay may have been replaced.
        let has_stayed = self.plan.harm != Harm::Managed || !self.plan.harmed.is_empty();
        let may_go_back = !moments.admin.kept.is_empty() && !self.is_lying && has_stayed;
        if result.is_ok() && may_go_back && self.random.chance(1, 4) {
            result = self.go_back(capture.at, images, moments);
        }
        if let (Ok(()), Some(split)) = (&result, &moments.split) {
            let disks = pool::instant_disks(&self.plan, images);
            result = split.check(&self.plan, &disks, capture.at, (&moments.records, self.has_log));
        }
        if let Err(what) = result {
            panic!(
                "generation {}, cut {mode} at request {} ({:?}), moment {}, without disks {missing:?}: {what}",
                moments.generation, capture.request, capture.moment, capture.at
            );
        }
    }

    fn recover(
        &mut self,
        capture: &Capture,
        disks: &[Arc<SimDisk>],
        moments: &Moments,
        (is_older_checked, is_harmed): (bool, bool),
    ) -> Result<(), String> {
        if is_older_checked {
            pool::check_older(&self.plan, disks, pool::newest_txg(disks), moments.base_txg)?;
        }
        let open = pool::import(&self.plan, disks)?;
        let txg = open.spa.opened_at().0;
        let cut = moments.cut(capture.at, capture.at, txg, self.has_log);
        self.check(&open, &cut, moments, is_harmed)?;
        open.abandon();
        Ok(())
    }

    /// Opens what a power cut left and walks it, whatever it holds.
    fn walk(&self, disks: &[Arc<SimDisk>]) -> Result<(), String> {
        let open = pool::import(&self.plan, disks)?;
        let result = check_pool(&open, false);
        open.abandon();
        result
    }

    /// Opens what disks left whose flushes did nothing. Not to be opened, and not to be read, is the honest answer; what
    /// is read is what the group of the uberblock held; but where groups that counted as durable are gone, a log may lie on
    /// another state than its records were made on, and nothing says so.
    fn look(&self, capture: &Capture, disks: &[Arc<SimDisk>], moments: &Moments) -> Result<(), String> {
        let Ok(open) = pool::import(&self.plan, disks) else { return Ok(()) };
        let txg = open.spa.opened_at().0;
        let is_on_another_state = self.has_log && txg < capture.synced;
        let result = Tree::read(&open).ok().filter(|_| !is_on_another_state).map_or(Ok(()), |tree| {
            let cut = Cut { all_before: 0, ..moments.cut(capture.at, 0, txg, self.has_log) };
            check_tree(&tree, &moments.records, &cut)
        });
        open.abandon();
        result
    }

    fn check(&mut self, open: &Open, cut: &Cut, moments: &Moments, is_harmed: bool) -> Result<(), String> {
        let tree = Tree::read(open)?;
        check_tree(&tree, &moments.records, cut)?;
        moments.admin.check(open, cut, DATASETS_READ, &mut self.random)?;
        check_pool(open, is_harmed)?;
        tree.check_orphans(open.fs.objset())
    }

    /// Goes back to a checkpoint on what a power cut left, if there is one.
    fn go_back(&mut self, at: u64, images: &[Image], moments: &Moments) -> Result<(), String> {
        let disks = pool::instant_disks(&self.plan, images);
        let open = match pool::import_with(&self.plan, &disks, true) {
            Ok(open) => open,
            Err(e) if e == format!("import: {}", zfs::Error::NotFound) => return Ok(()),
            Err(e) => return Err(format!("going back to the checkpoint: {e}")),
        };
        let txg = open.spa.opened_at().0;
        if let Some(kept) = moments.admin.kept.iter().find(|kept| kept.txg == txg) {
            let cut = moments.cut(at, kept.start, txg, false);
            let is_harmed = self.has_damage();
            self.check(&open, &cut, moments, is_harmed)
                .map_err(|e| format!("back at the checkpoint of {txg}: {e}"))?;
        }
        open.abandon();
        Ok(())
    }

    fn finish(mut self) -> Report {
        // Threads that were told to end are given the time to.
        for _ in 0..10_000 {
            if rt_sim::threads().len() <= 1 {
                break;
            }
            rt::sleep(Duration::from_micros(10));
        }
        let left = rt_sim::threads();
        assert!(left.len() <= 1, "threads are left: {left:?}");
        let stats = rt_sim::stats();
        self.report.switches = stats.switches;
        self.report.virtual_ms = stats.now / 1_000_000;
        self.report.digest ^= stats.random_state;
        self.report
    }
}

/// The thread that makes trouble with disks.
struct Troubles {
    thread: Option<rt::JoinHandle>,
    is_over: Arc<AtomicBool>,
}

impl Troubles {
    fn end(self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread {
            thread.join();
        }
    }
}

/// What is known of a generation's moments.
struct Moments {
    generation: u64,
    /// The newest group when it began.
    base_txg: u64,
    records: Vec<Record>,
    admin: AdminRecord,
    sync_acks: Vec<(u64, u64)>,
    split: Option<Split>,
}

impl Moments {
    fn cut(&self, at: u64, acked_by: u64, txg: u64, has_log: bool) -> Cut {
        let acked = self.sync_acks.iter().filter(|(when, _)| *when <= acked_by);
        let all_before = acked.map(|(_, before)| *before).max().unwrap_or(0);
        Cut { at, acked_by, txg, has_log, all_before }
    }
}

fn cut(capture: &Capture, random: &mut Random) -> (CrashMode, Vec<Image>) {
    let mode = CrashMode::pick(random);
    let images = capture.disks.iter().map(|disk| disk.crash(mode, random)).collect();
    (mode, images)
}

fn must<T>(what: &str, result: Result<T, String>) -> T {
    match result {
        Ok(value) => value,
        Err(e) => panic!("{what}: {e}"),
    }
}
