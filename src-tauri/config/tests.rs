use std::{path::Path, time::Duration};

use engine::{
    key::{BootId, ResourceType},
    keys::ClinicKey,
    ledger::Owner,
    row::FieldType,
    settings::{PollPlan, Settings, WatchPlan},
};

use jiff::civil;

use super::*;
use crate::view::desk;

const EXAMPLE: &str = include_str!("../../docs/example.toml");

fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    Config::parse(text, Path::new("/etc/chart-relay"))
}

/// The mistakes in the example after one change.
fn after(from: &str, to: &str) -> Vec<String> {
    assert!(EXAMPLE.contains(from), "{from}");
    match parse(&EXAMPLE.replacen(from, to, 1)) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_example_is_right() {
    let config = parse(EXAMPLE).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let firm = &config.firms[0];
    assert_eq!(firm.mapping.resources.len(), 5);
    let patient = &firm.mapping.resources[&ResourceType::new("Patient").unwrap()];
    assert_eq!(patient.table.fields["BirthDate"], FieldType::Date);
    assert!(!patient.table.fields.contains_key("Email"), "dropped");
    assert_eq!(patient.bases, ["https://chart.example/fhir/R4"]);
    assert!(matches!(firm.filemaker.trust, Trust::Pin(_)));
    assert_eq!(firm.fhir.sign_in.as_ref().unwrap().secret.as_str(), "north-fhir");
    assert_eq!(config.engine.lease_term, Duration::from_secs(30));
    // The second firm is only watched.
    assert_eq!((config.firms.len(), config.watched.len()), (1, 1));
    let watched = &config.watched[0];
    assert_eq!(watched.id.as_str(), "south");
    assert!(matches!(&watched.ehr.sign_in, EhrSignIn::ClientSecret(sign_in) if sign_in.secret.as_str() == "south-ehr"));
    assert_eq!(
        watched.ehr.quota.as_ref().map(|quota| (quota.allowance.requests, quota.allowance.used)),
        Some((1250, 60))
    );
    assert_eq!(watched.ehr.classes.solitary[0].to_string(), "lesion-photo");
}

#[test]
fn every_mistake_is_told_at_once_each_at_its_place() {
    let broken = r#"[station]
id = "Front Desk"
log-levle = "info"

[engine]
runs = 100
drain-grace = "30"
visibility = "20s"
lease-tern = "30s"

[[firm]]
id = "north"
time-zone = "EST"

[firm.fhir]
base-url = "http://chart.example/fhir"
flavour = "medplom"
token-url = "https://chart.example/token"
secret = "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d"

[firm.filemaker]
url = "https://filemaker.example"
database = "Clinic"
password = "north-filemaker"
sessions = 64

[[firm.mapping]]
use = "intake-form"
[firm.mapping.fields.PainScore]
path = "QuestionnaireResponse.item[linkId=pain]"
[firm.mapping.fields.Allergies]
type = "text"
unit = "kg"

[[firm.mapping]]
use = "measurement"
layout = "API_IntakeForm"
"#;
    let mistakes = parse(broken).unwrap_err();
    let told: Vec<(usize, &str)> = mistakes.iter().map(|m| (m.line, m.setting.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "station.id"),
            (3, "station.log-levle"),
            (6, "engine.runs"),
            (7, "engine.drain-grace"),
            (8, "engine.visibility"),
            (9, "engine.lease-tern"),
            (13, "firm.time-zone"),
            (15, "firm.fhir.client-id"),
            (16, "firm.fhir.base-url"),
            (17, "firm.fhir.flavour"),
            (19, "firm.fhir.secret"),
            (21, "firm.filemaker"),
            (25, "firm.filemaker.sessions"),
            (28, "firm.mapping.use"),
            (30, "firm.mapping.fields.PainScore.path"),
            (33, "firm.mapping.fields.Allergies.unit"),
            (36, "firm.mapping.use"),
            (37, "firm.mapping.layout"),
        ],
        "{mistakes:#?}"
    );
    let all: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    for part in [
        "line 3, column 1: station.log-levle: expected a setting that exists here. Did you mean `log-level`?",
        "line 6, column 8: engine.runs: expected a whole number from 1 to 64.",
        "in quotation marks",
        "visibility to be no less than lease-term, which is 30s",
        "Did you mean \"medplum\"?",
        "chart-relay secret set NAME",
        "`account`, which is missing. Add a line such as account = \"relay\"",
        "leave out the resource type",
        "http is allowed only for a server on this machine",
    ] {
        assert!(all.iter().any(|line| line.to_lowercase().contains(&part.to_lowercase())), "{part}\n{all:#?}");
    }
    assert!(!all.concat().contains("0a1b2c3d"), "what looks like a secret is not repeated");
}

#[test]
fn relations_are_checked() {
    for (from, to, part) in [
        ("lease-term = \"30s\"", "lease-term = \"2min\"", "no less than lease-term, which is 2min"),
        ("runs = 16", "backoff-first = \"4min\"\nbackoff-longest = \"1min\"", "no less than backoff-first"),
        ("poll-every = \"10s\"", "poll-every = \"10min\"", "overlap to be more than poll-every, which is 10min"),
        ("poll-every = \"10s\"", "poll-every = \"1h\"\noverlap = \"2h\"", "sweep-every to be more than poll-every"),
        ("sessions = 2", "ca-file = \"ca.pem\"", "either ca-file or fingerprint"),
        ("sessions = 2", "connect-timeout = \"2min\"", "no less than connect-timeout"),
        ("token-url = \"https://chart.example/oauth2/token\"\n", "", "belong together"),
        ("use = \"intake-form\"", "use = \"measurement\"", "writes to it too"),
        ("use = \"intake-form\"", "use = \"measurement\"\nlayout = \"Other\"", "each resource type once"),
        (
            "resource = \"Patient\", field",
            "resource = \"Practitioner\", field",
            "a mapping for Practitioner, its parent",
        ),
        ("resource = \"Patient\", field", "resource = \"AllergyIntolerance\", field", "a parent of another type"),
        ("field = \"PatientFhirId\"", "field = \"FhirId\"", "the key has this one"),
        ("fields.Substance", "fields.PatientFhirId", "the parent uses it too"),
        ("fields.Severity", "fields.SUBSTANCE", "uses it too"),
        ("key = \"FhirId\"\n", "", "`key`, which a mapping without `use` needs"),
        ("path = \"onsetDateTime\"\n", "", "`path`, which every field needs"),
        (
            "path = \"onsetDateTime\"\ntype = \"text\"",
            "path = \"onsetDateTime\"\ntype = \"date\"\njoin = \", \"",
            "only for texts",
        ),
        ("low = \"Low\", high = \"High\"", "low = 1, high = \"High\"", "expected a text"),
        ("codes = { low", "form = \"phone\"\nother-codes = \"keep\"\nCodes = { low", "Did you mean `codes`?"),
        ("type = \"text\"\ncodes = {", "type = \"flag\"\ncodes = {", "\"1\" or \"0\""),
        (
            "path = \"onsetDateTime\"\ntype = \"text\"",
            "path = \"value\"\ntype = \"number\"\nunit-field = \"Substanze\"",
            "Did you mean \"Substance\"?",
        ),
        ("drop = [\"Email\"]", "drop = [\"EMail\"]", "Did you mean \"Email\"?"),
        (
            "use = \"progress-note\"",
            "use = \"progress-note\"\nresource = \"Composition\"",
            "DocumentReference, which the shipped mapping is for",
        ),
        (
            "use = \"progress-note\"",
            "use = \"progress-note\"\nfields = { FhirId = { path = \"id\", type = \"text\" } }",
            "the key uses it too",
        ),
    ] {
        let mistakes = after(from, to);
        assert!(mistakes.iter().any(|line| line.contains(part)), "{part}: {mistakes:#?}");
    }
}

#[test]
fn what_a_watched_ehr_needs_is_checked() {
    for (from, to, part) in [
        ("quota = \"ema\"", "quota = \"emma\"", "Did you mean \"ema\"?"),
        ("quota = \"ema\"", "quota = \"other\"", "Add a section [[quota]] with this id"),
        ("api-key = \"ema-key\"\n", "", "EMA wants one with every request"),
        ("api-key = \"ema-key\"", "api-key = \"ema-key\"\ndocuments = \"firm\"", "of one patient only"),
        ("secret = \"south-ehr\"\n", "", "which sign-in by client-secret needs"),
        ("api-key", "region = \"us-east-1\"\napi-key", "which sign-in by client-secret does not use"),
        ("api-key", "sign-in = \"password\"\napi-key", "`account`, which sign-in by password needs"),
        ("api-key", "sign-in = \"refresh-token\"\napi-key", "`refresh-token`, which sign-in by refresh-token needs"),
        ("flavour = \"ema\"", "flavour = \"emma\"", "Did you mean \"ema\"?"),
        ("flavour = \"ema\"\n", "flavour = \"healthlake\"\n", "`client-id`, which sign-in by aws does not use"),
        ("slowest = \"5min\"", "slowest = \"5s\"\nfastest = \"10s\"", "no less than fastest, which is 10s"),
        ("life = \"24h\"", "sweep-every = \"2min\"", "more than slowest, which is 5min"),
        ("widespread = [\"rash-photo\"]", "widespread = [\"lesion-photo\"]", "`solitary` has one of these too"),
        ("widespread = [\"rash-photo\"]", "widespread = [\"urn:x|\"]", "a code, or system|code"),
        ("use = 60", "use = 0", "a whole number from 1 to 100"),
        ("requests = 1250", "requests = 1", "requests to be at least"),
        ("id = \"ema\"", "id = \"EMA\"", "1 to 32"),
        ("id = \"ema\"\nrequests = 1250\nper = \"1min\"", "id = \"ema\"", "`requests`, which is missing"),
        (
            "[firm.ehr]\n",
            "[firm.fhir]\nbase-url = \"http://127.0.0.1:1\"\n[firm.ehr]\n",
            "`filemaker`, which is missing",
        ),
    ] {
        let mistakes = after(from, to);
        assert!(mistakes.iter().any(|line| line.contains(part)), "{part}: {mistakes:#?}");
    }
    let second = format!("{EXAMPLE}[[quota]]\nid = \"ema\"\nrequests = 50\nper = \"1s\"\n");
    let told = parse(&second).unwrap_err();
    assert!(told.len() == 1 && told[0].to_string().contains("another quota has it too"), "{told:#?}");
}

#[test]
fn a_definition_is_read_as_it_was_written() {
    let shared = parse(&EXAMPLE.replacen("[engine]", "[shared]\n[engine]", 1)).unwrap();
    let watched = shared.watched[0].clone();
    let sealed = [("south-ehr".parse().unwrap(), "c2VhbGVk".to_owned())].into();
    let definition = Definition { watched: watched.clone(), sealed };
    let text = definition.write(Some("PEM".into()));
    let read = Definition::read(&watched.id, &text).unwrap();
    assert_eq!(read.sealed, definition.sealed);
    assert_eq!(read.watched.ehr.trust, Trust::Certificates("PEM".into()));
    let mut alike = read.watched.clone();
    alike.ehr.trust = watched.ehr.trust.clone();
    assert_eq!(format!("{alike:?}"), format!("{watched:?}"));
    assert_eq!(read.watched.ehr.quota.as_ref().unwrap().allowance.stations, 8);
    for broken in [text.replace("\"ema\"", "\"emma\""), text.replace("time-zone", "zone"), "{}".into(), String::new()] {
        assert!(Definition::read(&watched.id, &broken).is_none(), "{broken}");
    }
}

#[test]
fn one_mistake_is_told_once() {
    for (from, to) in [
        ("id = \"north\"", "id = \"North Clinic\""),
        ("time-zone = \"America/New_York\"\n", ""),
        ("base-url = \"https://chart.example/fhir/R4\"", "base-url = \"chart.example\""),
        ("secret = \"north-fhir\"", "secret = \"\""),
        ("path = \"onsetDateTime\"", "path = \"onset[x]\""),
        ("use = \"measurement\"", "use = \"mesurement\""),
        ("[firm.filemaker]", "[firm.filemakers]"),
        ("sessions = 2", "sessions = \"2\""),
        ("id = \"front-desk-1\"", "id = 1979-05-27"),
    ] {
        let mistakes = after(from, to);
        let expected = if from == "[firm.filemaker]" { 2 } else { 1 };
        assert_eq!(mistakes.len(), expected, "{to}: {mistakes:#?}");
    }
}

#[test]
fn two_clinics_are_kept_apart() {
    let watched = EXAMPLE.find("# A clinic whose EHR").unwrap();
    let second = EXAMPLE[EXAMPLE.find("[[firm]]").unwrap()..watched].to_owned();
    let told = |second: &str| {
        parse(&format!("{}\n{second}", &EXAMPLE[..watched]))
            .map_err(|m| m.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let mistakes = told(&second).unwrap_err();
    assert!(mistakes[0].contains("the firm at place 1 has it too"), "{mistakes:#?}");
    assert_eq!(mistakes.iter().filter(|m| m.contains("a layout of this firm alone")).count(), 5, "{mistakes:#?}");
    let other = second.replace("id = \"north\"", "id = \"south\"").replace("filemaker.north", "filemaker.south");
    assert_eq!(told(&other).unwrap().firms.len(), 2);
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    let mistakes = parse("[station]\nid = \"a\"\nid = \"b\"\n[engine\nruns = = 1\n").unwrap_err();
    let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
    assert!(lines.contains(&3) && lines.contains(&4) && lines.contains(&5), "{mistakes:#?}");
    assert!(!parse("").unwrap_err().is_empty(), "an empty file has no firm");
}

#[test]
fn any_text_is_survived() {
    for end in 0..EXAMPLE.len() {
        if EXAMPLE.is_char_boundary(end) && end % 7 == 0 {
            drop(parse(&EXAMPLE[..end]));
        }
    }
    for (place, _) in EXAMPLE.match_indices('"').chain(EXAMPLE.match_indices('=')).chain(EXAMPLE.match_indices('[')) {
        let mut text = EXAMPLE.to_owned();
        text.remove(place);
        drop(parse(&text));
    }
}

#[test]
fn left_out_is_the_engines_own_default() {
    let given = ["runs = 16\n", "lease-term = \"30s\"\n", "poll-every = \"10s\"\n"];
    let config = parse(&given.iter().fold(EXAMPLE.to_owned(), |text, line| text.replace(line, ""))).unwrap();
    let owner = Owner { station: config.station.id.clone(), boot: BootId::new("boot").unwrap() };
    let fresh = || Settings::new(owner.clone(), ClinicKey::from_bytes([0; 32]), 0);
    let mut applied = fresh();
    config.engine.apply(&mut applied);
    assert_eq!(format!("{applied:?}"), format!("{:?}", fresh()));
    assert_eq!(config.firms[0].plan, PollPlan::default());
    let given = ["[firm.ehr.plan]\n", "slowest = \"5min\"\n", "life = \"24h\"\n"];
    let config = parse(&given.iter().fold(EXAMPLE.to_owned(), |text, line| text.replace(line, ""))).unwrap();
    assert_eq!(config.watched[0].ehr.plan, WatchPlan::default());
}

#[test]
fn the_desk_is_as_it_is_written_and_what_is_left_out_is_the_windows_own_default() {
    let start = EXAMPLE.find("# What the tray").unwrap();
    let end = EXAMPLE.find("[engine]").unwrap();
    let with = |desk: &str| parse(&format!("{}{desk}\n{}", &EXAMPLE[..start], &EXAMPLE[end..])).unwrap().desk;
    assert_eq!(with(""), desk::Settings::default());
    assert_eq!(parse(EXAMPLE).unwrap().desk, desk::Settings::default(), "the example shows the defaults");
    let other = with(
        "[desk]\nrole = \"it\"\nprivacy = false\nlock-after = \"0s\"\nopens = \"19:30\"\ncloses = \"06:00\"\nautostart = false",
    );
    let expected = desk::Settings {
        role: desk::Role::It,
        privacy: false,
        lock_after: Duration::ZERO,
        opens: civil::time(19, 30, 0, 0),
        closes: civil::time(6, 0, 0, 0),
        autostart: false,
    };
    assert_eq!(other, expected);
    for (from, to, part) in [
        ("role = \"front-desk\"", "role = \"frontdesk\"", "Did you mean \"front-desk\"?"),
        ("opens = \"08:00\"", "opens = \"8 am\"", "hours and minutes from 00:00 to 23:59"),
        ("closes = \"18:00\"", "closes = \"24:00\"", "hours and minutes from 00:00 to 23:59"),
        ("lock-after = \"5min\"", "lock-after = \"9h\"", "a time from 0s to 8h"),
        ("privacy = true", "privacy = \"on\"", "true or false"),
    ] {
        let told = after(from, to);
        assert!(told.len() == 1 && told[0].contains(part), "{told:#?}");
    }
}

#[test]
fn the_shipped_mappings_are_right_and_fit_each_other() {
    let all = "[[firm.mapping]]\nuse = \"patient\"\n[[firm.mapping]]\nuse = \"intake-form\"\n[[firm.mapping]]\nuse = \"measurement\"\n[[firm.mapping]]\nuse = \"progress-note\"\n";
    let start = EXAMPLE.find("# A shipped mapping").unwrap();
    let both_ways = format!("{}{all}", &EXAMPLE[..start]);
    let one_way = both_ways.replacen("[firm.fhir]", "both-ways = false\n[firm.fhir]", 1);
    let parsed = |text: &str| parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let watched =
        |config: &Config| config.firms[0].mapping.resources.values().any(|mapping| mapping.table.changes.is_some());
    assert!(!watched(&parsed(&one_way)), "FileMaker's own changes go nowhere");
    let config = parsed(&both_ways);
    for which in [Shipped::Patient, Shipped::IntakeForm, Shipped::Measurement, Shipped::ProgressNote] {
        let mut shipped = shipped(which);
        shipped.bases = vec!["https://chart.example/fhir/R4".into()];
        assert_eq!(config.firms[0].mapping.resources[&shipped.resource], shipped);
    }
}

#[test]
fn the_published_schema_is_the_one_in_force() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.schema.json");
    if std::env::var_os("WRITE_SCHEMA").is_some() {
        std::fs::write(&file, json_schema()).unwrap();
    }
    let published = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        published == json_schema(),
        "docs/config.schema.json is stale: run `WRITE_SCHEMA=1 cargo test --lib published_schema`"
    );
}

#[test]
fn the_schema_says_nothing_that_is_not_checked() {
    const KNOWN: &[&str] = &[
        "$schema",
        "title",
        "description",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        // Checked as relations, with sentences of their own.
        "dependencies",
        "anyOf",
        "oneOf",
        "const",
        "enum",
        "default",
        "examples",
        "minimum",
        "maximum",
        "minItems",
        "pattern",
        "x-form",
        "x-from",
        "x-to",
    ];
    fn visit(schema: &serde_json::Value) {
        let serde_json::Value::Object(members) = schema else { return };
        for (keyword, value) in members {
            assert!(KNOWN.contains(&keyword.as_str()), "{keyword}");
            match keyword.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(visit),
                "items" | "additionalProperties" => visit(value),
                "anyOf" | "oneOf" => value.as_array().unwrap().iter().for_each(visit),
                "pattern" => assert_eq!(members["x-form"], "time", "checked as a time"),
                _ => {}
            }
        }
    }
    visit(schema::schema());
}

#[test]
fn places_are_counted_in_characters() {
    let text = "# \u{e9}\u{e9}\n[station]\nname = \"\u{e9}\"\n";
    let mistake = &parse(text).unwrap_err()[1];
    assert_eq!((mistake.line, mistake.column), (3, 1), "{mistake}");
    assert_eq!(document::position("\u{e9}x", 2), (1, 2));
}

#[test]
fn a_file_is_found_and_its_paths_are_its_folders() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    assert!(matches!(Config::read(&file), Err(ConfigError::Missing(_))));
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(matches!(Config::read(&file), Err(ConfigError::NotText(_))));
    let text = EXAMPLE.replacen("runs = 16", "runs = 0", 1);
    std::fs::write(&file, &text).unwrap();
    let told = Config::read(&file).unwrap_err().to_string();
    assert!(
        told.starts_with("There is one thing to put right in ") && told.contains("\n  line 24, column 8: engine.runs"),
        "{told}"
    );
    let text = EXAMPLE.replacen("sessions = 2", "sessions = 2 \r", 1);
    let text = text
        .lines()
        .map(|l| if l.starts_with("fingerprint") { "ca-file = \"clinic.pem\"" } else { l.trim_end() })
        .collect::<Vec<_>>();
    std::fs::write(&file, format!("\u{feff}{}", text.join("\r\n"))).unwrap();
    let config = Config::read(&file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.firms[0].filemaker.trust, Trust::Authority(folder.path().join("clinic.pem")));
}

#[test]
fn what_stations_share_is_checked() {
    let with = |shared: &str| after("[[firm]]", &format!("[shared]\n{shared}\n[[firm]]"));
    assert_eq!(with(""), Vec::<String>::new());
    assert_eq!(with("queue = \"relay.fifo\"\naccess-key-id = \"SYNTHETIC\"\nsecret = \"aws\""), Vec::<String>::new());
    for (shared, setting, mend) in [
        ("queue = \"https://sqs.example/1/relay\"", "shared.queue", "not its address"),
        ("prefix = \"Relay\"", "shared.prefix", "short name"),
        ("default-firm = \"North Clinic\"", "shared.default-firm", "short name"),
        ("endpoint = \"http://aws.example\"", "shared.endpoint", "https://"),
        ("access-key-id = \"SYNTHETIC\"", "shared", "Add `secret`"),
        ("secret = \"aws\"", "shared", "Add `access-key-id`"),
        ("secret-access-key = \"SYNTHETIC\"", "shared.secret-access-key", "secrets have no place"),
    ] {
        let told = with(shared);
        assert!(told.len() == 1 && told[0].contains(setting) && told[0].contains(mend), "{shared}: {told:?}");
    }
    let text = EXAMPLE.replacen("[[firm]]", "[shared]\n[[firm]]", 1);
    let shared = parse(&text).unwrap().shared.unwrap();
    assert_eq!(
        (shared.queue.as_str(), shared.prefix.as_str(), shared.access_key),
        ("chart-relay", "chart-relay", None)
    );
    assert_eq!(parse(EXAMPLE).unwrap().shared, None);
}
