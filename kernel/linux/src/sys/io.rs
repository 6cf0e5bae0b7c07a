//! Reading, writing, seeking, making durable, moving data between files.
use super::args::not_negative;
use super::{Call, reflink};
use crate::errno::{Errno, SysResult};
use crate::fd::{FileObject, FileRef, downcast, pipe::PipeEnd, vnode};
use crate::kernel::kernel;
use crate::task::Task;
use crate::user::{self, Buffer, UserSink, UserSource};
use linux_raw_sys::general as k;
use vfs::{File, FileType, Fsync, OpenFlags, SeekWhat, SliceSink, SliceSource, Whence};

/// Bytes moved at once between two files.
const CHUNK: usize = 64 << 10;

/// Whether the file system works on the buffers itself.
fn is_stored(file: &dyn FileObject) -> bool {
    file.as_file().is_some_and(|f| f.device().is_none())
}

fn read_into(task: &Task, file: &dyn FileObject, buffers: &[Buffer]) -> SysResult {
    if is_stored(file) {
        user::fault_in(buffers, true);
    }
    file.read(task, &mut UserSink::new(buffers))
}

fn write_from(task: &Task, file: &dyn FileObject, buffers: &[Buffer]) -> SysResult {
    if is_stored(file) {
        user::fault_in(buffers, false);
    }
    file.write(task, &mut UserSource::new(buffers))
}

/// read(2).
pub fn read(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    read_into(c.task, &*file, &user::buffer(c.a1(), c.a2())?)
}

/// write(2).
pub fn write(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    write_from(c.task, &*file, &user::buffer(c.a1(), c.a2())?)
}

/// readv(2).
pub fn readv(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    read_into(c.task, &*file, &user::read_iovec(c.a1(), c.a2())?)
}

/// writev(2).
pub fn writev(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    write_from(c.task, &*file, &user::read_iovec(c.a1(), c.a2())?)
}

fn seekable(file: &FileRef) -> SysResult<&File> {
    file.as_file().map(|f| &**f).ok_or(Errno::ESPIPE)
}

fn read_at(c: &Call<'_>, buffers: &[Buffer], offset: u64) -> SysResult {
    let file = c.task.file(c.fd())?;
    user::fault_in(buffers, true);
    vnode::read_at(seekable(&file)?, not_negative(offset)?, &mut UserSink::new(buffers))
}

fn write_at(c: &Call<'_>, buffers: &[Buffer], offset: u64) -> SysResult {
    let file = c.task.file(c.fd())?;
    user::fault_in(buffers, false);
    vnode::write_at(seekable(&file)?, not_negative(offset)?, &mut UserSource::new(buffers))
}

/// pread64(2).
pub fn pread(c: &mut Call<'_>) -> SysResult {
    read_at(c, &user::buffer(c.a1(), c.a2())?, c.a3())
}

/// pwrite64(2).
pub fn pwrite(c: &mut Call<'_>) -> SysResult {
    write_at(c, &user::buffer(c.a1(), c.a2())?, c.a3())
}

/// preadv(2).
pub fn preadv(c: &mut Call<'_>) -> SysResult {
    read_at(c, &user::read_iovec(c.a1(), c.a2())?, c.a3())
}

/// pwritev(2).
pub fn pwritev(c: &mut Call<'_>) -> SysResult {
    write_at(c, &user::read_iovec(c.a1(), c.a2())?, c.a3())
}

const RWF_KNOWN: u32 = k::RWF_HIPRI | k::RWF_DSYNC | k::RWF_SYNC | k::RWF_NOWAIT | k::RWF_APPEND;

/// preadv2(2).
pub fn preadv2(c: &mut Call<'_>) -> SysResult {
    if c.a5() as u32 & !RWF_KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if c.a3() == u64::MAX { readv(c) } else { preadv(c) }
}

/// pwritev2(2).
pub fn pwritev2(c: &mut Call<'_>) -> SysResult {
    let flags = c.a5() as u32;
    if flags & !RWF_KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let is_at_offset = c.a3() == u64::MAX;
    if flags & k::RWF_APPEND != 0 {
        let file = c.task.file(c.fd())?;
        let file = seekable(&file)?;
        let (at, n) = file.append(&mut UserSource::new(&user::read_iovec(c.a1(), c.a2())?))?;
        if is_at_offset {
            file.seek(Whence::Set, (at + n as u64).cast_signed())?;
        }
        return sync_range(file, at, n, flags);
    }
    let before = if is_at_offset { None } else { Some(c.a3()) };
    let n = if is_at_offset { writev(c)? } else { pwritev(c)? };
    if flags & (k::RWF_DSYNC | k::RWF_SYNC) == 0 {
        return Ok(n);
    }
    let file = c.task.file(c.fd())?;
    let file = seekable(&file)?;
    let at = before.unwrap_or_else(|| file.offset().saturating_sub(n as u64));
    sync_range(file, at, n, flags)
}

fn sync_range(file: &File, at: u64, n: usize, flags: u32) -> SysResult {
    if n > 0 && flags & (k::RWF_DSYNC | k::RWF_SYNC) != 0 {
        let what = if flags & k::RWF_SYNC != 0 { Fsync::All } else { Fsync::Data };
        file.vnode().fsync(at..at + n as u64, what)?;
    }
    Ok(n)
}

/// lseek(2).
pub fn lseek(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    let whence = match c.a2() as u32 {
        k::SEEK_SET => Whence::Set,
        k::SEEK_CUR => Whence::Current,
        k::SEEK_END => Whence::End,
        k::SEEK_DATA => Whence::Next(SeekWhat::Data),
        k::SEEK_HOLE => Whence::Next(SeekWhat::Hole),
        _ => return Err(Errno::EINVAL),
    };
    Ok(seekable(&file)?.seek(whence, c.a1() as i64)? as usize)
}

fn sync_file(c: &Call<'_>, what: Fsync) -> SysResult {
    let file = c.task.file(c.fd())?;
    let file = file.as_file().ok_or(Errno::EINVAL)?;
    vnode::settle_mappings(file, 0..u64::MAX)?;
    file.fsync(what)?;
    Ok(0)
}

/// fsync(2).
pub fn fsync(c: &mut Call<'_>) -> SysResult {
    sync_file(c, Fsync::All)
}

/// fdatasync(2).
pub fn fdatasync(c: &mut Call<'_>) -> SysResult {
    sync_file(c, Fsync::Data)
}

/// Writes back what was changed through mappings of any file.
pub fn settle_all_mappings() {
    for object in mm::space::Object::all_files() {
        if object.write_back(0..u64::MAX).is_err() {
            log::error!("a page changed through a mapping could not be written back");
        }
    }
}

/// sync(2).
pub fn sync(_c: &mut Call<'_>) -> SysResult {
    settle_all_mappings();
    if kernel().namespace.sync().is_err() {
        log::error!("a file system could not make its content durable");
    }
    Ok(0)
}

/// syncfs(2).
pub fn syncfs(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    settle_all_mappings();
    file.as_file().ok_or(Errno::EBADF)?.vnode().fs().sync()?;
    Ok(0)
}

/// sync_file_range(2): write-back is the file system's own business, so only waiting for it means something.
pub fn sync_file_range(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    let file = seekable(&file)?;
    let (at, len) = (not_negative(c.a1())?, not_negative(c.a2())?);
    let flags = c.a3() as u32;
    if flags & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & k::SYNC_FILE_RANGE_WAIT_AFTER != 0 {
        let end = if len == 0 { u64::MAX } else { at.saturating_add(len) };
        vnode::settle_mappings(file, at..end)?;
        file.vnode().fsync(at..end, Fsync::Data)?;
    }
    Ok(0)
}

/// posix_fadvise(2): advice, taken or not.
pub fn fadvise(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    seekable(&file)?;
    if c.a3() > 5 { Err(Errno::EINVAL) } else { Ok(0) }
}

/// readahead(2).
pub fn readahead(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    seekable(&file)?.check_open_for(OpenFlags::READ)?;
    Ok(0)
}

/// One side of a transfer: at an offset of its own, or at the file's.
enum Cursor {
    File,
    At(u64),
}

impl Cursor {
    /// Where it stands.
    fn place(&self, file: &File) -> u64 {
        match self {
            Self::File => file.offset(),
            Self::At(at) => *at,
        }
    }

    /// Moves it on by `n` bytes that were moved without it.
    fn advance(&mut self, file: &File, n: u64) -> SysResult<()> {
        match self {
            Self::File => {
                file.seek(Whence::Current, n.cast_signed())?;
            }
            Self::At(at) => *at += n,
        }
        Ok(())
    }
}

/// Reads up to `out.len()` bytes.
fn take(task: &Task, file: &FileRef, cursor: &mut Cursor, out: &mut [u8]) -> SysResult {
    let mut sink = SliceSink::new(out);
    match cursor {
        Cursor::File => file.read(task, &mut sink),
        Cursor::At(at) => {
            let n = vnode::read_at(seekable(file)?, *at, &mut sink)?;
            *at += n as u64;
            Ok(n)
        }
    }
}

fn give(task: &Task, file: &FileRef, cursor: &mut Cursor, bytes: &[u8]) -> SysResult {
    let mut source = SliceSource::new(bytes);
    match cursor {
        Cursor::File => file.write(task, &mut source),
        Cursor::At(at) => {
            let n = vnode::write_at(seekable(file)?, *at, &mut source)?;
            *at += n as u64;
            Ok(n)
        }
    }
}

/// Moves up to `len` bytes. What was read but could not be written is given back by moving the source's cursor, where
/// it has one.
fn transfer(
    task: &Task,
    (from, from_at): (&FileRef, &mut Cursor),
    (to, to_at): (&FileRef, &mut Cursor),
    len: usize,
) -> SysResult {
    let mut chunk = alloc::vec![0; len.min(CHUNK)];
    let mut done = 0;
    while done < len {
        let wanted = chunk.len().min(len - done);
        let n = match take(task, from, from_at, &mut chunk[..wanted]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => return if done > 0 { Ok(done) } else { Err(e) },
        };
        let mut given = 0;
        while given < n {
            match give(task, to, to_at, &chunk[given..n]) {
                Ok(m) => given += m,
                Err(e) => {
                    put_back(from, from_at, (n - given) as u64);
                    done += given;
                    return if done > 0 { Ok(done) } else { Err(e) };
                }
            }
        }
        done += n;
        if n < wanted {
            break;
        }
    }
    Ok(done)
}

fn put_back(file: &FileRef, cursor: &mut Cursor, n: u64) {
    match cursor {
        Cursor::At(at) => *at -= n,
        Cursor::File => {
            if let Some(file) = file.as_file() {
                let _ = file.seek(Whence::Current, -(n as i64));
            }
        }
    }
}

fn cursor_of(at: u64) -> SysResult<Cursor> {
    if at == 0 { Ok(Cursor::File) } else { Ok(Cursor::At(not_negative(user::read(at)?)?)) }
}

fn store_cursor(at: u64, cursor: &Cursor) -> SysResult<()> {
    if let Cursor::At(offset) = cursor { user::write(at, offset) } else { Ok(()) }
}

/// sendfile(2).
pub fn sendfile(c: &mut Call<'_>) -> SysResult {
    let (to, from) = (c.task.file(c.fd())?, c.task.file(c.a1() as i32)?);
    seekable(&from).map_err(|_| Errno::EINVAL)?;
    let mut from_at = cursor_of(c.a2())?;
    let len = (c.a3() as usize).min(user::IO_MAX);
    let n = transfer(c.task, (&from, &mut from_at), (&to, &mut Cursor::File), len)?;
    store_cursor(c.a2(), &from_at)?;
    Ok(n)
}

/// splice(2): by copying; one side must be a pipe.
pub fn splice(c: &mut Call<'_>) -> SysResult {
    let (from, to) = (c.task.file(c.fd())?, c.task.file(c.a2() as i32)?);
    let is_pipe = |file: &FileRef| downcast::<PipeEnd>(file).is_some();
    if !is_pipe(&from) && !is_pipe(&to) {
        return Err(Errno::EINVAL);
    }
    let (mut from_at, mut to_at) = (cursor_of(c.a1())?, cursor_of(c.a3())?);
    let len = (c.a4() as usize).min(CHUNK);
    let n = transfer(c.task, (&from, &mut from_at), (&to, &mut to_at), len)?;
    store_cursor(c.a1(), &from_at)?;
    store_cursor(c.a3(), &to_at)?;
    Ok(n)
}

/// copy_file_range(2).
pub fn copy_file_range(c: &mut Call<'_>) -> SysResult {
    let (from, to) = (c.task.file(c.fd())?, c.task.file(c.a2() as i32)?);
    let (from_file, to_file) = (from.as_file().ok_or(Errno::EINVAL)?, to.as_file().ok_or(Errno::EINVAL)?);
    for file in [from_file, to_file] {
        match file.vnode().kind() {
            FileType::Regular => {}
            FileType::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if c.a5() != 0 {
        return Err(Errno::EINVAL);
    }
    to_file.check_open_for(OpenFlags::WRITE)?;
    from_file.check_open_for(OpenFlags::READ)?;
    if to_file.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let (mut from_at, mut to_at) = (cursor_of(c.a1())?, cursor_of(c.a3())?);
    let len = (c.a4() as usize).min(user::IO_MAX);
    let places = (from_at.place(from_file), to_at.place(to_file));
    let n = match reflink::share(from_file, to_file, places, len as u64)? {
        Some(n) => {
            from_at.advance(from_file, n)?;
            to_at.advance(to_file, n)?;
            n as usize
        }
        None => transfer(c.task, (&from, &mut from_at), (&to, &mut to_at), len)?,
    };
    store_cursor(c.a1(), &from_at)?;
    store_cursor(c.a3(), &to_at)?;
    Ok(n)
}
