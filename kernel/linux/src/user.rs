//! The application's memory: typed and untyped access, strings, vectors of buffers.
//!
//! Nothing here trusts an address. Every access may fault, be resolved by reading a file, or end as EFAULT, so none
//! of it may be done under a lock that the fault path takes.
use crate::errno::{Errno, SysResult};
use alloc::vec::Vec;
use hal::uaccess;
use smallvec::SmallVec;
use vfs::{ReadSink, WriteSource};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Longest path with its NUL.
pub const PATH_MAX: usize = 4096;
/// Most buffers of a vector call.
pub const IOV_MAX: usize = 1024;
/// Most bytes one call moves.
pub const IO_MAX: usize = 0x7fff_f000;

/// Reads a value.
pub fn read<T: FromBytes + IntoBytes>(addr: u64) -> SysResult<T> {
    let mut value = T::new_zeroed();
    uaccess::copy_in(value.as_mut_bytes(), addr as usize)?;
    Ok(value)
}

/// Writes a value.
pub fn write<T: IntoBytes + Immutable>(addr: u64, value: &T) -> SysResult<()> {
    Ok(uaccess::copy_out(addr as usize, value.as_bytes())?)
}

/// Writes a value unless the address is null.
pub fn write_optional<T: IntoBytes + Immutable>(addr: u64, value: &T) -> SysResult<()> {
    if addr == 0 { Ok(()) } else { write(addr, value) }
}

/// Reads bytes.
pub fn read_bytes(addr: u64, out: &mut [u8]) -> SysResult<()> {
    Ok(uaccess::copy_in(out, addr as usize)?)
}

/// Writes bytes.
pub fn write_bytes(addr: u64, bytes: &[u8]) -> SysResult<()> {
    Ok(uaccess::copy_out(addr as usize, bytes)?)
}

/// A string that ends in NUL.
pub type UserString = SmallVec<[u8; 128]>;

/// Reads a string of at most `max` bytes without its NUL.
pub fn read_string(addr: u64, max: usize) -> SysResult<Option<UserString>> {
    let len = uaccess::strnlen(addr as usize, max)?;
    if len >= max {
        return Ok(None);
    }
    let mut string = UserString::from_elem(0, len);
    uaccess::copy_in(&mut string, addr as usize)?;
    Ok(Some(string))
}

/// Reads a path.
pub fn read_path(addr: u64) -> SysResult<UserString> {
    read_string(addr, PATH_MAX)?.ok_or(Errno::ENAMETOOLONG)
}

/// Reads a null-terminated vector of strings (argv, envp) whose bytes together stay below `bytes_max`.
pub fn read_strings(addr: u64, bytes_max: usize) -> SysResult<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    let mut total = 0;
    if addr == 0 {
        return Ok(strings);
    }
    for i in 0.. {
        let at: u64 = read(addr + i * 8)?;
        if at == 0 {
            break;
        }
        let string = read_string(at, bytes_max)?.ok_or(Errno::E2BIG)?;
        total += string.len() + 9;
        if total > bytes_max {
            return Err(Errno::E2BIG);
        }
        strings.push(string.to_vec());
    }
    Ok(strings)
}

/// One buffer of the application.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Address.
    pub addr: u64,
    /// Bytes.
    pub len: usize,
}

/// The buffers of a vector call.
pub type Buffers = SmallVec<[Buffer; 8]>;

/// One buffer, cut to what one call may move.
///
/// # Errors
/// [`Errno::EFAULT`].
pub fn buffer(addr: u64, len: u64) -> SysResult<[Buffer; 1]> {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(IO_MAX);
    if !uaccess::is_user_range(addr as usize, len) {
        return Err(Errno::EFAULT);
    }
    Ok([Buffer { addr, len }])
}

/// Reads a vector of buffers.
pub fn read_iovec(addr: u64, count: u64) -> SysResult<Buffers> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let mut all = Buffers::with_capacity(count);
    let mut total = 0_usize;
    for i in 0..count {
        let [base, len]: [u64; 2] = read(addr + i as u64 * 16)?;
        let len = usize::try_from(len).ok().filter(|l| *l <= isize::MAX as usize).ok_or(Errno::EINVAL)?;
        let len = len.min(IO_MAX - total);
        if !uaccess::is_user_range(base as usize, len) {
            return Err(Errno::EFAULT);
        }
        total += len;
        all.push(Buffer { addr: base, len });
    }
    Ok(all)
}

/// Most bytes that are brought in before a call.
const FAULT_IN_MAX: usize = 16 << 20;

/// Brings the pages of `buffers` in, so that the file system does not fault while it holds a lock on the file that
/// the buffers may be a mapping of. Pages that cannot be brought in are found out by the copy itself.
pub fn fault_in(buffers: &[Buffer], for_write: bool) {
    const PAGE: usize = 4096;
    let mut budget = FAULT_IN_MAX;
    for buffer in buffers {
        let start = buffer.addr as usize;
        let end = start + buffer.len.min(budget);
        budget -= buffer.len.min(budget);
        let mut at = start;
        while at < end {
            // A word of the page that the buffer's bytes share: exchanging it for itself changes nothing.
            let word = at & !3;
            let is_there = match uaccess::load_u32(word) {
                Ok(value) if for_write => uaccess::compare_exchange_u32(word, value, value).is_ok(),
                Ok(_) => true,
                Err(_) => false,
            };
            if !is_there {
                return;
            }
            at = (at & !(PAGE - 1)) + PAGE;
        }
    }
}

/// Application memory as the target of a read.
#[derive(Debug)]
pub struct UserSink<'a> {
    buffers: &'a [Buffer],
    done: usize,
    left: usize,
}

impl<'a> UserSink<'a> {
    /// Fills `buffers` in order.
    pub fn new(buffers: &'a [Buffer]) -> Self {
        Self { buffers, done: 0, left: buffers.iter().map(|b| b.len).sum() }
    }
}

/// Takes the next `len` bytes' worth of buffers, calling `each` with addresses and lengths.
fn advance(
    buffers: &mut &[Buffer],
    done: &mut usize,
    mut len: usize,
    mut each: impl FnMut(u64, usize) -> vfs::Result<()>,
) -> vfs::Result<()> {
    while len > 0 {
        let Some((first, rest)) = buffers.split_first() else { return Err(vfs::Error::Fault) };
        let n = len.min(first.len - *done);
        each(first.addr + *done as u64, n)?;
        len -= n;
        *done += n;
        if *done == first.len {
            *buffers = rest;
            *done = 0;
        }
    }
    Ok(())
}

impl ReadSink for UserSink<'_> {
    fn remaining(&self) -> usize {
        self.left
    }

    fn put(&mut self, bytes: &[u8]) -> vfs::Result<()> {
        let mut at = 0;
        advance(&mut self.buffers, &mut self.done, bytes.len(), |addr, n| {
            let part = bytes.get(at..at + n).ok_or(vfs::Error::Fault)?;
            at += n;
            uaccess::copy_out(addr as usize, part).map_err(|_| vfs::Error::Fault)
        })?;
        self.left -= bytes.len();
        Ok(())
    }

    fn put_zeroes(&mut self, len: usize) -> vfs::Result<()> {
        advance(&mut self.buffers, &mut self.done, len, |addr, n| {
            uaccess::zero(addr as usize, n).map_err(|_| vfs::Error::Fault)
        })?;
        self.left -= len;
        Ok(())
    }
}

/// Application memory as the source of a write.
#[derive(Debug)]
pub struct UserSource<'a> {
    buffers: &'a [Buffer],
    done: usize,
    left: usize,
}

impl<'a> UserSource<'a> {
    /// Gives the bytes of `buffers` in order.
    pub fn new(buffers: &'a [Buffer]) -> Self {
        Self { buffers, done: 0, left: buffers.iter().map(|b| b.len).sum() }
    }
}

impl WriteSource for UserSource<'_> {
    fn remaining(&self) -> usize {
        self.left
    }

    fn take(&mut self, out: &mut [u8]) -> vfs::Result<()> {
        let mut at = 0;
        let len = out.len();
        advance(&mut self.buffers, &mut self.done, len, |addr, n| {
            let part = out.get_mut(at..at + n).ok_or(vfs::Error::Fault)?;
            at += n;
            uaccess::copy_in(part, addr as usize).map_err(|_| vfs::Error::Fault)
        })?;
        self.left -= len;
        Ok(())
    }
}

/// Bytes in all buffers.
pub fn bytes_total(buffers: &[Buffer]) -> usize {
    buffers.iter().map(|b| b.len).sum()
}
