//! From a name space to a running program, and to its exit status.
use crate::errno::{Errno, SysResult};
use crate::fd::FdTable;
use crate::fd::console::{Console, LineOut};
use crate::kernel::{self, Kernel};
use crate::signal::SigSet;
use crate::sys::{io, open, table, trace};
use crate::task::cred::Credentials;
use crate::task::exec::{self, Args, short_name};
use crate::task::place::AT_FDCWD;
use crate::task::process::Ending;
use crate::task::{Parts, Place, Process, Task, exit, pids};
use crate::{glue, procfs};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use guest_config::Config;
use linux_raw_sys::general::{O_NOCTTY, O_RDWR};
use rt::time::now;
use vfs::devfs::DevFs;
use vfs::ramfs::RamFs;
use vfs::{Caller, DeviceId, FileSystem, LockTable, MountFlags, Namespace, NewNode, WalkFlags, WalkFrom};

/// How often what was changed through mappings is written back, at the latest.
const WRITE_BACK_EVERY: Duration = Duration::from_secs(5);
/// How long the other processes have to end when the first one has.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What to run, and on what.
pub struct Boot {
    /// The root file system, mounted; data sets at their places.
    pub namespace: Arc<Namespace>,
    /// The program, its surroundings and its user.
    pub config: Config,
    /// Print calls as they happen.
    pub is_traced: bool,
    /// The kernel's command line, for /proc/cmdline.
    pub cmdline: Vec<u8>,
}

impl core::fmt::Debug for Boot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Boot({:?})", alloc::string::String::from_utf8_lossy(&self.config.program))
    }
}

/// Runs a program to its end; its exit status (128 + signal if one killed it, 127 if it cannot be started).
/// Every other process has ended when this returns; file systems are neither synced nor unmounted.
pub fn run(boot: Boot) -> i32 {
    let traced = boot.is_traced;
    let kernel = make_kernel(&boot);
    mount_all(kernel, &boot.config.tmpfs);
    glue::install(traced);
    hal::serial::enable_input(on_input);
    rt::thread::spawn("write-back", write_back);
    trace::set(traced);
    let first = match start_first(kernel, &boot) {
        Ok(first) => first,
        Err(e) => {
            log::error!(
                "cannot start {:?}: {e:?}",
                alloc::string::String::from_utf8_lossy(&boot.config.program)
            );
            return 127;
        }
    };
    // Keys typed earlier wait: an interrupt key must find the program it is meant for.
    rt::thread::spawn("console", read_console);
    exit::first_ended().wait();
    trace::set(false);
    end_others();
    io::settle_all_mappings();
    if traced || log::log_enabled!(log::Level::Info) {
        table::for_each_unknown(|nr, count| {
            log::warn!("system call {nr} is not there; asked for {count} times");
        });
    }
    first.ending().map_or(0, Ending::to_exit_code)
}

fn make_kernel(boot: &Boot) -> &'static Kernel {
    kernel::init(|| Kernel {
        namespace: boot.namespace.clone(),
        locks: LockTable::new(),
        console: Arc::new(Console::new(LineOut::SERIAL)),
        is_traced: boot.is_traced,
        hostname: if boot.config.hostname.is_empty() {
            b"zeolite".to_vec()
        } else {
            boot.config.hostname.clone()
        },
        cmdline: boot.cmdline.clone(),
        started: now(),
    })
}

/// Mounts a file system on a directory of the root, which is made if it is missing and can be.
fn mount_at(ns: &Arc<Namespace>, path: &[u8], fs: Arc<dyn FileSystem>, flags: MountFlags) {
    let from = WalkFrom { caller: Caller::ROOT, root: ns.root(), start: ns.root() };
    let walk = || ns.walk(&from, path, WalkFlags::FOLLOW | WalkFlags::DIRECTORY);
    let dir = walk().or_else(|_| {
        ns.create_at(&from, path, NewNode::Directory, 0o755)?;
        walk()
    });
    if let Err(e) = dir.and_then(|dir| ns.mount(&dir, fs, flags)) {
        log::warn!("cannot mount on {:?}: {e}", alloc::string::String::from_utf8_lossy(path));
    }
}

fn mount_all(kernel: &Kernel, tmpfs: &[Vec<u8>]) {
    let ns = &kernel.namespace;
    match make_dev(kernel) {
        Ok(dev) => {
            mount_at(ns, b"/dev", dev.file_system(), MountFlags::empty());
            mount_at(ns, b"/dev/shm", RamFs::new(memory_share(), 0o1777), MountFlags::empty());
        }
        Err(e) => log::error!("no /dev: {e}"),
    }
    mount_at(ns, b"/proc", procfs::proc_fs(), MountFlags::empty());
    mount_at(ns, b"/sys", procfs::sys_fs(), MountFlags::empty());
    for path in tmpfs {
        mount_at(ns, path, RamFs::new(memory_share(), 0o1777), MountFlags::empty());
    }
}

/// What a file system in memory may hold: half of it.
fn memory_share() -> u64 {
    mm::frames::nr_total() as u64 * 4096 / 2
}

fn make_dev(kernel: &Kernel) -> vfs::Result<DevFs> {
    let devices = kernel.namespace.devices();
    let dev = DevFs::new(devices)?;
    let nodes: [(&str, u32, u32); 3] = [("console", 5, 1), ("tty", 5, 0), ("ttyS0", 4, 64)];
    for (name, major, minor) in nodes {
        dev.register(devices, name, DeviceId { major, minor }, 0o666, kernel.console.clone())?;
    }
    Ok(dev)
}

/// Bytes typed, between the interrupt and the thread that edits lines.
static INPUT: input::Ring = input::Ring::new();

fn on_input(byte: u8) {
    INPUT.push(byte);
}

fn read_console() {
    loop {
        let byte = INPUT.pop();
        kernel::kernel().console.input(byte);
    }
}

fn write_back() {
    loop {
        rt::thread::sleep(WRITE_BACK_EVERY);
        io::settle_all_mappings();
    }
}

fn start_first(kernel: &Kernel, boot: &Boot) -> SysResult<Arc<Process>> {
    let process = Process::first(Credentials::new(boot.config.uid, boot.config.gid));
    let root = kernel.namespace.root().clone();
    let place = Place::new(root.clone(), root);
    let space = mm::space::AddressSpace::new().ok_or(Errno::ENOMEM)?;
    let task = Task::new(Parts {
        tid: process.pid,
        process: process.clone(),
        fds: Arc::new(FdTable::new()),
        place: Arc::new(place),
        space,
        mask: SigSet::default(),
        name: short_name(&boot.config.program),
    });
    process.threads.lock().push(task.clone());
    pids::add_task(&task);
    if !boot.config.cwd.is_empty() {
        let cwd = task.resolve(AT_FDCWD, &boot.config.cwd, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?;
        task.place.set_cwd(cwd);
    }
    open_streams(&task)?;
    let mut argv = alloc::vec![boot.config.program.clone()];
    argv.extend(boot.config.args.iter().cloned());
    let frame =
        exec::prepare_first(&task, &boot.config.program, Args { argv, envp: boot.config.env.clone() })?;
    glue::start(&task, &frame, 0, None)?;
    Ok(process)
}

fn open_streams(task: &Task) -> SysResult<()> {
    let console = open::open_path(task, AT_FDCWD, b"/dev/console", O_RDWR | O_NOCTTY, 0, WalkFlags::empty())?;
    for _ in 0..3 {
        task.fds.add(console.clone(), false, 0, 3)?;
    }
    Ok(())
}

/// Kills every process that is left and waits until they are gone.
fn end_others() {
    let deadline = now().after(END_WITHIN);
    loop {
        let left: Vec<_> = pids::processes().into_iter().filter(|p| !p.is_zombie()).collect();
        if left.is_empty() || now() >= deadline {
            if !left.is_empty() {
                log::warn!("{} processes did not end", left.len());
            }
            return;
        }
        for process in &left {
            process.begin_exit(Ending::Killed { signo: crate::signal::SIGKILL, is_core: false });
        }
        rt::thread::sleep(Duration::from_millis(2));
    }
}

mod input {
    //! A ring of bytes that an interrupt handler fills and one thread empties.
    //!
    //! One producer (the serial interrupt goes to one CPU), one consumer; each owns one index.
    use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
    use rt::Once;
    use rt::thread::{Thread, current, park};

    const SIZE: usize = 1024;

    pub(super) struct Ring {
        bytes: [AtomicU8; SIZE],
        head: AtomicUsize,
        tail: AtomicUsize,
        reader: Once<Thread>,
    }

    impl Ring {
        pub(super) const fn new() -> Self {
            Self {
                bytes: [const { AtomicU8::new(0) }; SIZE],
                head: AtomicUsize::new(0),
                tail: AtomicUsize::new(0),
                reader: Once::new(),
            }
        }

        /// Adds a byte; one too many is lost. Called in interrupt context.
        pub(super) fn push(&self, byte: u8) {
            let head = self.head.load(Ordering::Relaxed);
            if head - self.tail.load(Ordering::Acquire) == SIZE {
                return;
            }
            self.bytes[head % SIZE].store(byte, Ordering::Relaxed);
            self.head.store(head + 1, Ordering::Release);
            if let Some(reader) = self.reader.get() {
                reader.unpark();
            }
        }

        /// The next byte; blocks for it.
        pub(super) fn pop(&self) -> u8 {
            self.reader.get_or_init(current);
            let tail = self.tail.load(Ordering::Relaxed);
            while self.head.load(Ordering::Acquire) == tail {
                park("console input");
            }
            let byte = self.bytes[tail % SIZE].load(Ordering::Relaxed);
            self.tail.store(tail + 1, Ordering::Release);
            byte
        }
    }
}
