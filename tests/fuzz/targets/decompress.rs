//! Compressed data from bytes: the first byte picks the algorithm, the next two the logical size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondisk::Compression;

fuzz_target!(|bytes: &[u8]| {
    let [alg, low, high, src @ ..] = bytes else { return };
    let Some(alg) = Compression::from_id(*alg % Compression::COUNT) else { return };
    let mut out = vec![0; usize::from(u16::from_le_bytes([*low, *high]))];
    let _ = codec::decompress(alg, src, &mut out);
});
