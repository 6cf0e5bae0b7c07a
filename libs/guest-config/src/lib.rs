//! What a guest runs: written by the image builder into the pool's root, read by the kernel, changed by the kernel
//! command line.
//!
//! The file ([`PATH`]) is lines of `key value`; the value is the rest of the line after one space. In values `\n`,
//! `\\` and `\xHH` stand for bytes that a line cannot hold. Lines that are empty or start with `#` say nothing; a key
//! this build does not know is kept in [`Config::unknown`], so that an older kernel starts a newer image.
//!
//! | key | times | value |
//! |---|---|---|
//! | `program` | 1 | absolute path of the program |
//! | `arg` | any | one argument; the program's own name is not among them |
//! | `env` | any | `NAME=VALUE` |
//! | `cwd` | 0..1 | working directory |
//! | `hostname` | 0..1 | host name |
//! | `tmpfs` | any | path where a file system in memory is mounted |
//! | `uid`, `gid` | 0..1 | whom the program runs as |
//!
//! The command line is words separated by blanks, `%HH` standing for bytes that a word cannot hold and `%-` for nothing. Words of the form
//! `zeo.KEY=VALUE` set the same keys (the first `zeo.arg` replaces the file's arguments, `zeo.env` adds or replaces
//! one name); `--` ends the options: the next word replaces the program, those after it the arguments. All other
//! words are the kernel's own business.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

/// Where the file lies in the root file system.
pub const PATH: &str = "/.zeolite/config";

/// Larger files are not believed.
pub const SIZE_MAX: usize = 1 << 20;

/// What is wrong with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file is larger than [`SIZE_MAX`].
    #[error("the configuration is too large")]
    TooLarge,
    /// An escape that means nothing, or a NUL byte.
    #[error("line {0}: bad escape or NUL")]
    Escape(usize),
    /// A number was expected.
    #[error("line {0}: not a number")]
    Number(usize),
    /// A path that does not start with `/`.
    #[error("line {0}: not an absolute path")]
    Path(usize),
    /// An environment entry without `=`.
    #[error("line {0}: not NAME=VALUE")]
    Environment(usize),
}

/// What a guest runs. Strings are bytes, as Linux has them, without NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Absolute path; empty when nothing says.
    pub program: Vec<u8>,
    /// Arguments after the program's name.
    pub args: Vec<Vec<u8>>,
    /// `NAME=VALUE`, each name once.
    pub env: Vec<Vec<u8>>,
    /// Working directory; empty means `/`.
    pub cwd: Vec<u8>,
    /// Host name; empty when nothing says.
    pub hostname: Vec<u8>,
    /// Where file systems in memory are mounted.
    pub tmpfs: Vec<Vec<u8>>,
    /// User to run as.
    pub uid: u32,
    /// Group to run as.
    pub gid: u32,
    /// Keys this build does not know.
    pub unknown: Vec<String>,
}

impl Config {
    /// Reads the file's content.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.len() > SIZE_MAX {
            return Err(Error::TooLarge);
        }
        let mut config = Self::default();
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            let nr = index + 1;
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let at = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
            let value = unescape(line.get(at + 1..).unwrap_or(&[]), b'\\').ok_or(Error::Escape(nr))?;
            config.set(&line[..at], value, nr)?;
        }
        Ok(config)
    }

    /// The file's content.
    pub fn format(&self) -> String {
        let mut out = String::from("# What this image runs; the kernel command line can change it.\n");
        let mut line = |key: &str, value: &[u8]| {
            out.push_str(key);
            out.push(' ');
            escape(value, &mut out);
            out.push('\n');
        };
        line("program", &self.program);
        self.args.iter().for_each(|a| line("arg", a));
        self.env.iter().for_each(|e| line("env", e));
        for (key, value) in [("cwd", &self.cwd), ("hostname", &self.hostname)] {
            if !value.is_empty() {
                line(key, value);
            }
        }
        self.tmpfs.iter().for_each(|t| line("tmpfs", t));
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id != 0 {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{key} {id}");
            }
        }
        out
    }

    /// Changes what the kernel command line says. Errors name the word, counted from 1.
    ///
    /// # Errors
    /// The first thing wrong with it; what came before it is applied.
    pub fn apply_command_line(&mut self, line: &[u8]) -> Result<(), Error> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).enumerate();
        let mut has_args = false;
        while let Some((index, word)) = words.next() {
            let nr = index + 1;
            if word == b"--" {
                return self.take_command(words);
            }
            let Some(rest) = word.strip_prefix(b"zeo.") else { continue };
            let at = rest.iter().position(|b| *b == b'=').unwrap_or(rest.len());
            let value = unescape(rest.get(at + 1..).unwrap_or(&[]), b'%').ok_or(Error::Escape(nr))?;
            if &rest[..at] == b"arg" && !has_args {
                self.args.clear();
                has_args = true;
            }
            self.set(&rest[..at], value, nr)?;
        }
        Ok(())
    }

    /// The words after `--`.
    fn take_command<'a>(&mut self, words: impl Iterator<Item = (usize, &'a [u8])>) -> Result<(), Error> {
        for (place, (index, word)) in words.enumerate() {
            let value = unescape(word, b'%').ok_or(Error::Escape(index + 1))?;
            if place == 0 {
                self.args.clear();
                self.program = value;
            } else {
                self.args.push(value);
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>, nr: usize) -> Result<(), Error> {
        let path =
            |value: Vec<u8>| if value.first() == Some(&b'/') { Ok(value) } else { Err(Error::Path(nr)) };
        match key {
            b"program" => self.program = path(value)?,
            b"arg" => self.args.push(value),
            b"env" => self.set_env(value, nr)?,
            b"cwd" => self.cwd = path(value)?,
            b"hostname" => self.hostname = value,
            b"tmpfs" => self.tmpfs.push(path(value)?),
            b"uid" => self.uid = number(&value).ok_or(Error::Number(nr))?,
            b"gid" => self.gid = number(&value).ok_or(Error::Number(nr))?,
            _ => self.unknown.push(String::from_utf8_lossy(key).into_owned()),
        }
        Ok(())
    }

    /// Adds `NAME=VALUE`, in place of an entry of the same name.
    fn set_env(&mut self, entry: Vec<u8>, nr: usize) -> Result<(), Error> {
        let at = entry.iter().position(|b| *b == b'=').filter(|at| *at > 0).ok_or(Error::Environment(nr))?;
        match self.env.iter_mut().find(|e| e.starts_with(&entry[..=at])) {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
        Ok(())
    }
}

/// A word of a command line that reads back as `value`.
pub fn command_line_word(value: &[u8]) -> String {
    let mut out = String::new();
    for byte in value {
        if byte.is_ascii_graphic() && !matches!(byte, b'%' | b'"' | b'\'' | b'\\') {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    match out.as_str() {
        "" => String::from("%-"),
        // The word that ends the options must not be read as such.
        "--" => String::from("%2d-"),
        _ => out,
    }
}

fn number(value: &[u8]) -> Option<u32> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

fn escape(value: &[u8], out: &mut String) {
    for byte in value {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
}

/// Replaces escapes that `mark` starts; `None` for one that means nothing, and for NUL, which no Linux string holds.
fn unescape(text: &[u8], mark: u8) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != mark {
            out.push(byte);
            continue;
        }
        let value = match (mark, rest.next()?) {
            (b'\\', b'n') => b'\n',
            (b'\\', b'\\') => b'\\',
            (b'\\', b'x') => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            // Nothing at all: how an empty word is written.
            (b'%', b'-') => continue,
            (b'%', high) => hex(high)? << 4 | hex(rest.next()?)?,
            _ => return None,
        };
        out.push(value);
    }
    (!out.contains(&0)).then_some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn example() -> Config {
        Config {
            program: b"/usr/bin/fs_mark".to_vec(),
            args: vec![b"-d".to_vec(), b"/a b\\\nc".to_vec(), b"".to_vec()],
            env: vec![b"PATH=/bin".to_vec()],
            cwd: b"/tmp".to_vec(),
            hostname: b"z".to_vec(),
            tmpfs: vec![b"/tmp".to_vec()],
            uid: 1000,
            ..Config::default()
        }
    }

    #[test]
    fn a_file_reads_back() {
        assert_eq!(Config::parse(example().format().as_bytes()), Ok(example()));
    }

    #[test]
    fn mistakes_name_their_line() {
        let parse = |text: &str| Config::parse(text.as_bytes());
        assert_eq!(parse("\nprogram bin"), Err(Error::Path(2)));
        assert_eq!(parse("arg \\q"), Err(Error::Escape(1)));
        assert_eq!(parse("arg \\x00"), Err(Error::Escape(1)));
        assert_eq!(parse("# c\nenv =x"), Err(Error::Environment(2)));
        assert_eq!(parse("uid -1"), Err(Error::Number(1)));
        assert_eq!(parse("future x").map(|c| c.unknown), Ok(vec![String::from("future")]));
        assert_eq!(Config::parse(&vec![b'#'; SIZE_MAX + 1]), Err(Error::TooLarge));
    }

    #[test]
    fn the_command_line_changes_it() {
        let mut config = example();
        let line = b"console=ttyS0 zeo.env=PATH=/sbin zeo.env=A=b%20c zeo.arg=x zeo.arg=y zeo.cwd=/  quiet";
        config.apply_command_line(line).unwrap();
        assert_eq!(config.env, [b"PATH=/sbin".to_vec(), b"A=b c".to_vec()]);
        assert_eq!(config.args, [b"x", b"y"]);
        config.apply_command_line(b"zeo.uid=5 -- /bin/sh -c %2d-").unwrap();
        assert_eq!((config.uid, &config.program[..]), (5, &b"/bin/sh"[..]));
        assert_eq!(config.args, [b"-c".to_vec(), b"--".to_vec()]);
        assert_eq!(config.apply_command_line(b"a zeo.uid=x"), Err(Error::Number(2)));
        assert_eq!(config.apply_command_line(b"zeo.arg=%4"), Err(Error::Escape(1)));
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(text: Vec<u8>) {
            let _ = Config::parse(&text);
            let _ = Config::default().apply_command_line(&text);
        }

        #[test]
        fn words_read_back(words in proptest::collection::vec("[^\0]*", 1..5)) {
            let line: Vec<String> = words.iter().map(|w| command_line_word(w.as_bytes())).collect();
            let mut config = Config::default();
            config.apply_command_line(alloc::format!("quiet -- {}", line.join(" ")).as_bytes()).unwrap();
            prop_assert_eq!(&config.program[..], words[0].as_bytes());
            prop_assert_eq!(config.args.len(), words.len() - 1);
            for (arg, word) in config.args.iter().zip(&words[1..]) {
                prop_assert_eq!(&arg[..], word.as_bytes());
            }
        }
    }
}
