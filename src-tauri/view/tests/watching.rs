use std::time::Duration;

use engine::{
    connection::Health,
    ehr::{self, Class, Content, DocumentWatch, EncounterWatch, Fate, KindWatched, Life},
    error::Code,
    key::{FirmId, ResourceType, StationId},
    ports::{Coding, DocumentStatus, EncounterStatus},
};

use super::stage::{SECOND, about, at, but, context, key, names, zone};
use crate::{
    view::{
        desk::Role,
        watching::{WatchGroup, WatchState, Watching, watching},
        words,
    },
    watched::{Is, Watched},
};

fn kind(resource: &str) -> KindWatched {
    KindWatched {
        resource: ResourceType::new(resource).unwrap(),
        station: Some(StationId::new("desk-1").unwrap()),
        every: SECOND * 4,
        looked: Some(SECOND),
        next: Some(SECOND * 3),
        waits_for: None,
        complete: Some(at("2026-03-02T15:40:10Z")),
        unusable: 0,
        ahead: 0,
        lateness: Duration::ZERO,
        sweep_every: Duration::from_secs(86_400),
        swept: Some(SECOND),
        sweep: None,
        remark: None,
    }
}

fn well() -> ehr::Watching {
    ehr::Watching {
        firm: FirmId::new("north").unwrap(),
        health: Health::Up,
        paused: false,
        quota: Some("modmed".to_owned()),
        kinds: vec![kind("DocumentReference"), kind("Encounter")],
        encounters: 1,
        active: 1,
        documents: 1,
        listed: Vec::new(),
    }
}

fn shown(firm: ehr::Watching, watched: &[Watched], role: Role) -> Watching {
    let (about, names, zone) = (about(), names(), zone());
    let snapshot = but(|snapshot| snapshot.watching = vec![firm]);
    watching(watched, Some(&snapshot), &context(role, &about, &names, &zone))
}

fn encounter(id: &str, status: EncounterStatus, life: Life) -> Watched {
    let stamp = at("2026-03-02T15:30:00Z");
    let watch = EncounterWatch {
        version: "1".to_owned(),
        stamp,
        status,
        patient: None,
        first_seen: stamp,
        changed: stamp,
        life,
        checked: None,
        found: None,
    };
    Watched {
        key: key(&format!("north/encounter/Encounter/{id}")),
        not_before: Some(at("2026-03-03T15:30:00Z")),
        waits_for: None,
        is: Is::Encounter(watch),
    }
}

fn document(id: &str, class: Class, fate: Fate) -> Watched {
    let watch = DocumentWatch {
        version: "1".to_owned(),
        stamp: None,
        status: DocumentStatus::Current,
        categories: vec![Coding { system: "urn:synthetic".to_owned(), code: "lesion".to_owned() }],
        class,
        content: Content::Image,
        encounters: Vec::new(),
        patient: None,
        first_seen: at("2026-03-02T15:41:00Z"),
        fate,
        handed: Vec::new(),
    };
    Watched {
        key: key(&format!("north/document/DocumentReference/{id}")),
        not_before: Some(at("2026-03-02T15:41:00Z")),
        waits_for: None,
        is: Is::Document(watch),
    }
}

#[test]
fn how_a_clinic_is_watched_is_one_word_and_a_wait_is_no_error() {
    let away =
        Health::Away { since: at("2026-03-02T15:14:00Z"), code: Code::Unreachable, vendor: None, failed_probes: 3 };
    let stopped =
        Health::Stopped { since: at("2026-03-02T15:14:00Z"), code: Code::SignInRefused, subject: None, vendor: None };
    let with = |change: fn(&mut KindWatched)| {
        let mut firm = well();
        firm.kinds.iter_mut().for_each(change);
        firm
    };
    let cases = [
        (well(), WatchState::Watching, "Watching", None),
        (
            ehr::Watching { health: away, ..well() },
            WatchState::Away,
            "Can't be reached",
            Some("The server cannot be reached. Since 10:14. What arrives meanwhile is found afterwards."),
        ),
        (
            ehr::Watching { health: stopped, ..well() },
            WatchState::Trouble,
            "Needs IT",
            Some("Our sign-in was refused. Only IT can fix this; what arrives meanwhile is found afterwards."),
        ),
        (with(|kind| kind.waits_for = Some(Code::Throttled)), WatchState::Waiting, "Waits for the quota", None),
        (
            with(|kind| kind.station = Some(StationId::new("exam-room-2").unwrap())),
            WatchState::Elsewhere,
            "Watched by exam-room-2",
            None,
        ),
        (with(|kind| kind.looked = None), WatchState::Starting, "Looking for the first time", None),
        (
            with(|kind| kind.looked = Some(Duration::from_secs(400))),
            WatchState::Away,
            "Can't be reached",
            Some("No look at this EHR has come to an end for 6 min. What arrives meanwhile is found afterwards."),
        ),
    ];
    for (firm, state, word, sentence) in cases {
        let shown = shown(firm, &[], Role::FrontDesk);
        let clinic = &shown.clinics[0];
        assert_eq!((clinic.state, clinic.word.as_str(), clinic.sentence.as_deref()), (state, word, sentence));
        assert_eq!(clinic.name, "Synthetic North");
        assert!(clinic.details.is_empty(), "not for the front desk");
    }
}

#[test]
fn how_far_a_list_is_complete_is_said_for_each_kind() {
    let shown = shown(well(), &[], Role::It);
    let kinds: Vec<_> = shown.clinics[0]
        .kinds
        .iter()
        .map(|kind| (kind.what.as_str(), kind.complete.as_deref(), kind.next.as_deref()))
        .collect();
    let (complete, next) = (Some("2026-03-02T15:40:10.000Z"), Some("2026-03-02T15:42:03.000Z"));
    assert_eq!(kinds, [("Visits", complete, next), ("Photographs and notes", complete, next)]);
    assert!(!shown.clinics[0].details.is_empty());
}

#[test]
fn the_terminal_tells_of_an_ehr_in_one_line() {
    assert_eq!(
        words::watched(&well(), &zone()),
        "the EHR of north: answers; 1 visit followed, 1 document waits for a model; photographs and notes complete up to 10:40:10; \
         visits complete up to 10:40:10"
    );
}

#[test]
fn a_quota_is_told_in_requests_and_its_silence_as_a_wait() {
    let quota = ehr::QuotaShown {
        id: "modmed".to_owned(),
        requests: 1250,
        per: Duration::from_secs(60),
        usable: 750,
        used: 400,
        used_by_all: 612,
        stations: 2,
        a_minute: 420,
        left: None,
        silent_for: Duration::from_secs(31),
        percent: 50,
    };
    let (about, names, zone) = (about(), names(), zone());
    let line = |quota: ehr::QuotaShown| {
        let snapshot = but(|snapshot| snapshot.quotas = vec![quota]);
        watching(&[], Some(&snapshot), &context(Role::It, &about, &names, &zone)).quotas.remove(0)
    };
    let shown = line(quota.clone());
    assert_eq!((shown.used, shown.limit), (612, 750));
    assert_eq!(shown.sentence, "of 750 requests in the last 60 s, by this station and another");
    assert_eq!(shown.waits.as_deref(), Some("The EHR asked for silence until 10:42:31. It goes on by itself."));
    let alone = line(ehr::QuotaShown { stations: 1, silent_for: Duration::ZERO, ..quota });
    assert_eq!((alone.sentence.as_str(), alone.waits), ("of 750 requests in the last 60 s", None));
}

#[test]
fn what_was_found_stands_first_and_what_is_over_is_not_shown() {
    let now = at("2026-03-02T15:41:00Z");
    let watched = [
        encounter("e1", EncounterStatus::InProgress, Life::Active),
        encounter("e2", EncounterStatus::Finished, Life::After),
        encounter("e3", EncounterStatus::Finished, Life::Ended { why: ehr::Why::Quiet, at: now }),
        document("d1", Class::Solitary, Fate::Waits),
        document("d2", Class::Note, Fate::Loose),
        document("d3", Class::Unsorted, Fate::Unsorted),
        document("d4", Class::Widespread, Fate::Unattached),
        document("d5", Class::Ignored, Fate::Ignored),
        document("d6", Class::Solitary, Fate::Withdrawn { at: now }),
    ];
    let shown = shown(well(), &watched, Role::Clinician);
    let rows: Vec<_> = shown.rows.iter().map(|row| (row.group, row.what.as_str(), row.word.as_str())).collect();
    assert_eq!(
        rows,
        [
            (WatchGroup::Found, "Note", "Looks for its visit"),
            (WatchGroup::Found, "Photograph of one spot", "Waits for a model"),
            (WatchGroup::Visit, "Visit", "In progress"),
            (WatchGroup::Visit, "Visit", "Finished"),
            (WatchGroup::Listed, "Document", "No category"),
            (WatchGroup::Listed, "Photograph of a rash", "No open visit"),
        ]
    );
    // All documents of this clinic are looked for at once: that is the visit's next look, not the end of its day.
    assert_eq!(shown.rows[2].next.as_deref(), Some("2026-03-02T15:42:03.000Z"));
    for row in &shown.rows {
        assert!(["Visit", "Document"].contains(&row.record.label.as_str()), "{}", row.record.label);
        assert!(!row.record.named && row.details.is_empty());
    }
}
