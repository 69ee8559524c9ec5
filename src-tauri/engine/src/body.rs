//! What the body of a message may be, and the hints that are taken from it. Whoever writes into the queue may write one of
//!
//! - our own format, version 1: `{"v":1,"hints":[{"resource":"Patient","id":"123"}]}`, where `firm`, `origin` and `at` may be left out;
//! - the plain shape `{"patientId":"123","intakeFormId":"456"}`, of which either may be left out;
//! - a whole FHIR resource, such as a rest-hook sends: its type and id are taken, and nothing else of it is kept;
//! - one of these in an envelope of SNS or EventBridge.
//!
//! Anything else is no hint. Nothing here quotes a body: it may be anything.

use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    hint::{Body, Hint, Line, Origin, Subject, VERSION},
    key::{FirmId, ResourceId, ResourceType},
};

/// Our own format and the plain shape hold ids only. One that is larger is somebody else's.
pub const MOST_BYTES: usize = 16 * 1024;

/// A resource or an envelope may be as large as SQS lets a message be.
pub const MOST_BYTES_OF_A_RESOURCE: usize = 1024 * 1024;

/// An event in a notification is the deepest that AWS makes by itself.
const ENVELOPES: u32 = 2;

/// Why a message is not hints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the message has {bytes} bytes; {most} at most are expected")]
    TooLarge { bytes: usize, most: usize },
    #[error("the message is no JSON object: not as expected at line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error(
        "the message is neither hints, nor patientId and intakeFormId, nor a FHIR resource, nor one of these from SNS or EventBridge"
    )]
    Unknown,
    #[error("the message is {shape}, and something in it is not as expected at line {line}, column {column}")]
    NotAsDescribed { shape: &'static str, line: usize, column: usize },
    #[error("the message has format version {0}; this program knows version {VERSION}")]
    Version(u32),
    #[error("the message has a hint that names no resource and no row, or both")]
    NotOne,
    #[error("the message names no record")]
    Empty,
    #[error("the message names no clinic, and more than one is served: `default-firm` in [shared] says whose it is")]
    NoFirm,
}

const OURS: &str = "hints";
const PLAIN: &str = "patientId and intakeFormId";
const RESOURCE: &str = "a FHIR resource";
const ENVELOPE: &str = "an envelope of SNS or EventBridge";

/// A message that is not hints, and what may be kept of it: only ids, and only what may be read at another time (by a newer
/// version of this program, or when it is said whose it is).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    pub why: Malformed,
    pub keep: Option<String>,
}

impl From<Malformed> for Unread {
    fn from(why: Malformed) -> Self {
        Self { why, keep: None }
    }
}

/// Which of the shapes it is, by the names at its top. The rest is passed over without being held.
#[derive(Deserialize)]
struct Look {
    #[serde(rename = "resourceType")]
    resource: Option<IgnoredAny>,
    v: Option<IgnoredAny>,
    #[serde(rename = "TopicArn")]
    notification: Option<IgnoredAny>,
    #[serde(rename = "detail-type")]
    event: Option<IgnoredAny>,
    #[serde(rename = "patientId")]
    patient: Option<IgnoredAny>,
    #[serde(rename = "intakeFormId")]
    form: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(rename = "patientId")]
    patient: Option<ResourceId>,
    #[serde(rename = "intakeFormId")]
    form: Option<ResourceId>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "resourceType")]
    resource: ResourceType,
    id: ResourceId,
}

#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "Message")]
    message: String,
}

#[derive(Deserialize)]
struct Event {
    detail: serde_json::Value,
}

/// Reads bodies.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    /// Whose a message is that names no clinic.
    pub firm: Option<FirmId>,
}

impl Reader {
    /// What a message hints at. What it leaves out: `at` is when it was `sent`, `origin` is a push.
    ///
    /// # Errors
    /// Why it is no hint.
    pub fn read(&self, body: &str, sent: Timestamp) -> Result<Vec<Hint>, Unread> {
        let lines = lines(body, ENVELOPES)?;
        if lines.is_empty() {
            return Err(Malformed::Empty.into());
        }
        if lines.iter().any(|line| line.id.is_some() == line.row.is_some()) {
            return Err(Malformed::NotOne.into());
        }
        if self.firm.is_none() && lines.iter().any(|line| line.firm.is_none()) {
            let kept = serde_json::to_string(&Body { v: VERSION, hints: lines });
            return Err(Unread { why: Malformed::NoFirm, keep: kept.ok() });
        }
        let hint = |line: Line| {
            Some(Hint {
                firm: line.firm.or_else(|| self.firm.clone())?,
                resource: line.resource,
                subject: line.id.map(Subject::Resource).or(line.row.map(Subject::Row))?,
                origin: line.origin.unwrap_or(Origin::Push),
                at: line.at.unwrap_or(sent),
            })
        };
        Ok(lines.into_iter().filter_map(hint).collect())
    }
}

fn lines(body: &str, envelopes: u32) -> Result<Vec<Line>, Unread> {
    at_most(body, MOST_BYTES_OF_A_RESOURCE)?;
    // An array would do for a structure as well.
    if !body.trim_start().starts_with('{') {
        return Err(Malformed::NotJson { line: 1, column: 1 }.into());
    }
    let look: Look = serde_json::from_str(body)
        .map_err(|error| Malformed::NotJson { line: error.line(), column: error.column() })?;
    // First of all: what has a type is a resource, whatever else it says, and nothing of it is kept.
    if look.resource.is_some() {
        let Resource { resource, id } = parse(body, RESOURCE)?;
        return Ok(vec![line(resource, id)]);
    }
    if look.v.is_some() {
        return ours(body);
    }
    if look.patient.is_some() || look.form.is_some() {
        at_most(body, MOST_BYTES)?;
        let Plain { patient, form } = parse(body, PLAIN)?;
        let of = |resource, id: Option<ResourceId>| {
            id.map(|id| line(ResourceType::new(resource).expect("a resource type of R4"), id))
        };
        return Ok([of("Patient", patient), of("QuestionnaireResponse", form)].into_iter().flatten().collect());
    }
    if envelopes > 0 && look.notification.is_some() {
        return lines(&parse::<Notification>(body, ENVELOPE)?.message, envelopes - 1);
    }
    if envelopes > 0 && look.event.is_some() {
        return lines(&parse::<Event>(body, ENVELOPE)?.detail.to_string(), envelopes - 1);
    }
    Err(Malformed::Unknown.into())
}

/// Names a resource, and leaves everything else out.
fn line(resource: ResourceType, id: ResourceId) -> Line {
    Line { firm: None, resource, id: Some(id), row: None, origin: None, at: None }
}

fn ours(body: &str) -> Result<Vec<Line>, Unread> {
    at_most(body, MOST_BYTES)?;
    let Version { v } = parse(body, OURS)?;
    if v != VERSION {
        // Ids only, as long as it is ours: a newer station may read it.
        let keep = (!body.contains("resourceType")).then(|| body.to_owned());
        return Err(Unread { why: Malformed::Version(v), keep });
    }
    Ok(parse::<Body>(body, OURS)?.hints)
}

fn at_most(body: &str, most: usize) -> Result<(), Malformed> {
    if body.len() > most { Err(Malformed::TooLarge { bytes: body.len(), most }) } else { Ok(()) }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a str, shape: &'static str) -> Result<T, Malformed> {
    serde_json::from_str(body).map_err(|error| Malformed::NotAsDescribed {
        shape,
        line: error.line(),
        column: error.column(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::hint;

    const HINT: &str = r#"{"firm":"north","resource":"Patient","id":"p1","origin":"poll","at":"2026-03-02T08:00:00Z"}"#;

    fn sent() -> Timestamp {
        "2026-03-02T09:00:00Z".parse().unwrap()
    }

    fn north() -> Reader {
        Reader { firm: Some(FirmId::new("north").unwrap()) }
    }

    fn ours(version: u32, hints: &str) -> String {
        format!(r#"{{"v":{version},"hints":[{hints}]}}"#)
    }

    fn keys(body: &str) -> Result<Vec<String>, Unread> {
        Ok(north().read(body, sent())?.iter().map(|hint| hint.key().to_string()).collect())
    }

    fn why(body: &str) -> Malformed {
        let unread = north().read(body, sent()).unwrap_err();
        assert!(!unread.why.to_string().contains("SYNTHETIC"), "it quotes nothing: {}", unread.why);
        assert!(!unread.keep.is_some_and(|kept| kept.contains("SYNTHETIC")), "it keeps nothing of {body}");
        unread.why
    }

    #[test]
    fn our_own_format_is_read_as_it_was_written_and_what_is_left_out_is_filled_in() {
        let hints = Reader::default().read(&ours(1, HINT), sent()).unwrap();
        assert_eq!(Reader::default().read(&hint::encode(hints.clone()), sent()), Ok(hints.clone()));
        assert_eq!((hints[0].origin, hints[0].at), (Origin::Poll, "2026-03-02T08:00:00Z".parse().unwrap()));
        let short = north().read(&ours(1, r#"{"resource":"Patient","id":"p1"}"#), sent()).unwrap();
        let filled = Hint { origin: Origin::Push, at: sent(), ..hints[0].clone() };
        assert_eq!(short, [filled]);
        let row = HINT.replace(r#""id":"p1""#, r#""row":"0A1B-2C""#);
        let hints = Reader::default().read(&ours(1, &row), sent()).unwrap();
        assert_eq!(hints[0].key().to_string(), "north/row/Patient/0A1B-2C");
        assert_eq!(hint::encode(hints), ours(1, &row), "what is absent is not written");
        // A clinic that is named is not overruled.
        assert_eq!(keys(&ours(1, &HINT.replace("north", "south"))).unwrap(), ["south/link/Patient/p1"]);
    }

    #[test]
    fn the_plain_shape_is_two_hints_of_which_either_may_be_left_out() {
        let patient = "north/link/Patient/p-1";
        let form = "north/link/QuestionnaireResponse/f.1";
        assert_eq!(keys(r#"{"patientId":"p-1","intakeFormId":"f.1"}"#).unwrap(), [patient, form]);
        assert_eq!(keys(r#"{"intakeFormId":"f.1"}"#).unwrap(), [form]);
        assert_eq!(keys(r#" {"patientId":"p-1","intakeFormId":null}"#).unwrap(), [patient]);
        assert_eq!(why(r#"{"patientId":null,"intakeFormId":null}"#), Malformed::Unknown);
        for odd in [
            r#"{"patientId":"p-1","SYNTHETIC":"x"}"#,
            r#"{"patientId":"p-1","name":"SYNTHETIC"}"#,
            r#"{"patientId":7}"#,
            r#"{"patientId":"SYNTHETIC NAME"}"#,
            r#"{"patientId":"p-1","patientId":"p-2"}"#,
            r#"{"patientId":["p-1"]}"#,
        ] {
            let why = why(odd);
            assert!(matches!(why, Malformed::NotAsDescribed { shape: PLAIN, .. } | Malformed::NotJson { .. }), "{odd}");
        }
    }

    #[test]
    fn a_whole_resource_is_its_type_and_id_however_large_it_is_and_in_whatever_envelope() {
        let patient = json!({
            "id": "p1", "name": [{ "family": "SYNTHETIC" }], "resourceType": "Patient", "meta": { "versionId": "7" },
            "contained": [{ "resourceType": "Organization", "id": "o1" }],
            "text": { "div": "x".repeat(900_000) }, "v": 1, "patientId": "p9"
        });
        let notification = json!({ "Type": "Notification", "TopicArn": "arn:x", "Message": patient.to_string() });
        let event = json!({ "version": "0", "detail-type": "SYNTHETIC", "source": "x", "detail": patient });
        let both = json!({ "TopicArn": "arn:x", "Message": json!({ "detail-type": "x", "detail": { "patientId": "p1" } }).to_string() });
        for body in [&patient, &notification, &event, &both] {
            assert_eq!(keys(&body.to_string()).unwrap(), ["north/link/Patient/p1"]);
        }
        let envelope = |body: &Json| json!({ "TopicArn": "arn:x", "Message": body.to_string() });
        assert_eq!(why(&envelope(&envelope(&envelope(&patient))).to_string()), Malformed::Unknown);
        for odd in [
            r#"{"resourceType":"Patient","name":"SYNTHETIC"}"#,
            r#"{"resourceType":"Patient","id":"SYNTHETIC NAME"}"#,
            r#"{"resourceType":"SYNTHETIC patient","id":"p1"}"#,
            r#"{"resourceType":{"SYNTHETIC":1},"id":"p1"}"#,
        ] {
            assert!(matches!(why(odd), Malformed::NotAsDescribed { shape: RESOURCE, .. }), "{odd}");
        }
        let cut = &patient.to_string()[..800_000];
        assert!(matches!(why(cut), Malformed::NotJson { .. }));
        let most = MOST_BYTES_OF_A_RESOURCE;
        assert_eq!(why(&" ".repeat(most + 1)), Malformed::TooLarge { bytes: most + 1, most });
    }

    #[test]
    fn what_is_no_hint_is_refused_and_nothing_of_it_is_kept() {
        let more = HINT.replacen('{', r#"{"name":"SYNTHETIC","#, 1);
        let elsewhere = HINT.replace("p1", "../SYNTHETIC");
        let both = HINT.replace(r#""id":"p1""#, r#""id":"p1","row":"0A1B-2C""#);
        let neither = HINT.replace(r#""id":"p1","#, "");
        assert_eq!([why(&ours(1, &both)), why(&ours(1, &neither))], [Malformed::NotOne, Malformed::NotOne]);
        for odd in [&ours(1, &more), &ours(1, &elsewhere), &ours(1, "{}"), r#"{"v":"SYNTHETIC"}"#, r#"{"v":1}"#] {
            assert!(matches!(why(odd), Malformed::NotAsDescribed { shape: OURS, .. }), "{odd}");
        }
        for odd in ["", "{", "null", "[]", "SYNTHETIC", "[1,1,1,1,1,1]", "{\"v\":1", "{} SYNTHETIC"] {
            assert!(matches!(why(odd), Malformed::NotJson { .. }), "{odd}");
        }
        for odd in ["{}", r#"{"name":"SYNTHETIC"}"#, r#"{"Message":"SYNTHETIC"}"#] {
            assert_eq!(why(odd), Malformed::Unknown, "{odd}");
        }
        assert_eq!(why(&ours(1, "")), Malformed::Empty);
        let large = ours(1, &vec![HINT; 200].join(","));
        assert_eq!(why(&large), Malformed::TooLarge { bytes: large.len(), most: MOST_BYTES });
        let resource_in_a_newer_one = r#"{"v":2,"hints":[],"resource":{"resourceType":"Patient","name":"SYNTHETIC"}}"#;
        assert_eq!(why(resource_in_a_newer_one), Malformed::Version(2));
    }

    #[test]
    fn what_another_reader_may_understand_is_kept_as_ids() {
        let newer = ours(2, HINT);
        let unread = north().read(&newer, sent()).unwrap_err();
        assert_eq!(unread, Unread { why: Malformed::Version(2), keep: Some(newer) });
        for body in [
            r#"{"resourceType":"Patient","id":"p1","name":[{"family":"SYNTHETIC"}]}"#,
            r#"{"patientId":"p1"}"#,
            r#"{"v":1,"hints":[{"resource":"Patient","id":"p1"}]}"#,
        ] {
            let unread = Reader::default().read(body, sent()).unwrap_err();
            assert_eq!(unread.why, Malformed::NoFirm);
            let kept = unread.keep.unwrap();
            assert_eq!(kept, r#"{"v":1,"hints":[{"resource":"Patient","id":"p1"}]}"#);
            assert_eq!(keys(&kept).unwrap(), ["north/link/Patient/p1"]);
        }
    }

    /// The published schema says what is read: its examples are read, and its fields are those of the code.
    #[test]
    fn the_published_schema_describes_what_is_read() {
        let schema: Json = serde_json::from_str(include_str!("../../../docs/hint.schema.json")).unwrap();
        let examples = schema["examples"].as_array().unwrap();
        assert!(examples.len() >= 3);
        for example in examples {
            north().read(&example.to_string(), sent()).unwrap();
        }
        let names = |object: &Json| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let full = Line {
            firm: Some(FirmId::new("north").unwrap()),
            row: Some(crate::key::RowUuid::new("r1").unwrap()),
            origin: Some(Origin::Push),
            at: Some(sent()),
            ..line(ResourceType::new("Patient").unwrap(), ResourceId::new("p1").unwrap())
        };
        let written = serde_json::to_value(Body { v: VERSION, hints: vec![full] }).unwrap();
        assert_eq!(names(&schema["properties"]), names(&written));
        assert_eq!(schema["properties"]["v"]["const"], VERSION);
        let hint = &schema["properties"]["hints"]["items"];
        assert_eq!(names(&hint["properties"]), names(&written["hints"][0]));
        assert_eq!(hint["required"], json!(["resource"]));
        assert_eq!(hint["oneOf"], json!([{ "required": ["id"] }, { "required": ["row"] }]));
        for object in [&schema, hint] {
            assert_eq!(object["additionalProperties"], false);
        }
        for (name, right, wrong) in [
            ("firm", "north", "North"),
            ("resource", "QuestionnaireResponse", "patient"),
            ("id", "a-1.B", "a/1"),
            ("origin", "push", "hook"),
            ("at", "2026-03-02T09:00:00+01:00", "yesterday"),
        ] {
            let with = |value: &str| {
                let mut one = json!({ "resource": "Patient", "id": "p1" });
                one[name] = value.into();
                json!({ "v": 1, "hints": [one] }).to_string()
            };
            north().read(&with(right), sent()).unwrap();
            north().read(&with(wrong), sent()).unwrap_err();
            let said = &hint["properties"][name];
            if let Some(allowed) = said["enum"].as_array() {
                assert!(allowed.contains(&right.into()) && !allowed.contains(&wrong.into()), "{said}");
                for origin in allowed {
                    north().read(&with(origin.as_str().unwrap()), sent()).unwrap();
                }
            }
        }
        assert_eq!(hint["properties"]["origin"]["enum"].as_array().unwrap().len(), 2);
    }
}
