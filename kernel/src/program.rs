//! What runs: the image's configuration, changed by the command line, handed to the Linux ABI.
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use guest_config::Config;
use vfs::Namespace;

/// Environment of a program that nobody gave one.
const DEFAULT_ENV: [&[u8]; 3] =
    [b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", b"HOME=/root", b"TERM=linux"];

/// Runs the program to its end; its exit status. The file systems stay mounted.
///
/// # Errors
/// Why there is nothing to run: text for the console.
pub fn run(
    namespace: &Arc<Namespace>,
    mut config: Config,
    command_line: &str,
    is_traced: bool,
) -> Result<u8, String> {
    config.apply_command_line(command_line.as_bytes()).map_err(|e| format!("command line: {e}"))?;
    if config.program.is_empty() {
        return Err("nothing says what to run".into());
    }
    for default in DEFAULT_ENV {
        let name = default.split_inclusive(|b| *b == b'=').next().unwrap_or_default();
        if !config.env.iter().any(|e| e.starts_with(name)) {
            config.env.push(default.to_vec());
        }
    }
    let status = linux::run(linux::Boot {
        namespace: namespace.clone(),
        config,
        is_traced,
        cmdline: command_line.as_bytes().to_vec(),
    });
    Ok(status as u8)
}
