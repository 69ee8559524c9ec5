//! The window's process as a client of the relay: what it has heard, what it may pass on, and what it asks for. It holds no truth of its
//! own and keeps nothing.

mod both_sides;
mod locking;
mod redrive;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use engine::{
    action::{Action, AsideReason},
    audit::{Found, Search},
    key::RecordKey,
    ledger::{Filter, Record},
    ports::Clock,
    snapshot::Snapshot,
};
use jiff::tz::TimeZone;
use tokio::sync::Notify;

use super::{
    door::{self, Ask, Told},
    lock::Lock,
    whereabouts::{Whereabouts, trouble},
};
use crate::{
    account,
    adapters::clock::SystemClock,
    control::{About, Answer, Request},
    redrive::Plan,
    socket::{self, SocketError},
    stations::Seen,
    view::{
        audit::{self, Audit, AuditQuery, Chain, Revealed},
        desk::{Desk, Opening, PauseFor, Problem, Right, Settings, Station},
        face::Input,
        history::{self, History, HistoryQuery},
        locks::{self, Locks},
        names::{Context, Names},
        overview::Day,
        picture::{self, Picture},
        queue::{self, Queue},
        roles,
        watching::{self, Watching},
    },
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The whole audit log is read.
const VERIFY_PATIENCE: Duration = Duration::from_secs(300);
/// Before a relay that does not answer is looked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the first picture is waited for before the page is told that there is one to come.
const FIRST_PICTURE: Duration = Duration::from_secs(2);
/// Lines of a list.
const LISTED: usize = 200;
/// Between questions who else takes part, as long as a window is open.
const STATIONS_EVERY: Duration = Duration::from_secs(15);
/// Names that are asked for at once: a request has its bounds.
const NAMED: usize = 100;
/// Tokens of clicks that are remembered.
const TOKENS: usize = 256;

#[derive(Debug)]
pub struct Client {
    /// The configuration that was named.
    named: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    zone: TimeZone,
    person: String,
    state: Mutex<State>,
    /// What was heard has changed.
    changed: Notify,
    /// A person did something in the window that it shows at once.
    at_once: Notify,
    /// Whether the page has asked for the opening before.
    asked: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Where the relay is, once the configuration could be read.
    data: Option<PathBuf>,
    station: String,
    settings: Settings,
    hide_names: Option<bool>,
    tray: bool,
    /// Why nothing runs, as the tray says it.
    trouble: Option<String>,
    about: Option<About>,
    names: Names,
    /// Who takes part, and when (elapsed) that was asked.
    stations: (Vec<Seen>, Option<Duration>),
    last: Option<(Box<Snapshot>, Duration)>,
    picture: Picture,
    chain: Option<Chain>,
    tokens: VecDeque<String>,
    /// The redrive that was last shown.
    plan: Option<Plan>,
    lock: Lock,
}

impl Client {
    pub fn new(named: Option<PathBuf>, hide_names: Option<bool>) -> Self {
        Self::with(named, hide_names, Arc::new(SystemClock::new()))
    }

    pub fn with(named: Option<PathBuf>, hide_names: Option<bool>, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            data: None,
            station: String::new(),
            settings: Settings::default(),
            hide_names,
            tray: false,
            trouble: None,
            about: None,
            names: Names::default(),
            stations: (Vec::new(), None),
            last: None,
            picture: Picture::default(),
            chain: None,
            tokens: VecDeque::new(),
            plan: None,
            lock: Lock::new(false, clock.elapsed()),
        };
        Self {
            named,
            clock,
            zone: TimeZone::system(),
            person: account::name().unwrap_or_default(),
            state: Mutex::new(state),
            changed: Notify::new(),
            at_once: Notify::new(),
            asked: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the configuration, which may have been written or mended meanwhile.
    fn look(&self) -> Option<Whereabouts> {
        let found = Whereabouts::find(self.named.as_deref()).ok()?;
        let mut state = self.state();
        match &found.place {
            Ok(place) => {
                state.data = Some(place.data.clone());
                state.station = place.config.station.id.to_string();
                state.settings = place.config.desk;
            }
            Err(_) => state.data = None,
        }
        Some(found)
    }

    /// With a PIN the window opens locked: whoever can reach the icon could open it.
    pub fn lock_at_first(&self) {
        self.look();
        if self.has_pin() {
            self.lock();
        }
    }

    /// Follows the relay for as long as the window is there.
    pub async fn follow(&self) {
        loop {
            if let Some(found) = self.look() {
                let told = door::call(&found.data, &Ask::Opening).await;
                {
                    let mut state = self.state();
                    state.tray = matches!(told, Ok(Told::Opening { icon: true, .. }));
                    state.trouble = match told {
                        Ok(Told::Opening { opening, .. }) => trouble(&opening),
                        _ => None,
                    };
                }
                self.changed.notify_waiters();
                if found.place.is_ok() {
                    self.hear(found.data).await;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Until the relay says no more.
    async fn hear(&self, data: PathBuf) {
        let Ok(mut watch) = socket::watch(&data, &Request::Watch).await else { return };
        let Ok(Answer::About(about)) = self.call(&Request::About).await else { return };
        self.state().about = Some(about);
        while let Some(Ok(Answer::Snapshot(snapshot))) = watch.next().await {
            self.learn(snapshot.recent.iter().map(|event| &event.key)).await;
            self.look_for_stations().await;
            let mut state = self.state();
            state.last = Some((snapshot, self.clock.elapsed()));
            state.trouble = None;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Asks now and then who else takes part. Without an answer it is who it was.
    async fn look_for_stations(&self) {
        let elapsed = self.clock.elapsed();
        {
            let mut state = self.state();
            let due = state.stations.1.is_none_or(|asked| elapsed.saturating_sub(asked) >= STATIONS_EVERY);
            if !due || !state.about.as_ref().is_some_and(|about| about.shared) {
                return;
            }
            state.stations.1 = Some(elapsed);
        }
        if let Ok(Answer::Stations(stations)) = self.call(&Request::Stations).await {
            self.state().stations.0 = stations;
        }
    }

    /// Asks what records are called, where that is not known yet. Without an answer they are called by their kind.
    pub async fn learn<'a>(&self, keys: impl IntoIterator<Item = &'a RecordKey>) {
        let keys = self.state().names.missing(keys);
        for some in keys.chunks(NAMED) {
            let Ok(Answer::Names(tags)) = self.call(&Request::Names { keys: some.to_vec() }).await else { return };
            self.state().names.learn(tags);
        }
    }

    /// How many of these have no name yet.
    #[cfg(test)]
    pub fn unknown(&self, keys: &[RecordKey]) -> usize {
        self.state().names.missing(keys).len()
    }

    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub async fn at_once(&self) {
        self.at_once.notified().await;
    }

    async fn call(&self, request: &Request) -> Result<Answer, Problem> {
        self.call_for(request, PATIENCE).await
    }

    async fn call_for(&self, request: &Request, patience: Duration) -> Result<Answer, Problem> {
        let data = self.state().data.clone().ok_or_else(nobody)?;
        match socket::call(&data, request, patience).await {
            Ok(Answer::Refused(refusal)) => {
                Err(Problem { sentence: refusal.sentence, code: refusal.code.map(|code| code.to_string()) })
            }
            Ok(answer) => Ok(answer),
            Err(SocketError::NobodyListens) => Err(nobody()),
            Err(error) => Err(Problem::new(format!("The sync did not answer: {error}. Nothing was lost. Try again."))),
        }
    }

    // What the page asks.

    /// What there is to show. Asked again, it has the tray try to start.
    pub async fn opening(&self) -> Opening {
        if self.state().lock.is_locked() {
            return Opening::Locked { pin: self.has_pin() };
        }
        if self.has_picture() {
            return Opening::Ready;
        }
        let ask = if self.asked.swap(true, Ordering::Relaxed) { Ask::StartAgain } else { Ask::Opening };
        let Some(found) = self.look() else { return not_running() };
        let opening = match (door::call(&found.data, &ask).await, found.place) {
            (Ok(Told::Opening { opening, .. }), _) => opening,
            (_, Err(opening)) => opening,
            // Nobody shows an icon; perhaps a relay runs without one.
            (_, Ok(place)) => match socket::call::<_, Answer>(&place.data, &Request::About, PATIENCE).await {
                Ok(_) => Opening::Ready,
                Err(SocketError::NobodyListens) => not_running(),
                Err(error) => Opening::NotRunning { sentence: format!("The sync does not answer: {error}.") },
            },
        };
        if opening == Opening::Ready {
            let first = async {
                loop {
                    // Before the look, so that nothing falls between.
                    let changed = self.changed.notified();
                    if self.has_picture() {
                        break;
                    }
                    changed.await;
                }
            };
            let _ = tokio::time::timeout(FIRST_PICTURE, first).await;
        }
        opening
    }

    fn has_picture(&self) -> bool {
        let state = self.state();
        state.about.is_some() && state.last.is_some()
    }

    pub fn desk(&self) -> Option<Desk> {
        let pin = self.has_pin();
        self.with_input(|input, context, state| {
            let mut station = Station::new(input.settings, state.station.to_owned(), self.person.clone());
            station.privacy = input.privacy;
            station.pin = pin;
            station.demo = context.about.demo;
            station.tray = state.tray;
            state.picture.desk(input, station, context, self.clock.elapsed())
        })
        .flatten()
    }

    /// Calls with everything that a picture is made of; `None` as long as the relay has not said who it is.
    fn with_input<T>(&self, make: impl FnOnce(&Input<'_>, &Context<'_>, &mut Rest<'_>) -> T) -> Option<T> {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let mut state = self.state();
        let State {
            settings, hide_names, trouble, about, names, stations, last, picture, station, tray, chain, ..
        } = &mut *state;
        let about = about.as_ref()?;
        let input = Input {
            snapshot: last.as_ref().map(|(snapshot, at)| (&**snapshot, elapsed.saturating_sub(*at))),
            trouble: trouble.as_deref(),
            settings,
            privacy: hide_names.unwrap_or(settings.privacy),
            attached: false,
            now,
            zone: &self.zone,
        };
        let context = Context { about, names, stations: &stations.0, role: settings.role, now, zone: &self.zone };
        Some(make(&input, &context, &mut Rest { picture, station, tray: *tray, chain }))
    }

    fn list<T>(&self, make: impl FnOnce(&Input<'_>, &Context<'_>, &mut Rest<'_>) -> T) -> Result<T, Problem> {
        self.with_input(make).ok_or_else(nobody)
    }

    pub fn day(&self) -> Result<Day, Problem> {
        self.list(|input, context, _| {
            input.last().map(|last| picture::day(&last.journal, context.now, context.zone)).ok_or_else(nobody)
        })?
    }

    pub fn summary(&self) -> Result<String, Problem> {
        self.list(|input, _, _| picture::summary(input, env!("CARGO_PKG_VERSION")))
    }

    async fn records(&self, filter: Filter) -> Result<(Vec<Record>, u64), Problem> {
        match self.call(&Request::Records { filter, after: None, limit: LISTED }).await? {
            Answer::Records { records, total } => {
                let more = total.saturating_sub(records.len() as u64);
                Ok((records, more))
            }
            _ => Err(not_understood()),
        }
    }

    pub async fn queue(&self) -> Result<Queue, Problem> {
        let (wanted, more_wanted) = self.records(Filter::Wanted).await?;
        let (dead, more_dead) = self.records(Filter::Dead).await?;
        let Answer::DeadLetters { letters, more } = self.call(&Request::DeadLetters { limit: LISTED }).await? else {
            return Err(not_understood());
        };
        self.learn(wanted.iter().chain(&dead).map(|record| &record.key)).await;
        let listed = queue::Listed { wanted, dead, letters, more: more_wanted + more_dead + u64::from(more) };
        self.list(|input, context, _| queue::queue(&listed, input.live(), context))
    }

    pub async fn locks(&self) -> Result<Locks, Problem> {
        let (held, more) = self.records(Filter::Held).await?;
        let (waiting, _) = self.records(Filter::Wanted).await?;
        self.learn(held.iter().chain(&waiting).map(|record| &record.key)).await;
        let listed = locks::Listed { held, waiting, more };
        self.list(|input, context, _| locks::locks(&listed, input.live(), context))
    }

    pub async fn watching(&self) -> Result<Watching, Problem> {
        let asked = Request::Watched { limit: LISTED };
        let Answer::Watched(watched) = self.call(&asked).await? else { return Err(not_understood()) };
        self.learn(watched.iter().map(|watched| &watched.key)).await;
        self.list(|input, context, _| watching::watching(&watched, input.live(), context))
    }

    async fn found(&self, search: Search) -> Result<Found, Problem> {
        let Answer::Found(found) = self.call(&Request::Search(search)).await? else { return Err(not_understood()) };
        self.learn(found.entries.iter().filter_map(|entry| entry.begun.key.as_ref())).await;
        Ok(found)
    }

    pub async fn history(&self, query: &HistoryQuery) -> Result<History, Problem> {
        let found = self.found(history::search(query)?).await?;
        let shared = self.state().about.as_ref().is_some_and(|about| about.shared);
        let key = query.record.as_deref().and_then(RecordKey::parse).filter(|_| shared);
        let wrote = match key {
            Some(key) => match self.call(&Request::LastWrite { key }).await {
                Ok(Answer::LastWrite(wrote)) => wrote,
                _ => None,
            },
            None => None,
        };
        self.list(|_, context, _| history::history(&found, wrote.as_ref(), context))
    }

    pub async fn audit(&self, query: &AuditQuery) -> Result<Audit, Problem> {
        let found = self.found(audit::search(query)?).await?;
        self.list(|_, context, rest| audit::audit(&found, rest.chain.clone(), context))
    }

    pub async fn verify_audit(&self) -> Result<Chain, Problem> {
        self.entitled(Right::VerifyAudit)?;
        let Answer::Audit { entries, findings } = self.call_for(&Request::VerifyAudit, VERIFY_PATIENCE).await? else {
            return Err(not_understood());
        };
        let chain = audit::chain(entries, findings, self.clock.now(), &self.zone);
        self.state().chain = Some(chain.clone());
        Ok(chain)
    }

    // What a person may do.

    pub fn entitled(&self, right: Right) -> Result<(), Problem> {
        let role = self.state().settings.role;
        roles::entitled(role, right)
    }

    async fn act(&self, action: Action) -> Result<(), Problem> {
        self.act_for(action, PATIENCE).await
    }

    async fn act_for(&self, action: Action, patience: Duration) -> Result<(), Problem> {
        let settings = self.state().settings;
        roles::may(settings.role, &action, &settings, self.clock.now(), &self.zone)?;
        self.call_for(&Request::Act { action, person: account::name() }, patience).await.map(drop)
    }

    /// Whether this click has not come before.
    fn is_first(&self, token: String) -> bool {
        let mut state = self.state();
        if state.tokens.contains(&token) {
            return false;
        }
        state.tokens.push_back(token);
        if state.tokens.len() > TOKENS {
            state.tokens.pop_front();
        }
        true
    }

    pub async fn sync_now(&self) -> Result<(), Problem> {
        self.act(Action::SyncNow).await
    }

    pub async fn pause(&self, length: PauseFor) -> Result<(), Problem> {
        let settings = self.state().settings;
        self.entitled(Right::Pause)?;
        let until = roles::pause_until(length, &settings, self.clock.now(), &self.zone)?;
        self.act(Action::Pause { until }).await
    }

    pub async fn resume(&self) -> Result<(), Problem> {
        self.act(Action::Resume).await
    }

    /// The same token again does nothing.
    pub async fn retry(&self, keys: &[String], token: String) -> Result<(), Problem> {
        let keys = record_keys(keys)?;
        if !self.is_first(token) {
            return Ok(());
        }
        self.act(Action::Retry { keys }).await
    }

    pub async fn set_aside(&self, keys: &[String], reason: AsideReason) -> Result<(), Problem> {
        let keys = record_keys(keys)?;
        self.act(Action::SetAside { keys, reason }).await
    }

    pub async fn put_back(&self, keys: &[String]) -> Result<(), Problem> {
        let keys = record_keys(keys)?;
        self.act(Action::PutBack { keys }).await
    }

    pub async fn drop_letters(&self, ids: Vec<String>) -> Result<(), Problem> {
        self.act(Action::DropLetters { ids }).await
    }

    pub async fn reveal(&self, keys: &[String]) -> Result<Vec<Revealed>, Problem> {
        self.entitled(Right::Reveal)?;
        let keys = record_keys(keys)?;
        match self.call(&Request::Reveal { keys, person: account::name() }).await? {
            Answer::Revealed(revealed) => Ok(revealed.into_iter().map(audit::revealed).collect()),
            _ => Err(not_understood()),
        }
    }

    /// Until the tray program ends; then the configuration decides again.
    pub async fn set_privacy(&self, on: bool) -> Result<(), Problem> {
        if !on {
            self.entitled(Right::Reveal)?;
        }
        self.hide_names(on);
        // The tray's menu shows the same; without a tray this window alone does.
        if let Some(data) = self.look().map(|found| found.data) {
            let _ = door::call(&data, &Ask::HideNames(on)).await;
        }
        Ok(())
    }

    pub fn hide_names(&self, on: bool) {
        self.state().hide_names = Some(on);
        self.at_once.notify_one();
    }

    /// Where the logs are.
    pub fn logs(&self) -> Option<PathBuf> {
        self.look().map(|found| found.data.join("log"))
    }
}

/// What of the state a picture changes or repeats.
struct Rest<'a> {
    picture: &'a mut Picture,
    station: &'a str,
    tray: bool,
    chain: &'a Option<Chain>,
}

fn record_keys(keys: &[String]) -> Result<Vec<RecordKey>, Problem> {
    let known = |key: &String| RecordKey::parse(key);
    let parsed: Option<Vec<_>> = keys.iter().map(known).collect();
    parsed
        .filter(|keys| !keys.is_empty())
        .ok_or_else(|| Problem::new("Nothing that is known here was chosen. Nothing was done."))
}

fn nobody() -> Problem {
    Problem::new("The sync does not answer just now. Nothing was lost. Try again in a moment.")
}

fn not_understood() -> Problem {
    Problem::new("The sync and this window are of different versions. Close the window and start Chart Relay again.")
}

fn not_running() -> Opening {
    Opening::NotRunning {
        sentence: "Chart Relay does not run on this PC just now. Nothing is lost; changes wait in the chart system. \
                   Start Chart Relay from the list of programs."
            .to_owned(),
    }
}
