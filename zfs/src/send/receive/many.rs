//! `zfs receive` of a whole stream: one snapshot, or a compound stream's row of them, with names and properties.
use super::follow::Follower;
use super::one::{self, Target};
use super::{Naming, ReceiveOptions};
use crate::dsl::props::Stored;
use crate::dsl::{Property, PropertyValue, dir, names};
use crate::send::Feed;
use crate::send::reader::StreamReader;
use crate::spa::Spa;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use nvpair::{NvList, NvValue};
use ondisk::stream::{Begin, HeaderKind, Record};

/// Properties that are fixed when a dataset is made: what they say stands in the stream's own objects.
const FIXED: [&str; 5] = ["version", "utf8only", "casesensitivity", "normalization", "volblocksize"];

/// One snapshot that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// `pool/fs@snap` here.
    pub name: String,
    /// Its name where it came from.
    pub from: String,
    /// It was the difference to an earlier one.
    pub is_incremental: bool,
    /// It was there already, with the same guid, and passed over.
    pub is_skipped: bool,
    /// Bytes of its stream.
    pub bytes: u64,
}

impl Spa {
    /// Receives a stream into `target`: `pool/fs`, or `pool/fs@snap` to give the snapshot another name.
    ///
    /// # Errors
    /// `StreamCut`, `StreamDamaged`; `Exists`, `NoBase`, `Modified`, `NotFound`, `Busy` by what is at the target;
    /// `Encrypted` for raw streams, `Unsupported` for what is not received here; `Invalid` for options that do not go
    /// together; names', writing's, the feed's. The target is as it was, but for whole snapshots of a compound stream
    /// that came before.
    pub fn receive(
        self: &Arc<Self>,
        target: &str,
        options: &ReceiveOptions,
        feed: Feed<'_>,
    ) -> Result<Vec<Received>> {
        let mut reader = StreamReader::new(feed);
        let (record, payload) = reader.read_record()?.ok_or(Error::StreamCut)?;
        let Record::Begin(begin) = record else {
            return Err(Error::StreamDamaged);
        };
        let mut session = Session {
            spa: self,
            target,
            options,
            root: String::from(dataset_of(begin.to_name.as_str())?),
            description: None,
            done: Vec::new(),
            described: Vec::new(),
        };
        match begin.header {
            HeaderKind::Substream => session.one(&begin, &payload, &mut reader, false)?,
            HeaderKind::Compound => session.many(&payload, &mut reader)?,
        }
        Ok(session.done)
    }
}

/// The dataset of a snapshot's name.
fn dataset_of(name: &str) -> Result<&str> {
    name.split_once('@').map(|(dataset, _)| dataset).filter(|d| !d.is_empty()).ok_or(Error::StreamDamaged)
}

struct Session<'a> {
    spa: &'a Arc<Spa>,
    target: &'a str,
    options: &'a ReceiveOptions,
    /// The dataset that was sent, or the topmost of them.
    root: String,
    description: Option<NvList>,
    done: Vec<Received>,
    /// Datasets whose properties are set.
    described: Vec<String>,
}

impl Session<'_> {
    fn many(&mut self, payload: &[u8], reader: &mut StreamReader<'_>) -> Result<()> {
        if !payload.is_empty() {
            self.description = Some(NvList::decode(payload).map_err(|_| Error::StreamDamaged)?);
        }
        match reader.read_record()?.ok_or(Error::StreamCut)? {
            (Record::End(end), _) => reader.check_end(&end)?,
            _ => return Err(Error::StreamDamaged),
        }
        let mut follower = self.follower()?;
        follower.iter_mut().try_for_each(Follower::follow)?;
        loop {
            match reader.read_record()? {
                Some((Record::Begin(begin), payload)) if begin.header == HeaderKind::Substream => {
                    self.one(&begin, &payload, reader, true)?;
                }
                // Parents that were missing are there now.
                Some((Record::End(_), _)) => return follower.iter_mut().try_for_each(Follower::follow),
                Some(_) => return Err(Error::StreamDamaged),
                None => return Err(Error::StreamCut),
            }
        }
    }

    /// Who does what the stream says without records.
    fn follower(&self) -> Result<Option<Follower>> {
        match &self.description {
            Some(description) if !self.options.dry_run => {
                let (root, _) = self.name_here(&format!("{}@", self.root))?;
                Follower::new(self.spa.clone(), description, &root, self.options.force)
            }
            _ => Ok(None),
        }
    }

    fn one(
        &mut self,
        begin: &Begin,
        payload: &[u8],
        reader: &mut StreamReader<'_>,
        is_part: bool,
    ) -> Result<()> {
        let from = begin.to_name.as_str();
        let (name, snapshot) = self.name_here(from)?;
        let start = reader.bytes();
        let is_skipped = is_part && self.is_there(&name, &snapshot, begin.to_guid)?;
        if is_skipped || self.options.dry_run {
            one::check(self.spa, begin)?;
            pass_over(begin, reader)?;
        } else {
            let target = Target {
                name: &name,
                snapshot: &snapshot,
                force: self.options.force,
                resumable: self.options.resumable,
                origin: self.options.origin.as_deref(),
            };
            one::receive(self.spa, begin, payload, reader, &target)?;
            self.set_properties(&name, begin.to_guid)?;
        }
        self.done.push(Received {
            name: format!("{name}@{snapshot}"),
            from: from.to_string(),
            is_incremental: begin.from_guid != 0,
            is_skipped,
            bytes: reader.bytes() - start,
        });
        Ok(())
    }

    /// The dataset and the snapshot's name here.
    fn name_here(&self, from: &str) -> Result<(String, String)> {
        let dataset = dataset_of(from)?;
        let snapshot = from.split_once('@').map_or("", |(_, s)| s).to_string();
        if let Some((target, snapshot)) = self.target.split_once('@') {
            // Only one snapshot can have the one name.
            let is_alone = self.options.naming == Naming::Exact && self.done.is_empty();
            return if is_alone {
                Ok((target.to_string(), snapshot.to_string()))
            } else {
                Err(Error::Invalid)
            };
        }
        let below = below(dataset, &self.root)?;
        let tail = match self.options.naming {
            Naming::Exact => below.to_string(),
            Naming::WithoutPool => dataset.find('/').map_or(String::new(), |at| dataset[at..].to_string()),
            Naming::LastPart => {
                let last = self.root.rsplit('/').next().unwrap_or_default();
                format!("/{last}{below}")
            }
        };
        Ok((format!("{}{tail}", self.target), snapshot))
    }

    /// The snapshot has been received before.
    fn is_there(&self, name: &str, snapshot: &str, guid: u64) -> Result<bool> {
        match names::find(self.spa.mos(), self.spa.root_dir(), &format!("{name}@{snapshot}")) {
            Ok(found) => Ok(dir::read_dataset(self.spa.mos(), found.dataset)?.guid == guid),
            Err(Error::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What the stream and the caller say of a dataset, once for each.
    fn set_properties(&mut self, name: &str, to_guid: u64) -> Result<()> {
        if self.described.iter().any(|d| d == name) {
            return Ok(());
        }
        self.described.push(name.to_string());
        let is_left_out = |property: &Property| {
            self.options.exclude.contains(property) || self.options.set.iter().any(|(p, _)| p == property)
        };
        let mut received = Vec::new();
        for (key, value) in self.stream_properties(to_guid) {
            let Ok(property) = Property::parse(&key) else { continue };
            let stored = match &value {
                NvValue::Uint64(n) => Stored::Number(*n),
                NvValue::String(text) => Stored::Text(String::from_utf8_lossy(text).into_owned()),
                _ => continue,
            };
            let is_fit = property.check(&PropertyValue::from(stored.clone())).is_ok();
            if is_fit && !is_left_out(&property) && !FIXED.contains(&key.as_str()) {
                received.push((key, stored));
            }
        }
        if self.description.is_some() {
            self.spa.set_received(name, &received)?;
        }
        for (property, value) in &self.options.set {
            self.spa.set_property(name, property, value)?;
        }
        Ok(())
    }

    /// The properties of the dataset whose snapshot has that guid.
    fn stream_properties(&self, to_guid: u64) -> Vec<(String, NvValue)> {
        let trees = self.description.as_ref().and_then(|d| d.get_nvlist("fss"));
        let has_it = |tree: &NvList| {
            let snaps = tree.get_nvlist("snaps").map(NvList::pairs).unwrap_or_default();
            snaps.iter().any(|s| s.value == NvValue::Uint64(to_guid))
        };
        let found = trees.map(NvList::pairs).unwrap_or_default().iter().find_map(|pair| match &pair.value {
            NvValue::NvList(tree) if has_it(tree) => tree.get_nvlist("props"),
            _ => None,
        });
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        found
            .map(|props| props.pairs().iter().map(|p| (name(&p.name), p.value.clone())).collect())
            .unwrap_or_default()
    }
}

/// What is left of a dataset's name without that of the topmost one: nothing, or what follows a slash. Anything else would
/// lie beside the target.
fn below<'a>(dataset: &'a str, root: &str) -> Result<&'a str> {
    let tail = dataset.strip_prefix(root).filter(|tail| tail.is_empty() || tail.starts_with('/'));
    tail.ok_or(Error::StreamDamaged)
}

/// Reads a stream to its end for nothing but its checksums.
fn pass_over(begin: &Begin, reader: &mut StreamReader<'_>) -> Result<()> {
    loop {
        let (record, _) = reader.read_record()?.ok_or(Error::StreamCut)?;
        if let Record::End(end) = record {
            return if end.to_guid == begin.to_guid {
                reader.check_end(&end)
            } else {
                Err(Error::StreamDamaged)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_received_beside_the_target() {
        assert_eq!(below("a/b", "a/b"), Ok(""));
        assert_eq!(below("a/b/c", "a/b"), Ok("/c"));
        for beside in ["a/bc", "a", "x/a/b", ""] {
            assert_eq!(below(beside, "a/b"), Err(Error::StreamDamaged), "{beside}");
        }
    }
}
