//! How the kernel gets control: preparing its image, and the BIOS loader that starts it from a disk.
//!
//! What it is: pure functions over bytes for the tools that build images. What it is not: part of the kernel.
//!
//! | module | holds |
//! |---|---|
//! | [`elf`] | the little of ELF that is needed |
//! | [`symbols`] | the compact symbol table for backtraces |
//! | [`image`] | [`prepare`]: symbols in, debug sections out; [`flatten`] |
//! | [`disk`] | [`install`]: boot sector and boot partition |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod disk;
pub mod elf;
pub mod image;
pub mod symbols;

pub use disk::{BootArea, install};
pub use elf::Error;
pub use image::{Flat, flatten, prepare};
