//! What the engine's pace makes of the same days: quota, learned rates, split and line as they are, with a server that answers at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    fakes::{FakeClock, MemoryLedger},
    gate::Gatekeeper,
    key::{BootId, FirmId, QuotaId, StationId},
    ledger::Owner,
    pace::{Allowance, Quota, ShareKeeper, learner::Learner, split::Load},
    ports::{Clock, Purpose, Said},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::days::{DAY, Days, FASTEST, Kind, LEARNED, Outcome, SLOWEST, SPAN};

/// What the schedule goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Knows {
    /// The true rates.
    Rates,
    /// What it learned in two days.
    Learned,
    /// The same, and 5 % of the requests fail: half of them with 429 and "try again in a second", half with 503.
    Faulty,
}

/// What a firm whose days nobody knows is expected to do.
const EXPECTED: f64 = 1.0 / 600.0;

#[derive(Debug, Default)]
struct Counted {
    outcome: Outcome,
    window: VecDeque<f64>,
}

impl Counted {
    fn request(&mut self, at: f64) {
        self.window.push_back(at);
        while self.window.front().is_some_and(|first| *first <= at - 60.0) {
            self.window.pop_front();
        }
        self.outcome.most = self.outcome.most.max(self.window.len());
        if at >= LEARNED {
            self.outcome.requests += 1;
        }
    }
}

pub fn run(days: &Arc<Days>, knows: Knows, allowance: Allowance) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // Who knows the rates need not learn: it begins shortly before the day that counts.
        let begin = if knows == Knows::Rates { LEARNED - 600.0 } else { 0.0 };
        let clock = FakeClock::at("2026-03-02T00:00:00Z".parse().unwrap());
        clock.suspend(Duration::from_secs_f64(begin));
        let quota = Quota::new(QuotaId::new("key").unwrap(), allowance, clock.clone()).unwrap();
        let owner = Owner { station: StationId::new("a").unwrap(), boot: BootId::new("b").unwrap() };
        let mut keeper = ShareKeeper::new(quota.clone(), MemoryLedger::new(), owner);
        let passage = Gatekeeper::open().watch();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { keeper.work(passage).await.unwrap() });
        let counted = Arc::new(Mutex::new(Counted::default()));
        for firm in 0..days.firms.len() {
            for kind in [Kind::Encounters, Kind::Documents] {
                let poller = Poller {
                    days: days.clone(),
                    firm,
                    kind,
                    knows,
                    clock: clock.clone(),
                    quota: quota.clone(),
                    counted: counted.clone(),
                };
                tasks.spawn(poller.work());
            }
        }
        tokio::time::sleep(Duration::from_secs_f64(SPAN - begin)).await;
        tasks.shutdown().await;
        let counted = std::mem::take(&mut *counted.lock().unwrap());
        Outcome { seconds: DAY, ..counted.outcome }
    })
}

struct Poller {
    days: Arc<Days>,
    firm: usize,
    kind: Kind,
    knows: Knows,
    clock: Arc<FakeClock>,
    quota: Arc<Quota>,
    counted: Arc<Mutex<Counted>>,
}

impl Poller {
    async fn work(self) {
        let Self { days, firm, kind, knows, clock, quota, counted } = self;
        let mut rng = StdRng::seed_from_u64(firm as u64);
        let budget = quota.share_of(&FirmId::new(format!("f{firm}")).unwrap());
        let unit = quota.unit(Load { rate: EXPECTED, cost: 1.0, slowest: SLOWEST, fastest: FASTEST });
        let mut learner = Learner::expecting(EXPECTED);
        let elapsed = || clock.elapsed().as_secs_f64();
        let mut changes = VecDeque::from(days.changes(firm, kind));
        while changes.front().is_some_and(|at| *at < elapsed()) {
            changes.pop_front();
        }
        let (mut began, mut before) = (clock.elapsed(), clock.now());
        loop {
            let left = (began + unit.interval()).saturating_sub(clock.elapsed());
            if !left.is_zero() {
                tokio::time::sleep(left.min(Duration::from_secs(5))).await;
                continue;
            }
            budget.permit(Purpose::Poll).await.unwrap();
            let at = elapsed();
            counted.lock().unwrap().request(at);
            if knows == Knows::Faulty {
                let draw = rng.random::<f64>();
                if draw < 0.025 {
                    let after = Some(Duration::from_secs(1));
                    budget.answered(Said::Refused { after, server_time: None });
                }
                if draw < 0.05 {
                    continue;
                }
            }
            began = clock.elapsed();
            let mut found = 0;
            while let Some(changed) = changes.pop_front_if(|changed| *changed <= at) {
                found += 1;
                let mut counted = counted.lock().unwrap();
                match kind {
                    Kind::Encounters => counted.outcome.encounters.note(changed, at),
                    Kind::Documents => counted.outcome.documents.note(changed, at),
                }
            }
            let now = clock.now();
            if knows == Knows::Rates {
                unit.expects(days.rate(firm, kind, at % DAY), 1.0);
            } else {
                learner.looked(before, now, found, 1);
                unit.expects(learner.rate(now), learner.cost());
            }
            before = now;
        }
    }
}
