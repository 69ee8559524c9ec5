//! The tray as a value: a state for the icon, a line for the tooltip, and the menu.
//!
//! The menu's shape (which entries there are, in which order, with which ids) never changes after the start: only texts, and what
//! is enabled or checked. Some desktops lose their place in a menu that is rebuilt under an open pointer.

use std::time::Duration;

use super::{
    desk::{PauseFor, Right, State},
    words,
};

pub use super::face::{Face, Input};

/// What is chosen in the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    Status,
    Open,
    SyncNow,
    Attention,
    Pause,
    PauseFor(PauseFor),
    Resume,
    HideNames,
    Help,
    CopySummary,
    OpenLogs,
    Quit,
}

impl Id {
    /// In the order of the menu.
    pub const ALL: [Id; 14] = [
        Id::Status,
        Id::Open,
        Id::SyncNow,
        Id::Attention,
        Id::Pause,
        Id::PauseFor(PauseFor::QuarterHour),
        Id::PauseFor(PauseFor::Hour),
        Id::PauseFor(PauseFor::Closing),
        Id::Resume,
        Id::HideNames,
        Id::Help,
        Id::CopySummary,
        Id::OpenLogs,
        Id::Quit,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Id::Status => "status",
            Id::Open => "open",
            Id::SyncNow => "sync-now",
            Id::Attention => "attention",
            Id::Pause => "pause",
            Id::PauseFor(PauseFor::QuarterHour) => "pause-quarter-hour",
            Id::PauseFor(PauseFor::Hour) => "pause-hour",
            Id::PauseFor(PauseFor::Closing) => "pause-closing",
            Id::Resume => "resume",
            Id::HideNames => "hide-names",
            Id::Help => "help",
            Id::CopySummary => "copy-summary",
            Id::OpenLogs => "open-logs",
            Id::Quit => "quit",
        }
    }

    pub fn parse(text: &str) -> Option<Id> {
        Id::ALL.into_iter().find(|id| id.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: Id,
    pub text: String,
    pub enabled: bool,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Check { checked: bool },
    Submenu(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tray {
    pub state: State,
    /// The state in a line: the menu's first, and the tooltip where there is one.
    pub title: String,
    pub menu: Vec<Entry>,
    /// What quitting means, to be said when it is chosen.
    pub quit: String,
}

impl Tray {
    /// Every entry, those of submenus behind their own.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.menu.iter().flat_map(|entry| {
            let inside: &[Entry] = match &entry.kind {
                Kind::Submenu(inside) => inside,
                Kind::Plain | Kind::Check { .. } => &[],
            };
            std::iter::once(entry).chain(inside)
        })
    }
}

impl Face {
    /// The tray as it is now. `elapsed` is a clock that never goes back.
    pub fn next(&mut self, input: &Input<'_>, elapsed: Duration) -> Tray {
        let look = self.look(input, elapsed);
        let running = input.live().is_some();
        let waiting = input.last().map_or(0, |last| last.wanted.max(last.queue_waiting));
        Tray {
            state: look.state,
            menu: menu(input, &look.sentence, waiting),
            title: look.sentence,
            quit: words::quit(input.attached, running, waiting),
        }
    }
}

fn plain(id: Id, text: impl Into<String>, enabled: bool) -> Entry {
    Entry { id, text: text.into(), enabled, kind: Kind::Plain }
}

fn menu(input: &Input<'_>, status: &str, waiting: u64) -> Vec<Entry> {
    let attention = input.attention();
    let help = vec![plain(Id::CopySummary, words::COPY_SUMMARY, true), plain(Id::OpenLogs, words::OPEN_LOGS, true)];
    vec![
        plain(Id::Status, status, false),
        plain(Id::Open, words::OPEN, true),
        sync_now(input),
        plain(Id::Attention, words::attention_entry(attention), attention > 0),
        pause(input),
        Entry { kind: Kind::Check { checked: input.privacy }, ..plain(Id::HideNames, words::HIDE_NAMES, true) },
        Entry { kind: Kind::Submenu(help), ..plain(Id::Help, words::HELP, true) },
        plain(Id::Quit, words::quit_entry(input.attached, input.live().is_some(), waiting), true),
    ]
}

/// Disabled while it runs, with what it does; while paused it makes one pass.
fn sync_now(input: &Input<'_>) -> Entry {
    let Some(live) = input.live() else { return plain(Id::SyncNow, words::SYNC_NOW_AWAY, false) };
    match live.manual.as_ref().and_then(words::syncing_now) {
        Some(running) => plain(Id::SyncNow, running, false),
        None => {
            let text = if live.pause.is_some() { words::SYNC_NOW_PAUSED } else { words::SYNC_NOW };
            plain(Id::SyncNow, text, input.settings.role.has(Right::SyncNow))
        }
    }
}

fn pause(input: &Input<'_>) -> Entry {
    let may = input.live().is_some() && input.settings.role.has(Right::Pause);
    let closing = input.settings.closing(input.now, input.zone);
    let on_the_wall = input.settings.closes.strftime("%H:%M").to_string();
    let mut lengths: Vec<_> = [PauseFor::QuarterHour, PauseFor::Hour, PauseFor::Closing]
        .into_iter()
        .map(|length| {
            let possible = length != PauseFor::Closing || closing.is_some();
            let allowed = input.settings.role.pauses().contains(&length);
            plain(Id::PauseFor(length), words::pause_for(length, &on_the_wall), may && possible && allowed)
        })
        .collect();
    let paused = input.live().is_some_and(|live| live.pause.is_some());
    lengths.push(plain(Id::Resume, words::RESUME, may && paused));
    Entry { kind: Kind::Submenu(lengths), ..plain(Id::Pause, words::PAUSE, may) }
}
