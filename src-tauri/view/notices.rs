//! When the desk is told something unasked: seldom, once for each trouble, and never with a name, an id or a number that leads
//! to one. Starts, ends, successes, retries and short outages are not told.
//!
//! A notice is told and forgotten: whether somebody saw it changes no state.

use std::{collections::BTreeSet, time::Duration};

use engine::{
    connection::{Health, Side},
    error::Code,
    key::FirmId,
    snapshot::{ConnectionView, Snapshot, Verdict},
};

use super::{
    desk::Role,
    face::{Input, SILENCE},
    words,
};

/// What comes within this time is told as one.
const BATCH: Duration = Duration::from_secs(2 * 60);
/// While something told of still needs attention, more of it is told of no sooner than this.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// A shorter outage is not told.
const OUTAGE: Duration = Duration::from_secs(10 * 60);
/// Who was not asked for so long has slept.
const SLEPT: Duration = Duration::from_secs(60);
/// After so long what waited is counted as it stands.
const CATCHING_UP: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Attention,
    Outage,
    Recovered,
    Credential,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub class: Class,
    pub text: String,
    /// Without a sound.
    pub silent: bool,
}

/// What was told already.
#[derive(Debug, Default)]
pub struct Notices {
    attention: Attention,
    outage: Outage,
    /// Connections of which it was told that a sign-in is refused.
    /// Of a firm's side, or of the storage that stations share.
    refused: BTreeSet<Option<(FirmId, Side)>>,
    /// When it was last asked what is to be told.
    asked: Option<Duration>,
}

#[derive(Debug, Default)]
struct Attention {
    /// So many have been told of, and when.
    told: u64,
    last: Option<Duration>,
    /// Since when there have been more.
    more: Option<Duration>,
}

#[derive(Debug, Default)]
enum Outage {
    #[default]
    None,
    Since(Duration),
    /// Told; what was written until the last picture of it.
    Told {
        written: u64,
    },
    Back {
        since: Duration,
        written: u64,
    },
}

impl Notices {
    /// What is to be told now. `elapsed` is a clock that never goes back.
    pub fn next(&mut self, input: &Input<'_>, elapsed: Duration) -> Vec<Notice> {
        let slept = self.asked.is_some_and(|before| elapsed.saturating_sub(before) > SLEPT);
        if slept && matches!(self.outage, Outage::Since(_)) {
            // A PC that wakes up has no network yet; that is no outage of the night.
            self.outage = Outage::Since(elapsed);
        }
        self.asked = Some(elapsed);
        let mut notices = Vec::new();
        notices.extend(self.credential(input));
        notices.extend(self.attention.next(attention(input), elapsed));
        notices.extend(self.outage.next(input, elapsed));
        notices.retain(|notice| tells(input.settings.role, notice.class));
        notices
    }

    /// Once for each connection, until it is mended.
    fn credential(&mut self, input: &Input<'_>) -> Option<Notice> {
        let snapshot = input.live()?;
        let of_firm = |connection: &ConnectionView| Some((connection.firm.clone(), connection.side));
        let connections = snapshot.connections.iter().map(|connection| (&connection.health, of_firm(connection)));
        let refused: BTreeSet<_> = connections
            .chain(snapshot.storage.iter().map(|trouble| (trouble, None)))
            .filter(|(health, _)| sign_in_refused(health))
            .map(|(_, whose)| whose)
            .collect();
        let new = !refused.is_subset(&self.refused);
        self.refused = refused;
        new.then(|| notice(Class::Credential, words::SIGN_IN_NEEDED.to_owned()))
    }
}

fn notice(class: Class, text: String) -> Notice {
    Notice { class, text, silent: class == Class::Recovered }
}

/// Who is told what. A clinician looks; whoever sits at any other desk can do something, or call somebody.
fn tells(role: Role, class: Class) -> bool {
    match role {
        Role::FrontDesk => class != Class::Credential,
        Role::Manager | Role::It => true,
        Role::Clinician => false,
    }
}

fn sign_in_refused(health: &Health) -> bool {
    use Code::{CredentialsMissing, SecretMissing, SignInRefused};
    matches!(health, Health::Stopped { code: SignInRefused | SecretMissing | CredentialsMissing, .. })
}

/// How many things need a person, without those that IT and managers are told of by themselves.
fn attention(input: &Input<'_>) -> u64 {
    let told_apart = match input.last() {
        Some(last) if tells(input.settings.role, Class::Credential) => {
            let connections = last.connections.iter().map(|connection| &connection.health);
            connections.chain(&last.storage).filter(|health| sign_in_refused(health)).count() as u64
        }
        _ => 0,
    };
    input.attention().saturating_sub(told_apart)
}

impl Attention {
    fn next(&mut self, items: u64, elapsed: Duration) -> Option<Notice> {
        if items == 0 {
            *self = Self::default();
            return None;
        }
        self.told = self.told.min(items);
        if items == self.told {
            self.more = None;
            return None;
        }
        let more = *self.more.get_or_insert(elapsed);
        let due = self.last.map_or(more + BATCH, |last| (more + BATCH).max(last + AGAIN));
        (elapsed >= due).then(|| {
            *self = Self { told: items, last: Some(elapsed), more: None };
            notice(Class::Attention, words::attention_notice(items))
        })
    }
}

/// What cannot be reached: a side, or the sync itself or what it stands on.
fn unreachable(input: &Input<'_>) -> Option<Option<Side>> {
    if input.snapshot.is_some_and(|(_, age)| age > SILENCE) {
        return Some(None);
    }
    if input.last().is_some_and(|last| matches!(last.verdict, Verdict::CannotJoin { .. })) {
        return Some(None);
    }
    let away = |connection: &&ConnectionView| matches!(&connection.health, Health::Away { failed_probes, .. } if *failed_probes >= 3);
    let live = input.live()?;
    if live.verdict.state() == super::desk::State::CannotReach && !live.connections.iter().any(|one| away(&one)) {
        return Some(None);
    }
    Some(Some(live.connections.iter().find(away)?.side))
}

fn written(snapshot: &Snapshot) -> u64 {
    snapshot.totals.sent()
}

impl Outage {
    fn next(&mut self, input: &Input<'_>, elapsed: Duration) -> Option<Notice> {
        let so_far = input.last().map_or(0, written);
        match (unreachable(input), &self) {
            (Some(_), Outage::None) => *self = Outage::Since(elapsed),
            (Some(what), Outage::Since(since)) => {
                let long = elapsed.saturating_sub(*since);
                if long > OUTAGE && input.settings.open(input.now, input.zone) {
                    *self = Outage::Told { written: so_far };
                    return Some(notice(Class::Outage, words::outage_notice(what)));
                }
            }
            (Some(_), Outage::Told { .. }) => *self = Outage::Told { written: so_far },
            // Gone again before it was told that it is back: the same outage.
            (Some(_), Outage::Back { .. }) => *self = Outage::Told { written: so_far },
            (None, Outage::None) => {}
            (None, Outage::Since(_)) => *self = Outage::None,
            (None, Outage::Told { written }) => *self = Outage::Back { since: elapsed, written: *written },
            (None, Outage::Back { since, written }) => {
                let live = input.live()?;
                let all_up = live.connections.iter().all(|connection| connection.health == Health::Up);
                let caught_up = live.wanted == 0 && live.queue_waiting == 0 && live.running.is_empty();
                if all_up && (caught_up || elapsed.saturating_sub(*since) > CATCHING_UP) {
                    // A program that was started anew counts from nothing.
                    let sent = so_far.checked_sub(*written).unwrap_or(so_far);
                    *self = Outage::None;
                    return Some(notice(Class::Recovered, words::recovered_notice(sent)));
                }
            }
        }
        None
    }
}
