//! What people ask for, and how it is done.

use std::{collections::BTreeSet, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::sync::oneshot;

use super::{Supervisor, publisher::FIGURES_WITHIN};
use crate::{
    action::{Action, Choice},
    audit::{Act, Begun, Outcome},
    connection::Side,
    consumer::{Ask, Order},
    error::{Class, Code, Fault},
    gate::Gate,
    key::{FirmId, RecordKey, ResourceType},
    ledger::{Filter, Want},
    manual::{Finished, Manual, Obstacle, Unwatched},
    reconcile::{Settling, Wish, plan::Decision},
    reveal::AT_MOST,
    row::{FieldType, Value},
    snapshot::{Pause, Phase},
};

/// The notes that outlive a restart.
const PAUSE: &str = "pause";
const MANUAL: &str = "manual";

/// How long a person is kept waiting for a run. It goes on by itself after that.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);

/// Wanted records that a pass looks through for those that wait for a window to be closed.
const LOOKED_THROUGH: usize = 2_000;

/// What an entry is about: a record, or a message.
fn name(begun: &Begun) -> Option<String> {
    begun.key.as_ref().map(ToString::to_string).or_else(|| begun.fields.get(1).cloned())
}

impl Supervisor {
    /// Does what a person asks. Each record concerned has its own audit entry, begun before anything is done.
    pub(super) async fn act(&self, action: Action, person: Option<String>) -> Result<(), Fault> {
        let at = self.shared.clock.now();
        let what = [Some(action.name()), action.reason()].into_iter().flatten().map(str::to_owned);
        let about = |key: Option<RecordKey>, more: &[&str]| Begun {
            at,
            by: self.reconciler.settings.owner.clone(),
            person: person.clone(),
            act: Act::Asked,
            key,
            epoch: 0,
            expected: None,
            fields: what.clone().chain(more.iter().map(|more| (*more).to_owned())).collect(),
        };
        let begun: Vec<Begun> = match &action {
            Action::Retry { keys }
            | Action::Resync { keys }
            | Action::SetAside { keys, .. }
            | Action::PutBack { keys } => keys.iter().map(|key| about(Some(key.clone()), &[])).collect(),
            // The field and the side, never a value.
            Action::Settle { key, field, choice, .. } => vec![about(Some(key.clone()), &[field, choice.name()])],
            Action::RetryLetters { ids } | Action::DropLetters { ids } => {
                ids.iter().map(|id| about(None, &[id])).collect()
            }
            Action::Deleted { firm, resource } => vec![about(None, &[firm.as_str(), resource.as_str()])],
            Action::SyncNow | Action::Pause { .. } | Action::Resume => vec![about(None, &[])],
        };
        let names: Vec<_> = begun.iter().map(name).collect();
        let entries = join_all(begun.into_iter().map(|begun| self.shared.audit.begin(begun))).await;
        let entries = entries.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut untouched = BTreeSet::new();
        let done = self.perform(action, person.clone(), &mut untouched).await;
        let now = self.shared.clock.now();
        let closed = entries.into_iter().zip(names).map(|(entry, name)| {
            let outcome = match &done {
                Ok(()) if name.is_some_and(|name| untouched.contains(&name)) => {
                    Outcome::Refused { code: Code::NoLonger }
                }
                Ok(()) => Outcome::Done { version: None },
                Err(fault) => Outcome::Refused { code: fault.code },
            };
            self.shared.audit.complete(entry, outcome, now)
        });
        join_all(closed).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        self.publish_snapshot().await;
        done
    }

    /// `untouched` are the records and messages of which there was nothing to do any more.
    async fn perform(
        &self,
        action: Action,
        person: Option<String>,
        untouched: &mut BTreeSet<String>,
    ) -> Result<(), Fault> {
        match action {
            Action::SyncNow => self.sync_now(person).await?,
            Action::Pause { until } => {
                let pause = Pause { until, by: person };
                // First on disk: whoever is told of a pause can rely on it.
                self.note(PAUSE, &pause).await?;
                self.shut(pause);
            }
            Action::Resume => self.resume().await?,
            Action::Retry { keys } => {
                let now = self.shared.clock.now();
                let want =
                    |key: &RecordKey| Want { key: key.clone(), first_seen: now, not_before: now, waits_for: None };
                self.shared.ledger.want(&keys.iter().map(want).collect::<Vec<_>>()).await?;
                let _ = self.orders.try_send(Order::Run(keys));
            }
            Action::Resync { keys } => {
                if keys.len() > AT_MOST {
                    return Err(Fault::new(Class::Permanent, Code::TooMany));
                }
                let wish = || Wish::Resync { person: person.clone() };
                let asked = join_all(keys.into_iter().map(|key| self.ask(key, wish()))).await;
                asked.into_iter().collect::<Result<(), _>>()?;
            }
            Action::Settle { key, field, seen, choice } => {
                let decision = self.decision(&key, &field, choice)?;
                let seen = (seen.chart, seen.row);
                self.ask(key, Wish::Settle(Settling { field, seen, decision, person })).await?;
            }
            Action::Deleted { firm, resource } => self.were_deleted(&firm, &resource, person)?,
            Action::SetAside { keys, .. } => self.set_aside(keys, true, untouched).await?,
            Action::PutBack { keys } => self.set_aside(keys, false, untouched).await?,
            Action::RetryLetters { ids } => {
                self.letters.read_again(&ids, untouched).await?;
                let _ = self.orders.try_send(Order::Look);
            }
            Action::DropLetters { ids } => self.shared.ledger.unbury(&ids).await?,
        }
        Ok(())
    }

    /// Has a record run for a person, and waits until it is done or refused.
    async fn ask(&self, key: RecordKey, wish: Wish) -> Result<(), Fault> {
        let (answer, answered) = oneshot::channel();
        let gone = || Fault::new(Class::Permanent, Code::Stopping);
        self.orders.send(Order::Ask(key, Ask { wish, answer })).await.map_err(|_| gone())?;
        match tokio::time::timeout(ANSWERED_WITHIN, answered).await {
            Ok(answer) => answer.map_err(|_| gone())?,
            Err(_) => Err(Fault::new(Class::Permanent, Code::TimedOut)),
        }
    }

    /// What a person chose, as the field holds it.
    fn decision(&self, key: &RecordKey, field: &str, choice: Choice) -> Result<Decision, Fault> {
        let refused = |code| Fault::new(Class::Permanent, code);
        let firm = self.reconciler.firms.get(&key.firm).ok_or_else(|| refused(Code::UnknownFirm))?;
        let mapping = firm.mapping.resources.get(&key.resource).ok_or_else(|| refused(Code::NotMapped))?;
        let r#type = mapping.table.fields.get(field).ok_or_else(|| refused(Code::NoLonger))?;
        Ok(match choice {
            Choice::Chart => Decision::Take(Side::Fhir),
            Choice::Row => Decision::Take(Side::FileMaker),
            Choice::Value(typed) => {
                let value = Value::typed(*r#type, typed.expose()).ok_or_else(|| refused(Code::ValueRefused))?;
                let value = mapping.canonical(field, value);
                // A number of letters is no number.
                if *r#type == FieldType::Number && matches!(value, Value::Text(_)) {
                    return Err(refused(Code::ValueRefused));
                }
                Decision::Set(value)
            }
        })
    }

    /// A person says that the rows that are missing were deleted on purpose: they are looked for once more, and each is dealt with.
    fn were_deleted(&self, firm: &FirmId, resource: &ResourceType, person: Option<String>) -> Result<(), Fault> {
        let poller = (firm.clone(), Side::FileMaker, resource.clone());
        let found = self.status.read().polls.get(&poller).is_some_and(|poll| poll.sweep.missing.is_some());
        let calls = self.pollers.iter().zip(&self.poller_calls).find(|(known, _)| **known == poller);
        let (_, calls) = calls.filter(|_| found).ok_or_else(|| Fault::new(Class::Permanent, Code::NoLonger))?;
        calls.were_deleted(person);
        Ok(())
    }

    /// Only what is dead can be set aside; it may have been tried again since it was shown.
    async fn set_aside(
        &self,
        keys: Vec<RecordKey>,
        aside: bool,
        untouched: &mut BTreeSet<String>,
    ) -> Result<(), Fault> {
        let mut dead = Vec::new();
        for key in keys {
            if self.shared.ledger.read(&key).await?.is_some_and(|record| record.dead.is_some()) {
                dead.push(key);
            } else {
                untouched.insert(key.to_string());
            }
        }
        if dead.is_empty() && !untouched.is_empty() {
            return Err(Fault::new(Class::Permanent, Code::NoLonger));
        }
        self.shared.ledger.set_aside(&dead, aside).await
    }

    async fn sync_now(&self, by: Option<String>) -> Result<(), Fault> {
        if self.face().phase != Phase::Running {
            return Err(Fault::new(Class::Permanent, Code::Stopping));
        }
        let totals = self.status.read().totals;
        let looks = self.watchers.posts().into_iter();
        self.pass.begin(by, totals, self.probers.iter().cloned(), self.pollers.iter().cloned(), looks)?;
        self.watchers.call_for_pass();
        // The pollers are called when it is known whether their server is there.
        self.prober_calls.iter().for_each(|prober| prober.notify_one());
        let opened = self.waiting_for_a_window().await?;
        let order = if opened.is_empty() { Order::Look } else { Order::Run(opened.clone()) };
        self.pass.expect(opened.iter().cloned());
        if self.orders.try_send(order).is_err() {
            self.pass.give_up(opened.into_iter());
        }
        Ok(())
    }

    /// Records that somebody had open: whoever presses Sync now may just have closed one. Asking costs them no attempt.
    async fn waiting_for_a_window(&self) -> Result<Vec<RecordKey>, Fault> {
        let wanted = match self.shared.ledger.page(Filter::Wanted, None, LOOKED_THROUGH).await {
            Err(fault) if fault.class == Class::Fatal => return Err(fault),
            other => other.unwrap_or_default(),
        };
        let open = |code| code == Some(Code::RecordOpen);
        let waits = wanted.into_iter().filter(|record| open(record.wanted.and_then(|wanted| wanted.waits_for)));
        Ok(waits.map(|record| record.key).collect())
    }

    /// Ends the pass that is running, if there is one, and keeps what it came to.
    pub(super) async fn finish_pass(&self) -> Result<(), Fault> {
        let Some(over) = self.pass.end() else { return Ok(()) };
        // The way in is shut again while paused: the consumer has to look.
        let _ = self.orders.try_send(Order::Look);
        let waiting = match tokio::time::timeout(FIGURES_WITHIN, self.shared.ledger.survey()).await {
            Ok(Ok(survey)) => survey.wanted,
            Ok(Err(fault)) if fault.class == Class::Fatal => return Err(fault),
            Ok(Err(_)) | Err(_) => self.publish.borrow().wanted,
        };
        let connections = &self.reconciler.connections;
        let obstacle = |(firm, side): &(FirmId, Side)| {
            let polled = over.obstacles.get(&(firm.clone(), *side)).copied();
            let code = connections.blocked_side(firm, *side).or(polled)?;
            let left = if code == Code::Throttled { connections.quiet_for(firm, *side) } else { None };
            Some(Obstacle { firm: firm.clone(), side: *side, code, left })
        };
        let mut obstacles: Vec<_> = self.probers.iter().filter_map(obstacle).collect();
        obstacles.sort_by_key(|obstacle| obstacle.side);
        let totals = self.status.read().totals;
        let finished = Finished {
            at: self.shared.clock.now(),
            sent: totals.sent() - over.totals.sent(),
            failed: totals.failed - over.totals.failed,
            waiting,
            complete: over.complete,
            obstacles,
            ehrs: over.ehrs.into_iter().map(|(firm, code)| Unwatched { firm, code }).collect(),
        };
        if let Some(manual) = self.pass.show(finished) {
            self.note(MANUAL, &manual).await?;
        }
        self.publish_snapshot().await;
        Ok(())
    }

    /// What an earlier boot was asked for and goes on: a pause that is not over, the result of the last pass, the day's journal.
    pub(super) async fn remember(&self) -> Result<(), Fault> {
        let notes = &self.shared.notes;
        if let Some(text) = notes.read(PAUSE).await? {
            match serde_json::from_str::<Pause>(&text) {
                Ok(pause) if pause.until > self.shared.clock.now() => self.shut(pause),
                Ok(_) | Err(_) => notes.write(PAUSE, None).await?,
            }
        }
        let manual = notes.read(MANUAL).await?.and_then(|text| serde_json::from_str::<Manual>(&text).ok());
        if let Some(manual) = manual.filter(|manual| !manual.is_running()) {
            self.pass.remember(manual);
        }
        self.remember_journal().await
    }

    async fn note<T: serde::Serialize>(&self, name: &str, what: &T) -> Result<(), Fault> {
        let text = serde_json::to_string(what).expect("times, names, codes and counts have a JSON form");
        self.shared.notes.write(name, Some(&text)).await
    }

    fn shut(&self, pause: Pause) {
        self.show(|face| face.pause = Some(pause));
        self.gate.turn(Gate::Open, Gate::Shut);
    }

    pub(super) async fn resume(&self) -> Result<(), Fault> {
        if self.face().pause.is_none() {
            return Ok(());
        }
        self.shared.notes.write(PAUSE, None).await?;
        self.show(|face| face.pause = None);
        // Nothing was asked for as long as the pause lasted.
        self.prove_again();
        self.gate.turn(Gate::Shut, Gate::Open);
        Ok(())
    }

    /// Resolves when the pause is over. Asked again now and then, since the wall clock may be set while we sleep.
    pub(super) fn pause_ends(&self) -> BoxFuture<'static, ()> {
        let Some(Pause { until, .. }) = self.face().pause else {
            return std::future::pending().boxed();
        };
        let clock = self.shared.clock.clone();
        async move {
            while clock.now() < until {
                let left = until.duration_since(clock.now()).unsigned_abs();
                tokio::time::sleep(left.min(Duration::from_secs(5))).await;
            }
        }
        .boxed()
    }
}
