//! Every file of OpenZFS's pools: types, modes, owners, links, sizes, times, targets, contents and extended attributes
//! must be what OpenZFS listed.
use blockdev::BlockDevice;
use golden_tests::{Pool, difference};
use rt_std as _;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use vfs::{FileSystem, FileType, SliceSink, VnodeRef};
use zfs::spa::{ImportOptions, Spa};
use zpl::MountOptions;

/// Pools whose every dataset must be read.
const POOLS: &[&str] = &[
    "acl",
    "asyncdest",
    "bigdir",
    "brt",
    "ckpoint",
    "cksum",
    "comp",
    "compat20",
    "copies",
    "dnode",
    "embed",
    "full",
    "gang",
    "grub2",
    "holebirth",
    "logsm",
    "multi",
    "names",
    "nofeat",
    "nologsm",
    "plain",
    "quota",
    "recsize",
    "snap",
    "special",
    "stripe",
    "stripemir",
    "twoway",
    "v15",
    "v28",
    "zilmain",
];

fn import(name: &str) -> (Pool, zfs::Result<Arc<Spa>>) {
    let pool = Pool::unpack(name).unwrap();
    let open = |path| blockdev_host::OpenOptions::new().read_only(true).open(path).unwrap();
    let devices: Vec<Arc<dyn BlockDevice>> =
        pool.images.iter().map(|path| Arc::new(open(path)) as Arc<dyn BlockDevice>).collect();
    let options = ImportOptions { read_only: true, ..ImportOptions::default() };
    let spa = Spa::import(&devices, &options);
    (pool, spa)
}

/// What the lists say, in their own forms.
#[derive(Default)]
struct Lists {
    meta: Vec<Vec<u8>>,
    sha256: Vec<Vec<u8>>,
    xattrs: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Lists {
    fn of(fs: &dyn FileSystem) -> vfs::Result<Self> {
        let mut lists = Self::default();
        lists.visit(&fs.root()?, b"")?;
        Ok(lists)
    }

    fn visit(&mut self, dir: &VnodeRef, path: &[u8]) -> vfs::Result<()> {
        self.note(dir, path)?;
        let mut names = Vec::new();
        dir.readdir(0, &mut |e| {
            names.push((e.name.to_vec(), e.kind, e.ino));
            true
        })?;
        for (name, kind, ino) in names {
            let vnode = dir.lookup(&name)?;
            assert_eq!((vnode.kind(), vnode.ino()), (kind, ino));
            let path = if path.is_empty() { name } else { [path, b"/", &name[..]].concat() };
            if kind == FileType::Directory {
                self.visit(&vnode, &path)?;
            } else {
                self.note(&vnode, &path)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, vnode: &VnodeRef, path: &[u8]) -> vfs::Result<()> {
        let mut attrs = BTreeMap::new();
        for name in vnode.listxattr()? {
            let value = vnode.getxattr(&name)?;
            let is_listed = [&b"user."[..], b"trusted.", b"security."].iter().any(|p| name.starts_with(p));
            if is_listed {
                attrs.insert(name, value);
            }
        }
        if !attrs.is_empty() {
            self.xattrs.insert(if path.is_empty() { b".".to_vec() } else { path.to_vec() }, attrs);
        }
        if path.is_empty() {
            return Ok(());
        }
        let a = vnode.getattr()?;
        let kind = match a.kind {
            FileType::Regular => 'f',
            FileType::Directory => 'd',
            FileType::Symlink => 'l',
            FileType::Fifo => 'p',
            FileType::Socket => 's',
            FileType::CharDevice => 'c',
            FileType::BlockDevice => 'b',
        };
        let (links, size) = match a.kind {
            FileType::Directory => ("-".to_owned(), "-".to_owned()),
            _ => (a.nlink.to_string(), a.size.to_string()),
        };
        let time = format!("{}.{:09}0", a.mtime.secs, a.mtime.nanos);
        let mut line = format!("{kind} {:o} {} {} {links} {size} {time} ", a.perm, a.uid, a.gid).into_bytes();
        line.extend_from_slice(path);
        if a.kind == FileType::Symlink {
            line.extend_from_slice(b" -> ");
            line.extend_from_slice(&vnode.readlink()?);
        }
        self.meta.push(line);
        if a.kind == FileType::Regular {
            let hash = hash(vnode, a.size)?;
            self.sha256.push(sha256sum_line(&hash, path));
        }
        Ok(())
    }
}

fn hash(vnode: &VnodeRef, size: u64) -> vfs::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = vnode.read(at, &mut SliceSink::new(&mut buffer))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        at += n as u64;
    }
    assert_eq!(at, size);
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// As sha256sum(1) prints it: odd names are escaped and marked.
fn sha256sum_line(hash: &str, path: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    if path.iter().any(|b| matches!(b, b'\\' | b'\n' | b'\r')) {
        line.push(b'\\');
    }
    line.extend_from_slice(format!("{hash}  ./").as_bytes());
    for b in path {
        match b {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b => line.push(*b),
        }
    }
    line
}

/// getfattr's list.
fn parse_xattrs(list: &[u8]) -> BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut all: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>> = BTreeMap::new();
    let mut path = Vec::new();
    for line in list.split(|b| *b == b'\n') {
        if let Some(name) = line.strip_prefix(b"# file: ") {
            path = unescape(name);
        } else if !line.is_empty() {
            let eq = line.iter().position(|b| *b == b'=').unwrap_or(line.len());
            let hex = line.get(eq + 1..).unwrap_or(b"").strip_prefix(b"0x").unwrap_or(b"");
            let digit = |b: u8| (b as char).to_digit(16).unwrap() as u8;
            let value = hex.chunks(2).map(|c| digit(c[0]) << 4 | digit(c[1])).collect();
            all.entry(path.clone()).or_default().insert(unescape(&line[..eq]), value);
        }
    }
    all
}

/// getfattr writes odd bytes as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let octal = text
            .get(at + 1..at + 4)
            .filter(|d| text[at] == b'\\' && d.iter().all(|b| (b'0'..b'8').contains(b)));
        if let Some(d) = octal {
            out.push(d.iter().fold(0u8, |n, b| n.wrapping_mul(8).wrapping_add(b - b'0')));
            at += 4;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    let mut sorted: Vec<&Vec<u8>> = lines.iter().collect();
    sorted.sort();
    sorted.iter().flat_map(|l| l.iter().copied().chain([b'\n'])).collect()
}

fn sorted(list: &[u8]) -> Vec<u8> {
    let lines: Vec<Vec<u8>> =
        list.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect();
    joined(&lines)
}

/// What is wrong with a dataset, if anything.
fn check(pool: &Pool, spa: &Arc<Spa>, dataset: &str) -> Result<(), String> {
    let fs = match zpl::mount(spa, dataset, &MountOptions::default()) {
        Ok(fs) => fs,
        // Refused by name, never read wrongly.
        Err(zpl::Error::CaseInsensitive | zpl::Error::Normalized) if pool.name == "names" => return Ok(()),
        Err(e) => return Err(format!("mount: {e}")),
    };
    let lists = Lists::of(&*fs).map_err(|e| e.to_string())?;
    let expect = |kind| pool.list(dataset, kind).unwrap();
    for (kind, got) in [("meta", &lists.meta), ("sha256", &lists.sha256)] {
        if let Some(want) = expect(kind)
            && let Some(text) = difference(&sorted(&want), &joined(got))
        {
            return Err(format!("{kind}:\n{text}"));
        }
    }
    let want = parse_xattrs(&expect("xattr").unwrap_or_default());
    for (path, attrs) in &want {
        if lists.xattrs.get(path) != Some(attrs) {
            return Err(format!("extended attributes of {} differ", String::from_utf8_lossy(path)));
        }
    }
    if lists.xattrs.len() != want.len() {
        return Err(format!("extended attributes of {} files, expected {}", lists.xattrs.len(), want.len()));
    }
    Ok(())
}

#[test]
fn every_file_is_as_openzfs_listed_it() {
    let mut wrong = Vec::new();
    let mut nr_datasets = 0;
    for name in POOLS {
        let (pool, spa) = import(name);
        let spa = match spa {
            Ok(spa) => spa,
            Err(e) => {
                wrong.push(format!("{name}: import: {e}"));
                continue;
            }
        };
        for dataset in pool.listed().unwrap() {
            nr_datasets += 1;
            if let Err(e) = check(&pool, &spa, &dataset) {
                wrong.push(format!("{dataset}: {e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(nr_datasets >= POOLS.len());
}
