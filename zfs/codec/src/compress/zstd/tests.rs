//! Frames of another encoder, frames made by hand, and damage.

use super::sequences::distance;
use super::*;
use alloc::vec::Vec;
use proptest::collection::vec;
use proptest::prelude::*;
use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};

/// Magic number of an ordinary frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A frame as another encoder makes it, without the magic number.
fn encoded(data: &[u8], level: i32) -> Vec<u8> {
    let frame = compress_slice_to_vec(data, CompressionLevel::from_level(level));
    frame.strip_prefix(&MAGIC).expect("starts with the magic number").to_vec()
}

/// With ZFS's header before the frame and padding behind it.
fn framed(frame: &[u8]) -> Vec<u8> {
    let mut block = (frame.len() as u32).to_be_bytes().to_vec();
    block.extend([0, 40, 165, 3]);
    block.extend(frame);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// Text of few words, so that copies are long and literals have a skewed code.
fn text(nr_words: usize, seed: u32) -> Vec<u8> {
    let words = ["pool", "vdev ", "uberblock\n", "txg", " dnode", "0123456789", "a", "metaslab, metaslab"];
    let mut state = seed;
    let mut out = Vec::new();
    for _ in 0..nr_words {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(words[(state >> 29) as usize].as_bytes());
        out.push((state >> 8 & 0x3f) as u8);
    }
    out
}

fn decodes(data: &[u8], level: i32) {
    let mut out = std::vec![1; data.len()];
    assert_eq!(decompress(&framed(&encoded(data, level)), &mut out), Ok(()), "level {level}");
    assert!(out == data, "level {level}");
}

#[test]
fn blocks_of_all_levels() {
    for size in [1, 17, 300, 5_000, 60_000] {
        let data = text(size, 3 + size as u32);
        for level in [-5, -1, 1, 3, 6, 9, 12, 19] {
            decodes(&data, level);
        }
    }
}

/// Several blocks of a frame: tables and offsets are carried over.
#[test]
fn large_blocks() {
    let mut data = text(150_000, 9);
    data.extend(std::vec![7; 300_000]);
    data.extend(text(1_000, 9));
    for level in [1, 3, 9] {
        decodes(&data, level);
    }
}

#[test]
fn frames_made_by_hand() {
    let mut out = [0; 6];
    // window; one raw block of 2, a repeated byte of 4 as the last
    decode_frame(&[0, 0, 2 << 3, 0, 0, b'a', b'b', 4 << 3 | 2 | 1, 0, 0, b'c'], &mut out).unwrap();
    assert_eq!(&out, b"abcccc");
    // single segment with its size, and a checksum that is not looked at
    decode_frame(&[0x24, 6, 6 << 3 | 2 | 1, 0, 0, b'x', 1, 2, 3, 4], &mut out).unwrap();
    assert_eq!(&out, b"xxxxxx");
    // two raw literals, one sequence of predefined tables would follow: here none
    decode_frame(
        &[0, 0, 2 << 3, 0, 0, b'a', b'b', 6 << 3 | 4 | 1, 0, 0, 4 << 3, b'w', b'x', b'y', b'z', 0],
        &mut out,
    )
    .unwrap();
    assert_eq!(&out, b"abwxyz");
}

#[test]
fn what_is_wrong_is_refused() {
    let refused = |frame: &[u8], error| {
        let mut out = [0; 6];
        assert_eq!(decode_frame(frame, &mut out), Err(error), "{frame:?}");
    };
    refused(&[], CodecError::Corrupt);
    // reserved bit, dictionary, wrong content size
    refused(&[0x08, 0, 6 << 3 | 3, 0, 0, b'x'], CodecError::Corrupt);
    refused(&[0x01, 0, 9, 6 << 3 | 3, 0, 0, b'x'], CodecError::Unsupported);
    refused(&[0x20, 7, 6 << 3 | 3, 0, 0, b'x'], CodecError::Corrupt);
    // too short, too long, trailing bytes, reserved block type, a block larger than blocks are
    refused(&[0, 0, 5 << 3 | 3, 0, 0, b'x'], CodecError::Corrupt);
    refused(&[0, 0, 7 << 3 | 3, 0, 0, b'x'], CodecError::Corrupt);
    refused(&[0, 0, 6 << 3 | 3, 0, 0, b'x', 0], CodecError::Corrupt);
    refused(&[0, 0, 6 << 3 | 7, 0, 0, b'x'], CodecError::Corrupt);
    refused(&[0, 0, 3, 0, 0x20, b'x'], CodecError::Corrupt);
    // a literals section that uses a code no block has given
    refused(&[0, 0, 5 << 3 | 4 | 1, 0, 0, 3, 0, 0, 1, 0], CodecError::Corrupt);
}

#[test]
fn recent_offsets() {
    let mut recent = [1, 4, 8];
    assert_eq!((distance(&mut recent, 1, false), recent), (1, [1, 4, 8]));
    assert_eq!((distance(&mut recent, 2, false), recent), (4, [4, 1, 8]));
    assert_eq!((distance(&mut recent, 3, false), recent), (8, [8, 4, 1]));
    assert_eq!((distance(&mut recent, 1, true), recent), (4, [4, 8, 1]));
    assert_eq!((distance(&mut recent, 2, true), recent), (1, [1, 4, 8]));
    assert_eq!((distance(&mut recent, 13, true), recent), (10, [10, 1, 4]));
    assert_eq!((distance(&mut recent, 3, true), recent), (9, [9, 10, 1]));
    let mut recent = [1, 4, 8];
    assert_eq!(distance(&mut recent, 3, true), 0);
}

proptest! {
    #[test]
    fn mixed_data(
        pieces in vec((any::<u8>(), 1..400usize, 0..3u8), 1..40), level in 1..12i32, seed in any::<u32>(),
    ) {
        let mut data = text(40, seed);
        let mut state = seed;
        for (byte, n, kind) in pieces {
            match kind {
                0 => data.extend(std::vec![byte; n]),
                1 => data.extend_from_within(usize::from(byte) % data.len()..),
                _ => data.extend((0..n).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })),
            }
            data.truncate(1 << 20);
        }
        decodes(&data, level);
    }

    #[test]
    fn damage_is_survived(at in any::<prop::sample::Index>(), value in any::<u8>(), level in 1..12i32) {
        let data = text(2_000, 5);
        let mut frame = encoded(&data, level);
        let index = at.index(frame.len());
        frame[index] = value;
        let mut out = std::vec![0; data.len()];
        let _ = decode_frame(&frame, &mut out);
        frame.truncate(index);
        prop_assert!(decode_frame(&frame, &mut out).is_err());
    }

    #[test]
    fn noise_is_survived(frame in vec(any::<u8>(), 0..600), size in 0..3000usize) {
        let mut out = std::vec![0; size];
        let _ = decode_frame(&frame, &mut out);
        // as the one compressed block of a frame
        let mut block = std::vec![0, 0];
        block.extend(&((frame.len() as u32) << 3 | 4 | 1).to_le_bytes()[..3]);
        block.extend(&frame);
        let _ = decode_frame(&block, &mut out);
    }
}
