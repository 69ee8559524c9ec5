//! A clinic's FileMaker, a place for the relay's data, and the relay between them and a FHIR server; and waits that end.

use std::{path::Path, sync::Arc, time::Duration};

use chart_relay::{
    adapters::{clock::SystemClock, secrets::Memory},
    compare::Comparison,
    config::Config,
    secrets::{Secret, SecretName, Secrets as _},
    wiring::{Connected, Relay, command_owner},
};
use engine::{
    connection::{Health, Side},
    key::{RecordKey, ResourceId, ResourceType},
    keys::ClinicKey,
    ledger::{Filter, Record},
    ports::Clock,
    proof,
    snapshot::{Snapshot, Verdict},
};
use jiff::Timestamp;
use serde_json::Value as Json;
use simulators::{
    fhir::{self, FhirServer},
    filemaker::{self, FileMaker, Route},
    synthetic::Generator,
};
use tempfile::TempDir;

pub(crate) const FIRM: &str = "synthetic-north";
pub(crate) const ACCOUNT: &str = "relay";
pub(crate) const SECRET: &str = "synthetic-secret";
/// The FileMaker tables behind the shipped mappings.
pub(crate) const TABLES: [&str; 4] = ["Patient", "IntakeForm", "Measurement", "ProgressNote"];
/// The longest that anything here may take: lost writes are waited for during half a minute, a stopped connection longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A FHIR server as the configuration names it.
pub(crate) struct Chart {
    pub(crate) base_url: String,
    pub(crate) token_url: String,
    pub(crate) client_id: String,
    pub(crate) secret: String,
    pub(crate) flavour: &'static str,
    pub(crate) both_ways: bool,
}

impl Chart {
    pub(crate) fn of(server: &FhirServer) -> Self {
        Self {
            base_url: server.base_url().to_owned(),
            token_url: server.token_url().to_owned(),
            client_id: "chart-relay".to_owned(),
            secret: SECRET.to_owned(),
            flavour: "generic",
            both_ways: true,
        }
    }

    /// The configuration file; `station` is added to its first section.
    pub(crate) fn config(&self, filemaker: &str, station: &str) -> String {
        let Self { base_url, token_url, client_id, flavour, both_ways, .. } = self;
        format!(
            r#"
            [station]
            id = "system-test"
            {station}
            [engine]
            lease-term = "10s"
            visibility = "10s"
            record-open-retry = "5s"
            backoff-first = "100ms"
            backoff-longest = "2s"
            not-found-patience = "10s"
            [[firm]]
            id = "{FIRM}"
            name = "Synthetic North Clinic"
            time-zone = "America/New_York"
            both-ways = {both_ways}
            [firm.fhir]
            base-url = "{base_url}"
            flavour = "{flavour}"
            token-url = "{token_url}"
            client-id = "{client_id}"
            secret = "north-fhir"
            poll-every = "1s"
            overlap = "10s"
            settle = "1s"
            probe-every = "5s"
            timeout = "5s"
            [firm.filemaker]
            url = "{filemaker}"
            database = "Clinic"
            account = "{ACCOUNT}"
            password = "north-filemaker"
            sessions = 4
            connect-timeout = "2s"
            read-timeout = "2s"
            poll-every = "1s"
            overlap = "10s"
            settle = "1s"
            [[firm.mapping]]
            use = "patient"
            [[firm.mapping]]
            use = "intake-form"
            [[firm.mapping]]
            use = "measurement"
            [[firm.mapping]]
            use = "progress-note"
            "#
        )
    }
}

/// A station without its FHIR server: FileMaker, configuration, secrets, and what survives a restart.
pub(crate) struct Station {
    server: FileMaker,
    pub(crate) config: Config,
    pub(crate) secrets: Arc<Memory>,
    pub(crate) key: ClinicKey,
    pub(crate) data: TempDir,
}

impl Station {
    pub(crate) async fn for_chart(chart: &Chart) -> Self {
        Self::with_clinic(chart, clinic()).await
    }

    pub(crate) async fn with_clinic(chart: &Chart, clinic: filemaker::Clinic) -> Self {
        let server = FileMaker::start(clinic).await.unwrap();
        let text = chart.config(&server.base_url(), "");
        let config = Config::parse(&text, Path::new("")).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        let station = Self {
            server,
            config,
            secrets: Arc::new(Memory::new()),
            key: ClinicKey::generate(),
            data: tempfile::tempdir().unwrap(),
        };
        station.set_secret("north-fhir", &chart.secret).await;
        station.set_secret("north-filemaker", SECRET).await;
        station
    }

    pub(crate) async fn set_secret(&self, name: &str, secret: &str) {
        self.secrets.set(&SecretName::parse(name).unwrap(), Secret::new(secret)).await.unwrap();
    }

    pub(crate) fn filemaker(&self) -> filemaker::Control {
        self.server.control()
    }

    pub(crate) async fn start(&self) -> Running {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let connected = Connected::all(&self.config, &*self.secrets, &clock).await.unwrap();
        let relay = Relay::start(&self.config, self.data.path(), &self.key, &connected, self.secrets.clone(), clock);
        let relay = relay.await.unwrap();
        let [connected] = connected.try_into().unwrap();
        Running { relay, connected, config: self.config.clone(), filemaker: self.filemaker() }
    }

    /// Started, and allowed to create.
    pub(crate) async fn start_proven(&self) -> Running {
        let running = self.start().await;
        running.prove_keys().await;
        running
    }
}

/// A host in the clinic's zone.
pub(crate) fn clinic() -> filemaker::Clinic {
    filemaker::Clinic::synthetic(ACCOUNT, SECRET).zone(jiff::tz::TimeZone::get("America/New_York").unwrap())
}

/// Keys of which a table has more than one record, and records without one.
pub(crate) fn doubled(filemaker: &filemaker::Control) -> Vec<String> {
    let mut doubled = Vec::new();
    for table in TABLES {
        let mut keys: Vec<_> = filemaker.records(table).into_iter().map(|row| row.fields["FhirId"].clone()).collect();
        keys.sort();
        doubled.extend(keys.iter().filter(|key| key.is_empty()).map(|_| format!("{table} without a key")));
        doubled.extend(keys.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| format!("{table} {}", pair[0])));
    }
    doubled
}

/// How many writes FileMaker was asked for.
pub(crate) fn writes(filemaker: &filemaker::Control) -> u64 {
    let counts = filemaker.counts();
    [Route::Create, Route::Edit, Route::Duplicate, Route::Delete].into_iter().map(|route| counts.of(route)).sum()
}

/// Looks now and then until `condition` gives something; none after [`PATIENCE`].
pub(crate) async fn seen<T>(mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = condition().await;
        if found.is_some() || tokio::time::Instant::now() >= deadline {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The same; fails with `what` if it does not come.
pub(crate) async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    seen(condition).await.unwrap_or_else(|| panic!("waited in vain until {what}"))
}

/// A relay at work.
pub(crate) struct Running {
    pub(crate) relay: Relay,
    pub(crate) connected: Connected,
    config: Config,
    filemaker: filemaker::Control,
}

impl Running {
    /// What `doctor --write-probe` does.
    pub(crate) async fn prove_keys(&self) {
        for (resource, mapping) in &self.connected.config.mapping.resources {
            let found = self.connected.filemaker.write_probe(&mapping.table, rand::random()).await;
            assert!(found.unique && found.guarded, "{:?}", found.steps);
            let key = RecordKey::proof(self.connected.config.id.clone(), resource.clone());
            let (owner, term) = (command_owner(&self.config.station.id), self.config.engine.lease_term);
            let ledger = self.relay.database.ledger();
            proof::note(&*ledger, &key, &mapping.table, owner, term, Timestamp::now()).await.unwrap();
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.relay.handle().snapshots().borrow().clone()
    }

    /// Waits for a snapshot of which this is true.
    pub(crate) async fn shows(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut snapshots = self.relay.handle().snapshots();
        let found = tokio::time::timeout(PATIENCE, snapshots.wait_for(|snapshot| condition(snapshot))).await;
        let Ok(found) = found else { panic!("waited in vain until {what}: {:#?}", self.snapshot()) };
        found.unwrap().clone()
    }

    pub(crate) fn health(&self, side: Side) -> Health {
        health(&self.snapshot(), side)
    }

    /// Waits until every resource has arrived as it is now, and the relay has nothing left to do.
    pub(crate) async fn all_arrived(&self, resources: impl Fn() -> Vec<Json>) -> Comparison {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let compared = Comparison::of(&self.connected, resources()).await;
            let snapshot = self.snapshot();
            if let Ok(compared) = &compared
                && compared.all_arrived()
                && matches!(snapshot.verdict, Verdict::UpToDate { .. } | Verdict::Paused { .. })
            {
                assert_eq!(doubled(&self.filemaker), Vec::<String>::new());
                return compared.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "not all arrived: {compared:#?}\n{snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn record(&self, of: &str, id: &str) -> Option<Record> {
        let key = link(of, id);
        self.relay.database.ledger().read(&key).await.unwrap()
    }

    /// `Type/id` of the records that carry a remark, and the remark.
    pub(crate) async fn remarks(&self) -> Vec<(String, engine::error::Code)> {
        let records = self.relay.database.ledger().page(Filter::Noticed, None, 10_000).await.unwrap();
        records
            .iter()
            .map(|record| (format!("{}/{}", record.key.resource, record.key.id), record.notice.unwrap()))
            .collect()
    }

    /// Stops in order and proves the audit log.
    pub(crate) async fn stop(self) {
        let report = self.relay.database.verify_audit().await.unwrap();
        assert!(report.intact(), "{report:?}");
        assert_eq!(self.relay.database.audit().open().await.unwrap().len(), 0);
        self.relay.handle().stop();
        tokio::time::timeout(PATIENCE, self.relay.ended()).await.expect("the relay ends").unwrap();
    }
}

pub(crate) fn health(snapshot: &Snapshot, side: Side) -> Health {
    let found = snapshot.connections.iter().find(|connection| connection.side == side);
    found.map_or(Health::Unproven, |connection| connection.health.clone())
}

pub(crate) fn link(of: &str, id: &str) -> RecordKey {
    let firm = engine::key::FirmId::new(FIRM).unwrap();
    RecordKey::link(firm, ResourceType::new(of).unwrap(), ResourceId::new(id).unwrap())
}

/// A chart system with synthetic patients.
pub(crate) struct ChartSystem {
    pub(crate) server: FhirServer,
    pub(crate) generator: Generator,
}

impl ChartSystem {
    pub(crate) async fn with(patients: usize, seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        let resources = generator.clinic(patients, Timestamp::now());
        let options = fhir::Options { client_secret: SECRET.into(), seed, resources, ..fhir::Options::default() };
        Self { server: FhirServer::start(options).await.unwrap(), generator }
    }

    pub(crate) fn control(&self) -> fhir::Control {
        self.server.control()
    }

    pub(crate) fn resources(&self) -> Vec<Json> {
        resources(&self.control())
    }

    /// Something is corrected or completed; gives the resource as it is then.
    pub(crate) fn change(&mut self, of: &str, id: &str) -> Json {
        let held = self.control().get(of, id).unwrap();
        let changed = self.generator.change(&held, Timestamp::now());
        self.control().put(changed.clone()).unwrap();
        changed
    }
}

/// All that a simulated chart system holds of the mapped types.
pub(crate) fn resources(control: &fhir::Control) -> Vec<Json> {
    let mut resources = Vec::new();
    for of in ["Patient", "QuestionnaireResponse", "Observation", "DocumentReference"] {
        resources.extend(control.ids(of).iter().filter_map(|id| control.get(of, id)));
    }
    resources
}
