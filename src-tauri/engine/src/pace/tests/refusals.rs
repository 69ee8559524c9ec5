//! What the server says of the quota.

use super::*;

const POLLS: [(&str, Purpose); 2] = [("north", Purpose::Poll), ("south", Purpose::Poll)];

fn refused(seconds: u64) -> Said {
    Said::Refused { after: Some(Duration::from_secs(seconds)), server_time: None }
}

#[test]
fn after_a_refusal_nobody_asks_before_its_time_and_then_half_as_often() {
    paused(async {
        let (log, ledger, allowance) = (Log::new(), MemoryLedger::new(), minute(600, 100, 2));
        let told = station(0, allowance, clock(1.0), ledger.clone(), &log, &POLLS, 1.0);
        let _other = station(1, allowance, clock(1.0), ledger.clone(), &log, &POLLS, 1.0);
        tokio::time::sleep(5 * MINUTE).await;
        let before = log.between(240, 300).len();
        told.quota.share_of(&firm("north")).answered(refused(50));
        // What was under way is refused for the same reason, and does not count again.
        told.quota.share_of(&firm("south")).answered(refused(49));
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!(log.between(300, 350).iter().filter(|sent| sent.station == 0).count(), 0);
        // The other hears of it at its next beat.
        assert_eq!(log.between(316, 350).len(), 0);
        let after = log.between(360, 420).len();
        assert!((before * 45 / 100..before * 56 / 100).contains(&after), "{after} of {before}");
        // Slowly it returns.
        tokio::time::sleep(5 * MINUTE).await;
        let later = log.between(660, 720).len();
        assert!((before * 68 / 100..before * 82 / 100).contains(&later), "{later} of {before}");
        tokio::time::sleep(10 * MINUTE).await;
        assert!(log.between(1260, 1320).len() > before * 97 / 100);
    });
}

#[test]
fn a_silence_and_what_follows_from_it_survive_a_restart() {
    paused(async {
        let (log, ledger, allowance) = (Log::new(), MemoryLedger::new(), minute(600, 100, 1));
        let told = station(0, allowance, clock(1.0), ledger.clone(), &log, &POLLS, 1.0);
        tokio::time::sleep(2 * MINUTE).await;
        told.quota.share_of(&firm("north")).answered(refused(40));
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(told);
        let again = station(0, allowance, clock(1.0), ledger.clone(), &log, &POLLS, 1.0);
        tokio::time::sleep(MINUTE).await;
        assert_eq!(log.between(121, 160).len(), 0);
        assert!(!log.between(165, 175).is_empty());
        assert!((0.5..0.6).contains(&again.quota.view().factor), "{:?}", again.quota.view());
    });
}

#[test]
fn a_short_refusal_among_many_answers_passes_like_weather() {
    paused(async {
        let (log, allowance) = (Log::new(), minute(600, 100, 1));
        let told = station(0, allowance, clock(1.0), MemoryLedger::new(), &log, &POLLS, 1.0);
        tokio::time::sleep(5 * MINUTE).await;
        let budget = told.quota.share_of(&firm("north"));
        budget.answered(refused(1));
        assert_eq!(told.quota.view().factor, 0.5);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(told.quota.view().factor, 1.0);
        // More than a tenth is no weather: down to a sixteenth, and no further.
        for _ in 0..200 {
            budget.answered(refused(1));
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert!(told.quota.view().factor < 0.07, "{:?}", told.quota.view());
        assert!(!log.between(690, 700).is_empty(), "it asks still");
    });
}

#[test]
fn a_refusal_without_a_time_is_waited_out_by_the_servers_own_minute_or_for_a_whole_window() {
    paused(async {
        for (window, seconds) in [(Window::Calendar, 18), (Window::Sliding, 60)] {
            let allowance = Allowance { window, ..minute(600, 100, 1) };
            // By this machine's own clock, it is another time.
            let told = station(0, allowance, clock(1.0), MemoryLedger::new(), &Log::new(), &POLLS, 1.0);
            tokio::time::sleep(MINUTE).await;
            let server_time = Some("2031-05-05T11:17:42Z".parse().unwrap());
            told.quota.share_of(&firm("north")).answered(Said::Refused { after: None, server_time });
            assert_eq!(told.quota.view().silent_for, Duration::from_secs(seconds));
        }
    });
}

#[test]
fn nobody_waits_in_place_for_a_long_silence() {
    paused(async {
        let told = station(0, minute(600, 100, 1), clock(1.0), MemoryLedger::new(), &Log::new(), &[], 1.0);
        tokio::time::sleep(MINUTE).await;
        let budget = told.quota.share_of(&firm("north"));
        budget.answered(refused(600));
        let began = Instant::now();
        let fault = budget.permit(Purpose::Person).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(fault.class, Class::Wait(Some(Duration::from_secs(600))));
        // A short one is waited out.
        tokio::time::sleep(Duration::from_secs(570)).await;
        budget.permit(Purpose::Person).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(600));
    });
}

#[test]
fn what_the_server_says_is_left_is_not_overdrawn() {
    paused(async {
        let (log, allowance) = (Log::new(), minute(600, 50, 1));
        let told = station(0, allowance, clock(1.0), MemoryLedger::new(), &log, &POLLS, 1.0);
        tokio::time::sleep(4 * MINUTE).await;
        let budget = told.quota.share_of(&firm("north"));
        // Somebody else uses the key as well. Of what is left, half is ours.
        budget.answered(Said::Left { requests: 60, reset: Duration::from_secs(30) });
        assert_eq!(told.quota.view().left, Some(60));
        tokio::time::sleep(Duration::from_secs(30)).await;
        let sent = log.between(240, 270).len();
        assert!((25..=32).contains(&sent), "{sent}");
        budget.answered(Said::Left { requests: 0, reset: Duration::from_secs(20) });
        tokio::time::sleep(MINUTE).await;
        assert_eq!(log.between(271, 290).len(), 0);
        assert!(log.between(300, 330).len() > 100);
        assert_eq!(told.quota.view().factor, 1.0);
    });
}
