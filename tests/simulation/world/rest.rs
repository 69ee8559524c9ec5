//! What must be true of a world, while it runs and when the faults have ended.

use std::time::Duration;

use engine::{action::Action, connection::Side, key::RecordKey, ports::Ledger, row::Value, snapshot::Verdict};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{
    Running, Stores, Ways, World,
    events::press,
    portal::{MEASUREMENT, PATIENT, firm_id, layout},
};
use crate::oracle::held;

/// How old an edit of the portal may be while the icon says "up to date".
const GREEN: Duration = Duration::from_secs(180);

/// How long a station may say "up to date" that no longer reaches queue or ledger.
const CUT: Duration = Duration::from_secs(45);

/// The same where these say nothing at all, so that only time tells.
const SILENT: Duration = Duration::from_secs(100);

/// How often somebody looks at what needs a person.
const RESYNCS: usize = 5;

impl World {
    /// Looks at the world after an event.
    pub(super) fn look(&mut self, event: usize) {
        let now = Instant::now();
        let clinic = self.clinic.clone();
        self.opened.retain(|(layout, key, until)| {
            let over = *until <= now;
            if over {
                clinic.open_by_hand(layout, key, false);
            }
            !over
        });
        for layout in [PATIENT, MEASUREMENT] {
            self.oracle.count_rows(layout, self.clinic.rows(layout).into_iter().map(|(key, _)| key));
        }
        self.oracle.leases(&self.ledger);
        if event.is_multiple_of(10) {
            self.oracle.conserve(&self.queue, self.plan.stores != Stores::Embedded);
        }
        self.is_green_true();
    }

    /// I25 and idea 6: while a station says "up to date", whatever the portal said three minutes ago has arrived.
    fn is_green_true(&mut self) {
        for number in 0..self.stations.len() {
            let Some(engine) = &self.stations[number].engine else { continue };
            let verdict = engine.handle.snapshots().borrow().verdict.clone();
            if !matches!(verdict, Verdict::UpToDate { .. }) {
                continue;
            }
            for (silent, limit) in [(false, CUT), (true, SILENT)] {
                let cut = self.script.cut_for(number, silent);
                if cut > limit {
                    self.oracle.fail("I25", format!("a station says up to date, cut off for {cut:?}"));
                }
            }
            if self.plan.ways == Ways::Both {
                continue;
            }
            self.green_checks += 1;
            self.oracle.checked("I25");
            if let Some(stale) = self.stale(GREEN) {
                self.oracle.fail("I25", format!("a station says up to date and {stale}"));
            }
        }
    }

    /// The first thing the portal said longer ago than this that has not arrived, and why it should have.
    fn stale(&self, older: Duration) -> Option<String> {
        let records = self.ledger.records();
        for ((of, id), (json, edited)) in &self.portal {
            if edited.elapsed() < older || !self.script.is_visible(of, id) {
                continue;
            }
            let record = records.get(&RecordKey::link(firm_id(), of.clone(), id.clone()));
            // Kept, and shown as such: a person's edit, a row deleted by the clinic, a dead letter with its reason.
            let dead = record.is_some_and(|record| record.dead.is_some());
            let notice = record.and_then(|record| record.notice);
            let rows = self.clinic.rows(layout(of));
            let Some((_, row)) = rows.iter().find(|(key, _)| key == id.as_str()) else {
                let told = notice == Some(engine::error::Code::RowDeleted);
                if dead || told || (!older.is_zero() && self.oracle.is_touched_by_hand(layout(of), id.as_str())) {
                    continue;
                }
                return Some(format!("{of}/{id} has no row"));
            };
            let wanted: &[(&str, &str)] = match of.as_str() {
                "Patient" => {
                    &[("LastName", "/name/0/family"), ("City", "/address/0/city"), ("Phone", "/telecom/0/value")]
                }
                _ => &[("Value", "/valueString"), ("Label", "/code/text")],
            };
            for (field, pointer) in wanted {
                let Some(value) = json.pointer(pointer).and_then(Json::as_str) else { continue };
                let by_hand = self.oracle.is_by_hand(layout(of), id.as_str(), field);
                let same = row.get(*field) == Some(&Value::Text(value.to_owned()));
                if by_hand && older.is_zero() {
                    self.oracle.checked("I8");
                }
                if !same && by_hand && notice.is_none() && !dead && older.is_zero() {
                    return Some(format!("{of}/{id} {field} differs and nobody is told"));
                }
                if !same && !by_hand && !dead {
                    return Some(format!("{of}/{id} {field} is stale"));
                }
            }
        }
        None
    }

    /// The faults end; within a bounded time everything has arrived and nothing is left over.
    pub(super) async fn come_to_rest(&mut self) {
        self.script.heal();
        for (layout, key, _) in std::mem::take(&mut self.opened) {
            self.clinic.open_by_hand(layout, &key, false);
        }
        // What only the clinic knows of is found by looking: the clinic's side is not polled yet.
        let all: Vec<_> = self.portal.keys().cloned().collect();
        for (of, id) in all {
            if self.plan.ways == Ways::Both || self.oracle.is_touched_by_hand(layout(&of), id.as_str()) {
                self.hint(&of, &id, 1);
            }
        }
        let patience = Instant::now() + Duration::from_secs(3 * 60 * 60);
        // Polls that failed last are back by then, so that the portal's last word was heard.
        self.live(Duration::from_secs(120)).await;
        let mut resyncs = RESYNCS;
        loop {
            self.live(Duration::from_secs(20)).await;
            // A clock that was set back may have made a day of a minute.
            for engine in self.stations.iter().filter_map(|running| running.engine.as_ref()) {
                if engine.handle.snapshots().borrow().pause.is_some() {
                    press(engine, Action::Resume);
                }
            }
            self.look(0);
            if self.oracle.violation().is_some() {
                break;
            }
            if self.is_at_rest() {
                // Somebody looks at what was given up on, and after that nothing may be left of it.
                if self.plan.ways == Ways::ToFileMaker
                    || resyncs == 0
                    || !self.resync_what_needs_a_person(resyncs == RESYNCS)
                {
                    break;
                }
                resyncs -= 1;
            }
            if Instant::now() > patience {
                self.oracle.fail("I19", format!("not at rest three hours after the last fault: {}", self.restless()));
                return;
            }
        }
        self.oracle.checked("I19");
        self.oracle.checked("I16");
        self.oracle.conserve(&self.queue, self.plan.stores != Stores::Embedded);
        match self.plan.ways {
            Ways::ToFileMaker => {
                if let Some(stale) = self.stale(Duration::ZERO) {
                    self.stale += 1;
                    self.oracle.fail("I19", stale);
                }
            }
            Ways::Both => {
                if let Err((invariant, what)) = self.is_merged() {
                    self.stale += u64::from(invariant == "I19");
                    self.oracle.fail(invariant, what);
                }
            }
        }
        let letters = futures::FutureExt::now_or_never(self.ledger.dead_letters(usize::MAX));
        let letters = letters.and_then(Result::ok).expect("a memory ledger never waits");
        self.oracle.poison_at_rest(&letters.into_iter().map(|letter| letter.id).collect::<Vec<_>>());
        self.oracle.checked("I20");
        if let Some(key) = held(&self.ledger).first() {
            self.oracle.fail("I20", format!("the lease of {key} was never freed"));
        }
        for running in self.stations.iter().filter(|running| !running.gone) {
            let open = running.audit.entries().iter().filter(|entry| entry.outcome.is_none()).count();
            self.oracle.audit_at_rest(open);
        }
    }

    fn is_at_rest(&self) -> bool {
        self.restless().is_empty()
    }

    fn restless(&self) -> String {
        let records = self.ledger.records();
        let mut why = Vec::new();
        if !self.queue.is_empty() {
            why.push(format!("{} messages", self.queue.ids().len()));
        }
        if let Some(record) = records.values().find(|record| record.wanted.is_some() || record.held.is_some()) {
            why.push(format!("{} waits for {:?}", record.key, record.wanted.and_then(|wanted| wanted.waits_for)));
        }
        let alive = self.stations.iter().filter(|running| !running.gone);
        let green = |running: &Running| {
            let engine = running.engine.as_ref()?;
            let snapshot = engine.handle.snapshots().borrow().clone();
            let up = Side::BOTH.len() <= snapshot.connections.len();
            let passes = snapshot.pause.is_some() || snapshot.manual.is_some_and(|manual| manual.is_running());
            let arrived = snapshot.polls.iter().all(|poll| poll.under_way.is_none());
            (up && arrived && snapshot.running.is_empty() && !passes).then_some(())
        };
        if alive.clone().count() == 0 || alive.clone().any(|running| green(running).is_none()) {
            why.push("a station is busy".to_owned());
        }
        why.join(", ")
    }
}
