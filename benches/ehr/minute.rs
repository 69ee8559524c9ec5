//! The schedule that it is measured against: a state machine that is triggered each minute. Encounters are asked for 5 s after that, one
//! search for a firm; documents 10, 30 and 50 s after it, by two workers that each claim up to 50 of the encounters of the last 24 hours for
//! 30 s, the one that was not asked about for longest first, and ask about one after the other.
//!
//! It is modelled kindly: requests keep to the quota by themselves and none fails, a claim that has lapsed is dropped rather than worked
//! off twice, documents make way for the search for encounters, one that finds the last still running is left out, and nothing is lost on the way.

use std::collections::VecDeque;

use crate::days::{DAY, Days, LEARNED, Outcome, SPAN};

const WORKERS: usize = 2;
const CLAIMED: usize = 50;
const CLAIM_LASTS: f64 = 30.0;

struct Encounter {
    opened: f64,
    /// Documents that are not found yet.
    documents: VecDeque<f64>,
}

pub fn run(days: &Days, budget: f64) -> Outcome {
    let mut outcome = Outcome::default();
    let documents_of = |firm: usize, encounter: usize| {
        let documents = days.firms[firm].documents.iter().filter(move |(_, of)| *of == Some(encounter));
        documents.map(|(at, _)| *at).collect()
    };
    // Of each firm, how many of the encounters and of the ends are known.
    let mut known = vec![(0, 0); days.firms.len()];
    let mut watched: VecDeque<Encounter> = VecDeque::new();
    // When the last request is done, and the last for encounters.
    let (mut free, mut asked_until) = (0.0_f64, 0.0);
    let mut count = |at: f64| outcome.requests += u64::from(at >= LEARNED);
    let (mut encounters, mut documents) = (crate::days::Delays::default(), crate::days::Delays::default());
    for minute in 0..(SPAN / 60.0) as u64 {
        let trigger = minute as f64 * 60.0;
        if asked_until <= trigger + 5.0 {
            free = free.max(trigger + 5.0);
            for (number, firm) in days.firms.iter().enumerate() {
                free += 1.0 / budget;
                count(free);
                while firm.opened.get(known[number].0).is_some_and(|at| *at <= free) {
                    let opened = firm.opened[known[number].0];
                    encounters.note(opened, free);
                    watched.push_front(Encounter { opened, documents: documents_of(number, known[number].0) });
                    known[number].0 += 1;
                }
                while firm.closed.get(known[number].1).is_some_and(|at| *at <= free) {
                    encounters.note(firm.closed[known[number].1], free);
                    known[number].1 += 1;
                }
            }
            asked_until = free;
        }
        for after in [10.0, 30.0, 50.0] {
            let claimed_at = trigger + after;
            watched.retain(|encounter| encounter.opened + DAY > claimed_at);
            free = free.max(claimed_at);
            let until = (claimed_at + CLAIM_LASTS).min(trigger + 65.0);
            for _ in 0..(WORKERS * CLAIMED).min(watched.len()) {
                if free + 1.0 / budget > until {
                    break;
                }
                free += 1.0 / budget;
                count(free);
                let Some(mut encounter) = watched.pop_front() else { break };
                while encounter.documents.front().is_some_and(|at| *at <= free) {
                    documents.note(encounter.documents.pop_front().unwrap_or_default(), free);
                }
                watched.push_back(encounter);
            }
        }
    }
    let all = days.firms.iter().flat_map(|firm| &firm.documents).filter(|(at, _)| *at >= LEARNED).count();
    outcome.seconds = DAY;
    outcome.missed = all - documents.len();
    (outcome.encounters, outcome.documents) = (encounters, documents);
    outcome
}
