//! memfd_create: files without a name, on a memory file system of their own.
use crate::errno::SysResult;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rt::Once;
use vfs::ramfs::RamFs;
use vfs::{Caller, File, MountFlags, Namespace, OpenFlags, WalkFrom};

static NAMES: Once<Arc<Namespace>> = Once::new();

/// Makes a file; its name only shows in /proc.
///
/// # Errors
/// When memory is out.
pub fn create(name: &[u8]) -> SysResult<Arc<File>> {
    let make = || Namespace::new(RamFs::new(u64::MAX, 0o700), MountFlags::empty(), 16);
    let ns = NAMES.get_or_try_init(make)?;
    let mut shown: Vec<u8> = b"memfd:".to_vec();
    shown.extend(name.iter().map(|b| if *b == b'/' { b'_' } else { *b }));
    shown.truncate(vfs::NAME_MAX - 8);
    // Two files may have one name: the first loses it before the second takes it.
    let from = WalkFrom { caller: Caller::ROOT, root: ns.root(), start: ns.root() };
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    static TURN: rt::Mutex<()> = rt::Mutex::new(());
    let _turn = TURN.lock();
    let file = ns.open(&from, &shown, flags, 0o777)?;
    ns.unlink_at(&from, &shown)?;
    Ok(file)
}
