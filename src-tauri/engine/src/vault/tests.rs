use std::sync::{
    Mutex as StdMutex,
    atomic::{AtomicU64, Ordering},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    fakes::{FakeClock, FaultyLedger, MemoryLedger, Trouble},
    key::{BootId, FirmId, StationId},
    keys::ClinicKey,
};

/// A server whose refresh token changes with each use.
#[derive(Debug, Default)]
struct SignIns {
    newest: AtomicU64,
    under_way: AtomicU64,
    most: AtomicU64,
    refused: AtomicU64,
    chance: Option<StdMutex<StdRng>>,
}

impl SignIns {
    fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { chance: Some(StdMutex::new(StdRng::seed_from_u64(seed))), ..Self::default() })
    }

    fn at(self: &Arc<Self>) -> SignIn<'static> {
        let server = self.clone();
        Box::new(move |grant| {
            Box::pin(async move {
                let under_way = server.under_way.fetch_add(1, Ordering::Relaxed) + 1;
                server.most.fetch_max(under_way, Ordering::Relaxed);
                let long = server.chance.as_ref().map_or(100, |chance| chance.lock().unwrap().random_range(50..40_000));
                tokio::time::sleep(Duration::from_millis(long)).await;
                server.under_way.fetch_sub(1, Ordering::Relaxed);
                let shown = grant.map_or("0".to_owned(), |grant| grant.granted.refresh.unwrap().to_string());
                if shown != server.newest.load(Ordering::Relaxed).to_string() {
                    server.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(Fault::new(Class::Stop, Code::SignInRefused));
                }
                Ok(granted(server.newest.fetch_add(1, Ordering::Relaxed) + 1))
            })
        })
    }
}

fn granted(number: u64) -> Granted {
    Granted {
        access: Zeroizing::new(format!("SYNTHETIC-ACCESS-{number}")),
        refresh: Some(Zeroizing::new(number.to_string())),
        life: Duration::from_secs(900),
    }
}

fn key() -> RecordKey {
    RecordKey::token(FirmId::new("north").unwrap(), "ehr")
}

fn vault(station: &str, ledger: Arc<dyn Ledger>) -> Arc<LedgerVault> {
    let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
    let owner = Owner { station: StationId::new(station).unwrap(), boot: BootId::new("b").unwrap() };
    Arc::new(LedgerVault::new(ledger, clock, owner, Seal::new(&ClinicKey::from_bytes([7; 32])), key()))
}

#[tokio::test(start_paused = true)]
async fn of_all_that_ask_at_once_one_signs_in_and_nobody_can_read_it_without_the_key() {
    let (ledger, server) = (MemoryLedger::new(), SignIns::new(1));
    let vaults = [vault("a", ledger.clone()), vault("b", ledger.clone())];
    let asked = (0..20).map(|number| {
        let (vault, server) = (vaults[number % 2].clone(), server.clone());
        tokio::spawn(async move { vault.renew(None, server.at()).await })
    });
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap().unwrap().number, 1);
    }
    assert_eq!(server.newest.load(Ordering::Relaxed), 1);
    let state = &ledger.records()[&key()].state;
    assert!(!state.contains("SYNTHETIC"), "{state}");
    // Another clinic's key opens nothing, and signs in anew.
    let mut other = Arc::into_inner(vault("c", ledger.clone())).unwrap();
    other.seal = Seal::new(&ClinicKey::from_bytes([8; 32]));
    assert_eq!(other.read().await, Ok(None));
    let fresh: SignIn<'_> = Box::new(|grant| {
        assert_eq!(grant, None);
        Box::pin(async { Ok(granted(1)) })
    });
    assert_eq!(other.renew(None, fresh).await.unwrap().number, 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_changes_with_each_use_is_never_used_twice_whatever_answers_are_lost() {
    let mut renewed = 0;
    for seed in 0..60 {
        let (memory, server) = (MemoryLedger::new(), SignIns::new(seed));
        let trouble = Trouble::new(seed, 150);
        let stations = ["a", "b", "c"].map(|station| {
            let vault = vault(station, Arc::new(FaultyLedger(memory.clone(), trouble.clone())));
            let (memory, server) = (memory.clone(), server.clone());
            tokio::spawn(async move {
                let mut than = None;
                let mut got = 0;
                while got < 5 {
                    match vault.renew(than, server.at()).await {
                        Ok(grant) => {
                            // In the ledger before anybody uses it.
                            let there = Kept::parse(&memory.records()[&key()].state).unwrap().number;
                            assert!(there >= grant.number && than.is_none_or(|than| grant.number > than));
                            assert_eq!(grant.granted, granted(grant.number));
                            than = Some(grant.number);
                            got += 1;
                        }
                        Err(fault) => assert_ne!(fault.code, Code::SignInRefused, "seed {seed}"),
                    }
                }
            })
        });
        for station in stations {
            station.await.unwrap();
        }
        assert_eq!(server.most.load(Ordering::Relaxed), 1, "seed {seed}: two signed in at once");
        assert_eq!(server.refused.load(Ordering::Relaxed), 0, "seed {seed}");
        renewed += server.newest.load(Ordering::Relaxed);
    }
    assert!(renewed >= 300, "{renewed}");
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_did_not_take_is_handed_in_before_anybody_signs_in_again() {
    let (memory, server, trouble) = (MemoryLedger::new(), SignIns::new(3), Trouble::new(3, 0));
    let vault = vault("a", Arc::new(FaultyLedger(memory.clone(), trouble.clone())));
    assert_eq!(vault.renew(None, server.at()).await.unwrap().number, 1);
    // It goes away while the server answers.
    let sign_in = server.at();
    let cut: SignIn<'_> = Box::new(|grant| {
        Box::pin(async {
            let granted = sign_in(grant).await;
            trouble.set_away(true);
            granted
        })
    });
    assert_eq!(vault.renew(Some(1), cut).await.unwrap_err().code, Code::DatabaseUnavailable);
    assert_eq!(vault.read().await.unwrap().unwrap().number, 1);
    trouble.set_away(false);
    let grant = vault.renew(Some(1), server.at()).await.unwrap();
    assert_eq!((grant.number, &grant.granted), (2, &granted(2)));
    assert_eq!(server.newest.load(Ordering::Relaxed), 2, "nobody signed in once more");
}

#[tokio::test(start_paused = true)]
async fn a_station_that_dies_while_it_signs_in_holds_nobody_up_for_longer_than_its_term() {
    let (ledger, server) = (MemoryLedger::new(), SignIns::new(4));
    let dying = vault("a", ledger.clone());
    let never: SignIn<'_> = Box::new(|_| Box::pin(std::future::pending()));
    assert!(tokio::time::timeout(Duration::from_secs(20), dying.renew(None, never)).await.is_err());
    drop(dying);
    let began = tokio::time::Instant::now();
    let other = vault("b", ledger);
    assert_eq!(other.renew(None, server.at()).await.unwrap().number, 1);
    assert!(began.elapsed() < TERM + Duration::from_secs(45), "{:?}", began.elapsed());
    // What it was granted, if the server had answered, would be used up: that is for a person.
    server.newest.fetch_add(1, Ordering::Relaxed);
    assert_eq!(other.renew(Some(1), server.at()).await.unwrap_err().code, Code::SignInRefused);
    // Nobody waits for the lease after that.
    let began = tokio::time::Instant::now();
    assert_eq!(other.renew(Some(1), Box::new(|_| Box::pin(async { Ok(granted(3)) }))).await.unwrap().number, 2);
    assert!(began.elapsed() < Duration::from_secs(1));
}
