//! Random operations against vectors, over several groups, with syncs at any point and reopening from disk.
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Blocks of 1 KiB with eight pointers' worth of levels: 160 blocks need two levels above the data.
const SPAN: usize = 160 << 10;

#[derive(Clone, Debug)]
enum Step {
    Write {
        file: usize,
        at: usize,
        len: usize,
        seed: u64,
    },
    Zeroes {
        file: usize,
        at: usize,
        len: usize,
    },
    Free {
        file: usize,
        at: usize,
        len: usize,
    },
    Truncate {
        file: usize,
        at: usize,
    },
    Bonus {
        file: usize,
        len: usize,
        seed: u64,
    },
    Spill {
        file: usize,
        len: Option<usize>,
        seed: u64,
    },
    Replace {
        file: usize,
    },
    /// Closes the open group (if none waits to be written).
    Close,
    /// Writes the group that waits.
    WriteOut,
    Evict,
    Check {
        file: usize,
    },
}

const FILES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let file = 0..FILES;
    let at = prop_oneof![0..SPAN, (0usize..160).prop_map(|b| b << 10)];
    let len = prop_oneof![1usize..3000, Just(1024), Just(4096), 1usize..60_000];
    prop_oneof![
        8 => (file.clone(), at.clone(), len.clone(), any::<u64>())
            .prop_map(|(file, at, len, seed)| Step::Write { file, at, len, seed }),
        1 => (file.clone(), at.clone(), len.clone()).prop_map(|(file, at, len)| Step::Zeroes { file, at, len }),
        4 => (file.clone(), at.clone(), len).prop_map(|(file, at, len)| Step::Free { file, at, len }),
        2 => (file.clone(), at).prop_map(|(file, at)| Step::Truncate { file, at }),
        1 => (file.clone(), 0usize..150, any::<u64>()).prop_map(|(file, len, seed)| Step::Bonus { file, len, seed }),
        1 => (file.clone(), prop::option::of(1usize..5000), any::<u64>())
            .prop_map(|(file, len, seed)| Step::Spill { file, len, seed }),
        1 => file.clone().prop_map(|file| Step::Replace { file }),
        4 => Just(Step::Close),
        4 => Just(Step::WriteOut),
        1 => Just(Step::Evict),
        3 => file.prop_map(|file| Step::Check { file }),
    ]
}

/// What an object should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    data: Vec<u8>,
    bonus: Vec<u8>,
    spill: Option<Vec<u8>>,
}

impl Model {
    fn new() -> Self {
        Self { data: vec![0; SPAN + 64_000], ..Self::default() }
    }

    fn check(&self, dnode: &Dnode) {
        let got = dnode.read_vec(0, self.data.len()).unwrap();
        let differs = got.iter().zip(&self.data).position(|(a, b)| a != b);
        assert_eq!(differs, None, "object {}", dnode.id());
        assert_eq!(dnode.bonus_vec(), self.bonus);
        let spill = dnode.spill().unwrap().map(|abd| abd.to_vec());
        let want = self.spill.clone().map(|mut s| {
            s.resize(s.len().next_multiple_of(512), 0);
            s
        });
        assert_eq!(spill, want);
        let mut at = 0;
        // Everything that is not zero lies in data, and what is called a hole is zero.
        while let Some(data) = dnode.next_offset(at, Seek::Data).unwrap() {
            let hole_end = (data as usize).min(self.data.len());
            assert!(self.data[(at as usize).min(hole_end)..hole_end].iter().all(|b| *b == 0));
            at = dnode.next_offset(data, Seek::Hole).unwrap().unwrap();
            assert!(at > data);
        }
        assert!(self.data[(at as usize).min(self.data.len())..].iter().all(|b| *b == 0));
    }
}

fn make(pool: &Pool, tx: &DmuTx) -> Arc<Dnode> {
    let new = NewObject { indirect_shift: 12, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 1024) }
        .with_bonus(DmuType::SA, 0);
    pool.objset.allocate(tx, &new).unwrap()
}

type State = BTreeMap<u64, Model>;

struct Run {
    pool: Pool,
    files: Vec<ObjectId>,
    now: State,
    closed: Option<(Txg, State)>,
}

impl Run {
    fn new() -> Self {
        let pool = Pool::new(ObjsetKind::Zfs);
        let tx = pool.tx();
        let files: Vec<_> = (0..FILES).map(|_| make(&pool, &tx).id()).collect();
        drop(tx);
        let now = files.iter().map(|id| (id.0, Model::new())).collect();
        Self { pool, files, now, closed: None }
    }

    fn dnode(&self, file: usize) -> Arc<Dnode> {
        self.pool.objset.hold(self.files[file]).unwrap()
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Write { file, at, len, seed } => {
                self.change(file, |dnode, tx, model| {
                    dnode.write_slice(tx, at as u64, &noise(len, seed)).unwrap();
                    model.data[at..at + len].copy_from_slice(&noise(len, seed));
                });
            }
            Step::Zeroes { file, at, len } => self.change(file, |dnode, tx, model| {
                dnode.write_slice(tx, at as u64, &vec![0; len]).unwrap();
                model.data[at..at + len].fill(0);
            }),
            Step::Free { file, at, len } => self.change(file, |dnode, tx, model| {
                dnode.free_range(tx, at as u64, len as u64).unwrap();
                model.data[at..at + len].fill(0);
            }),
            Step::Truncate { file, at } => self.change(file, |dnode, tx, model| {
                dnode.free_range(tx, at as u64, u64::MAX).unwrap();
                model.data[at..].fill(0);
                assert!(dnode.max_blkid() <= (at as u64).div_ceil(1024).max(1));
            }),
            Step::Bonus { file, len, seed } => self.change(file, |dnode, tx, model| {
                let bonus = noise(len, seed);
                dnode.set_bonus(tx, &mut |b| b.clone_from(&bonus)).unwrap();
                model.bonus = bonus;
            }),
            Step::Spill { file, len, seed } => self.change(file, |dnode, tx, model| {
                let spill = len.map(|len| noise(len, seed));
                dnode.set_spill(tx, spill.as_deref()).unwrap();
                model.spill = spill;
            }),
            Step::Replace { file } => {
                let tx = self.pool.tx();
                self.pool.objset.free(&tx, self.files[file]).unwrap();
                self.now.remove(&self.files[file].0);
                self.files[file] = make(&self.pool, &tx).id();
                self.now.insert(self.files[file].0, Model::new());
            }
            Step::Close if self.closed.is_none() => {
                self.closed = Some((self.pool.close(), self.now.clone()));
            }
            Step::Close => {}
            Step::WriteOut => self.write_out(),
            Step::Evict => {
                self.pool.objset.evict_unused();
                self.pool.storage.arc().shrink(u64::MAX);
            }
            Step::Check { file } => self.now[&self.files[file].0].check(&self.dnode(file)),
        }
    }

    fn change(&mut self, file: usize, change: impl FnOnce(&Dnode, &DmuTx, &mut Model)) {
        let (dnode, tx) = (self.dnode(file), self.pool.tx());
        change(&dnode, &tx, self.now.get_mut(&self.files[file].0).unwrap());
    }

    fn write_out(&mut self) {
        let Some((txg, state)) = self.closed.take() else { return };
        let again = self.pool.reopen(self.pool.write_out(txg));
        check_all(&again, &state);
        check_all(&self.pool.objset, &self.now);
    }
}

fn check_all(objset: &Arc<Objset>, state: &State) {
    let mut ids = Vec::new();
    let mut at = ObjectId(0);
    while let Some(next) = objset.next_object(at).unwrap() {
        ids.push(next.0);
        at = next;
    }
    assert_eq!(ids, state.keys().copied().collect::<Vec<_>>());
    for (id, model) in state {
        model.check(&objset.hold(ObjectId(*id)).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn objects_hold_what_was_written(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.apply(step);
        }
        run.write_out();
        run.closed = Some((run.pool.close(), run.now.clone()));
        run.write_out();
    }
}
