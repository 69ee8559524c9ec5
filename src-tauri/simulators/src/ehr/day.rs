//! A synthetic day of a dermatology clinic: visits open, begin and end, photographs and notes arrive in them, some late, some in bursts,
//! some twice amended, some withdrawn. It follows from its seed; the caller says how far it has come, so it may run as fast as wanted.
//!
//! It is entered through the control door of either server ([`Chart`]), and it remembers what was entered, to be compared with what
//! was found.
//!
//! The photographs are one grey pixel each.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{CATEGORY_SYSTEM, FirmControl};
use crate::fhir;
use crate::rest::fault::Lag;
use crate::rest::{NotAResource, Written};
use crate::synthetic::{Generator, TAG_SYSTEM};

/// A PNG of one grey pixel, in base64: a photograph that shows nobody.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";

/// Where a day is entered.
pub trait Chart {
    /// As `put` of [`fhir::Control`].
    ///
    /// # Errors
    /// [`NotAResource`].
    fn put(&self, resource: Value) -> Result<Written, NotAResource>;
    /// As `put_late` of [`fhir::Control`].
    ///
    /// # Errors
    /// [`NotAResource`].
    fn put_late(&self, resource: Value, visible: Lag) -> Result<Written, NotAResource>;
    /// The server's time.
    fn now(&self) -> Timestamp;
}

impl Chart for fhir::Control {
    fn put(&self, resource: Value) -> Result<Written, NotAResource> {
        self.put(resource)
    }

    fn put_late(&self, resource: Value, visible: Lag) -> Result<Written, NotAResource> {
        self.put_late(resource, visible)
    }

    fn now(&self) -> Timestamp {
        self.now()
    }
}

impl Chart for FirmControl {
    fn put(&self, resource: Value) -> Result<Written, NotAResource> {
        self.put(resource)
    }

    fn put_late(&self, resource: Value, visible: Lag) -> Result<Written, NotAResource> {
        self.put_late(resource, visible)
    }

    fn now(&self) -> Timestamp {
        self.now()
    }
}

/// What a document is to the relay, if the firm has chosen its categories rightly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// A photograph of one lesion.
    Solitary,
    /// A photograph of a rash.
    Widespread,
    /// A text.
    Note,
    /// Of no interest: an insurance card.
    Ignored,
    /// Of a category for which the firm has chosen nothing.
    Unsorted,
}

/// A category of a firm's documents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Category {
    /// Its code, of the system [`CATEGORY_SYSTEM`].
    pub code: String,
    /// What it is called.
    pub display: &'static str,
    /// What it is to the relay.
    pub class: Class,
}

/// The categories of the firm of this number: the same for all, under codes of its own.
#[must_use]
pub fn categories(firm: usize) -> Vec<Category> {
    let kinds = [
        ("Clinical photograph", Class::Solitary),
        ("Dermoscopy", Class::Solitary),
        ("Rash photograph", Class::Widespread),
        ("Progress note", Class::Note),
        ("Insurance card", Class::Ignored),
        ("Miscellaneous", Class::Unsorted),
    ];
    kinds
        .into_iter()
        .enumerate()
        .map(|(at, (display, class))| Category { code: (100 * (firm + 1) + at).to_string(), display, class })
        .collect()
}

/// What kind of resources a day is entered as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// R4: one photograph in three is a Media, the others are DocumentReferences.
    R4,
    /// EMA: DocumentReferences whose ids say whether they are files or notes.
    Ema,
}

/// What kind of day it is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Visits in it.
    pub visits: usize,
    /// From the first to the last of them.
    pub length: Duration,
    /// As what it is entered.
    pub manner: Manner,
    /// Number of the firm, which its category codes follow.
    pub firm: usize,
    /// How late what is late becomes visible, on the server's clock.
    pub late: SignedDuration,
    /// Of a hundred documents, so many become visible late.
    pub late_share: u32,
    /// Of a hundred visits, so many have a burst of photographs at one moment.
    pub burst_share: u32,
    /// Of a hundred documents, so many are withdrawn some minutes later.
    pub withdrawn_share: u32,
    /// Of a hundred documents, so many get another version some minutes later.
    pub amended_share: u32,
}

impl Plan {
    /// A day of eight hours.
    #[must_use]
    pub fn usual(visits: usize, manner: Manner) -> Self {
        Self {
            visits,
            length: Duration::from_secs(8 * 3600),
            manner,
            firm: 0,
            late: SignedDuration::from_secs(20),
            late_share: 5,
            burst_share: 8,
            withdrawn_share: 5,
            amended_share: 5,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A visit opened: the patient arrived.
    Opened,
    /// It began.
    Began,
    /// It ended.
    Finished,
    /// A photograph or a note was entered.
    Entered(Class),
    /// It got another version.
    Amended(Class),
    /// It was withdrawn, as entered in error.
    Withdrawn(Class),
}

/// Something that happened, and to what.
#[derive(Clone, PartialEq, Debug)]
pub struct Happened {
    /// When, from the beginning of the day.
    pub after: Duration,
    /// What.
    pub what: What,
    /// Id of the visit.
    pub encounter: String,
    /// The version that was made by it.
    pub written: Written,
    /// Whether it becomes visible late.
    pub late: bool,
}

/// A visit, as it was entered.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Its id.
    pub id: String,
    /// Its patient's id.
    pub patient: String,
    /// Its versions, oldest first.
    pub versions: Vec<Written>,
}

/// A document, as it was entered.
#[derive(Clone, Debug)]
pub struct Document {
    /// DocumentReference or Media.
    pub resource_type: &'static str,
    /// Its id.
    pub id: String,
    /// Id of its visit.
    pub encounter: String,
    /// Id of its patient.
    pub patient: String,
    /// What it is to the relay.
    pub class: Class,
    /// Its versions, oldest first; the last one of a withdrawn document is the withdrawal.
    pub versions: Vec<Written>,
    /// Whether it was withdrawn.
    pub withdrawn: bool,
    resource: Value,
}

/// What a step came to.
struct Done {
    what: What,
    encounter: String,
    written: Written,
    late: bool,
}

enum Step {
    Status(usize, &'static str, What),
    Photograph { visit: usize, card: bool },
    Note(usize),
    Amend(usize),
    Withdraw(usize),
}

/// A day under way.
pub struct Day {
    chance: ChaCha8Rng,
    patients: Generator,
    plan: Plan,
    categories: Vec<Category>,
    agenda: BTreeMap<(Duration, usize), Step>,
    steps: usize,
    visits: Vec<Visit>,
    documents: Vec<Document>,
}

impl std::fmt::Debug for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Day").field("plan", &self.plan).field("left", &self.agenda.len()).finish_non_exhaustive()
    }
}

impl Day {
    /// A day that has not begun.
    #[must_use]
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut day = Self {
            chance: ChaCha8Rng::seed_from_u64(seed),
            patients: Generator::new(seed),
            plan,
            categories: categories(plan.firm),
            agenda: BTreeMap::new(),
            steps: 0,
            visits: Vec::new(),
            documents: Vec::new(),
        };
        for number in 0..plan.visits {
            day.visit(number);
        }
        day
    }

    /// Puts a visit on the agenda.
    fn visit(&mut self, number: usize) {
        let patient = self.id("patient", number);
        self.visits.push(Visit { id: self.id("encounter", number), patient, versions: Vec::new() });
        let opens = self.plan.length.mul_f64(self.chance.random_range(0.0..1.0));
        let begins = opens + self.minutes(3..12);
        let ends = begins + self.minutes(12..30);
        self.at(opens, Step::Status(number, "arrived", What::Opened));
        self.at(begins, Step::Status(number, "in-progress", What::Began));
        self.at(ends, Step::Status(number, "finished", What::Finished));
        if self.happens(30) {
            self.at(opens, Step::Photograph { visit: number, card: true });
        }
        for _ in 0..self.chance.random_range(0..4) {
            let when = begins + (ends - begins).mul_f64(self.chance.random_range(0.0..1.0));
            self.at(when, Step::Photograph { visit: number, card: false });
        }
        if self.happens(self.plan.burst_share) {
            let when = begins + (ends - begins) / 2;
            for _ in 0..self.chance.random_range(4..8) {
                self.at(when, Step::Photograph { visit: number, card: false });
            }
        }
        if self.happens(70) {
            // Notes are written up when the patient has gone.
            let when = ends + self.minutes(0..20);
            self.at(when, Step::Note(number));
        }
    }

    /// Enters what has happened up to this time of the day, and tells of it.
    ///
    /// # Errors
    /// [`NotAResource`] where the server takes none of it.
    pub fn until(&mut self, elapsed: Duration, chart: &impl Chart) -> Result<Vec<Happened>, NotAResource> {
        let mut happened = Vec::new();
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= elapsed) {
            let ((after, _), step) = entry.remove_entry();
            let Done { what, encounter, written, late } = match step {
                Step::Status(visit, status, what) => self.change_visit(visit, status, what, chart)?,
                Step::Photograph { visit, card } => self.photograph(visit, card, after, chart)?,
                Step::Note(visit) => self.note(visit, after, chart)?,
                Step::Amend(document) => self.amend(document, false, chart)?,
                Step::Withdraw(document) => self.amend(document, true, chart)?,
            };
            happened.push(Happened { after, what, encounter, written, late });
        }
        Ok(happened)
    }

    /// When something happens next; `None` at the end of the day.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.agenda.first_key_value().map(|((after, _), _)| *after)
    }

    /// The visits, those too that have not opened yet.
    #[must_use]
    pub fn visits(&self) -> &[Visit] {
        &self.visits
    }

    /// The documents that were entered, oldest first.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    fn change_visit(
        &mut self,
        number: usize,
        status: &str,
        what: What,
        chart: &impl Chart,
    ) -> Result<Done, NotAResource> {
        if what == What::Opened {
            let mut patient = self.patients.patient();
            patient["id"] = json!(self.visits[number].patient);
            chart.put(patient)?;
        }
        let visit = &mut self.visits[number];
        let now = chart.now();
        let opened = visit.versions.first().map_or(now, |written| written.last_updated);
        let mut period = json!({"start": format!("{opened:.0}")});
        if what == What::Finished {
            period["end"] = json!(format!("{now:.0}"));
        }
        let encounter = json!({
            "resourceType": "Encounter",
            "id": visit.id,
            "meta": marked(),
            "status": status,
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": {"reference": format!("Patient/{}", visit.patient)},
            "period": period,
        });
        let written = chart.put(encounter)?;
        visit.versions.push(written.clone());
        Ok(Done { what, encounter: visit.id.clone(), written, late: false })
    }

    fn photograph(
        &mut self,
        visit: usize,
        card: bool,
        after: Duration,
        chart: &impl Chart,
    ) -> Result<Done, NotAResource> {
        let class = match self.chance.random_range(0..100) {
            _ if card => Class::Ignored,
            0..55 => Class::Solitary,
            55..90 => Class::Widespread,
            _ => Class::Unsorted,
        };
        let attachment = json!({"contentType": "image/png", "data": PIXEL, "title": "SYNTHETIC, one pixel"});
        let media = self.plan.manner == Manner::R4 && self.happens(33);
        self.enter(visit, class, "file", attachment, media, after, chart)
    }

    fn note(&mut self, visit: usize, after: Duration, chart: &impl Chart) -> Result<Done, NotAResource> {
        let text = STANDARD.encode("SYNTHETIC NOTE\nSkin: one lesion on the back, unchanged.\n");
        let attachment = json!({"contentType": "text/plain", "data": text, "title": "SYNTHETIC note"});
        self.enter(visit, Class::Note, "note", attachment, false, after, chart)
    }

    #[allow(clippy::too_many_arguments, reason = "what a document is made of")]
    fn enter(
        &mut self,
        visit: usize,
        class: Class,
        kind: &str,
        attachment: Value,
        media: bool,
        after: Duration,
        chart: &impl Chart,
    ) -> Result<Done, NotAResource> {
        let number = self.documents.len();
        let id = self.id(kind, number);
        let fitting: Vec<&Category> = self.categories.iter().filter(|category| category.class == class).collect();
        let category = fitting[self.chance.random_range(0..fitting.len())];
        let category = json!({"coding": [{
            "system": CATEGORY_SYSTEM, "code": category.code, "display": category.display}]});
        let Visit { id: encounter, patient, .. } = self.visits[visit].clone();
        let (of, subject) = (json!({"reference": format!("Encounter/{encounter}")}), format!("Patient/{patient}"));
        let date = format!("{:.0}", chart.now());
        let resource = if media {
            json!({
                "resourceType": "Media", "id": id, "meta": marked(), "status": "completed",
                "modality": category, "subject": {"reference": subject}, "encounter": of,
                "createdDateTime": date, "content": attachment,
            })
        } else {
            json!({
                "resourceType": "DocumentReference", "id": id, "meta": marked(), "status": "current",
                "category": [category], "subject": {"reference": subject}, "date": date,
                "content": [{"attachment": attachment}], "context": {"encounter": [of]},
            })
        };
        let late = self.happens(self.plan.late_share);
        let written = if late {
            chart.put_late(resource.clone(), Lag::For(self.plan.late))?
        } else {
            chart.put(resource.clone())?
        };
        if self.happens(self.plan.withdrawn_share) {
            let when = after + self.minutes(2..15);
            self.at(when, Step::Withdraw(number));
        } else if self.happens(self.plan.amended_share) {
            let when = after + self.minutes(2..15);
            self.at(when, Step::Amend(number));
        }
        self.documents.push(Document {
            resource_type: if media { "Media" } else { "DocumentReference" },
            id,
            encounter: encounter.clone(),
            patient,
            class,
            versions: vec![written.clone()],
            withdrawn: false,
            resource,
        });
        Ok(Done { what: What::Entered(class), encounter, written, late })
    }

    fn amend(&mut self, number: usize, withdraw: bool, chart: &impl Chart) -> Result<Done, NotAResource> {
        let document = &mut self.documents[number];
        if withdraw {
            document.resource["status"] = json!("entered-in-error");
            document.withdrawn = true;
        } else {
            document.resource["description"] = json!("SYNTHETIC, amended");
        }
        let written = chart.put(document.resource.clone())?;
        document.versions.push(written.clone());
        let what = if withdraw { What::Withdrawn(document.class) } else { What::Amended(document.class) };
        Ok(Done { what, encounter: document.encounter.clone(), written, late: false })
    }

    fn id(&self, kind: &str, number: usize) -> String {
        match (self.plan.manner, kind) {
            (Manner::R4, _) => format!("synthetic-{kind}-{number:04}"),
            (Manner::Ema, "file" | "note") => format!("{kind}|{}", 130_000 + number),
            (Manner::Ema, "patient") => (7_000 + number).to_string(),
            (Manner::Ema, _) => (50_000 + number).to_string(),
        }
    }

    fn at(&mut self, when: Duration, step: Step) {
        self.steps += 1;
        self.agenda.insert((when, self.steps), step);
    }

    fn minutes(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_secs(self.chance.random_range(range.start * 60..range.end * 60))
    }

    /// So often of a hundred times.
    fn happens(&mut self, share: u32) -> bool {
        self.chance.random_ratio(share.min(100), 100)
    }
}

fn marked() -> Value {
    json!({"tag": [{"system": TAG_SYSTEM, "code": "SYNTHETIC", "display": "Synthetic, no real person"}]})
}
