//! `zeo stream`: what a stream or a token holds.
use super::{BUFFER, Source};
use crate::cli::stream::StreamCommand;
use crate::failure::{self, Failure};
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Context, Result, bail};
use ondisk::stream::{Begin, HeaderKind, RECORD_SIZE, Record};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use zfs::send::{ResumeToken, StreamReader};

/// Runs it; the exit status.
///
/// # Errors
/// What is wrong with the stream or the token.
pub fn run(command: StreamCommand, mode: Mode) -> Result<u8> {
    match command {
        StreamCommand::Info { file, verbose } => info(&file, verbose, mode)?,
        StreamCommand::Token { token } => show_token(&token, mode)?,
    }
    Ok(0)
}

/// Sums over records of one kind.
#[derive(Default, serde::Serialize)]
struct Sum {
    records: u64,
    bytes: u64,
}

fn info(path: &Path, verbose: bool, mode: Mode) -> Result<()> {
    let input: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(
            File::open(path)
                .map_err(|e| Failure::new(failure::NO_INPUT, format!("{}: {e}", path.display()), ""))?,
        ),
    };
    let mut source = Source::new(BufReader::with_capacity(BUFFER, input));
    let mut feed = |buf: &mut [u8]| source.fill(buf);
    let mut reader = StreamReader::new(&mut feed);
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut begins = Vec::new();
    let mut last_end_is_open = true;
    loop {
        let at = reader.bytes();
        let Some((record, payload)) = reader.read_record().with_context(|| format!("at byte {at}"))? else {
            break;
        };
        let sum = sums.entry(record.name()).or_default();
        sum.records += 1;
        sum.bytes += (RECORD_SIZE + payload.len()) as u64;
        if verbose && mode == Mode::Text {
            say!("{at:>12} {record:?}");
        }
        last_end_is_open = !matches!(record, Record::End(_));
        match record {
            Record::Begin(begin) => begins.push(begin),
            Record::End(end) if end.digest != ondisk::Digest::default() => {
                reader.check_end(&end).with_context(|| format!("at byte {at}"))?;
            }
            _ => {}
        }
    }
    if last_end_is_open {
        bail!(Failure::new(failure::DATA, "the stream is cut short", ""));
    }
    tell(&begins, &sums, reader.bytes(), mode)
}

fn tell(begins: &[Begin], sums: &BTreeMap<&str, Sum>, bytes: u64, mode: Mode) -> Result<()> {
    if mode == Mode::Json {
        let streams: Vec<_> = begins
            .iter()
            .map(|b| {
                serde_json::json!({
                    "name": b.to_name.as_str(), "compound": b.header == HeaderKind::Compound,
                    "to_guid": b.to_guid, "from_guid": b.from_guid, "features": b.features.bits(),
                    "flags": b.flags.bits(), "creation_time": b.creation_time,
                })
            })
            .collect();
        return print_json(&serde_json::json!({ "streams": streams, "records": sums, "bytes": bytes }));
    }
    for begin in begins {
        let kind = match (begin.header, begin.from_guid) {
            (HeaderKind::Compound, _) => "compound stream up to",
            (_, 0) => "full stream of",
            _ => "incremental stream of",
        };
        say!("{kind} {}", begin.to_name.as_str());
        if begin.header == HeaderKind::Substream {
            say!("    guid {:x}, from {:x}, features {:?}", begin.to_guid, begin.from_guid, begin.features);
        }
    }
    for (name, sum) in sums {
        say!("{name:>16} {:>9} records {:>14} bytes", sum.records, sum.bytes);
    }
    say!("{:>16} {bytes} bytes, all checksums right", "total");
    Ok(())
}

fn show_token(text: &str, mode: Mode) -> Result<()> {
    let token = ResumeToken::parse(text)
        .map_err(|_| Failure::new(2, "this is no resume token", "copy all of what the receiver printed"))?;
    if mode == Mode::Json {
        return print_json(&serde_json::json!({
            "object": token.point.object, "offset": token.point.offset, "bytes": token.bytes,
            "toguid": token.to_guid, "fromguid": token.from_guid, "toname": token.to_name,
            "largeblockok": token.blocks.large, "embedok": token.blocks.embedded,
            "compressok": token.blocks.compressed, "rawok": token.is_raw,
        }));
    }
    say!("resume token contents:");
    say!(
        "\tobject = {:#x}\n\toffset = {:#x}\n\tbytes = {:#x}",
        token.point.object,
        token.point.offset,
        token.bytes
    );
    say!("\ttoguid = {:#x}\n\ttoname = {}", token.to_guid, token.to_name);
    if let Some(guid) = token.from_guid {
        say!("\tfromguid = {guid:#x}");
    }
    let flags = [
        (token.blocks.large, "largeblockok"),
        (token.blocks.embedded, "embedok"),
        (token.blocks.compressed, "compressok"),
        (token.is_raw, "rawok"),
    ];
    flags.iter().filter(|(is_set, _)| *is_set).for_each(|(_, name)| say!("\t{name} = 1"));
    Ok(())
}
