//! Clock and chance, real or reproducible.
use super::spec::Deterministic;
use rt::SpinLock;

/// Where guids, salts and times come from.
#[derive(Debug)]
pub(crate) struct Environment {
    fixed_time: Option<u64>,
    /// State of the generator; `None` draws from the runtime.
    seed: SpinLock<Option<u64>>,
}

impl Environment {
    pub(crate) fn new(deterministic: Option<Deterministic>) -> Self {
        Self { fixed_time: deterministic.map(|d| d.time), seed: SpinLock::new(deterministic.map(|d| d.seed)) }
    }

    /// Seconds since 1970.
    pub(crate) fn time(&self) -> u64 {
        self.fixed_time.unwrap_or_else(|| u64::try_from(rt::wall_clock().secs).unwrap_or(0))
    }

    /// A random number.
    pub(crate) fn random(&self) -> u64 {
        let mut seed = self.seed.lock();
        let Some(state) = seed.as_mut() else {
            drop(seed);
            let mut bytes = [0; 8];
            rt::fill_random(&mut bytes);
            return u64::from_le_bytes(bytes);
        };
        // splitmix64: every state is visited once, so numbers do not repeat within an image.
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A guid: random and not zero.
    pub(crate) fn guid(&self) -> u64 {
        loop {
            let guid = self.random();
            if guid != 0 {
                return guid;
            }
        }
    }
}
