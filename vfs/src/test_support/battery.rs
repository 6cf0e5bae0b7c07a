//! The fixed checks.
use super::Tree;
use crate::node::{FallocateMode, FileSystem, NewNode, RenameMode, SeekWhat, XattrMode};
use crate::{
    DeviceId, Error, FileType, Fsync, OpenFlags, SetAttr, SetTime, SliceSink, SliceSource, TimeSpec,
    WalkFlags,
};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

pub(super) fn run(make: &impl Fn() -> Arc<dyn FileSystem>) {
    let checks: [fn(&Tree); 16] = [
        empty_root,
        files,
        directories,
        links,
        symlinks,
        renames,
        rename_directories,
        sparse,
        truncate,
        punch,
        attributes,
        xattrs,
        open_unlinked,
        unnamed,
        many_entries,
        special_files,
    ];
    for check in checks {
        check(&Tree::new(make()));
    }
    parallel(make);
}

fn empty_root(t: &Tree) {
    assert_eq!(t.list("/").unwrap(), Vec::<Vec<u8>>::new());
    let attr = t.find("/").unwrap().vnode().getattr().unwrap();
    assert_eq!((attr.kind, attr.nlink), (FileType::Directory, 2));
    let up = t.find("/..").unwrap();
    assert_eq!(up.vnode().ino(), attr.ino);
    assert_eq!(t.find("/nothing").unwrap_err(), Error::NotFound);
    let stat = t.ns.root().mount().fs.statfs().unwrap();
    assert!(stat.blocks >= stat.blocks_free && stat.name_max == 255);
}

fn files(t: &Tree) {
    t.write("/a", b"hello").unwrap();
    assert_eq!(t.read("/a").unwrap(), b"hello");
    t.write("/a", b"bye").unwrap();
    assert_eq!(t.read("/a").unwrap(), b"bye");
    let long = [b'x'; 255];
    let long = core::str::from_utf8(&long).unwrap();
    t.write(&format!("/{long}"), b"1").unwrap();
    assert_eq!(t.read(&format!("/{long}")).unwrap(), b"1");
    assert_eq!(t.write(&format!("/{long}y"), b"1"), Err(Error::NameTooLong));
    let excl = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    assert_eq!(t.open("/a", excl).unwrap_err(), Error::Exists);
    assert_eq!(t.open("/a/b", OpenFlags::READ).unwrap_err(), Error::NotDirectory);
    assert_eq!(t.open("/a/", OpenFlags::READ).unwrap_err(), Error::NotDirectory);
    let file = t.open("/a", OpenFlags::WRITE | OpenFlags::APPEND).unwrap();
    file.write(&mut SliceSource::new(b", all")).unwrap();
    file.fsync(Fsync::All).unwrap();
    assert_eq!(t.read("/a").unwrap(), b"bye, all");
    let mut room = [0; 4];
    assert_eq!(file.read(&mut SliceSink::new(&mut room)), Err(Error::BadFile));
    let big: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    t.write("/big", &big).unwrap();
    assert_eq!(t.read("/big").unwrap(), big);
    let file = t.open("/big", OpenFlags::READ | OpenFlags::WRITE).unwrap();
    file.write_at(131_000, &mut SliceSource::new(&[7; 300])).unwrap();
    let mut room = [0; 302];
    assert_eq!(file.read_at(130_999, &mut SliceSink::new(&mut room)), Ok(302));
    assert_eq!((room[0], room[1], room[300], room[301]), (big[130_999], 7, 7, big[131_300]));
    assert_eq!(file.read_at(300_000, &mut SliceSink::new(&mut room)), Ok(0));
    t.ns.unlink_at(&t.from(), b"/a").unwrap();
    assert_eq!(t.find("/a").unwrap_err(), Error::NotFound);
}

fn directories(t: &Tree) {
    let mkdir = |p: &str| t.ns.create_at(&t.from(), p.as_bytes(), NewNode::Directory, 0o755);
    let rmdir = |p: &str| t.ns.rmdir_at(&t.from(), p.as_bytes());
    mkdir("/d").unwrap();
    mkdir("/d/e/").unwrap();
    assert_eq!(mkdir("/d").unwrap_err(), Error::Exists);
    assert_eq!(t.find("/d").unwrap().vnode().getattr().unwrap().nlink, 3);
    t.write("/d/e/f", b"x").unwrap();
    assert_eq!(t.list("/d").unwrap(), [b"e"]);
    assert_eq!(rmdir("/d"), Err(Error::NotEmpty));
    assert_eq!(rmdir("/d/e/f"), Err(Error::NotDirectory));
    assert_eq!(t.ns.unlink_at(&t.from(), b"/d/e"), Err(Error::IsDirectory));
    assert_eq!(t.open("/d", OpenFlags::WRITE).unwrap_err(), Error::IsDirectory);
    assert_eq!(t.find("/d/e/..").unwrap().vnode().ino(), t.find("/d").unwrap().vnode().ino());
    t.ns.unlink_at(&t.from(), b"/d/e/f").unwrap();
    let inner = t.find("/d/e").unwrap();
    rmdir("/d/e").unwrap();
    assert_eq!(t.find("/d").unwrap().vnode().getattr().unwrap().nlink, 2);
    let made = t.ns.create(&inner, b"late", NewNode::Regular, 0o644, &crate::Caller::ROOT);
    assert_eq!(made.unwrap_err(), Error::NotFound);
    rmdir("/d").unwrap();
    let root = t.find("/").unwrap();
    assert_eq!(root.vnode().getattr().unwrap().nlink, 2);
    assert_eq!(root.vnode().parent().unwrap().ino(), root.vnode().ino());
}

fn links(t: &Tree) {
    t.write("/a", b"1").unwrap();
    let a = t.find("/a").unwrap();
    t.ns.link_at(&a, &t.from(), b"/b").unwrap();
    assert_eq!(t.ns.link_at(&a, &t.from(), b"/b"), Err(Error::Exists));
    t.write("/b", b"22").unwrap();
    assert_eq!(t.read("/a").unwrap(), b"22");
    assert_eq!(a.vnode().getattr().unwrap().nlink, 2);
    assert_eq!(t.find("/b").unwrap().vnode().ino(), a.vnode().ino());
    t.ns.unlink_at(&t.from(), b"/a").unwrap();
    assert_eq!(t.find("/b").unwrap().vnode().getattr().unwrap().nlink, 1);
    assert_eq!(t.read("/b").unwrap(), b"22");
    t.ns.create_at(&t.from(), b"/d", NewNode::Directory, 0o755).unwrap();
    let d = t.find("/d").unwrap();
    assert_eq!(t.ns.link_at(&d, &t.from(), b"/e"), Err(Error::NotPermitted));
    // Both names of one file: a rename does nothing.
    t.ns.link_at(&t.find("/b").unwrap(), &t.from(), b"/c").unwrap();
    t.ns.rename_at(&t.from(), b"/b", &t.from(), b"/c", RenameMode::Replace).unwrap();
    assert_eq!(t.list("/").unwrap(), [&b"b"[..], b"c", b"d"]);
}

fn symlinks(t: &Tree) {
    let link = |p: &str, to: &str| {
        t.ns.create_at(&t.from(), p.as_bytes(), NewNode::Symlink(to.as_bytes()), 0o777).unwrap();
    };
    t.ns.create_at(&t.from(), b"/d", NewNode::Directory, 0o755).unwrap();
    t.write("/d/f", b"x").unwrap();
    link("/l", "d/f");
    link("/m", "/d");
    link("/loop", "loop");
    link("/new", "d/made");
    let long = "z".repeat(1000);
    link("/long", &long);
    assert_eq!(t.find("/long").unwrap().vnode().readlink().unwrap(), long.as_bytes());
    assert_eq!(t.find("/l").unwrap().vnode().getattr().unwrap().size, 3);
    assert_eq!(t.read("/l").unwrap(), b"x");
    assert_eq!(t.read("/m/f").unwrap(), b"x");
    assert_eq!(t.read("/m/../l").unwrap(), b"x");
    assert_eq!(t.read("/loop"), Err(Error::Loop));
    assert_eq!(t.open("/l", OpenFlags::READ | OpenFlags::NO_FOLLOW).unwrap_err(), Error::Loop);
    t.write("/new", b"made").unwrap();
    assert_eq!(t.read("/d/made").unwrap(), b"made");
    assert_eq!(t.find("/m").unwrap().kind(), FileType::Symlink);
    assert!(t.find("/m/").unwrap().is_dir());
    assert_eq!(t.find("/l/").unwrap_err(), Error::NotDirectory);
    let followed = t.ns.walk(&t.from(), b"/l", WalkFlags::FOLLOW).unwrap();
    assert_eq!(t.ns.path_of(&followed, t.ns.root()), b"/d/f");
    assert_eq!(t.find("/d/f").unwrap().vnode().readlink(), Err(Error::Invalid));
}

fn renames(t: &Tree) {
    let mv = |a: &str, b: &str, mode| t.ns.rename_at(&t.from(), a.as_bytes(), &t.from(), b.as_bytes(), mode);
    t.write("/a", b"a").unwrap();
    t.write("/b", b"b").unwrap();
    let b = t.open("/b", OpenFlags::READ).unwrap();
    assert_eq!(mv("/a", "/b", RenameMode::NoReplace), Err(Error::Exists));
    mv("/a", "/b", RenameMode::Replace).unwrap();
    assert_eq!(t.read("/b").unwrap(), b"a");
    assert_eq!(t.find("/a").unwrap_err(), Error::NotFound);
    let mut room = [0; 4];
    assert_eq!(b.read_at(0, &mut SliceSink::new(&mut room)), Ok(1));
    assert_eq!((room[0], b.getattr().unwrap().nlink), (b'b', 0));
    drop(b);
    t.write("/c", b"c").unwrap();
    mv("/b", "/c", RenameMode::Exchange).unwrap();
    assert_eq!((t.read("/b").unwrap(), t.read("/c").unwrap()), (b"c".to_vec(), b"a".to_vec()));
    assert_eq!(mv("/b", "/none", RenameMode::Exchange), Err(Error::NotFound));
    assert_eq!(mv("/none", "/b", RenameMode::Replace), Err(Error::NotFound));
    mv("/b", "/d", RenameMode::NoReplace).unwrap();
    assert_eq!(t.list("/").unwrap(), [&b"c"[..], b"d"]);
}

fn rename_directories(t: &Tree) {
    let mkdir = |p: &str| t.ns.create_at(&t.from(), p.as_bytes(), NewNode::Directory, 0o755).unwrap();
    let mv = |a: &str, b: &str, mode| t.ns.rename_at(&t.from(), a.as_bytes(), &t.from(), b.as_bytes(), mode);
    let nlink = |p: &str| t.find(p).unwrap().vnode().getattr().unwrap().nlink;
    for path in ["/a", "/a/b", "/a/b/c", "/x", "/x/y"] {
        mkdir(path);
    }
    t.write("/a/b/f", b"f").unwrap();
    assert_eq!(mv("/a", "/a/b/c/d", RenameMode::Replace), Err(Error::Invalid));
    assert_eq!(mv("/a/b/c", "/a", RenameMode::Replace), Err(Error::NotEmpty));
    assert_eq!(mv("/x", "/a/b", RenameMode::Replace), Err(Error::NotEmpty));
    assert_eq!(mv("/a/b", "/a/b/f", RenameMode::Replace), Err(Error::Invalid));
    assert_eq!(mv("/x", "/a/b/f", RenameMode::Replace), Err(Error::NotDirectory));
    assert_eq!(mv("/a/b/f", "/x", RenameMode::Replace), Err(Error::IsDirectory));
    mv("/a/b", "/x/y", RenameMode::Replace).unwrap();
    assert_eq!((nlink("/a"), nlink("/x"), nlink("/x/y")), (2, 3, 3));
    assert_eq!(t.read("/x/y/f").unwrap(), b"f");
    assert_eq!(t.find("/x/y/c/../..").unwrap().vnode().ino(), t.find("/x").unwrap().vnode().ino());
    let c = t.find("/x/y/c").unwrap();
    assert_eq!(t.ns.path_of(&c, t.ns.root()), b"/x/y/c");
    assert_eq!(c.vnode().parent().unwrap().ino(), t.find("/x/y").unwrap().vnode().ino());
    t.write("/file", b"1").unwrap();
    mv("/file", "/x/y", RenameMode::Exchange).unwrap();
    assert_eq!((nlink("/x"), nlink("/"), t.read("/x/y").unwrap()), (2, 5, b"1".to_vec()));
    assert_eq!(t.read("/file/f").unwrap(), b"f");
    assert_eq!(t.find("/file").unwrap().vnode().parent().unwrap().ino(), t.find("/").unwrap().vnode().ino());
}

fn sparse(t: &Tree) {
    let file = t.open("/s", OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE).unwrap();
    let vnode = file.vnode();
    vnode.write(1 << 20, &mut SliceSource::new(&[1; 4096])).unwrap();
    vnode.write(4 << 20, &mut SliceSource::new(&[2; 10])).unwrap();
    assert_eq!(file.getattr().unwrap().size, (4 << 20) + 10);
    let mut room = [9; 100];
    vnode.read(5000, &mut SliceSink::new(&mut room)).unwrap();
    assert_eq!(room, [0; 100]);
    // Where exactly holes lie is the file system's choice; data must be found, and nothing but zeroes before it.
    let data = vnode.seek(SeekWhat::Data, 0).unwrap();
    assert!(data <= 1 << 20, "data begins at {data}");
    assert!(vnode.seek(SeekWhat::Data, (1 << 20) + 10).unwrap() == (1 << 20) + 10);
    let hole = vnode.seek(SeekWhat::Hole, 1 << 20).unwrap();
    assert!(((1 << 20) + 4096..=(4 << 20) + 10).contains(&hole));
    assert_eq!(vnode.seek(SeekWhat::Hole, (4 << 20) + 5), Ok((4 << 20) + 10));
    assert_eq!(vnode.seek(SeekWhat::Data, (4 << 20) + 10), Err(Error::NoSuchAddress));
    assert_eq!(vnode.seek(SeekWhat::Hole, (4 << 20) + 10), Err(Error::NoSuchAddress));
    let huge = i64::MAX as u64;
    assert_eq!(vnode.write(huge, &mut SliceSource::new(b"x")), Err(Error::FileTooLarge));
}

fn truncate(t: &Tree) {
    let data: Vec<u8> = (0..200_000u32).map(|i| (i % 253) as u8 + 1).collect();
    t.write("/t", &data).unwrap();
    let vnode = t.find("/t").unwrap().vnode().clone();
    let size = |size| vnode.setattr(&SetAttr { size: Some(size), ..SetAttr::default() });
    for cut in [150_001, 131_072, 5000, 4096, 3, 0] {
        size(cut).unwrap();
        assert_eq!(t.read("/t").unwrap(), data[..cut as usize]);
        size(cut + 1000).unwrap();
        let mut want = data[..cut as usize].to_vec();
        want.resize(cut as usize + 1000, 0);
        assert_eq!(t.read("/t").unwrap(), want, "extended after a cut to {cut}");
        size(cut).unwrap();
    }
    assert_eq!(size(u64::MAX), Err(Error::FileTooLarge));
    assert_eq!(
        t.find("/").unwrap().vnode().setattr(&SetAttr { size: Some(0), ..SetAttr::default() }),
        Err(Error::IsDirectory)
    );
}

fn punch(t: &Tree) {
    let mut data = vec![5; 300_000];
    t.write("/p", &data).unwrap();
    let vnode = t.find("/p").unwrap().vnode().clone();
    for range in [100..200, 4096..8192, 120_000..270_000, 299_000..400_000] {
        vnode.fallocate(FallocateMode::PunchHole, range.start as u64..range.end as u64).unwrap();
        let end = range.end.min(data.len());
        data[range.start..end].fill(0);
        assert_eq!(t.read("/p").unwrap(), data, "punched {range:?}");
    }
    let zero = FallocateMode::ZeroRange { keep_size: false };
    match vnode.fallocate(zero, 250_000..350_000) {
        Ok(()) => {
            data[250_000..].fill(0);
            data.resize(350_000, 0);
        }
        Err(e) => assert_eq!(e, Error::Unsupported),
    }
    assert_eq!(t.read("/p").unwrap(), data);
    match vnode.fallocate(FallocateMode::Allocate { keep_size: false }, 0..500_000) {
        Ok(()) => data.resize(500_000, 0),
        Err(e) => assert_eq!(e, Error::Unsupported),
    }
    assert_eq!(t.read("/p").unwrap(), data);
}

fn attributes(t: &Tree) {
    t.write("/a", b"x").unwrap();
    let vnode = t.find("/a").unwrap().vnode().clone();
    let before = vnode.getattr().unwrap();
    let time = |secs, nanos| Some(SetTime::To(TimeSpec { secs, nanos }));
    let set = SetAttr {
        perm: Some(0o4711),
        uid: Some(1000),
        gid: Some(100_000),
        atime: time(-5, 1),
        mtime: time(1 << 33, 999_999_999),
        ..SetAttr::default()
    };
    vnode.setattr(&set).unwrap();
    let after = vnode.getattr().unwrap();
    assert_eq!((after.perm, after.uid, after.gid), (0o4711, 1000, 100_000));
    assert_eq!(after.atime, TimeSpec { secs: -5, nanos: 1 });
    assert_eq!(after.mtime, TimeSpec { secs: 1 << 33, nanos: 999_999_999 });
    assert!(after.ctime >= before.ctime && after.btime == before.btime && after.size == 1);
    let exact = TimeSpec { secs: 77, nanos: 7 };
    vnode.setattr(&SetAttr { ctime: Some(exact), btime: Some(exact), ..SetAttr::default() }).unwrap();
    let after = vnode.getattr().unwrap();
    assert_eq!((after.ctime, after.btime, after.perm), (exact, exact, 0o4711));
    // A write changes mtime and ctime.
    vnode.write(0, &mut SliceSource::new(b"y")).unwrap();
    let written = vnode.getattr().unwrap();
    assert!(written.mtime > exact && written.ctime > exact && written.mtime.secs < 1 << 33);
    // So does a change of names in a directory.
    let root = t.find("/").unwrap().vnode().clone();
    root.setattr(&SetAttr { mtime: time(5, 5), ..SetAttr::default() }).unwrap();
    t.write("/b", b"").unwrap();
    assert!(root.getattr().unwrap().mtime.secs > 5);
}

fn xattrs(t: &Tree) {
    t.write("/a", b"x").unwrap();
    let v = t.find("/a").unwrap().vnode().clone();
    assert_eq!(v.listxattr().unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(v.getxattr(b"user.a"), Err(Error::NoData));
    v.setxattr(b"user.a", b"1", XattrMode::Any).unwrap();
    v.setxattr(b"user.b", b"", XattrMode::Create).unwrap();
    assert_eq!(v.setxattr(b"user.a", b"2", XattrMode::Create), Err(Error::Exists));
    assert_eq!(v.setxattr(b"user.c", b"2", XattrMode::Replace), Err(Error::NoData));
    let big: Vec<u8> = (0..6000u32).map(|i| i as u8).collect();
    v.setxattr(b"trusted.big", &big, XattrMode::Any).unwrap();
    v.setxattr(b"user.a", b"three", XattrMode::Replace).unwrap();
    assert_eq!(v.getxattr(b"user.a").unwrap(), b"three");
    assert_eq!(v.getxattr(b"user.b").unwrap(), b"");
    assert_eq!(v.getxattr(b"trusted.big").unwrap(), big);
    let mut names = v.listxattr().unwrap();
    names.sort();
    assert_eq!(names, [&b"trusted.big"[..], b"user.a", b"user.b"]);
    v.setattr(&SetAttr { perm: Some(0o600), ..SetAttr::default() }).unwrap();
    v.removexattr(b"trusted.big").unwrap();
    assert_eq!(v.removexattr(b"trusted.big"), Err(Error::NoData));
    assert_eq!(v.listxattr().unwrap().len(), 2);
    assert_eq!((v.getattr().unwrap().perm, t.read("/a").unwrap()), (0o600, b"x".to_vec()));
    let root = t.find("/").unwrap().vnode().clone();
    root.setxattr(b"user.dir", b"d", XattrMode::Any).unwrap();
    assert_eq!(root.getxattr(b"user.dir").unwrap(), b"d");
}

fn open_unlinked(t: &Tree) {
    t.write("/u", b"still here").unwrap();
    let file = t.open("/u", OpenFlags::READ | OpenFlags::WRITE).unwrap();
    t.ns.unlink_at(&t.from(), b"/u").unwrap();
    assert!(file.dentry().is_removed());
    assert_eq!(file.getattr().unwrap().nlink, 0);
    file.write_at(10, &mut SliceSource::new(b"!")).unwrap();
    let mut room = [0; 20];
    assert_eq!(file.read_at(0, &mut SliceSink::new(&mut room)), Ok(11));
    assert_eq!(&room[..11], b"still here!");
    t.write("/u", b"another").unwrap();
    assert_eq!(file.read_at(0, &mut SliceSink::new(&mut room)), Ok(11));
    file.fsync(Fsync::All).unwrap();
    drop(file);
    assert_eq!(t.read("/u").unwrap(), b"another");
}

fn unnamed(t: &Tree) {
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::UNNAMED;
    let file = match t.open("/", flags) {
        Err(Error::Unsupported) => return,
        other => other.unwrap(),
    };
    file.write(&mut SliceSource::new(b"tmp")).unwrap();
    assert_eq!(t.list("/").unwrap().len(), 0);
    t.ns.link_at(file.dentry(), &t.from(), b"/named").unwrap();
    assert_eq!(t.read("/named").unwrap(), b"tmp");
    assert_eq!(file.getattr().unwrap().nlink, 1);
    drop(t.open("/", flags).unwrap());
}

fn many_entries(t: &Tree) {
    const NR: usize = 3000;
    let mut want: Vec<Vec<u8>> = Vec::new();
    for i in 0..NR {
        let name = format!("entry-{i}-{}", "n".repeat(i % 60));
        t.write(&format!("/{name}"), b"").unwrap();
        want.push(name.into_bytes());
    }
    want.sort();
    assert_eq!(t.list("/").unwrap(), want);
    t.ns.shrink_cache();
    assert_eq!(t.list("/").unwrap(), want);
    // In small bites, while every second entry that was seen is removed.
    let dir = t.open("/", OpenFlags::READ | OpenFlags::DIRECTORY).unwrap();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut bite: Vec<Vec<u8>> = Vec::new();
        dir.readdir(&mut |e| {
            if bite.len() == 7 {
                return false;
            }
            bite.push(e.name.to_vec());
            true
        })
        .unwrap();
        if bite.is_empty() {
            break;
        }
        for name in bite.iter().step_by(2).filter(|n| n.len() > 2) {
            t.ns.unlink(dir.dentry(), name, &crate::Caller::ROOT).unwrap();
        }
        seen.extend(bite.into_iter().filter(|n| n.len() > 2));
    }
    seen.sort();
    assert_eq!(seen, want);
    for name in t.list("/").unwrap() {
        t.ns.unlink(dir.dentry(), &name, &crate::Caller::ROOT).unwrap();
    }
    assert_eq!(t.list("/").unwrap(), Vec::<Vec<u8>>::new());
}

fn special_files(t: &Tree) {
    let id = DeviceId { major: 259, minor: 1_000_000 };
    let nodes = [
        ("/fifo", NewNode::Fifo, FileType::Fifo),
        ("/sock", NewNode::Socket, FileType::Socket),
        ("/chr", NewNode::CharDevice(id), FileType::CharDevice),
        ("/blk", NewNode::BlockDevice(id), FileType::BlockDevice),
    ];
    for (path, node, kind) in nodes {
        t.ns.create_at(&t.from(), path.as_bytes(), node, 0o640).unwrap();
        t.ns.shrink_cache();
        let attr = t.find(path).unwrap().vnode().getattr().unwrap();
        assert_eq!((attr.kind, attr.perm), (kind, 0o640));
        if matches!(kind, FileType::CharDevice | FileType::BlockDevice) {
            assert_eq!(attr.rdev, id);
        }
    }
    assert_eq!(t.list("/").unwrap(), [&b"blk"[..], b"chr", b"fifo", b"sock"]);
    assert_eq!(t.open("/chr", OpenFlags::READ).unwrap_err(), Error::NoSuchAddress);
}

/// Threads create, append, read and remove at once; nothing is lost, and appends do not tear.
fn parallel(make: &impl Fn() -> Arc<dyn FileSystem>) {
    const THREADS: usize = 4;
    const ROUNDS: usize = 60;
    let tree = Tree::new(make());
    tree.write("/log", b"").unwrap();
    std::thread::scope(|scope| {
        for id in 0..THREADS {
            let tree = &tree;
            scope.spawn(move || {
                let log = tree.open("/log", OpenFlags::WRITE | OpenFlags::APPEND).unwrap();
                for round in 0..ROUNDS {
                    let path = format!("/t{id}-{round}");
                    tree.write(&path, path.as_bytes()).unwrap();
                    log.write(&mut SliceSource::new(&[b'a' + id as u8; 100])).unwrap();
                    assert_eq!(tree.read(&path).unwrap(), path.as_bytes());
                    if round % 2 == 0 {
                        tree.ns.unlink_at(&tree.from(), path.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(tree.list("/").unwrap().len(), 1 + THREADS * ROUNDS / 2);
    let log = tree.read("/log").unwrap();
    assert_eq!(log.len(), THREADS * ROUNDS * 100);
    for line in log.chunks(100) {
        assert!(line.iter().all(|b| *b == line[0]), "an append was torn");
    }
}
