//! Foreign blocks of every class: the first byte picks the class.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondisk::{ByteswapClass, DmuType, byteswap};

fuzz_target!(|bytes: &[u8]| {
    let Some((class, block)) = bytes.split_first() else { return };
    let mut block = block.to_vec();
    match ByteswapClass::from_id(*class) {
        Some(class) => byteswap::swap_class(class, &mut block),
        None => byteswap::swap_block(DmuType(*class), &mut block),
    }
});
