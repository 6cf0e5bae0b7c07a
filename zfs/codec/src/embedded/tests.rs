//! Seals verify at their own place only, in both byte orders.

use super::*;
use ondisk::eck::label_verifier;
use proptest::prelude::*;

proptest! {
    #[test]
    fn sealed_buffers_verify(mut buffer in proptest::collection::vec(any::<u8>(), 40..3000), at in any::<u64>(), flip in any::<prop::sample::Index>()) {
        seal(&mut buffer, &label_verifier(at));
        prop_assert_eq!(verify(&buffer, &label_verifier(at)), Ok(ByteOrder::Native));
        prop_assert_eq!(verify(&buffer, &label_verifier(at ^ 512)), Err(CodecError::Mismatch));
        let index = flip.index(buffer.len());
        buffer[index] ^= 1;
        prop_assert_eq!(verify(&buffer, &label_verifier(at)), Err(CodecError::Mismatch));
    }

    #[test]
    fn hostile_buffers(bytes in proptest::collection::vec(any::<u8>(), 0..300), words in any::<[u64; 4]>()) {
        let _ = verify(&bytes, &Digest(words));
        let _ = verify_log(Checksum::Zilog2, &bytes, &Digest(words));
        let _ = verify_log(Checksum::Zilog, &bytes, &Digest(words));
    }

    #[test]
    fn log_blocks_verify(used in 184..8192u64, words in any::<[u64; 4]>(), fill in any::<u8>()) {
        let mut block = vec![fill; 8192];
        put_u64(&mut block, CHAIN_USED_OFFSET, used);
        seal_log(&mut block, &Digest(words)).unwrap();
        prop_assert_eq!(verify_log(Checksum::Zilog2, &block, &Digest(words)), Ok(ByteOrder::Native));
        let covered = (used as usize).next_multiple_of(4096);
        block[covered - 1] ^= 1;
        prop_assert_eq!(verify_log(Checksum::Zilog2, &block, &Digest(words)), Err(CodecError::Mismatch));
        block[covered - 1] ^= 1;
        if covered < block.len() {
            block[covered] ^= 1;
            prop_assert!(verify_log(Checksum::Zilog2, &block, &Digest(words)).is_ok());
        }
    }
}

/// The same buffer as a big-endian host seals it.
#[test]
fn foreign_buffers_verify() {
    let verifier = label_verifier(0x1234);
    let mut buffer = vec![7u8; 1024];
    let at = buffer.len() - ECK_SIZE;
    buffer[at..at + 8].copy_from_slice(&ECK_MAGIC.to_be_bytes());
    let digest = digest_with(Checksum::Label, &buffer, at + 8, &verifier, ByteOrder::Foreign).unwrap();
    for (i, word) in digest.0.iter().enumerate() {
        buffer[at + 8 + 8 * i..at + 16 + 8 * i].copy_from_slice(&word.to_be_bytes());
    }
    assert_eq!(verify(&buffer, &verifier), Ok(ByteOrder::Foreign));
}

#[test]
fn stand_in_equals_a_rewritten_buffer() {
    let words = Digest([1, 2, 3, 4]);
    for alg in [Checksum::Label, Checksum::Zilog, Checksum::Zilog2] {
        let block: std::vec::Vec<u8> = (0..4096u32).map(|i| (i * 31) as u8).collect();
        let mut rewritten = block.clone();
        put_digest(&mut rewritten, CHAIN_DIGEST_OFFSET, &words);
        let expected = crate::checksum(alg, &rewritten, false, None).unwrap();
        let actual = digest_with(alg, &block, CHAIN_DIGEST_OFFSET, &words, ByteOrder::Native).unwrap();
        assert_eq!(actual, expected, "{alg:?}");
    }
}
