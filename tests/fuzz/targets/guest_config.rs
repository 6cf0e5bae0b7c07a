//! The image's configuration and the kernel's command line, split at the first newline pair.
#![no_main]

use guest_config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let split = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (text, line) = bytes.split_at(split);
    if let Ok(mut config) = Config::parse(text) {
        if config.program.is_empty() {
            return;
        }
        let again =
            Config::parse(config.format().as_bytes()).expect("what was parsed can be written and parsed");
        assert_eq!(again.format(), config.format());
        let _ = config.apply_command_line(line);
    }
});
