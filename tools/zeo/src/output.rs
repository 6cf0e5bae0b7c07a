//! Standard output that never panics: what could not be written is remembered, and the program's end tells of it.
//!
//! A command that changes a pool is carried through and the pool closed although nobody reads what it prints; then a
//! reader that went away (`zeo ... | head`) ends the program quietly, and a full disk is an error like any other.
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;

/// Status of a program whose reader went away: what a shell shows of one that SIGPIPE ended.
pub const NO_READER: u8 = 128 + 13;

static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes a line to standard output, as `println!` does.
#[macro_export]
macro_rules! say {
    () => { $crate::output::text("\n") };
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// Writes a line.
pub fn line(text: Arguments<'_>) {
    note(writeln!(io::stdout().lock(), "{text}"));
}

/// Writes text that has its own line ends.
pub fn text(text: &str) {
    note(io::stdout().lock().write_all(text.as_bytes()));
}

fn note(written: io::Result<()>) {
    if let (Err(e), Ok(mut failure)) = (written, FAILURE.lock()) {
        failure.get_or_insert(e);
    }
}

/// Writes what is buffered; the first thing that went wrong since the program began.
///
/// # Errors
/// The output's.
pub fn finish() -> io::Result<()> {
    note(io::stdout().lock().flush());
    FAILURE.lock().map_or(Ok(()), |mut failure| failure.take().map_or(Ok(()), Err))
}

/// An error that only says that nobody reads the output any more.
pub fn is_no_reader(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(ErrorKind::BrokenPipe)
    })
}
