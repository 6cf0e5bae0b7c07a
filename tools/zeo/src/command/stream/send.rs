//! `zeo send`.
use super::{BUFFER, Target};
use crate::cli::stream::Send;
use crate::failure::{self, Failure};
use crate::report::{Mode, WalkProgress, print_json};
use anyhow::{Context, Result, bail};
use mkfs::image::{Access, Image};
use mkfs::size::Size;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use zfs::Error;
use zfs::send::{BlockOptions, ResumeToken, SendPart, SendSpec};

/// Runs it; the exit status.
///
/// # Errors
/// What cannot be sent, and why.
pub fn run(args: &Send, mode: Mode) -> Result<u8> {
    let image = Image::open(&args.image, Access::Read)?;
    let done = act(&image, args, mode);
    let closed = image.close();
    done?;
    closed.map(|()| 0)
}

fn act(image: &Image, args: &Send, mode: Mode) -> Result<()> {
    let spec = spec(image, args)?;
    let is_live = std::io::stderr().is_terminal() && mode == Mode::Text;
    let parts = match args.dryrun || args.verbose || args.parsable || is_live {
        true => image.spa().send_size(&spec).map_err(|e| explain(e, &spec))?,
        false => Vec::new(),
    };
    if args.dryrun || args.verbose || args.parsable {
        tell(&parts, args, mode)?;
    }
    if args.dryrun {
        return Ok(());
    }
    let total = parts.iter().map(|p| p.bytes).sum::<u64>();
    let bar = WalkProgress::new(mode, "send");
    let bytes = match &args.output {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("{}", path.display()))?;
            write(image, &spec, file, |n| bar.set(n, total.max(n)))?
        }
        None => {
            let out = std::io::stdout();
            if out.is_terminal() {
                bail!(Failure::new(
                    2,
                    "a stream is not for a terminal",
                    "redirect the output, or name a file with -o"
                ));
            }
            write(image, &spec, out.lock(), |n| bar.set(n, total.max(n)))?
        }
    };
    drop(bar);
    if mode == Mode::Json {
        // The stream may be on standard output.
        eprintln!("{}", serde_json::json!({ "bytes": bytes }));
    }
    Ok(())
}

fn write(image: &Image, spec: &SendSpec, out: impl Write, mut shown: impl FnMut(u64)) -> Result<u64> {
    let mut target = Target::new(BufWriter::with_capacity(BUFFER, out));
    let mut written = 0;
    let sent = image.spa().send(spec, &mut |bytes| {
        written += bytes.len() as u64;
        shown(written);
        target.put(bytes)
    });
    let finished = target.finish();
    match sent {
        Err(Error::Fault) => finished.context("write the stream")?,
        Err(e) => return Err(explain(e, spec)),
        Ok(_) => finished.context("write the stream")?,
    }
    Ok(written)
}

fn spec(image: &Image, args: &Send) -> Result<SendSpec> {
    let blocks = BlockOptions {
        large: args.large_block || args.raw,
        compressed: args.compressed || args.raw,
        embedded: args.embed || args.raw,
    };
    if let Some(text) = &args.token {
        return resumed(image, text);
    }
    let to = image.dataset_name(args.snapshot.as_deref())?;
    let Some((dataset, _)) = to.split_once('@') else {
        bail!(Failure::new(2, format!("{to} is no snapshot"), "name one as fs@snap"));
    };
    let from = match args.from.as_deref().or(args.all_from.as_deref()) {
        None => None,
        Some(from) if from.starts_with(['@', '#']) => Some(format!("{dataset}{from}")),
        Some(from) if !from.contains(['@', '#']) => Some(format!("{dataset}@{from}")),
        Some(from) => Some(image.dataset_name(Some(from))?),
    };
    Ok(SendSpec {
        to,
        from,
        intermediate: args.all_from.is_some(),
        replicate: args.replicate,
        skip_missing: args.skip_missing,
        properties: args.props,
        holds: args.holds,
        blocks,
        resume: None,
    })
}

/// What a receiver's token asks for. Snapshots are found by their guids: names may have changed.
fn resumed(image: &Image, text: &str) -> Result<SendSpec> {
    let token = ResumeToken::parse(text)
        .map_err(|_| Failure::new(2, "this is no resume token", "copy all of what the receiver printed"))?;
    if token.is_raw {
        bail!(Failure::new(
            failure::DATA,
            "the token asks for a raw stream",
            "streams of encrypted datasets are not sent"
        ));
    }
    let all = image.spa().datasets()?;
    let find = |guid: u64| all.iter().find(|d| d.is_snapshot && d.guid == guid).map(|d| d.name.clone());
    let missing = |what: &str| {
        Failure::new(failure::DATA, format!("the pool has no longer {what}"), "only a new stream can be sent")
    };
    let to = find(token.to_guid).ok_or_else(|| missing(&token.to_name))?;
    let from = match token.from_guid {
        None => None,
        Some(guid) => Some(find(guid).ok_or_else(|| missing("the snapshot that the stream is based on"))?),
    };
    Ok(SendSpec { to, from, blocks: token.blocks, resume: Some(token.point), ..SendSpec::default() })
}

/// As `zfs send -nv`, or `-nP`.
fn tell(parts: &[SendPart], args: &Send, mode: Mode) -> Result<()> {
    let total: u64 = parts.iter().map(|p| p.bytes).sum();
    if mode == Mode::Json && args.dryrun {
        let list: Vec<_> = parts
            .iter()
            .map(|p| serde_json::json!({ "from": p.from, "to": p.to, "bytes": p.bytes }))
            .collect();
        return print_json(&serde_json::json!({ "streams": list, "bytes": total }));
    }
    let mut text = String::new();
    for part in parts {
        text += &match (&part.from, args.parsable) {
            (None, true) => format!("full\t{}\t{}\n", part.to, part.bytes),
            (Some(from), true) => format!("incremental\t{from}\t{}\t{}\n", part.to, part.bytes),
            (None, false) => format!("full send of {} estimated size is {}\n", part.to, Size(part.bytes)),
            (Some(from), false) => {
                format!("send from {from} to {} estimated size is {}\n", part.to, Size(part.bytes))
            }
        };
    }
    text += &match args.parsable {
        true => format!("size\t{total}\n"),
        false => format!("total estimated size is {}\n", Size(total)),
    };
    // With the stream on standard output, words go elsewhere.
    if args.dryrun {
        crate::output::text(&text);
    } else {
        eprint!("{text}");
    }
    Ok(())
}

fn explain(error: Error, spec: &SendSpec) -> anyhow::Error {
    let from = spec.from.as_deref().unwrap_or_default();
    let (message, hint) = match error {
        Error::NotFound => (
            format!(
                "there is no snapshot {}{}",
                spec.to,
                if from.is_empty() { String::new() } else { format!(" or no {from}") }
            ),
            "zeo list -t snapshot IMAGE lists them; with -R, -s leaves out datasets without it",
        ),
        Error::NoBase => (format!("{from} is no earlier snapshot of {}", spec.to), "send without -i"),
        Error::Encrypted => (format!("{} is encrypted", spec.to), "encrypted datasets cannot be sent"),
        Error::Unsupported => (format!("{} was received redacted", spec.to), "it cannot be sent on"),
        other => return anyhow::Error::new(other).context(format!("send {}", spec.to)),
    };
    Failure::new(failure::DATA, message, hint).into()
}
