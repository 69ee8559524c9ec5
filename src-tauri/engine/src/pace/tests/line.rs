//! Whose turn it is.

use super::*;

/// Alone, and known to the ledger.
async fn alone(allowance: Allowance) -> (Station, Log) {
    let log = Log::new();
    let station = station(0, allowance, clock(1.0), MemoryLedger::new(), &log, &[], 1.0);
    tokio::time::sleep(2 * MINUTE).await;
    (station, log)
}

#[test]
fn two_firms_that_wait_never_differ_by_more_than_one_however_many_of_one_wait() {
    paused(async {
        let (station, log) = alone(minute(600, 100, 1)).await;
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            backlogged(&mut tasks, &station.quota, &log, 0, "large", Purpose::Poll);
        }
        tokio::time::sleep(Duration::from_secs(7)).await;
        backlogged(&mut tasks, &station.quota, &log, 0, "small", Purpose::Poll);
        backlogged(&mut tasks, &station.quota, &log, 0, "other", Purpose::Poll);
        let from = log.all().len();
        tokio::time::sleep(5 * MINUTE).await;
        let mut served = BTreeMap::from([("large", 0_i64), ("small", 0), ("other", 0)]);
        for sent in &log.all()[from..] {
            *served.get_mut(sent.firm.as_str()).unwrap() += 1;
            let counts: Vec<_> = served.values().copied().collect();
            let apart = counts.iter().max().unwrap() - counts.iter().min().unwrap();
            assert!(apart <= 1, "{served:?}");
        }
        assert!(served["small"] > 900, "{served:?}");
    });
}

#[test]
fn persons_go_first_and_find_a_reserve_and_nobody_starves() {
    paused(async {
        let (station, log) = alone(minute(600, 100, 1)).await;
        let mut tasks = JoinSet::new();
        for (name, purpose) in [
            ("a", Purpose::Poll),
            ("b", Purpose::Poll),
            ("c", Purpose::Poll),
            ("a", Purpose::Sweep),
            ("a", Purpose::Work),
        ] {
            backlogged(&mut tasks, &station.quota, &log, 0, name, purpose);
        }
        tokio::time::sleep(5 * MINUTE).await;
        let count = |purpose| log.all().iter().filter(|sent| sent.purpose == purpose).count() as f64;
        let all = log.all().len() as f64;
        assert!(count(Purpose::Work) > all * 0.8, "work goes before polls");
        for purpose in [Purpose::Poll, Purpose::Sweep] {
            assert!(count(purpose) > all / 20.0, "{purpose:?}: {} of {all}", count(purpose));
        }
        drop(tasks);
        let mut tasks = JoinSet::new();
        for name in ["a", "b", "c", "d"] {
            backlogged(&mut tasks, &station.quota, &log, 0, name, Purpose::Poll);
        }
        tokio::time::sleep(2 * MINUTE).await;
        // Fifteen at once, though polls take all that there is.
        let budget = station.quota.share_of(&firm("a"));
        let began = Instant::now();
        for _ in 0..15 {
            budget.permit(Purpose::Person).await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_millis(150), "{:?}", began.elapsed());
        assert!(station.quota.poll_rate() < 9.9, "polls are planned for what is left");
    });
}

#[test]
fn who_gives_up_waiting_takes_no_permit_along_and_blocks_nobody() {
    for seed in 0..10 {
        paused(async {
            let (station, log) = alone(minute(600, 100, 1)).await;
            let mut rng = StdRng::seed_from_u64(seed);
            let mut tasks = JoinSet::new();
            for number in 0..12 {
                let (budget, log) = (station.quota.share_of(&firm(&format!("f{}", number % 3))), log.clone());
                let patience = Duration::from_millis(rng.random_range(1..900));
                let purpose = [Purpose::Poll, Purpose::Work, Purpose::Sweep][number % 3];
                tasks.spawn(async move {
                    loop {
                        if let Ok(Ok(())) = tokio::time::timeout(patience, budget.permit(purpose)).await {
                            log.note(0, "north", purpose);
                        }
                    }
                });
            }
            tokio::time::sleep(5 * MINUTE).await;
            let sent = log.between(180, 420).len();
            assert!(sent >= 4 * 580, "seed {seed}: {sent}");
            assert!(log.most(MINUTE) <= 600);
        });
    }
}

#[test]
fn a_machine_that_slept_neither_saves_up_nor_waits_for_what_was_before() {
    paused(async {
        let log = Log::new();
        let machine = clock(1.0);
        let polls = [("north", Purpose::Poll)];
        let _station = station(0, minute(600, 100, 1), machine.clone(), MemoryLedger::new(), &log, &polls, 1.0);
        tokio::time::sleep(3 * MINUTE).await;
        machine.suspend(Duration::from_secs(3600));
        tokio::time::sleep(Duration::from_secs(2)).await;
        // No more than what may be saved up at any time.
        let woken = log.between(180, 182).len();
        assert!((10..=45).contains(&woken), "{woken}");
        tokio::time::sleep(MINUTE).await;
        assert!(log.between(200, 240).len() > 380);
    });
}
