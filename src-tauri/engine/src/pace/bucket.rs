use std::time::Duration;

/// A token bucket whose rate may change on the way: in any span of time no more is taken than `burst` and what flowed in meanwhile. It
/// begins empty, so a restart is worth nothing.
#[derive(Debug)]
pub(super) struct Bucket {
    credit: f64,
    burst: f64,
}

/// What rounding may take from a credit of one.
const CRUMB: f64 = 1e-9;

impl Bucket {
    pub(super) fn empty(burst: f64) -> Self {
        Self { credit: 0.0, burst }
    }

    /// Answers with what runs over.
    pub(super) fn pour(&mut self, requests: f64) -> f64 {
        let full = self.credit + requests;
        self.credit = full.min(self.burst);
        full - self.credit
    }

    /// What is there now is all that it will hold at the least.
    pub(super) fn is_ready(&self) -> bool {
        self.credit >= 1.0 - CRUMB
    }

    pub(super) fn take(&mut self) -> bool {
        let ready = self.is_ready();
        if ready {
            self.credit = (self.credit - 1.0).max(0.0);
        }
        ready
    }

    /// How long until one request may be taken, if `rate` flows in.
    pub(super) fn wait(&self, rate: f64) -> Duration {
        if self.is_ready() {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64((1.0 - self.credit) / rate).unwrap_or(Duration::MAX)
    }
}
