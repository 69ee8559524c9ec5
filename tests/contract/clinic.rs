//! The clinic's database: rows by key and by UUID, what people changed at the desk, and rows that are taken over. The first half of
//! the port (guarded writes) is in `tests/filemaker`; here are both implementations side by side.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chart_relay::adapters::{
    filemaker::{FileMaker, FileMakerConfig},
    secret::Secret,
};
use engine::{
    error::{Class, Code, Fault},
    fakes::{FakeClock, MemoryClinic},
    key::RowUuid,
    ports::{ClinicDatabase, Clock as _, RowChange},
    row::{ChangeFields, FieldType, Fields, ModId, Table, Value},
};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use simulators::filemaker as sim;

/// A clinic with people at its desk.
trait Desk: Sized {
    async fn start() -> Self;
    fn clinic(&self) -> Arc<dyn ClinicDatabase>;
    /// Lets time pass on the host.
    fn pass(&self, long: Duration);
    /// Somebody enters a patient.
    fn enter(&self, name: &str) -> RowUuid;
    fn rename(&self, row: &RowUuid, name: &str);
    fn delete(&self, row: &RowUuid);
    /// As the clinic's wall clock has it.
    fn now(&self) -> Timestamp;
}

const LAYOUT: &str = "API_Patient";

fn began() -> Timestamp {
    "2026-03-02T08:00:00Z".parse().unwrap()
}

fn zone() -> TimeZone {
    TimeZone::get("America/New_York").unwrap()
}

struct Memory(Arc<FakeClock>, Arc<MemoryClinic>);

impl Desk for Memory {
    async fn start() -> Self {
        let clock = FakeClock::at(began());
        Self(clock.clone(), MemoryClinic::on_host(clock, zone()))
    }

    fn clinic(&self) -> Arc<dyn ClinicDatabase> {
        self.1.clone()
    }

    fn pass(&self, long: Duration) {
        self.0.suspend(long);
    }

    fn enter(&self, name: &str) -> RowUuid {
        self.1.enter_by_hand(LAYOUT, named(name))
    }

    fn rename(&self, row: &RowUuid, name: &str) {
        assert!(self.1.edit_by_hand(LAYOUT, row.as_str(), "LastName", Value::Text(name.to_owned())));
    }

    fn delete(&self, row: &RowUuid) {
        self.1.delete_by_hand(LAYOUT, row.as_str());
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

struct Simulated {
    /// Runs until it is dropped.
    _host: sim::FileMaker,
    control: sim::Control,
    clock: sim::Clock,
    relay: Arc<FileMaker>,
}

impl Simulated {
    fn record(&self, row: &RowUuid) -> u64 {
        self.control.record_with("Patient", "UUID", row.as_str()).unwrap().record_id
    }
}

impl Desk for Simulated {
    async fn start() -> Self {
        let clock = sim::Clock::standing(began());
        let clinic = sim::Clinic::synthetic("relay", "SYNTHETIC-open-sesame").clock(clock.clone()).zone(zone());
        let host = sim::FileMaker::start(clinic).await.unwrap();
        let config = FileMakerConfig::new(host.base_url(), "Clinic", "relay");
        let own = FakeClock::at(began());
        let relay = Arc::new(FileMaker::new(config, Secret::new("SYNTHETIC-open-sesame"), own).unwrap());
        Self { control: host.control(), _host: host, clock, relay }
    }

    fn clinic(&self) -> Arc<dyn ClinicDatabase> {
        self.relay.clone()
    }

    fn pass(&self, long: Duration) {
        self.clock.advance(long);
    }

    fn enter(&self, name: &str) -> RowUuid {
        let id = self.control.desk_create("Patient", &[("LastName", name)]).unwrap();
        RowUuid::new(self.control.record("Patient", id).unwrap().fields["UUID"].clone()).unwrap()
    }

    fn rename(&self, row: &RowUuid, name: &str) {
        self.control.desk_edit("Patient", self.record(row), &[("LastName", name)]).unwrap();
    }

    fn delete(&self, row: &RowUuid) {
        self.control.desk_delete("Patient", self.record(row)).unwrap();
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

macro_rules! promises {
    ($($test:ident)*) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $test() {
                super::$test(<super::Memory as super::Desk>::start().await).await;
            })*
        }
        mod filemaker {
            $(#[tokio::test]
            async fn $test() {
                super::$test(<super::Simulated as super::Desk>::start().await).await;
            })*
        }
    };
}
promises!(
    a_row_that_somebody_entered_is_found_by_its_uuid_and_has_no_key
    what_changed_is_listed_oldest_first_and_by_the_hosts_clock
    a_long_list_comes_in_pages_also_where_all_changed_in_one_second
    the_whole_table_comes_in_pages
    our_own_writes_are_changes_too
    a_row_is_taken_over_once_and_only_from_the_version_that_was_read
    a_key_belongs_to_one_row
    a_deleted_row_is_neither_found_nor_listed
    a_table_without_the_fields_is_served_and_not_watched
);

fn table() -> Table {
    Table {
        layout: LAYOUT.to_owned(),
        key_field: "FhirId".to_owned(),
        changes: Some(ChangeFields { uuid: "UUID".to_owned(), modified: "ModifiedAt".to_owned() }),
        number: None,
        fields: BTreeMap::from([("LastName".to_owned(), FieldType::Text)]),
    }
}

fn named(name: &str) -> Fields {
    BTreeMap::from([("LastName".to_owned(), Value::Text(name.to_owned()))])
}

fn local(at: Timestamp) -> DateTime {
    at.to_zoned(zone()).datetime()
}

/// Every page.
async fn list(clinic: &dyn ClinicDatabase, since: Option<DateTime>) -> Vec<RowChange> {
    let (mut all, mut page) = (Vec::new(), None);
    loop {
        let changes = clinic.changed(&table(), since, page.as_ref()).await.unwrap();
        all.extend(changes.changes);
        page = changes.next;
        if page.is_none() {
            return all;
        }
    }
}

fn uuids(changes: &[RowChange]) -> Vec<RowUuid> {
    changes.iter().map(|change| change.uuid.clone().unwrap()).collect()
}

#[track_caller]
fn refused<T>(result: Result<T, Fault>, class: Class, code: Code) {
    let fault = result.err().expect("a fault");
    assert_eq!((fault.class, fault.code), (class, code), "{fault}");
}

async fn a_row_that_somebody_entered_is_found_by_its_uuid_and_has_no_key(desk: impl Desk) {
    let clinic = desk.clinic();
    let (ada, _) = (desk.enter("Testpatient"), desk.enter("Another"));
    let row = clinic.find_row(&table(), &ada).await.unwrap().unwrap();
    assert_eq!((row.key, row.uuid), (None, Some(ada)));
    assert_eq!(row.modified, Some(local(desk.now())));
    assert!(row.fields == named("Testpatient"));
    let nobody = RowUuid::new("00000000-0000-4000-8000-000000000000").unwrap();
    assert!(clinic.find_row(&table(), &nobody).await.unwrap().is_none());
}

async fn what_changed_is_listed_oldest_first_and_by_the_hosts_clock(desk: impl Desk) {
    let clinic = desk.clinic();
    let (one, two, three) = (desk.enter("One"), desk.enter("Two"), desk.enter("Three"));
    desk.pass(Duration::from_secs(60));
    let since = local(desk.now());
    assert_eq!(list(&*clinic, Some(since)).await, []);
    desk.rename(&two, "Two again");
    desk.pass(Duration::from_secs(1));
    desk.rename(&one, "One again");
    let changes = clinic.changed(&table(), Some(since), None).await.unwrap();
    assert_eq!(changes.host_time, Some(desk.now()));
    assert_eq!(uuids(&changes.changes), [two, one], "the second itself belongs to it");
    assert!(changes.changes.iter().all(|change| change.mod_id == ModId("1".into()) && change.key.is_none()));
    assert_eq!(changes.changes[1].modified, Some(local(desk.now())));
    let all = list(&*clinic, None).await;
    assert_eq!(all.len(), 3);
    assert!(all.iter().any(|change| change.uuid.as_ref() == Some(&three)));
}

async fn a_long_list_comes_in_pages_also_where_all_changed_in_one_second(desk: impl Desk) {
    let clinic = desk.clinic();
    let mut entered: Vec<_> = (0..5).map(|number| desk.enter(&format!("Early {number}"))).collect();
    desk.pass(Duration::from_secs(5));
    entered.extend((0..430).map(|number| desk.enter(&format!("Same {number}"))));
    desk.pass(Duration::from_secs(5));
    entered.extend((0..5).map(|number| desk.enter(&format!("Late {number}"))));
    let listed = list(&*clinic, Some(local(began()))).await;
    assert!(listed.is_sorted_by_key(|change| change.modified));
    let mut listed = uuids(&listed);
    listed.sort();
    entered.sort();
    assert_eq!(listed, entered, "each once");
}

async fn the_whole_table_comes_in_pages(desk: impl Desk) {
    let clinic = desk.clinic();
    assert_eq!(list(&*clinic, None).await, [], "an empty table has no pages");
    let mut entered: Vec<_> = (0..430).map(|number| desk.enter(&format!("Patient {number}"))).collect();
    let mut listed = uuids(&list(&*clinic, None).await);
    listed.sort();
    entered.sort();
    assert_eq!(listed, entered);
}

async fn our_own_writes_are_changes_too(desk: impl Desk) {
    let clinic = desk.clinic();
    let (id, created) = clinic.create(&table(), "p1", &named("Testpatient")).await.unwrap();
    desk.pass(Duration::from_secs(60));
    let since = local(desk.now());
    let edited = clinic.edit(&table(), &id, &created, &named("Renamed")).await.unwrap();
    let changes = list(&*clinic, Some(since)).await;
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].key.as_deref(), &changes[0].mod_id), (Some("p1"), &edited), "by this it is known as ours");
    let row = clinic.find(&table(), "p1").await.unwrap().unwrap();
    assert_eq!((row.key.as_deref(), &row.uuid), (Some("p1"), &changes[0].uuid));
}

async fn a_row_is_taken_over_once_and_only_from_the_version_that_was_read(desk: impl Desk) {
    let clinic = desk.clinic();
    let ada = desk.enter("Testpatient");
    let before = clinic.find_row(&table(), &ada).await.unwrap().unwrap();
    desk.rename(&ada, "Renamed");
    let stale = clinic.adopt(&table(), &before.id, &before.mod_id, "p1").await;
    refused(stale, Class::Stale, Code::RecordChanged);
    let row = clinic.find_row(&table(), &ada).await.unwrap().unwrap();
    let version = clinic.adopt(&table(), &row.id, &row.mod_id, "p1").await.unwrap();
    assert_ne!(version, row.mod_id);
    let found = clinic.find(&table(), "p1").await.unwrap().unwrap();
    assert_eq!((&found.id, &found.mod_id, found.uuid.as_ref()), (&row.id, &version, Some(&ada)));
    assert!(found.fields == named("Renamed"), "nothing else was written");
    let again = clinic.adopt(&table(), &row.id, &row.mod_id, "p2").await;
    refused(again, Class::Stale, Code::RecordChanged);
}

async fn a_key_belongs_to_one_row(desk: impl Desk) {
    let clinic = desk.clinic();
    clinic.create(&table(), "p1", &named("Testpatient")).await.unwrap();
    let ada = desk.enter("Testpatient");
    let row = clinic.find_row(&table(), &ada).await.unwrap().unwrap();
    refused(clinic.adopt(&table(), &row.id, &row.mod_id, "p1").await, Class::Stale, Code::RecordChanged);
    let row = clinic.find_row(&table(), &ada).await.unwrap().unwrap();
    assert_eq!(row.key, None);
}

async fn a_deleted_row_is_neither_found_nor_listed(desk: impl Desk) {
    let clinic = desk.clinic();
    let (ada, other) = (desk.enter("Testpatient"), desk.enter("Another"));
    let row = clinic.find_row(&table(), &ada).await.unwrap().unwrap();
    desk.delete(&ada);
    assert!(clinic.find_row(&table(), &ada).await.unwrap().is_none());
    assert_eq!(uuids(&list(&*clinic, None).await), std::slice::from_ref(&other));
    assert_eq!(uuids(&list(&*clinic, Some(local(began()))).await), [other]);
    refused(clinic.adopt(&table(), &row.id, &row.mod_id, "p1").await, Class::Stale, Code::RecordChanged);
}

async fn a_table_without_the_fields_is_served_and_not_watched(desk: impl Desk) {
    let clinic = desk.clinic();
    let table = Table { changes: None, ..table() };
    let (id, version) = clinic.create(&table, "p1", &named("Testpatient")).await.unwrap();
    clinic.edit(&table, &id, &version, &named("Renamed")).await.unwrap();
    let row = clinic.find(&table, "p1").await.unwrap().unwrap();
    assert_eq!((row.uuid, row.modified), (None, None));
    refused(clinic.find_row(&table, &RowUuid::new("A").unwrap()).await, Class::Stop, Code::FieldMissing);
    refused(clinic.changed(&table, None, None).await, Class::Stop, Code::FieldMissing);
    refused(clinic.changed(&table, Some(local(began())), None).await, Class::Stop, Code::FieldMissing);
}
