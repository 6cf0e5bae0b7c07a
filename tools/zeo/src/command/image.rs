//! `zeo image`: look into or change an image of a powered-off machine.
use crate::cli::{ImageCommand, ManifestList, Where};
use crate::failure::{self, Failure};
use crate::report::{Mode, WalkProgress, print_json};
use crate::say;
use anyhow::{Context, Result, bail};
use mkfs::image::{Access, Image};
use mkfs::info;
use mkfs::size::Size;
use mkfs::tree::edit::{self, Depth, Parents};
use mkfs::tree::export;
use mkfs::tree::host::HostTree;
use mkfs::tree::import::{Importer, Mounts};
use mkfs::tree::item::{Event, Item, Kind, Meta, Source, emit_data};
use mkfs::tree::manifest::{self, List, type_letter};
use mkfs::tree::path::{Last, resolve, show};
use mkfs::tree::pipeline;
use mkfs::tree::walk::{Covered, names, walk};
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use vfs::{Attr, FileType, TimeSpec, VnodeRef};

/// Runs it; the exit status.
pub fn run(command: ImageCommand, mode: Mode) -> Result<u8> {
    match command {
        ImageCommand::Ls { at, path, long } => read(&at, |root| ls(root, &path, long, mode))?,
        ImageCommand::Tree { at, path, level } => read(&at, |root| tree(root, &path, level))?,
        ImageCommand::Stat { at, paths } => read(&at, |root| stat(root, &paths, mode))?,
        ImageCommand::Cat { at, paths } => read(&at, |root| cat(root, &paths))?,
        ImageCommand::Cp { at, recursive, from, to } => cp(&at, recursive, &from, &to)?,
        ImageCommand::Put { at, file, path, mode: perm } => put(&at, &file, &path, perm.as_deref())?,
        ImageCommand::Mkdir { at, parents, paths } => {
            let parents = if parents { Parents::Make } else { Parents::Need };
            write(&at, |root| {
                paths.iter().try_for_each(|p| edit::make_directory(root, p.as_bytes(), parents))
            })?;
        }
        ImageCommand::Rm { at, recursive, paths } => {
            let depth = if recursive { Depth::All } else { Depth::One };
            write(&at, |root| {
                paths.iter().try_for_each(|p| edit::remove(root, p.as_bytes(), depth).map(drop))
            })?;
        }
        ImageCommand::Info { image } => show_info(&image, mode)?,
        ImageCommand::Verify { image } => return verify(&image, mode),
        ImageCommand::Manifest { at, list, path } => print_manifest(&at, &list, &path)?,
    }
    Ok(0)
}

fn read(at: &Where, job: impl FnOnce(&VnodeRef) -> Result<()>) -> Result<()> {
    with_root(at, Access::Read, job)
}

fn write(at: &Where, job: impl FnOnce(&VnodeRef) -> Result<()>) -> Result<()> {
    with_root(at, Access::Write, job)
}

/// Opens, does the job, closes; a job that failed after writing part still leaves a closed pool.
fn with_root(at: &Where, access: Access, job: impl FnOnce(&VnodeRef) -> Result<()>) -> Result<()> {
    let image = Image::open(&at.image, access)?;
    let done = (|| {
        let file_system = image.file_system(at.dataset.as_deref())?;
        let root = file_system.root()?;
        job(&root)?;
        drop(root);
        if access == Access::Write {
            file_system.sync()?;
        }
        Ok(())
    })();
    let closed = image.close();
    done.and(closed)
}

fn out() -> BufWriter<std::io::StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, std::io::stdout().lock())
}

/// A file's attributes for programs.
#[derive(Serialize)]
struct Stat {
    path: String,
    kind: String,
    mode: String,
    ino: u64,
    nlink: u64,
    uid: u32,
    gid: u32,
    size: u64,
    blocks: u64,
    rdev: (u32, u32),
    atime: String,
    mtime: String,
    ctime: String,
    btime: String,
    target: Option<String>,
    xattrs: Vec<String>,
}

fn stat_of(node: &VnodeRef, path: &str) -> Result<Stat> {
    let a = node.getattr()?;
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    Ok(Stat {
        path: path.to_owned(),
        kind: type_letter(a.kind).to_string(),
        mode: format!("{:04o}", a.perm),
        ino: a.ino,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        size: a.size,
        blocks: a.blocks,
        rdev: (a.rdev.major, a.rdev.minor),
        atime: time(a.atime),
        mtime: time(a.mtime),
        ctime: time(a.ctime),
        btime: time(a.btime),
        target: (a.kind == FileType::Symlink).then(|| node.readlink()).transpose()?.map(text),
        xattrs: node.listxattr()?.into_iter().map(text).collect(),
    })
}

fn time(t: TimeSpec) -> String {
    format!("{}.{:09}", t.secs, t.nanos)
}

fn ls(root: &VnodeRef, path: &str, long: bool, mode: Mode) -> Result<()> {
    let node = resolve(root, path.as_bytes(), Last::Follow)?;
    let mut list = Vec::new();
    if node.kind() == FileType::Directory {
        for name in names(&node)? {
            let child = node.lookup(&name)?;
            list.push((String::from_utf8_lossy(&name).into_owned(), child));
        }
    } else {
        list.push((path.to_owned(), node));
    }
    if mode == Mode::Json {
        let all: Vec<Stat> = list.iter().map(|(name, n)| stat_of(n, name)).collect::<Result<_>>()?;
        return print_json(&all);
    }
    let mut out = out();
    for (name, node) in list {
        if long {
            let link = match node.kind() {
                FileType::Symlink => format!(" -> {}", String::from_utf8_lossy(&node.readlink()?)),
                _ => String::new(),
            };
            writeln!(out, "{} {name}{link}", long_line(&node.getattr()?))?;
        } else {
            writeln!(out, "{name}")?;
        }
    }
    Ok(out.flush()?)
}

fn long_line(a: &Attr) -> String {
    format!(
        "{} {:04o} {:>3} {:>5} {:>5} {:>12} {}",
        type_letter(a.kind),
        a.perm,
        a.nlink,
        a.uid,
        a.gid,
        a.size,
        a.mtime.secs
    )
}

fn tree(root: &VnodeRef, path: &str, level: Option<usize>) -> Result<()> {
    let start = resolve(root, path.as_bytes(), Last::Follow)?;
    let mut out = out();
    writeln!(out, "{}", show(path.as_bytes()))?;
    walk(&start, &mut |found| {
        if found.depth == 0 || level.is_some_and(|l| found.depth > l) {
            return Ok(());
        }
        let name = found.path.rsplit(|b| *b == b'/').next().unwrap_or(&[]);
        let suffix = if found.node.kind() == FileType::Directory { "/" } else { "" };
        writeln!(out, "{}{}{suffix}", "  ".repeat(found.depth), String::from_utf8_lossy(name))?;
        Ok(())
    })?;
    Ok(out.flush()?)
}

fn stat(root: &VnodeRef, paths: &[String], mode: Mode) -> Result<()> {
    let mut all = Vec::new();
    for path in paths {
        all.push(stat_of(&resolve(root, path.as_bytes(), Last::Keep)?, path)?);
    }
    if mode == Mode::Json {
        return print_json(&all);
    }
    for s in all {
        let target = s.target.map(|t| format!(" -> {t}")).unwrap_or_default();
        say!("{}{target}", s.path);
        say!("  type {} mode {} links {} owner {}:{}", s.kind, s.mode, s.nlink, s.uid, s.gid);
        say!("  size {} blocks {} inode {} device {},{}", s.size, s.blocks, s.ino, s.rdev.0, s.rdev.1);
        say!("  access {} change {}\n  attributes {} birth {}", s.atime, s.mtime, s.ctime, s.btime);
        for name in s.xattrs {
            say!("  xattr {name}");
        }
    }
    Ok(())
}

fn cat(root: &VnodeRef, paths: &[String]) -> Result<()> {
    let mut out = out();
    for path in paths {
        let node = resolve(root, path.as_bytes(), Last::Follow)?;
        export::cat(&node, &mut out).with_context(|| path.clone())?;
    }
    Ok(out.flush()?)
}

fn cp(at: &Where, recursive: bool, from: &str, to: &str) -> Result<()> {
    match (from.strip_prefix(':'), to.strip_prefix(':')) {
        (Some(from), None) => read(at, |root| copy_out(root, recursive, from, Path::new(to))),
        (None, Some(to)) => write(at, |root| copy_in(root, recursive, Path::new(from), to)),
        _ => {
            let hint = "the path in the image starts with a colon: `zeo image cp IMAGE :/etc/passwd here`";
            Err(Failure::new(2, "one path must be in the image and one on the host", hint).into())
        }
    }
}

fn copy_out(root: &VnodeRef, recursive: bool, from: &str, to: &Path) -> Result<()> {
    let node = resolve(root, from.as_bytes(), Last::Keep)?;
    if node.kind() == FileType::Directory && !recursive {
        bail!("{from}: is a directory; copy it with -r");
    }
    // As cp does: into a directory that is there, under the same name.
    let name = from.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    let target = if to.is_dir() && !name.is_empty() { to.join(name) } else { to.to_owned() };
    let outcome = export::export(&node, &target)?;
    for warning in outcome.warnings {
        eprintln!("zeo: {warning}");
    }
    Ok(())
}

fn copy_in(root: &VnodeRef, recursive: bool, from: &Path, to: &str) -> Result<()> {
    let stat = from.symlink_metadata().with_context(|| from.display().to_string())?;
    if stat.is_dir() && !recursive {
        bail!("{}: is a directory; copy it with -r", from.display());
    }
    let existing = resolve(root, to.as_bytes(), Last::Follow).ok();
    let is_directory = existing.is_some_and(|n| n.kind() == FileType::Directory);
    let mut target = to.as_bytes().to_vec();
    if is_directory && let Some(name) = from.canonicalize()?.file_name() {
        target.push(b'/');
        target.extend_from_slice(name.as_encoded_bytes());
    }
    pipeline::run(vec![Box::new(HostTree::new(from, &target))], importer(root)?, &mut |_, _| {})?;
    Ok(())
}

fn importer(root: &VnodeRef) -> Result<Importer> {
    let mut mounts = Mounts::new();
    mounts.insert(b"/".to_vec(), root.clone());
    Importer::new(mounts, now())
}

fn now() -> TimeSpec {
    let now = rt::wall_clock();
    TimeSpec { secs: now.secs, nanos: now.nanos }
}

/// The content of a file or of standard input as one item.
struct Put {
    input: Option<Box<dyn Read + Send>>,
    item: Item,
}

impl Source for Put {
    fn produce(&mut self, emit: mkfs::tree::item::Emit<'_>) -> Result<()> {
        emit(Event::Item(self.item.clone()))?;
        if let Some(mut input) = self.input.take() {
            emit_data(&mut input, emit)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        show(&self.item.path)
    }
}

fn put(at: &Where, file: &Path, path: &str, perm: Option<&str>) -> Result<()> {
    let perm = match perm.map(mkfs::recipe::parse_mode) {
        Some(None) => {
            return Err(
                Failure::new(2, "--mode takes permission bits in octal", "for example --mode 0644").into()
            );
        }
        Some(Some(perm)) => perm,
        None => 0o644,
    };
    let input: Box<dyn Read + Send> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(file).with_context(|| file.display().to_string())?)
    };
    let item = Item { path: path.into(), kind: Kind::Regular { size: 0 }, meta: Meta::root(perm, now()) };
    write(at, |root| {
        pipeline::run(vec![Box::new(Put { input: Some(input), item })], importer(root)?, &mut |_, _| {})?;
        Ok(())
    })
}

fn print_manifest(at: &Where, list: &ManifestList, path: &str) -> Result<()> {
    let image = Image::open(&at.image, Access::Read)?;
    let root = image.file_system(at.dataset.as_deref())?.root()?;
    let start = resolve(&root, path.as_bytes(), Last::Follow)?;
    let which = match list {
        ManifestList { sha256: true, .. } => List::Sha256,
        ManifestList { meta: true, .. } => List::Meta,
        _ => List::Xattr,
    };
    // The lists are those of the whole file system as it is mounted; a part of it is listed as it lies.
    let is_whole = start.ino() == root.ino();
    let covered = if is_whole { image.covered(at.dataset.as_deref())? } else { Covered::new() };
    let mut out = out();
    manifest::write(&start, &covered, which, &mut out)?;
    out.flush()?;
    image.close()
}

fn show_info(name: &str, mode: Mode) -> Result<()> {
    let image = Image::open(name, Access::Read)?;
    let info = info::collect(&image);
    image.close()?;
    let info = info?;
    if mode == Mode::Json {
        return print_json(&info);
    }
    for part in &info.partitions {
        let kind = if part.is_partition { "partition" } else { "whole" };
        say!("{}: {kind}, pool at byte {}, {}", part.path.display(), part.offset, Size(part.len));
    }
    let pool = &info.pool;
    say!("pool {} guid {} version {} txg {}", pool.name, pool.guid, pool.version, pool.txg);
    if let Some(why) = &pool.read_only_reason {
        say!("can only be read: {why}");
    }
    let space = &info.space;
    say!("space {} allocated {} free {}", Size(space.size), Size(space.allocated), Size(space.free));
    let active: Vec<String> = info
        .features
        .iter()
        .filter(|f| f.refcount > 0)
        .map(|f| format!("{}={}", f.guid, f.refcount))
        .collect();
    say!("active features: {}", active.join(" "));
    for d in &info.datasets {
        let place = d.mountpoint.as_deref().unwrap_or("-");
        say!("{:<10} {} used {} refers {} at {place}", d.kind, d.name, Size(d.used), Size(d.referenced));
    }
    Ok(())
}

fn verify(name: &str, mode: Mode) -> Result<u8> {
    let image = Image::open(name, Access::Read)?;
    let bar = WalkProgress::new(mode, "verifying");
    let report = info::verify(&image, &mut |p| bar.set(p.bytes_done, p.bytes_total));
    drop(bar);
    image.close()?;
    let report = report?;
    if mode == Mode::Json {
        let findings: Vec<String> = report.findings.iter().map(|f| format!("{f:?}")).collect();
        print_json(&serde_json::json!({
            "clean": report.is_clean(),
            "findings": findings,
            "findings_dropped": report.nr_findings_dropped,
            "blocks": report.nr_blocks,
            "copies": report.nr_copies,
            "bytes_allocated": report.bytes_allocated,
            "datasets": report.nr_datasets,
        }))?;
    } else {
        for finding in &report.findings {
            say!("{finding:?}");
        }
        say!(
            "{} blocks, {} copies, {} in {} datasets: {}",
            report.nr_blocks,
            report.nr_copies,
            Size(report.bytes_allocated),
            report.nr_datasets,
            if report.is_clean() { "no errors" } else { "ERRORS" }
        );
    }
    Ok(if report.is_clean() { 0 } else { failure::FINDINGS })
}
