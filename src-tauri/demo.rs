//! The demo: synthetic clinics on this machine, with real HTTP servers. In one scenario a FHIR server and a FileMaker server, patients,
//! forms, measurements and notes arriving at a lively pace, and mishaps; in the other, EHRs that announce nothing. Everything goes through
//! the real clients, queue, ledger and audit log; the database and the secrets are thrown away at the end, and no keychain is touched.

#![allow(clippy::disallowed_methods, reason = "the people of the demo live by the machine's clock")]

mod clinic;
mod mishaps;
mod practice;
mod show;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use engine::{keys::ClinicKey, ports::Clock, snapshot::Snapshot};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::show::Screen;
use crate::{
    adapters::{clock::SystemClock, secrets::Memory},
    cli::{complain, duration},
    config::Config,
    control::{About, Control},
    log,
    socket::Server,
    wiring::{Connected, Relay},
};

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// What is shown
    #[arg(long, value_enum, default_value_t = Scenario::Sync)]
    scenario: Scenario,
    /// End after this long, such as 60s (without a terminal: 60s)
    #[arg(long = "for", value_parser = duration, value_name = "TIME")]
    limit: Option<Duration>,
    /// Patients at the start
    #[arg(long, default_value_t = 24)]
    patients: usize,
    /// Seed of everything that is made up
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No mishaps but those that a key triggers
    #[arg(long)]
    calm: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A clinic whose FileMaker database and chart system are kept in step
    Sync,
    /// Three clinics whose EHRs announce nothing and are watched for photographs and notes
    Ehr,
}

/// In a bounded demo, the last part without new arrivals, so that everything can arrive.
const SETTLING: f64 = 0.3;
/// A clinic has its lulls: in each the relay comes to "up to date", and says so.
const BUSY: Duration = Duration::from_secs(12);
const BUSY_AND_LULL: Duration = Duration::from_secs(20);
/// How long everything may take to arrive after the last change.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the days of EHRs take where nobody says when to end.
const WHOLE_DAY: Duration = Duration::from_secs(240);

/// A tray and a window that show the demo.
#[derive(Debug)]
pub struct Desk {
    /// Is told the demo's configuration as soon as there is one.
    pub ready: oneshot::Sender<PathBuf>,
    /// Ends the demo.
    pub ends: CancellationToken,
}

/// In the terminal alone.
pub async fn run(args: DemoArgs) -> ExitCode {
    match folder() {
        Ok(folder) => run_in(folder.path(), args, None).await,
        Err(sentence) => complain(&sentence),
    }
}

/// A throwaway folder.
pub fn folder() -> Result<TempDir, String> {
    let made = tempfile::Builder::new().prefix("chart-relay-demo-").tempdir();
    made.map_err(|error| {
        format!("The demo needs a folder for its throwaway database, and none can be made: {}.", error.kind())
    })
}

pub async fn run_in(folder: &Path, args: DemoArgs, desk: Option<Desk>) -> ExitCode {
    match Box::pin(demo(args, folder, desk)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&format!("The demo stopped: {error}")),
    }
}

async fn demo(args: DemoArgs, data: &Path, desk: Option<Desk>) -> Result<bool, Box<dyn std::error::Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = log::Options { directory: Some(data.join("log")), ..log::Options::default() };
    let _log = log::start(&options, clock.clone())?;
    match args.scenario {
        Scenario::Sync => sync(args, data, desk, clock).await,
        Scenario::Ehr => watch(args, data, desk, clock).await,
    }
}

/// A relay at work on a throwaway database, and its socket.
struct Stage {
    config: Config,
    connected: Vec<Connected>,
    relay: Relay,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Stage {
    async fn set(
        data: &Path,
        file: &Path,
        secrets: Memory,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let config = Config::read(file)?;
        let secrets = Arc::new(secrets);
        let connected = Connected::all(&config, &*secrets, &clock).await?;
        let relay = Relay::start(&config, data, &ClinicKey::generate(), &connected, secrets, clock).await?;
        let stop = CancellationToken::new();
        let server = Server::bind(data)?;
        let control = Control::new(relay.handle(), relay.database.clone(), About::of(&config, true));
        let serving = tokio::spawn(control.serve(server, stop.clone()));
        Ok(Self { config, connected, relay, stop, serving })
    }

    fn snapshot(&self) -> Snapshot {
        self.relay.handle().snapshots().borrow().clone()
    }

    /// Ends it; true if its audit log is intact.
    async fn strike(self) -> Result<bool, Box<dyn std::error::Error>> {
        self.relay.handle().stop();
        self.stop.cancel();
        let _ = self.serving.await;
        let database = self.relay.database.clone();
        let audit = database.verify_audit().await;
        self.relay.ended().await?;
        Ok(audit.is_ok_and(|report| report.intact()))
    }
}

/// When a demo ends by itself, and by what somebody ends it.
fn end(args: &DemoArgs, screen: &Screen, desk: Option<Desk>, file: PathBuf) -> (Option<Duration>, CancellationToken) {
    // Where nobody can end it, it ends by itself.
    let limit = args.limit.or((!screen.is_live() && desk.is_none()).then_some(Duration::from_secs(60)));
    let ends = desk.map_or_else(CancellationToken::new, |desk| {
        // A desk that is gone has said so through `ends`.
        let _ = desk.ready.send(file);
        desk.ends
    });
    (limit, ends)
}

async fn sync(
    args: DemoArgs,
    data: &Path,
    desk: Option<Desk>,
    clock: Arc<dyn Clock>,
) -> Result<bool, Box<dyn std::error::Error>> {
    let mut clinic = clinic::Clinic::start(args.seed, args.patients).await?;
    let file = clinic.configure(data)?;
    let stage = Stage::set(data, &file, clinic.secrets().await?, clock).await?;
    clinic.prove_keys(&stage.relay, &stage.connected[0], &stage.config).await?;

    let mut screen = Screen::open();
    let (limit, ends) = end(&args, &screen, desk, file);
    let mut mishaps = mishaps::Mishaps::new(limit.filter(|_| !args.calm), args.calm);
    let ended_early = life(&mut clinic, &stage.relay, &mut screen, &mut mishaps, limit, &ends).await;

    // Nothing new comes; whatever is on its way arrives.
    mishaps.end(&clinic).await;
    screen.say("Nothing new is entered; waiting for the rest to arrive.");
    let judgement = clinic.wait_until_arrived(&stage.relay, &stage.connected[0], &mut screen, PATIENCE).await;
    let snapshot = stage.snapshot();
    let intact = stage.strike().await?;
    screen.close();
    let ok = clinic.summary(&judgement, &snapshot, &mishaps, intact);
    if ended_early {
        println!("Ended by hand.");
    }
    Ok(ok)
}

async fn watch(
    args: DemoArgs,
    data: &Path,
    desk: Option<Desk>,
    clock: Arc<dyn Clock>,
) -> Result<bool, Box<dyn std::error::Error>> {
    let mut practice = practice::Practice::start(args.seed).await?;
    let file = practice.configure(data)?;
    let stage = Stage::set(data, &file, practice::Practice::secrets().await?, clock).await?;
    let ledger = stage.relay.database.ledger();

    let mut screen = Screen::open();
    let (limit, ends) = end(&args, &screen, desk, file);
    // The days are over when the settling begins; without a limit they take their time, and what follows is quiet.
    let days = limit.map_or(WHOLE_DAY, |limit| limit.mul_f64(1.0 - SETTLING));
    let begun = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let ctrl_c = tokio::signal::ctrl_c();
    tokio::pin!(ctrl_c);
    let ended_early = loop {
        tokio::select! {
            _ = &mut ctrl_c => break true,
            () = ends.cancelled() => break true,
            _ = tick.tick() => {}
        }
        practice.live(begun.elapsed().div_duration_f64(days), &screen)?;
        practice.look(&*ledger, &screen).await?;
        let snapshot = stage.snapshot();
        screen.paint(&snapshot, &practice.notes(&snapshot));
        if screen.key() == Some('q') {
            break true;
        }
        if practice.is_over() && limit.is_some() {
            break false;
        }
    };

    screen.say("Nothing new is entered; waiting for the rest to be found.");
    let waiting = tokio::time::Instant::now();
    let judgement = loop {
        practice.look(&*ledger, &screen).await?;
        let judgement = practice.judge(&*ledger).await?;
        if judgement.is_right() || waiting.elapsed() > PATIENCE {
            break judgement;
        }
        let snapshot = stage.snapshot();
        screen.paint(&snapshot, &practice.notes(&snapshot));
        tick.tick().await;
    };
    let snapshot = stage.snapshot();
    let intact = stage.strike().await?;
    screen.close();
    let ok = practice.summary(&judgement, &snapshot, intact);
    if ended_early {
        println!("Ended by hand.");
    }
    Ok(ok)
}

/// Lets the clinic live until the time is up or somebody ends it; true if somebody did.
async fn life(
    clinic: &mut clinic::Clinic,
    relay: &Relay,
    screen: &mut Screen,
    mishaps: &mut mishaps::Mishaps,
    limit: Option<Duration>,
    ends: &CancellationToken,
) -> bool {
    let begun = tokio::time::Instant::now();
    let arrivals_end = limit.map(|limit| limit.mul_f64(1.0 - SETTLING));
    let mut arrival = tokio::time::interval(Duration::from_millis(350));
    let mut paint = tokio::time::interval(Duration::from_millis(250));
    let ctrl_c = tokio::signal::ctrl_c();
    tokio::pin!(ctrl_c);
    loop {
        tokio::select! {
            _ = &mut ctrl_c => return true,
            () = ends.cancelled() => return true,
            _ = arrival.tick() => {
                let lull = begun.elapsed().as_secs() % BUSY_AND_LULL.as_secs() >= BUSY.as_secs();
                if !lull && arrivals_end.is_none_or(|end| begun.elapsed() < end) {
                    clinic.something_happens();
                }
                mishaps.when_due(clinic, relay, begun.elapsed()).await;
            }
            _ = paint.tick() => {
                let snapshot = relay.handle().snapshots().borrow().clone();
                screen.paint(&snapshot, &mishaps.notes());
                match screen.key() {
                    Some('q') => return true,
                    Some(key) => mishaps.on_key(key, clinic, relay).await,
                    None => {}
                }
            }
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            return false;
        }
    }
}
