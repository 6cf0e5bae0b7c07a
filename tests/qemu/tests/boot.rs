//! The kernel boots on every machine type, CPU count and CPU model we promise, and ends as it should.
use anyhow::Result;
use qemu_tests::{End, Outcome, Vm};
use std::time::Duration;

fn boots(vm: Vm, expected: &str) -> Result<Outcome> {
    let outcome = vm.command_line("loglevel=info selftest=none").run()?;
    assert_eq!(outcome.end, End::Status(0), "{outcome:#?}");
    assert_eq!(outcome.qemu_status, Some(33), "{outcome:#?}");
    assert!(outcome.serial.contains(expected), "no {expected:?} in {}", outcome.serial);
    Ok(outcome)
}

#[test]
fn machines_and_cpu_counts() -> Result<()> {
    for machine in ["q35", "pc", "microvm", "microvm,acpi=off"] {
        for nr_cpus in [1, 4, 8] {
            boots(Vm::new().machine(machine).cpus(nr_cpus), &format!("{nr_cpus} CPUs"))?;
        }
    }
    Ok(())
}

#[test]
fn sixty_four_cpus() -> Result<()> {
    boots(Vm::new().cpus(64).memory(512).limit(Duration::from_secs(120)), "64 CPUs").map(drop)
}

#[test]
fn smallest_and_large_memory() -> Result<()> {
    let usable = |outcome: &Outcome| {
        let (before, _) = outcome.serial.split_once(" MiB").unwrap_or_default();
        before.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0)
    };
    let small = boots(Vm::new().memory(64), "1 CPUs")?;
    assert!((56..64).contains(&usable(&small)), "{}", small.serial);
    let large = boots(Vm::new().memory(5 << 10).cpus(2), "2 CPUs")?;
    assert!((5100..5120).contains(&usable(&large)), "{}", large.serial);
    Ok(())
}

/// The most of both: 64 CPUs and 64 GiB, of which the host gives what is touched.
#[test]
fn sixty_four_gibibytes() -> Result<()> {
    let vm = Vm::new().machine("q35,memory-backend=all").memory(64 << 10).cpus(64);
    let vm = vm.arg("-object").arg("memory-backend-ram,id=all,size=64G,reserve=off");
    boots(vm.limit(Duration::from_secs(180)), "64 CPUs, 6551").map(drop)
}

#[test]
fn plain_cpu_model() -> Result<()> {
    boots(Vm::new().cpu("qemu64").memory(64), "1 CPUs")?;
    let outcome = Vm::new().cpu("qemu64").cpus(2).command_line("selftest=stress").run()?;
    assert_eq!(outcome.end, End::Status(0), "{outcome:#?}");
    Ok(())
}

#[test]
fn threads_and_interrupts_damage_nothing() -> Result<()> {
    for nr_cpus in [1, 4] {
        let vm = Vm::new().cpus(nr_cpus).limit(Duration::from_secs(240));
        let outcome = vm.command_line("loglevel=info selftest=stress").run()?;
        assert_eq!(outcome.end, End::Status(0), "{outcome:#?}");
        assert!(outcome.serial.contains("stress: 0 damaged"), "{}", outcome.serial);
    }
    Ok(())
}

/// Counting instructions makes a clock that does not depend on the host's load. A few instructions may differ: QEMU leaves
/// a block of code early when its own thread wants something.
#[test]
fn counted_runs_are_alike() -> Result<()> {
    let run =
        || Vm::new().machine("microvm,acpi=off").counting().command_line("selftest=none loglevel=info").run();
    let micros =
        |serial: &str| -> Option<u64> { serial.split("up in ").nth(1)?.split(' ').next()?.parse().ok() };
    let (first, second) = (run()?, run()?);
    assert_eq!(first.end, End::Status(0), "{first:#?}");
    let (a, b) = (micros(&first.serial), micros(&second.serial));
    let (Some(a), Some(b)) = (a, b) else { panic!("{first:#?} {second:#?}") };
    assert!(a.abs_diff(b) <= a / 500, "{a} and {b} us");
    Ok(())
}

#[test]
fn exit_status_is_exact() -> Result<()> {
    for status in [0, 1, 127, 128, 255] {
        let outcome = Vm::new().command_line(&format!("selftest=exit:{status}")).run()?;
        assert_eq!(outcome.end, End::Status(status), "{outcome:#?}");
        assert_eq!(outcome.qemu_status, Some(if status == 0 { 33 } else { 35 }));
    }
    Ok(())
}

#[test]
fn panics_name_the_functions() -> Result<()> {
    let outcome = Vm::new().cpus(4).command_line("selftest=panic").run()?;
    assert_eq!((outcome.end, outcome.qemu_status), (End::Panic, Some(255)), "{outcome:#?}");
    assert!(outcome.serial.contains("asked to"), "{}", outcome.serial);
    assert!(outcome.serial.contains("kernel::selftest::run"), "{}", outcome.serial);
    Ok(())
}

#[test]
fn faults_and_overflows_are_reported() -> Result<()> {
    let overflow = Vm::new().command_line("selftest=overflow").run()?;
    assert_eq!(overflow.end, End::Panic, "{overflow:#?}");
    assert!(overflow.serial.contains("kernel stack overflow"), "{}", overflow.serial);
    assert!(overflow.serial.contains("kernel::selftest::overflow"), "{}", overflow.serial);
    let fault = Vm::new().command_line("selftest=fault").run()?;
    assert_eq!(fault.end, End::Panic, "{fault:#?}");
    assert!(fault.serial.contains("unhandled exception"), "{}", fault.serial);
    Ok(())
}

#[test]
fn application_code_keeps_its_registers() -> Result<()> {
    for nr_cpus in [1, 4] {
        let vm = Vm::new().cpus(nr_cpus).limit(Duration::from_secs(120));
        let outcome = vm.command_line("loglevel=info selftest=user").run()?;
        assert_eq!(outcome.end, End::Status(0), "{outcome:#?}");
    }
    Ok(())
}

#[test]
fn memory_functions() -> Result<()> {
    let outcome = Vm::new().command_line("selftest=mem").run()?;
    assert_eq!(outcome.end, End::Status(0), "{outcome:#?}");
    Ok(())
}
