//! Asking a device whether it still works: a part of each label that says nothing is read, and written back as it was.
//!
//! A request that failed says that a place is bad; a probe tells that from a device that is. It goes on beside everything
//! else, and whoever wants the answer looks now and then: nobody waits for a device that may never answer.
//!
//! Source: `vdev_probe` (vdev.c), which uses the same part of the labels.
use super::leaf::Leaf;
use super::queue::Payload;
use super::wait::IoGroup;
use abd::Abd;
use alloc::vec::Vec;
use ondisk::label::{BOOTENV_OFFSET, BOOTENV_SIZE};

/// A probe under way.
#[derive(Debug)]
pub(crate) enum Probe {
    /// The labels are being read.
    Reading(IoGroup),
    /// What was read is being written back.
    Writing(IoGroup),
}

impl Probe {
    /// Begins one.
    pub(crate) fn start(leaf: &Leaf) -> Self {
        let group = IoGroup::new();
        for (tag, label) in leaf.label_offsets().into_iter().enumerate() {
            let done = group.completion(tag as u64);
            leaf.start_once(label + BOOTENV_OFFSET, Payload::Read(BOOTENV_SIZE), done);
        }
        Self::Reading(group)
    }

    /// Whether the device works: one label that can be read and one that can be written are enough. `None`: not known yet.
    pub(crate) fn verdict(&mut self, leaf: &Leaf) -> Option<bool> {
        leaf.poll();
        loop {
            let group = match self {
                Self::Reading(group) | Self::Writing(group) => group,
            };
            let done = group.try_wait()?;
            let good = done.into_iter().filter(|done| done.result.is_ok());
            if matches!(self, Self::Writing(_)) {
                return Some(good.count() > 0);
            }
            let read: Vec<(u64, Abd)> = good.filter_map(|d| Some((d.tag, d.buf?.freeze()))).collect();
            if read.is_empty() {
                return Some(false);
            }
            let group = IoGroup::new();
            for (tag, content) in read {
                let Some(label) = leaf.label_offsets().get(tag as usize).copied() else { continue };
                leaf.start_once(label + BOOTENV_OFFSET, Payload::Write(content), group.completion(tag));
            }
            *self = Self::Writing(group);
        }
    }
}
