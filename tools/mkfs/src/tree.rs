//! Trees of files: on the host, in packages, in an image; and how they get from one to the other.
//!
//! | module | holds |
//! |---|---|
//! | [`item`] | the stream of events that every source produces and the importer consumes |
//! | [`import`] | writes a stream into an image's file systems |
//! | [`host`] | a directory of the host as a stream |
//! | [`export`] | an image's tree onto the host |
//! | [`pipeline`] | reading and writing side by side |
//! | [`edit`] | directories made, files removed |
//! | [`path`] | paths of an image |
//! | [`walk`] | an image's tree in a fixed order |
//! | [`manifest`] | lists of hashes, attributes and extended attributes |
//!
//! All of it works through the `vfs` traits and holds one directory's names and a few chunks of data in memory,
//! whatever the size of the tree.
pub mod edit;
pub mod export;
pub mod host;
pub mod import;
pub mod item;
pub mod manifest;
pub mod path;
pub mod pipeline;
pub mod walk;

#[cfg(test)]
mod tests;
