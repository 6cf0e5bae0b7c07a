//! What may go wrong while there is power.
use crate::random::Random;
use blockdev::{Error, Op};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this and has no effect.
    Fail(Error),
    /// A write reports success and has no effect.
    Lose,
    /// A write reports success and lands here instead.
    Misdirect(u64),
    /// A read gets its data with one bit inverted, or a write stores it so.
    Damage,
}

/// How often things go wrong by themselves, each in 1/65536 of the requests it can happen to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// A read fails; the next may succeed.
    pub read_error: u32,
    /// A write fails; the next may succeed.
    pub write_error: u32,
    /// A write is lost.
    pub lost: u32,
    /// A write lands elsewhere.
    pub misdirected: u32,
    /// A read gets a wrong bit although the medium is right.
    pub bad_read: u32,
    /// A write stores a wrong bit.
    pub bad_write: u32,
}

const UNIT: u64 = 65_536;

impl FaultRates {
    pub(crate) fn draw(&self, op: &Op, capacity: u64, random: &mut Random) -> Option<Fault> {
        if *self == Self::default() {
            return None;
        }
        let mut at = random.below(UNIT) as u32;
        let mut is_it = |rate: u32| {
            let hit = at < rate;
            at = at.wrapping_sub(rate);
            hit
        };
        match op {
            Op::Read { .. } => {
                let fault = if is_it(self.read_error) {
                    Fault::Fail(Error::Io)
                } else if is_it(self.bad_read) {
                    Fault::Damage
                } else {
                    return None;
                };
                Some(fault)
            }
            Op::Write { data, .. } => {
                let fault = if is_it(self.write_error) {
                    Fault::Fail(Error::Io)
                } else if is_it(self.lost) {
                    Fault::Lose
                } else if is_it(self.misdirected) {
                    let room = capacity.saturating_sub(data.len() as u64) / 4096;
                    Fault::Misdirect(random.below(room) * 4096)
                } else if is_it(self.bad_write) {
                    Fault::Damage
                } else {
                    return None;
                };
                Some(fault)
            }
            Op::Flush | Op::Discard { .. } | Op::WriteZeroes { .. } => None,
        }
    }
}
