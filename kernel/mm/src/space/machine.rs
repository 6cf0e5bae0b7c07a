//! What address spaces need from the machine: frames, the linear map, the TLB. Host tests run on the fake below,
//! where a frame's physical address is simply its address.
//!
//! Applications run in ring 0, so entries carry no user bit and read-only pages stop the kernel as well (CR0.WP).
#[cfg(not(test))]
mod real;
#[cfg(not(test))]
pub(crate) use real::*;

#[cfg(test)]
mod fake;
#[cfg(test)]
pub(crate) use fake::*;
