//! How fast an EHR may be asked, and how that is split.
//!
//! A [`Quota`] is one API key. All its firms and all stations share it: stations grant each other shares of it in a record of the ledger
//! (`grants`), each keeps to its own with a token bucket, and those who wait for a permit take turns (`turns`). What it lets through is
//! never more than the published limit in any window, calendar or sliding, whatever is lost, killed or set back on the way.
//!
//! How often each firm is asked follows from what was learned of it ([`learner`]): [`split`](mod@split) gives each [`Unit`] its pace.

mod allowance;
mod bucket;
mod grants;
mod keep;
pub mod learner;
mod limiter;
mod quota;
pub mod split;
#[cfg(test)]
#[cfg(feature = "fakes")]
mod tests;
mod turns;
mod units;

pub use self::{
    allowance::{Allowance, TooSmall, Window},
    keep::ShareKeeper,
    limiter::Standing,
    quota::{Quota, QuotaView, StationView},
    units::Unit,
};
