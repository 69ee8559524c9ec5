//! What each role may do. Asked twice: by the window, to show or hide, and again before anything is done.

use std::time::Duration;

use engine::action::Action;
use jiff::{Timestamp, tz::TimeZone};

use super::desk::{PauseFor, Problem, Right, Role, Settings};

/// So many records may be acted on at once without the right to act on more.
pub const FEW: usize = 10;

/// A pause that was chosen a moment ago is a little shorter by now.
const GRACE: Duration = Duration::from_secs(60);

const HOUR: Duration = Duration::from_secs(60 * 60);

impl Role {
    pub const ALL: [Role; 4] = [Role::FrontDesk, Role::Manager, Role::Clinician, Role::It];

    pub fn rights(self) -> &'static [Right] {
        use Right::{Details, Drop, Mend, MendMany, Pause, Reveal, SyncNow, VerifyAudit};
        match self {
            Role::FrontDesk => &[SyncNow, Pause, Mend, Reveal],
            Role::Manager => &[SyncNow, Pause, Mend, MendMany, Reveal],
            Role::Clinician => &[SyncNow, Reveal],
            Role::It => &[SyncNow, Pause, Mend, MendMany, Drop, Reveal, Details, VerifyAudit],
        }
    }

    /// The pauses that may be chosen.
    pub fn pauses(self) -> &'static [PauseFor] {
        match self {
            Role::FrontDesk => &[PauseFor::QuarterHour, PauseFor::Hour],
            Role::Manager | Role::It => &[PauseFor::QuarterHour, PauseFor::Hour, PauseFor::Closing],
            Role::Clinician => &[],
        }
    }

    pub fn has(self, right: Right) -> bool {
        self.rights().contains(&right)
    }
}

/// When a pause of this length ends; `Closing` has no end while the clinic is closed.
pub fn pause_until(
    length: PauseFor,
    settings: &Settings,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Timestamp, Problem> {
    let later = |time| now.saturating_add(time).map_err(|_| closed());
    match length {
        PauseFor::QuarterHour => later(HOUR / 4),
        PauseFor::Hour => later(HOUR),
        PauseFor::Closing => settings.closing(now, zone).ok_or_else(closed),
    }
}

fn closed() -> Problem {
    Problem::new("The clinic is closed already. Choose 15 minutes or an hour.")
}

/// Whether this role has this right.
///
/// # Errors
/// It has not: who has, in a sentence.
pub fn entitled(role: Role, right: Right) -> Result<(), Problem> {
    if role.has(right) {
        return Ok(());
    }
    Err(Problem::new(match right {
        Right::SyncNow => "You may not start a sync at this station. Nothing was done.",
        Right::Pause => "Pausing and resuming is for the front desk, a manager or IT. Nothing was done.",
        Right::Mend => "This is for the front desk, a manager or IT. Nothing was done.",
        Right::MendMany => "More than 10 records at once is for a manager or IT. Nothing was done; choose fewer.",
        Right::Drop => "Throwing messages away is for IT. Nothing was done.",
        Right::Reveal => "Names may not be shown at this station.",
        Right::Details => "The details are for IT.",
        Right::VerifyAudit => "Verifying the audit log is for IT.",
    }))
}

/// Whether this role may ask for this.
///
/// # Errors
/// It may not: why, and what to do, in a sentence.
pub fn may(role: Role, action: &Action, settings: &Settings, now: Timestamp, zone: &TimeZone) -> Result<(), Problem> {
    match action {
        Action::SyncNow => entitled(role, Right::SyncNow),
        Action::Resume => entitled(role, Right::Pause),
        Action::Pause { until } => {
            entitled(role, Right::Pause)?;
            let hour = pause_until(PauseFor::Hour, settings, now, zone)?;
            let longest = match role {
                Role::FrontDesk | Role::Clinician => hour,
                Role::Manager => settings.closing(now, zone).map_or(hour, |closing| closing.max(hour)),
                Role::It => Timestamp::MAX,
            };
            if longest.saturating_add(GRACE).is_ok_and(|longest| *until > longest) {
                return Err(Problem::new(match role {
                    Role::Manager => "A manager may pause until closing time. For longer, ask IT.",
                    _ => "You may pause for an hour at most. For longer, ask a manager.",
                }));
            }
            Ok(())
        }
        // One patient's records are one thing, however many they are.
        Action::Settle { .. } | Action::Resync { .. } => entitled(role, Right::Mend),
        Action::Retry { keys } | Action::SetAside { keys, .. } | Action::PutBack { keys } => {
            entitled(role, Right::Mend)?;
            if keys.len() > FEW { entitled(role, Right::MendMany) } else { Ok(()) }
        }
        Action::Deleted { .. } => entitled(role, Right::MendMany),
        Action::RetryLetters { ids } => {
            entitled(role, Right::Mend)?;
            if ids.len() > FEW { entitled(role, Right::MendMany) } else { Ok(()) }
        }
        Action::DropLetters { .. } => entitled(role, Right::Drop),
    }
}

#[cfg(test)]
mod tests {
    use engine::key::RecordKey;

    use super::*;

    fn keys(count: usize) -> Vec<RecordKey> {
        (0..count).map(|id| RecordKey::parse(&format!("north/link/Patient/{id}")).unwrap()).collect()
    }

    /// Every action against every role: F(ront desk), M(anager), C(linician), I(T).
    #[test]
    fn each_role_may_what_the_table_says() {
        let settings = Settings::default();
        let zone = TimeZone::get("America/New_York").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        // 10:00 in New York; the clinic closes at 18:00, which is 23:00Z.
        let now = at("2026-03-02T15:00:00Z");
        let pause = |text| Action::Pause { until: at(text) };
        for (action, who) in [
            (Action::SyncNow, "FMCI"),
            (Action::Resume, "FMI"),
            (pause("2026-03-02T15:15:00Z"), "FMI"),
            (pause("2026-03-02T16:00:00Z"), "FMI"),
            (pause("2026-03-02T16:30:00Z"), "MI"),
            (pause("2026-03-02T23:00:00Z"), "MI"),
            (pause("2026-03-03T15:00:00Z"), "I"),
            (Action::Retry { keys: keys(1) }, "FMI"),
            (Action::Retry { keys: keys(10) }, "FMI"),
            (Action::Retry { keys: keys(11) }, "MI"),
            (Action::Deleted { firm: keys(1)[0].firm.clone(), resource: keys(1)[0].resource.clone() }, "MI"),
            (Action::RetryLetters { ids: vec!["1".into()] }, "FMI"),
            (Action::RetryLetters { ids: vec!["1".into(); 11] }, "MI"),
            (Action::Resync { keys: keys(1) }, "FMI"),
            (Action::Resync { keys: keys(50) }, "FMI"),
            (Action::DropLetters { ids: vec!["1".into()] }, "I"),
        ] {
            for (role, letter) in Role::ALL.into_iter().zip("FMCI".chars()) {
                let answer = may(role, &action, &settings, now, &zone);
                assert_eq!(answer.is_ok(), who.contains(letter), "{role:?} {action:?}");
                if let Err(problem) = answer {
                    assert!(problem.sentence.ends_with('.'), "{}", problem.sentence);
                }
            }
        }
    }

    #[test]
    fn a_pause_until_closing_needs_an_open_clinic() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let until = |settings: &Settings, now: &str| pause_until(PauseFor::Closing, settings, at(now), &zone);
        let day = Settings::default();
        assert_eq!(until(&day, "2026-03-02T15:00:00Z"), Ok(at("2026-03-02T23:00:00Z")));
        assert!(until(&day, "2026-03-02T23:00:00Z").is_err(), "at closing time");
        assert!(until(&day, "2026-03-02T12:59:59Z").is_err(), "before it opens");
        let night = Settings { opens: day.closes, closes: day.opens, ..day };
        assert_eq!(until(&night, "2026-03-03T01:00:00Z"), Ok(at("2026-03-03T13:00:00Z")), "in the evening");
        assert_eq!(until(&night, "2026-03-03T07:00:00Z"), Ok(at("2026-03-03T13:00:00Z")), "after midnight");
        // A manager may then pause for an hour, and no longer.
        let longer =
            |hours: i64| Action::Pause { until: at("2026-03-03T02:00:00Z") + jiff::SignedDuration::from_hours(hours) };
        let ask = |action| may(Role::Manager, &action, &day, at("2026-03-03T01:00:00Z"), &zone);
        assert!(ask(longer(0)).is_ok());
        assert!(ask(longer(1)).is_err());
    }
}
