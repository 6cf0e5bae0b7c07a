//! Guards of the tree's shape: which crate may depend on which, where `unsafe` may live, and what every source
//! file looks like. The rules are in `tests/`; this library is empty.
#![forbid(unsafe_code)]
