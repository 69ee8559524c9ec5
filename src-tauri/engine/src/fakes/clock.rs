use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::lock;
use crate::ports::Clock;

/// A clock that tests set: wall time may be wrong and jump, elapsed time may run on while tasks sleep.
#[derive(Debug)]
pub struct FakeClock {
    start: Instant,
    speed: f64,
    wall: Mutex<(Timestamp, SignedDuration)>,
    suspended: Mutex<Duration>,
}

impl FakeClock {
    pub fn at(start: Timestamp) -> Arc<Self> {
        Self::drifting(start, 1.0)
    }

    /// Runs faster or slower than the time that tests pause.
    pub fn drifting(start: Timestamp, speed: f64) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            speed,
            wall: Mutex::new((start, SignedDuration::ZERO)),
            suspended: Mutex::default(),
        })
    }

    /// Sets the wall clock forward or back.
    pub fn jump(&self, by: SignedDuration) {
        lock(&self.wall).1 += by;
    }

    /// The machine slept: time went on, and no timer ran.
    pub fn suspend(&self, long: Duration) {
        *lock(&self.suspended) += long;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let (start, offset) = *lock(&self.wall);
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::ZERO);
        start.saturating_add(elapsed).and_then(|now| now.saturating_add(offset)).unwrap_or(start)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed().mul_f64(self.speed) + *lock(&self.suspended)
    }
}
