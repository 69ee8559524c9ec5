//! The tray program while somebody is signed in: it keeps a relay running (or follows one that runs already), shows its state, and does
//! what is chosen in the menu. It holds no web view.

use std::{path::PathBuf, sync::Arc, time::Duration};

use engine::{action::Action, ports::Clock, snapshot::Snapshot};
use jiff::tz::TimeZone;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    child::Window,
    door::{self, Ask, Told},
    line::{Line, News},
    outside::Outside,
    whereabouts::{Whereabouts, trouble},
};
use crate::{
    account,
    adapters::clock::SystemClock,
    cli::{
        place::Place,
        start::{self, EndError, Running, StartError},
    },
    control::{Answer, Request},
    secrets::SecretsError,
    socket::{self, Server, SocketError},
    view::{
        desk::{Opening, Settings},
        notices::Notices,
        picture, roles,
        tray::{Face, Id, Input, Tray},
    },
};

/// The face changes by time too: its sentences say how long ago.
const TICK: Duration = Duration::from_secs(1);
/// Between attempts where waiting may help: a keychain that is not up yet, a disk that is full.
const AGAIN: Duration = Duration::from_secs(60);
/// How long an action of the menu may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the session is asked to do.
#[derive(Debug)]
pub enum Order {
    Chosen(Id),
    Asked(Ask, oneshot::Sender<Told>),
    /// The demo is over.
    End,
}

/// What the session is for.
#[derive(Debug)]
pub enum Kind {
    Desk,
    /// The synthetic clinic, which runs beside it in this process and ends when this is cancelled.
    Demo(CancellationToken),
}

#[derive(Debug)]
pub struct Session {
    outside: Outside,
    kind: Kind,
    /// The configuration that was named.
    named: Option<PathBuf>,
    whereabouts: Whereabouts,
    /// More than one if the configuration came later and led elsewhere: we are found at each.
    doors: Vec<Door>,
    say: mpsc::Sender<Order>,
    orders: mpsc::Receiver<Order>,
    line: Option<Line>,
    attempt: Option<JoinHandle<Result<Running, StartError>>>,
    /// Who waits for the attempt's end.
    waiting: Vec<oneshot::Sender<Told>>,
    again: Again,
    opening: Opening,
    last: Option<(Box<Snapshot>, Duration)>,
    hide_names: bool,
    face: Face,
    notices: Notices,
    shown: Option<Tray>,
    window: Window,
    clock: Arc<dyn Clock>,
    zone: TimeZone,
    quitting: bool,
}

/// When the next attempt is made by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    At(Duration),
    /// When the configuration's file is another one.
    Changed,
    /// When a person says so: the keychain would ask again and again.
    Asked,
}

/// The tray's own socket.
#[derive(Debug)]
struct Door {
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Door {
    fn open(server: Server, orders: mpsc::Sender<Order>) -> Self {
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(stop.clone(), move |ask: Ask| {
            let orders = orders.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                let _ = orders.send(Order::Asked(ask, answer)).await;
                socket::Reply::One(answered.await.unwrap_or(Told::Done))
            }
        }));
        Self { stop, serving }
    }

    async fn close(self) {
        self.stop.cancel();
        let _ = self.serving.await;
    }
}

enum Happened {
    Order(Order),
    News(News),
    Attempt(Result<Running, StartError>),
    WindowClosed,
    Tick,
    ToldToStop,
}

impl Session {
    pub fn new(
        outside: Outside,
        kind: Kind,
        named: Option<PathBuf>,
        whereabouts: Whereabouts,
        door: Server,
        (say, orders): (mpsc::Sender<Order>, mpsc::Receiver<Order>),
    ) -> Self {
        let hide_names = settings(&whereabouts).privacy;
        Self {
            outside,
            kind,
            window: Window::new(named.clone()),
            named,
            whereabouts,
            doors: vec![Door::open(door, say.clone())],
            say,
            orders,
            line: None,
            attempt: None,
            waiting: Vec::new(),
            again: Again::Asked,
            opening: Opening::Ready,
            last: None,
            hide_names,
            face: Face::default(),
            notices: Notices::default(),
            shown: None,
            clock: Arc::new(SystemClock::new()),
            zone: TimeZone::system(),
            quitting: false,
        }
    }

    /// Until somebody quits, signs out, or stops the relay.
    pub async fn run(mut self) {
        let mut told_to_stop = std::pin::pin!(start::asked_to_stop());
        let mut stopping = false;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.begin();
        if matches!(self.kind, Kind::Demo(_)) || !self.outside.has_tray() || self.needs_a_person() {
            self.show_window(None).await;
        }
        loop {
            let happened = tokio::select! {
                Some(order) = self.orders.recv() => Happened::Order(order),
                news = next(&mut self.line) => Happened::News(news),
                result = ended(&mut self.attempt) => Happened::Attempt(result),
                () = self.window.closed() => Happened::WindowClosed,
                () = &mut told_to_stop, if !stopping => Happened::ToldToStop,
                _ = tick.tick() => Happened::Tick,
            };
            let goes_on = match happened {
                Happened::Order(order) => self.order(order).await,
                Happened::News(news) => self.news(news),
                Happened::Attempt(result) => self.attempted(result),
                Happened::WindowClosed => true,
                Happened::Tick => self.tick(),
                Happened::ToldToStop => {
                    stopping = true;
                    self.quit()
                }
            };
            if !goes_on {
                break;
            }
            self.paint();
        }
        self.window.quit().await;
        for door in self.doors {
            door.close().await;
        }
        self.outside.exit();
    }

    fn settings(&self) -> Settings {
        settings(&self.whereabouts)
    }

    /// Nothing runs, and waiting will not help.
    fn needs_a_person(&self) -> bool {
        matches!(self.opening, Opening::Welcome { .. } | Opening::Mistakes { .. })
    }

    /// Looks at the configuration and starts what it describes, unless something runs or is about to.
    fn begin(&mut self) {
        if self.line.is_some() || self.attempt.is_some() || self.quitting {
            return;
        }
        self.face = Face::default();
        match &self.whereabouts.place {
            Err(opening) => {
                self.opening = opening.clone();
                self.again = Again::Changed;
                self.answer_waiting();
            }
            Ok(place) if matches!(self.kind, Kind::Demo(_)) => {
                self.line = Some(Line::attached(place.data.clone()));
                self.opening = Opening::Ready;
            }
            Ok(place) => {
                let (place, clock): (Place, _) = (place.clone(), self.clock.clone());
                self.outside.autostart(place.config.desk.autostart);
                self.attempt = Some(tokio::spawn(async move { start::start(&place, true, clock).await }));
            }
        }
    }

    /// The configuration is read anew; what it says may lead elsewhere.
    fn begin_again(&mut self) {
        if self.line.is_some() || self.attempt.is_some() || self.quitting {
            return;
        }
        match Whereabouts::find(self.named.as_deref()) {
            Ok(found) => {
                if found.data != self.whereabouts.data {
                    self.open_another_door(&found);
                }
                if self.whereabouts.place.is_err() {
                    self.hide_names = settings(&found).privacy;
                }
                self.whereabouts = found;
            }
            Err(error) => tracing::warn!(%error, "nowhere to work"),
        }
        self.begin();
    }

    fn open_another_door(&mut self, found: &Whereabouts) {
        match door::bind(&found.data) {
            Ok(server) => self.doors.push(Door::open(server, self.say.clone())),
            Err(error) => tracing::warn!(%error, "the tray's own socket stays where it was"),
        }
    }

    fn attempted(&mut self, result: Result<Running, StartError>) -> bool {
        self.attempt = None;
        match result {
            Ok(running) => {
                if running.key_made {
                    tracing::info!("a clinic key was made");
                    self.outside.notify(start::KEY_MADE, false);
                }
                self.line = Some(Line::own(running));
                self.opening = Opening::Ready;
            }
            Err(StartError::Socket(SocketError::AlreadyRunning)) => {
                tracing::info!("a relay runs here already; this tray shows it");
                self.line = Some(Line::attached(self.whereabouts.data.clone()));
                self.opening = Opening::Ready;
            }
            Err(error) => {
                tracing::error!(%error, "the relay does not start");
                self.again = match &error {
                    StartError::Secrets(SecretsError::Locked) => Again::Asked,
                    StartError::Key(crate::clinic_key::ClinicKeyError::Secrets(SecretsError::Locked)) => Again::Asked,
                    _ => Again::At(self.clock.elapsed() + AGAIN),
                };
                self.opening = Opening::NotRunning { sentence: cannot_start(&error) };
            }
        }
        self.answer_waiting();
        true
    }

    fn answer_waiting(&mut self) {
        for waiting in self.waiting.drain(..) {
            // The window may have been closed meanwhile.
            let _ = waiting.send(Told::Opening { opening: self.opening.clone(), icon: self.outside.has_tray() });
        }
    }

    fn news(&mut self, news: News) -> bool {
        match news {
            News::Snapshot(snapshot) => {
                self.last = Some((snapshot, self.clock.elapsed()));
                true
            }
            // Somebody asked for it: here, or with `chart-relay stop`.
            News::Ended(Ok(())) => false,
            News::Ended(Err(_)) if self.quitting => false,
            News::Ended(Err(error)) => {
                tracing::error!(%error, "the relay ended");
                self.line = None;
                self.last = None;
                self.again = Again::At(self.clock.elapsed() + AGAIN);
                let sentence = match &error {
                    EndError::NotJoined(_) => cannot_start(&error),
                    EndError::Fault { .. } | EndError::Failed => format!("The sync has stopped. {error}"),
                };
                self.opening = Opening::NotRunning { sentence };
                true
            }
        }
    }

    fn tick(&mut self) -> bool {
        let due = match self.again {
            _ if self.line.is_some() || self.attempt.is_some() => false,
            Again::At(time) => self.clock.elapsed() >= time,
            Again::Changed => Whereabouts::find(self.named.as_deref())
                .is_ok_and(|found| found.place.as_ref().err() != self.whereabouts.place.as_ref().err()),
            Again::Asked => false,
        };
        if due {
            let _ = self.say.try_send(Order::Asked(Ask::StartAgain, oneshot::channel().0));
        }
        true
    }

    async fn order(&mut self, order: Order) -> bool {
        match order {
            Order::End => return false,
            Order::Chosen(id) => return self.chosen(id).await,
            Order::Asked(ask, answer) => match ask {
                Ask::Show => {
                    self.show_window(None).await;
                    let _ = answer.send(Told::Done);
                }
                Ask::Opening | Ask::StartAgain => {
                    self.waiting.push(answer);
                    if ask == Ask::StartAgain {
                        self.begin_again();
                    }
                    if self.attempt.is_none() {
                        self.answer_waiting();
                    }
                }
                Ask::HideNames(on) => {
                    self.hide_names = on;
                    let _ = answer.send(Told::Done);
                }
            },
        }
        true
    }

    async fn chosen(&mut self, id: Id) -> bool {
        match id {
            Id::Status | Id::Pause | Id::Help => {}
            Id::Open => self.show_window(None).await,
            Id::Attention => {
                let torn = self.with_input(|input| {
                    input.last().is_some_and(|last| last.conflicts > 0 && last.conflicts == last.attention())
                });
                let place = if torn { "conflicts" } else { "queue-attention" };
                let view = matches!(self.opening, Opening::Ready).then_some(place);
                self.show_window(view).await;
            }
            Id::SyncNow => self.act(Action::SyncNow),
            Id::Resume => self.act(Action::Resume),
            Id::PauseFor(length) => match roles::pause_until(length, &self.settings(), self.clock.now(), &self.zone) {
                Ok(until) => self.act(Action::Pause { until }),
                Err(problem) => self.outside.notify(&problem.sentence, false),
            },
            Id::HideNames => {
                self.hide_names = !self.hide_names;
                // The toolkit has turned its mark already; ours decides.
                self.shown = None;
                self.window.say(if self.hide_names { "hide-names on" } else { "hide-names off" }).await;
            }
            Id::CopySummary => {
                self.outside.copy(&self.with_input(|input| picture::summary(input, env!("CARGO_PKG_VERSION"))))
            }
            Id::OpenLogs => self.outside.open(&self.whereabouts.data.join("log")),
            Id::Quit => {
                if let Some(tray) = &self.shown {
                    self.outside.notify(&tray.quit, true);
                }
                return self.quit();
            }
        }
        true
    }

    /// What runs is finished first; asked twice, it is left to the next start.
    fn quit(&mut self) -> bool {
        if std::mem::replace(&mut self.quitting, true) {
            return false;
        }
        match (&self.kind, &self.line) {
            (Kind::Demo(ends), _) => {
                ends.cancel();
                true
            }
            (Kind::Desk, Some(line)) if line.is_own() => {
                line.stop();
                true
            }
            (Kind::Desk, _) => false,
        }
    }

    fn act(&self, action: Action) {
        if let Err(problem) = roles::may(self.settings().role, &action, &self.settings(), self.clock.now(), &self.zone)
        {
            self.outside.notify(&problem.sentence, false);
            return;
        }
        let (data, outside) = (self.whereabouts.data.clone(), self.outside.clone());
        tokio::spawn(async move {
            let request = Request::Act { action, person: account::name() };
            let refused = match socket::call(&data, &request, PATIENCE).await {
                Ok(Answer::Refused(why)) => why.to_string(),
                Ok(_) => return,
                Err(error) => format!("That was not done: {error}."),
            };
            outside.notify(&refused, false);
        });
    }

    async fn show_window(&mut self, view: Option<&str>) {
        if let Err(error) = self.window.show(view, self.hide_names).await {
            tracing::error!(kind = %error.kind(), "the window does not open");
            self.outside.notify("The window could not be opened. The sync goes on. Try again, or tell IT.", false);
        }
    }

    fn paint(&mut self) {
        let elapsed = self.clock.elapsed();
        let (mut face, mut notices) = (std::mem::take(&mut self.face), std::mem::take(&mut self.notices));
        let (tray, told) = self.with_input(|input| (face.next(input, elapsed), notices.next(input, elapsed)));
        (self.face, self.notices) = (face, notices);
        for notice in told {
            self.outside.notify(&notice.text, notice.silent);
        }
        if self.shown.as_ref() != Some(&tray) {
            self.outside.show(&tray);
            self.shown = Some(tray);
        }
    }

    /// Calls with all that faces are made of.
    fn with_input<T>(&self, make: impl FnOnce(&Input<'_>) -> T) -> T {
        let elapsed = self.clock.elapsed();
        let trouble = trouble(&self.opening);
        let last = self.last.as_ref().filter(|_| self.line.is_some());
        make(&Input {
            snapshot: last.map(|(snapshot, at)| (&**snapshot, elapsed.saturating_sub(*at))),
            trouble: trouble.as_deref(),
            settings: &self.settings(),
            privacy: self.hide_names,
            attached: matches!(self.kind, Kind::Desk) && self.line.as_ref().is_some_and(|line| !line.is_own()),
            now: self.clock.now(),
            zone: &self.zone,
        })
    }
}

fn settings(whereabouts: &Whereabouts) -> Settings {
    whereabouts.place.as_ref().map_or_else(|_| Settings::default(), |place| place.config.desk)
}

async fn next(line: &mut Option<Line>) -> News {
    match line {
        Some(line) => line.next().await,
        None => std::future::pending().await,
    }
}

async fn ended(attempt: &mut Option<JoinHandle<Result<Running, StartError>>>) -> Result<Running, StartError> {
    match attempt {
        Some(attempt) => attempt.await.unwrap_or_else(|_| Err(StartError::Failed)),
        None => std::future::pending().await,
    }
}

fn cannot_start(error: &dyn std::error::Error) -> String {
    let why = error.to_string();
    let stop = if why.ends_with(['.', '?', '!', ')']) { "" } else { "." };
    format!("The sync cannot start: {why}{stop} Nothing is lost; changes wait in the chart system.")
}
