//! Devices that wrap another device.
//!
//! | module | holds |
//! |---|---|
//! | [`traced`] | [`Traced`]: counts requests and tells a listener about each |
//! | [`faulty`] | [`Faulty`]: fails or damages requests that a rule picks |
pub mod faulty;
pub mod traced;

pub use faulty::{Fault, Faulty};
pub use traced::{Counts, Event, Traced};
