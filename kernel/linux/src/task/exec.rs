//! Programs: loading them, and execve.
//!
//! The new address space is built completely, beside the old one, before anything of the caller changes; an error up
//! to that point leaves the caller as it was.
use super::process::Image;
use super::{Task, exit, pids};
use crate::elf::{self, HEADER_SIZE, Header, PHENT, Program, Segment};
use crate::errno::{Errno, SysResult};
use crate::glue;
use crate::kernel::kernel;
use crate::stack::{self, StackImage};
use crate::vdso;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hal::trap::TrapFrame;
use mm::space::{AddressSpace, Backing, FileSource, MapPlace, MapRequest, Prot, VmaFlags};
use vfs::{Access, DentryRef, FileType, SliceSink, WalkFlags};

/// Where position-independent programs go: as on Linux without randomisation.
const PIE_BASE: u64 = 0x5555_5555_4000;
/// Top of the main stack.
const STACK_TOP: u64 = 0x7fff_ffff_e000;
/// What of the stack is mapped at once; it grows below.
const STACK_INITIAL: u64 = 132 << 10;
/// Scripts that name scripts.
const SCRIPTS_MAX: u32 = 5;
/// Most bytes of arguments and environment.
pub const ARGS_MAX: usize = 2 << 20;
/// Bytes looked at to tell what a file is.
const HEAD: usize = 256;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// Arguments, the program's name first.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
}

/// A program ready to run.
#[derive(Debug)]
pub struct Loaded {
    space: Arc<AddressSpace>,
    entry: u64,
    rsp: u64,
    image: Image,
    name: [u8; 16],
}

impl Loaded {
    /// Names the thread after a path other than the program's own.
    pub fn set_name(&mut self, path: &[u8]) {
        self.name = short_name(path);
    }
}

struct Opened {
    dentry: DentryRef,
    head: [u8; HEAD],
    len: usize,
}

/// Opens a file for execution and reads its first bytes.
fn open(task: &Task, dirfd: i32, path: &[u8], flags: WalkFlags) -> SysResult<Opened> {
    let dentry = task.resolve(dirfd, path, flags)?;
    if dentry.kind() != FileType::Regular {
        return Err(if dentry.kind() == FileType::Symlink { Errno::ELOOP } else { Errno::EACCES });
    }
    let attr = dentry.vnode().getattr()?;
    task.with_caller(|caller| vfs::check_access(&attr, &caller, Access::EXEC))?;
    let mut head = [0; HEAD];
    let len = dentry.vnode().read(0, &mut SliceSink::new(&mut head))?;
    Ok(Opened { dentry, head, len })
}

/// Loads a program into a new address space.
///
/// # Errors
/// As execve(2).
pub fn load(task: &Task, dirfd: i32, path: &[u8], flags: WalkFlags, mut args: Args) -> SysResult<Loaded> {
    let mut file = open(task, dirfd, path, flags)?;
    let mut name = path.to_vec();
    for _ in 0..SCRIPTS_MAX {
        let head = &file.head[..file.len];
        if !head.starts_with(b"#!") {
            return load_elf(task, &file, &name, args);
        }
        let (interp, argument) = elf::parse_script(head)?;
        let mut argv = alloc::vec![interp.to_vec()];
        argv.extend(argument.map(<[u8]>::to_vec));
        argv.push(name);
        argv.extend(args.argv.drain(..).skip(1));
        args.argv = argv;
        name = interp.to_vec();
        file = open(task, super::place::AT_FDCWD, &name, WalkFlags::FOLLOW)?;
    }
    Err(Errno::ELOOP)
}

fn load_elf(task: &Task, file: &Opened, path: &[u8], args: Args) -> SysResult<Loaded> {
    let header = elf::parse_header(&file.head[..file.len])?;
    let program = read_program(&file.dentry, &header)?;
    let space = AddressSpace::new().ok_or(Errno::ENOMEM)?;
    let (start, _) = program.span();
    let bias = if header.is_fixed { 0 } else { PIE_BASE.next_multiple_of(program.align()) - start };
    map_program(&space, &file.dentry, &program, bias)?;
    let end = program.segments.last().map_or(0, |s| s.vaddr + s.memsz);
    space.set_heap((bias + end).next_multiple_of(4096));
    let interp = match program.interp {
        None => None,
        Some((offset, len)) => Some(load_interpreter(task, &space, &file.dentry, offset, len)?),
    };
    let (interp_base, entry) = interp.unwrap_or((0, bias + header.entry));
    map_stack(&space, program.has_executable_stack)?;
    let vdso = vdso::map(&space)?;
    let cred = task.process.cred.lock().clone();
    let content = StackImage {
        args: &args.argv,
        env: &args.envp,
        path,
        phdr: program.phdr.map_or(0, |at| bias + at),
        phnum: header.phnum as u64,
        entry: bias + header.entry,
        base: interp_base,
        vdso,
        uid: cred.uid,
        gid: cred.gid,
    };
    let (bytes, rsp, auxv) = stack::build(&content, STACK_TOP).ok_or(Errno::E2BIG)?;
    write_to(&space, rsp, &bytes)?;
    let image = Image {
        exe: Some(file.dentry.clone()),
        cmdline: joined(&args.argv),
        environ: joined(&args.envp),
        auxv,
    };
    Ok(Loaded { space, entry, rsp, image, name: short_name(path) })
}

fn joined(strings: &[Vec<u8>]) -> Vec<u8> {
    strings.iter().flat_map(|s| s.iter().copied().chain([0])).collect()
}

/// The last component of a path, as `comm` shows it.
pub fn short_name(path: &[u8]) -> [u8; 16] {
    let last = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    let mut name = [0; 16];
    let n = last.len().min(15);
    name[..n].copy_from_slice(&last[..n]);
    name
}

fn read_exact(dentry: &DentryRef, offset: u64, out: &mut [u8]) -> SysResult<()> {
    let n = dentry.vnode().read(offset, &mut SliceSink::new(out))?;
    if n == out.len() { Ok(()) } else { Err(Errno::ENOEXEC) }
}

fn read_program(dentry: &DentryRef, header: &Header) -> SysResult<Program> {
    let mut bytes = alloc::vec![0; header.phnum * PHENT];
    read_exact(dentry, header.phoff, &mut bytes)?;
    elf::parse_program(header, &bytes)
}

/// Maps the interpreter; its base and entry.
fn load_interpreter(
    task: &Task,
    space: &Arc<AddressSpace>,
    dentry: &DentryRef,
    offset: u64,
    len: u64,
) -> SysResult<(u64, u64)> {
    let mut path = alloc::vec![0; len as usize];
    read_exact(dentry, offset, &mut path)?;
    if path.pop() != Some(0) || path.contains(&0) {
        return Err(Errno::ENOEXEC);
    }
    let file = open(task, super::place::AT_FDCWD, &path, WalkFlags::FOLLOW)?;
    let header = elf::parse_header(file.head.get(..HEADER_SIZE).ok_or(Errno::ENOEXEC)?)?;
    let program = read_program(&file.dentry, &header)?;
    let (start, span) = program.span();
    let base = if header.is_fixed {
        start
    } else {
        // A reservation finds the place; the segments then replace it.
        let (place, flags) = (MapPlace::Hint(0), VmaFlags::empty());
        space.map(MapRequest { place, len: span, prot: Prot::empty(), flags, backing: Backing::Anonymous })?
    };
    map_program(space, &file.dentry, &program, base - start)?;
    Ok((base, base - start + header.entry))
}

fn prot_of(segment: &Segment) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.is_readable);
    prot.set(Prot::WRITE, segment.is_writable);
    prot.set(Prot::EXEC, segment.is_executable);
    prot
}

fn map_program(space: &Arc<AddressSpace>, dentry: &DentryRef, program: &Program, bias: u64) -> SysResult<()> {
    let ns = &kernel().namespace;
    let name: Arc<[u8]> = Arc::from(ns.path_of(dentry, ns.root()));
    for segment in &program.segments {
        let start = (bias + segment.vaddr) / 4096 * 4096;
        let lead = segment.vaddr % 4096;
        let file_end = (bias + segment.vaddr + segment.filesz).next_multiple_of(4096);
        let end = (bias + segment.vaddr + segment.memsz).next_multiple_of(4096);
        let prot = prot_of(segment);
        if segment.filesz > 0 {
            let file = FileSource { vnode: dentry.vnode().clone(), name: name.clone() };
            let backing = Backing::Private { file, offset: segment.offset - lead };
            map_at(space, start, file_end - start, prot, backing)?;
        }
        let anonymous_from = if segment.filesz > 0 { file_end } else { start };
        if end > anonymous_from {
            map_at(space, anonymous_from, end - anonymous_from, prot, Backing::Anonymous)?;
        }
        let tail = bias + segment.vaddr + segment.filesz;
        if segment.memsz > segment.filesz
            && segment.is_writable
            && !tail.is_multiple_of(4096)
            && segment.filesz > 0
        {
            // The rest of the last file page is the start of the zeroed part; interpreters use what is left of the
            // page beyond that as memory, and expect it zeroed too.
            let zeroes = [0; 4096];
            let n = (tail.next_multiple_of(4096) - tail) as usize;
            write_to(space, tail, &zeroes[..n])?;
        }
    }
    Ok(())
}

fn map_at(space: &AddressSpace, at: u64, len: u64, prot: Prot, backing: Backing) -> SysResult<()> {
    let request = MapRequest { place: MapPlace::Fixed(at), len, prot, flags: VmaFlags::empty(), backing };
    space.map(request)?;
    Ok(())
}

fn map_stack(space: &AddressSpace, is_executable: bool) -> SysResult<()> {
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, is_executable);
    let request = MapRequest {
        place: MapPlace::Fixed(STACK_TOP - STACK_INITIAL),
        len: STACK_INITIAL,
        prot,
        flags: VmaFlags::GROWSDOWN,
        backing: Backing::Anonymous,
    };
    space.map(request)?;
    Ok(())
}

/// Writes into a space that is not active.
fn write_to(space: &AddressSpace, at: u64, bytes: &[u8]) -> SysResult<()> {
    space.poke(at, bytes).map_err(|_| Errno::EFAULT)
}

/// Starts a loaded program in the calling task: no way back from here.
pub fn commit(task: &Task, frame: &mut TrapFrame, loaded: Loaded) {
    become_alone(task);
    let process = &task.process;
    process.actions.reset_handlers();
    process.itimers.clear();
    process.timers.clear();
    let closing = task.fds.take_closing();
    closing.iter().for_each(|file| exit::release_locks(process, file));
    drop(closing);
    *task.alt_stack.lock() = super::AltStack::default();
    *task.saved_mask.lock() = None;
    task.clear_tid.store(0, Ordering::Relaxed);
    task.robust_list.store(0, Ordering::Relaxed);
    *task.name.lock() = loaded.name;
    *process.image.lock() = loaded.image;
    glue::activate_space(&loaded.space);
    let before = task.set_space(Some(loaded.space));
    drop(before);
    process.finish_vfork();
    *frame = TrapFrame::new_user(loaded.entry, loaded.rsp);
    glue::reset_registers(frame);
}

/// Ends the other threads of the process; the caller becomes its main thread.
fn become_alone(task: &Task) {
    let process = &task.process;
    process.end_other_threads(task);
    let is_alone = || (process.threads.lock().len() == 1).then_some(());
    // Not interruptible: the others are on their way out and need nothing from us.
    let waiter = task.waiter();
    let _ = process.thread_events.wait(waiter, rt::time::Instant::NEVER, "execve", &|| false, is_alone);
    if task.tid() != process.pid {
        pids::remove_task(task.tid());
        task.set_tid(process.pid);
        glue::refresh_quick(task);
        if let Some(me) = process.threads.lock().first() {
            pids::add_task(me);
        }
    }
}

/// The first program: loads it for a task that has not run yet.
///
/// # Errors
/// As execve(2).
pub fn prepare_first(task: &Arc<Task>, path: &[u8], args: Args) -> SysResult<TrapFrame> {
    let loaded = load(task, super::place::AT_FDCWD, path, WalkFlags::FOLLOW, args)?;
    *task.name.lock() = loaded.name;
    *task.process.image.lock() = loaded.image;
    drop(task.set_space(Some(loaded.space)));
    Ok(TrapFrame::new_user(loaded.entry, loaded.rsp))
}
