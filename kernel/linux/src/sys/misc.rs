//! The rest.
use super::Call;
use crate::errno::{Errno, SysResult};
use crate::kernel::kernel;
use crate::task::pids;
use crate::user;
use linux_raw_sys::general as k;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Accepted, without effect.
pub fn nothing(_c: &mut Call<'_>) -> SysResult {
    Ok(0)
}

/// Refused.
pub fn not_permitted(_c: &mut Call<'_>) -> SysResult {
    Err(Errno::EPERM)
}

/// restart_syscall(2): no call of ours needs it.
pub fn interrupted(_c: &mut Call<'_>) -> SysResult {
    Err(Errno::EINTR)
}

/// socket(2) and socketpair(2): there is no network yet.
pub fn socket(_c: &mut Call<'_>) -> SysResult {
    Err(Errno::EAFNOSUPPORT)
}

/// The release that uname tells: programs derive features from it.
pub const RELEASE: &[u8] = b"6.1.0-zeolite";

/// uname(2).
pub fn uname(c: &mut Call<'_>) -> SysResult {
    let mut raw = [[0_u8; 65]; 6];
    let host = &kernel().hostname;
    let fields: [&[u8]; 6] =
        [b"Linux", host, RELEASE, b"#1 SMP PREEMPT_DYNAMIC Zeolite", b"x86_64", b"(none)"];
    for (slot, field) in raw.iter_mut().zip(fields) {
        let n = field.len().min(64);
        slot[..n].copy_from_slice(&field[..n]);
    }
    user::write_bytes(c.a0(), raw.as_bytes())?;
    Ok(0)
}

/// `struct sysinfo`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SysInfo {
    uptime: u64,
    loads: [u64; 3],
    total: u64,
    free: u64,
    shared: u64,
    buffers: u64,
    swap: [u64; 2],
    nr_processes: u16,
    pad: [u16; 3],
    high: [u64; 2],
    unit: u32,
    pad2: u32,
}

/// sysinfo(2).
pub fn sysinfo(c: &mut Call<'_>) -> SysResult {
    const PAGE: u64 = 4096;
    let raw = SysInfo {
        uptime: kernel().uptime().as_secs(),
        loads: sched::load_average(),
        total: mm::frames::nr_total() as u64 * PAGE,
        free: mm::frames::nr_free() as u64 * PAGE,
        nr_processes: pids::processes().len() as u16,
        unit: 1,
        ..SysInfo::default()
    };
    user::write(c.a0(), &raw)?;
    Ok(0)
}

/// getrandom(2).
pub fn getrandom(c: &mut Call<'_>) -> SysResult {
    if c.a2() as u32 & !(k::GRND_NONBLOCK | k::GRND_RANDOM | k::GRND_INSECURE) != 0 {
        return Err(Errno::EINVAL);
    }
    let len = (c.a1() as usize).min(user::IO_MAX);
    let mut chunk = [0_u8; 256];
    let mut done = 0;
    while done < len {
        let n = chunk.len().min(len - done);
        rt::thread::fill_random(&mut chunk[..n]);
        user::write_bytes(c.a0() + done as u64, &chunk[..n])?;
        done += n;
    }
    Ok(len)
}

/// syslog(2).
pub fn syslog(_c: &mut Call<'_>) -> SysResult {
    Err(Errno::EPERM)
}

/// personality(2): Linux, and nothing else.
pub fn personality(c: &mut Call<'_>) -> SysResult {
    match c.a0() as u32 {
        0 | u32::MAX | 0x4_0000 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// get_mempolicy(2): one node, the default policy.
pub fn get_mempolicy(c: &mut Call<'_>) -> SysResult {
    user::write_optional(c.a0(), &0_i32)?;
    if c.a1() != 0 && c.a2() > 0 {
        let mut at = c.a1();
        let nr_words = c.a2().div_ceil(64).min(64);
        for i in 0..nr_words {
            user::write(at, &u64::from(i == 0))?;
            at += 8;
        }
    }
    Ok(0)
}

/// capget(2): everything for root, nothing for others.
pub fn capget(c: &mut Call<'_>) -> SysResult {
    const VERSION_3: u32 = 0x2008_0522;
    let version: u32 = user::read(c.a0())?;
    if version != VERSION_3 {
        user::write(c.a0(), &VERSION_3)?;
        return if c.a1() == 0 { Ok(0) } else { Err(Errno::EINVAL) };
    }
    let is_root = c.task.process.cred.lock().is_root();
    let (low, high) = if is_root { (u32::MAX, 0x1ff) } else { (0, 0) };
    if c.a1() != 0 {
        user::write(c.a1(), &[low, low, 0, high, high, 0])?;
    }
    Ok(0)
}

/// capset(2): accepted, without effect.
pub fn capset(_c: &mut Call<'_>) -> SysResult {
    Ok(0)
}

/// membarrier(2): every switch between threads is a full barrier, and a system call on each CPU too; the expedited
/// forms are answered by a barrier here and one interrupt to all others.
pub fn membarrier(c: &mut Call<'_>) -> SysResult {
    const SUPPORTED: usize = 0x1 | 0x8 | 0x10;
    match c.a0() as u32 {
        0 => Ok(SUPPORTED),
        1 | 8 => {
            core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
            c.task.space().flush_all();
            Ok(0)
        }
        16 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
