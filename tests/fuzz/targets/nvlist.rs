//! Lists from bytes; what decodes must encode, and decode to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvpair::NvList;

fuzz_target!(|bytes: &[u8]| {
    for list in [NvList::decode(bytes).ok(), NvList::decode_nested(bytes).ok().map(|(list, _)| list)] {
        let Some(list) = list else { continue };
        let again = list.encode().expect("a decoded list encodes");
        assert_eq!(NvList::decode(&again).expect("an encoded list decodes"), list);
    }
    if let Ok(list) = NvList::decode_native(bytes)
        && let Ok(again) = list.encode_native()
    {
        assert_eq!(NvList::decode_native(&again).expect("an encoded list decodes"), list);
    }
});
