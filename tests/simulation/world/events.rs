//! What happens in a world: people, messages and trouble.

use std::time::Duration;

use engine::{
    action::Action,
    key::{ResourceId, ResourceType},
    ports::{Clock, Message, Queue},
    row::Value,
    supervisor::Engine,
};
use jiff::SignedDuration;
use rand::{Rng, seq::IndexedRandom};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Stores, World,
    portal::{firm_id, layout},
};
use crate::script::{Script, Store};

/// Bodies that no reader takes, whoever wrote them.
const POISON: [&str; 8] = [
    "",
    "{",
    "not json",
    r#"{"v":9,"hints":[]}"#,
    r#"{"patientId":"p1","name":"SYNTHETIC"}"#,
    r#"{"resourceType":"Patient","name":[{"family":"SYNTHETIC"}]}"#,
    r#"{"TopicArn":"arn:synthetic","Message":"SYNTHETIC"}"#,
    r#"{"v":1,"hints":[{"resource":"Patient","id":"p/1"}]}"#,
];

pub(super) fn press(engine: &Engine, action: Action) {
    let handle = engine.handle.clone();
    tokio::spawn(async move { handle.act(action, Some("maria".to_owned())).await });
}

impl World {
    /// One thing happens.
    pub(super) fn event(&mut self) {
        let roll: f64 = self.script.draw(|rng| rng.random());
        match roll {
            _ if roll < 0.18 || self.portal.is_empty() => self.new_patient(),
            _ if roll < 0.30 => self.new_measurement(),
            _ if roll < 0.58 => self.portal_edit(),
            _ if roll < 0.66 => self.hand_edit(),
            _ if roll < 0.70 => self.open_record(),
            _ if roll < 0.78 => self.hints(),
            _ if roll < 0.81 => self.poison(),
            _ if roll < 0.83 => {
                if let Some((of, id)) = self.pick().filter(|(of, _)| of.as_str() == "Observation") {
                    self.put(&of, &id, None);
                    self.script.count("resource deleted");
                }
            }
            _ if roll < 0.845 => {
                if let Some((of, id)) = self.pick() {
                    let layout = layout(&of);
                    self.clinic.delete_by_hand(layout, id.as_str());
                    self.oracle.deleted_by_hand(layout, id.as_str(), true);
                    self.script.count("row deleted by hand");
                }
            }
            _ if roll < 0.865 => self.person(),
            _ => self.trouble(),
        }
    }

    pub(super) fn trouble(&mut self) {
        let long = |script: &Script, most: u64| Duration::from_secs(script.draw(|rng| rng.random_range(2..most)));
        let number = self.script.draw(|rng| rng.random_range(0..self.stations.len()));
        let most = match self.plan.stores {
            Stores::Embedded => 7,
            Stores::SharedWithoutOddities => 10,
            Stores::Shared => 11,
        };
        match self.script.draw(|rng| rng.random_range(0..most)) {
            0 => self.script.fhir_goes_away(long(&self.script, 120)),
            1 => self.script.clinic_goes_away(long(&self.script, 120)),
            2 => self.script.clinic_stops(long(&self.script, 60)),
            3 => self.script.quota(long(&self.script, 60)),
            4 => self.script.freeze(number, long(&self.script, 150)),
            5 => {
                let by = self.script.draw(|rng| rng.random_range(-86_400..86_400));
                self.stations[number].station.clock.jump(SignedDuration::from_secs(by));
                self.script.count("clock jump");
            }
            7 => self.script.cut_off(number, Store::Queue, long(&self.script, 240)),
            8 => self.script.cut_off(number, Store::Ledger, long(&self.script, 240)),
            9 => self.script.throttle(long(&self.script, 60)),
            10 => {
                self.script.count("queue purged");
                self.oracle.purged(self.queue.purge());
            }
            _ => {
                self.script.count("crash");
                self.stations[number].station.crash.notify_one();
            }
        }
    }

    /// Somebody at a station presses a button. Who presses while it starts or ends may get no answer.
    pub(super) fn person(&mut self) {
        let number = self.script.draw(|rng| rng.random_range(0..self.stations.len()));
        let running = &self.stations[number];
        let Some(engine) = &running.engine else { return };
        let (button, action) = match self.script.draw(|rng| rng.random_range(0..10)) {
            0..6 => ("sync now", Action::SyncNow),
            6..9 => {
                let long = self.script.draw(|rng| rng.random_range(5..90));
                let until = running.station.clock.now() + SignedDuration::from_secs(long);
                ("pause", Action::Pause { until })
            }
            _ => ("resume", Action::Resume),
        };
        self.script.count(button);
        press(engine, action);
    }

    fn hand_edit(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let fields: &[&str] =
            if of.as_str() == "Patient" { &["LastName", "City", "Phone"] } else { &["Value", "Label"] };
        let field = self.script.draw(|rng| fields.choose(rng).copied()).unwrap_or(fields[0]);
        self.edits += 1;
        let value = Value::Text(format!("h{}", self.edits));
        if self.clinic.edit_by_hand(layout(&of), id.as_str(), field, value.clone()) {
            self.oracle.edited_by_hand(layout(&of), id.as_str(), field, &value);
            self.script.count("edit by hand");
        }
    }

    pub(super) fn open_record(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let long = self.script.draw(|rng| rng.random_range(5..240));
        self.clinic.open_by_hand(layout(&of), id.as_str(), true);
        self.opened.push((layout(&of), id.to_string(), Instant::now() + Duration::from_secs(long)));
        self.script.count("record open");
    }

    /// The same hint, once to three times.
    pub(super) fn hints(&mut self) {
        let Some((of, id)) = self.pick() else { return };
        let times = self.script.draw(|rng| rng.random_range(1..=3));
        if times > 1 {
            self.script.count("duplicate hint");
        }
        self.hint(&of, &id, times);
    }

    pub(super) fn hint(&mut self, of: &ResourceType, id: &ResourceId, times: u32) {
        let messages: Vec<_> = (0..times)
            .map(|time| {
                let shape = self.script.draw(|rng| rng.random_range(0..10));
                let body = match shape {
                    // As other producers write them.
                    0 => json!({ "resourceType": of, "id": id, "name": [{ "family": "SYNTHETIC".repeat(5_000) }] }),
                    1 => json!({ "v": 1, "hints": [{ "resource": of, "id": id }] }),
                    2 if of.as_str() == "Patient" => json!({ "patientId": id }),
                    _ => json!({"v": 1, "hints": [{
                        "firm": firm_id(), "resource": of, "id": id, "origin": "push", "at": self.server_clock.now(),
                    }]}),
                };
                if shape < 2 {
                    self.script.count("body of another producer");
                }
                Message { id: format!("push-{}-{time}", self.edits), group: of.to_string(), body: body.to_string() }
            })
            .collect();
        self.edits += 1;
        self.send(messages);
    }

    pub(super) fn poison(&mut self) {
        self.edits += 1;
        let body = self.script.draw(|rng| POISON.choose(rng).copied());
        let body = body.unwrap_or_default().to_owned();
        self.script.count("poison message");
        self.send(vec![Message { id: format!("poison-{}", self.edits), group: "poison".into(), body }]);
    }

    fn send(&self, messages: Vec<Message>) {
        self.oracle.sent(&messages);
        for message in messages {
            let sent = futures::FutureExt::now_or_never(self.queue.send(vec![message]));
            assert_eq!(sent, Some(Ok(())), "a memory queue never waits");
        }
    }
}
