//! Anything that compresses must expand to itself: the first byte picks the algorithm.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondisk::Compression;

fuzz_target!(|bytes: &[u8]| {
    let Some((alg, src)) = bytes.split_first() else { return };
    let Some(alg) = Compression::from_id(*alg % Compression::COUNT) else { return };
    if alg == Compression::On {
        return; // a property, never a stored algorithm
    }
    let Some(packed) = codec::compress(alg, src, 16) else { return };
    let mut out = vec![0; src.len()];
    codec::decompress(alg, &packed, &mut out).expect("what was compressed expands");
    assert_eq!(out, src);
});
