//! Any property or figure of a dataset, snapshot or bookmark as text, and where it comes from.
use super::table::nice;
use super::target::Target;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use zfs::Error;
use zfs::dsl::property::ValueKind;
use zfs::dsl::{DatasetInfo, DatasetKind, Figures, Property, PropertyValue, Source};
use zfs::spa::BookmarkInfo;

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file system.
    Filesystem,
    /// A volume.
    Volume,
    /// A snapshot.
    Snapshot,
    /// A bookmark.
    Bookmark,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Volume => "volume",
            Self::Snapshot => "snapshot",
            Self::Bookmark => "bookmark",
        }
    }
}

/// A dataset, snapshot or bookmark with what is known of it.
pub struct Item {
    /// Full name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    origin: Option<String>,
    figures: Figures,
    clones: Vec<String>,
    mark: Option<BookmarkInfo>,
    resume_token: Option<String>,
    user: BTreeMap<String, (String, Source)>,
}

/// A value and its source.
pub struct Value {
    /// As `zfs get` prints it.
    pub text: String,
    /// Where it comes from.
    pub source: Source,
    /// For sorting.
    pub number: Option<u64>,
}

impl Value {
    /// The source as `zfs get` prints it.
    pub fn source_text(&self) -> String {
        match &self.source {
            Source::Default => "default".into(),
            Source::Local => "local".into(),
            Source::Inherited(from) => format!("inherited from {from}"),
            Source::Received => "received".into(),
            Source::None => "-".into(),
        }
    }

    fn fact(text: impl Into<String>) -> Self {
        Self { text: text.into(), source: Source::None, number: None }
    }

    fn number(number: u64, text: String) -> Self {
        Self { text, source: Source::None, number: Some(number) }
    }
}

/// Figures and facts in the order of `zfs get all`, with the kinds that have them (f, v, s, b).
const FACTS: &[(&str, &str)] = &[
    ("type", "fvsb"),
    ("creation", "fvsb"),
    ("used", "fvs"),
    ("available", "fv"),
    ("referenced", "fvsb"),
    ("compressratio", "fvs"),
    ("origin", "fv"),
    ("createtxg", "fvsb"),
    ("guid", "fvsb"),
    ("usedbysnapshots", "fv"),
    ("usedbydataset", "fv"),
    ("usedbychildren", "fv"),
    ("usedbyrefreservation", "fv"),
    ("objsetid", "fvs"),
    ("refcompressratio", "fvs"),
    ("written", "fvs"),
    ("logicalused", "fv"),
    ("logicalreferenced", "fvsb"),
    ("defer_destroy", "s"),
    ("mounted", "f"),
    ("receive_resume_token", "fv"),
    ("userrefs", "s"),
    ("clones", "s"),
    ("snapshots_changed", "fv"),
    ("filesystem_count", "fv"),
    ("snapshot_count", "fv"),
];

impl Item {
    /// Finds out about a dataset or snapshot.
    ///
    /// # Errors
    /// Reading's.
    pub fn of_dataset(target: &Target, info: &DatasetInfo) -> Result<Self> {
        let figures = target.spa().figures(&info.name)?;
        let kind = match (info.is_snapshot, info.kind) {
            (true, _) => Kind::Snapshot,
            (false, DatasetKind::Volume) => Kind::Volume,
            _ => Kind::Filesystem,
        };
        let mut user = BTreeMap::new();
        for (property, value, source) in target.spa().user_properties(&info.name)? {
            user.insert(property.name().to_owned(), (property.format_value(&value), source));
        }
        Ok(Self {
            name: info.name.clone(),
            kind,
            origin: info.origin.clone().filter(|_| !info.is_snapshot),
            clones: target.spa().clone_names(&figures)?,
            figures,
            mark: None,
            resume_token: if info.is_snapshot { None } else { target.spa().resume_token(&info.name)? },
            user,
        })
    }

    /// A bookmark.
    pub fn of_mark(mark: BookmarkInfo) -> Self {
        Self {
            name: mark.name.clone(),
            kind: Kind::Bookmark,
            origin: None,
            figures: Figures::default(),
            clones: Vec::new(),
            mark: Some(mark),
            resume_token: None,
            user: BTreeMap::new(),
        }
    }

    /// Names of everything that `get all` shows of it.
    pub fn all_names(&self) -> Vec<String> {
        let letter = &self.kind.name()[..1];
        let has = |kinds: &str| kinds.contains(letter);
        let mut names: Vec<String> =
            FACTS.iter().filter(|(_, kinds)| has(kinds)).map(|(name, _)| (*name).to_owned()).collect();
        if self.kind == Kind::Filesystem || self.kind == Kind::Volume {
            names.extend(Property::native().map(|p| p.name().to_owned()));
        }
        names.retain(|name| name != "origin" || self.origin.is_some());
        names.extend(self.user.keys().cloned());
        names
    }

    /// A property, figure or fact; `None` when this kind has none of that name.
    ///
    /// # Errors
    /// A name that nothing has; reading's.
    pub fn value(&self, target: &Target, name: &str, exact: bool) -> Result<Option<Value>> {
        let name = full_name(name);
        if let Some(since) = name.strip_prefix("written").filter(|s| s.starts_with(['@', '#'])) {
            return self.written_since(target, since, exact);
        }
        if FACTS.iter().any(|(fact, _)| *fact == name) || name == "name" {
            return Ok(self.fact(name, exact));
        }
        if name.contains(':') {
            let value = self.user.get(name);
            return Ok(Some(match value {
                Some((text, source)) => Value { text: text.clone(), source: source.clone(), number: None },
                None => Value::fact("-"),
            }));
        }
        if super::space::is_account(name) && self.kind == Kind::Filesystem {
            let number = super::space::value(target, &self.name, name)?;
            let shown = |n: u64| if name.contains("obj") || exact { n.to_string() } else { nice(n) };
            return Ok(number.map(|n| Value { text: shown(n), source: Source::Local, number: Some(n) }));
        }
        let Ok(property) = Property::parse(name) else {
            bail!("there is no property '{name}'");
        };
        if self.kind == Kind::Bookmark {
            return Ok(None);
        }
        if self.kind == Kind::Snapshot && !is_of_snapshots(&property) {
            return Ok(None);
        }
        let (value, source) = target.spa().get_property(&self.name, &property)?;
        Ok(Some(Value { text: shown(&property, &value, exact), source, number: value.number() }))
    }

    fn written_since(&self, target: &Target, since: &str, exact: bool) -> Result<Option<Value>> {
        match target.spa().written_since(&self.name, since) {
            Ok(bytes) => Ok(Some(size(bytes, exact))),
            Err(Error::NotFound | Error::Invalid | Error::Unsupported) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn fact(&self, name: &str, exact: bool) -> Option<Value> {
        if name == "name" {
            return Some(Value::fact(self.name.clone()));
        }
        let letter = &self.kind.name()[..1];
        if !FACTS.iter().any(|(fact, kinds)| *fact == name && kinds.contains(letter)) {
            return None;
        }
        let (f, space) = (&self.figures, &self.figures.space);
        let count = |n: u64| Some(Value::number(n, n.to_string()));
        let bytes = |n: u64| Some(size(n, exact));
        let times = |n: u64| {
            let text = format!("{}.{:02}{}", n / 100, n % 100, if exact { "" } else { "x" });
            Some(Value::number(n, text))
        };
        let when = |secs: u64| {
            Some(Value::number(secs, if exact { secs.to_string() } else { super::table::date(secs) }))
        };
        match (name, &self.mark) {
            ("creation", mark) => when(mark.as_ref().map_or(f.creation, |m| m.created)),
            ("createtxg", mark) => count(mark.as_ref().map_or(f.create_txg, |m| m.created_txg)),
            ("guid", mark) => count(mark.as_ref().map_or(f.guid, |m| m.guid)),
            ("referenced", Some(mark)) => mark.referenced.and_then(bytes),
            ("logicalreferenced", Some(mark)) => mark.logical_referenced.and_then(bytes),
            ("type", _) => Some(Value::fact(self.kind.name())),
            ("used", _) => bytes(space.used),
            ("available", _) => bytes(space.available),
            ("referenced", None) => bytes(space.referenced),
            ("compressratio", _) => times(f.compress_ratio),
            ("refcompressratio", _) => times(f.ref_compress_ratio),
            ("origin", _) => self.origin.clone().map(Value::fact),
            ("usedbysnapshots", _) => bytes(space.used_by_snapshots),
            ("usedbydataset", _) => bytes(space.used_by_dataset),
            ("usedbychildren", _) => bytes(space.used_by_children),
            ("usedbyrefreservation", _) => bytes(space.used_by_refreservation),
            ("objsetid", _) => count(f.objset_id),
            ("written", _) => bytes(f.written),
            ("logicalused", _) => bytes(space.logical_used),
            ("logicalreferenced", _) => bytes(space.logical_referenced),
            ("defer_destroy", _) => Some(Value::fact(if f.is_defer_destroy { "on" } else { "off" })),
            // Nothing is mounted of a machine that is off.
            ("mounted", _) => Some(Value::fact("no")),
            ("receive_resume_token", _) => self.resume_token.clone().map(Value::fact),
            ("userrefs", _) => count(f.user_refs),
            ("clones", _) => (!self.clones.is_empty()).then(|| Value::fact(self.clones.join(","))),
            ("filesystem_count", _) => Some(limited(f.filesystem_count)),
            ("snapshot_count", _) => Some(limited(f.snapshot_count)),
            ("snapshots_changed", _) => f.snapshots_changed.and_then(when),
            _ => None,
        }
    }
}

/// Short names of properties.
fn full_name(name: &str) -> &str {
    match name {
        "avail" => "available",
        "refer" => "referenced",
        "usedsnap" => "usedbysnapshots",
        "usedds" => "usedbydataset",
        "usedchild" => "usedbychildren",
        "usedrefreserv" => "usedbyrefreservation",
        "lused" => "logicalused",
        "lrefer" => "logicalreferenced",
        "recsize" => "recordsize",
        "compress" => "compression",
        "reserv" => "reservation",
        "refreserv" => "refreservation",
        "ratio" => "compressratio",
        other => other,
    }
}

/// Native properties that make sense on snapshots.
fn is_of_snapshots(property: &Property) -> bool {
    matches!(
        property,
        Property::Devices
            | Property::Exec
            | Property::Setuid
            | Property::Xattr
            | Property::Nbmand
            | Property::AclType
            | Property::PrimaryCache
            | Property::SecondaryCache
            | Property::Prefetch
    )
}

fn size(bytes: u64, exact: bool) -> Value {
    Value::number(bytes, if exact { bytes.to_string() } else { nice(bytes) })
}

/// A count that is kept only where there is a limit.
fn limited(count: Option<u64>) -> Value {
    match count {
        Some(n) => Value::number(n, n.to_string()),
        None => Value { text: "none".into(), source: Source::Default, number: None },
    }
}

/// A property's value as zfs(8) shows it.
fn shown(property: &Property, value: &PropertyValue, exact: bool) -> String {
    let is_limit = matches!(
        property,
        Property::Quota | Property::RefQuota | Property::Reservation | Property::RefReservation
    );
    match (property.kind(), value) {
        (ValueKind::Size, PropertyValue::Number(0)) if is_limit && !exact => "none".to_owned(),
        (ValueKind::Size, PropertyValue::Number(n)) if !exact => match n {
            0 => "0".to_owned(),
            n => nice(*n),
        },
        _ => property.format_value(value),
    }
}
