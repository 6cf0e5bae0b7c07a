//! `zeo pool` as a user of zpool(8) runs it.
mod common;
use common::Desk;
use std::fs::File;
use std::process::Stdio;

const RAIDZ: &str = "a.img,b.img,c.img";

fn raidz() -> Desk {
    let desk = Desk::new();
    desk.ok("pool create tank raidz1 a.img b.img c.img --size 64M -o failmode=continue -O atime=off");
    desk
}

/// The states of the devices as `status --json` has them.
fn states(desk: &Desk, image: &str) -> Vec<(String, String)> {
    let status = desk.json(&format!("pool status {image}"));
    let lines = status[0]["vdevs"].as_array().expect("vdevs").iter();
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    lines.map(|line| (text(&line["name"]), text(&line["state"]))).collect()
}

#[test]
fn several_files_are_a_pool() {
    let desk = raidz();
    let shown = desk.ok(&format!("pool status {RAIDZ}"));
    assert!(shown.contains("\n\tNAME        STATE     READ WRITE CKSUM\n\ttank        ONLINE       0     0     0\n\t  raidz1-0  ONLINE"), "{shown}");
    assert!(shown.ends_with("errors: No known data errors\n"), "{shown}");
    let list = desk.ok(&format!("pool list {RAIDZ}"));
    assert!(list.starts_with("NAME  SIZE  ALLOC  FREE  CKPOINT  CAP  HEALTH\ntank  "), "{list}");
    assert_eq!(desk.ok(&format!("pool list -H -o name,health,failmode {RAIDZ}")), "tank\tONLINE\tcontinue\n");
    let rows = desk.ok(&format!("pool list -vHP -o name,health {RAIDZ}"));
    let last = rows.lines().last().expect("a line");
    assert_eq!(last, format!("{}\tONLINE", desk.path("c.img").canonicalize().expect("there").display()));
    let size = desk.ok(&format!("pool get -Hp -o value {RAIDZ} size"));
    assert!(size.trim().parse::<u64>().is_ok_and(|n| n > 100 << 20), "{size}");
    assert_eq!(desk.ok(&format!("get -H -o value,source {RAIDZ} atime tank")), "off\tlocal\n");
    let history = desk.ok(&format!("pool history {RAIDZ}"));
    assert!(
        history.starts_with("History for 'tank':\n") && history.contains(" zpool create tank raidz1 a.img")
    );
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let desk = raidz();
    assert_eq!(desk.ok(&format!("pool status -x {RAIDZ}")), "pool 'tank' is healthy\n");
    let missing = desk.ok("pool status -x a.img,c.img");
    assert!(missing.contains(" state: DEGRADED\nstatus: ") && missing.contains("\naction: "), "{missing}");
    assert!(missing.contains("b.img   UNAVAIL      0     0     0  cannot open"), "{missing}");
    let path = |name: &str| desk.path(name).display().to_string();
    desk.refused(
        &["pool", "status", "a.img"],
        65,
        &["'tank'", &path("b.img"), &path("c.img"), "name all its files"],
    );
    desk.ok(&format!("pool offline {RAIDZ} b.img"));
    desk.refused(&["pool", "offline", RAIDZ, "c.img"], 65, &["no valid replicas"]);
    assert!(desk.ok(&format!("pool status {RAIDZ}")).contains("zeo pool online"));
    desk.ok(&format!("pool online {RAIDZ} b.img"));
    assert!(states(&desk, RAIDZ).iter().all(|(_, state)| state == "ONLINE"));
}

#[test]
fn devices_come_and_go() {
    let desk = Desk::new();
    desk.ok("pool create tank a.img --size 64M");
    desk.refused(&["pool", "attach", "a.img", "a.img"], 2, &["the new device is missing"]);
    desk.ok("pool attach a.img a.img b.img");
    desk.ok("pool replace a.img,b.img b.img c.img");
    let names = |image: &str| states(&desk, image).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("a.img,c.img"), ["tank", "mirror-0", "a.img", "c.img"]);
    // Lost, and an empty file of that name in its place.
    std::fs::remove_file(desk.path("c.img")).expect("goes");
    desk.ok("pool replace a.img c.img");
    assert!(states(&desk, "a.img,c.img").iter().all(|(_, state)| state == "ONLINE"));
    desk.ok("pool add -f a.img,c.img --size 64M log l.img spare s.img");
    assert_eq!(
        names("a.img,c.img,l.img,s.img"),
        ["tank", "mirror-0", "a.img", "c.img", "logs", "l.img", "spares", "s.img"]
    );
    desk.ok("pool remove a.img,c.img,l.img,s.img l.img s.img");
    desk.ok("pool split a.img,c.img copy");
    assert_eq!(desk.ok("pool list -H -o name,health a.img c.img"), "tank\tONLINE\ncopy\tONLINE\n");
    desk.refused(&["pool", "detach", "a.img", "a.img"], 65, &["no side of a mirror"]);
    desk.refused(&["pool", "detach", "a.img", "nope"], 66, &["no device nope", "pool list -v"]);
    assert!(desk.ok("image verify a.img").contains("no errors"));
}

#[test]
fn upkeep_says_what_it_did() {
    let desk = raidz();
    assert!(desk.ok(&format!("pool scrub {RAIDZ}")).starts_with("scrub repaired 0B in "));
    assert_eq!(desk.json(&format!("pool scrub {RAIDZ}"))["errors"], 0);
    assert!(desk.ok(&format!("pool trim {RAIDZ}")).starts_with("trimmed "));
    assert!(desk.ok(&format!("pool status -ti {RAIDZ}")).contains("(trimmed, completed at "));
    desk.refused(&["pool", "scrub", "-p", RAIDZ], 65, &["no scrub is under way"]);
    desk.ok(&format!("pool checkpoint {RAIDZ}"));
    desk.ok(&format!("create {RAIDZ} gone"));
    assert!(desk.ok(&format!("pool status {RAIDZ}")).contains("\ncheckpoint: created "));
    desk.refused(&["pool", "checkpoint", RAIDZ], 65, &["--discard"]);
    desk.ok(&format!("pool checkpoint --rewind {RAIDZ}"));
    assert_eq!(desk.ok(&format!("list -H -o name {RAIDZ}")), "tank\n");
    desk.refused(&["pool", "checkpoint", "-d", RAIDZ], 65, &["the pool has no checkpoint"]);
    desk.refused(&["pool", "checkpoint", "--rewind", RAIDZ], 65, &["no checkpoint to go back to"]);
    let iostat = desk.ok(&format!("pool iostat -v {RAIDZ}"));
    assert!(
        iostat.contains("capacity     operations     bandwidth") && iostat.contains("\n    c.img "),
        "{iostat}"
    );
    assert_eq!(desk.ok(&format!("pool iostat -H {RAIDZ}")).split('\t').count(), 7);
}

#[test]
fn what_does_not_come_to_a_pool_leaves_no_file() {
    let desk = Desk::new();
    let files = || std::fs::read_dir(desk.path("")).expect("there").count();
    desk.refused(&["pool", "create", "t", "n.img", "--size", "1K"], 65, &["too small", "64M"]);
    desk.refused(&["pool", "create", "t", "n.img"], 66, &["does not exist", "--size"]);
    desk.refused(&["pool", "create", "a/b", "n.img", "--size", "64M"], 65, &["not a name for a pool"]);
    desk.refused(&["pool", "create", "mirror", "n.img", "--size", "64M"], 65, &["not a name for a pool"]);
    let long = "x".repeat(300);
    desk.refused(&["pool", "create", &long, "n.img", "--size", "64M"], 65, &["too long"]);
    desk.refused(
        &["pool", "create", "t", "mirror", "n.img", "./n.img", "--size", "64M"],
        65,
        &["named twice"],
    );
    desk.refused(&["pool", "create", "t", "n.img", "--size", "-5"], 2, &[]);
    desk.refused(&["pool", "create", "t", "n.img", "--size", "99999999T"], 2, &["not a size"]);
    desk.refused(&["pool", "create", "t", "n.img", "--size", "4000000T"], 74, &["n.img"]);
    desk.refused(&["pool", "create", "-m", "srv", "t", "n.img", "--size", "64M"], 65, &["begins with '/'"]);
    desk.refused(&["pool", "create", "t", "mirror", "n.img", "--size", "64M"], 65, &["at least 2 devices"]);
    let shown = desk.ok("pool create -n t mirror n.img m.img log l.img --size 64M");
    assert!(shown.contains("\tt\n\t  mirror\n\t    n.img\n\t    m.img\n\tlogs\n\t  l.img\n"), "{shown}");
    assert_eq!(files(), 0);
}

#[test]
fn images_that_are_none_are_refused() {
    let desk = raidz();
    desk.refused(&["pool", "status", "nope.img"], 66, &["nope.img"]);
    desk.refused(&["pool", "status", ""], 65, &["empty part"]);
    desk.refused(&["pool", "status", "a.img,,b.img"], 65, &["empty part"]);
    desk.refused(&["pool", "status", "a.img,./a.img"], 65, &["named twice"]);
    std::fs::write(desk.path("text"), "no pool").expect("written");
    desk.refused(&["pool", "status", "text"], 65, &["no pool on it"]);
    desk.ok("pool create solo s.img --size 64M");
    desk.refused(&["pool", "status", "a.img,s.img"], 65, &["several pools", "solo, tank"]);
    desk.refused(&["pool", "create", "new", "s.img"], 65, &["part of the pool 'solo'", "-f overrides"]);
    desk.refused(&["pool", "set", "failmode=maybe", "s.img"], 65, &["wait, continue, panic"]);
    desk.refused(&["pool", "get", "s.img", "nope"], 65, &["no property 'nope'", "capacity"]);
    let error = desk.run(&["pool", "list", "nope.img", "--json"]).stderr;
    let error: serde_json::Value = serde_json::from_slice(&error).expect("JSON");
    assert_eq!(error["status"], 66);
}

#[test]
fn an_output_that_cannot_be_written_is_no_panic() {
    let desk = raidz();
    for words in [
        &["pool", "status", RAIDZ][..],
        &["pool", "list", "--json", RAIDZ],
        &["list", RAIDZ],
        &["pool", "create", "--help"],
    ] {
        let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
        let output = desk.command(words).stdout(full).stderr(Stdio::piped()).output().expect("starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}");
        assert!(words.contains(&"--help") || output.status.code() == Some(74), "{words:?}: {said}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = desk.command(words).stdout(writer).stderr(Stdio::piped()).output().expect("starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.is_empty(), "who went away is told nothing: {said}");
    }
}

#[test]
fn a_name_that_several_devices_have_is_refused() {
    let desk = Desk::new();
    for folder in ["x", "y"] {
        std::fs::create_dir(desk.path(folder)).expect("made");
    }
    desk.ok("pool create tank mirror x/a.img y/a.img --size 64M");
    desk.refused(&["pool", "offline", "x/a.img,y/a.img", "a.img"], 66, &["several devices", "status -P"]);
    desk.ok("pool offline x/a.img,y/a.img y/a.img");
    let offline: Vec<_> = states(&desk, "x/a.img,y/a.img").into_iter().map(|(_, state)| state).collect();
    assert_eq!(offline, ["DEGRADED", "DEGRADED", "ONLINE", "OFFLINE"]);
}

#[test]
fn what_reading_came_upon_is_told_in_words() {
    let desk = raidz();
    // Everything between the labels of one device is lost.
    let file = File::options().write(true).open(desk.path("b.img")).expect("there");
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0x5a; 59 << 20], 4 << 20).expect("written");
    let events = desk.ok(&format!("pool events {RAIDZ}"));
    assert!(
        events.contains("ereport.fs.zfs.checksum ") && events.contains("the checksum of a copy is wrong"),
        "{events}"
    );
    let scrubbed = desk.run(&["pool", "scrub", RAIDZ]);
    assert!(scrubbed.status.success(), "all of it can be repaired");
    assert_eq!(desk.ok(&format!("pool events {RAIDZ}")), "");
    assert!(desk.ok(&format!("image verify {RAIDZ}")).contains("no errors"));
}

#[test]
fn a_lost_device_is_replaced_though_a_spare_stands_in() {
    let desk = raidz();
    desk.ok(&format!("pool add {RAIDZ} spare s.img --size 64M"));
    File::create(desk.path("b.img")).and_then(|file| file.set_len(64 << 20)).expect("emptied");
    let all = format!("{RAIDZ},s.img");
    desk.ok(&format!("pool replace {all} b.img"));
    let status = desk.json(&format!("pool status {all}"));
    assert_eq!(status[0]["scan"]["state"], "finished", "replace waits until all is done: {status}");
    assert_eq!(status[0]["status"], serde_json::Value::Null, "{status}");
    let spare = states(&desk, &all).pop().expect("a line");
    assert_eq!(spare, ("s.img".into(), "AVAIL".into()), "it went back");
}
