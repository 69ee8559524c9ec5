use std::time::Duration;

/// How the server counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Window {
    /// From each whole minute (hour, day) of its own clock to the next.
    Calendar,
    /// In any span of that length.
    #[default]
    Sliding,
}

/// What an API key allows, and how much of it the relay may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// In each window.
    pub requests: u64,
    pub per: Duration,
    pub window: Window,
    /// Percent of it that the relay may use. What is left also takes up requests that are late on their way, and clocks that run fast.
    pub used: u8,
    /// Percent of that for persons and for work.
    pub reserve: u8,
    /// How many stations take part at most.
    pub stations: u32,
}

/// The quota is too small to be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{usable} requests in a window are too few for {stations} stations: at least {needed} are needed; \
     lower `stations`, or raise `use`"
)]
pub struct TooSmall {
    pub usable: u64,
    pub stations: u32,
    pub needed: u64,
}

/// What a station may send at once where its grant was not used.
pub(super) const BURST: u64 = 2;

/// The parts of an allowance. `stations * (BURST + slot) + pool` requests are all that the relay sends in a window, whatever becomes of
/// stations and grants meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Parts {
    /// Requests a second that are granted to stations.
    pub(super) pool: f64,
    /// What each station may send at once of its own slot, ...
    pub(super) slot_burst: f64,
    /// ... and requests a second that flow into it.
    pub(super) slot: f64,
    /// Requests a second of the whole published limit.
    pub(super) limit: f64,
}

impl Allowance {
    /// One key that only this station uses.
    pub fn alone(requests: u64, per: Duration) -> Self {
        Self { requests, per, window: Window::Sliding, used: 60, reserve: 10, stations: 1 }
    }

    /// What the relay may send in a window.
    pub fn usable(&self) -> u64 {
        self.requests * u64::from(self.used.min(100)) / 100
    }

    /// # Errors
    /// It cannot be shared by so many.
    pub fn check(&self) -> Result<(), TooSmall> {
        self.parts().map(|_| ())
    }

    pub(super) fn parts(&self) -> Result<Parts, TooSmall> {
        let stations = u64::from(self.stations.max(1));
        let slot = (self.usable() * u64::from(self.reserve.min(100)) / 100 / stations).max(2);
        let slot_burst = (slot / 4).max(1);
        let taken = stations * (BURST + slot);
        let pool = self.usable().saturating_sub(taken);
        if pool == 0 {
            return Err(TooSmall { usable: self.usable(), stations: self.stations, needed: taken + 1 });
        }
        let second = |requests: u64| requests as f64 / self.per.as_secs_f64().max(1e-3);
        Ok(Parts {
            pool: second(pool),
            slot_burst: slot_burst as f64,
            slot: second(slot - slot_burst),
            limit: second(self.requests),
        })
    }
}
