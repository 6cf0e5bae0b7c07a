//! Snapshots and what hangs on them: on memory disks, judged by the full walk of the pool.
mod clones;
mod limits;
mod live_lists;
mod pool;
mod races;
mod snapshots;
