//! Every block of golden pools, read with nothing but the leaf crates.
//!
//! The walk goes from the labels to the last data block as the format says, so that structures, checksums and
//! compression are checked against OpenZFS's own bytes, apart from the code that runs pools. Pools whose vdevs need
//! more than an address calculation (RAIDZ, dRAID, removed vdevs) are not walked here.

use golden_tests::forge::Forger;
use golden_tests::walk::{Seen, Walk};
use ondisk::{Checksum, Compression, DmuType};
use std::os::unix::fs::FileExt;

fn walk(name: &str) -> Seen {
    let pool = golden_tests::Pool::unpack(name).expect("unpacks");
    let mut walk = Walk::open(&pool.images, 0).unwrap_or_else(|e| panic!("{name}: {e}"));
    walk.pool().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(walk.seen.blocks > 50, "{name}: only {} blocks", walk.seen.blocks);
    assert!(walk.seen.datasets > 2, "{name}: only {} datasets", walk.seen.datasets);
    walk.seen
}

#[test]
fn every_compression() {
    let seen = walk("comp");
    for id in Compression::Lzjb.id()..Compression::COUNT {
        let alg = Compression::from_id(id).expect("defined");
        if alg != Compression::Empty {
            assert!(seen.compressions.contains(&id), "no {} block", alg.name());
        }
    }
}

#[test]
fn every_checksum() {
    let seen = walk("cksum");
    for alg in [
        Checksum::Off,
        Checksum::Fletcher2,
        Checksum::Fletcher4,
        Checksum::Sha256,
        Checksum::Sha512,
        Checksum::Blake3,
    ] {
        assert!(seen.checksums.contains(&alg.id()), "no {} block", alg.name());
    }
    assert!(seen.unsupported > 0, "skein and edonr are recognised and left alone");
}

#[test]
fn gang_blocks() {
    assert!(walk("gang").gangs >= 50);
}

#[test]
fn embedded_blocks() {
    assert!(walk("embed").embedded > 20);
}

#[test]
fn plain_pools() {
    for name in ["plain", "acl", "compat20", "grub2", "nofeat", "v28", "v15", "nologsm", "logsm", "full"] {
        walk(name);
    }
}

#[test]
fn shapes_of_objects() {
    for name in
        ["recsize", "copies", "dnode", "holebirth", "quota", "multi", "bigdir", "names", "snap", "brt"]
    {
        walk(name);
    }
}

#[test]
fn several_devices() {
    for name in ["stripe", "twoway", "stripemir", "special", "l2arc"] {
        walk(name);
    }
}

/// A forged pool is still a valid one: the walk reads the changed block through right checksums.
#[test]
fn forged_blocks_verify() {
    let pool = golden_tests::Pool::unpack("plain").expect("unpacks");
    let image = &pool.images[0];
    let mut forger = Forger::open(image, 9).expect("indexes");
    let kind = (DmuType::DIRECTORY_CONTENTS, 0);
    assert!(forger.kinds().len() > 15 && forger.count(kind) > 3);
    let mut content = forger.content(kind, 1).expect("reads");
    content[8] ^= 0xff;
    let patches = forger.replace(kind, 1, content.clone()).expect("forges");
    let file = std::fs::File::options().write(true).open(image).expect("opens");
    for (at, bytes) in &patches {
        file.write_all_at(bytes, *at).expect("writes");
    }
    Walk::open(&pool.images, 0).expect("opens").pool().expect("walks");
    assert_eq!(Forger::open(image, 9).expect("indexes").content(kind, 1), Ok(content));
}
