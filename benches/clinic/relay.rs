//! The relay in this process, on its embedded queue and ledger, with its keys proven.

use std::{path::Path, sync::Arc, time::Duration};

use chart_relay::{
    adapters::{clock::SystemClock, secrets::Memory},
    config::Config,
    secrets::{Secret, SecretName, Secrets as _},
    wiring::{Connected, Relay, command_owner},
};
use engine::{
    key::{FirmId, RecordKey, ResourceType},
    keys::ClinicKey,
    ports::Clock,
    proof,
};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::clinic::{Clinic, FIRM, SECRET, until};

pub struct Running {
    pub relay: Relay,
    _data: TempDir,
}

impl Running {
    /// With a row for each patient, and at rest.
    pub async fn start(clinic: &Clinic, config: &str) -> Self {
        let config = Config::parse(config, Path::new("")).expect("the benchmark's configuration is right");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let secrets = Arc::new(Memory::new());
        secrets.set(&SecretName::parse(FIRM).unwrap(), Secret::new(SECRET)).await.unwrap();
        let connected = Connected::all(&config, &*secrets, &clock).await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let key = ClinicKey::generate();
        let relay = Relay::start(&config, data.path(), &key, &connected, secrets, clock).await.unwrap();
        let patient = ResourceType::new("Patient").unwrap();
        let table = &connected[0].config.mapping.resources[&patient].table;
        let proven = RecordKey::proof(FirmId::new(FIRM).unwrap(), patient.clone());
        let (owner, term) = (command_owner(&config.station.id), Duration::from_secs(30));
        proof::note(&*relay.database.ledger(), &proven, table, owner, term, Timestamp::now()).await.unwrap();
        let running = Self { relay, _data: data };
        running.hint(clinic).await;
        until(|| clinic.rows() == clinic.patients.len()).await;
        running.at_rest().await;
        running
    }

    /// One for each patient.
    pub async fn hint(&self, clinic: &Clinic) {
        self.relay.database.queue().send(clinic.hints()).await.unwrap();
    }

    /// Nothing waits, and nothing runs, in two looks: the first may be older than what was hinted.
    pub async fn at_rest(&self) {
        let mut snapshots = self.relay.handle().snapshots();
        let mut quiet = 0;
        while quiet < 2 {
            snapshots.changed().await.unwrap();
            let snapshot = snapshots.borrow_and_update();
            let waits = snapshot.queue_waiting + snapshot.queue_in_flight + snapshot.wanted > 0;
            quiet = if waits || !snapshot.running.is_empty() { 0 } else { quiet + 1 };
        }
    }

    pub async fn stop(self) {
        self.relay.handle().stop();
        self.relay.ended().await.unwrap();
    }
}
