//! What kind of world a seed makes.

use std::time::Duration;

use engine::{
    ehr::{Chosen, Classes},
    key::ResourceType,
    ports::{Manners, Reach},
    settings::WatchPlan,
};

/// How much happens at which firm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    Equal,
    Zipf,
    MostIdle,
    OfficeHours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Plain,
    ByIdAfter,
    ByDay,
    SomeEncounters,
}

#[derive(Debug, Clone)]
pub struct Shape {
    pub firms: usize,
    pub mix: Mix,
    pub flavour: Flavour,
    pub stations: usize,
    pub long: Duration,
    pub visits: usize,
    pub limit: u64,
    pub calendar: bool,
    pub plan: WatchPlan,
    /// Rows are later than anybody allows for.
    pub wild: bool,
    /// Only the first station has the firms in its configuration.
    pub discovered: bool,
    /// The last station has no secrets.
    pub bare: bool,
}

impl Shape {
    pub fn of(seed: u64) -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let (firms, long, visits, limit) = match seed % 8 {
            0 => (200, minutes(100), 160, 1_250),
            1 | 5 => (50, minutes(5 * 60), 120, 300),
            2 | 6 => (1, minutes(40 * 60), 40, 250),
            _ => (10, minutes(12 * 60), 90, 120),
        };
        let flavour = match seed % 7 {
            1 | 5 => Flavour::ByDay,
            2 => Flavour::ByIdAfter,
            3 => Flavour::SomeEncounters,
            _ => Flavour::Plain,
        };
        let mix = [Mix::Equal, Mix::Zipf, Mix::MostIdle, Mix::OfficeHours][(seed / 2 % 4) as usize];
        let stations = 1 + (seed % 3) as usize;
        let life = if long > minutes(24 * 60) { minutes(24 * 60) } else { minutes(150).min(long / 2) };
        // One firm alone could be asked each second for days.
        let fastest = Duration::from_secs(if firms == 1 { 4 } else { 1 });
        let plan = WatchPlan { life, fastest, sweep_every: (long / 4).max(minutes(40)), ..WatchPlan::default() };
        Self {
            firms,
            mix,
            flavour,
            stations,
            long,
            visits,
            limit,
            calendar: seed.is_multiple_of(2),
            plan,
            wild: seed.is_multiple_of(9),
            discovered: stations > 1 && seed.is_multiple_of(5),
            bare: stations > 1 && seed.is_multiple_of(4),
        }
    }

    pub fn manners(&self) -> Manners {
        let types = |names: &[&str]| names.iter().map(|name| ResourceType::new(*name).unwrap()).collect();
        let plain = Manners {
            reach: Reach::Firm,
            documents: types(&["DocumentReference", "Media"]),
            by_day: false,
            encounters_page: 20,
            documents_page: 20,
            trailing_page: false,
            read_after: false,
        };
        match self.flavour {
            Flavour::Plain => plain,
            Flavour::ByIdAfter => Manners { read_after: true, documents: types(&["DocumentReference"]), ..plain },
            Flavour::ByDay => Manners {
                reach: Reach::Patient,
                documents: types(&["DocumentReference"]),
                by_day: true,
                encounters_page: 50,
                documents_page: 10,
                trailing_page: true,
                ..plain
            },
            Flavour::SomeEncounters => Manners { reach: Reach::Encounters(8), ..plain },
        }
    }
}

pub fn classes() -> Classes {
    let chosen = |text: &str| Chosen::parse(text).into_iter().collect();
    Classes { solitary: chosen("lesion"), widespread: chosen("rash"), note: chosen("note"), ignore: chosen("results") }
}
