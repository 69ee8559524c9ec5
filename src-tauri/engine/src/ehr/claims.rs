//! EHRs that list documents of an encounter or of a patient only: encounters that are due are claimed in batches, and each is asked
//! about.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use jiff::Timestamp;

use super::{
    Unfinished,
    cursor::{Seat, earlier, later},
    documents::{Seen, Terms},
    records::{EncounterWatch, Life, Why},
    rounds::Looked,
    tempo::Tempo,
    walk::{Of, Walk},
    watcher::{FirmWatch, encounter},
};
use crate::{
    error::{Class, Code},
    key::{Kind, RecordKey, ResourceId},
    lease::HeldLease,
    ledger::{Claim, Commit, Finish, LedgerError, Take},
    ports::{Document, Purpose, Reach, Wish},
};

/// Where an encounter is no longer going on, documents of it are so much rarer.
pub(super) const AFTER: u32 = 4;

/// What has just had a document is likely to have another.
const JUST_FOUND: Duration = Duration::from_secs(5 * 60);

/// Between looks for what is due, where another station hears of new encounters first.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is known between rounds.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Something was left that is due.
    more: bool,
}

impl Claims {
    /// When to look for what is due again.
    pub(super) fn next(&self, watch: &FirmWatch, elapsed: Duration, every: Duration) -> Duration {
        if self.more {
            return elapsed + watch.serves.plan.fastest;
        }
        elapsed + every.min(LOOK_EVERY).max(watch.serves.plan.fastest)
    }
}

/// An encounter that this station asks about just now.
#[derive(Debug)]
struct Claimed {
    held: Arc<HeldLease>,
    watch: EncounterWatch,
    generation: u64,
    first_seen: Timestamp,
}

impl FirmWatch {
    /// Asks about the encounters that are due.
    pub(super) async fn check(
        &self,
        seat: &Seat,
        claims: &mut Claims,
        seen: &mut Seen,
        tempo: &Tempo,
        purpose: Purpose,
    ) -> Result<Looked, Unfinished> {
        self.followed.refresh(&self.station, &self.firm, self.followed_age()).await?;
        let plan = &self.serves.plan;
        let mut all = plan.batch.max(1) * plan.workers.max(1);
        if purpose != Purpose::Person {
            // No more than the quota allows soon: what becomes due meanwhile would wait for all of them.
            all = all.min(tempo.soon().max(plan.workers.max(1)));
        }
        let keys: Vec<_> = if purpose == Purpose::Person {
            let going_on = self.followed.all().into_iter().filter(|(_, watch)| watch.life == Life::Active);
            going_on.take(all).map(|(id, _)| RecordKey::encounter(self.firm.clone(), id)).collect()
        } else {
            let now = self.station.clock.now();
            let due = self.station.ledger.due(&self.firm, &[Kind::Encounter], now, self.horizon(), all).await;
            due.map_err(Unfinished::Storage)?.into_iter().map(|(key, _)| key).collect()
        };
        claims.more = keys.len() == all;
        let every = tempo.interval(self.station.clock.elapsed());
        let share = keys.len().div_ceil(plan.workers.max(1)).clamp(1, plan.batch.max(1));
        let shared = Mutex::new(std::mem::take(seen));
        let mut workers = Vec::new();
        for batch in keys.chunks(share) {
            workers.push(self.work_off(seat, &shared, batch.to_vec(), every, purpose).boxed());
        }
        let done = join_all(workers).await;
        *seen = shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut looked = Looked::default();
        let asked = keys.len() as f64;
        for one in done {
            let one = one?;
            looked.news += one.news;
            looked.requests += one.requests;
            looked.unusable += one.unusable;
            looked.ahead += one.ahead;
        }
        // Those that are not going on any more are asked about more seldom: they count for less.
        let (all, active) = self.followed.count();
        let round = active as f64 + (all - active) as f64 / f64::from(AFTER);
        looked.whole = (asked > 0.0).then(|| (looked.requests as f64 / asked * round).ceil() as u64);
        self.state_how_far(seat);
        seat.save(&self.station, false).await?;
        Ok(looked)
    }

    /// Everything of what is followed has been seen that was stamped before the oldest of their looks began.
    fn state_how_far(&self, seat: &Seat) {
        let encounters = self.station.board.kind(&self.firm, &encounter(), |kind| kind.complete).flatten();
        let followed = self.followed.all();
        let looks = followed.values().map(|watch| watch.checked.unwrap_or(watch.first_seen));
        let oldest = looks.min();
        seat.with(|cursor| {
            let settled = oldest.map(|oldest| earlier(oldest, cursor.settle(&self.serves.plan)));
            let Some(complete) = [encounters, settled].into_iter().flatten().min().filter(|_| encounters.is_some())
            else {
                return;
            };
            cursor.begun.get_or_insert(earlier(complete, self.serves.plan.life));
            // What is followed only now was not covered before: a statement once made is not taken back for it.
            cursor.complete = cursor.complete.max(Some(complete));
            cursor.watermark = cursor.complete;
        });
    }

    /// One claim: taken together, asked about, and freed one by one with the time of the next look.
    async fn work_off(
        &self,
        seat: &Seat,
        seen: &Mutex<Seen>,
        batch: Vec<RecordKey>,
        every: Duration,
        purpose: Purpose,
    ) -> Result<Looked, Unfinished> {
        let mut claimed = Vec::new();
        for key in batch {
            claimed.extend(self.claim(&key).await?);
        }
        let mut looked = Looked::default();
        let mut failed: Option<Unfinished> = None;
        for group in self.groups(claimed) {
            if failed.is_some() {
                self.free(group, None, every, Some(Code::NotAnswering)).await?;
                continue;
            }
            match self.search(seat, seen, &group, purpose).await {
                Ok((one, time)) => {
                    let found = (one.news > 0).then_some(time);
                    self.free(group, Some((time, found)), every, None).await?;
                    looked.news += one.news;
                    looked.requests += one.requests;
                    looked.unusable += one.unusable;
                    looked.ahead += one.ahead;
                }
                // What is the matter with one patient is not the matter with the others.
                Err(Unfinished::Fault(fault)) if fault.class == Class::Permanent => {
                    tracing::warn!(firm = %self.firm, %fault, encounters = group.len(), "their documents cannot be asked for");
                    looked.unusable += group.len() as u64;
                    self.free(group, None, every, Some(fault.code)).await?;
                }
                Err(unfinished) => {
                    let code = match &unfinished {
                        Unfinished::Fault(fault) | Unfinished::Storage(fault) => Some(fault.code),
                        Unfinished::Busy | Unfinished::NotOurs => Some(Code::LeaseBusy),
                    };
                    self.free(group, None, every, code).await?;
                    failed = Some(unfinished);
                }
            }
        }
        failed.map_or(Ok(looked), Err)
    }

    /// None where there is nothing to ask about, or another station has it.
    async fn claim(&self, key: &RecordKey) -> Result<Option<Claimed>, Unfinished> {
        let station = &self.station;
        let (asked, now) = (station.clock.elapsed(), station.clock.now());
        let claim = Claim {
            owner: station.settings.owner.clone(),
            // Leases are renewed at a third of the station's own term.
            term: self.serves.plan.term.max(station.settings.lease_term),
            overdue: station.watch.overdue(key, asked),
            now,
        };
        let (record, lease) = match station.ledger.take(key, &claim).await.map_err(Unfinished::Storage)? {
            Take::Taken(record, lease) => (record, lease),
            Take::Busy(held) => {
                station.watch.observe(key, &held, station.clock.elapsed());
                return Ok(None);
            }
        };
        station.watch.forget(key);
        let held = station.keeper.hold(lease, asked);
        let (generation, first_seen) = (record.generation, record.wanted.map_or(now, |wanted| wanted.first_seen));
        let there = self.there();
        let watch = EncounterWatch::parse(&record.state);
        let state = match watch {
            Some(mut watch) if !watch.life.is_over() => {
                // Before the EHR has told its time nothing is known to be over.
                let Some(time) = there.filter(|time| self.left(&watch, *time).is_zero()) else {
                    return Ok(Some(Claimed { held, watch, generation, first_seen }));
                };
                watch.life = Life::Ended { why: Why::Quiet, at: time };
                self.followed.note(key.id.clone(), watch.clone());
                watch.write()
            }
            _ => record.state,
        };
        let commit = Commit { state, finish: Finish::Done, notice: None, generation, first_seen, now };
        self.let_go(&held, commit).await?;
        Ok(None)
    }

    async fn let_go(&self, held: &HeldLease, commit: Commit) -> Result<(), Unfinished> {
        self.station.keeper.let_go(held);
        match self.station.ledger.commit(&held.lease, commit).await {
            // Somebody has taken it over, and does the same.
            Ok(_) | Err(LedgerError::Lost) => Ok(()),
            Err(LedgerError::Fault(fault)) => Err(Unfinished::Storage(fault)),
        }
    }

    /// Those that one search can be about.
    fn groups(&self, claimed: Vec<Claimed>) -> Vec<Vec<Claimed>> {
        match self.manners.reach {
            Reach::Encounters(most) => {
                let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
                let mut groups: Vec<Vec<Claimed>> = Vec::new();
                for one in claimed {
                    match groups.last_mut().filter(|group| group.len() < most) {
                        Some(group) => group.push(one),
                        None => groups.push(vec![one]),
                    }
                }
                groups
            }
            Reach::Firm | Reach::Patient => {
                let mut of: BTreeMap<Option<ResourceId>, Vec<Claimed>> = BTreeMap::new();
                for one in claimed {
                    of.entry(one.watch.patient.clone()).or_default().push(one);
                }
                of.into_values().collect()
            }
        }
    }

    async fn search(
        &self,
        seat: &Seat,
        seen: &Mutex<Seen>,
        group: &[Claimed],
        purpose: Purpose,
    ) -> Result<(Looked, Timestamp), Unfinished> {
        let mut looked = Looked::default();
        let wish = match self.manners.reach {
            Reach::Encounters(_) => Wish::OfEncounters(group.iter().map(|one| one.held.lease.key.id.clone()).collect()),
            Reach::Firm | Reach::Patient => match group.first().and_then(|one| one.watch.patient.clone()) {
                Some(patient) => Wish::OfPatient(patient),
                // Nobody can be asked about it.
                None => return Ok((looked, self.now_there())),
            },
        };
        let begun = group.iter().map(|one| earlier(one.watch.first_seen, self.serves.plan.life)).min();
        let mut time = None;
        for resource in &self.manners.documents {
            let mut walk = Walk::new(self, Of::Documents(resource.clone(), wish.clone()), purpose);
            while let Some(page) = walk.next().await? {
                if group.iter().all(|one| !one.held.may_write()) {
                    return Err(Unfinished::NotOurs);
                }
                let terms = Terms { since: begun, again: false, purpose };
                looked.news += self.take_in_shared(seat, seen, page.documents, terms).await?;
            }
            time = time.min(walk.time).or(walk.time);
            looked.requests += walk.requests;
            looked.unusable += walk.unusable;
            looked.ahead += walk.ahead;
        }
        Ok((looked, time.unwrap_or_else(|| self.now_there())))
    }

    async fn take_in_shared(
        &self,
        seat: &Seat,
        seen: &Mutex<Seen>,
        rows: Vec<Document>,
        terms: Terms,
    ) -> Result<u64, Unfinished> {
        let lock = || seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let rows = lock().unknown(self, rows);
        let mut fresh = Seen::default();
        let news = self.take_in(seat, &mut fresh, rows, terms).await?;
        lock().merge(fresh);
        Ok(news)
    }

    /// Frees what was asked about. `looked`: when that began, and when something was found; none: it was not asked.
    async fn free(
        &self,
        group: Vec<Claimed>,
        looked: Option<(Timestamp, Option<Timestamp>)>,
        every: Duration,
        waits_for: Option<Code>,
    ) -> Result<(), Unfinished> {
        let now = self.station.clock.now();
        for Claimed { held, mut watch, generation, first_seen } in group {
            let mut wait = self.pace_of(&watch, every);
            if let Some((time, found)) = looked {
                watch.checked = Some(time);
                watch.found = found.or(watch.found);
                self.followed.note(held.lease.key.id.clone(), watch.clone());
            } else {
                wait = wait.min(self.station.chance.around(Duration::from_secs(10)));
            }
            let finish = Finish::Later { not_before: later(now, wait), waits_for, attempt: false };
            let commit = Commit { state: watch.write(), finish, notice: None, generation, first_seen, now };
            self.let_go(&held, commit).await?;
        }
        Ok(())
    }

    /// Until an encounter is asked about again.
    fn pace_of(&self, watch: &EncounterWatch, every: Duration) -> Duration {
        let plan = &self.serves.plan;
        let just_found = watch.found.is_some_and(|found| later(found, JUST_FOUND) > self.now_there());
        let times = match watch.life {
            Life::Active => 1,
            Life::After if just_found => 1,
            Life::After | Life::Ended { .. } => AFTER,
        };
        every.clamp(plan.fastest, plan.slowest.max(plan.fastest)) * times
    }
}
