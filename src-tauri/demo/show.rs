//! The demo in a terminal: a live screen where there is one, a line now and then where there is none.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use crossterm::{
    cursor,
    event::{self, Event, KeyCode, KeyModifiers},
    execute, queue,
    style::Print,
    terminal::{self, Clear, ClearType},
};
use engine::{
    ehr::{QuotaShown, Watching},
    snapshot::Snapshot,
};
use jiff::tz::TimeZone;

use crate::view::{terminal::screen, words};

const TITLE: &str = "Chart Relay: the demo (synthetic data, throwaway database, no keychain)";
/// Between lines where there is no live screen.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Screen {
    live: bool,
    zone: TimeZone,
    last_line: Option<tokio::time::Instant>,
}

impl Screen {
    pub(super) fn open() -> Self {
        let live = std::io::stdout().is_terminal()
            && std::io::stdin().is_terminal()
            && terminal::enable_raw_mode().is_ok()
            && execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide).is_ok();
        let screen = Self { live, zone: TimeZone::system(), last_line: None };
        if !live {
            println!("{TITLE}");
        }
        screen
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    pub(super) fn say(&self, text: &str) {
        if !self.live {
            println!("{text}");
        }
    }

    pub(super) fn paint(&mut self, snapshot: &Snapshot, notes: &[String]) {
        if !self.live {
            let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY);
            if due {
                self.last_line = Some(tokio::time::Instant::now());
                println!(
                    "{}  {}: {}",
                    snapshot.at.to_zoned(self.zone.clone()).strftime("%H:%M:%S"),
                    words::verdict(&snapshot.verdict, &self.zone),
                    figures(snapshot)
                );
            }
            return;
        }
        let (width, height) = terminal::size().unwrap_or((100, 30));
        let lines = screen(snapshot, TITLE, notes, &self.zone, width.into(), height.into());
        let mut out = std::io::stdout().lock();
        // A terminal that goes away ends the demo by its signal, not here.
        let _ = queue!(out, cursor::MoveTo(0, 0));
        for (row, line) in lines.iter().enumerate() {
            let row = u16::try_from(row).unwrap_or(u16::MAX);
            let _ = queue!(out, cursor::MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine));
        }
        let _ = queue!(out, Clear(ClearType::FromCursorDown));
        let _ = out.flush();
    }

    /// A key that was pressed since the last call; Ctrl-C and Escape count as `q`.
    pub(super) fn key(&self) -> Option<char> {
        if !self.live || !event::poll(Duration::ZERO).unwrap_or(false) {
            return None;
        }
        match event::read().ok()? {
            Event::Key(key) if key.is_release() => None,
            Event::Key(key) => match key.code {
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some('q'),
                KeyCode::Char(char) => Some(char),
                KeyCode::Esc => Some('q'),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.live) {
            let _ = execute!(std::io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
            let _ = terminal::disable_raw_mode();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

fn figures(snapshot: &Snapshot) -> String {
    if snapshot.watching.is_empty() {
        let totals = &snapshot.totals;
        return format!(
            "{} waiting, {} held, {} created, {} edited",
            snapshot.wanted + snapshot.queue_waiting,
            snapshot.leases_held,
            totals.rows_created,
            totals.rows_edited,
        );
    }
    let sum = |count: fn(&Watching) -> u64| snapshot.watching.iter().map(count).sum::<u64>();
    let quotas: Vec<_> = snapshot.quotas.iter().map(quota).collect();
    format!(
        "{} visits followed, {} of them going on; {}",
        sum(|firm| firm.encounters),
        sum(|firm| firm.active),
        quotas.join("; ")
    )
}

/// How much of a key's quota is used.
pub(super) fn quota(quota: &QuotaShown) -> String {
    format!("{}: {} {}", quota.id, quota.used, words::quota_of(quota))
}
