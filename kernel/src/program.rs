//! From a root file system to the program's exit status: configuration, hand-over to the Linux ABI, clean end.
use alloc::sync::Arc;
use alloc::vec::Vec;
use guest_config::Config;
use vfs::ramfs::RamFs;
use vfs::{Caller, MountFlags, Namespace, OpenFlags, SliceSink, WalkFrom};

/// Names the name cache keeps.
const NAMES_MAX: usize = 64 << 10;
/// Environment of a program that nobody gave one.
const DEFAULT_ENV: [&[u8]; 3] =
    [b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", b"HOME=/root", b"TERM=linux"];
/// Exit status when there is nothing to run.
const STATUS_NOT_FOUND: u8 = 127;

/// A root file system in memory with the content of an archive.
pub(crate) fn memory_root(archive: &[u8]) -> vfs::Result<Arc<Namespace>> {
    let limit = mm::frames::nr_total() as u64 * 4096;
    let ns = Namespace::new(RamFs::new(limit, 0o755), MountFlags::empty(), NAMES_MAX)?;
    let nr_members = linux::initrd::unpack(archive, &ns)?;
    log::info!("unpacked {nr_members} files into memory");
    Ok(ns)
}

/// What the root's configuration file says, changed by the command line.
fn configuration(ns: &Namespace, command_line: &str) -> Config {
    let mut config = match read_configuration(ns) {
        Ok(text) => Config::parse(&text).unwrap_or_else(|e| {
            log::error!("{}: {e}", guest_config::PATH);
            Config::default()
        }),
        Err(vfs::Error::NotFound) => Config::default(),
        Err(e) => {
            log::error!("{}: {e}", guest_config::PATH);
            Config::default()
        }
    };
    if let Err(e) = config.apply_command_line(command_line.as_bytes()) {
        log::error!("command line: {e}");
    }
    config
}

fn read_configuration(ns: &Namespace) -> vfs::Result<Vec<u8>> {
    let from = WalkFrom { caller: Caller::ROOT, root: ns.root(), start: ns.root() };
    let file = ns.open(&from, guest_config::PATH.as_bytes(), OpenFlags::READ, 0)?;
    let size = usize::try_from(file.getattr()?.size).unwrap_or(usize::MAX);
    let mut text = alloc::vec![0; size.min(guest_config::SIZE_MAX + 1)];
    let n = file.read(&mut SliceSink::new(&mut text))?;
    text.truncate(n);
    Ok(text)
}

/// Runs what the root is configured for and unmounts everything; the exit status.
pub(crate) fn run(namespace: &Arc<Namespace>, command_line: &str, is_traced: bool) -> u8 {
    let config = configuration(namespace, command_line);
    if config.program.is_empty() {
        log::error!("nothing says what to run");
        return STATUS_NOT_FOUND;
    }
    let mut env = config.env;
    for default in DEFAULT_ENV {
        let name = default.split_inclusive(|b| *b == b'=').next().unwrap_or_default();
        if !env.iter().any(|e| e.starts_with(name)) {
            env.push(default.to_vec());
        }
    }
    let status = linux::run(linux::Boot {
        namespace: namespace.clone(),
        program: config.program,
        args: config.args,
        env,
        cwd: config.cwd,
        hostname: config.hostname,
        tmpfs: config.tmpfs,
        uid: config.uid,
        gid: config.gid,
        is_traced,
        cmdline: command_line.as_bytes().to_vec(),
    });
    if let Err(e) = namespace.sync().and_then(|()| namespace.unmount_all()) {
        log::error!("the file systems did not end cleanly: {e}");
    }
    status as u8
}
