//! Known answers (published test vectors, read as ZFS reads them).

use super::*;

fn hex(text: &str) -> std::vec::Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn sha256_is_read_big_endian() {
    let expected = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let digest = checksum(Checksum::Sha256, b"abc", false, None).unwrap();
    assert_eq!(digest, words(&expected, u64::from_be_bytes));
    assert_eq!(checksum(Checksum::Sha256, b"abc", true, None), Ok(digest));
}

#[test]
fn sha512_256_is_copied() {
    let expected = hex("53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23");
    let digest = checksum(Checksum::Sha512, b"abc", false, None).unwrap();
    assert_eq!(digest, words(&expected, u64::from_le_bytes));
    assert_eq!(checksum(Checksum::Sha512, b"abc", true, None).unwrap(), digest.swap_bytes());
}

#[test]
fn what_is_not_built_in_says_so() {
    assert_eq!(checksum(Checksum::Skein, b"", false, None), Err(CodecError::Unsupported));
    assert!(!supports_checksum(Checksum::EdonR) && supports_checksum(Checksum::Sha512));
    let without_salt = checksum(Checksum::Blake3, b"", false, None);
    assert!(matches!(without_salt, Err(CodecError::NoSalt | CodecError::Unsupported)));
}

#[cfg(feature = "blake3")]
#[test]
fn blake3_is_keyed_by_the_salt() {
    // official vector: key, input length 0
    let key: &Salt = b"whats the Elvish word for friend";
    let expected = hex("92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26");
    let digest = checksum(Checksum::Blake3, b"", false, Some(key)).unwrap();
    assert_eq!(digest, words(&expected, u64::from_le_bytes));
}

/// Our SHA-512/256 equals the crate's, whatever the pieces.
#[test]
fn sha512_equals_another_implementation() {
    let bytes: std::vec::Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
    for len in (0..300).chain([511, 512, 1000]) {
        for cut in [0, len / 3, len / 2, len] {
            let mut hash = Sha512::new();
            hash.update(&bytes[..cut]);
            hash.update(&bytes[cut..len]);
            assert_eq!(hash.finish()[..], sha2::Sha512_256::digest(&bytes[..len])[..], "{cut} of {len}");
        }
    }
}
