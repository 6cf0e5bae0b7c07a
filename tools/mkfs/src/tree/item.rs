//! What a source of files produces.
//!
//! Order: a directory comes before what is in it; a file's data follows its item. What a path's parents are is the
//! importer's business: missing ones are made.
use anyhow::Result;
use vfs::{DeviceId, TimeSpec};

/// Most bytes of one piece of data.
pub const CHUNK: usize = 256 << 10;

/// Attributes of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits (0o7777).
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last content change.
    pub mtime: TimeSpec,
    /// Extended attributes, names with their prefix.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    /// Owned by root.
    pub fn root(perm: u32, mtime: TimeSpec) -> Self {
        Self { perm, mtime, ..Self::default() }
    }
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of that many bytes; what no data event covers is a hole.
    Regular {
        /// Bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// Another name of the file at this path, which came earlier.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice(DeviceId),
    /// A block device.
    BlockDevice(DeviceId),
}

/// One name of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Path in the image; leading, trailing and doubled slashes and `.` mean nothing.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its attributes; not looked at for hard links.
    pub meta: Meta,
}

/// What a source produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A name.
    Item(Item),
    /// Data of the regular file that came last; offsets rise.
    Data {
        /// Where in the file.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
}

/// Where a source puts its events. An error ends the source.
pub type Emit<'a> = &'a mut dyn FnMut(Event) -> Result<()>;

/// Something that produces events.
pub trait Source: Send {
    /// Produces all of them.
    ///
    /// # Errors
    /// Its own, and those of `emit`.
    fn produce(&mut self, emit: Emit<'_>) -> Result<()>;

    /// For people: what is being read.
    fn describe(&self) -> String;
}

/// Reads `input` to its end as the data of a file.
///
/// # Errors
/// The input's, and those of `emit`.
pub fn emit_data(input: &mut dyn std::io::Read, emit: Emit<'_>) -> Result<u64> {
    let mut offset = 0;
    loop {
        let mut bytes = vec![0; CHUNK];
        let mut filled = 0;
        while filled < CHUNK {
            match input.read(&mut bytes[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            return Ok(offset);
        }
        bytes.truncate(filled);
        emit(Event::Data { offset, bytes })?;
        offset += filled as u64;
    }
}
