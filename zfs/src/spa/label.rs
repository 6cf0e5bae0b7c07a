//! Labels of a device: reading what others left, writing ours, and the order that makes a crash harmless.
//!
//! A device has four labels, two at each end. Each holds the configuration (packed nvlist) and a ring of uberblocks.
//! Every piece carries its own checksum with its device offset as verifier, so a label copied elsewhere is no label.
//! Configurations are written by pairs, one label of each end: while one pair is being written the other is whole.
use crate::bugs::{self, Bug};
use crate::vdev::layout;
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use codec::embedded;
use nvpair::NvList;
use ondisk::eck::label_verifier;
use ondisk::label as format;
use ondisk::uberblock::{RawUberblock, UBERBLOCK_MAGIC, UBERBLOCK_SIZE, Uberblock};
use ondisk::{OndiskError, Txg};
use zerocopy::{FromBytes, IntoBytes};

/// Highest transaction group believed: no pool gets there, and numbers can be added to it.
const TXG_MAX: Txg = Txg(1 << 60);

/// Labels of a device that are written together, one at each end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    /// Labels 0 and 2.
    Even,
    /// Labels 1 and 3.
    Odd,
}

impl Pair {
    /// Their indexes.
    pub(crate) fn labels(self) -> [usize; 2] {
        match self {
            Self::Even => [0, 2],
            Self::Odd => [1, 3],
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }
}

/// What a device's labels hold.
#[derive(Debug)]
pub(crate) struct DeviceLabels {
    /// The newest valid configuration among the four.
    pub(crate) config: NvList,
    /// The pair that has no valid copy of it: a power cut may have torn both.
    pub(crate) stale: Option<Pair>,
    /// Every valid uberblock of every label, each once.
    pub(crate) uberblocks: Vec<Uberblock>,
}

/// Reads a device's labels.
///
/// # Errors
/// `NoLabel` when no label has a valid configuration; `Io` when none could be read.
pub(crate) fn read(device: &Arc<dyn BlockDevice>) -> Result<DeviceLabels> {
    let capacity = device.geometry().capacity;
    if layout::leaf_asize(capacity) == 0 {
        return Err(Error::NoLabel);
    }
    let (config, stale) = read_config(device, Txg(u64::MAX))?;
    let ashift = config.get_nvlist("vdev_tree").and_then(|tree| tree.get_u64("ashift")).unwrap_or(9);
    let ashift = u8::try_from(ashift)
        .ok()
        .filter(|a| (layout::ASHIFT_MIN..=layout::ASHIFT_MAX).contains(a))
        .ok_or(Error::ForeignLabel)?;
    let mut uberblocks: Vec<Uberblock> = Vec::new();
    for offset in layout::label_offsets(capacity) {
        // A ring that cannot be read has nothing to say; the others may.
        if let Ok(ring) = read_bytes(device, offset + format::RING_OFFSET, format::RING_SIZE as usize) {
            read_ring(&ring, offset + format::RING_OFFSET, ashift, &mut uberblocks);
        }
    }
    Ok(DeviceLabels { config, stale, uberblocks })
}

/// The newest valid configuration of a device that is not newer than `limit`, and the pair without a valid copy of it.
///
/// # Errors
/// `NoLabel` when there is none; `Io` when no label could be read.
pub(crate) fn read_config(device: &Arc<dyn BlockDevice>, limit: Txg) -> Result<(NvList, Option<Pair>)> {
    let mut result = Error::NoLabel;
    let mut found = Vec::new();
    for (index, label) in layout::label_offsets(device.geometry().capacity).into_iter().enumerate() {
        let offset = label + format::PHYS_OFFSET;
        match read_bytes(device, offset, format::PHYS_SIZE) {
            Ok(bytes) => {
                let pair = if index.is_multiple_of(2) { Pair::Even } else { Pair::Odd };
                let config = NvList::decode(&bytes[..format::PHYS_NVLIST_SIZE]);
                found.extend(config.ok().map(|config| (pair, offset, bytes, config)));
            }
            Err(Error::Io) => result = Error::Io,
            Err(_) => {}
        }
    }
    found.retain(|(.., config)| txg_of(config) <= limit);
    // Hashing them is what takes time: newest first, and the first that is valid is the one.
    found.sort_by_key(|(.., config)| core::cmp::Reverse(txg_of(config)));
    let is_valid = |offset: u64, bytes: &[u8]| embedded::verify(bytes, &label_verifier(offset)).is_ok();
    let newest = found.iter().position(|(_, offset, bytes, _)| is_valid(*offset, bytes)).ok_or(result)?;
    let (pair, .., config) = found.swap_remove(newest);
    let is_copy = |(of, offset, bytes, copy): &(Pair, u64, Vec<u8>, NvList)| {
        *of != pair && txg_of(copy) == txg_of(&config) && is_valid(*offset, bytes)
    };
    let stale = if found.iter().any(is_copy) { None } else { Some(pair.other()) };
    Ok((config, stale))
}

/// The group that wrote a configuration; that of a device which is in no pool yet has none.
pub(crate) fn txg_of(config: &NvList) -> Txg {
    Txg(config.get_u64("txg").unwrap_or(0))
}

/// Adds the valid uberblocks of the ring that lies at `start` to those that are known.
fn read_ring(ring: &[u8], start: u64, ashift: u8, known: &mut Vec<Uberblock>) {
    let size = format::slot_size(ashift.into());
    for (index, slot) in ring.chunks_exact(size).enumerate() {
        // The trailer hashes a whole slot: look at the magic first, most slots of a young pool are empty; and once is
        // enough for what is the same in all labels.
        let magic = u64::from_le_bytes(slot[..8].try_into().unwrap_or_default());
        if magic != UBERBLOCK_MAGIC && magic != UBERBLOCK_MAGIC.swap_bytes() {
            continue;
        }
        let mut head = [0; UBERBLOCK_SIZE];
        head.copy_from_slice(&slot[..UBERBLOCK_SIZE]);
        let Some(uberblock) = parse_uberblock(&mut head).filter(|u| u.txg <= TXG_MAX) else { continue };
        let verifier = label_verifier(start + (index * size) as u64);
        if !known.contains(&uberblock) && embedded::verify(slot, &verifier).is_ok() {
            known.push(uberblock);
        }
    }
}

fn parse_uberblock(bytes: &mut [u8]) -> Option<Uberblock> {
    let raw = RawUberblock::read_from_bytes(bytes).ok()?;
    match raw.parse() {
        Err(OndiskError::ForeignEndian) => {
            bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|w| w.reverse());
            RawUberblock::read_from_bytes(bytes).ok()?.parse().ok()
        }
        other => other.ok(),
    }
}

fn read_bytes(device: &Arc<dyn BlockDevice>, offset: u64, len: usize) -> Result<Vec<u8>> {
    let read = device.read(offset, len)?;
    Ok(read.freeze().to_vec())
}

/// The best of these uberblocks that is not newer than `limit`.
pub(crate) fn best_uberblock(
    all: impl IntoIterator<Item = Uberblock>,
    limit: Option<Txg>,
) -> Option<Uberblock> {
    all.into_iter().filter(|u| limit.is_none_or(|l| u.txg <= l)).max_by(Uberblock::compare)
}

/// A whole label without a configuration and without uberblocks: padding and an empty boot environment.
pub(crate) fn blank(label: u64) -> Abd {
    let mut bytes = vec![0; layout::LABEL_SIZE as usize];
    let start = format::BOOTENV_OFFSET as usize;
    let verifier = label_verifier(label + format::BOOTENV_OFFSET);
    embedded::seal(&mut bytes[start..start + format::BOOTENV_SIZE], &verifier);
    Abd::copy_from(&bytes)
}

/// The configuration's part of a label: where it goes, relative to the label, and its bytes.
///
/// # Errors
/// `TooLarge` when it does not fit.
pub(crate) fn config_part(config: &NvList, label: u64) -> Result<(u64, Abd)> {
    let mut bytes = vec![0; format::PHYS_SIZE];
    write_config(&mut bytes, config)?;
    embedded::seal(&mut bytes, &label_verifier(label + format::PHYS_OFFSET));
    Ok((format::PHYS_OFFSET, Abd::copy_from(&bytes)))
}

fn write_config(room: &mut [u8], config: &NvList) -> Result<()> {
    let packed = config.encode().map_err(|_| Error::Invalid)?;
    let room = room.get_mut(..format::PHYS_NVLIST_SIZE).ok_or(Error::TooLarge)?;
    room.get_mut(..packed.len()).ok_or(Error::TooLarge)?.copy_from_slice(&packed);
    Ok(())
}

/// An uberblock's slot in the ring of the label at `label`: its device offset and bytes.
pub(crate) fn uberblock_part(
    uberblock: &Uberblock,
    ashift: u8,
    is_multihost: bool,
    label: u64,
) -> Result<(u64, Abd)> {
    let txg = if bugs::is(Bug::OneUberblockSlot) { Txg(1) } else { uberblock.txg };
    let slot = format::slot_of_txg(txg, ashift.into(), is_multihost);
    in_slot(uberblock, ashift, slot, label)
}

/// The last slot, which multihost protection has to itself.
pub(crate) fn sign_part(uberblock: &Uberblock, ashift: u8, label: u64) -> Result<(u64, Abd)> {
    in_slot(uberblock, ashift, format::slot_count(ashift.into()) - 1, label)
}

fn in_slot(uberblock: &Uberblock, ashift: u8, slot: u64, label: u64) -> Result<(u64, Abd)> {
    let offset = label + format::slot_offset(slot, ashift.into()).ok_or(Error::Invalid)?;
    let mut bytes = vec![0; format::slot_size(ashift.into())];
    bytes[..UBERBLOCK_SIZE].copy_from_slice(uberblock.to_raw().as_bytes());
    embedded::seal(&mut bytes, &label_verifier(offset));
    Ok((offset, Abd::copy_from(&bytes)))
}
