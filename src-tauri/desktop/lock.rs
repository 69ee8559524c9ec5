//! When the window locks, and how often a PIN may be tried. Time is given: a clock that runs on while the PC sleeps.

use std::time::Duration;

/// So many wrong PINs are answered at once; after that each doubles the wait.
const FREE_TRIES: u32 = 3;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Lock {
    locked: bool,
    /// When a key was last pressed or the mouse moved.
    active: Duration,
    wrong: u32,
    /// No PIN is looked at before.
    not_before: Duration,
}

impl Lock {
    pub fn new(locked: bool, now: Duration) -> Self {
        Self { locked, active: now, wrong: 0, not_before: Duration::ZERO }
    }

    pub fn is_locked(&self) -> bool {
        self.locked
    }

    pub fn lock(&mut self) {
        self.locked = true;
    }

    /// Somebody is there. Whether the time was over is asked first: a PC that slept wakes up locked.
    pub fn active(&mut self, now: Duration, after: Duration) {
        if !self.lock_if_idle(now, after) && !self.locked {
            self.active = now;
        }
    }

    /// True if it locked just now.
    pub fn lock_if_idle(&mut self, now: Duration, after: Duration) -> bool {
        let idle = now.saturating_sub(self.active);
        let locks = !self.locked && !after.is_zero() && idle >= after;
        self.locked |= locks;
        locks
    }

    /// Whether a PIN may be tried now; else how long to wait.
    pub fn may_try(&self, now: Duration) -> Result<(), Duration> {
        match self.not_before.saturating_sub(now) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    pub fn tried(&mut self, right: bool, now: Duration) {
        if right {
            *self = Self::new(false, now);
            return;
        }
        self.wrong = self.wrong.saturating_add(1);
        if let Some(beyond) = self.wrong.checked_sub(FREE_TRIES) {
            let wait = Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(beyond));
            self.not_before = now + wait.min(LONGEST_WAIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_locks_after_the_time_and_not_while_somebody_is_there() {
        let after = seconds(300);
        let mut lock = Lock::new(false, seconds(0));
        assert!(!lock.lock_if_idle(seconds(299), after));
        lock.active(seconds(299), after);
        assert!(!lock.lock_if_idle(seconds(598), after) && !lock.is_locked());
        assert!(lock.lock_if_idle(seconds(599), after) && lock.is_locked());
        assert!(!lock.lock_if_idle(seconds(700), after), "said once");
        lock.active(seconds(700), after);
        assert!(lock.is_locked(), "a key opens nothing");
        let mut slept = Lock::new(false, seconds(0));
        slept.active(seconds(8 * 3600), after);
        assert!(slept.is_locked(), "the first key after sleep comes too late");
        let mut never = Lock::new(false, seconds(0));
        assert!(!never.lock_if_idle(seconds(100_000), Duration::ZERO));
    }

    #[test]
    fn wrong_pins_are_slowed_and_a_right_one_ends_it() {
        let mut lock = Lock::new(true, seconds(0));
        let mut now = seconds(0);
        let mut waits = Vec::new();
        for _ in 0..11 {
            let wait = lock.may_try(now).err().unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(lock.may_try(now), Ok(()));
            lock.tried(false, now);
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        lock.tried(true, now);
        assert!(!lock.is_locked());
        assert_eq!(lock.may_try(now), Ok(()));
        assert!(lock.lock_if_idle(now + seconds(300), seconds(300)), "the idle time begins anew");
    }
}
