//! Trouble on the way to the ledger, stations that are killed or asleep, and clocks that go wrong.

use super::*;

#[test]
fn one_station_uses_nearly_all_that_it_may_and_never_more() {
    paused(async {
        let log = Log::new();
        let allowance = minute(250, 60, 1);
        let polls = [("north", Purpose::Poll), ("south", Purpose::Poll)];
        let station = station(0, allowance, clock(1.0), MemoryLedger::new(), &log, &polls, 1.0);
        tokio::time::sleep(20 * MINUTE).await;
        assert!(log.most(MINUTE) <= 150, "{}", log.most(MINUTE));
        let sent = log.between(120, 1080).len();
        assert!(sent >= 16 * 140, "{sent}");
        let view = station.quota.view();
        assert_eq!((view.standing, view.factor, view.stations.len()), (Standing::Sharing, 1.0, 1));
        assert!((140..=150).contains(&view.used), "{view:?}");
    });
}

#[test]
fn no_window_ever_holds_more_than_is_published() {
    let mut used = 0.0;
    for seed in 0..40 {
        used += paused(troubled(seed));
    }
    // With all of that trouble, most of the quota is still used.
    assert!(used / 40.0 > 0.5, "{used}");
}

/// Answers with the part of the limit that was used.
async fn troubled(seed: u64) -> f64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = rng.random_range(1..=5);
    // A clock that is 10 % fast sends 10 % more: that much must be left.
    let drift = seed.is_multiple_of(2);
    let limit = rng.random_range(120..1500);
    let allowance = minute(limit, if drift { 90 } else { 100 }, 5);
    let trouble = Trouble::new(seed, rng.random_range(0..200));
    let memory = MemoryLedger::new();
    let log = Log::new();
    let clocks: Vec<_> = (0..count).map(|_| clock(if drift { rng.random_range(0.9..=1.1) } else { 1.0 })).collect();
    let demand =
        [("north", Purpose::Poll), ("south", Purpose::Poll), ("south", Purpose::Work), ("north", Purpose::Sweep)];
    let start = |number: usize, rng: &mut StdRng| {
        let ledger: Arc<dyn Ledger> = Arc::new(FaultyLedger(memory.clone(), trouble.clone()));
        let weight = rng.random_range(0.0..3.0);
        station(number, allowance, clocks[number].clone(), ledger, &log, &demand, weight)
    };
    let mut stations: BTreeMap<usize, Station> = (0..count).map(|number| (number, start(number, &mut rng))).collect();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(rng.random_range(1..60))).await;
        let number = rng.random_range(0..count);
        match rng.random_range(0..7) {
            // Killed, and started again at once or later.
            0 => drop(stations.remove(&number)),
            1 => {
                stations.remove(&number);
                stations.insert(number, start(number, &mut rng));
            }
            2 => clocks[number].jump(SignedDuration::from_hours(rng.random_range(-24..24))),
            3 => trouble.set_away(rng.random()),
            4 => clocks[number].suspend(Duration::from_secs(rng.random_range(1..200))),
            // Ends in peace.
            5 => {
                if let Some(station) = stations.get(&number) {
                    station.gate.close();
                }
            }
            _ => {
                stations.entry(number).or_insert_with(|| start(number, &mut rng));
            }
        }
    }
    let most = log.most(MINUTE);
    assert!(most <= limit as usize, "seed {seed}: {most} of {limit} by {count} stations");
    most as f64 / limit as f64
}

const POLLS: [(&str, Purpose); 2] = [("north", Purpose::Poll), ("south", Purpose::Poll)];

#[test]
fn a_share_goes_with_what_a_station_polls_and_that_of_a_dead_one_to_the_others() {
    paused(async {
        let (log, ledger, allowance) = (Log::new(), MemoryLedger::new(), minute(600, 100, 2));
        let one = station(0, allowance, clock(1.0), ledger.clone(), &log, &POLLS, 1.0);
        let other = station(1, allowance, clock(1.0), ledger.clone(), &log, &POLLS, 3.0);
        tokio::time::sleep(3 * MINUTE).await;
        let shares: Vec<_> = one.quota.view().stations.values().map(|station| station.share).collect();
        assert!((shares[0] - 0.26).abs() < 0.02 && (shares[1] - 0.74).abs() < 0.02, "{shares:?}");
        drop(other);
        tokio::time::sleep(2 * MINUTE).await;
        let share = one.quota.view().stations[&StationId::new("s0").unwrap()].share;
        assert!(share > 0.99, "{share}");
        // One that starts has its part within two beats, and nobody is overdrawn on the way.
        let other = station(1, allowance, clock(1.0), ledger, &log, &POLLS, 3.0);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert!(other.quota.poll_rate() > 5.0, "{}", other.quota.poll_rate());
        assert!(log.most(MINUTE) <= 600, "{}", log.most(MINUTE));
    });
}

#[test]
fn a_share_is_lowered_before_others_can_know_of_it() {
    paused(async {
        let (log, memory, allowance) = (Log::new(), MemoryLedger::new(), minute(600, 100, 2));
        let trouble = Trouble::new(1, 0);
        let ledger = Arc::new(FaultyLedger(memory.clone(), trouble.clone()));
        let _one = station(0, allowance, clock(1.0), ledger, &log, &POLLS, 1.0);
        tokio::time::sleep(3 * MINUTE).await;
        // What it commits from now on arrives, and it never hears so.
        trouble.set_mute(true);
        let other = station(1, allowance, clock(1.0), memory, &log, &POLLS, 3.0);
        tokio::time::sleep(MINUTE).await;
        assert!(other.quota.poll_rate() > 5.0, "{}", other.quota.poll_rate());
        tokio::time::sleep(2 * MINUTE).await;
        assert!(log.most(MINUTE) <= 600, "{}", log.most(MINUTE));
    });
}

#[test]
fn a_station_that_is_cut_off_has_stopped_before_others_take_its_share() {
    paused(async {
        // Its clock is slow and theirs is fast, and a fast one sends more.
        let (log, memory, allowance) = (Log::new(), MemoryLedger::new(), minute(600, 91, 2));
        let trouble = Trouble::new(1, 0);
        let ledger = Arc::new(FaultyLedger(memory.clone(), trouble.clone()));
        let _one = station(0, allowance, clock(0.9), ledger, &log, &POLLS, 3.0);
        let other = station(1, allowance, clock(1.1), memory, &log, &POLLS, 1.0);
        tokio::time::sleep(3 * MINUTE).await;
        trouble.set_away(true);
        tokio::time::sleep(3 * MINUTE).await;
        assert!(other.quota.poll_rate() > 8.0, "{}", other.quota.poll_rate());
        assert!(log.most(MINUTE) <= 600, "{}", log.most(MINUTE));
    });
}

#[test]
fn restarts_are_worth_nothing() {
    paused(async {
        let (log, ledger, allowance) = (Log::new(), MemoryLedger::new(), minute(600, 100, 1));
        let demand = [("north", Purpose::Poll), ("south", Purpose::Person)];
        let start = || station(0, allowance, clock(1.0), ledger.clone(), &log, &demand, 1.0);
        let mut station = start();
        tokio::time::sleep(3 * MINUTE).await;
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(station);
            station = start();
        }
        assert!(log.most(MINUTE) <= 600, "{}", log.most(MINUTE));
    });
}

#[test]
fn one_that_stops_leaves_its_share_at_once() {
    paused(async {
        let (log, ledger, allowance) = (Log::new(), MemoryLedger::new(), minute(600, 100, 2));
        let one = station(0, allowance, clock(1.0), ledger.clone(), &log, &POLLS, 1.0);
        let other = station(1, allowance, clock(1.0), ledger, &log, &POLLS, 1.0);
        tokio::time::sleep(3 * MINUTE).await;
        assert!(one.quota.poll_rate() < 6.0);
        other.gate.close();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(one.quota.poll_rate() > 8.0, "{}", one.quota.poll_rate());
    });
}

#[test]
fn while_the_ledger_is_away_each_keeps_to_its_own_slot() {
    paused(async {
        let (log, memory, allowance) = (Log::new(), MemoryLedger::new(), minute(1000, 100, 4));
        let trouble = Trouble::new(1, 0);
        let stations: Vec<_> = (0..3)
            .map(|number| {
                let ledger = Arc::new(FaultyLedger(memory.clone(), trouble.clone()));
                station(number, allowance, clock(1.0), ledger, &log, &POLLS, 1.0)
            })
            .collect();
        tokio::time::sleep(5 * MINUTE).await;
        assert!(log.between(240, 300).len() > 800, "{}", log.between(240, 300).len());
        trouble.set_away(true);
        tokio::time::sleep(10 * MINUTE).await;
        // A tenth for four: 25 for each, of which a part may have been saved up.
        let alone = log.between(480, 540);
        assert!((3 * 15..=3 * 25).contains(&alone.len()), "{}", alone.len());
        assert!(stations.iter().all(|station| station.quota.view().standing == Standing::Alone));
        trouble.set_away(false);
        tokio::time::sleep(3 * MINUTE).await;
        assert!(log.between(1020, 1080).len() > 800);
        assert!(log.most(MINUTE) <= 1000, "{}", log.most(MINUTE));
    });
}

#[test]
fn one_station_too_many_sends_nothing_until_another_is_gone() {
    paused(async {
        let (log, ledger, allowance) = (Log::new(), MemoryLedger::new(), minute(600, 100, 2));
        let start = |number| station(number, allowance, clock(1.0), ledger.clone(), &log, &POLLS, 1.0);
        let (first, _second) = (start(0), start(1));
        tokio::time::sleep(MINUTE).await;
        let third = start(2);
        tokio::time::sleep(5 * MINUTE).await;
        assert_eq!(third.quota.view().standing, Standing::Full);
        assert!(log.all().iter().all(|sent| sent.station != 2));
        drop(first);
        tokio::time::sleep(3 * MINUTE).await;
        assert_eq!(third.quota.view().standing, Standing::Sharing);
        assert!(log.all().iter().any(|sent| sent.station == 2));
        assert!(log.most(MINUTE) <= 600, "{}", log.most(MINUTE));
    });
}

#[test]
fn a_quota_that_is_too_small_for_so_many_is_refused_with_what_to_do() {
    let too_small = minute(40, 60, 8).check().unwrap_err();
    assert_eq!(
        too_small.to_string(),
        "24 requests in a window are too few for 8 stations: at least 33 are needed; lower `stations`, or raise `use`"
    );
    assert_eq!(minute(40, 60, 1).check(), Ok(()));
}
