//! Drafts: accepted as preliminary only, and never seen again.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use simulators::ehr::{Delay, Fault, Interaction, Matching, Place, Times};

use crate::caller::{Caller, encounter};

fn draft(encounter: &str) -> Value {
    let section = |code: &str, text: &str| json!({"code": {"text": text, "coding": [{"code": code}]}});
    json!({
        "resourceType": "Composition", "status": "preliminary",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11488-4"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "LP173421-1"}]}],
        "subject": {"reference": "Patient/1"}, "encounter": {"reference": format!("Encounter/{encounter}")},
        "date": "2026-03-01T09:00:00Z", "author": [{"reference": "Practitioner/3"}], "title": "SYNTHETIC draft",
        "section": [section("18776-5", "SYNTHETIC body"), section("69730-0", "SYNTHETIC notes")],
    })
}

#[tokio::test]
async fn a_draft_lands_with_its_open_visit_or_in_the_chart() {
    let caller = Caller::new().await;
    caller.north().put(encounter("1", "in-progress")).unwrap();
    caller.north().put(encounter("2", "finished")).unwrap();
    let created = caller.post("Composition", &draft("1")).await;
    assert_eq!(created.status, 201);
    let id = created.header("location").rsplit('/').next().unwrap().to_owned();
    caller.post("Composition", &draft("2")).await;
    let mut free = draft("2");
    free.as_object_mut().unwrap().remove("encounter");
    caller.post("Composition", &free).await;
    let drafts = caller.north().drafts();
    let places: Vec<_> = drafts.iter().map(|draft| draft.place).collect();
    assert_eq!(places, [Place::Visit, Place::ChartNote, Place::ChartNote]);
    assert_eq!((&drafts[0].id, &drafts[0].resource), (&id, &draft("1")));
    assert_eq!(caller.get(&format!("Composition/{id}")).await.status, 404, "it cannot be read back");
    assert_eq!(caller.get("Composition?patient=1").await.status, 404);
    for method in [Method::PUT, Method::DELETE] {
        let request = caller.request(method, "north", &format!("Composition/{id}")).json(&draft("1"));
        assert_eq!(Caller::send(request).await.status, 405);
    }
}

#[tokio::test]
async fn what_is_no_preliminary_draft_is_refused() {
    let caller = Caller::new().await;
    let spoil: [fn(&mut Value); 6] = [
        |draft| draft["status"] = json!("final"),
        |draft| draft["type"]["coding"][0]["code"] = json!("34108-1"),
        |draft| draft["category"] = json!([]),
        |draft| draft["section"] = json!([draft["section"][0]]),
        |draft| draft["section"][1]["code"]["text"] = json!(""),
        |draft| draft["section"][0] = json!({"code": {"coding": [{"code": "18776-5"}]}, "text": {"div": "here"}}),
    ];
    for change in spoil {
        let mut wrong = draft("1");
        change(&mut wrong);
        assert_eq!(caller.post("Composition", &wrong).await.status, 422, "{wrong}");
    }
    assert_eq!(caller.north().drafts(), []);
    assert_eq!(caller.post("Encounter", &encounter("1", "arrived")).await.status, 405);
}

#[tokio::test]
async fn a_draft_may_be_kept_and_never_answered() {
    let caller = Caller::new().await;
    let silent = Fault::DelayAfter(Delay::UntilReleased);
    caller.control.inject(silent, Matching::only(Interaction::Create), Times::Next(1));
    let request = caller.request(Method::POST, "north", "Composition").json(&draft("1"));
    assert!(request.timeout(Duration::from_millis(200)).send().await.unwrap_err().is_timeout());
    assert_eq!(caller.north().drafts().len(), 1);
    caller.post("Composition", &draft("1")).await;
    assert_eq!(caller.north().drafts().len(), 2, "once more is twice");
    caller.control.release();
}
