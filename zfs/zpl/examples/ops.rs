//! Runs one kind of operation many times on a pool in memory, to be counted: `perf stat -e instructions:u` of a run with
//! N operations less one with none, or `valgrind --tool=callgrind`. Usage: `ops KIND COUNT`.
use blockdev_host::MemDisk;
use rt_std as _;
use std::sync::Arc;
use vfs::{
    Caller, FileSystem, MountFlags, Namespace, OpenFlags, SliceSink, SliceSource, WalkFlags, WalkFrom,
};
use zfs::spa::{PoolSpec, Spa, VdevSpec};

fn main() {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_default();
    let count: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let disk = Arc::new(MemDisk::new(1 << 30));
    let vdev = VdevSpec { device: disk, path: "/dev/disk".into(), is_file: false };
    let spec = PoolSpec::new("tank");
    let make = &mut |tx: &_, objset: &_| zpl::create_fs(tx, objset, &zpl::CreateOptions::default());
    let spa = Spa::create(vec![vdev], &spec, make).expect("a pool");
    let fs = zpl::mount(&spa, "tank", &zpl::MountOptions::default()).expect("its root");
    let ns =
        Namespace::new(fs.clone() as Arc<dyn FileSystem>, MountFlags::empty(), 65_536).expect("a name space");
    let root = ns.root().clone();
    let from = WalkFrom { caller: Caller::ROOT, root: &root, start: &root };
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
    let file = ns.open(&from, b"/file", flags, 0o644).expect("a file");
    let mut page = vec![7; 4096];
    for at in 0..2048 {
        file.write_at(at * 4096, &mut SliceSource::new(&page)).expect("written");
    }
    for i in 0..count {
        let at = (i as u64 % 2048) * 4096;
        match kind.as_str() {
            "read" => drop(file.read_at(at, &mut SliceSink::new(&mut page))),
            "write" => drop(file.write_at((i as u64) * 4096, &mut SliceSource::new(&page))),
            "rewrite" => drop(file.write_at(at, &mut SliceSource::new(&page))),
            "page" => drop(file.vnode().map_page(at, vfs::MapAccess::Read)),
            "stat" => drop(ns.walk(&from, b"/file", WalkFlags::FOLLOW).map(|d| d.vnode().getattr())),
            "open" => drop(ns.open(&from, b"/file", OpenFlags::READ, 0)),
            "create" | "unlink" => {
                let name = format!("/f{i}");
                let made = ns.open(&from, name.as_bytes(), flags, 0o644).expect("made");
                made.write(&mut SliceSource::new(&page[..1024])).expect("written");
            }
            other => panic!("unknown operation {other}"),
        }
    }
    if kind == "unlink" {
        for i in 0..count {
            ns.unlink_at(&from, format!("/f{i}").as_bytes()).expect("unlinked");
        }
    }
    std::process::exit(0);
}
