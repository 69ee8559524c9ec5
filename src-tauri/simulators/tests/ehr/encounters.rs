//! Searching for encounters: whole days, pages of fifty with totals of their own, absolute references.

use jiff::Timestamp;
use reqwest::Method;
use simulators::ehr::Interaction;

use crate::caller::{Caller, encounter};

/// Encounters of two days.
async fn of_two_days() -> Caller {
    let caller = Caller::new().await;
    for (id, at) in [("1", "2026-02-28T23:59:59Z"), ("2", "2026-03-01T00:00:00Z"), ("3", "2026-03-01T15:58:35.700Z")] {
        let at: Timestamp = at.parse().unwrap();
        caller.north().put_stamped(encounter(id, "arrived"), at).unwrap();
    }
    caller
}

#[tokio::test]
async fn last_updated_takes_days_and_three_prefixes_only() {
    let caller = of_two_days().await;
    let found = async |value: &str| caller.get(&format!("Encounter?_lastUpdated={value}")).await;
    for (value, expected) in [
        ("eq2026-03-01", "23"),
        ("gt2026-02-28", "23"),
        ("gt2026-03-01", ""),
        ("le2026-02-28", "1"),
        ("le2026-03-01", "123"),
    ] {
        assert_eq!(found(value).await.ids().concat(), expected, "{value}");
    }
    assert_eq!(found("gt2026-02-27&_lastUpdated=le2026-02-28").await.ids().concat(), "1");
    let refused = [
        "2026-03-01",
        "ge2026-03-01",
        "lt2026-03-01",
        "gt2026-03-01T00:00:00Z",
        "gt2026-03",
        "gt2026-02-30",
        "gtyesterday",
    ];
    for value in refused {
        assert_eq!(found(value).await.status, 400, "{value}");
    }
    caller.control.configure(|behaviour| behaviour.gt_includes_day = true);
    assert_eq!(found("gt2026-03-01").await.ids().concat(), "23");
    caller.control.configure(|behaviour| behaviour.local_offset_hours = -5);
    assert_eq!(found("eq2026-02-28").await.ids().concat(), "12", "there it is still the day before");
}

#[tokio::test]
async fn stamps_are_of_seconds_and_versions_have_no_id() {
    let caller = of_two_days().await;
    let read = caller.get("Encounter/3").await.json();
    assert_eq!(read["meta"]["lastUpdated"], "2026-03-01T15:58:35.000+00:00");
    assert!(read["meta"]["versionId"].is_null());
    assert_eq!(read["subject"]["reference"], format!("{}/Patient/1", caller.server.base_url("north")));
    let found = caller.get("Encounter?_lastUpdated=eq2026-03-01").await.json();
    assert_eq!(found["entry"][1]["resource"], read, "an encounter comes whole");
    let control = caller.north();
    control.put_stamped(encounter("3", "finished"), "2026-03-01T15:58:35.900Z".parse().unwrap()).unwrap();
    let after = caller.get("Encounter/3").await.json();
    assert_eq!((&after["status"], &after["meta"]["lastUpdated"]), (&"finished".into(), &read["meta"]["lastUpdated"]));
}

#[tokio::test]
async fn pages_tell_their_own_total_and_never_stop_to_offer_another() {
    let caller = Caller::new().await;
    for number in 0..120 {
        caller.north().put(encounter(&number.to_string(), "arrived")).unwrap();
    }
    let pages = caller.walk("Encounter?_count=1000").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50, 20], "50 is the most");
    let expected: Vec<String> = (0..120).map(|number| number.to_string()).collect();
    assert_eq!(pages.concat(), expected);
    assert_eq!(caller.control.tally().of(Interaction::Search), 1);
    assert_eq!(caller.control.tally().of(Interaction::NextPage), 3, "the empty one too");
    let last = caller.get("Encounter?page=3").await;
    assert_eq!((last.total(), last.link("last")), (20, None));
    assert!(last.link("next").unwrap().contains("page=4"));
    assert!(caller.get("Encounter?page=4").await.link("next").is_some());
    caller.control.configure(|behaviour| behaviour.next_after_end = false);
    assert_eq!(caller.get("Encounter?page=4").await.link("next"), None);
    assert_eq!(caller.get("Encounter?_count=7").await.total(), 7);

    let flagged = async |path: &str| {
        let request = caller.request(Method::GET, "north", path);
        Caller::send(request.header("Content-flag", "Pagination_optimization_disabled")).await
    };
    let first = flagged("Encounter").await;
    assert_eq!((first.total(), first.ids().len()), (120, 50));
    assert!(first.link("last").unwrap().contains("page=3"));
    assert_eq!(flagged("Encounter?page=3").await.link("next"), None, "here it ends");
}

#[tokio::test]
async fn other_parameters_choose_or_are_ignored() {
    let caller = Caller::new().await;
    caller.north().put(encounter("1", "arrived")).unwrap();
    caller.north().put(encounter("2", "finished")).unwrap();
    for (path, expected) in [
        ("Encounter?status=finished", "2"),
        ("Encounter?patient=1", "12"),
        ("Encounter?patient=2", ""),
        ("Encounter?date=eq2026-03-01", "12"),
        ("Encounter?date=gt2026-03-01", ""),
        ("Encounter?_sort=-_lastUpdated", "12"),
    ] {
        assert_eq!(caller.get(path).await.ids().concat(), expected, "{path}");
    }
    caller.control.configure(|behaviour| behaviour.strict_parameters = true);
    assert_eq!(caller.get("Encounter?_sort=-_lastUpdated").await.status, 400);
}

#[tokio::test]
async fn each_firm_has_its_own() {
    let caller = Caller::new().await;
    caller.north().put(encounter("1", "arrived")).unwrap();
    caller.control.firm("south").put(encounter("2", "arrived")).unwrap();
    assert_eq!(caller.get("Encounter").await.ids(), ["1"]);
    let south = Caller::send(caller.request(Method::GET, "south", "Encounter")).await;
    assert_eq!(south.ids(), ["2"]);
    assert_eq!(caller.get("Encounter/2").await.status, 404);
    assert!(caller.control.firm("nobody").put(encounter("1", "arrived")).is_err());
    let firms: Vec<_> = caller.control.journal().into_iter().map(|entry| entry.firm.unwrap()).collect();
    assert_eq!(firms, ["north", "south", "north"]);
}
