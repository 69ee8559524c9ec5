//! The one place where the time is asked.

#![allow(clippy::disallowed_methods, reason = "the one place")]

use std::time::Duration;

use engine::ports::Clock;
use jiff::Timestamp;

/// This machine's clocks. Elapsed time runs on while the machine sleeps:
/// - Linux: `CLOCK_BOOTTIME` (clock_gettime(2): "also includes any time that the system is suspended");
/// - macOS: `CLOCK_MONOTONIC` (clock_gettime(3): "will continue to increment while the system is asleep"), which is not
///   what `Instant` reads there;
/// - Windows: `QueryPerformanceCounter`, which `Instant` reads (Microsoft, "Acquiring high-resolution time stamps": includes
///   the time when the machine was in a sleep state). \[GEN\] unverified on a machine;
/// - elsewhere whatever `Instant` reads.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    start: std::time::Instant,
}

impl SystemClock {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    pub fn new() -> Self {
        Self {}
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    #[cfg(any(target_os = "linux", target_os = "macos"))]
    fn elapsed(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};

        #[cfg(target_os = "linux")]
        let time = clock_gettime(ClockId::Boottime);
        #[cfg(target_os = "macos")]
        let time = clock_gettime(ClockId::Monotonic);
        // Neither clock is ever negative, nor has it 10^9 nanoseconds or more to a second.
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_time_goes_on_and_never_back() {
        let clock = SystemClock::new();
        let start = clock.elapsed();
        let mut last = start;
        while last < start + Duration::from_millis(2) {
            let next = clock.elapsed();
            assert!(next >= last);
            last = next;
        }
    }

    /// What sets it apart from `Instant`: it agrees with the kernel's own count, time asleep included.
    #[cfg(target_os = "linux")]
    #[test]
    fn elapsed_time_is_the_time_since_the_machine_started() {
        let uptime: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
        let elapsed = SystemClock::new().elapsed().as_secs_f64();
        assert!((elapsed - uptime).abs() < 5.0, "{elapsed} against {uptime}");
    }
}
