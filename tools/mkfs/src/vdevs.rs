//! Vdev layouts as people write them: `mirror a b raidz2 c d e log x special mirror y z spare s`.
//!
//! The grammar is that of zpool-create(8): a word that names a class (`log`, `special`, `dedup`, `spare`) holds for the
//! vdevs after it until the next such word; a word that names a kind begins a vdev of that kind; devices that follow no
//! kind are vdevs of their own.
use anyhow::{Result, bail};
use zfs::spa::{Purpose, TopKind};

/// A vdev to be made: kind, purpose and the names of its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How it places bytes.
    pub kind: TopKind,
    /// What it is for.
    pub purpose: Purpose,
    /// Files or block devices.
    pub devices: Vec<String>,
}

/// How much loss a vdev survives, to compare vdevs by.
type Replication = (&'static str, usize, usize);

/// Reads a layout.
///
/// # Errors
/// What is wrong with it, for people.
pub fn parse(words: &[String]) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut purpose = Purpose::Data;
    let mut is_open = false;
    for word in words {
        if let Some(next) = purpose_of(word) {
            (purpose, is_open) = (next, false);
        } else if let Some(kind) = kind_of(word)? {
            if purpose == Purpose::Spare {
                bail!("a spare is a device, not a {word}");
            }
            groups.push(Group { kind, purpose, devices: Vec::new() });
            is_open = true;
        } else if let Some(last) = groups.last_mut().filter(|_| is_open) {
            last.devices.push(word.clone());
        } else {
            groups.push(Group { kind: TopKind::Disk, purpose, devices: vec![word.clone()] });
        }
    }
    groups.iter().try_for_each(check_width)?;
    let all: Vec<&String> = groups.iter().flat_map(|g| &g.devices).collect();
    if let Some(twice) = all.iter().enumerate().find(|(n, d)| all[..*n].contains(d)) {
        bail!("{} is named twice", twice.1);
    }
    if groups.is_empty() {
        bail!("no device is named");
    }
    Ok(groups)
}

/// Reads a layout in one line.
///
/// # Errors
/// As [`parse`].
pub fn parse_text(text: &str) -> Result<Vec<Group>> {
    parse(&text.split_whitespace().map(String::from).collect::<Vec<_>>())
}

/// Refuses vdevs that survive less than others for the same purpose.
///
/// # Errors
/// Which, for people.
pub fn check_replication(groups: &[Group], existing: Option<(TopKind, usize)>) -> Result<()> {
    let mut expected = existing.map(|(kind, width)| replication(kind, width));
    for group in groups.iter().filter(|g| !matches!(g.purpose, Purpose::Spare | Purpose::Log)) {
        let own = replication(group.kind, group.devices.len());
        match expected {
            None => expected = Some(own),
            // Special and dedup vdevs need as much redundancy, not the same kind of it.
            Some(other) if group.purpose != Purpose::Data && own.2 >= other.2 => {}
            Some(other) if own != other => bail!(
                "mismatched replication level: {} of {} devices beside {} of {}; -f overrides",
                own.0,
                own.1,
                other.0,
                other.1
            ),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Kind, width and number of devices that may be lost.
fn replication(kind: TopKind, width: usize) -> Replication {
    match kind {
        TopKind::Disk => ("disk", 1, 0),
        TopKind::Mirror => ("mirror", width, width - 1),
        TopKind::RaidZ { nparity } => {
            (["raidz1", "raidz2", "raidz3"][usize::from(nparity.clamp(1, 3)) - 1], width, nparity.into())
        }
    }
}

fn purpose_of(word: &str) -> Option<Purpose> {
    Some(match word {
        "log" => Purpose::Log,
        "special" => Purpose::Special,
        "dedup" => Purpose::Dedup,
        "spare" => Purpose::Spare,
        _ => return None,
    })
}

fn kind_of(word: &str) -> Result<Option<TopKind>> {
    Ok(Some(match word {
        "mirror" => TopKind::Mirror,
        "raidz" | "raidz1" => TopKind::RaidZ { nparity: 1 },
        "raidz2" => TopKind::RaidZ { nparity: 2 },
        "raidz3" => TopKind::RaidZ { nparity: 3 },
        "cache" => bail!("cache devices are not supported"),
        _ if word.starts_with("draid") && !word.contains(['/', '.']) => bail!("draid is not supported"),
        _ => return Ok(None),
    }))
}

fn check_width(group: &Group) -> Result<()> {
    let nr = group.devices.len();
    let min = match group.kind {
        TopKind::Disk => 1,
        TopKind::Mirror => 2,
        TopKind::RaidZ { nparity } => usize::from(nparity) + 1,
    };
    if nr < min {
        bail!("a {} needs at least {min} devices", replication(group.kind, nr.max(1)).0);
    }
    if nr > 255 {
        bail!("a vdev has at most 255 devices");
    }
    if group.purpose == Purpose::Log && matches!(group.kind, TopKind::RaidZ { .. }) {
        bail!("a log cannot be a raidz");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn every_word_is_understood() {
        let got = parse(&words("mirror a b raidz2 c d e log x special mirror y z spare s t")).expect("good");
        let seen: Vec<_> = got.iter().map(|g| (g.kind, g.purpose, g.devices.join(" "))).collect();
        let (mirror, raidz2) = (TopKind::Mirror, TopKind::RaidZ { nparity: 2 });
        assert_eq!(
            seen,
            [
                (mirror, Purpose::Data, "a b".into()),
                (raidz2, Purpose::Data, "c d e".into()),
                (TopKind::Disk, Purpose::Log, "x".into()),
                (mirror, Purpose::Special, "y z".into()),
                (TopKind::Disk, Purpose::Spare, "s".into()),
                (TopKind::Disk, Purpose::Spare, "t".into()),
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in
            ["", "log", "mirror a", "raidz3 a b c", "a a", "log raidz a b", "spare mirror a b", "cache c"]
        {
            assert!(parse(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn unlike_replication_is_refused() {
        let check = |text: &str| check_replication(&parse(&words(text)).expect(text), None);
        for good in
            ["a b", "mirror a b mirror c d", "raidz a b c raidz d e f log x", "mirror a b special mirror c d"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["a mirror b c", "mirror a b special c", "raidz a b c raidz2 d e f g"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
