//! The streams that OpenZFS sent of the pool `sends`, and streams taken apart.
use anyhow::{Context, Result, ensure};
use ondisk::stream::{HeaderKind, RECORD_SIZE, Record};
use std::process::Command;

/// A stream of that name.
///
/// # Errors
/// When there is none, or `zstd` is missing.
pub fn golden(name: &str) -> Result<Vec<u8>> {
    let path = crate::data_dir("sends").join("streams").join(format!("{name}.zfs.zst"));
    let output =
        Command::new("zstd").arg("-dqc").arg(&path).output().context("the program zstd is needed")?;
    ensure!(output.status.success(), "zstd could not unpack {}", path.display());
    Ok(output.stdout)
}

/// The records of a stream, with the positions of their first bytes. Ends where something does not parse.
#[must_use]
pub fn records(stream: &[u8]) -> Vec<(usize, Record)> {
    let mut all = Vec::new();
    let mut at = 0;
    let mut order = ondisk::stream::ByteOrder::Little;
    while let Some(bytes) = stream.get(at..).and_then(|rest| rest.first_chunk::<RECORD_SIZE>()) {
        if bytes[..4] == [0; 4] {
            order = Record::byte_order(bytes).unwrap_or(order);
        }
        let Ok(record) = Record::parse(bytes, order) else { break };
        all.push((at, record));
        at += RECORD_SIZE + record.payload_len();
    }
    all
}

/// Bytes of a compound stream that belong to single snapshots.
#[must_use]
pub fn substream_bytes(stream: &[u8]) -> u64 {
    let records = records(stream);
    let mut sum = 0;
    let mut is_inside = false;
    for (_, record) in records {
        if let Record::Begin(begin) = record {
            is_inside = begin.header == HeaderKind::Substream;
        }
        if is_inside {
            sum += RECORD_SIZE + record.payload_len();
        }
        if let Record::End(_) = record {
            is_inside = false;
        }
    }
    sum as u64
}
