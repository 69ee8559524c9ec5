//! The real tray program and the real window, each test with a display, a session bus, a home and servers of its own. The test is the panel:
//! it owns the names on the bus that a desktop's panel and notification server own, and reads what they would show. The window is
//! driven through WebKitWebDriver. Run one at a time: `cargo test ... --test desktop -- --test-threads=1`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]
#![allow(clippy::disallowed_methods, reason = "the whole program runs on the machine's own clock and chance")]

mod both_ways;
#[path = "../canary/mod.rs"]
mod canary_kit;
mod desk;
mod display;
#[path = "../real/aws/rig.rs"]
mod emulator;
#[path = "../system/gateway.rs"]
mod gateway;
#[allow(dead_code, reason = "the tests of the headless program use the rest")]
#[path = "../system/installation.rs"]
mod installation;
mod panel;
#[allow(dead_code, reason = "the tests of the headless program use the rest")]
#[path = "../system/post.rs"]
mod post;
#[allow(dead_code, reason = "the tests of the headless program use the rest")]
#[path = "../system/rig.rs"]
mod rig;
mod shared;
mod starts;
mod states;
mod watching;
mod window;
mod works;
mod x11;
