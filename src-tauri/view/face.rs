//! Which of the seven states is shown, and its sentence. The same for the tray and for the window's card.
//!
//! "Up to date" is a proof of the engine's, never what is left over here: a picture that is old, an engine that ended, a relay
//! that cannot start each say so. Work shows only when it lasts, so that the icon does not flicker; nothing worse waits for that.

use std::time::Duration;

use engine::snapshot::{Phase, Snapshot, Verdict};
use jiff::{Timestamp, tz::TimeZone};

use super::{
    desk::{Settings, State},
    words,
};

/// The engine shows itself every second, or every six when its storage does not answer. Twice without a picture is silence.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Work that is over sooner is not shown.
const WORK_SHOWS_AFTER: Duration = Duration::from_millis(1500);
/// Once shown, it stays so long.
const WORK_STAYS: Duration = Duration::from_secs(2);

/// All that the faces are made of.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The last picture of the engine, and how long ago it came.
    pub snapshot: Option<(&'a Snapshot, Duration)>,
    /// Why the relay cannot run, in a sentence.
    pub trouble: Option<&'a str>,
    pub settings: &'a Settings,
    /// Names are masked.
    pub privacy: bool,
    /// Another program does the work; this one shows it.
    pub attached: bool,
    pub now: Timestamp,
    pub zone: &'a TimeZone,
}

impl<'a> Input<'a> {
    /// The last picture, if the engine has not fallen silent since and has not ended: what can be acted on.
    pub fn live(&self) -> Option<&'a Snapshot> {
        let (snapshot, age) = self.snapshot?;
        (self.trouble.is_none() && age <= SILENCE && snapshot.phase == Phase::Running && snapshot.fatal.is_none())
            .then_some(snapshot)
    }

    /// The last picture, however old.
    pub fn last(&self) -> Option<&'a Snapshot> {
        self.snapshot.map(|(snapshot, _)| snapshot)
    }

    /// How long nothing was heard, once that is too long.
    pub fn silent(&self) -> Option<Duration> {
        self.snapshot.map(|(_, age)| age).filter(|age| *age > SILENCE)
    }

    /// How many things need a person.
    pub fn attention(&self) -> u64 {
        let ended = self.last().is_some_and(|last| last.phase == Phase::Stopped && last.fatal.is_none());
        self.last().map_or(0, Snapshot::attention) + u64::from(self.trouble.is_some() || ended)
    }
}

/// A state and its sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub state: State,
    pub sentence: String,
    /// When the picture was made; for [`State::UpToDate`] the time of the proof.
    pub at: Timestamp,
}

/// Remembers what was shown.
#[derive(Debug, Default)]
pub struct Face {
    /// When we began to wait for the first picture.
    began: Option<Duration>,
    /// Since when there has been work.
    work: Option<Duration>,
    /// What is shown, and since when its state has been.
    shown: Option<(Look, Duration)>,
}

impl Face {
    /// What to show now. `elapsed` is a clock that never goes back.
    pub fn look(&mut self, input: &Input<'_>, elapsed: Duration) -> Look {
        let began = *self.began.get_or_insert(elapsed);
        let truth = truth(input, elapsed.saturating_sub(began));
        self.work = (truth.state == State::Working).then(|| self.work.unwrap_or(elapsed));
        let look = match &self.shown {
            Some((shown, since)) if self.stays(shown, *since, &truth, elapsed) => shown.clone(),
            _ => truth,
        };
        let since = match &self.shown {
            Some((shown, since)) if shown.state == look.state => *since,
            _ => elapsed,
        };
        self.shown = Some((look.clone(), since));
        look
    }

    /// Whether what is shown stays although something else is true by now. Only work comes and goes late: what is shown instead
    /// was true a moment ago, and says its time.
    fn stays(&self, shown: &Look, since: Duration, truth: &Look, elapsed: Duration) -> bool {
        let lasts = |from: Duration| elapsed.saturating_sub(from);
        match (shown.state, truth.state) {
            (State::UpToDate | State::Starting, State::Working) => {
                self.work.is_some_and(|began| lasts(began) < WORK_SHOWS_AFTER)
            }
            (State::Working, State::UpToDate | State::Starting) => lasts(since) < WORK_STAYS,
            _ => false,
        }
    }
}

/// What is so, whatever is shown.
fn truth(input: &Input<'_>, waited: Duration) -> Look {
    let look = |state, sentence, at| Look { state, sentence, at };
    if let Some(trouble) = input.trouble {
        return look(State::NeedsAttention, trouble.to_owned(), input.now);
    }
    let Some((snapshot, age)) = input.snapshot else {
        return if waited > SILENCE {
            look(State::NoNews, words::no_news(waited), input.now)
        } else {
            look(State::Starting, words::STARTING.to_owned(), input.now)
        };
    };
    // An engine that has ended says nothing more; its last word holds.
    if snapshot.phase == Phase::Stopped || snapshot.fatal.is_some() {
        return look(State::NeedsAttention, words::ended(snapshot.fatal), snapshot.at);
    }
    if age > SILENCE {
        return look(State::NoNews, words::no_news(age), snapshot.at);
    }
    let state = snapshot.verdict.state();
    if snapshot.phase == Phase::Draining && state > State::Paused {
        return look(State::Working, words::FINISHING.to_owned(), snapshot.at);
    }
    let at = match snapshot.verdict {
        Verdict::UpToDate { at } => at,
        _ => snapshot.at,
    };
    look(state, words::status(snapshot, input.zone), at)
}
