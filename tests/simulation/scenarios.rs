//! Single situations that random worlds meet too seldom, or cannot judge.

mod both;
mod charts;
mod cost;
mod desk;
mod manual;
mod messages;
mod rows;
mod silence;
mod stage;
mod stores;
mod takeover;
mod trouble;
mod workers;
