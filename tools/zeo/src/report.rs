//! Progress bars on a terminal, one line for each phase elsewhere, nothing with `--json`.
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mkfs::build::Progress;
use mkfs::size::Size;
use mkfs::tree::import::Totals;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Who is shown what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Mode {
    /// JSON if asked for.
    pub fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Shows how far a build is.
pub struct BuildProgress {
    mode: Mode,
    bar: Option<ProgressBar>,
}

impl BuildProgress {
    /// A bar on a terminal.
    pub fn new(mode: Mode) -> Self {
        let is_live = mode == Mode::Text && std::io::stderr().is_terminal();
        Self { mode, bar: is_live.then(spinner) }
    }

    /// Ends it.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for BuildProgress {
    fn phase(&mut self, text: &str) {
        match (&self.bar, self.mode) {
            (Some(bar), _) => bar.set_message(text.to_owned()),
            (None, Mode::Text) => eprintln!("zeo: {text}"),
            (None, Mode::Json) => {}
        }
    }

    fn copied(&mut self, from: &str, totals: Totals) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{from}: {} files, {}", totals.files, Size(totals.bytes)));
        }
    }
}

/// A bar for a walk of known length. It is drawn when the length is known: a bar of nothing would look full.
pub struct WalkProgress(Option<ProgressBar>);

impl WalkProgress {
    /// A bar on a terminal.
    pub fn new(mode: Mode, what: &str) -> Self {
        if mode == Mode::Json || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = "{msg} [{bar:40}] {bytes}/{total_bytes} {eta}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        Self(Some(bar))
    }

    /// So far.
    pub fn set(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
            if total > 0 && bar.is_hidden() {
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.tick();
            }
        }
    }
}

impl Drop for WalkProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Prints a value as JSON on standard output.
///
/// # Errors
/// The output's.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}
