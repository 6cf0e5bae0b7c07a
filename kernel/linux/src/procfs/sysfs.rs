//! /sys: what allocators, language runtimes and databases ask about processors and memory.
use super::system::table_dir;
use crate::pseudo::Entry;
use alloc::format;
use alloc::string::String;

/// Constant files.
const TABLE: &[(&str, &str)] = &[
    ("devices/system/clocksource/clocksource0/available_clocksource", "tsc\n"),
    ("devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("devices/system/cpu/online", ""),
    ("devices/system/cpu/possible", ""),
    ("devices/system/cpu/present", ""),
    ("devices/system/node/node0/cpulist", ""),
    ("devices/system/node/node0/cpumap", ""),
    ("devices/system/node/node0/meminfo", ""),
    ("devices/system/node/online", "0\n"),
    ("devices/system/node/possible", "0\n"),
    ("kernel/mm/hugepages/none", ""),
    ("kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n"),
    ("kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
    ("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"),
];

/// Empty directories that programs list.
const EMPTY: &[&str] =
    &["block", "kernel/mm/hugepages", "fs/cgroup", "fs", "bus", "class", "dev", "dev/block"];

/// /sys.
pub fn tree(path: &[&str]) -> Option<Entry> {
    let joined = path.join("/");
    let last = rt::thread::nr_cpus() - 1;
    let list = move || if last == 0 { String::from("0\n") } else { format!("0-{last}\n") };
    match path {
        [] => return Some(Entry::dir(&["block/", "bus/", "class/", "dev/", "devices/", "fs/", "kernel/"])),
        ["devices", "system", "cpu", "online" | "possible" | "present"]
        | ["devices", "system", "node", "node0", "cpulist"] => return Some(Entry::made(list)),
        ["devices", "system", "node", "node0", "cpumap"] => {
            return Some(Entry::made(move || format!("{:x}\n", u64::MAX >> (63 - last))));
        }
        ["devices", "system", "node", "node0", "meminfo"] => {
            return Some(Entry::made(|| {
                let kib = |n: usize| n * 4;
                let (total, free) = (kib(mm::frames::nr_total()), kib(mm::frames::nr_free()));
                format!("Node 0 MemTotal: {total:>8} kB\nNode 0 MemFree: {free:>8} kB\n")
            }));
        }
        ["devices", "system", "cpu", cpu, rest @ ..] if cpu_number(cpu).is_some_and(|n| n <= last) => {
            return cpu_tree(rest);
        }
        _ => {}
    }
    if EMPTY.contains(&joined.as_str()) {
        return Some(Entry::dir(&[]));
    }
    if let Some((_, content)) = TABLE.iter().find(|(name, _)| *name == joined) {
        return Some(Entry::text(content));
    }
    table_dir(TABLE, &joined)
}

fn cpu_number(name: &str) -> Option<usize> {
    name.strip_prefix("cpu")?.parse().ok()
}

fn cpu_tree(path: &[&str]) -> Option<Entry> {
    Some(match path {
        [] => Entry::dir(&["cache/", "online", "topology/"]),
        ["online"] => Entry::text("1\n"),
        ["cache"] => Entry::dir(&["index0/"]),
        ["cache", "index0"] => Entry::dir(&["coherency_line_size", "level", "size", "type"]),
        ["cache", "index0", "coherency_line_size"] => Entry::text("64\n"),
        ["cache", "index0", "level"] => Entry::text("1\n"),
        ["cache", "index0", "size"] => Entry::text("32K\n"),
        ["cache", "index0", "type"] => Entry::text("Data\n"),
        ["topology"] => Entry::dir(&["core_id", "physical_package_id"]),
        ["topology", "core_id" | "physical_package_id"] => Entry::text("0\n"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt_std as _;

    #[test]
    fn known_files_and_directories_are_there() {
        for path in ["devices/system/cpu/online", "devices/system/node", "block", "kernel/mm/hugepages"] {
            let parts: alloc::vec::Vec<_> = path.split('/').collect();
            assert!(tree(&parts).is_some(), "{path}");
        }
        assert!(tree(&["devices", "system", "cpu", "cpu99999"]).is_none());
        assert!(tree(&["block", "sda"]).is_none());
    }
}
