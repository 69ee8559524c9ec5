//! Whether queue and ledger do what the workers ask. Storage that is shared may be out of reach, refuse a permission or a sign-in, or
//! have been deleted by somebody; nothing is acknowledged meanwhile, and people are told what is in the way. The embedded storage
//! has no such troubles: its faults end the engine.
//!
//! Each port is wrapped, and every call of a worker is a *door*. A door that was refused counts as shut until it opens again, or
//! until nothing was refused there for a while. Calls that a person waits for tell the person, and are not noted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    connection::Health,
    error::{Class, Code, Fault},
    key::{FirmId, Kind, RecordKey},
    ledger::{Claim, Commit, DeadLetter, Filter, Held, Lease, LedgerError, Record, Survey, Take, Want},
    ports::{Clock, Delivery, Depth, Ledger, Message, Queue, Receipt},
    server_clock::Heard,
};

/// What was refused longer ago, and never since, says nothing about now.
const STALE: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    Queue,
    Ledger,
}

/// A port, and which of its calls.
type Door = (Port, &'static str);

#[derive(Debug)]
struct Trouble {
    fault: Fault,
    since: Timestamp,
    /// Elapsed time of the last refusal.
    last: Duration,
}

/// The doors that are shut.
#[derive(Debug)]
pub struct Storage {
    clock: Arc<dyn Clock>,
    shut: Mutex<BTreeMap<Door, Trouble>>,
}

impl Storage {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, shut: Mutex::default() })
    }

    fn shut(&self) -> MutexGuard<'_, BTreeMap<Door, Trouble>> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, door: Door) {
        if self.shut().remove(&door).is_some() {
            tracing::info!(door = door.1, "the storage does it again");
        }
    }

    fn refused(&self, door: Door, fault: &Fault) {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let mut shut = self.shut();
        let since = shut.get(&door).map_or(now, |trouble| trouble.since);
        shut.insert(door, Trouble { fault: fault.clone(), since, last: elapsed });
    }

    async fn pass<T>(&self, door: Door, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let answer = call.await;
        match &answer {
            Ok(_) => self.opened(door),
            Err(fault) => self.refused(door, fault),
        }
        answer
    }

    /// A lease that is lost was an answer.
    async fn pass_lease<T>(
        &self,
        door: Door,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let answer = call.await;
        match &answer {
            Ok(_) | Err(LedgerError::Lost) => self.opened(door),
            Err(LedgerError::Fault(fault)) => self.refused(door, fault),
        }
        answer
    }

    /// This port answered to what was asked at `asked` (elapsed), and everything that it has is there. A permission that is missing
    /// for another call may be missing still.
    fn proven(&self, port: Port, asked: Duration) {
        self.shut()
            .retain(|door, trouble| door.0 != port || trouble.last > asked || trouble.fault.code == Code::AccessDenied);
    }

    /// The figures did not come in time.
    pub fn silent(&self) {
        self.refused((Port::Ledger, "figures"), &Fault::new(Class::Away, Code::TimedOut));
    }

    /// What is in the way, each thing once: first what only a person can mend.
    pub fn troubles(&self) -> Vec<Health> {
        let elapsed = self.clock.elapsed();
        let mut shut = self.shut();
        shut.retain(|_, trouble| elapsed.saturating_sub(trouble.last) <= STALE);
        let mut stopped: BTreeMap<(Code, Option<String>), (Timestamp, Option<String>)> = BTreeMap::new();
        let mut away: Option<(Timestamp, Code, Option<String>)> = None;
        for Trouble { fault, since, .. } in shut.values() {
            match fault.class {
                Class::Stop | Class::Permanent => {
                    // Wrong keys are wrong for every call; a permission, a table or a queue is missing by itself.
                    let by_itself = !matches!(fault.code, Code::SignInRefused | Code::CredentialsMissing);
                    let subject = fault.subject.clone().filter(|_| by_itself);
                    let known = stopped.entry((fault.code, subject)).or_insert((*since, fault.vendor.clone()));
                    known.0 = known.0.min(*since);
                }
                _ => {
                    let known = away.get_or_insert((*since, fault.code, fault.vendor.clone()));
                    known.0 = known.0.min(*since);
                }
            }
        }
        let stopped = stopped.into_iter().map(|((code, subject), (since, vendor))| Health::Stopped {
            since,
            code,
            subject,
            vendor,
        });
        let away = away.map(|(since, code, vendor)| Health::Away { since, code, vendor, failed_probes: 0 });
        stopped.chain(away).collect()
    }
}

/// A queue whose refusals are noted.
#[derive(Debug)]
pub struct NotedQueue {
    pub queue: Arc<dyn Queue>,
    pub storage: Arc<Storage>,
}

fn queue(name: &'static str) -> Door {
    (Port::Queue, name)
}

#[async_trait]
impl Queue for NotedQueue {
    async fn send(&self, messages: Vec<Message>) -> Result<(), Fault> {
        self.storage.pass(queue("send"), self.queue.send(messages)).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, Fault> {
        let asked = self.storage.clock.elapsed();
        let received = self.storage.pass(queue("receive"), self.queue.receive(max, wait)).await?;
        self.storage.proven(Port::Queue, asked);
        Ok(received)
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.storage.pass(queue("acknowledge"), self.queue.acknowledge(receipts)).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, Fault> {
        self.storage.pass(queue("extend"), self.queue.extend(receipts)).await
    }

    async fn release(&self, receipts: &[Receipt]) -> Result<(), Fault> {
        self.storage.pass(queue("release"), self.queue.release(receipts)).await
    }

    async fn depth(&self) -> Result<Depth, Fault> {
        self.storage.pass(queue("depth"), self.queue.depth()).await
    }

    fn server_clock(&self) -> Option<Heard> {
        self.queue.server_clock()
    }

    fn counts_exactly(&self) -> bool {
        self.queue.counts_exactly()
    }

    fn batch(&self) -> usize {
        self.queue.batch()
    }

    fn visibility(&self) -> Duration {
        self.queue.visibility()
    }
}

/// A ledger whose refusals are noted.
#[derive(Debug)]
pub struct NotedLedger {
    pub ledger: Arc<dyn Ledger>,
    pub storage: Arc<Storage>,
}

fn ledger(name: &'static str) -> Door {
    (Port::Ledger, name)
}

#[async_trait]
impl Ledger for NotedLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        self.storage.pass(ledger("take"), self.ledger.take(key, claim)).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        self.storage.pass(ledger("renew"), self.ledger.renew(leases)).await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        self.storage.pass_lease(ledger("save"), self.ledger.save(lease, state, now)).await
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.storage.pass_lease(ledger("commit"), self.ledger.commit(lease, commit)).await
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        self.storage.pass(ledger("want"), self.ledger.want(wants)).await
    }

    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        self.storage.pass(ledger("due"), self.ledger.due(firm, kinds, now, horizon, limit)).await
    }

    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        self.storage.pass(ledger("unserved"), self.ledger.unserved(ours)).await
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        self.storage.pass(ledger("held"), self.ledger.held()).await
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        self.storage.pass(ledger("read"), self.ledger.read(key)).await
    }

    async fn read_all(&self, keys: &[RecordKey]) -> Result<Vec<Record>, Fault> {
        self.storage.pass(ledger("read"), self.ledger.read_all(keys)).await
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        self.ledger.page(filter, after, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        self.ledger.count(filter).await
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        let survey = self.storage.pass(ledger("survey"), self.ledger.survey()).await?;
        self.storage.opened(ledger("figures"));
        self.storage.proven(Port::Ledger, self.storage.clock.elapsed().saturating_sub(survey.age));
        Ok(survey)
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        self.ledger.set_aside(keys, aside).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        self.storage.pass(ledger("bury"), self.ledger.bury(letter)).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        self.ledger.dead_letters(limit).await
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.ledger.unbury(ids).await
    }
}
