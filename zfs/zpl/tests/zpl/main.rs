//! The file system on real pools in memory.
mod basic;
mod clones;
mod generic;
mod log;
mod log_counted;
mod log_device;
mod log_large;
mod log_lost;
mod log_modes;
mod pools;
mod remount;
mod snapshots;
mod unlinked;
