//! `zeo receive`.
use super::{BUFFER, Source};
use crate::cli::stream::Receive;
use crate::failure::{self, Failure};
use crate::report::{Mode, WalkProgress, print_json};
use crate::say;
use anyhow::{Context, Result, anyhow, bail};
use mkfs::image::{Access, Image};
use mkfs::size::Size;
use std::fs::File;
use std::io::{BufReader, IsTerminal, Read};
use std::time::Instant;
use zfs::Error;
use zfs::dsl::Property;
use zfs::send::{Naming, ReceiveOptions, Received};

/// Runs it; the exit status.
///
/// # Errors
/// What cannot be received, and why.
pub fn run(args: &Receive, mode: Mode) -> Result<u8> {
    let image = Image::open(&args.image, Access::Write)?;
    let done = act(&image, args, mode);
    let closed = image.close();
    done?;
    closed.map(|()| 0)
}

fn act(image: &Image, args: &Receive, mode: Mode) -> Result<()> {
    let target = image.dataset_name(Some(&args.target))?;
    if args.abort {
        return match image.spa().abort_receive(&target) {
            Err(Error::NotFound) => {
                bail!(Failure::new(failure::DATA, format!("{target} has no interrupted receive"), ""))
            }
            other => other.with_context(|| format!("give up the receive into {target}")),
        };
    }
    let options = options(image, args)?;
    match &args.file {
        Some(path) => {
            let file = File::open(path)
                .map_err(|e| Failure::new(failure::NO_INPUT, format!("{}: {e}", path.display()), ""))?;
            let len = file.metadata().map(|m| m.len()).unwrap_or(0);
            take(image, &target, &options, file, len, args, mode)
        }
        None => {
            let input = std::io::stdin();
            if input.is_terminal() {
                bail!(Failure::new(
                    2,
                    "a stream does not come from a terminal",
                    "redirect the input, or name a file with -f"
                ));
            }
            take(image, &target, &options, input.lock(), 0, args, mode)
        }
    }
}

fn take(
    image: &Image,
    target: &str,
    options: &ReceiveOptions,
    input: impl Read,
    len: u64,
    args: &Receive,
    mode: Mode,
) -> Result<()> {
    let start = Instant::now();
    let bar = WalkProgress::new(mode, "receive");
    let mut source = Source::new(BufReader::with_capacity(BUFFER, input));
    let mut read = 0;
    let received = image.spa().receive(target, options, &mut |buf| {
        let n = source.fill(buf)?;
        read += n as u64;
        bar.set(read, len.max(read));
        Ok(n)
    });
    drop(bar);
    let input_error = source.error();
    let received = match (received, input_error) {
        (Ok(received), _) => received,
        (Err(_), Some(e)) => return Err(e).context("read the stream"),
        (Err(e), None) => return Err(explain(image, e, target, options)),
    };
    tell(&received, start, args, mode)
}

fn options(image: &Image, args: &Receive) -> Result<ReceiveOptions> {
    let mut options = ReceiveOptions {
        force: args.force,
        resumable: args.resumable,
        naming: match (args.without_pool, args.last_part) {
            (true, _) => Naming::WithoutPool,
            (_, true) => Naming::LastPart,
            _ => Naming::Exact,
        },
        dry_run: args.dryrun,
        ..ReceiveOptions::default()
    };
    for pair in &args.set {
        let (name, value) = pair.split_once('=').ok_or_else(|| anyhow!("-o {pair}: not NAME=VALUE"))?;
        if name == "origin" {
            options.origin = Some(image.dataset_name(Some(value))?);
        } else {
            options.set.push(mkfs::pool::parse_property(name, value).map_err(|e| anyhow!(e))?);
        }
    }
    for name in &args.exclude {
        let property = Property::parse(name).map_err(|_| anyhow!("there is no property '{name}'"))?;
        options.exclude.push(property);
    }
    Ok(options)
}

fn tell(received: &[Received], start: Instant, args: &Receive, mode: Mode) -> Result<()> {
    if mode == Mode::Json {
        let list: Vec<_> = received
            .iter()
            .map(|r| {
                serde_json::json!({
                    "name": r.name, "from": r.from, "incremental": r.is_incremental,
                    "skipped": r.is_skipped, "bytes": r.bytes,
                })
            })
            .collect();
        return print_json(&list);
    }
    if !args.verbose && !args.dryrun {
        return Ok(());
    }
    for one in received {
        let kind = if one.is_incremental { "incremental" } else { "full" };
        let verb = match (one.is_skipped, args.dryrun) {
            (true, _) => "skipped",
            (_, true) => "would receive",
            _ => "received",
        };
        say!("{verb} {kind} stream of {} into {}", one.from, one.name);
    }
    let bytes: u64 = received.iter().map(|r| r.bytes).sum();
    let seconds = start.elapsed().as_secs_f64();
    let rate = bytes as f64 / seconds.max(0.001);
    say!("received {} stream in {seconds:.2} seconds ({}/sec)", Size(bytes), Size(rate as u64));
    Ok(())
}

fn explain(image: &Image, error: Error, target: &str, options: &ReceiveOptions) -> anyhow::Error {
    let dataset = target.split('@').next().unwrap_or(target);
    let (message, mut hint) = match error {
        Error::StreamCut => ("the stream is cut short".to_owned(), String::from("send it again")),
        Error::StreamDamaged => ("the stream is damaged".to_owned(), String::from("send it again")),
        Error::Exists => (
            format!("{target} is there already"),
            String::from("receive a full stream under a name that is free, or an incremental one"),
        ),
        Error::NoBase => (
            format!("{dataset} has no snapshot that the stream could build on"),
            String::from("send a full stream, or one from a snapshot that both have"),
        ),
        Error::Modified => (
            format!("{dataset} was changed since the snapshot that the stream builds on"),
            String::from("-F throws the changes away"),
        ),
        Error::Busy => (
            format!("{dataset} is in use, or has an interrupted receive"),
            String::from("go on with it (send -t TOKEN), or give it up with -A"),
        ),
        Error::Encrypted => {
            ("the stream is raw (of an encrypted dataset)".to_owned(), String::from("send it without -w"))
        }
        Error::Unsupported => (
            "the stream needs what this pool or this program does not have".to_owned(),
            String::from("send it without -L, -e and -c, not deduplicated and not redacted"),
        ),
        Error::NotFound => (
            format!("there is no parent of {dataset}, or nothing to resume"),
            String::from("create the parent first"),
        ),
        Error::Quota => (
            format!("a quota or limit of {target} is less than what the stream holds"),
            String::from(
                "`zeo get IMAGE quota,refquota,filesystem_limit` shows them; set it higher, or to none",
            ),
        ),
        Error::NoSpace => (
            format!("there is no room for the stream in {target}"),
            String::from("`zeo list -o space IMAGE` shows who uses how much; reservations count too"),
        ),
        Error::NotEmpty => (
            format!("{target} has datasets below it"),
            String::from("destroy or rename them first: `zeo list -r IMAGE` shows them"),
        ),
        other => return anyhow::Error::new(other).context(format!("receive into {target}")),
    };
    if options.resumable
        && let Ok(Some(token)) = image.spa().resume_token(dataset)
    {
        hint = format!("what was received is kept; go on with: zeo send IMAGE -t {token}");
    }
    Failure::new(failure::DATA, message, hint).into()
}
