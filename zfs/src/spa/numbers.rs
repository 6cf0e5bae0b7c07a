//! Pool properties that are numbers or switches.
//!
//! Source: `zpool_prop.c`; kept in the ZAP `pool_props`, absent ones have their default.
use super::{Spa, When};
use crate::{Error, Result};
use alloc::format;
use alloc::sync::Arc;
use ondisk::DmuType;
use ondisk::pool_directory as names;

/// A pool property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolNumber {
    /// What users of a suspended pool get: [`super::FailMode`].
    FailMode,
    /// Space that is freed is discarded on the devices.
    AutoTrim,
    /// The pool grows when its devices have grown.
    AutoExpand,
    /// Only one host at a time may have the pool open, and that is watched.
    MultiHost,
}

impl PoolNumber {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::FailMode, Self::AutoTrim, Self::AutoExpand, Self::MultiHost];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FailMode => "failmode",
            Self::AutoTrim => "autotrim",
            Self::AutoExpand => "autoexpand",
            Self::MultiHost => "multihost",
        }
    }

    /// Its values, by number.
    pub const fn values(self) -> &'static [&'static str] {
        match self {
            Self::FailMode => &["wait", "continue", "panic"],
            Self::AutoTrim | Self::AutoExpand | Self::MultiHost => &["off", "on"],
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// The values of all of them, `None` where the pool does not say.
pub(super) type Numbers = [Option<u64>; PoolNumber::ALL.len()];

/// Reads them.
///
/// # Errors
/// What reading gives.
pub(super) fn load(spa: &Spa) -> Result<()> {
    let mut numbers = Numbers::default();
    if let Some(props) = spa.pool_props()? {
        for property in PoolNumber::ALL {
            numbers[property.index()] = spa.mos().zap_lookup(props, property.name())?;
        }
    }
    *spa.numbers.lock() = numbers;
    Ok(())
}

impl Spa {
    /// The value the pool has for a property, `None` when it does not say.
    pub fn pool_number(&self, property: PoolNumber) -> Option<u64> {
        self.numbers.lock()[property.index()]
    }

    /// Sets a property.
    ///
    /// # Errors
    /// `Invalid` for a value it does not have; `ReadOnly`, `Suspended`.
    pub fn set_pool_number(self: &Arc<Self>, property: PoolNumber, value: u64) -> Result<()> {
        let text =
            usize::try_from(value).ok().and_then(|v| property.values().get(v)).ok_or(Error::Invalid)?;
        self.check_writable()?;
        if property == PoolNumber::MultiHost && value != 0 && self.hostid == 0 {
            log::error!("zfs: multihost protection needs a host id");
            return Err(Error::Invalid);
        }
        let command = format!("zpool set {}={text} {}", property.name(), self.mos().pool_name());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            let props = match spa.pool_props()? {
                Some(props) => props,
                None => {
                    let props = spa.mos.create_zap(tx, DmuType::POOL_PROPS, DmuType::NONE, 0)?;
                    spa.mos.set_directory_entry(tx, names::PROPS, props)?;
                    props
                }
            };
            spa.mos.zap_update(tx, props, property.name(), value)?;
            spa.numbers.lock()[property.index()] = Some(value);
            if property == PoolNumber::AutoExpand {
                spa.expand_by_property()?;
            }
            spa.note(tx, &command)
        })?;
        self.start_beat();
        Ok(())
    }
}
