//! Chance is an input: all of the engine's random numbers come from one seeded source, so that a run can be had again.

use std::{sync::Mutex, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

#[derive(Debug)]
pub struct Chance(Mutex<StdRng>);

impl Chance {
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Anywhere between nothing and `most` ("full jitter").
    pub fn up_to(&self, most: Duration) -> Duration {
        self.with(|rng| most.mul_f64(rng.random::<f64>()))
    }

    /// Around `middle`, half of it more or less.
    pub fn around(&self, middle: Duration) -> Duration {
        middle / 2 + self.up_to(middle)
    }

    /// A name that is unique per event: 128 random bits.
    pub fn name(&self) -> String {
        format!("{:032x}", self.with(|rng| rng.random::<u128>()))
    }
}
