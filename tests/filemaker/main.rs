//! The FileMaker client over real HTTP against the simulator. Everything in here is synthetic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

mod check_up;
mod faults;
mod pool;
mod raw;
mod rows;
mod trust;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chart_relay::adapters::{
    filemaker::{FileMaker, FileMakerConfig},
    secret::Secret,
};
use engine::{
    error::{Class, Code, Fault},
    fakes::FakeClock,
    row::{FieldType, Fields, Table, Value},
};
use simulators::filemaker::{self as sim, Clinic, Control, Field, File, Layout};

const ACCOUNT: &str = "relay";
const PASSWORD: &str = "SYNTHETIC-open-sesame";

/// A simulated clinic with a client of it.
struct Bench {
    /// Runs until it is dropped.
    _host: sim::FileMaker,
    control: Control,
    clock: Arc<FakeClock>,
    relay: Arc<FileMaker>,
}

async fn bench() -> Bench {
    bench_with(Clinic::synthetic(ACCOUNT, PASSWORD), |_| {}).await
}

async fn bench_with(clinic: Clinic, change: impl FnOnce(&mut FileMakerConfig)) -> Bench {
    let host = sim::FileMaker::start(clinic).await.unwrap();
    let control = host.control();
    let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
    let mut config = config(&host.base_url());
    change(&mut config);
    let relay = Arc::new(FileMaker::new(config, Secret::new(PASSWORD), clock.clone()).unwrap());
    Bench { _host: host, control, clock, relay }
}

fn config(url: &str) -> FileMakerConfig {
    let mut config = FileMakerConfig::new(url, "Clinic", ACCOUNT);
    config.read_timeout = Duration::from_secs(20);
    config
}

/// A file whose key is not unique, and which has fields of every type.
fn loose_clinic() -> Clinic {
    let table = sim::Table::new("Loose")
        .field(Field::text("FhirId"))
        .field(Field::text("Name"))
        .field(Field::number("Amount"))
        .field(Field::date("Day"))
        .field(Field::time_stamp("At"))
        .field(Field::number("Yes"))
        .field(Field::text("Other"));
    Clinic::new(ACCOUNT, PASSWORD).file(File::new("Clinic").table(table).layout(Layout::new("API_Loose", "Loose")))
}

fn loose() -> Table {
    table(
        "API_Loose",
        &[
            ("Name", FieldType::Text),
            ("Amount", FieldType::Number),
            ("Day", FieldType::Date),
            ("At", FieldType::DateTime),
            ("Yes", FieldType::Flag),
        ],
    )
}

fn patients() -> Table {
    table("API_Patient", &[("LastName", FieldType::Text), ("MRN", FieldType::Text), ("BirthDate", FieldType::Date)])
}

fn table(layout: &str, fields: &[(&str, FieldType)]) -> Table {
    Table {
        layout: layout.to_owned(),
        key_field: "FhirId".to_owned(),
        changes: None,
        number: None,
        fields: fields.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
    }
}

fn named(name: &str) -> Fields {
    BTreeMap::from([("LastName".to_owned(), text(name))])
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[track_caller]
fn refused<T>(result: Result<T, Fault>, class: Class, code: Code) -> Fault {
    let fault = result.err().expect("a fault");
    assert_eq!((fault.class, fault.code), (class, code), "{fault}");
    fault
}

/// Waits for the world to be so.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), patience).await.unwrap_or_else(|_| panic!("never: {what}"));
}
