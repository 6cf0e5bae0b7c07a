//! Configurations out of labels that OpenZFS wrote: decoded, looked into, and encoded to the same bytes.

use nvpair::{NvList, NvValue};

const LABELS: [(&str, &[u8]); 11] = [
    ("plain", include_bytes!("data/plain.nvlist")),
    ("v28", include_bytes!("data/v28.nvlist")),
    ("rz2", include_bytes!("data/rz2.nvlist")),
    ("stripemir", include_bytes!("data/stripemir.nvlist")),
    ("enc", include_bytes!("data/enc.nvlist")),
    ("drd", include_bytes!("data/drd.nvlist")),
    ("hotspare", include_bytes!("data/hotspare.nvlist")),
    ("special", include_bytes!("data/special.nvlist")),
    ("l2arc", include_bytes!("data/l2arc.nvlist")),
    ("zilslog", include_bytes!("data/zilslog.nvlist")),
    ("indirect", include_bytes!("data/indirect.nvlist")),
];

fn decode(name: &str) -> NvList {
    let (_, bytes) = LABELS.iter().find(|(n, _)| *n == name).unwrap();
    NvList::decode(bytes).unwrap()
}

#[test]
fn encoding_gives_the_same_bytes() {
    for (name, bytes) in LABELS {
        let (list, used) = NvList::decode_prefix(bytes).unwrap();
        assert_eq!(list.encode().unwrap(), &bytes[..used], "{name}");
        assert!(bytes[used..].iter().all(|b| *b == 0), "{name}: only padding follows");
    }
}

#[test]
fn lookups_find_what_the_label_says() {
    let plain = decode("plain");
    assert_eq!(plain.get_u64("version"), Some(5000));
    assert_eq!(plain.get_str("name"), Some("plain"));
    let tree = plain.get_nvlist("vdev_tree").unwrap();
    assert_eq!(tree.get_str("type"), Some("disk"));
    assert_eq!(tree.get_u64("ashift"), Some(9));
    let features = plain.get_nvlist("features_for_read").unwrap();
    assert_eq!(features.get("com.delphix:hole_birth"), Some(&NvValue::Boolean));
    assert_eq!(plain.get_u64("name"), None, "a string is not a number");
    assert_eq!(decode("v28").get_u64("version"), Some(28));
    let raidz = decode("rz2");
    let tree = raidz.get_nvlist("vdev_tree").unwrap();
    assert_eq!(tree.get_u64("nparity"), Some(2));
    assert!(tree.get_nvlist_array("children").unwrap().len() > 2);
}

#[test]
fn truncation_is_an_error_everywhere() {
    for (name, bytes) in LABELS {
        let (_, used) = NvList::decode_prefix(bytes).unwrap();
        for len in 0..used {
            assert!(NvList::decode(&bytes[..len]).is_err(), "{name} cut to {len}");
        }
    }
}
