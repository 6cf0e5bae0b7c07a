//! What concerns the whole system.
use crate::kernel::kernel;
use crate::pseudo::Entry;
use crate::sys::misc::RELEASE;
use crate::task::pids;
use alloc::format;
use alloc::string::String;
use core::arch::x86_64::__cpuid;
use core::fmt::Write;

/// Names in /proc besides the processes; directories end in `/`, links in `@`.
pub const NAMES: &[&str] = &[
    "cmdline",
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "mounts@",
    "net/",
    "self@",
    "stat",
    "swaps",
    "sys/",
    "thread-self@",
    "uptime",
    "version",
    "vmstat",
];

/// Constant files below /proc/sys.
const SYSCTL: &[(&str, &str)] = &[
    ("fs/aio-max-nr", "65536\n"),
    ("fs/file-max", "9223372036854775807\n"),
    ("fs/nr_open", "1048576\n"),
    ("fs/pipe-max-size", "1048576\n"),
    ("kernel/cap_last_cap", "40\n"),
    ("kernel/core_pattern", "core\n"),
    ("kernel/ngroups_max", "65536\n"),
    ("kernel/ostype", "Linux\n"),
    ("kernel/overflowgid", "65534\n"),
    ("kernel/overflowuid", "65534\n"),
    ("kernel/pid_max", "4194304\n"),
    ("kernel/randomize_va_space", "0\n"),
    ("kernel/shmmax", "18446744073692774399\n"),
    ("kernel/threads-max", "65536\n"),
    ("net/core/somaxconn", "4096\n"),
    ("vm/max_map_count", "1048576\n"),
    ("vm/mmap_min_addr", "65536\n"),
    ("vm/nr_hugepages", "0\n"),
    ("vm/overcommit_memory", "1\n"),
    ("vm/overcommit_ratio", "50\n"),
    ("vm/swappiness", "0\n"),
];

/// /proc without the processes.
pub fn tree(path: &[&str]) -> Option<Entry> {
    Some(match path {
        ["cmdline"] => Entry::made(|| format!("{}\n", String::from_utf8_lossy(&kernel().cmdline))),
        ["cpuinfo"] => Entry::made(cpuinfo),
        ["filesystems"] => {
            Entry::text("nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\tzfs\n")
        }
        ["loadavg"] => Entry::made(loadavg),
        ["meminfo"] => Entry::made(meminfo),
        ["mounts"] => Entry::Link(b"self/mounts".to_vec()),
        ["net"] => Entry::dir(&[]),
        ["stat"] => Entry::made(stat),
        ["swaps"] => Entry::text("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
        ["uptime"] => Entry::made(uptime),
        ["version"] => {
            Entry::made(|| format!("Linux version {} (zeolite)\n", String::from_utf8_lossy(RELEASE)))
        }
        ["vmstat"] => Entry::made(|| format!("nr_free_pages {}\n", mm::frames::nr_free())),
        ["sys", rest @ ..] => return sysctl(rest),
        _ => return None,
    })
}

fn sysctl(path: &[&str]) -> Option<Entry> {
    match path {
        ["kernel", "random", "uuid"] => return Some(Entry::made(random_uuid)),
        ["kernel", "random", "boot_id"] => return Some(Entry::made(boot_id)),
        ["kernel", "osrelease"] => {
            return Some(Entry::made(|| format!("{}\n", String::from_utf8_lossy(RELEASE))));
        }
        ["kernel", "hostname"] => {
            return Some(Entry::made(|| format!("{}\n", String::from_utf8_lossy(&kernel().hostname))));
        }
        ["kernel", "random"] => return Some(Entry::dir(&["boot_id", "uuid"])),
        _ => {}
    }
    let joined = path.join("/");
    if let Some((_, content)) = SYSCTL.iter().find(|(name, _)| *name == joined) {
        return Some(Entry::text(content));
    }
    table_dir(SYSCTL, &joined)
}

/// The directory that a table of constant files implies.
pub fn table_dir(table: &[(&str, &str)], dir: &str) -> Option<Entry> {
    let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
    let mut names: alloc::vec::Vec<String> = table
        .iter()
        .filter_map(|(name, _)| name.strip_prefix(prefix.as_str()))
        .map(|rest| match rest.find('/') {
            Some(at) => String::from(&rest[..=at]),
            None => String::from(rest),
        })
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return None;
    }
    Some(Entry::dir(&names.iter().map(String::as_str).collect::<alloc::vec::Vec<_>>()))
}

/// A random UUID of version 4.
fn random_uuid() -> String {
    let mut bytes = [0; 16];
    rt::thread::fill_random(&mut bytes);
    uuid(bytes)
}

fn boot_id() -> String {
    static ID: rt::Once<String> = rt::Once::new();
    ID.get_or_init(random_uuid).clone()
}

fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

fn vendor() -> String {
    let leaf = __cpuid(0);
    let bytes: alloc::vec::Vec<u8> =
        [leaf.ebx, leaf.edx, leaf.ecx].iter().flat_map(|w| w.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn brand() -> String {
    let leaves = (0x8000_0002_u32..=0x8000_0004).map(__cpuid);
    let words = leaves.flat_map(|l| [l.eax, l.ebx, l.ecx, l.edx]);
    let bytes: alloc::vec::Vec<u8> = words.flat_map(u32::to_le_bytes).take_while(|b| *b != 0).collect();
    String::from(String::from_utf8_lossy(&bytes).trim())
}

/// Flags of cpuid leaf 1 that programs look for, by bit.
const FLAGS_EDX: &[(u32, &str)] = &[
    (0, "fpu"),
    (4, "tsc"),
    (5, "msr"),
    (8, "cx8"),
    (15, "cmov"),
    (19, "clflush"),
    (23, "mmx"),
    (24, "fxsr"),
    (25, "sse"),
    (26, "sse2"),
];
const FLAGS_ECX: &[(u32, &str)] = &[
    (0, "pni"),
    (1, "pclmulqdq"),
    (9, "ssse3"),
    (12, "fma"),
    (13, "cx16"),
    (19, "sse4_1"),
    (20, "sse4_2"),
    (23, "popcnt"),
    (25, "aes"),
    (26, "xsave"),
    (28, "avx"),
    (30, "rdrand"),
];

fn cpuinfo() -> String {
    let leaf = __cpuid(1);
    let (family, model) = (leaf.eax >> 8 & 15, leaf.eax >> 4 & 15 | leaf.eax >> 12 & 0xf0);
    let family = if family == 15 { family + (leaf.eax >> 20 & 0xff) } else { family };
    let mut flags = String::from("lm nx constant_tsc");
    let named = |word: u32, table: &'static [(u32, &'static str)]| {
        table.iter().filter(move |(bit, _)| word >> bit & 1 != 0).map(|(_, name)| *name)
    };
    for name in named(leaf.edx, FLAGS_EDX).chain(named(leaf.ecx, FLAGS_ECX)) {
        flags.push(' ');
        flags.push_str(name);
    }
    let mhz = hal::clock::scale().hz / 1000;
    let nr_cpus = rt::thread::nr_cpus();
    let mut text = String::new();
    for n in 0..nr_cpus {
        let _ = write!(
            text,
            "processor\t: {n}\nvendor_id\t: {}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {}\n\
             stepping\t: {}\ncpu MHz\t\t: {}.{:03}\ncache size\t: 1024 KB\nphysical id\t: 0\nsiblings\t: {nr_cpus}\n\
             core id\t\t: {n}\ncpu cores\t: {nr_cpus}\nflags\t\t: {flags}\nclflush size\t: 64\ncache_alignment\t: 64\n\n",
            vendor(),
            brand(),
            leaf.eax & 15,
            mhz / 1000,
            mhz % 1000,
        );
    }
    text
}

fn meminfo() -> String {
    let kib = |frames: usize| frames * 4;
    let (total, free) = (kib(mm::frames::nr_total()), kib(mm::frames::nr_free()));
    let mut text = String::new();
    let zero =
        ["Buffers", "Cached", "SwapCached", "SwapTotal", "SwapFree", "Dirty", "Shmem", "HugePages_Total"];
    for (name, value) in [("MemTotal", total), ("MemFree", free), ("MemAvailable", free)] {
        let _ = writeln!(text, "{:<15} {value:>8} kB", format!("{name}:"));
    }
    for name in zero {
        let _ = writeln!(text, "{:<15} {:>8} kB", format!("{name}:"), 0);
    }
    let _ = writeln!(text, "{:<15} {:>8} kB", "Hugepagesize:", 2048);
    text
}

fn seconds(nanos: u128) -> String {
    format!("{}.{:02}", nanos / 1_000_000_000, nanos / 10_000_000 % 100)
}

fn uptime() -> String {
    let idle: u64 = (0..rt::thread::nr_cpus()).map(sched::idle_ns).sum();
    format!("{} {}\n", seconds(kernel().uptime().as_nanos()), seconds(idle.into()))
}

fn loadavg() -> String {
    let show = |load: u64| format!("{}.{:02}", load >> 16, ((load & 0xffff) * 100) >> 16);
    let [one, five, fifteen] = sched::load_average();
    let nr_running = sched::nr_running();
    let processes = pids::processes();
    let nr_threads: usize = processes.iter().map(|p| p.threads.lock().len()).sum();
    let last = processes.last().map_or(0, |p| p.pid);
    format!("{} {} {} {nr_running}/{nr_threads} {last}\n", show(one), show(five), show(fifteen))
}

fn stat() -> String {
    const TICK: u64 = crate::time::NANOS / crate::time::TICKS_PER_SEC;
    let up = u64::try_from(kernel().uptime().as_nanos()).unwrap_or(u64::MAX);
    let nr_cpus = rt::thread::nr_cpus();
    let line = |name: &str, busy: u64, idle: u64| {
        format!("{name} {} 0 0 {} 0 0 0 0 0 0\n", busy / TICK, idle / TICK)
    };
    let idle: alloc::vec::Vec<u64> = (0..nr_cpus).map(|n| sched::idle_ns(n).min(up)).collect();
    let total: u64 = idle.iter().sum();
    let mut text = line("cpu ", (up * nr_cpus as u64).saturating_sub(total), total);
    for (n, idle) in idle.iter().enumerate() {
        text += &line(&format!("cpu{n}"), up - idle, *idle);
    }
    let wall = rt::time::wall_clock();
    let _ = write!(
        text,
        "intr 0\nctxt 0\nbtime {}\nprocesses {}\nprocs_running {}\nprocs_blocked 0\n",
        wall.secs.saturating_sub((up / crate::time::NANOS) as i64),
        pids::processes().last().map_or(0, |p| p.pid),
        sched::nr_running(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_form() {
        let text = uuid([0xff; 16]);
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff\n");
    }

    #[test]
    fn tables_imply_directories() {
        let names = |dir| match table_dir(SYSCTL, dir) {
            Some(Entry::Dir(children)) => {
                children.into_iter().map(|(n, _)| n).collect::<alloc::vec::Vec<_>>()
            }
            _ => alloc::vec::Vec::new(),
        };
        assert_eq!(names(""), ["fs", "kernel", "net", "vm"]);
        assert_eq!(names("net"), ["core"]);
        assert!(table_dir(SYSCTL, "nothing").is_none());
    }
}
