//! Memory.
use super::Call;
use crate::errno::{Errno, SysResult};
use crate::fd::FileRef;
use crate::task::limits;
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general as k;
use mm::space::{
    Backing, FileSource, MapPlace, MapRequest, Object, PAGE, Prot, RemapPlace, USER_START, VmaFlags,
};
use vfs::{FileType, Fsync, OpenFlags};

fn prot_of(raw: u64) -> SysResult<Prot> {
    let raw = raw as u32;
    if raw & !(k::PROT_READ | k::PROT_WRITE | k::PROT_EXEC | k::PROT_SEM) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Prot::from_bits_truncate(raw as u8))
}

/// The backing of a file mapping.
fn file_backing(file: &FileRef, offset: u64, prot: Prot, is_shared: bool) -> SysResult<Backing> {
    let name: Arc<[u8]> = Arc::from(file.describe());
    let open = file.as_file().ok_or(Errno::ENODEV)?;
    let flags = open.flags();
    if flags.contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    let may_write = flags.contains(OpenFlags::WRITE);
    if !flags.contains(OpenFlags::READ) || (is_shared && prot.contains(Prot::WRITE) && !may_write) {
        return Err(Errno::EACCES);
    }
    if let Some(device) = open.device() {
        // Only memory that is zeroes by nature can be mapped from a device.
        return match device.map_page(offset)? {
            None if is_shared => {
                Ok(Backing::Shared { object: Object::anonymous(), offset: 0, may_write: true })
            }
            None => Ok(Backing::Anonymous),
            Some(_) => Err(Errno::ENODEV),
        };
    }
    if open.vnode().kind() != FileType::Regular {
        return Err(Errno::ENODEV);
    }
    let source = FileSource { vnode: open.vnode().clone(), name };
    Ok(if is_shared {
        Backing::Shared { object: Object::of_file(source), offset, may_write }
    } else {
        Backing::Private { file: source, offset }
    })
}

fn backing_of(c: &Call<'_>, prot: Prot, flags: u32) -> SysResult<Backing> {
    let is_shared = match flags & k::MAP_TYPE {
        k::MAP_PRIVATE => false,
        k::MAP_SHARED => true,
        k::MAP_SHARED_VALIDATE if flags & k::MAP_SYNC != 0 => return Err(Errno::EOPNOTSUPP),
        k::MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL),
    };
    if flags & k::MAP_ANONYMOUS == 0 {
        let offset = c.a5();
        if !offset.is_multiple_of(PAGE) || offset.checked_add(c.a1()).is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(Errno::EINVAL);
        }
        return file_backing(&c.task.file(c.a4() as i32)?, offset, prot, is_shared);
    }
    Ok(if is_shared {
        Backing::Shared { object: Object::anonymous(), offset: 0, may_write: true }
    } else {
        Backing::Anonymous
    })
}

/// mmap(2).
pub fn mmap(c: &mut Call<'_>) -> SysResult {
    let (addr, len, flags) = (c.a0(), c.a1(), c.a3() as u32);
    let prot = prot_of(c.a2())?;
    if flags & k::MAP_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let place = if flags & k::MAP_FIXED_NOREPLACE != 0 {
        MapPlace::FixedNoReplace(addr)
    } else if flags & k::MAP_FIXED != 0 {
        MapPlace::Fixed(addr)
    } else {
        MapPlace::Hint(addr)
    };
    if !matches!(place, MapPlace::Hint(_)) && addr < USER_START {
        return Err(Errno::EPERM);
    }
    let space = c.task.space();
    if space.usage().mapped.saturating_add(len) > c.task.process.limit(limits::AS) {
        return Err(Errno::ENOMEM);
    }
    let backing = backing_of(c, prot, flags)?;
    let mut extra = VmaFlags::empty();
    extra.set(VmaFlags::STACK, flags & k::MAP_STACK != 0);
    extra.set(VmaFlags::GROWSDOWN, flags & k::MAP_GROWSDOWN != 0);
    let at = space.map(MapRequest { place, len, prot, flags: extra, backing })?;
    if flags & (k::MAP_POPULATE | k::MAP_LOCKED) != 0 && flags & k::MAP_NONBLOCK == 0 && !prot.is_empty() {
        space.populate(at, len, prot.contains(Prot::WRITE));
    }
    Ok(at as usize)
}

/// munmap(2).
pub fn munmap(c: &mut Call<'_>) -> SysResult {
    c.task.space().unmap(c.a0(), c.a1())?;
    Ok(0)
}

/// mprotect(2).
pub fn mprotect(c: &mut Call<'_>) -> SysResult {
    let raw = c.a2() & !u64::from(k::PROT_GROWSDOWN | k::PROT_GROWSUP);
    c.task.space().protect(c.a0(), c.a1(), prot_of(raw)?)?;
    Ok(0)
}

/// brk(2).
pub fn brk(c: &mut Call<'_>) -> SysResult {
    Ok(c.task.space().brk(c.a0()) as usize)
}

/// mremap(2).
pub fn mremap(c: &mut Call<'_>) -> SysResult {
    let flags = c.a3() as u32;
    if flags & !(k::MREMAP_MAYMOVE | k::MREMAP_FIXED) != 0 {
        return Err(Errno::EINVAL);
    }
    let place = match (flags & k::MREMAP_MAYMOVE != 0, flags & k::MREMAP_FIXED != 0) {
        (false, true) => return Err(Errno::EINVAL),
        (true, true) => RemapPlace::Fixed(c.a4()),
        (true, false) => RemapPlace::Anywhere,
        (false, false) => RemapPlace::Stay,
    };
    Ok(c.task.space().remap(c.a0(), c.a1(), c.a2(), place)? as usize)
}

/// msync(2).
pub fn msync(c: &mut Call<'_>) -> SysResult {
    let flags = c.a2() as u32;
    let is_sync = flags & k::MS_SYNC != 0;
    if flags & !(k::MS_ASYNC | k::MS_INVALIDATE | k::MS_SYNC) != 0 || (is_sync && flags & k::MS_ASYNC != 0) {
        return Err(Errno::EINVAL);
    }
    let mut failed = None;
    c.task.space().sync(c.a0(), c.a1(), |vnode, range| {
        if is_sync && let Err(e) = vnode.fsync(range, Fsync::Data) {
            failed.get_or_insert(e);
        }
    })?;
    failed.map_or(Ok(0), |e| Err(e.into()))
}

/// mincore(2).
pub fn mincore(c: &mut Call<'_>) -> SysResult {
    let (at, len, out) = (c.a0(), c.a1(), c.a2());
    if !at.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let space = c.task.space();
    if !space.is_mapped(at, len) {
        return Err(Errno::ENOMEM);
    }
    const CHUNK: u64 = 1 << 20;
    let mut from = 0;
    while from < len {
        let part = (len - from).min(CHUNK);
        let mut bytes = alloc::vec::Vec::with_capacity(256);
        space.residency(at + from, part, |is_there| bytes.push(u8::from(is_there)));
        user::write_bytes(out + from / PAGE, &bytes)?;
        from += part;
    }
    Ok(0)
}

/// madvise(2).
pub fn madvise(c: &mut Call<'_>) -> SysResult {
    let (at, len) = (c.a0(), c.a1());
    if !at.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let space = c.task.space();
    match c.a2() as u32 {
        k::MADV_DONTNEED | k::MADV_FREE | k::MADV_DONTNEED_LOCKED => space.discard(at, len)?,
        k::MADV_REMOVE => {
            space.for_each_shared(at, len, |object, range| object.discard(range))?;
        }
        k::MADV_NOHUGEPAGE => space.set_flags(at, len, VmaFlags::NOHUGE, true)?,
        k::MADV_HUGEPAGE => space.set_flags(at, len, VmaFlags::NOHUGE, false)?,
        k::MADV_DONTFORK => space.set_flags(at, len, VmaFlags::DONTFORK, true)?,
        k::MADV_DOFORK => space.set_flags(at, len, VmaFlags::DONTFORK, false)?,
        k::MADV_WIPEONFORK => space.set_flags(at, len, VmaFlags::WIPEONFORK, true)?,
        k::MADV_KEEPONFORK => space.set_flags(at, len, VmaFlags::WIPEONFORK, false)?,
        k::MADV_POPULATE_READ | k::MADV_POPULATE_WRITE => {
            use mm::space::FaultResult as F;
            match space.populate(at, len, c.a2() as u32 == k::MADV_POPULATE_WRITE) {
                F::Done => {}
                F::Unmapped | F::NoMemory => return Err(Errno::ENOMEM),
                F::Denied => return Err(Errno::EINVAL),
                F::Bus => return Err(Errno::EFAULT),
            }
        }
        // Advice about read-ahead, reclaim and core dumps: nothing to do about it, but the range must exist.
        0..=3 | 16 | 17 | 20 | 21 => {
            if !space.is_mapped(at, len) {
                return Err(Errno::ENOMEM);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
