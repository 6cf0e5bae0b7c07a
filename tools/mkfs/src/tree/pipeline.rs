//! Sources and importer side by side: a thread reads while the caller writes, with a bounded number of pieces between
//! them.
use super::import::{Importer, Totals};
use super::item::{Event, Source};
use anyhow::{Context, Result, anyhow};
use std::sync::mpsc::sync_channel;

/// Pieces on their way; at most this many times [`super::item::CHUNK`] bytes are in memory.
const PIECES_MAX: usize = 64;

enum Message {
    /// The next source begins.
    Begin(String),
    Event(Event),
    /// All is read, or reading failed.
    End(Result<()>),
}

/// Writes all sources in order; `progress` is told what is being read and what was written so far.
///
/// # Errors
/// The first of any source or of the importer. The file systems then hold a part.
pub fn run(
    sources: Vec<Box<dyn Source>>,
    mut importer: Importer,
    progress: &mut dyn FnMut(&str, Totals),
) -> Result<Totals> {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    let reader = std::thread::Builder::new().name("read-sources".into()).spawn(move || {
        let gone = || anyhow!("the writer has stopped");
        let all = || -> Result<()> {
            for mut source in sources {
                let name = source.describe();
                sender.send(Message::Begin(name.clone())).map_err(|_| gone())?;
                let mut emit = |event| sender.send(Message::Event(event)).map_err(|_| gone());
                source.produce(&mut emit).with_context(|| name)?;
            }
            Ok(())
        };
        let result = all();
        // Nobody is left to be told when the writer has failed.
        let _ = sender.send(Message::End(result));
    })?;
    let mut name = String::new();
    let result = loop {
        match receiver.recv() {
            Ok(Message::Begin(next)) => name = next,
            Ok(Message::Event(event)) => {
                if let Err(e) = importer.put(event).with_context(|| name.clone()) {
                    break Err(e);
                }
                progress(&name, importer.totals());
            }
            Ok(Message::End(result)) => break result,
            Err(_) => break Err(anyhow!("reading the sources stopped short")),
        }
    };
    drop(receiver);
    if reader.join().is_err() {
        return Err(anyhow!("reading the sources failed"));
    }
    result?;
    importer.finish()
}
