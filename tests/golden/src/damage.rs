//! Seeded damage to a pool's image: flips where data lies, cut devices, and forged content.

use crate::forge::{BlockKind, Forger, Patch};
use crate::walk::Result;
use ondisk::{BlkPtr, blkptr, label};

/// A generator of numbers: the same seed gives the same damage (splitmix64).
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }
}

/// What was done to an image.
pub enum Damage {
    /// Bytes changed on the device; nothing was made to verify. What is still read must be right.
    Rotten(Vec<Patch>),
    /// The device ends early.
    Cut(u64),
    /// Content that verifies but is not what it should be.
    Forged(Vec<Patch>, BlockKind),
}

/// Damage of the kind that `seed` picks.
///
/// # Errors
/// When the undamaged pool cannot be read.
pub fn damage(forger: &mut Forger, device_size: u64, seed: u64) -> Result<Damage> {
    let mut random = Random::new(seed);
    match seed % 8 {
        0 => Ok(Damage::Cut(cut(&mut random, device_size))),
        1 => Ok(Damage::Rotten(rotten_labels(&mut random, device_size))),
        2 | 3 => rotten_blocks(forger, &mut random).map(Damage::Rotten),
        _ => forged(forger, &mut random),
    }
}

fn cut(random: &mut Random, device_size: u64) -> u64 {
    match random.below(3) {
        0 => device_size - 512 * (1 + random.below(2048) as u64),
        1 => 512 * random.below(16384) as u64,
        _ => 512 * (random.number() % (device_size / 512)),
    }
}

/// Changes within one to four labels: configuration, boot environment, uberblocks.
fn rotten_labels(random: &mut Random, device_size: u64) -> Vec<Patch> {
    let labels = 1 + random.below(label::LABELS);
    let mut patches = Vec::new();
    for index in 0..labels {
        let Some(start) = label::label_offset(index, device_size) else { continue };
        for _ in 0..1 + random.below(4) {
            let within = match random.below(3) {
                0 => label::PHYS_OFFSET + random.number() % 4096,
                1 => label::RING_OFFSET + random.number() % label::RING_SIZE,
                _ => random.number() % label::LABEL_SIZE,
            };
            let len = (1 + random.below(64)).min((label::LABEL_SIZE - within) as usize);
            patches.push((start + within, noise(random, len)));
        }
    }
    patches
}

/// Changes within the stored bytes of some blocks: one, several, or all copies.
fn rotten_blocks(forger: &mut Forger, random: &mut Random) -> Result<Vec<Patch>> {
    let kinds = forger.kinds();
    let mut patches = Vec::new();
    for _ in 0..1 + random.below(6) {
        let kind = kinds[random.below(kinds.len())];
        let bp = forger.pointer(kind, random.below(forger.count(kind)))?;
        let copies = 1 + random.below(bp.nr_dvas().max(1));
        for dva in bp.dvas().take(copies) {
            let at = random.below(bp.psize() as usize);
            let len = (1 + random.below(32)).min(bp.psize() as usize - at);
            patches.push((label::LABEL_START_SIZE + dva.offset + at as u64, noise(random, len)));
        }
    }
    Ok(patches)
}

fn forged(forger: &mut Forger, random: &mut Random) -> Result<Damage> {
    let kinds = forger.kinds();
    let kind = kinds[random.below(kinds.len())];
    let index = random.below(forger.count(kind));
    let mut content = forger.content(kind, index)?;
    if random.below(8) == 0 {
        // the content of another block, perhaps of another kind
        let other = kinds[random.below(kinds.len())];
        let mut donor = forger.content(other, random.below(forger.count(other)))?;
        donor.resize(content.len(), 0);
        content = donor;
    }
    for _ in 0..random.below(12) {
        mutate(&mut content, random);
    }
    if is_pointers(kind) && random.below(2) == 0 {
        let bp = forger.pointer(kinds[random.below(kinds.len())], 0)?;
        replant(&mut content, &bp, random);
    }
    forger.replace(kind, index, content).map(|patches| Damage::Forged(patches, kind))
}

/// One change: a field of one to eight bytes, mostly near the start and near other data, set to a value that hurts.
fn mutate(content: &mut [u8], random: &mut Random) {
    let used =
        content.iter().rposition(|b| *b != 0).map_or(content.len(), |last| (last + 65).min(content.len()));
    let len = 1usize << random.below(4);
    let range = if random.below(2) == 0 { used.min(256) } else { used };
    let at = random.below(range) & !(len - 1);
    let Some(field) = content.get_mut(at..at + len) else { return };
    let old = field.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let value = match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => old.wrapping_add(1),
        4 => old.wrapping_sub(1),
        5 => old ^ 1 << random.below(8 * len),
        6 => u64::MAX >> random.below(64),
        _ => random.number(),
    };
    field.copy_from_slice(&value.to_le_bytes()[..len]);
}

fn is_pointers(kind: BlockKind) -> bool {
    kind.1 > 0
}

/// Puts another block's pointer into an indirect block: with the type and level expected there, its content is foreign
/// but verifies.
fn replant(content: &mut [u8], bp: &BlkPtr, random: &mut Random) {
    let places = content.len() / blkptr::BLKPTR_SIZE;
    let at = random.below(places) * blkptr::BLKPTR_SIZE;
    let place = &mut content[at..at + blkptr::BLKPTR_SIZE];
    let mut bp = *bp;
    if let Ok(old) = BlkPtr::from_bytes(place)
        && !old.is_hole()
        && !bp.is_embedded()
    {
        bp.set_type(old.dmu_type());
        bp.set_level(old.level());
        bp.set_birth(old.birth(), bp.phys_birth());
    }
    place.copy_from_slice(&bp.to_bytes());
}

fn noise(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.number() as u8).collect()
}
