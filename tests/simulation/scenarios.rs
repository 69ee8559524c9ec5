//! Single situations that random worlds meet too seldom, or cannot judge.

mod cost;
mod silence;
mod stage;
mod takeover;
mod workers;
