//! What happens in a world: visits with their documents, and troubles. All of it is drawn before anything does.

use std::time::Duration;

use engine::{
    error::{Class, Code, Fault},
    fakes::document,
    key::ResourceId,
    ports::{Document, DocumentStatus, EncounterStatus, Reach},
};
use rand::Rng;

use super::{shape::Mix, world::World};

#[derive(Debug, Clone)]
pub enum Act {
    Encounter { firm: usize, id: ResourceId, patient: ResourceId, status: EncounterStatus, late: bool },
    Document { firm: usize, row: Box<Document>, late: bool },
    Away { firm: usize, long: Duration, fault: Fault },
    Silence(Duration),
    Suspend(usize, Duration),
    CutOff(usize, Duration),
    Pause(usize, Duration),
    SyncNow(usize),
    Look,
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

pub fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}

impl World {
    /// What happens where is drawn before anything does.
    pub(super) fn plan_the_days(&mut self) {
        let shape = self.shape.clone();
        let weights: Vec<f64> = (0..shape.firms)
            .map(|firm| match shape.mix {
                Mix::Equal | Mix::OfficeHours => 1.0,
                Mix::Zipf => 1.0 / (firm + 1) as f64,
                Mix::MostIdle => f64::from(u8::from(firm % 5 == 0)),
            })
            .collect();
        let all: f64 = weights.iter().sum();
        let long = shape.long.as_secs_f64();
        for visit in 0..shape.visits {
            let mut pick = self.script.draw(|rng| rng.random_range(0.0..all));
            let firm = weights.iter().position(|weight| {
                pick -= weight;
                pick < 0.0
            });
            let at = match shape.mix {
                // Most of it in a third of the time.
                Mix::OfficeHours if self.script.draw(|rng| rng.random_bool(0.95)) => {
                    self.script.draw(|rng| rng.random_range(0.1..0.4)) * long
                }
                _ => self.script.draw(|rng| rng.random_range(0.0..0.9)) * long,
            };
            self.plan_visit(visit, firm.unwrap_or(0), at);
        }
        let trouble = (long / 3600.0 * 1.5).ceil() as usize + 2;
        for _ in 0..trouble {
            let at = seconds(self.script.draw(|rng| rng.random_range(0.02..0.95)) * long);
            let (firm, station) =
                self.script.draw(|rng| (rng.random_range(0..shape.firms), rng.random_range(0..shape.stations)));
            let some = |most: f64| seconds(self.script.draw(|rng| rng.random_range(0.1..1.0)) * most);
            let away = Fault::new(Class::Away, Code::Unreachable);
            let refused = Fault::new(Class::Stop, Code::SignInRefused);
            let broken = Fault::new(Class::Retry, Code::ServerError).vendor("HTTP 500");
            let act = match self.script.draw(|rng| rng.random_range(0..10)) {
                0 | 1 => Act::Away { firm, long: some(2_400.0), fault: away },
                2 => Act::Away { firm, long: some(1_800.0), fault: refused },
                3 => Act::Away { firm, long: some(600.0), fault: broken },
                4 => Act::Silence(some(150.0)),
                5 => Act::Suspend(station, some(400.0)),
                6 => Act::CutOff(station, some(300.0)),
                7 => Act::Pause(station, some(900.0)),
                _ => Act::SyncNow(station),
            };
            self.at(at, act);
        }
        let looks = (long / 60.0) as u64;
        (1..=looks).for_each(|minute| self.at(Duration::from_secs(minute * 60), Act::Look));
    }

    fn plan_visit(&mut self, visit: usize, firm: usize, at: f64) {
        let draw = |from: f64, to: f64| self.script.draw(|rng| rng.random_range(from..to));
        let chance = |likely: f64| self.script.draw(|rng| rng.random_bool(likely));
        let encounter = id(&format!("e{visit}"));
        let patient = id(&format!("p{}", if chance(0.2) { visit / 2 } else { visit }));
        let mut plan: Vec<(f64, Act)> = Vec::new();
        let late = chance(0.1);
        let status = |at: f64, status: EncounterStatus, late: bool| {
            let (id, patient) = (encounter.clone(), patient.clone());
            (at, Act::Encounter { firm, id, patient, status, late })
        };
        if chance(0.3) {
            plan.push(status(at - draw(600.0, 3_000.0), EncounterStatus::Planned, false));
        }
        plan.push(status(at, EncounterStatus::Arrived, late));
        let fate = draw(0.0, 1.0);
        if fate < 0.08 {
            plan.push(status(at + draw(60.0, 900.0), EncounterStatus::Cancelled, false));
        } else {
            plan.push(status(at + draw(60.0, 600.0), EncounterStatus::InProgress, false));
            plan.push(status(at + draw(1_500.0, 3_600.0), EncounterStatus::Finished, chance(0.1)));
        }
        let life = self.shape.plan.life.as_secs_f64();
        let long = self.shape.long.as_secs_f64();
        let mut documents: Vec<f64> = Vec::new();
        let some = self.script.draw(|rng| rng.random_range(0..5));
        if chance(0.2) {
            self.script.count("burst");
            let burst = at + draw(300.0, 1_200.0);
            documents.extend(std::iter::repeat_n(burst, some));
        } else {
            documents.extend((0..some).map(|_| at + draw(120.0, 2_400.0)));
        }
        if chance(0.1) {
            documents.push(at + draw(3_600.0, 9_000.0).min(life * 0.8));
        }
        if at + life * 1.1 < long * 0.9 && fate >= 0.08 && chance(0.5) {
            // Signed after its day, with a document.
            self.script.count("signed after its day");
            let signed = at + 3_600.0 + life * 1.05;
            plan.push(status(signed, EncounterStatus::Finished, false));
            documents.push(signed + draw(1.0, 60.0));
        }
        if chance(0.05) {
            self.script.count("before its encounter");
            documents.push(at - draw(1.0, 120.0));
        }
        for (number, made) in documents.into_iter().enumerate() {
            let kinds = &self.shape.manners().documents;
            let kind = kinds[usize::from(kinds.len() > 1 && chance(0.3))].clone();
            let category = match draw(0.0, 1.0) {
                0.0..0.6 => "lesion",
                0.6..0.8 => "rash",
                0.8..0.9 => "note",
                0.9..0.95 => "results",
                _ => "other",
            };
            let mut of = encounter.clone();
            if self.shape.manners().reach == Reach::Firm && chance(0.03) {
                of = id(&format!("nobody{visit}"));
            }
            let mut row = document(&kind, &id(&format!("d{visit}.{number}")), category, &of);
            row.patient = Some(patient.clone());
            plan.push((made, Act::Document { firm, row: Box::new(row.clone()), late: chance(0.1) }));
            if chance(0.08) {
                let row = Box::new(row.clone());
                plan.push((made + draw(30.0, 1_800.0), Act::Document { firm, row, late: false }));
            }
            if chance(0.08) {
                self.script.count("withdrawn");
                row.status = DocumentStatus::EnteredInError;
                plan.push((made + draw(1_800.0, 5_400.0), Act::Document { firm, row: Box::new(row), late: false }));
            }
        }
        for (at, act) in plan {
            if (0.0..long * 0.97).contains(&at) {
                self.at(seconds(at), act);
            }
        }
    }
}
