//! What goes wrong in the demo, by the script or at a key.

use std::time::Duration;

use engine::action::Action;
use jiff::Timestamp;
use simulators::filemaker::{Fault, When};

use super::clinic::Clinic;
use crate::{control::pause_until, wiring::Relay};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    TokenExpires,
    ThreeTimes,
    RecordOpen,
    UpdateMeanwhile,
    LandsLater,
    Away,
}

impl Mishap {
    /// In the order of the script, with the part of the demo after which each happens.
    const SCRIPT: [(Mishap, f64); 6] = [
        (Mishap::TokenExpires, 0.08),
        (Mishap::ThreeTimes, 0.14),
        (Mishap::RecordOpen, 0.20),
        (Mishap::UpdateMeanwhile, 0.26),
        (Mishap::LandsLater, 0.32),
        (Mishap::Away, 0.42),
    ];

    fn of_key(key: char) -> Option<Self> {
        let number = key.to_digit(10)?.checked_sub(1)?;
        Self::SCRIPT.get(number as usize).map(|(mishap, _)| *mishap)
    }
}

pub(super) struct Mishaps {
    /// What is still to come, and when.
    script: Vec<(Mishap, Duration)>,
    /// How long FileMaker stays away.
    away: Duration,
    happened: Vec<String>,
    nth: usize,
    back: Option<tokio::task::JoinHandle<()>>,
}

impl Mishaps {
    /// `limit` is the length of a demo with a script; without one, mishaps come every half minute (never if `calm`).
    pub(super) fn new(limit: Option<Duration>, calm: bool) -> Self {
        let whole = limit.unwrap_or(Duration::from_secs(180));
        let script = Mishap::SCRIPT.iter().map(|(mishap, part)| (*mishap, whole.mul_f64(*part))).collect();
        Self {
            script: if calm { Vec::new() } else { script },
            away: Duration::from_secs(20).min(whole / 4),
            happened: Vec::new(),
            nth: 0,
            back: None,
        }
    }

    pub(super) fn happened(&self) -> &[String] {
        &self.happened
    }

    /// The keys, and what happened last.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "  1 token expires  2 one event three times  3 record open  4 update meanwhile  5 write lands later  6 FileMaker away"
                .to_owned(),
            "  s sync now  p pause 15 s  r resume  q end".to_owned(),
        ];
        notes.extend(self.happened.last().map(|last| format!("  last mishap: {last}")));
        notes
    }

    pub(super) async fn when_due(&mut self, clinic: &mut Clinic, relay: &Relay, elapsed: Duration) {
        while let Some((mishap, at)) = self.script.first().copied()
            && at <= elapsed
        {
            self.script.remove(0);
            self.happen(mishap, clinic, relay).await;
        }
    }

    pub(super) async fn on_key(&mut self, key: char, clinic: &mut Clinic, relay: &Relay) {
        let action = match key {
            's' => Action::SyncNow,
            'p' => Action::Pause { until: pause_until(Timestamp::now(), Duration::from_secs(15)) },
            'r' => Action::Resume,
            _ => {
                if let Some(mishap) = Mishap::of_key(key) {
                    self.happen(mishap, clinic, relay).await;
                }
                return;
            }
        };
        if let Err(fault) = relay.handle().act(action, None).await {
            self.happened.push(format!("an action was refused: {fault}"));
        }
    }

    async fn happen(&mut self, mishap: Mishap, clinic: &mut Clinic, relay: &Relay) {
        self.nth += 1;
        let filemaker = clinic.filemaker();
        let patient = clinic.patient_with_row(self.nth * 5);
        let told = match (mishap, patient) {
            (Mishap::TokenExpires, _) => {
                filemaker.expire_tokens_after(3);
                clinic.fhir().expire_tokens();
                "every token expired in the middle of the work".to_owned()
            }
            (Mishap::Away, _) => {
                let away = self.away;
                filemaker.unplug().await;
                let control = filemaker.clone();
                self.back = Some(tokio::spawn(async move {
                    tokio::time::sleep(away).await;
                    control.plug_in().await;
                }));
                format!("FileMaker goes away for {} s", away.as_secs())
            }
            (_, None) => return,
            (Mishap::ThreeTimes, Some((of, id, _))) => match clinic.hint_thrice(relay, &of, &id).await {
                Ok(()) => format!("one event came three times: {of}/{id}"),
                Err(fault) => format!("the queue refused an event: {fault}"),
            },
            (Mishap::RecordOpen, Some((of, id, row))) => {
                let _ = filemaker.lock_for("Patient", row, Duration::from_secs(8));
                clinic.change(&of, &id);
                format!("{of}/{id} was changed while its record was open in a window for 8 s")
            }
            (Mishap::UpdateMeanwhile, Some((of, id, _))) => {
                // The row's reading takes long, and the portal changes the resource meanwhile.
                filemaker.inject(Fault::Slow(Duration::from_millis(1_500)), When::next().key(id.as_str()));
                clinic.change(&of, &id);
                let _ = clinic.hint_thrice(relay, &of, &id).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                clinic.change(&of, &id);
                format!("{of}/{id} was changed again while the relay worked on it")
            }
            (Mishap::LandsLater, Some((of, id, _))) => {
                filemaker.inject(Fault::Late(Some(Duration::from_secs(6))), When::next().writes());
                clinic.change(&of, &id);
                "a write got no answer and landed 6 s later".to_owned()
            }
        };
        self.happened.push(told);
    }

    /// The last mishap is over before anything is judged.
    pub(super) async fn end(&mut self, clinic: &Clinic) {
        if let Some(back) = self.back.take() {
            let _ = back.await;
        }
        clinic.filemaker().clear_all().await;
    }
}
