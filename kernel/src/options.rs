//! The kernel's own words on the command line. Words it does not know belong to others.
use alloc::string::String;
use log::LevelFilter;

/// What the command line asks of the kernel.
#[derive(Clone, Debug)]
pub struct Options {
    /// `loglevel=`: least important records shown.
    pub log_level: LevelFilter,
    /// `selftest=`: run a check instead of the program.
    pub self_test: Option<String>,
    /// `strace` or `strace=1`: print system calls.
    pub is_traced: bool,
}

impl Options {
    /// Reads the words before `--`.
    pub fn parse(line: &str) -> Self {
        let mut options = Self { log_level: LevelFilter::Warn, self_test: None, is_traced: false };
        for word in line.split_ascii_whitespace().take_while(|&word| word != "--") {
            if word == "strace" || word == "strace=1" {
                options.is_traced = true;
            }
            match word.split_once('=') {
                Some(("loglevel", level)) => {
                    options.log_level = level.parse().unwrap_or(options.log_level);
                }
                Some(("selftest", name)) => options.self_test = Some(String::from(name)),
                _ => {}
            }
        }
        options
    }
}
