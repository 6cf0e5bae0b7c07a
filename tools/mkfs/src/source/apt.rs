//! Debian packages with their dependencies, fetched by apt without installing anything.
//!
//! apt runs with a state directory of its own, in which no package is installed: what it wants to install is the whole
//! closure, and the host's package database is neither read nor changed. The mirrors are the host's own, and apt
//! checks signatures and hashes.
use anyhow::{Context, Result, anyhow, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Package lists older than that are fetched again.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A package apt wants to install.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture, or `all`.
    pub arch: String,
}

impl Package {
    /// The name apt gives the downloaded file.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.arch)
    }
}

/// The package files of the closure of `names`, sorted by name.
///
/// # Errors
/// When apt is missing or fails, with what it said.
pub fn fetch(names: &[&str], cache: &Path) -> Result<Vec<PathBuf>> {
    let apt = Apt::new(cache)?;
    apt.update()?;
    let packages = match apt.closure(names) {
        Ok(packages) => packages,
        // The lists may name versions that the mirror does not have any more.
        Err(_) if apt.update_now().is_ok() => apt.closure(names)?,
        Err(e) => return Err(e),
    };
    let path_of = |p: &Package| apt.archives().join(p.file_name());
    if !packages.iter().all(|p| path_of(p).exists()) && apt.download(names).is_err() {
        apt.update_now()?;
        apt.download(names)?;
    }
    let files: Vec<PathBuf> = packages.iter().map(path_of).collect();
    match files.iter().find(|f| !f.exists()) {
        Some(missing) => bail!("apt did not fetch {}", missing.display()),
        None => Ok(files),
    }
}

struct Apt {
    root: PathBuf,
}

impl Apt {
    fn new(cache: &Path) -> Result<Self> {
        let apt = Self { root: cache.join("apt") };
        std::fs::create_dir_all(apt.root.join("lists/partial"))?;
        std::fs::create_dir_all(apt.archives().join("partial"))?;
        // An empty status: no package is installed.
        std::fs::write(apt.root.join("status"), "")?;
        Ok(apt)
    }

    fn archives(&self) -> PathBuf {
        self.root.join("cache/archives")
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let root = self.root.display();
        let mut command = Command::new("apt-get");
        for option in [
            format!("Dir::State={root}"),
            format!("Dir::State::lists={root}/lists"),
            format!("Dir::State::status={root}/status"),
            format!("Dir::Cache={root}/cache"),
            String::from("APT::Architecture=amd64"),
            String::from("APT::Install-Recommends=0"),
            String::from("Debug::NoLocking=1"),
            String::from("Acquire::Languages=none"),
            String::from("Acquire::Retries=3"),
        ] {
            command.arg("-o").arg(option);
        }
        if nix::unistd::geteuid().is_root() {
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        command.args(args).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        let output = command.output().context("apt-get (package recipes need a Debian host)")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().filter(|l| l.starts_with("E:")).collect();
        Err(anyhow!("apt-get: {}", if lines.is_empty() { said.trim().to_owned() } else { lines.join("; ") }))
    }

    fn stamp(&self) -> PathBuf {
        self.root.join("updated")
    }

    /// Fetches the package lists if they are old. Without a network, old lists serve.
    fn update(&self) -> Result<()> {
        let updated = self.stamp().metadata().and_then(|m| m.modified());
        let age = updated.ok().and_then(|t| SystemTime::now().duration_since(t).ok());
        match age {
            Some(age) if age < LISTS_AGE_MAX => Ok(()),
            Some(_) => {
                if let Err(e) = self.update_now() {
                    log::warn!("using old package lists: {e}");
                }
                Ok(())
            }
            None => self.update_now(),
        }
    }

    fn update_now(&self) -> Result<()> {
        self.run(&["-qq", "update"])?;
        std::fs::write(self.stamp(), "")?;
        Ok(())
    }

    fn closure(&self, names: &[&str]) -> Result<Vec<Package>> {
        let mut args = vec!["-s", "-y", "install"];
        args.extend(names);
        let mut packages = parse_simulation(&self.run(&args)?);
        packages.sort();
        if packages.is_empty() {
            bail!("apt found nothing to install for {}", names.join(" "));
        }
        Ok(packages)
    }

    fn download(&self, names: &[&str]) -> Result<()> {
        let mut args = vec!["-y", "-qq", "--download-only", "install"];
        args.extend(names);
        self.run(&args).map(drop)
    }
}

/// Lines such as `Inst libc6 (2.36-9 Debian:12/stable [amd64]) []`.
fn parse_simulation(text: &str) -> Vec<Package> {
    let parse = |line: &str| {
        let rest = line.strip_prefix("Inst ")?;
        let (name, rest) = rest.split_once(' ')?;
        let rest = rest.get(rest.find('(')? + 1..)?;
        let version = rest.split([' ', ')']).next()?;
        let (_, arch) = rest.split_once('[')?;
        let name = name.split_once(':').map_or(name, |(n, _)| n);
        let arch = arch.split_once(']')?.0;
        Some(Package { name: name.into(), version: version.into(), arch: arch.into() })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_s_plan_is_read() {
        let text = "NOTE: simulation\n\
            Inst gcc-12-base (12.2.0-14 Debian:12.9/stable [amd64])\n\
            Inst libc6 (1:2.36-9+deb12u9 Debian:12.9/stable, Debian-Security:12/stable-security [amd64]) []\n\
            Inst tzdata [old] (2024b-0 Debian:12.9/stable [all])\n\
            Conf libc6 (2.36)\n";
        let packages = parse_simulation(text);
        let names: Vec<String> = packages.iter().map(Package::file_name).collect();
        assert_eq!(
            names,
            [
                "gcc-12-base_12.2.0-14_amd64.deb",
                "libc6_1%3a2.36-9+deb12u9_amd64.deb",
                "tzdata_2024b-0_all.deb"
            ]
        );
    }
}
