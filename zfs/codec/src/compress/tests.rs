//! Round trips, known streams, hostile input.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const ALL: [Compression; 6] = [
    Compression::Lz4,
    Compression::Lzjb,
    Compression::Zle,
    Compression::Gzip1,
    Compression::Gzip9,
    Compression::Zstd,
];

fn built_in() -> impl Iterator<Item = Compression> {
    ALL.into_iter().filter(|alg| supports_compression(*alg))
}

/// Runs of repeated bytes, zeros and noise.
fn mixed() -> impl Strategy<Value = std::vec::Vec<u8>> {
    let piece = prop_oneof![
        (any::<u8>(), 1..300usize).prop_map(|(b, n)| std::vec![b; n]),
        (1..300usize).prop_map(|n| std::vec![0; n]),
        vec(any::<u8>(), 1..40),
        vec(0..3u8, 1..200),
    ];
    vec(piece, 1..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn round_trip(src in mixed()) {
        for alg in built_in() {
            let Some(packed) = compress_raw(alg, &src) else { continue };
            prop_assert!(packed.len() <= compressed_max(src.len()));
            let mut out = std::vec![1; src.len()];
            prop_assert_eq!(decompress(alg, &packed, &mut out), Ok(()), "{:?}", alg);
            prop_assert_eq!(&out, &src, "{:?}", alg);
            if let Some(padded) = pad(packed, src.len(), 512) {
                prop_assert!(padded.len() % 512 == 0 && padded.len() < src.len());
                prop_assert_eq!(decompress(alg, &padded, &mut out), Ok(()), "{:?} padded", alg);
                prop_assert_eq!(&out, &src);
            }
        }
    }

    #[test]
    fn every_stream_of_zle_and_lzjb_round_trips(src in mixed()) {
        for (alg, packed) in [
            (Compression::Zle, zle::compress(&src, 2 * src.len() + 16).unwrap_or_default()),
            (Compression::Lzjb, lzjb::compress(&src, 2 * src.len() + 16).unwrap_or_default()),
            (Compression::Lz4, lz4::compress(&src)),
        ] {
            let mut out = std::vec![1; src.len()];
            prop_assert_eq!(decompress(alg, &packed, &mut out), Ok(()), "{:?}", alg);
            prop_assert_eq!(&out, &src, "{:?}", alg);
        }
    }

    /// Short alphabets make streams of which some decode.
    #[test]
    fn lz4_decodes_what_another_decoder_does(src in vec(0..32_u8, 0..60), size in 0..300usize) {
        let mut theirs = std::vec![0; size];
        let theirs_len = lz4_flex::block::decompress_into(&src, &mut theirs);
        let is_theirs = theirs_len .is_ok_and(|n| n == size);
        let mut framed = (src.len() as u32).to_be_bytes().to_vec();
        framed.extend_from_slice(&src);
        let mut ours = std::vec![0; size];
        let is_ours = decompress(Compression::Lz4, &framed, &mut ours).is_ok();
        prop_assert_eq!(is_ours, is_theirs);
        prop_assert!(!is_ours || ours == theirs);
    }

    #[test]
    fn hostile_input(src in vec(any::<u8>(), 0..400), size in 0..2000usize) {
        let mut out = std::vec![0; size];
        for id in 0..Compression::COUNT {
            let _ = decompress(Compression::from_id(id).unwrap(), &src, &mut out);
        }
    }

    #[test]
    fn damaged_streams(src in mixed(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        for alg in built_in() {
            let Some(mut packed) = compress_raw(alg, &src) else { continue };
            let index = at.index(packed.len());
            packed[index] = value;
            let mut out = std::vec![0; src.len()];
            let _ = decompress(alg, &packed, &mut out);
            packed.truncate(index);
            let _ = decompress(alg, &packed, &mut out);
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let src = std::vec![7u8; 4096];
    for alg in built_in() {
        let Some(packed) = compress_raw(alg, &src) else { continue };
        let mut larger = std::vec![0; 8192];
        assert_eq!(decompress(alg, &packed, &mut larger), Err(CodecError::Corrupt), "{alg:?}");
    }
}

#[test]
fn saving_less_than_an_eighth_is_none() {
    let mut noise = std::vec![0u8; 4096];
    let mut state = 1u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    for alg in built_in() {
        assert_eq!(compress_raw(alg, &noise), None, "{alg:?}");
    }
    // compresses below 7/8, but not below one 4 KiB unit
    assert_eq!(compress(Compression::Lz4, &[0; 4096], 4096), None);
    assert_eq!(compress(Compression::Lz4, &[1; 8192], 4096).map(|v| v.len()), Some(4096));
    assert_eq!(compress(Compression::Off, &[1; 8192], 512), None);
}

/// Streams made by hand from the format's description.
#[test]
fn known_streams() {
    let mut out = [9u8; 8];
    decompress(Compression::Zle, &[1, b'a', b'b', 63 + 4, 1, b'c', b'd', 0xff], &mut out).unwrap();
    assert_eq!(&out, b"ab\0\0\0\0cd");
    // bitmap 0b10: literal 'a', then a match of 3 + 4 bytes at distance 1
    decompress(Compression::Lzjb, &[0b10, b'a', 4 << 2, 1], &mut out).unwrap();
    assert_eq!(&out, b"aaaaaaaa");
    decompress(
        Compression::Lz4,
        &[0, 0, 0, 9, 0x80, b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', 0],
        &mut out,
    )
    .unwrap();
    assert_eq!(&out, b"12345678");
    assert_eq!(decompress(Compression::Lzjb, &[0b1, 0, 1], &mut out), Err(CodecError::Corrupt));
}
