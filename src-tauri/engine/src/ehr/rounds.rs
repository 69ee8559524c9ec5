//! One type of a firm, looked at by one station at a time: who does it, and how often.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Unfinished,
    claims::Claims,
    cursor::{Cursor, Seat, earlier, later},
    documents::{Seen, Terms},
    tempo::{Heard, Tempo},
    walk::{Of, Walk},
    watcher::{FirmWatch, Post},
};
use crate::{
    error::{Class, Code, Fault},
    gate::{Gate, Passage},
    ledger::Record,
    ports::{Purpose, Wish},
    settings::WatchPlan,
};

/// Between reads of how far another station has come.
const ELSEWHERE_EVERY: Duration = Duration::from_secs(30);

/// Between looks for lives that are over.
const CLOSE_EVERY: Duration = Duration::from_secs(60);

/// What differs by less than this is a clock's rounding.
const ROUNDING: Duration = Duration::from_secs(2);

/// Why a station looks no longer.
enum End {
    /// For good.
    Closed,
    /// Others may.
    Shut,
    NotOurs,
}

/// What a complete look came to.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) news: u64,
    pub(super) requests: u64,
    /// What a look at everything would have taken; none: nothing was due.
    pub(super) whole: Option<u64>,
    pub(super) unusable: u64,
    pub(super) ahead: u64,
    /// Elapsed time when the first page was there: a look begins when it is let.
    pub(super) began: Option<Duration>,
}

/// What is kept in memory of looks that are behind us.
#[derive(Debug, Default)]
struct Before {
    /// When the last complete look began, by the EHR's clock.
    began: Option<Timestamp>,
    seen: Seen,
    /// Elapsed time.
    closed: Option<Duration>,
    claims: Claims,
}

/// How a wait for the seat ended.
enum Turn {
    /// `true`: a person's pass asks for it.
    Ours(bool),
    Closed,
}

impl FirmWatch {
    /// Looks whenever no other station does, until the gate is closed; `Err` where our own storage is at fault.
    pub(super) async fn watch(&self, post: &Post, mut gate: Passage) -> Result<(), Fault> {
        let key = self.cursor_key(post);
        let mut failures = 0;
        let mut at_once = true;
        loop {
            let asked = match self.wait_for_seat(post, &mut gate, at_once).await? {
                Turn::Ours(asked) => asked,
                Turn::Closed => return Ok(()),
            };
            at_once = false;
            let end = match Seat::take(&self.station, &key).await {
                Ok(seat) => {
                    failures = 0;
                    let end = self.stint(post, &seat, &mut gate, asked).await;
                    match seat.leave(&self.station).await {
                        Err(fault) if fault.class == Class::Fatal => return Err(fault),
                        _ => end?,
                    }
                }
                Err(Unfinished::Storage(fault) | Unfinished::Fault(fault)) if fault.class == Class::Fatal => {
                    return Err(fault);
                }
                Err(_) => {
                    failures += 1;
                    self.over_for_pass(post, asked, None);
                    let wait = self.station.settings.backoff.after(failures, &self.station.chance);
                    tokio::time::sleep(wait.min(self.station.settings.lease_term)).await;
                    End::NotOurs
                }
            };
            if matches!(end, End::Closed) {
                self.station.board.kind(&self.firm, &self.resource(post), |kind| kind.station = None);
                return Ok(());
            }
        }
    }

    /// Until the seat may be free, and the gate lets us.
    async fn wait_for_seat(&self, post: &Post, gate: &mut Passage, mut at_once: bool) -> Result<Turn, Fault> {
        let resource = self.resource(post);
        let key = self.cursor_key(post);
        let call = self.calls.get(&resource);
        let mut read: Option<Duration> = None;
        let mut before: Option<Cursor> = None;
        let mut moved = self.station.clock.elapsed();
        loop {
            let asked = if std::mem::take(&mut at_once) {
                false
            } else {
                let pass = async {
                    match call {
                        Some(call) => call.pass.notified().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = pass => self.station.pass.is_running(),
                    _ = gate.moved() => false,
                    () = self.retired() => return Ok(Turn::Closed),
                    () = tokio::time::sleep(self.station.chance.around(self.station.settings.lease_term / 3)) => false,
                }
            };
            let elapsed = self.station.clock.elapsed();
            let theirs = self.station.watch.stands(&key, elapsed);
            match gate.now() {
                Gate::Closed => return Ok(Turn::Closed),
                Gate::Shut if !asked => continue,
                Gate::Shut | Gate::Open => {}
            }
            if !theirs && self.serves.ehr.unavailable().is_none() {
                return Ok(Turn::Ours(asked));
            }
            self.over_for_pass(post, asked, self.serves.ehr.unavailable().map(|fault| fault.code).filter(|_| !theirs));
            if read.is_none_or(|read| elapsed.saturating_sub(read) >= ELSEWHERE_EVERY) {
                read = Some(elapsed);
                match self.station.ledger.read(&key).await {
                    Ok(record) => {
                        if self.show_elsewhere(post, record, &mut before) {
                            moved = elapsed;
                            self.served_elsewhere();
                        } else {
                            self.not_served(elapsed.saturating_sub(moved));
                        }
                    }
                    Err(fault) if fault.class == Class::Fatal => return Err(fault),
                    Err(_) => {}
                }
            }
        }
    }

    fn over_for_pass(&self, post: &Post, asked: bool, obstacle: Option<Code>) {
        if asked {
            self.station.pass.watched(&self.firm, &self.resource(post), obstacle);
        }
    }

    /// How far another station has come. One that only keeps its lease alive may hang, and proves nothing.
    fn show_elsewhere(&self, post: &Post, record: Option<Record>, before: &mut Option<Cursor>) -> bool {
        let Some(record) = record else { return false };
        let cursor = Cursor::parse(&record.state);
        let moved = before.as_ref().is_some_and(|before| before.complete < cursor.complete);
        let elapsed = self.station.clock.elapsed();
        let swept = self.swept_at(&cursor);
        self.station.board.kind(&self.firm, &self.resource(post), |kind| {
            kind.station = record.held.map(|held| held.owner.station);
            kind.every = ELSEWHERE_EVERY.max(self.serves.plan.slowest);
            (kind.next, kind.waits_for, kind.remark) = (None, None, None);
            kind.complete = cursor.complete;
            kind.lateness = cursor.lateness.allowance();
            (kind.swept, kind.sweep) = (swept, cursor.sweep);
            kind.listed = cursor.listed.iter().cloned().collect();
            if moved {
                kind.looked = Some(elapsed);
            }
        });
        *before = Some(cursor);
        moved
    }

    /// The elapsed time of the last sweep.
    pub(super) fn swept_at(&self, cursor: &Cursor) -> Option<Duration> {
        let ago = self.now_there().duration_since(cursor.swept?);
        let ago = Duration::try_from(ago).unwrap_or_default();
        Some(self.station.clock.elapsed().saturating_sub(ago))
    }

    /// Looks for as long as the seat is ours.
    async fn stint(&self, post: &Post, seat: &Seat, gate: &mut Passage, asked: bool) -> Result<End, Fault> {
        let documents = !matches!(post, Post::Encounters);
        tokio::select! {
            biased;
            () = seat.held.lost() => Ok(End::NotOurs),
            end = self.looks(post, seat, gate, asked) => end,
            unfinished = self.sweeps(post, seat) => ended(unfinished),
            unfinished = self.attach(seat), if documents => ended(unfinished),
        }
    }

    async fn looks(&self, post: &Post, seat: &Seat, gate: &mut Passage, mut asked: bool) -> Result<End, Fault> {
        let station = &self.station;
        let resource = self.resource(post);
        let (learned, last) = seat.with(|cursor| (cursor.learned.clone(), cursor.watermark));
        let mut tempo = Tempo::new(&self.serves, learned, last);
        let mut before = Before::default();
        let mut failures = 0;
        let mut next = station.clock.elapsed();
        let owner = station.settings.owner.station.clone();
        let swept = seat.with(|cursor| self.swept_at(cursor));
        station.board.kind(&self.firm, &resource, |kind| (kind.station, kind.swept) = (Some(owner), swept));
        loop {
            if !std::mem::take(&mut asked) {
                asked = match self.wait(post, &mut next, gate).await {
                    Some(asked) => asked,
                    None => continue,
                };
            }
            match gate.now() {
                _ if self.is_retired() => return Ok(End::Closed),
                Gate::Closed => return Ok(End::Closed),
                Gate::Shut if !asked => return Ok(End::Shut),
                Gate::Shut | Gate::Open => {}
            }
            if !seat.held.may_write() {
                return Ok(End::NotOurs);
            }
            let began = station.clock.elapsed();
            let purpose = if asked { Purpose::Person } else { Purpose::Poll };
            let result = match post {
                Post::Claims => self.check(seat, &mut before.claims, &mut before.seen, &tempo, purpose).await,
                Post::Encounters | Post::Documents(_) => self.look(post, seat, &mut before, purpose).await,
            };
            let obstacle = match &result {
                Err(Unfinished::Fault(fault) | Unfinished::Storage(fault)) => Some(fault.code),
                Ok(_) | Err(Unfinished::Busy | Unfinished::NotOurs) => None,
            };
            self.over_for_pass(post, std::mem::take(&mut asked), obstacle);
            let elapsed = station.clock.elapsed();
            let mut waits_for = None;
            match result {
                Ok(looked) => {
                    failures = 0;
                    // Where nothing was due nothing was asked.
                    if looked.requests > 0 {
                        self.answered();
                    }
                    if let Some(requests) = looked.whole {
                        tempo.looked(elapsed, Heard { now: self.now_there(), found: looked.news, requests });
                        seat.with(|cursor| cursor.learned = Some(tempo.learned().clone()));
                    }
                    let every = tempo.interval(elapsed);
                    next = match post {
                        Post::Claims => before.claims.next(self, elapsed, every),
                        _ => looked.began.unwrap_or(began) + every,
                    };
                    let limit = every.max(elapsed.saturating_sub(began));
                    self.show(post, seat, limit, &looked);
                }
                Err(Unfinished::NotOurs) => return Ok(End::NotOurs),
                Err(Unfinished::Busy) => {
                    waits_for = Some(Code::LeaseBusy);
                    next = elapsed + station.chance.around(Duration::from_secs(2));
                }
                Err(Unfinished::Storage(fault)) if fault.class == Class::Fatal => return Err(fault),
                Err(Unfinished::Storage(fault)) => {
                    failures += 1;
                    waits_for = Some(fault.code);
                    next = elapsed + self.again(failures, &fault);
                }
                Err(Unfinished::Fault(fault)) => {
                    tracing::warn!(firm = %self.firm, %resource, %fault, "the EHR could not be looked at");
                    failures += 1;
                    self.failed(&fault);
                    waits_for = Some(fault.code);
                    next = elapsed + self.again(failures, &fault);
                }
            }
            station.board.kind(&self.firm, &resource, |kind| {
                (kind.next, kind.waits_for) = (Some(next), waits_for);
                kind.remark = waits_for.filter(|code| !matches!(code, Code::Throttled | Code::LeaseBusy));
            });
        }
    }

    /// Until it is time; whether a person's pass asks. None: look at the gate once more, and wait on.
    async fn wait(&self, post: &Post, next: &mut Duration, gate: &mut Passage) -> Option<bool> {
        let clock = &self.station.clock;
        let call = self.calls.get(&self.resource(post))?;
        let news = matches!(post, Post::Claims);
        tokio::select! {
            biased;
            () = call.pass.notified() => self.station.pass.is_running().then_some(true),
            () = call.prove.notified() => {
                *next = clock.elapsed();
                None
            }
            _ = gate.moved() => {
                *next = clock.elapsed();
                Some(false)
            }
            () = self.retired() => Some(false),
            () = self.news.notified(), if news => {
                *next = clock.elapsed();
                None
            }
            () = tokio::time::sleep(next.saturating_sub(clock.elapsed())) => Some(false),
        }
    }

    /// How long an EHR or a ledger that failed is left alone.
    fn again(&self, failures: u32, fault: &Fault) -> Duration {
        let wait = self.station.settings.backoff.after(failures, &self.station.chance);
        let least = match fault.class {
            Class::Wait(least) => least.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        wait.min(self.serves.plan.slowest).max(least)
    }

    fn show(&self, post: &Post, seat: &Seat, every: Duration, looked: &Looked) {
        let elapsed = self.station.clock.elapsed();
        let (encounters, active) = self.followed.count();
        self.station.board.of(&self.firm, |board| (board.encounters, board.active) = (encounters, active));
        let cursor = seat.with(|cursor| cursor.clone());
        self.station.board.kind(&self.firm, &self.resource(post), |kind| {
            kind.every = every;
            kind.looked = Some(elapsed);
            kind.complete = cursor.complete;
            (kind.unusable, kind.ahead) = (looked.unusable, looked.ahead);
            kind.lateness = cursor.lateness.allowance();
            kind.listed = cursor.listed.into_iter().collect();
        });
    }

    /// Asks for everything of the firm that changed since the watermark, less the overlap.
    async fn look(
        &self,
        post: &Post,
        seat: &Seat,
        before: &mut Before,
        purpose: Purpose,
    ) -> Result<Looked, Unfinished> {
        let plan = &self.serves.plan;
        let age = if matches!(post, Post::Encounters) { CLOSE_EVERY * 10 } else { self.followed_age() };
        self.followed.refresh(&self.station, &self.firm, age).await?;
        let begin = earlier(self.now_there(), plan.life);
        let since = seat.with(|cursor| cursor.since(plan)).unwrap_or(begin);
        let of = match post {
            Post::Documents(resource) => Of::Documents(resource.clone(), Wish::Since(Some(since))),
            Post::Encounters | Post::Claims => Of::Encounters(Some(since)),
        };
        let mut walk = Walk::new(self, of, purpose);
        let mut looked = Looked::default();
        let mut newest = None;
        while let Some(page) = walk.next().await? {
            looked.began.get_or_insert(self.station.clock.elapsed());
            let stamps = page.encounters.iter().map(|row| row.last_updated);
            let stamps: Vec<_> = stamps.chain(page.documents.iter().filter_map(|row| row.last_updated)).collect();
            newest = newest.max(stamps.iter().copied().max());
            let time = walk.time.unwrap_or_else(|| self.now_there());
            let late = Late { since, before: before.began, time };
            if page.encounters.iter().any(|row| late.is(row.last_updated)) {
                self.note_late(seat, &late, &page.encounters).await?;
            }
            looked.news += self.follow(&page.encounters, time).await?;
            let terms = Terms { since: None, again: false, purpose };
            let unknown = late.documents(&page.documents);
            let news = self.take_in(seat, &mut before.seen, page.documents, terms).await?;
            if news > 0 {
                unknown.iter().for_each(|late| seat.with(|cursor| cursor.lateness.note(*late)));
            }
            looked.news += news;
        }
        (looked.requests, looked.unusable, looked.ahead) = (walk.requests, walk.unusable, walk.ahead);
        looked.whole = Some(walk.requests);
        // Without a clock of the EHR's, what it stamped is all there is to go by; never beyond our own.
        let time = walk.time.or(newest.map(|newest| newest.min(self.station.clock.now())));
        if !seat.held.may_write() {
            return Err(Unfinished::NotOurs);
        }
        if let Some(time) = time {
            before.began = Some(time);
            seat.with(|cursor| moved_on(cursor, plan, begin.min(earlier(time, plan.life)), time));
        }
        seat.save(&self.station, false).await?;
        let elapsed = self.station.clock.elapsed();
        let closes = before.closed.is_none_or(|closed| elapsed.saturating_sub(closed) >= CLOSE_EVERY);
        if matches!(post, Post::Encounters) && matches!(self.manners.reach, crate::ports::Reach::Firm) && closes {
            before.closed = Some(elapsed);
            self.close(time.unwrap_or_else(|| self.now_there())).await?;
        }
        Ok(looked)
    }

    /// How old a copy of the followed encounters may be: where this station looks at encounters itself, it hears of each.
    pub(super) fn followed_age(&self) -> Duration {
        let owner = &self.station.settings.owner.station;
        let ours = self
            .station
            .board
            .kind(&self.firm, &super::watcher::encounter(), |kind| kind.station.as_ref() == Some(owner));
        if ours == Some(true) { CLOSE_EVERY * 10 } else { Duration::from_secs(15) }
    }

    /// Rows that were stamped before the last look began, and that nobody knew.
    async fn note_late(&self, seat: &Seat, late: &Late, rows: &[crate::ports::Encounter]) -> Result<(), Unfinished> {
        for row in rows.iter().filter(|row| late.is(row.last_updated)) {
            if self.followed.version_of(&row.id).as_ref() == Some(&row.version) {
                continue;
            }
            let record = self.station.ledger.read(&self.encounter_key(row)).await.map_err(Unfinished::Storage)?;
            let known = record.and_then(|record| super::EncounterWatch::parse(&record.state));
            if known.is_none_or(|known| super::encounters::is_news(&known, row)) {
                seat.with(|cursor| cursor.lateness.note(late.by(row.last_updated)));
            }
        }
        Ok(())
    }
}

/// Whether a row was there too late for the look before.
#[derive(Debug, Clone, Copy)]
struct Late {
    since: Timestamp,
    before: Option<Timestamp>,
    time: Timestamp,
}

impl Late {
    fn is(&self, stamp: Timestamp) -> bool {
        stamp >= self.since && self.before.is_some_and(|before| later(stamp, ROUNDING) < before)
    }

    /// By at least so much, and a minute if nobody has looked for long.
    fn by(&self, stamp: Timestamp) -> Duration {
        let least = self.before.map_or(Duration::ZERO, |before| between(stamp, before));
        between(stamp, self.time).min(least + Duration::from_secs(60))
    }

    fn documents(&self, rows: &[crate::ports::Document]) -> Vec<Duration> {
        let stamps = rows.iter().filter_map(|row| row.last_updated);
        stamps.filter(|stamp| self.is(*stamp)).map(|stamp| self.by(stamp)).collect()
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A complete look began at `time`. The watermark stays behind it, and never runs ahead of a clock that was set back.
fn moved_on(cursor: &mut Cursor, plan: &WatchPlan, begun: Timestamp, time: Timestamp) {
    let settled = earlier(time, cursor.settle(plan));
    if cursor.complete.is_some_and(|complete| later(complete, plan.overlap) < settled) {
        // Nobody has looked for long. What that was is compared soon.
        cursor.swept = None;
    }
    cursor.begun.get_or_insert(begun);
    cursor.watermark = Some(settled);
    cursor.complete = Some(settled);
}

fn ended(unfinished: Unfinished) -> Result<End, Fault> {
    match unfinished {
        Unfinished::Storage(fault) if fault.class == Class::Fatal => Err(fault),
        _ => Ok(End::NotOurs),
    }
}
