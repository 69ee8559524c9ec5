//! The window's TypeScript types are made from the Rust types; this test keeps both the same.

use std::path::Path;

use engine::{action::AsideReason, snapshot::State};
use ts_rs::{Config, TS};

use super::{audit, conflicts, desk, history, locks, overview, queue, redrive, sides, watching};

fn choice(name: &str, all: &[impl serde::Serialize]) -> String {
    let values: Vec<_> = all.iter().map(|value| serde_json::to_string(value).unwrap()).collect();
    format!("\nexport type {name} = {};\n", values.join(" | "))
}

fn bindings() -> String {
    let config = Config::default().with_large_int("number");
    let mut text = String::from("// Made from src-tauri/view by its test `bindings_are_fresh`; not to be edited.\n");
    macro_rules! add {
        ($($of:ty),* $(,)?) => {$( text.push_str(&format!("\nexport {}\n", <$of as TS>::decl(&config))); )*};
    }
    // The engine's own, which know nothing of TypeScript.
    text.push_str(&choice("State", &State::ALL));
    text.push_str(&choice("AsideReason", &AsideReason::ALL));
    add!(
        desk::Role,
        desk::Right,
        desk::Detail,
        desk::RecordName,
        desk::Go,
        desk::Cause,
        desk::Card,
        desk::SyncNow,
        desk::PauseNow,
        desk::PauseFor,
        desk::Live,
        desk::Station,
        desk::Desk,
        desk::Opening,
        desk::Problem,
        overview::Overview,
        overview::ConnectionLine,
        overview::RecentLine,
        overview::StationLine,
        overview::Day,
        overview::Bin,
        queue::QueueState,
        queue::Queue,
        queue::QueueCount,
        queue::QueueRow,
        redrive::Redrive,
        redrive::RedriveReason,
        conflicts::Conflicts,
        conflicts::ConflictRow,
        conflicts::Take,
        conflicts::Chosen,
        conflicts::Settled,
        sides::Sides,
        sides::SideOrigin,
        sides::FieldSides,
        sides::FieldValues,
        sides::Resyncing,
        watching::WatchState,
        watching::WatchedKind,
        watching::WatchedClinic,
        watching::QuotaLine,
        watching::WatchGroup,
        watching::WatchRow,
        watching::Watching,
        locks::LockGroup,
        locks::Lock,
        locks::Locks,
        history::Direction,
        history::HistoryOutcome,
        history::HistoryQuery,
        history::History,
        history::HistoryRow,
        audit::AuditQuery,
        audit::Audit,
        audit::ActWord,
        audit::Chain,
        audit::AuditRow,
        audit::Revealed,
    );
    text
}

#[test]
fn bindings_are_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/src/lib/bindings.ts");
    if std::env::var_os("WRITE_BINDINGS").is_some() {
        std::fs::write(&file, bindings()).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == bindings(),
        "ui/src/lib/bindings.ts is stale: run `WRITE_BINDINGS=1 cargo test --lib bindings_are_fresh`"
    );
}
