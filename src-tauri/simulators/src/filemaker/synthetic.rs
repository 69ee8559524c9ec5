//! The synthetic clinic of demo, tests and benchmarks: one file, four tables, four layouts, no records.

use super::model::{Clinic, Field, File, Layout, Table};

impl Clinic {
    /// File `Clinic` with layouts `API_Patient`, `API_IntakeForm`, `API_Measurement` and `API_ProgressNote` on the tables of
    /// the same names. Every table has `UUID` (auto-enter), `FhirId` (unique, validated always) and `ModifiedAt` (the host's time).
    pub fn synthetic(account: &str, password: &str) -> Self {
        let patient = table("Patient")
            .field(Field::text("LastName"))
            .field(Field::text("FirstName"))
            .field(Field::date("BirthDate"))
            .field(Field::text("Sex"))
            .field(Field::text("Phone"))
            .field(Field::text("Email"))
            .field(Field::text("Street"))
            .field(Field::text("City"))
            .field(Field::text("State"))
            .field(Field::text("PostalCode"))
            .field(Field::text("MRN").indexed())
            .field(Field::number("Active"));
        let intake = child("IntakeForm")
            .field(Field::time_stamp("Authored"))
            .field(Field::text("Allergies"))
            .field(Field::text("Medications"))
            .field(Field::text("ReasonForVisit"))
            .field(Field::number("SmokerYesNo"))
            .field(Field::number("PainScore"));
        let measurement = child("Measurement")
            .field(Field::text("Code"))
            .field(Field::text("Label"))
            .field(Field::number("Value"))
            .field(Field::text("Unit"))
            .field(Field::time_stamp("MeasuredAt"))
            .field(Field::number("Systolic"))
            .field(Field::number("Diastolic"));
        let note = child("ProgressNote")
            .field(Field::text("Title"))
            .field(Field::time_stamp("NoteDate"))
            .field(Field::text("NoteText"));
        let mut file = File::new("Clinic");
        for table in [patient, intake, measurement, note] {
            let layout = Layout::new(&format!("API_{}", table.name), &table.name);
            file = file.table(table).layout(layout);
        }
        Self::new(account, password).file(file)
    }
}

fn table(name: &str) -> Table {
    Table::new(name)
        .field(Field::text("UUID").auto_uuid().indexed())
        .field(Field::text("FhirId").unique().always())
        .field(Field::time_stamp("ModifiedAt").auto_host_modified().indexed())
}

fn child(name: &str) -> Table {
    table(name).field(Field::text("PatientFhirId").indexed()).field(Field::text("Status"))
}
