//! What the EHRs are watched for: how far each clinic's lists are complete, which visits are followed and which documents were found in
//! them, what each waits for, and what is left of the quota.

use engine::{
    connection::Health,
    ehr::{self, Fate, Life, QuotaShown},
    error::Code,
    snapshot::Snapshot,
};
use serde::{Deserialize, Serialize};

use super::{
    desk::{Detail, RecordName},
    names::Context,
    words,
};
use crate::watched::{Is, Watched};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Watching {
    /// In order of name; those that need somebody first.
    pub clinics: Vec<WatchedClinic>,
    pub quotas: Vec<QuotaLine>,
    /// What is looked at next first.
    pub rows: Vec<WatchRow>,
    /// There are so many more than are listed.
    pub more: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum WatchState {
    /// It goes on only when somebody has done something.
    Trouble,
    /// It goes on by itself.
    Away,
    Paused,
    /// For its turn in a quota: no error.
    Waiting,
    /// Another station does it.
    Elsewhere,
    Starting,
    Watching,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct WatchedClinic {
    pub name: String,
    pub state: WatchState,
    /// "Watching", "Waits for the quota", "Watched by desk-2".
    pub word: String,
    /// What happened, what it means, what to do; none while all is well.
    pub sentence: Option<String>,
    pub kinds: Vec<WatchedKind>,
    pub details: Vec<Detail>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct WatchedKind {
    /// "Visits", "Photographs and notes".
    pub what: String,
    /// Everything that the EHR stamped up to then is known here (RFC 3339, the EHR's clock).
    pub complete: Option<String>,
    /// RFC 3339.
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct QuotaLine {
    pub name: String,
    /// Requests in the last window, and how many there may be.
    pub used: u64,
    pub limit: u64,
    /// "of 750 requests in the last 60 s, by 3 stations".
    pub sentence: String,
    /// "The EHR asked for silence until 10:42:31. It goes on by itself."
    pub waits: Option<String>,
    pub details: Vec<Detail>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum WatchGroup {
    /// Found, and waits for a model.
    Found,
    /// A visit that is being followed.
    Visit,
    /// Listed, and nothing is done with it.
    Listed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct WatchRow {
    pub record: RecordName,
    pub group: WatchGroup,
    /// "Visit", "Photograph of one spot", "Photograph of a rash", "Note".
    pub what: String,
    /// "In progress", "Waits for a model".
    pub word: String,
    /// First seen (RFC 3339).
    pub since: String,
    /// Looked at next (RFC 3339).
    pub next: Option<String>,
    /// Why then.
    pub reason: String,
    pub details: Vec<Detail>,
}

/// The EHRs as they are watched. Without a snapshot nothing is known of them.
pub fn watching(watched: &[Watched], snapshot: Option<&Snapshot>, context: &Context<'_>) -> Watching {
    let Some(snapshot) = snapshot else {
        return Watching { clinics: Vec::new(), quotas: Vec::new(), rows: Vec::new(), more: 0 };
    };
    let mut clinics: Vec<_> = snapshot.watching.iter().map(|firm| clinic(firm, snapshot, context)).collect();
    clinics.sort_by(|one, other| (one.state, &one.name).cmp(&(other.state, &other.name)));
    let mut rows: Vec<_> = watched.iter().filter_map(|watched| row(watched, &snapshot.watching, context)).collect();
    rows.sort_by(|one, other| {
        let of = |row: &WatchRow| {
            (row.group, row.next.is_none(), row.next.clone(), row.since.clone(), row.record.key.clone())
        };
        of(one).cmp(&of(other))
    });
    let known = snapshot.watching.iter().map(|firm| firm.encounters + firm.documents + firm.listed.len() as u64);
    let more = known.sum::<u64>().saturating_sub(rows.len() as u64);
    let quotas = snapshot.quotas.iter().map(|quota| self::quota(quota, context)).collect();
    Watching { clinics, quotas, rows, more }
}

fn quota(quota: &QuotaShown, context: &Context<'_>) -> QuotaLine {
    let silent = Some(quota.silent_for).filter(|silent| !silent.is_zero());
    let until = silent.and_then(|silent| context.now.checked_add(silent).ok());
    QuotaLine {
        name: quota.id.clone(),
        used: quota.used_by_all,
        limit: quota.usable,
        sentence: words::quota_of(quota),
        waits: until.map(|until| words::quota_silent(until, context.zone)),
        details: context.details([
            ("Published limit", Some(format!("{} in {}", quota.requests, words::long(quota.per)))),
            ("This station's requests in the last window", Some(quota.used.to_string())),
            ("This station may send a minute", Some(quota.a_minute.to_string())),
            ("Stations that share it", Some(quota.stations.to_string())),
            ("Left, as the EHR says", quota.left.map(|left| left.to_string())),
            ("Used of what is allowed, in percent", (quota.percent < 100).then(|| quota.percent.to_string())),
        ]),
    }
}

fn clinic(firm: &ehr::Watching, snapshot: &Snapshot, context: &Context<'_>) -> WatchedClinic {
    let (state, word, sentence) = standing(firm, snapshot, context);
    let remark = firm.kinds.iter().find_map(|kind| kind.remark).map(|code| words::sentence(code).to_owned());
    // Visits first: documents are looked for in them.
    let mut kinds: Vec<_> = firm.kinds.iter().collect();
    kinds.sort_by_key(|kind| kind.resource.as_str() != "Encounter");
    let kinds = kinds.into_iter().map(|kind| WatchedKind {
        what: words::watched_kind(kind.resource.as_str()).to_owned(),
        complete: kind.complete.map(words::instant),
        next: kind.next.and_then(|next| context.now.checked_add(next).ok()).map(words::instant),
    });
    let unusable: u64 = firm.kinds.iter().map(|kind| kind.unusable).sum();
    let health = match &firm.health {
        Health::Away { code, vendor, .. } => Some((code, vendor.clone(), None)),
        Health::Stopped { code, vendor, subject, .. } => Some((code, vendor.clone(), subject.clone())),
        Health::Unproven | Health::Up => None,
    };
    let sweeps = firm
        .kinds
        .iter()
        .filter_map(|kind| Some((kind, kind.sweep?)))
        .map(|(kind, sweep)| format!("{}: {} of {} rows had been missed", kind.resource, sweep.missed, sweep.rows));
    let sweeps = sweeps.collect::<Vec<_>>().join("; ");
    WatchedClinic {
        name: context.firm(&firm.firm),
        state,
        word,
        sentence: sentence.or(remark),
        kinds: kinds.collect(),
        details: context.details([
            ("Code", health.as_ref().map(|(code, ..)| code.to_string())),
            ("Answer", health.as_ref().and_then(|(_, vendor, _)| vendor.clone())),
            ("Setting", health.and_then(|(.., subject)| subject)),
            ("Clinic", Some(firm.firm.to_string())),
            ("Quota", firm.quota.clone()),
            ("Rows that could not be used", (unusable > 0).then(|| unusable.to_string())),
            ("Last full comparison", (!sweeps.is_empty()).then_some(sweeps)),
        ]),
    }
}

/// The worst that there is to say, in one word and in a sentence.
fn standing(firm: &ehr::Watching, snapshot: &Snapshot, context: &Context<'_>) -> (WatchState, String, Option<String>) {
    let say = |state, word: &str, sentence| (state, word.to_owned(), sentence);
    if firm.paused {
        return say(WatchState::Paused, words::WATCH_PAUSED, Some(words::WATCH_PAUSED_BY_CONFIGURATION.to_owned()));
    }
    match &firm.health {
        Health::Stopped { code, .. } => {
            return say(WatchState::Trouble, words::WATCH_TROUBLE, Some(words::not_watched(*code, None, context.zone)));
        }
        Health::Away { code, since, .. } => {
            let sentence = words::not_watched(*code, Some(*since), context.zone);
            return say(WatchState::Away, words::WATCH_AWAY, Some(sentence));
        }
        Health::Unproven | Health::Up => {}
    }
    if let Some(silent) = firm.silent_for() {
        return say(WatchState::Away, words::WATCH_AWAY, Some(words::watch_silent(silent)));
    }
    if let Some(pause) = &snapshot.pause {
        return say(WatchState::Paused, words::WATCH_PAUSED, Some(words::paused(pause, context.now, context.zone)));
    }
    let waits = |code| firm.kinds.iter().any(|kind| kind.waits_for == Some(code));
    if waits(Code::Throttled) {
        return say(WatchState::Waiting, words::WATCH_QUOTA, None);
    }
    let elsewhere = firm.kinds.iter().find_map(|kind| kind.station.as_ref()).filter(|station| !context.here(station));
    if let Some(station) = elsewhere {
        return (WatchState::Elsewhere, words::watched_by(station), None);
    }
    if firm.is_proven() {
        return say(WatchState::Watching, words::WATCHING, None);
    }
    say(WatchState::Starting, words::WATCH_STARTING, None)
}

fn row(watched: &Watched, firms: &[ehr::Watching], context: &Context<'_>) -> Option<WatchRow> {
    let record = context.record(&watched.key);
    let throttled = (watched.waits_for == Some(Code::Throttled)).then_some(Code::Throttled);
    match &watched.is {
        Is::Encounter(watch) => {
            let long = match watch.life {
                Life::Active => words::VISIT_GOES_ON,
                Life::After => words::VISIT_MAY_HAVE_MORE,
                Life::Ended { .. } => return None,
            };
            // Where all of a clinic's documents are looked for at once, that is its next look.
            let together = || {
                let firm = firms.iter().find(|firm| firm.firm == watched.key.firm)?;
                let next = firm.kinds.iter().filter(|kind| kind.resource.as_str() != "Encounter");
                context.now.checked_add(next.filter_map(|kind| kind.next).min()?).ok()
            };
            let next = if watch.checked.is_some() { watched.not_before } else { together() };
            Some(WatchRow {
                record,
                group: WatchGroup::Visit,
                what: words::VISIT.to_owned(),
                word: words::visit(watch.status).to_owned(),
                since: words::instant(watch.first_seen),
                next: next.map(words::instant),
                reason: throttled.map_or(long, words::sentence).to_owned(),
                details: context.details([
                    ("Record", Some(watched.key.to_string())),
                    ("Version", Some(watch.version.clone())),
                    ("Stamped by the EHR", Some(watch.stamp.to_string())),
                    ("Last found something", watch.found.map(|found| found.to_string())),
                ]),
            })
        }
        Is::Document(watch) => {
            let (group, word, code) = match watch.fate {
                Fate::Waits => (WatchGroup::Found, words::AWAITS_MODEL, Code::AwaitsModel),
                Fate::Loose => (WatchGroup::Found, words::LOOKS_FOR_VISIT, Code::Unattached),
                Fate::Unattached => (WatchGroup::Listed, words::NO_VISIT, Code::Unattached),
                Fate::Unsorted => (WatchGroup::Listed, words::NO_CATEGORY, Code::Unsorted),
                Fate::Ignored | Fate::Withdrawn { .. } => return None,
            };
            let reason = if watch.fate == Fate::Loose { words::VISIT_MAY_COME } else { words::sentence(code) };
            let categories = watch.categories.iter().map(|coding| coding.code.as_str()).collect::<Vec<_>>().join(", ");
            Some(WatchRow {
                record,
                group,
                what: words::document(watch.class).to_owned(),
                word: word.to_owned(),
                since: words::instant(watch.first_seen),
                next: watched.not_before.filter(|_| watch.fate == Fate::Loose).map(words::instant),
                reason: reason.to_owned(),
                details: context.details([
                    ("Record", Some(watched.key.to_string())),
                    ("Version", Some(watch.version.clone())),
                    ("Categories", (!categories.is_empty()).then_some(categories)),
                    ("Stamped by the EHR", watch.stamp.map(|stamp| stamp.to_string())),
                ]),
            })
        }
    }
}
