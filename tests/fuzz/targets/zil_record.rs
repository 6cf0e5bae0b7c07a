//! Intent log records in both byte orders: what decodes and has an encoding comes back from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondisk::zil::{RECORD_HEAD_SIZE, RecordHead};
use ondisk::zil_record::{Record, swap_record};

fuzz_target!(|bytes: &[u8]| {
    let mut swapped = bytes.to_vec();
    if let Ok(len) = swap_record(&mut swapped) {
        assert!(len >= RECORD_HEAD_SIZE && len <= bytes.len());
    }
    // A block of records, as a chain's walk takes it.
    let mut rest = bytes;
    while let Ok(head) = RecordHead::parse(rest) {
        if let Ok(record) = Record::parse(&head, rest) {
            again(&record);
        }
        rest = &rest[head.reclen..];
    }
});

fn again(record: &Record<'_>) {
    let _ = record.unordered_object();
    let Some(encoded) = record.encode() else { return };
    let head = RecordHead::parse(&encoded).expect("what is encoded has a head");
    assert_eq!(head.reclen, encoded.len());
    let back = Record::parse(&head, &encoded).expect("what is encoded decodes");
    assert_eq!(&back, record);
}
