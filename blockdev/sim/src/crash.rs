//! What a power cut may leave of the writes that were not made durable.
use crate::image::Image;
use crate::random::Random;
use abd::Abd;

/// What a disk writes whole or not at all.
pub const SECTOR: usize = 512;

/// A write that is in the disk's cache, or on its way there.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Where.
    pub offset: u64,
    /// What.
    pub data: Abd,
    /// It was reported as completed: for figures; a power cut may lose it all the same.
    pub is_completed: bool,
}

/// Everything a power cut has to choose from.
#[derive(Clone, Debug)]
pub struct DiskState {
    /// What is durable.
    pub medium: Image,
    /// What may be, oldest first.
    pub pending: Vec<Pending>,
}

/// How a power cut chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Nothing that was not durable survives.
    DropAll,
    /// Everything survives, also what was still in flight.
    KeepAll,
    /// What was submitted before some moment survives.
    Prefix,
    /// Some writes survive whole, the others not at all.
    Writes,
    /// Each sector survives or does not; where writes overlap, either may be the one that is left.
    Sectors,
    /// Everything but one write survives.
    AllButOne,
    /// Of every write some sectors survive.
    Torn,
}

impl CrashMode {
    const ALL: [Self; 7] = [
        Self::DropAll,
        Self::KeepAll,
        Self::Prefix,
        Self::Writes,
        Self::Sectors,
        Self::AllButOne,
        Self::Torn,
    ];

    /// One of them.
    pub fn pick(random: &mut Random) -> Self {
        random.pick(&Self::ALL)
    }
}

impl DiskState {
    /// What is on the medium after a power cut.
    pub fn crash(&self, mode: CrashMode, random: &mut Random) -> Image {
        let mut image = self.medium.clone();
        let nr = self.pending.len() as u64;
        match mode {
            CrashMode::DropAll => {}
            CrashMode::KeepAll => self.keep(&mut image, |_| true),
            CrashMode::Prefix => {
                let kept = random.below(nr + 1) as usize;
                self.keep(&mut image, |at| at < kept);
            }
            CrashMode::AllButOne => {
                let lost = random.below(nr) as usize;
                self.keep(&mut image, |at| at != lost);
            }
            CrashMode::Torn => self.pending.iter().for_each(|write| keep_sectors(&mut image, write, random)),
            CrashMode::Writes => self.keep_some(&mut image, random, false),
            CrashMode::Sectors => self.keep_some(&mut image, random, true),
        }
        image
    }

    fn keep(&self, image: &mut Image, is_kept: impl Fn(usize) -> bool) {
        for (at, write) in self.pending.iter().enumerate() {
            if is_kept(at) {
                image.write_abd(write.offset, &write.data);
            }
        }
    }

    fn keep_some(&self, image: &mut Image, random: &mut Random, may_tear: bool) {
        let mut order: Vec<&Pending> = self.pending.iter().collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i as u64 + 1) as usize);
        }
        let share = random.within(1, 8);
        for write in order {
            match random.below(3) {
                0 if may_tear => keep_sectors(image, write, random),
                _ if random.chance(share, 8) => image.write_abd(write.offset, &write.data),
                _ => {}
            }
        }
    }
}

fn keep_sectors(image: &mut Image, write: &Pending, random: &mut Random) {
    let data = write.data.to_contiguous();
    let mut bits = 0;
    for (nr, sector) in data.chunks(SECTOR).enumerate() {
        if nr % 64 == 0 {
            bits = random.next_u64();
        }
        if bits >> (nr % 64) & 1 == 1 {
            image.write(write.offset + (nr * SECTOR) as u64, sector);
        }
    }
}
