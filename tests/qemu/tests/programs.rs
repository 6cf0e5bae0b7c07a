//! Unmodified Linux programs on a root file system in memory.
use anyhow::Result;
use qemu_tests::archive::{Archive, compile};
use qemu_tests::{End, Outcome, Vm};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(180);

fn run(archive: Archive, dir: &Path, nr_cpus: usize, line: &str) -> Result<Outcome> {
    let initrd = archive.write(dir)?;
    let vm = Vm::new().machine("microvm").cpus(nr_cpus).memory(256).limit(LIMIT);
    vm.initrd(&initrd).command_line(line).run()
}

/// Runs a checked program on one and on four CPUs.
fn checks_hold(source: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = compile("gcc", source, &["-static", "-pthread"], dir.path())?;
    for nr_cpus in [1, 4] {
        let mut archive = Archive::new();
        archive.host_file("bin/program", &program)?;
        let outcome = run(archive, dir.path(), nr_cpus, "-- /bin/program")?;
        assert_eq!(outcome.end, End::Status(0), "{nr_cpus} CPUs: {}", outcome.serial);
        assert!(outcome.serial.contains("all checks held"), "{}", outcome.serial);
    }
    Ok(())
}

#[test]
fn threads() -> Result<()> {
    checks_hold("threads.c")
}

#[test]
fn signals() -> Result<()> {
    checks_hold("signals.c")
}

#[test]
fn processes() -> Result<()> {
    checks_hold("processes.c")
}

#[test]
fn memory() -> Result<()> {
    checks_hold("memory.c")
}

#[test]
fn files() -> Result<()> {
    checks_hold("files.c")
}

#[test]
fn waiting() -> Result<()> {
    checks_hold("waiting.c")
}

/// Every way of linking a program.
#[test]
fn kinds_of_programs() -> Result<()> {
    let kinds: [(&str, &[&str]); 5] = [
        ("gcc", &["-static"]),
        ("gcc", &["-static-pie"]),
        ("gcc", &["-no-pie"]),
        ("gcc", &["-pie", "-fPIE"]),
        ("musl-gcc", &["-static"]),
    ];
    for (compiler, options) in kinds {
        let dir = tempfile::tempdir()?;
        let program = compile(compiler, "hello.c", options, dir.path())?;
        let mut archive = Archive::new();
        archive.host_program("bin/hello", &program)?;
        let outcome = run(archive, dir.path(), 1, "-- /bin/hello a b")?;
        assert_eq!(outcome.end, End::Status(3), "{compiler} {options:?}: {}", outcome.serial);
        assert!(outcome.serial.contains("hello from /bin/hello: 3, 1.50"), "{}", outcome.serial);
    }
    Ok(())
}

/// busybox: a shell script with everything a shell does.
#[test]
fn shell_scripts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let busybox = debian_file("busybox-static", "bin/busybox", dir.path())?;
    let mut archive = Archive::new();
    archive.host_file("bin/busybox", &busybox)?;
    let applets = "sh tr sort cat wc head awk sleep mkdir touch find tar rm ln readlink cmp grep test";
    for applet in applets.split(' ') {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.file("bin/script", 0o755, include_bytes!("../programs/script.sh"));
    let outcome = run(archive, dir.path(), 2, "-- /bin/script")?;
    assert_eq!(outcome.end, End::Status(9), "{}", outcome.serial);
    assert!(outcome.serial.contains("script done"), "{}", outcome.serial);
    Ok(())
}

/// A file of a Debian package, fetched without installing it.
fn debian_file(package: &str, path: &str, dir: &Path) -> Result<std::path::PathBuf> {
    let status =
        std::process::Command::new("apt-get").args(["download", "-q", package]).current_dir(dir).status()?;
    anyhow::ensure!(status.success(), "cannot fetch {package}");
    let deb = std::fs::read_dir(dir)?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .find(|p| p.extension().is_some_and(|e| e == "deb"));
    let deb = deb.ok_or_else(|| anyhow::anyhow!("no package"))?;
    let status = std::process::Command::new("dpkg").arg("-x").arg(&deb).arg(dir.join("unpacked")).status()?;
    anyhow::ensure!(status.success(), "cannot unpack {package}");
    Ok(dir.join("unpacked").join(path))
}

#[test]
fn calls_are_shown_when_asked_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = compile("gcc", "hello.c", &["-static"], dir.path())?;
    let mut archive = Archive::new();
    archive.host_file("bin/hello", &program)?;
    let outcome = run(archive, dir.path(), 1, "strace -- /bin/hello a b")?;
    assert_eq!(outcome.end, End::Status(3), "{}", outcome.serial);
    for expected in ["write(1, ", "exit_group(3)"] {
        assert!(outcome.serial.contains(expected), "no {expected:?} in {}", outcome.serial);
    }
    Ok(())
}

#[test]
fn keys_become_lines_and_signals() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let program = compile("gcc", "keys.c", &["-static"], dir.path())?;
    let mut archive = Archive::new();
    archive.host_file("bin/keys", &program)?;
    let initrd = archive.write(dir.path())?;
    let vm = Vm::new().machine("microvm").limit(LIMIT).initrd(&initrd);
    let outcome = vm.clone().input(b"\x15a lime\x7f\x7fne\rsecond\r").command_line("-- /bin/keys").run()?;
    assert_eq!(outcome.end, End::Status(0), "{}", outcome.serial);
    assert!(outcome.serial.contains("read <a line> and <second>"), "{}", outcome.serial);
    const SIGINT: u8 = 2;
    let outcome = vm.input(b"\x15\x03").command_line("-- /bin/keys wait").run()?;
    assert_eq!(outcome.end, End::Status(128 + SIGINT), "{}", outcome.serial);
    Ok(())
}

#[test]
fn statuses_of_the_killed_and_the_missing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let outcome = run(Archive::new(), dir.path(), 1, "-- /bin/nothing")?;
    assert_eq!(outcome.end, End::Status(127), "{}", outcome.serial);
    let program = compile("gcc", "abort.c", &["-static"], dir.path())?;
    let mut archive = Archive::new();
    archive.host_file("bin/abort", &program)?;
    let outcome = run(archive, dir.path(), 1, "-- /bin/abort")?;
    assert_eq!(outcome.end, End::Status(128 + 6), "{}", outcome.serial);
    Ok(())
}
