//! The synthetic clinic: its two servers, what happens in it, and whether everything that was entered has arrived.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use engine::{
    error::Fault,
    hint::{self, Hint, Origin, Subject},
    key::{FirmId, RecordKey, ResourceId, ResourceType},
    ports::Message,
    proof,
    snapshot::Snapshot,
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value as Json;
use simulators::{
    fhir::{self, FhirServer},
    filemaker::{self, FileMaker},
    synthetic::Generator,
};

use super::{mishaps::Mishaps, show::Screen};
use crate::{
    adapters::secrets::Memory,
    compare::Comparison,
    config::Config,
    secrets::{Secret, SecretName, Secrets as _},
    view::words,
    wiring::{Connected, Relay, command_owner},
};

/// Where the clinic is, and what its FileMaker's clock shows.
const ZONE: &str = "America/New_York";
const ACCOUNT: &str = "relay";
const SECRET: &str = "throwaway-synthetic-secret";

pub(super) struct Clinic {
    generator: Generator,
    fhir: FhirServer,
    filemaker: FileMaker,
    /// Everything in the chart, newest last.
    entered: Vec<(ResourceType, ResourceId)>,
    pub(super) created: u64,
    pub(super) changed: u64,
    corrected: u64,
    turn: u64,
}

impl Clinic {
    pub(super) async fn start(seed: u64, patients: usize) -> std::io::Result<Self> {
        let mut generator = Generator::new(seed);
        let options = fhir::Options { client_secret: SECRET.into(), seed, ..fhir::Options::default() };
        let fhir = FhirServer::start(options).await?;
        let zone = TimeZone::get(ZONE).map_err(std::io::Error::other)?;
        let filemaker = FileMaker::start(filemaker::Clinic::synthetic(ACCOUNT, SECRET).zone(zone)).await?;
        let first = generator.clinic(patients, Timestamp::now());
        let mut clinic =
            Self { generator, fhir, filemaker, entered: Vec::new(), created: 0, changed: 0, corrected: 0, turn: 0 };
        for resource in first {
            clinic.enter(resource);
        }
        Ok(clinic)
    }

    /// The configuration that a consultant would write for these servers, with shorter times, as a file in the demo's own folder:
    /// what reaches the demo from outside (its window, a command in another terminal) is told no more than this.
    pub(super) fn configure(&self, data: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
        let text = format!(
            r#"
            [station]
            id = "demo"
            data-directory = {data}
            [desk]
            role = "it"
            autostart = false
            [engine]
            runs = 12
            lease-term = "10s"
            visibility = "30s"
            record-open-retry = "5s"
            backoff-longest = "10s"
            [[firm]]
            id = "synthetic-north"
            name = "Synthetic North Clinic"
            time-zone = "{ZONE}"
            [firm.fhir]
            base-url = "{base}"
            token-url = "{token}"
            client-id = "chart-relay"
            secret = "demo-fhir"
            poll-every = "1s"
            overlap = "20s"
            settle = "2s"
            sweep-every = "1min"
            probe-every = "5s"
            timeout = "10s"
            [firm.filemaker]
            url = "{filemaker}"
            database = "Clinic"
            account = "{ACCOUNT}"
            password = "demo-filemaker"
            sessions = 4
            connect-timeout = "2s"
            read-timeout = "4s"
            [[firm.mapping]]
            use = "patient"
            [[firm.mapping]]
            use = "intake-form"
            [[firm.mapping]]
            use = "measurement"
            [[firm.mapping]]
            use = "progress-note"
            "#,
            base = self.fhir.base_url(),
            token = self.fhir.token_url(),
            filemaker = self.filemaker.base_url(),
            // JSON's quotation marks and escapes are TOML's too.
            data = serde_json::to_string(data)?,
        );
        let file = data.join("config.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// Throwaway secrets in memory.
    pub(super) async fn secrets(&self) -> Result<Memory, Box<dyn std::error::Error>> {
        let secrets = Memory::new();
        for name in ["demo-fhir", "demo-filemaker"] {
            secrets.set(&SecretName::parse(name)?, Secret::new(SECRET)).await?;
        }
        Ok(secrets)
    }

    /// What `doctor --write-probe` does, so that rows may be created.
    pub(super) async fn prove_keys(
        &self,
        relay: &Relay,
        connected: &Connected,
        config: &Config,
    ) -> Result<(), Box<dyn std::error::Error>> {
        for (resource, mapping) in &connected.config.mapping.resources {
            let found = connected.filemaker.write_probe(&mapping.table, rand::random()).await;
            if !(found.unique && found.guarded) {
                return Err(format!("the key of {} could not be proven unique", mapping.table.layout).into());
            }
            let key = RecordKey::proof(connected.config.id.clone(), resource.clone());
            let (ledger, owner) = (relay.database.ledger(), command_owner(&config.station.id));
            proof::note(&*ledger, &key, &mapping.table, owner, config.engine.lease_term, Timestamp::now()).await?;
        }
        Ok(())
    }

    pub(super) fn fhir(&self) -> fhir::Control {
        self.fhir.control()
    }

    pub(super) fn filemaker(&self) -> filemaker::Control {
        self.filemaker.control()
    }

    fn enter(&mut self, resource: Json) {
        let name = |field: &str| resource.get(field).and_then(Json::as_str).unwrap_or_default().to_owned();
        let (of, id) = (ResourceType::new(name("resourceType")), ResourceId::new(name("id")));
        if let (Ok(of), Ok(id)) = (of, id)
            && self.fhir.control().put(resource).is_ok()
        {
            let known = self.entered.contains(&(of.clone(), id.clone()));
            if known {
                self.changed += 1;
            } else {
                self.created += 1;
                self.entered.push((of, id));
            }
        }
    }

    /// A patient registers, fills in a form, is measured; a note is written; or something of it is corrected.
    pub(super) fn something_happens(&mut self) {
        self.turn += 1;
        let now = Timestamp::now();
        let patients: Vec<_> =
            self.entered.iter().filter(|(of, _)| of.as_str() == "Patient").map(|(_, id)| id.clone()).collect();
        // Steps that share no factor with the length wander over everybody.
        let pick = |step: u64, len: usize| usize::try_from(step % len.max(1) as u64).unwrap_or_default();
        let patient = patients
            .get(pick(self.turn * 7, patients.len()))
            .and_then(|id| self.fhir.control().get("Patient", id.as_str()));
        let new = match (self.turn % 7, patient) {
            (0, _) | (_, None) => Some(self.generator.patient()),
            (1, Some(patient)) => Some(self.generator.form(&patient, now)),
            (2, Some(patient)) => Some(self.generator.measurement(&patient, now)),
            (3, Some(patient)) => Some(self.generator.note(&patient, now)),
            (4, _) => {
                self.correct_at_the_desk();
                None
            }
            _ => {
                let (of, id) = self.entered[pick(self.turn * 11, self.entered.len())].clone();
                self.change(&of, &id);
                None
            }
        };
        if let Some(new) = new {
            self.enter(new);
        }
    }

    /// The front desk corrects a name in FileMaker, which the portal never changes.
    fn correct_at_the_desk(&mut self) {
        let nth = usize::try_from(self.turn).unwrap_or_default();
        let Some((_, _, row)) = self.patient_with_row(nth) else { return };
        let name = format!("Testname-{}", self.turn);
        if self.filemaker.control().desk_edit("Patient", row, &[("FirstName", &name)]).is_ok() {
            self.corrected += 1;
        }
    }

    /// Somebody corrects or completes a resource.
    pub(super) fn change(&mut self, of: &ResourceType, id: &ResourceId) {
        if let Some(resource) = self.fhir.control().get(of.as_str(), id.as_str()) {
            let changed = self.generator.change(&resource, Timestamp::now());
            self.enter(changed);
        }
    }

    /// A patient whose row is there, the `nth` of them.
    pub(super) fn patient_with_row(&self, nth: usize) -> Option<(ResourceType, ResourceId, u64)> {
        let rows = self.filemaker.control().records("Patient");
        let row = rows.get(nth % rows.len().max(1))?;
        let id = ResourceId::new(row.fields.get("FhirId")?.clone()).ok()?;
        Some((ResourceType::new("Patient").ok()?, id, row.record_id))
    }

    /// One event three times, as a webhook that is delivered again and again.
    pub(super) async fn hint_thrice(&self, relay: &Relay, of: &ResourceType, id: &ResourceId) -> Result<(), Fault> {
        let firm = FirmId::new("synthetic-north").expect("a plain word");
        let subject = Subject::Resource(id.clone());
        let hint = Hint { firm, resource: of.clone(), subject, origin: Origin::Push, at: Timestamp::now() };
        let message = |_| Message {
            id: format!("demo-{:032x}", rand::random::<u128>()),
            group: hint.key().to_string(),
            body: hint::encode(vec![hint.clone()]),
        };
        relay.database.queue().send((0..3).map(message).collect()).await
    }

    /// Compares both servers by reading them, whatever the relay believes.
    async fn judge(&self, connected: &Connected) -> Result<Comparison, Fault> {
        let resources = self.entered.iter().filter_map(|(of, id)| self.fhir.control().get(of.as_str(), id.as_str()));
        Comparison::of(connected, resources).await
    }

    pub(super) async fn wait_until_arrived(
        &self,
        relay: &Relay,
        connected: &Connected,
        screen: &mut Screen,
        patience: Duration,
    ) -> Comparison {
        let begun = tokio::time::Instant::now();
        let mut snapshots = relay.handle().snapshots();
        loop {
            let judgement = self.judge(connected).await.unwrap_or_else(|fault| Comparison {
                missing: vec![format!("FileMaker could not be read: {fault}")],
                ..Comparison::default()
            });
            let snapshot = snapshots.borrow_and_update().clone();
            let calm = snapshot.wanted == 0 && snapshot.queue_waiting + snapshot.queue_in_flight == 0;
            if (judgement.all_arrived() && calm) || begun.elapsed() > patience {
                return judgement;
            }
            screen.paint(&snapshot, &["  Waiting for the rest to arrive.".to_owned()]);
            // The next snapshot comes within a second, or the relay has ended.
            if snapshots.changed().await.is_err() {
                return judgement;
            }
        }
    }

    /// The last words; true if everything arrived.
    pub(super) fn summary(
        &self,
        judgement: &Comparison,
        snapshot: &Snapshot,
        mishaps: &Mishaps,
        audit_intact: bool,
    ) -> bool {
        println!("The demo of Chart Relay, with synthetic data only:");
        println!(
            "  entered in the chart system: {} records and {} changes to them; corrected in FileMaker: {}",
            self.created, self.changed, self.corrected
        );
        for note in mishaps.happened() {
            println!("  mishap: {note}");
        }
        for line in words::summary(snapshot, &TimeZone::system()) {
            println!("  {line}");
        }
        let counts = self.filemaker.control().counts();
        println!(
            "  FileMaker saw {} sign-ins and at most {} sessions at once",
            counts.logins, counts.max_open_sessions
        );
        println!("  audit log: {}", if audit_intact { "unaltered, verified" } else { "NOT INTACT" });
        for missing in judgement.missing.iter().take(10) {
            println!("  not arrived: {missing}");
        }
        let (arrived, expected) = (judgement.expected.saturating_sub(judgement.missing.len()), judgement.expected);
        println!(
            "  {arrived} of {expected} records arrived as entered, {} doubled, {} need a person",
            judgement.doubled.len(),
            snapshot.dead
        );
        judgement.all_arrived() && audit_intact && snapshot.dead == 0 && expected > 0
    }
}
