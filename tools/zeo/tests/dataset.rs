//! Commands on datasets as a user of zfs(8) runs them.
mod common;
use common::Desk;
use std::process::{Command, Stdio};

fn pool() -> Desk {
    let desk = Desk::new();
    desk.ok("pool create tank a.img --size 64M");
    desk.ok("create a.img tank/home");
    desk
}

#[test]
fn listings_have_the_habits_of_zfs() {
    let desk = pool();
    desk.ok("snap create -r a.img @monday");
    desk.ok("bookmark a.img home@monday #mark");
    let list = desk.ok("list a.img");
    assert!(list.starts_with("NAME       USED  AVAIL  REFER  MOUNTPOINT\ntank  "), "{list}");
    assert_eq!(
        desk.ok("list -H -o name -t all -r a.img home"),
        "tank/home\ntank/home@monday\ntank/home#mark\n"
    );
    assert_eq!(desk.ok("list -H -o name -t snapshot a.img"), "tank@monday\ntank/home@monday\n");
    assert_eq!(desk.ok("list -H -o name -d 0 a.img tank"), "tank\n");
    assert_eq!(desk.ok("list -H -o name -S name a.img"), "tank/home\ntank\n");
    let used = desk.ok("list -Hp -o used a.img home");
    assert!(used.trim().parse::<u64>().is_ok(), "{used}");
    assert_eq!(desk.json("list a.img home")[0]["name"], "tank/home");
    let get = desk.ok("get a.img mountpoint,used home");
    assert!(get.starts_with("NAME       PROPERTY    VALUE       SOURCE\n"), "{get}");
    assert_eq!(desk.ok("get -H -o source a.img mountpoint home"), "default\n");
    desk.refused(&["list", "a.img", "nope"], 65, &["'tank/nope'", "does not exist"]);
    desk.refused(&["list", "-t", "nope", "a.img"], 65, &["filesystem, volume, snapshot, bookmark"]);
    desk.refused(&["get", "a.img", "nope", "home"], 65, &["no property 'nope'"]);
}

/// `script` gives the program a terminal.
#[test]
fn bars_are_drawn_on_terminals_only() {
    let desk = pool();
    desk.ok("snap create a.img home@s");
    let line = format!("stty cols 100; {} send a.img home@s -o out", env!("CARGO_BIN_EXE_zeo"));
    let mut script = Command::new("script");
    script.args(["-qefc", &line, "/dev/null"]).current_dir(desk.path("")).stdin(Stdio::null());
    let output = script.output().expect("script starts");
    let drawn = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{drawn}");
    assert!(drawn.contains("send [") && drawn.contains("KiB"), "{drawn}");
    assert!(!drawn.contains("0 B/0 B"), "a bar of nothing looks full: {drawn}");
    let plain = desk.run(&["send", "a.img", "home@s", "-o", "again"]);
    assert!(plain.status.success() && plain.stderr.is_empty() && plain.stdout.is_empty());
}

#[test]
fn properties_are_set_inherited_and_refused() {
    let desk = pool();
    desk.ok("set a.img compression=gzip-9 org.x:y=z quota=20M tank/home");
    assert_eq!(desk.ok("get -H -o value,source a.img compression home"), "gzip-9\tlocal\n");
    assert_eq!(desk.ok("get -Hp -o value a.img quota home"), "20971520\n");
    desk.ok("inherit a.img compression home");
    assert_eq!(desk.ok("get -H -o source a.img compression home"), "default\n");
    for (setting, needle) in [
        ("compression=lz5", "lz4"),
        ("mountpoint=srv", "begins with '/'"),
        ("used=5", "no property 'used'"),
        ("Org.x:y=z", "small ASCII letters"),
        ("quota=-1", "a size"),
        ("quota=99999999999999T", "a size"),
        ("reservation=1T", "cannot set"),
        ("recordsize=3", "power of two"),
    ] {
        desk.refused(&["set", "a.img", setting, "home"], 65, &[needle]);
    }
    let long = format!("a:b={}", "x".repeat(9000));
    desk.refused(&["set", "a.img", &long, "home"], 65, &["8191 bytes at most"]);
    desk.refused(&["inherit", "a.img", "quota", "home"], 2, &["cannot be inherited", "quota=none"]);
}

#[test]
fn snapshots_clones_and_their_order() {
    let desk = pool();
    std::fs::write(desk.path("file"), vec![7; 300_000]).expect("written");
    desk.ok("image put -d home a.img file /file");
    desk.ok("snap create a.img home@one");
    desk.ok("image rm -d home a.img /file");
    desk.ok("snap create a.img home@two");
    assert_eq!(
        desk.ok("snap diff -H a.img home@one home@two").trim_end(),
        "M\t/tank/home/\n-\t/tank/home/file"
    );
    desk.refused(&["rollback", "a.img", "home@one"], 1, &["'-r'"]);
    desk.ok("clone a.img home@one copy");
    desk.refused(&["snap", "destroy", "a.img", "home@one"], 1, &["clone"]);
    desk.ok("promote a.img copy");
    assert_eq!(desk.ok("get -H -o value a.img origin home"), "tank/copy@one\n");
    desk.refused(&["promote", "a.img", "copy"], 65, &["not a cloned filesystem"]);
    desk.ok("hold a.img keep copy@one");
    desk.refused(&["snap", "destroy", "a.img", "copy@one"], 1, &[]);
    desk.ok("release a.img keep copy@one");
    desk.refused(&["release", "a.img", "keep", "copy@one"], 65, &["no such tag"]);
    desk.refused(&["snap", "create", "a.img", "home@x", "home@x"], 2, &["named twice"]);
    desk.refused(&["destroy", "a.img", "copy"], 1, &["'-r'"]);
    assert!(desk.run(&["image", "verify", "a.img"]).status.success());
}

#[test]
fn names_that_cannot_be_are_explained() {
    let desk = pool();
    let long = format!("tank/{}", "x".repeat(300));
    for (name, needle) in [
        ("ho%me", "invalid character '%'"),
        ("h\u{e4}", "invalid character"),
        ("tank/..", "cannot be part of a name"),
        (&long, "too long"),
        ("", "empty part"),
        ("/", "empty part"),
        ("a//b", "empty part"),
        ("nope/nope", "no parent"),
        ("home@x", "names a snapshot"),
        ("home", "exists already"),
    ] {
        desk.refused(&["create", "a.img", name], 65, &[needle]);
    }
    desk.run(&["create", "a.img", "tank/with blank"]);
    assert_eq!(desk.ok("list -H -o name a.img"), "tank\ntank/home\ntank/with blank\n");
}

#[test]
fn streams_from_one_pool_to_another() {
    let desk = pool();
    std::fs::write(desk.path("file"), vec![9; 200_000]).expect("written");
    desk.ok("image put -d home a.img file /file");
    desk.ok("snap create a.img home@one");
    desk.ok("pool create other b.img --size 64M");
    desk.ok("send a.img home@one -o full");
    let stream = std::fs::read(desk.path("full")).expect("sent");
    std::fs::write(desk.path("cut"), &stream[..stream.len() * 3 / 4]).expect("written");
    desk.refused(&["receive", "b.img", "home", "-f", "cut"], 65, &["cut short", "send it again"]);
    assert_eq!(desk.ok("list -H -o name b.img"), "other\n");
    desk.refused(&["receive", "-s", "b.img", "home", "-f", "cut"], 65, &["go on with"]);
    let token = desk.ok("get -H -o value b.img receive_resume_token home");
    assert!(token.starts_with("1-"), "{token}");
    desk.ok(&format!("send a.img -t {} -o rest", token.trim()));
    desk.ok("receive b.img home -f rest");
    assert_eq!(desk.ok("get -H -o value b.img receive_resume_token home"), "-\n");
    assert_eq!(desk.run(&["image", "cat", "-d", "home", "b.img", "/file"]).stdout, vec![9; 200_000]);
    desk.refused(&["receive", "b.img", "home", "-f", "full"], 65, &["is there already"]);
    let mut damaged = stream;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(desk.path("bad"), damaged).expect("written");
    desk.refused(&["receive", "b.img", "new", "-f", "bad"], 65, &["damaged"]);
    assert_eq!(desk.ok("list -H -o name b.img"), "other\nother/home\n");
    desk.refused(&["send", "a.img", "home@nope"], 65, &["no snapshot"]);
}
