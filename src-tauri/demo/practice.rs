//! The scenario `ehr`: three firms whose EHRs announce nothing. Two stand behind one API key, with ModMed's rules; the third is plain R4. A
//! day runs in each, faster than a day; visits open, photographs and notes arrive in them, some late, some twice, some withdrawn.
//!
//! What was found is judged by the day's own memory and by the simulators' count of every request.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use engine::{
    ehr::{Class, DocumentWatch, Fate, KindWatched},
    error::Fault,
    key::{FirmId, RecordKey, ResourceId, ResourceType},
    ports::Ledger,
    snapshot::Snapshot,
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use simulators::{
    ehr::{
        self, Counting, EhrServer, RateLimit,
        day::{self, Day, Happened, Manner, Plan, What},
    },
    fhir::{self, FhirServer},
};

use super::show::{self, Screen};
use crate::{
    adapters::secrets::Memory,
    secrets::{Secret, SecretName, Secrets as _},
    view::words,
};

const NORTH: &str = "synthetic-north";
const SOUTH: &str = "synthetic-south";
const WEST: &str = "synthetic-west";
const SECRET: &str = "throwaway-synthetic-secret";
const KEY: &str = "throwaway-synthetic-key";

/// Requests in a minute that each key allows.
const MODMED: u64 = 1250;
const PLAIN: u64 = 240;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Visits open for so long; the last end some time after it.
const OPEN: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(2 * 60 * 60);
const VISITS: usize = 9;
/// How late rows turn up that do, in real time.
const LATE: SignedDuration = SignedDuration::from_secs(3);
/// What happened last, for a live screen.
const SHOWN: usize = 12;

/// A firm: its day, and where it is entered.
struct Firm {
    id: FirmId,
    day: Day,
    chart: Chart,
}

enum Chart {
    Ema(ehr::FirmControl),
    R4(fhir::Control),
}

/// A document that has been entered and not found yet, or just found.
struct Entered {
    /// When it could be found first.
    at: Timestamp,
    found: Option<Timestamp>,
}

pub(super) struct Practice {
    ema: EhrServer,
    plain: FhirServer,
    firms: Vec<Firm>,
    entered: BTreeMap<RecordKey, Entered>,
    told: VecDeque<String>,
    zone: TimeZone,
}

/// What became of everything that was entered.
#[derive(Default)]
pub(super) struct Judgement {
    expected: usize,
    handed: usize,
    pub(super) missing: Vec<String>,
    twice: Vec<String>,
    /// Withdrawn, ignored or listed, as they should be.
    aside: usize,
    wrongly: Vec<String>,
    delays: Vec<Duration>,
}

impl Judgement {
    pub(super) fn is_right(&self) -> bool {
        self.missing.is_empty() && self.twice.is_empty() && self.wrongly.is_empty() && self.expected > 0
    }

    fn delay(&self, part: f64) -> String {
        let last = self.delays.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a short list")]
        let at = (last as f64 * part).round() as usize;
        self.delays.get(at).map_or_else(|| "-".into(), |delay| format!("{:.1} s", delay.as_secs_f64()))
    }
}

impl Practice {
    pub(super) async fn start(seed: u64) -> std::io::Result<Self> {
        let firm =
            |name: &str, number| ehr::Firm { client_secret: SECRET.into(), ..ehr::Firm::synthetic(name, number) };
        let options = ehr::Options {
            firms: vec![firm(NORTH, 0), firm(SOUTH, 1)],
            keys: vec![KEY.into()],
            seed,
            behaviour: ehr::Behaviour {
                rate_limit: Some(RateLimit::calendar(MODMED, MINUTE)),
                ..ehr::Behaviour::default()
            },
            journal: 0,
        };
        let ema = EhrServer::start(options).await?;
        let behaviour =
            fhir::Behaviour { rate_limit: Some(RateLimit::sliding(PLAIN, MINUTE)), ..fhir::Behaviour::default() };
        let options = fhir::Options { client_secret: SECRET.into(), seed, behaviour, ..fhir::Options::default() };
        let plain = FhirServer::start(options).await?;
        let charts = [
            (NORTH, Chart::Ema(ema.control().firm(NORTH)), Manner::Ema),
            (SOUTH, Chart::Ema(ema.control().firm(SOUTH)), Manner::Ema),
            (WEST, Chart::R4(plain.control()), Manner::R4),
        ];
        let firms = charts.into_iter().enumerate().map(|(number, (name, chart, manner))| {
            let plan = Plan { length: OPEN, late: LATE, firm: number, ..Plan::usual(VISITS, manner) };
            let day = Day::new(seed.wrapping_add(number as u64), plan);
            Firm { id: FirmId::new(name).expect("a plain word"), day, chart }
        });
        let firms = firms.collect();
        Ok(Self { ema, plain, firms, entered: BTreeMap::new(), told: VecDeque::new(), zone: TimeZone::system() })
    }

    /// The configuration for these servers, with shorter times, as a file in the demo's own folder.
    pub(super) fn configure(&self, data: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
        let mut text = format!(
            r#"
            [station]
            id = "demo"
            data-directory = {data}
            [desk]
            role = "it"
            autostart = false
            [[quota]]
            id = "modmed"
            requests = {MODMED}
            per = "1min"
            window = "calendar"
            stations = 1
            [[quota]]
            id = "plain"
            requests = {PLAIN}
            per = "1min"
            window = "sliding"
            stations = 1
            "#,
            // JSON's quotation marks and escapes are TOML's too.
            data = serde_json::to_string(data)?,
        );
        for (number, firm) in self.firms.iter().enumerate() {
            let name = firm.id.as_str();
            let (base, token, client, more) = match firm.chart {
                Chart::Ema(_) => {
                    let more = "flavour = \"ema\"\napi-key = \"demo-key\"\nquota = \"modmed\"";
                    (self.ema.base_url(name), self.ema.token_url(), format!("relay-{name}"), more)
                }
                Chart::R4(_) => {
                    let (base, token) = (self.plain.base_url().to_owned(), self.plain.token_url().to_owned());
                    (base, token, "chart-relay".to_owned(), "flavour = \"generic\"\nquota = \"plain\"")
                }
            };
            let codes = |class: day::Class| {
                let fitting = day::categories(number).into_iter().filter(|category| category.class == class);
                serde_json::to_string(&fitting.map(|category| category.code).collect::<Vec<_>>())
            };
            text.push_str(&format!(
                r#"
                [[firm]]
                id = "{name}"
                time-zone = "America/New_York"
                [firm.ehr]
                base-url = "{base}"
                token-url = "{token}"
                client-id = "{client}"
                secret = "demo-ehr"
                {more}
                [firm.ehr.plan]
                overlap = "30s"
                settle = "5s"
                slowest = "10s"
                sweep-every = "1min"
                [firm.ehr.classes]
                solitary = {solitary}
                widespread = {widespread}
                note = {note}
                ignore = {ignore}
                "#,
                solitary = codes(day::Class::Solitary)?,
                widespread = codes(day::Class::Widespread)?,
                note = codes(day::Class::Note)?,
                ignore = codes(day::Class::Ignored)?,
            ));
        }
        let file = data.join("config.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// Throwaway secrets in memory.
    pub(super) async fn secrets() -> Result<Memory, Box<dyn std::error::Error>> {
        let secrets = Memory::new();
        for (name, value) in [("demo-ehr", SECRET), ("demo-key", KEY)] {
            secrets.set(&SecretName::parse(name)?, Secret::new(value)).await?;
        }
        Ok(secrets)
    }

    /// Lets the days go on up to this part of them.
    pub(super) fn live(&mut self, part: f64, screen: &Screen) -> Result<(), Box<dyn std::error::Error>> {
        let elapsed = DAY.mul_f64(part.min(1.0));
        let mut lines = Vec::new();
        for firm in &mut self.firms {
            let happened = match &firm.chart {
                Chart::Ema(chart) => firm.day.until(elapsed, chart)?,
                Chart::R4(chart) => firm.day.until(elapsed, chart)?,
            };
            for one in happened {
                if let What::Entered(_) = one.what {
                    let late = if one.late { LATE } else { SignedDuration::ZERO };
                    let at = Timestamp::now().saturating_add(late)?;
                    self.entered.insert(key(&firm.id, &one)?, Entered { at, found: None });
                }
                lines.push(format!("{}: {}", firm.id, sentence(&one)));
            }
        }
        lines.into_iter().for_each(|line| self.tell(&line, screen));
        Ok(())
    }

    /// True once nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        self.firms.iter().all(|firm| firm.day.next().is_none())
    }

    /// Looks into the ledger for what was found.
    pub(super) async fn look(&mut self, ledger: &dyn Ledger, screen: &Screen) -> Result<(), Fault> {
        let open: Vec<RecordKey> =
            self.entered.iter().filter(|(_, one)| one.found.is_none()).map(|(key, _)| key.clone()).collect();
        let mut lines = Vec::new();
        for record in ledger.read_all(&open).await? {
            let Some(watch) = DocumentWatch::parse(&record.state) else { continue };
            let Some(one) = self.entered.get_mut(&record.key) else { continue };
            one.found = Some(watch.first_seen);
            let after = watch.first_seen.duration_since(one.at).as_secs_f64().max(0.0);
            let key = &record.key;
            lines.push(format!(
                "{}: {}/{} was found after {after:.1} s: {}",
                key.firm,
                key.resource,
                key.id,
                fate(watch.fate, watch.class)
            ));
        }
        lines.into_iter().for_each(|line| self.tell(&line, screen));
        Ok(())
    }

    fn tell(&mut self, line: &str, screen: &Screen) {
        let now = Timestamp::now().to_zoned(self.zone.clone());
        let line = format!("{}  {line}", now.strftime("%H:%M:%S"));
        screen.say(&line);
        self.told.push_back(line);
        if self.told.len() > SHOWN {
            self.told.pop_front();
        }
    }

    pub(super) fn notes(&self, snapshot: &Snapshot) -> Vec<String> {
        let quotas = snapshot.quotas.iter().map(|quota| format!("  {}", show::quota(quota)));
        let told = self.told.iter().map(|line| format!("  {line}"));
        ["  q end".to_owned()].into_iter().chain(quotas).chain(told).collect()
    }

    /// Compares what the ledger knows with what was entered.
    pub(super) async fn judge(&self, ledger: &dyn Ledger) -> Result<Judgement, Fault> {
        let mut judgement = Judgement::default();
        for firm in &self.firms {
            for document in firm.day.documents() {
                judgement.expected += 1;
                let name = format!("{}: {}/{}", firm.id, document.resource_type, document.id);
                let key = document_key(&firm.id, document.resource_type, &document.id);
                let record = match key {
                    Some(key) => ledger.read(&key).await?.and_then(|record| {
                        let watch = DocumentWatch::parse(&record.state)?;
                        Some((watch, self.entered.get(&record.key)?.at))
                    }),
                    None => None,
                };
                let Some((watch, at)) = record else {
                    judgement.missing.push(format!("{name}, never found"));
                    continue;
                };
                let stamp = document.versions.last().map(|written| second(written.last_updated));
                if watch.stamp.map(second) != stamp {
                    judgement.missing.push(format!("{name}, in its newest version"));
                    continue;
                }
                let mut versions: Vec<&str> = watch.handed.iter().map(|handed| handed.version.as_str()).collect();
                versions.sort_unstable();
                versions.dedup();
                if versions.len() < watch.handed.len() || versions.len() > document.versions.len() {
                    judgement.twice.push(name.clone());
                }
                if !is_right(watch.fate, document.class, document.withdrawn) {
                    judgement.wrongly.push(format!("{name} {}", fate(watch.fate, watch.class)));
                } else if watch.fate == Fate::Waits {
                    judgement.handed += 1;
                } else {
                    judgement.aside += 1;
                }
                let delay = watch.first_seen.duration_since(at);
                judgement.delays.push(Duration::try_from(delay).unwrap_or_default());
            }
        }
        judgement.delays.sort_unstable();
        Ok(judgement)
    }

    /// The last words; true if everything was found as it was entered, and nothing asked too often.
    pub(super) fn summary(&self, judgement: &Judgement, snapshot: &Snapshot, audit_intact: bool) -> bool {
        println!("The demo of Chart Relay, with synthetic data only: three clinics whose EHRs announce nothing");
        println!("  {}", words::verdict(&snapshot.verdict, &self.zone));
        for firm in &snapshot.watching {
            let complete = |kind: &KindWatched| {
                let at = kind.complete?.to_zoned(self.zone.clone());
                Some(format!("{} up to {}", kind.resource, at.strftime("%H:%M:%S")))
            };
            let complete: Vec<_> = firm.kinds.iter().filter_map(complete).collect();
            let words = if complete.is_empty() { "nothing yet".to_owned() } else { complete.join(", ") };
            println!("  {}: complete: {words}", firm.firm);
        }
        let mut refused = 0;
        let ema = self.ema.control();
        let plain = self.plain.control();
        let keys = [
            (
                format!("{NORTH} and {SOUTH}, one key"),
                ema.refused(KEY),
                ema.most_asked(KEY, MINUTE, Counting::Calendar),
                ema.asked(KEY).len(),
                MODMED,
            ),
            (
                WEST.to_owned(),
                plain.refused("chart-relay"),
                plain.most_asked("chart-relay", MINUTE, Counting::Sliding),
                plain.asked("chart-relay").len(),
                PLAIN,
            ),
        ];
        for (name, violations, most, all, limit) in keys {
            refused += violations;
            println!(
                "  quota of {name}: {all} requests, {most} in the fullest minute of {limit}; violations: {violations}"
            );
        }
        println!(
            "  from entered to found: {} in the middle, {} at the 99th of 100",
            judgement.delay(0.5),
            judgement.delay(0.99)
        );
        for (words, list) in
            [("not found", &judgement.missing), ("handed on twice", &judgement.twice), ("wrong", &judgement.wrongly)]
        {
            for one in list.iter().take(10) {
                println!("  {words}: {one}");
            }
        }
        println!("  audit log: {}", if audit_intact { "unaltered, verified" } else { "NOT INTACT" });
        println!(
            "  {} documents were entered: {} wait to be read by models, each handed on once; {} were withdrawn, ignored or listed, as they should be; \
             {} missed, {} handed on twice, {} of the wrong kind",
            judgement.expected,
            judgement.handed,
            judgement.aside,
            judgement.missing.len(),
            judgement.twice.len(),
            judgement.wrongly.len()
        );
        judgement.is_right() && audit_intact && refused == 0
    }
}

fn second(at: Timestamp) -> i64 {
    at.as_second()
}

fn key(firm: &FirmId, happened: &Happened) -> Result<RecordKey, &'static str> {
    document_key(firm, &happened.written.resource_type, &happened.written.id)
        .ok_or("an id that nothing can be named by")
}

/// The relay's own name of a document.
fn document_key(firm: &FirmId, resource: &str, id: &str) -> Option<RecordKey> {
    let id = ResourceId::new(id.replace('|', ".7C.")).ok()?;
    Some(RecordKey::document(firm.clone(), ResourceType::new(resource).ok()?, id))
}

/// Whether this may become of such a document. One that is withdrawn before it was ever seen is withdrawn all the same.
fn is_right(fate: Fate, class: day::Class, withdrawn: bool) -> bool {
    match (fate, class) {
        (Fate::Withdrawn { .. }, _) => withdrawn,
        _ if withdrawn => false,
        (Fate::Waits, day::Class::Solitary | day::Class::Widespread | day::Class::Note)
        | (Fate::Ignored, day::Class::Ignored)
        | (Fate::Unsorted, day::Class::Unsorted) => true,
        _ => false,
    }
}

fn kind(class: day::Class) -> &'static str {
    match class {
        day::Class::Solitary => "a photograph of one lesion",
        day::Class::Widespread => "a photograph of a rash",
        day::Class::Note => "a note",
        day::Class::Ignored => "an insurance card",
        day::Class::Unsorted => "a document of a category that nobody chose",
    }
}

fn sentence(happened: &Happened) -> String {
    let visit = &happened.encounter;
    match happened.what {
        What::Opened => format!("visit {visit} opens"),
        What::Began => format!("visit {visit} begins"),
        What::Finished => format!("visit {visit} is finished"),
        What::Entered(class) => format!("{} arrives in visit {visit}", kind(class)),
        What::Amended(class) => format!("{} of visit {visit} is amended", kind(class)),
        What::Withdrawn(class) => format!("{} of visit {visit} is withdrawn", kind(class)),
    }
}

fn fate(fate: Fate, class: Class) -> &'static str {
    match (fate, class) {
        (Fate::Waits, Class::Solitary) => "one lesion, waits to be read",
        (Fate::Waits, Class::Widespread) => "a rash, waits to be read",
        (Fate::Waits, _) => "a note, waits to be read",
        (Fate::Loose, _) => "of no visit that is known yet",
        (Fate::Unattached, _) => "of no visit that is known, listed",
        (Fate::Unsorted, _) => "of a category that nobody chose, listed",
        (Fate::Ignored, _) => "ignored",
        (Fate::Withdrawn { .. }, _) => "withdrawn",
    }
}
