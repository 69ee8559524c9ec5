//! What each port promises, said once and asked of every implementation. The suites know nothing but the ports: whatever
//! passes them can take the place of another.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

mod audit;
mod aws;
mod clinic;
#[path = "../real/aws/console.rs"]
mod console;
mod cursor;
mod ehr;
#[path = "../real/aws/rig.rs"]
mod emulator;
mod fhir;
mod ledger;
mod messages;
mod notes;
mod proxy;
mod queue;
mod roles;
mod shared;
mod worlds;

use std::time::Duration;

use engine::{
    key::{BootId, StationId},
    ledger::Owner,
};
use jiff::Timestamp;

/// Every implementation of one kind of port runs each of these functions as a test of its own.
macro_rules! suite {
    ($implementation:ident: $world:path => $($test:ident)*) => {
        mod $implementation {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(<$world as crate::worlds::World>::start().await).await;
            })*
        }
    };
}
pub(crate) use suite;

pub(crate) const VISIBILITY: Duration = Duration::from_secs(30);

/// A synthetic moment, and seconds after it.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn owner(station: &str, boot: &str) -> Owner {
    Owner { station: StationId::new(station).unwrap(), boot: BootId::new(boot).unwrap() }
}
