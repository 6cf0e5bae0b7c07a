//! Blocks with their own digest: whatever the bytes, verifying them ends with yes or no; sealing them makes it yes.
#![no_main]

use codec::embedded;
use libfuzzer_sys::fuzz_target;
use ondisk::{Checksum, Digest};

fuzz_target!(|bytes: &[u8]| {
    let verifier = Digest([512, 0, 0, bytes.len() as u64]);
    let _ = embedded::verify(bytes, &verifier);
    let _ = embedded::verify_log(Checksum::Zilog, bytes, &verifier);
    let _ = embedded::verify_log(Checksum::Zilog2, bytes, &verifier);
    let mut sealed = bytes.to_vec();
    embedded::seal(&mut sealed, &verifier);
    assert!(sealed.len() < 40 || embedded::verify(&sealed, &verifier).is_ok());
    let mut log = bytes.to_vec();
    if embedded::seal_log(&mut log, &verifier).is_ok() {
        assert!(embedded::verify_log(Checksum::Zilog2, &log, &verifier).is_ok());
    }
});
