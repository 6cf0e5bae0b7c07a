//! The terminal: a line discipline between the serial console and whoever reads and writes `/dev/console`.
//!
//! Cooked mode edits lines (erase, kill, end-of-file) and turns keys into signals for the foreground process group;
//! raw mode hands bytes through. Output is passed on as it is: the other end of a serial line does what a terminal's
//! output processing would do.
//!
//! What programs write is never lost: they wait while nobody reads at the other end of the line. Echoed keys may be,
//! so that an interrupt key gets through to a program that waits like that.
use crate::errno::{Errno, SysResult};
use crate::signal::{self, SigInfo};
use crate::task::{self, Task};
use crate::user;
use crate::wait::WaitList;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use core::time::Duration;
use linux_raw_sys::ioctl;
use rt::time::Instant;
use rt::{Mutex, SpinLock};
use vfs::{CharDevice, PollQueue, ReadSink, Readiness, WriteSource};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The kernel's `struct termios`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Termios {
    iflag: u32,
    oflag: u32,
    cflag: u32,
    lflag: u32,
    line: u8,
    cc: [u8; 19],
}

const ICRNL: u32 = 0o400;
const ISIG: u32 = 1;
const ICANON: u32 = 2;
const ECHO: u32 = 0o10;
const ECHOE: u32 = 0o20;
const VINTR: usize = 0;
const VQUIT: usize = 1;
const VERASE: usize = 2;
const VKILL: usize = 3;
const VEOF: usize = 4;
const VMIN: usize = 6;
const VSUSP: usize = 10;

/// Bytes of typed-ahead input kept.
const INPUT_MAX: usize = 4096;
/// How long a line that takes nothing is left alone.
const STANDSTILL: Duration = Duration::from_millis(1);

impl Termios {
    const fn new() -> Self {
        let mut cc = [0; 19];
        (cc[VINTR], cc[VQUIT], cc[VERASE], cc[VKILL], cc[VEOF], cc[VMIN], cc[VSUSP]) =
            (3, 28, 127, 21, 4, 1, 26);
        Self {
            iflag: ICRNL,
            oflag: 0o5,
            cflag: 0o2275,
            lflag: ISIG | ICANON | ECHO | ECHOE | 0o100000,
            line: 0,
            cc,
        }
    }
}

struct Input {
    termios: Termios,
    /// Lines (or bytes) to read.
    ready: VecDeque<u8>,
    /// Ends of lines in `ready` that are an end-of-file, by distance from its start.
    ends: VecDeque<usize>,
    /// The line being edited.
    line: Vec<u8>,
}

/// The way out of the machine.
#[derive(Clone, Copy, Debug)]
pub struct LineOut {
    /// Sends what the line takes; what it does not take at once may be lost. For any context.
    pub send: fn(&[u8]),
    /// Sends what the line takes now: how many bytes that was.
    pub send_some: fn(&[u8]) -> usize,
}

impl LineOut {
    /// The serial port.
    pub const SERIAL: Self = Self { send: hal::serial::write, send_some: hal::serial::write_some };

    /// Sends all, however long that takes, unless `is_over` says so meanwhile: how many bytes were sent. For threads.
    pub fn send_all(self, bytes: &[u8], is_over: impl Fn() -> bool) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match (self.send_some)(&bytes[sent..]) {
                0 if is_over() => break,
                0 => rt::thread::sleep(STANDSTILL),
                n => sent += n,
            }
        }
        sent
    }
}

/// The terminal.
pub struct Console {
    input: SpinLock<Input>,
    /// Lengths of `ready` plus `ends`, for looks without the lock.
    nr_ready: AtomicUsize,
    output: Mutex<()>,
    line_out: LineOut,
    foreground: AtomicI32,
    readers: WaitList,
    watchers: PollQueue,
}

impl Console {
    /// A terminal at one end of a line.
    pub fn new(line_out: LineOut) -> Self {
        let input = Input {
            termios: Termios::new(),
            ready: VecDeque::new(),
            ends: VecDeque::new(),
            line: Vec::new(),
        };
        Self {
            input: SpinLock::new(input),
            nr_ready: AtomicUsize::new(0),
            output: Mutex::new(()),
            line_out,
            foreground: AtomicI32::new(1),
            readers: WaitList::new(),
            watchers: PollQueue::new(),
        }
    }

    /// A byte typed.
    pub fn input(&self, byte: u8) {
        let mut echo = Vec::new();
        let mut input = self.input.lock();
        let termios = input.termios;
        let byte = if byte == b'\r' && termios.iflag & ICRNL != 0 { b'\n' } else { byte };
        let signo = if termios.lflag & ISIG == 0 { None } else { signal_of(&termios, byte) };
        if signo.is_some() {
            input.line.clear();
            echo.extend_from_slice(&[b'^', byte ^ 0x40, b'\n']);
        } else if termios.lflag & ICANON == 0 {
            if input.ready.len() < INPUT_MAX {
                input.ready.push_back(byte);
            }
            echo.push(byte);
        } else {
            input.edit(byte, &mut echo);
        }
        self.nr_ready.store(input.ready.len() + input.ends.len(), Ordering::SeqCst);
        drop(input);
        if termios.lflag & ECHO != 0 && !echo.is_empty() {
            (self.line_out.send)(&echo);
        }
        if let Some(signo) = signo {
            signal::send::to_group(self.foreground.load(Ordering::Relaxed), SigInfo::kernel(signo));
        }
        if self.nr_ready.load(Ordering::SeqCst) > 0 {
            self.readers.wake_all();
            self.watchers.notify(Readiness::IN);
        }
    }

    fn take(&self, max: usize) -> Option<Vec<u8>> {
        let mut input = self.input.lock();
        let is_cooked = input.termios.lflag & ICANON != 0;
        let bytes = input.take(max, is_cooked);
        self.nr_ready.store(input.ready.len() + input.ends.len(), Ordering::SeqCst);
        bytes
    }

    /// The terminal's ioctls.
    ///
    /// # Errors
    /// [`Errno::ENOTTY`] for others, [`Errno::EFAULT`].
    pub fn ioctl(&self, task: &Task, request: u32, arg: u64) -> SysResult {
        match request {
            ioctl::TCGETS => user::write(arg, &self.input.lock().termios.clone())?,
            ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => {
                let termios: Termios = user::read(arg)?;
                self.input.lock().termios = termios;
            }
            ioctl::TIOCGWINSZ => user::write(arg, &[24_u16, 80, 0, 0])?,
            ioctl::TIOCSWINSZ | ioctl::TIOCSCTTY | ioctl::TCFLSH | ioctl::TCSBRK => {}
            ioctl::TIOCGPGRP => user::write(arg, &self.foreground.load(Ordering::Relaxed))?,
            ioctl::TIOCSPGRP => self.foreground.store(user::read(arg)?, Ordering::Relaxed),
            ioctl::TIOCGSID => user::write(arg, &task.process.sid.load(Ordering::Relaxed))?,
            ioctl::FIONREAD => user::write(arg, &(self.nr_ready.load(Ordering::SeqCst) as i32))?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
}

fn signal_of(termios: &Termios, byte: u8) -> Option<u32> {
    if byte == 0 {
        return None;
    }
    let keys = [(VINTR, signal::SIGINT), (VQUIT, signal::SIGQUIT), (VSUSP, signal::SIGTSTP)];
    keys.into_iter().find(|(at, _)| termios.cc[*at] == byte).map(|(_, signo)| signo)
}

impl Input {
    fn edit(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let cc = self.termios.cc;
        if byte == cc[VERASE] || byte == 8 {
            if self.line.pop().is_some() {
                echo.extend_from_slice(b"\x08 \x08");
            }
        } else if byte == cc[VKILL] {
            while self.line.pop().is_some() {
                echo.extend_from_slice(b"\x08 \x08");
            }
        } else if byte == cc[VEOF] {
            self.ready.extend(self.line.drain(..));
            self.ends.push_back(self.ready.len());
        } else {
            if self.ready.len() + self.line.len() < INPUT_MAX {
                self.line.push(byte);
                echo.push(byte);
            }
            if byte == b'\n' {
                self.ready.extend(self.line.drain(..));
            }
        }
    }

    fn take(&mut self, max: usize, is_cooked: bool) -> Option<Vec<u8>> {
        let end = self.ends.front().copied();
        let available = end.unwrap_or(self.ready.len());
        if available == 0 {
            return end.map(|_| {
                self.ends.pop_front();
                Vec::new()
            });
        }
        let mut n = available.min(max);
        if is_cooked && let Some(at) = self.ready.iter().take(n).position(|b| *b == b'\n') {
            n = at + 1;
        }
        let bytes: Vec<u8> = self.ready.drain(..n).collect();
        self.ends.iter_mut().for_each(|e| *e -= n);
        // An end-of-file after unfinished text only ends the read.
        if self.ends.front() == Some(&0) && bytes.last() != Some(&b'\n') {
            self.ends.pop_front();
        }
        Some(bytes)
    }
}

impl CharDevice for Console {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _offset: u64, sink: &mut dyn ReadSink, is_nonblocking: bool) -> vfs::Result<usize> {
        let max = sink.remaining().min(INPUT_MAX);
        if max == 0 {
            return Ok(0);
        }
        let bytes = match self.take(max) {
            Some(bytes) => bytes,
            None if is_nonblocking => return Err(vfs::Error::WouldBlock),
            None => {
                let task = task::current().ok_or(vfs::Error::Io)?;
                task.wait(&self.readers, Instant::NEVER, "terminal", || self.take(max))
                    .map_err(|_| vfs::Error::Interrupted)?
            }
        };
        sink.put(&bytes)?;
        Ok(bytes.len())
    }

    fn write(&self, _offset: u64, source: &mut dyn WriteSource, _is_nonblocking: bool) -> vfs::Result<usize> {
        let mut chunk = [0; 512];
        let mut done = 0;
        let has_signal = || task::current().is_some_and(|task| task.has_signal());
        let _turn = self.output.lock();
        while source.remaining() > 0 {
            let n = source.remaining().min(chunk.len());
            source.take(&mut chunk[..n])?;
            let sent = self.line_out.send_all(&chunk[..n], has_signal);
            done += sent;
            if sent < n {
                return if done == 0 { Err(vfs::Error::Interrupted) } else { Ok(done) };
            }
        }
        Ok(done)
    }

    fn readiness(&self) -> Readiness {
        let mut ready = Readiness::OUT;
        ready.set(Readiness::IN, self.nr_ready.load(Ordering::SeqCst) > 0);
        ready
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.watchers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: LineOut = LineOut { send: |_| (), send_some: <[u8]>::len };

    #[test]
    fn nothing_is_lost_on_a_line_that_stands_still() {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        // Takes seven bytes each third time it is asked.
        let slow = LineOut {
            send: |_| (),
            send_some: |bytes| {
                if TURN.fetch_add(1, Ordering::Relaxed) % 3 == 2 { bytes.len().min(7) } else { 0 }
            },
        };
        assert_eq!(slow.send_all(&[b'x'; 100], || false), 100);
        assert_eq!(TURN.load(Ordering::Relaxed), 45);
        assert_eq!(slow.send_all(&[b'x'; 100], || true), 0);
    }

    fn typed(console: &Console, text: &[u8]) {
        text.iter().for_each(|b| console.input(*b));
    }

    #[test]
    fn lines_are_edited_and_handed_out_whole() {
        let console = Console::new(SILENT);
        typed(&console, b"abx\x7fc");
        assert_eq!(console.take(100), None);
        typed(&console, b"\rnext\n");
        assert_eq!(console.take(2), Some(b"ab".to_vec()));
        assert_eq!(console.take(100), Some(b"c\n".to_vec()));
        assert_eq!(console.take(100), Some(b"next\n".to_vec()));
        assert_eq!(console.take(100), None);
    }

    #[test]
    fn end_of_file_ends_one_read() {
        let console = Console::new(SILENT);
        typed(&console, b"ab\x04");
        assert_eq!(console.take(100), Some(b"ab".to_vec()));
        assert_eq!(console.take(100), None);
        typed(&console, b"\x04cd\n");
        assert_eq!(console.take(100), Some(Vec::new()));
        assert_eq!(console.take(100), Some(b"cd\n".to_vec()));
    }
}
