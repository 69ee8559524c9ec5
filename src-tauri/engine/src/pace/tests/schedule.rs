//! What is learned, and how a budget is split by it.

use jiff::Timestamp;
use proptest::{
    collection::vec,
    prelude::{Strategy, prop_assert, proptest},
};

use super::*;
use crate::pace::{
    learner::Learner,
    split::{Load, least_mean_delay, split},
};

fn loads() -> impl Strategy<Value = Vec<Load>> {
    let load = (1e-7..1.0_f64, 1.0..20.0_f64, 1_u64..20, 20_u64..4000);
    let load = load.prop_map(|(rate, cost, fastest, slowest)| Load {
        rate,
        cost,
        slowest: Duration::from_secs(slowest),
        fastest: Duration::from_secs(fastest),
    });
    vec(load, 1..8)
}

/// The mean delay of a change where things are looked at so often.
fn mean_delay(loads: &[Load], looks: &[f64]) -> f64 {
    let rates: f64 = loads.iter().map(|load| load.rate).sum();
    loads.iter().zip(looks).map(|(load, looks)| load.rate / (2.0 * looks)).sum::<f64>() / rates
}

proptest! {
    #[test]
    fn the_budget_is_kept_and_used_and_nobody_is_looked_at_too_often(loads in loads(), budget in 0.01..20.0_f64) {
        let looks = split(budget, &loads);
        let cost: f64 = looks.iter().zip(&loads).map(|(looks, load)| looks * load.cost).sum();
        let most: f64 = loads.iter().map(|load| load.cost / load.fastest.as_secs_f64()).sum();
        prop_assert!(cost <= budget * 1.0001);
        prop_assert!(cost >= budget.min(most) * 0.999, "{cost} of {budget}");
        let floor: f64 = loads.iter().map(|load| load.cost / load.slowest.as_secs_f64()).sum();
        for (looks, load) in looks.iter().zip(&loads) {
            prop_assert!(*looks <= 1.0001 / load.fastest.as_secs_f64());
            if floor <= budget {
                prop_assert!(*looks >= 0.9999 / load.slowest.as_secs_f64());
            }
        }
    }

    /// Moving a little of the budget from any one to any other makes nothing better.
    #[test]
    fn no_other_split_is_better(loads in loads(), budget in 0.5..20.0_f64, part in 0.001..0.5_f64) {
        let looks = split(budget, &loads);
        let best = mean_delay(&loads, &looks);
        prop_assert!(best >= least_mean_delay(budget, &loads) * 0.9999);
        for from in 0..loads.len() {
            for to in 0..loads.len() {
                let mut other = looks.clone();
                let moved = (looks[from] * part).min(looks[from] - 1.0 / loads[from].slowest.as_secs_f64()).max(0.0);
                other[from] -= moved;
                other[to] += moved * loads[from].cost / loads[to].cost;
                let allowed = other[to] <= 1.0 / loads[to].fastest.as_secs_f64();
                if from != to && allowed && moved > 0.0 {
                    prop_assert!(mean_delay(&loads, &other) >= best * 0.9999);
                }
            }
        }
    }
}

#[test]
fn without_bounds_the_least_mean_delay_is_reached() {
    let loads: Vec<_> = (1..50)
        .map(|firm| Load {
            rate: 1.0 / f64::from(firm),
            cost: 1.0,
            slowest: Duration::from_secs(1_000_000),
            fastest: Duration::from_millis(1),
        })
        .collect();
    let delay = mean_delay(&loads, &split(1.0, &loads));
    assert!((delay / least_mean_delay(1.0, &loads) - 1.0).abs() < 1e-3, "{delay}");
}

const START: &str = "2026-03-02T00:00:00Z";

/// Looks every ten seconds for so many days at what changes so many times a second; answers with the learner and the end.
fn learn(seed: u64, days: u64, rate: impl Fn(u64) -> f64, burst: u64) -> (Learner, Timestamp) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut learner = Learner::expecting(1.0 / 600.0);
    let mut at: Timestamp = START.parse().unwrap();
    let mut follows = Vec::new();
    for look in 0..days * 8640 {
        let now = at + SignedDuration::from_secs(10);
        let mut found = 0;
        if rng.random::<f64>() < rate((look / 360) % 24) * 10.0 {
            found += 1;
            follows.extend((1..=burst).map(|next| look + next * 3));
        }
        found += follows.iter().filter(|next| **next == look).count() as u64;
        follows.retain(|next| *next > look);
        learner.looked(at, now, found, 3);
        at = now;
    }
    (learner, at)
}

#[test]
fn two_days_teach_the_rate_and_the_hours_of_the_office() {
    for seed in 0..20 {
        // 95 % of 120 changes a day between 8 and 18.
        let rate = |hour: u64| if (8..18).contains(&hour) { 114.0 / 36_000.0 } else { 6.0 / 50_400.0 };
        let (learner, end) = learn(seed, 2, rate, 0);
        let at = |hour: i64| learner.rate(end + SignedDuration::from_hours(hour));
        let office: f64 = (8..18).map(at).sum::<f64>() / 10.0;
        let night: f64 = (0..6).map(at).sum::<f64>() / 6.0;
        assert!((0.6..1.6).contains(&(office / rate(10))), "seed {seed}: {}", office / rate(10));
        assert!(night < office / 4.0, "seed {seed}: {night} at night, {office} by day");
        assert!((2.9..=3.0).contains(&learner.cost()));
    }
}

#[test]
fn a_week_teaches_which_days_are_free() {
    let mut learner = Learner::expecting(1.0 / 600.0);
    let mut at: Timestamp = START.parse().unwrap();
    for hour in 0..24 * 28_u64 {
        let now = at + SignedDuration::from_hours(1);
        let open = (hour / 24) % 7 < 5 && (8..18).contains(&(hour % 24));
        learner.looked(at, now, if open { 12 } else { 0 }, 1);
        at = now;
    }
    let (monday, saturday) = (at + SignedDuration::from_hours(10), at + SignedDuration::from_hours(24 * 5 + 10));
    assert!(learner.rate(monday) > 20.0 * learner.rate(saturday));
    assert!((0.8..1.2).contains(&(learner.rate(monday) * 300.0)), "{}", learner.rate(monday) * 300.0);
}

#[test]
fn changes_that_come_in_bursts_are_expected_to_and_others_are_not() {
    let after_a_hit = |learner: &Learner, end: Timestamp| {
        let mut hit = learner.clone();
        hit.looked(end, end + SignedDuration::from_secs(10), 1, 1);
        let now = end + SignedDuration::from_secs(10);
        (hit.rate(now) / learner.rate(now), hit.rate(now + SignedDuration::from_mins(20)) / learner.rate(now))
    };
    let (mut bursts, mut lone) = (0.0, 0.0);
    for seed in 0..10 {
        let (learner, end) = learn(seed, 2, |_| 1.0 / 1800.0, 3);
        let (boost, later) = after_a_hit(&learner, end);
        assert!(later < 1.6, "{later}");
        bursts += boost / 10.0;
        let (learner, end) = learn(seed, 2, |_| 1.0 / 600.0, 0);
        lone += after_a_hit(&learner, end).0 / 10.0;
    }
    assert!(bursts > 3.0 && lone < 1.8, "{bursts} {lone}");
}

#[test]
fn what_was_learned_is_small_and_nothing_spoils_it() {
    let (mut learner, end) = learn(1, 2, |_| 0.01, 1);
    let state = serde_json::to_string(&learner).unwrap();
    assert!(state.len() < 1200, "{}", state.len());
    assert_eq!(serde_json::from_str::<Learner>(&state).unwrap(), learner);
    // A clock that was set back, a year without a look, a flood, and no look at all.
    learner.looked(end, end - SignedDuration::from_hours(5), 10, 1);
    learner.looked(end, end + SignedDuration::from_hours(24 * 365), u64::MAX, u64::MAX);
    learner.looked(end, end, 1, 0);
    let rate = learner.rate(end);
    assert!(rate.is_finite() && rate > 0.0 && learner.cost() >= 1.0);
}

#[test]
fn what_is_polled_gets_its_pace_of_what_the_station_may_use() {
    paused(async {
        let station = station(0, minute(600, 100, 1), clock(1.0), MemoryLedger::new(), &Log::new(), &[], 0.0);
        tokio::time::sleep(MINUTE).await;
        let load = Load { rate: 1.0, cost: 1.0, slowest: Duration::from_secs(300), fastest: Duration::from_millis(10) };
        let (busy, quiet) = (station.quota.unit(load), station.quota.unit(load));
        busy.expects(0.09, 1.0);
        quiet.expects(0.01, 1.0);
        let (fast, slow) = (busy.interval().as_secs_f64(), quiet.interval().as_secs_f64());
        assert!((slow / fast - 3.0).abs() < 0.01, "{fast} {slow}");
        // One that needs ten requests each time is looked at more seldom.
        busy.expects(0.09, 9.0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!((busy.interval().as_secs_f64() / quiet.interval().as_secs_f64() - 1.0).abs() < 0.01);
        drop(busy);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(quiet.interval().as_secs_f64() < 0.11, "{:?}", quiet.interval());
        quiet.expects(f64::NAN, 0.0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(quiet.interval() > Duration::ZERO);
    });
}
