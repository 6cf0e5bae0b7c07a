//! The crash simulator: the real pool, on simulated disks, in virtual time, under random operations; its power is cut at
//! any request, and what is left is compared with a model. What is promised, and how it is checked: docs/SIMULATION.md.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | what a seed stands for |
//! | [`layout`] | how its disks make a pool |
//! | [`pool`] | the pool under test |
//! | [`worker`] | random operations, and the model of what they did |
//! | [`admin`] | random commands on datasets, and the model of what they did |
//! | [`content`], [`history`] | the model's parts |
//! | [`harm`] | what disks do wrong while there is power |
//! | [`manage`] | random commands on the disks of a pool |
//! | [`tree`] | a file system as it is found |
//! | [`watch`] | states of the disks, kept at many of their requests |
//! | [`check`] | a recovered pool against the model |
//! | [`seed`] | a whole seed |
#![forbid(unsafe_code)]

pub mod admin;
pub mod check;
pub mod content;
pub mod harm;
pub mod history;
pub mod layout;
pub mod manage;
pub mod plan;
pub mod pool;
pub mod seed;
pub mod split;
pub mod tree;
pub mod watch;
pub mod worker;
