//! Streams of a pool that OpenZFS made, compared with those that OpenZFS sent of it.
use golden_tests::Pool;
use golden_tests::open::Opened;
use golden_tests::streams;
use nvpair::{NvList, NvValue};
use ondisk::stream::{HeaderKind, RECORD_SIZE, Record};
use std::collections::BTreeMap;
use zfs::Error;
use zfs::send::{BlockOptions, ResumePoint, SendSpec};

fn spec(to: &str, from: Option<&str>) -> SendSpec {
    SendSpec { to: to.to_owned(), from: from.map(str::to_owned), ..SendSpec::default() }
}

fn blocks(letters: &str) -> BlockOptions {
    BlockOptions {
        large: letters.contains('L'),
        compressed: letters.contains('c'),
        embedded: letters.contains('e'),
    }
}

/// Sends, and compares with the stream of that name, byte for byte.
fn same(name: &str, spec: &SendSpec) {
    let pool = Pool::unpack("sends").expect("unpacks");
    let opened = Opened::files(&pool.images).expect("imports");
    let mut ours = Vec::new();
    let sent = opened.spa.send(spec, &mut |bytes| {
        ours.extend_from_slice(bytes);
        Ok(())
    });
    assert_eq!(sent, Ok(ours.len() as u64), "{name}");
    let parts = opened.spa.send_size(spec).expect("measures");
    let overhead = if spec.is_compound() { ours.len() as u64 - streams::substream_bytes(&ours) } else { 0 };
    assert_eq!(parts.iter().map(|p| p.bytes).sum::<u64>() + overhead, ours.len() as u64, "{name}: size");
    let theirs = streams::golden(name).expect("unpacks");
    let [ours, theirs] = [&ours, &theirs].map(|s| comparable(s));
    let first = ours.iter().zip(&theirs).position(|(a, b)| a != b);
    if first.is_some() || ours.len() != theirs.len() {
        let first = first.unwrap_or_default();
        let line = |all: &[(Record, Vec<u8>)]| {
            let few = all.iter().skip(first.saturating_sub(1)).take(3);
            few.map(|(r, payload)| format!("  {r:?} {}\n", payload.len())).collect::<String>()
        };
        panic!("{name}: record {first} of {}:\n{}expected:\n{}", ours.len(), line(&ours), line(&theirs));
    }
}

/// The records with their payloads, without what need not be equal: descriptions' order and what follows from it, and
/// spill blocks, which OpenZFS 2.3 sends as embedded blocks at an impossible offset where they are embedded.
fn comparable(stream: &[u8]) -> Vec<(Record, Vec<u8>)> {
    let mut all = Vec::new();
    for (at, record) in streams::records(stream) {
        let start = at + RECORD_SIZE;
        let payload = stream[start..start + record.payload_len()].to_vec();
        match record {
            Record::End(_) | Record::Spill(_) => {}
            Record::WriteEmbedded(e) if e.offset >> 63 == 1 => {}
            Record::Begin(begin) if begin.header == HeaderKind::Compound && !payload.is_empty() => {
                let list = NvList::decode(&payload).expect("a description");
                all.push((record, format!("{:?}", sorted(&list)).into_bytes()));
            }
            _ => all.push((record, payload)),
        }
    }
    all
}

fn sorted(list: &NvList) -> BTreeMap<String, String> {
    let text = |value: &NvValue| match value {
        NvValue::NvList(list) => format!("{:?}", sorted(list)),
        other => format!("{other:?}"),
    };
    let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    list.pairs().iter().map(|pair| (name(&pair.name), text(&pair.value))).collect()
}

/// Sends, and compares with the stream of that name, byte for byte.
fn identical(name: &str, spec: &SendSpec) {
    let pool = Pool::unpack("sends").expect("unpacks");
    let opened = Opened::files(&pool.images).expect("imports");
    let mut ours = Vec::new();
    let mut keep = |bytes: &[u8]| {
        ours.extend_from_slice(bytes);
        Ok(())
    };
    opened.spa.send(spec, &mut keep).expect("sends");
    assert!(ours == streams::golden(name).expect("unpacks"), "{name}");
}

#[test]
fn byte_for_byte() {
    identical("full", &spec("sends/fs@a", None));
    identical("full-L", &SendSpec { blocks: blocks("L"), ..spec("sends/fs@a", None) });
    identical("full-c", &SendSpec { blocks: blocks("c"), ..spec("sends/fs@a", None) });
    let from = Some("sends/fs@a");
    identical("inc", &spec("sends/fs@b", from));
    identical("inc-I", &SendSpec { intermediate: true, ..spec("sends/fs@c", from) });
    identical("from-bookmark", &spec("sends/fs@c", Some("sends/fs#b")));
    identical("vol", &spec("sends/vol@a", None));
}

#[test]
fn full() {
    same("full", &spec("sends/fs@a", None));
}

#[test]
fn full_with_large_compressed_and_embedded_blocks() {
    for letters in ["L", "e", "c", "Lec"] {
        same(&format!("full-{letters}"), &SendSpec { blocks: blocks(letters), ..spec("sends/fs@a", None) });
    }
}

#[test]
fn incremental() {
    let from = Some("sends/fs@a");
    same("inc", &spec("sends/fs@b", from));
    same("inc-Lec", &SendSpec { blocks: blocks("Lec"), ..spec("sends/fs@b", from) });
    same("inc-I", &SendSpec { intermediate: true, ..spec("sends/fs@c", from) });
    same("from-bookmark", &spec("sends/fs@c", Some("sends/fs#b")));
}

#[test]
fn with_properties_and_descendants() {
    same("full-p", &SendSpec { properties: true, ..spec("sends/fs@a", None) });
    same("repl", &SendSpec { replicate: true, ..spec("sends/fs@c", None) });
    let incremental = spec("sends/fs@c", Some("sends/fs@a"));
    same("repl-inc", &SendSpec { replicate: true, intermediate: true, ..incremental });
}

#[test]
fn a_volume() {
    same("vol", &spec("sends/vol@a", None));
}

#[test]
fn resumed() {
    let resume = Some(ResumePoint { object: 0xa2, offset: 0 });
    same("resumed", &SendSpec { blocks: blocks("Lec"), resume, ..spec("sends/fs@a", None) });
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let pool = Pool::unpack("sends").expect("unpacks");
    let opened = Opened::files(&pool.images).expect("imports");
    let refused = |spec: SendSpec| opened.spa.send(&spec, &mut |_| Ok(())).unwrap_err();
    assert_eq!(refused(spec("sends/fs@nowhere", None)), Error::NotFound);
    assert_eq!(refused(spec("sends/fs", None)), Error::Invalid);
    assert_eq!(refused(spec("sends/fs@a", Some("sends/fs@b"))), Error::NoBase);
    assert_eq!(refused(spec("sends/fs@a", Some("sends/fs#b"))), Error::NoBase);
    assert_eq!(refused(spec("sends/enc@a", None)), Error::Encrypted);
    let resume = Some(ResumePoint { object: 1 << 40, offset: 0 });
    assert_eq!(refused(SendSpec { resume, ..spec("sends/fs@a", None) }), Error::NotFound);
    let mut left = 10_000usize;
    let full = opened.spa.send(&spec("sends/fs@a", None), &mut |bytes| {
        left = left.checked_sub(bytes.len()).ok_or(Error::Fault)?;
        Ok(())
    });
    assert_eq!(full, Err(Error::Fault));
}
