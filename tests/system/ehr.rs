//! EHRs that are watched, over HTTP: two firms of one EHR that share an API key, and one of a plain R4 server, by a relay that keeps
//! nothing in step.

use std::{path::Path, sync::Arc, time::Duration};

use chart_relay::{
    adapters::{clock::SystemClock, secrets::Memory},
    config::Config,
    secrets::{Secret, SecretName, Secrets as _},
    wiring::Relay,
};
use engine::{
    connection::Health,
    error::Code,
    key::{FirmId, Kind},
    keys::ClinicKey,
    ports::Clock,
    snapshot::Snapshot,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value as Json, json};
use simulators::{
    ehr::{Canned, Counting, EhrServer, Fault, Firm, Interaction, Matching, Options, Times},
    fhir::{self, FhirServer},
};
use tempfile::TempDir;

use crate::rig::seen;

struct Watching {
    ema: EhrServer,
    r4: FhirServer,
    config: Config,
    secrets: Arc<Memory>,
    key: ClinicKey,
    data: TempDir,
}

impl Watching {
    async fn new() -> Self {
        let firms = vec![Firm::synthetic("north", 0), Firm::synthetic("south", 0)];
        let ema = EhrServer::start(Options { firms, ..Options::default() }).await.unwrap();
        let r4 = FhirServer::start(fhir::Options::default()).await.unwrap();
        let codes: Vec<_> = Firm::synthetic("north", 0).categories.into_iter().map(|(code, _)| code).collect();
        let of_ema = |firm: &str| {
            format!(
                r#"
                [[firm]]
                id = "{firm}"
                time-zone = "UTC"
                [firm.ehr]
                base-url = "{base}"
                flavour = "ema"
                token-url = "{token}"
                client-id = "relay-{firm}"
                secret = "{firm}"
                secret-in = "body"
                api-key = "ema-key"
                quota = "ema"
                plan = {{ slowest = "5s" }}
                [firm.ehr.classes]
                solitary = ["{code}"]
                "#,
                base = ema.base_url(firm),
                token = ema.token_url(),
                code = codes[0],
            )
        };
        let text = format!(
            r#"
            [station]
            id = "system-test"
            [[quota]]
            id = "ema"
            requests = 1250
            per = "1min"
            window = "calendar"
            {north} {south}
            [[firm]]
            id = "west"
            time-zone = "UTC"
            [firm.ehr]
            base-url = "{base}"
            token-url = "{token}"
            client-id = "chart-relay"
            secret = "west"
            plan = {{ slowest = "5s" }}
            [firm.ehr.classes]
            solitary = ["lesion"]
            "#,
            north = of_ema("north"),
            south = of_ema("south"),
            base = r4.base_url(),
            token = r4.token_url(),
        );
        let config = Config::parse(&text, Path::new("")).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        let secrets = Arc::new(Memory::new());
        for (name, secret) in [
            ("north", "synthetic-secret-north"),
            ("south", "synthetic-secret-south"),
            ("west", "synthetic-secret"),
            ("ema-key", "synthetic-key"),
        ] {
            secrets.set(&SecretName::parse(name).unwrap(), Secret::new(secret)).await.unwrap();
        }
        let (key, data) = (ClinicKey::generate(), tempfile::tempdir().unwrap());
        Self { ema, r4, config, secrets, key, data }
    }

    async fn start(&self) -> Relay {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Relay::start(&self.config, self.data.path(), &self.key, &[], self.secrets.clone(), clock).await.unwrap()
    }

    /// An encounter that goes on, with one photograph of a lesion in it.
    fn enter(&self, firm: &str, number: u32) {
        let category =
            if firm == "west" { "lesion".to_owned() } else { Firm::synthetic("north", 0).categories[0].0.clone() };
        let put = |resource: Json| match firm {
            "west" => drop(self.r4.control().put(resource).unwrap()),
            _ => drop(self.ema.control().firm(firm).put(resource).unwrap()),
        };
        let bar = if firm == "west" { "file-" } else { "file|" };
        put(json!({
            "resourceType": "Encounter", "id": format!("e{number}"), "status": "in-progress",
            "class": {"code": "AMB"}, "subject": {"reference": format!("Patient/p{number}"), "display": "SYNTHETIC"},
        }));
        put(json!({
            "resourceType": "DocumentReference", "id": format!("{bar}{number}"), "status": "current",
            "category": [{"coding": [{"system": "http://example.org/synthetic", "code": category}]}],
            "subject": {"reference": format!("Patient/p{number}")},
            "context": {"encounter": [{"reference": format!("Encounter/e{number}")}]},
            "content": [{"attachment": {"contentType": "image/png", "url": format!("{number}.png")}}],
        }));
    }
}

/// How many documents of a firm wait for a model. The picture counts them once a minute.
async fn documents(relay: &Relay, firm: &str) -> usize {
    let (firm, now, far) = (FirmId::new(firm).unwrap(), Timestamp::now(), Duration::from_secs(86_400));
    relay.database.ledger().due(&firm, &[Kind::Document], now, far, 100).await.unwrap().len()
}

/// Until each of these firms has so many.
async fn found(relay: &Relay, firms: &[&str], wanted: usize) {
    let all = async || {
        for firm in firms {
            if documents(relay, firm).await != wanted {
                return None;
            }
        }
        Some(())
    };
    assert!(seen(all).await.is_some(), "{:#?}", relay.handle().snapshots().borrow().watching);
}

fn health(snapshot: &Snapshot, firm: &str) -> Option<Health> {
    let firm = FirmId::new(firm).unwrap();
    snapshot.watching.iter().find(|watching| watching.firm == firm).map(|watching| watching.health.clone())
}

async fn until(relay: &Relay, condition: impl Fn(&Snapshot) -> bool) -> bool {
    let snapshots = relay.handle().snapshots();
    seen(async || condition(&snapshots.borrow()).then_some(())).await.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn photographs_are_found_in_every_flavour_and_one_firms_trouble_is_its_own() {
    let watching = Watching::new().await;
    for firm in ["north", "south", "west"] {
        watching.enter(firm, 1);
    }
    let relay = watching.start().await;
    found(&relay, &["north", "south", "west"], 1).await;
    // A web page in place of north's answers: its line says so, and the others go on.
    let control = watching.ema.control();
    let page = Canned::Raw { status: 200, content_type: "text/html", body: "<html>SYNTHETIC</html>".into() };
    let north = Matching::only(Interaction::Search).firm("north");
    let fault = control.inject(Fault::Answer(page), north, Times::Always);
    watching.enter("south", 2);
    watching.enter("west", 2);
    found(&relay, &["south", "west"], 2).await;
    let says =
        |snapshot: &Snapshot| matches!(health(snapshot, "north"), Some(Health::Away { code: Code::WebPage, .. }));
    assert!(until(&relay, says).await, "{:#?}", relay.handle().snapshots().borrow().watching);
    control.clear(fault);
    watching.enter("north", 2);
    found(&relay, &["north", "south", "west"], 2).await;
    // One key, two firms: what the server counted is within what it allows, in any minute.
    let most = control.most_asked("synthetic-key", SignedDuration::from_mins(1), Counting::Sliding);
    assert!((1..=750).contains(&most), "{most}");
    assert_eq!(control.refused("synthetic-key"), 0);
    assert_eq!(control.leaks(), 0, "nobody touched a file");
    relay.handle().stop();
    tokio::time::timeout(Duration::from_secs(60), relay.ended()).await.unwrap().unwrap();
}
