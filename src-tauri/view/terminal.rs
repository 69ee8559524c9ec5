//! The snapshot as lines of text for a terminal of any size.

use engine::snapshot::Snapshot;
use jiff::tz::TimeZone;

use super::words;

/// Verdict, connections, queue, locks and last events; at most `height` lines of at most `width` characters.
pub fn screen(
    snapshot: &Snapshot,
    title: &str,
    notes: &[String],
    zone: &TimeZone,
    width: usize,
    height: usize,
) -> Vec<String> {
    let mut lines =
        vec![title.to_owned(), String::new(), format!("  {}", words::verdict(&snapshot.verdict, zone)), String::new()];
    for connection in &snapshot.connections {
        let silent =
            connection.silent_for.map(|time| format!(" (heard {} ago)", words::long(time))).unwrap_or_default();
        let side = words::side(connection.side);
        lines.push(format!("  {side:<17} {}{silent}", words::health(&connection.health)));
    }
    let oldest = snapshot.oldest_wanted.map(|age| format!(", oldest {}", words::long(age))).unwrap_or_default();
    lines.push(format!(
        "  queue             {} waiting, {} in progress; {} records wanted{oldest}",
        snapshot.queue_waiting, snapshot.queue_in_flight, snapshot.wanted
    ));
    let locks: Vec<_> = snapshot.running.iter().take(4).map(|key| format!("{}/{}", key.resource, key.id)).collect();
    lines.push(format!("  locks             {} held  {}", snapshot.leases_held, locks.join("  ")));
    let totals = &snapshot.totals;
    lines.push(format!(
        "  done              {} links, {} created, {} edited, {} nothing to do, {} joined, {} tried again",
        snapshot.records, totals.rows_created, totals.rows_edited, totals.unchanged, totals.coalesced, totals.retries
    ));
    lines.push(format!(
        "  attention         {} need a person, {} changed on both sides, {} kept differences or remarks",
        snapshot.dead, snapshot.conflicts, snapshot.differs
    ));
    lines.push(String::new());
    lines.extend(notes.iter().cloned());
    lines.push(String::new());
    let room = height.saturating_sub(lines.len());
    lines.extend(snapshot.recent.iter().take(room).map(|event| {
        let time = event.at.to_zoned(zone.clone()).strftime("%H:%M:%S");
        format!("  {time}  {}/{}  {}", event.key.resource, event.key.id, words::event(&event.what))
    }));
    lines.truncate(height);
    lines.into_iter().map(|line| line.chars().take(width).collect()).collect()
}
