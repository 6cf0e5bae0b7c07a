//! Archives, whole and damaged.
use super::*;
use proptest::prelude::*;
use rt_std as _;
use vfs::ramfs::RamFs;
use vfs::{MountFlags, OpenFlags, SliceSink};

fn member(name: &str, ino: u32, mode: u32, nlink: u32, data: &[u8]) -> Vec<u8> {
    let fields = [ino, mode, 5, 6, nlink, 77, data.len() as u32, 0, 0, 1, 3, name.len() as u32 + 1, 0];
    let mut out = b"070701".to_vec();
    fields.iter().for_each(|f| out.extend_from_slice(format!("{f:08x}").as_bytes()));
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn archive() -> Vec<u8> {
    [
        member(".", 1, 0o040755, 2, b""),
        member("./etc", 2, 0o040700, 2, b""),
        member("etc/hosts", 3, 0o100644, 2, b"localhost\n"),
        member("etc/other", 3, 0o100644, 2, b""),
        member("usr/bin/sh", 4, 0o120777, 1, b"/bin/busybox"),
        member("TRAILER!!!", 0, 0, 1, b""),
    ]
    .concat()
}

fn space() -> Arc<Namespace> {
    Namespace::new(RamFs::new(1 << 20, 0o755), MountFlags::empty(), 64).unwrap()
}

#[test]
fn an_archive_becomes_a_tree() {
    let ns = space();
    assert_eq!(unpack(&archive(), &ns), Ok(5));
    let from = WalkFrom { caller: Caller::ROOT, root: ns.root(), start: ns.root() };
    let file = ns.open(&from, b"/etc/other", OpenFlags::READ, 0).unwrap();
    let mut out = [0; 32];
    assert_eq!(file.read(&mut SliceSink::new(&mut out)), Ok(10));
    assert_eq!(&out[..10], b"localhost\n");
    let attr = file.getattr().unwrap();
    assert_eq!((attr.uid, attr.gid, attr.nlink, attr.mtime.secs), (5, 6, 2, 77));
    let link = ns.walk(&from, b"/usr/bin/sh", WalkFlags::empty()).unwrap();
    assert_eq!(link.vnode().readlink(), Ok(b"/bin/busybox".to_vec()));
    assert_eq!(ns.walk(&from, b"/etc", WalkFlags::FOLLOW).unwrap().vnode().getattr().unwrap().perm, 0o700);
}

#[test]
fn truncated_archives_are_refused() {
    let whole = archive();
    for len in (0..whole.len() - 120).step_by(7) {
        assert!(unpack(&whole[..len], &space()).is_err(), "{len}");
    }
}

proptest! {
    #[test]
    fn damaged_archives_never_panic(at in 0_usize..700, value: u8) {
        let mut bytes = archive();
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = unpack(&bytes, &space());
    }
}
