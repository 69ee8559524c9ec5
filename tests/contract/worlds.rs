//! Where the ports under test come from.

use std::{path::Path, sync::Arc, time::Duration};

use chart_relay::adapters::sqlite::{Database, Options};
use engine::{
    fakes::{FakeClock, MemoryAudit, MemoryLedger, MemoryNotes, MemoryQueue, Oddities, Oddity},
    keys::ClinicKey,
    ports::{AuditLog, Ledger, Notes, Queue},
};
use jiff::Timestamp;
use tempfile::TempDir;

pub(crate) use crate::aws::{MiniStack, Moto};
use crate::{VISIBILITY, at, owner};

/// A set of ports on one clock.
pub(crate) trait World: Sized {
    /// Whether the queue can tell that a receipt is worth nothing any more. SQS answers as if it had deleted.
    const KNOWS_STALE: bool = true;
    /// Whether a message that is in flight is never handed out a second time. A standard queue of SQS may, by its documentation.
    const HANDS_OUT_ONCE: bool = true;
    async fn start() -> Self;
    fn clock(&self) -> &FakeClock;
    /// How long a received message stays invisible.
    fn visibility(&self) -> Duration {
        VISIBILITY
    }
    /// Lets time pass, by the clock that visibility is counted on.
    async fn pass(&self, long: Duration) {
        self.clock().suspend(long);
    }
    /// The time of day by which messages are stamped.
    fn now(&self) -> Timestamp {
        at(0)
    }
    fn queue(&self) -> Arc<dyn Queue>;
    fn ledger(&self) -> Arc<dyn Ledger>;
    fn audit(&self) -> Arc<dyn AuditLog>;
    fn notes(&self) -> Arc<dyn Notes>;
}

/// One that outlives its process.
pub(crate) trait Lasting: World {
    /// The process ends in the middle of everything, and another boot of the station takes over what is on disk.
    async fn crash(self) -> Self;
}

pub(crate) struct Sqlite {
    folder: TempDir,
    clock: Arc<FakeClock>,
    database: Database,
    boots: u32,
}

impl Sqlite {
    async fn boot(folder: TempDir, clock: Arc<FakeClock>, boots: u32) -> Self {
        let options = Options { visibility: VISIBILITY, ..Options::default() };
        let me = owner("front-desk", &format!("boot-{boots}"));
        let path = folder.path().join("relay.db");
        let key = ClinicKey::from_bytes([7; 32]);
        let database = Database::open_with(&path, &key, me, clock.clone(), options).await.unwrap();
        Self { folder, clock, database, boots }
    }
}

impl World for Sqlite {
    async fn start() -> Self {
        Self::boot(tempfile::tempdir().unwrap(), FakeClock::at(at(0)), 1).await
    }

    fn clock(&self) -> &FakeClock {
        &self.clock
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.database.queue()
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        self.database.ledger()
    }

    fn audit(&self) -> Arc<dyn AuditLog> {
        self.database.audit()
    }

    fn notes(&self) -> Arc<dyn Notes> {
        self.database.notes()
    }
}

impl Lasting for Sqlite {
    /// Nothing is closed: what counts is what a copy of the files holds now.
    async fn crash(self) -> Self {
        let image = tempfile::tempdir().unwrap();
        for name in ["relay.db", "relay.db-wal", "relay.db.anchor"] {
            let from = self.folder.path().join(name);
            if Path::exists(&from) {
                std::fs::copy(&from, image.path().join(name)).unwrap();
            }
        }
        // Another process has another clock.
        Self::boot(image, FakeClock::at(at(0)), self.boots + 1).await
    }
}

pub(crate) struct Memory {
    clock: Arc<FakeClock>,
    queue: Arc<MemoryQueue>,
    ledger: Arc<MemoryLedger>,
    audit: Arc<MemoryAudit>,
    notes: Arc<MemoryNotes>,
}

impl World for Memory {
    async fn start() -> Self {
        let clock = FakeClock::at(at(0));
        Self {
            queue: MemoryQueue::new(clock.clone(), VISIBILITY),
            ledger: MemoryLedger::new(),
            audit: MemoryAudit::new(),
            notes: MemoryNotes::new(),
            clock,
        }
    }

    fn clock(&self) -> &FakeClock {
        &self.clock
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }

    fn audit(&self) -> Arc<dyn AuditLog> {
        self.audit.clone()
    }

    fn notes(&self) -> Arc<dyn Notes> {
        self.notes.clone()
    }
}

/// The fakes that behave like SQS and DynamoDB, on a day without oddities.
pub(crate) struct SharedMemory(Memory);

#[derive(Debug)]
struct Fine;

impl Oddities for Fine {
    fn happens(&self, _: Oddity) -> bool {
        false
    }
}

impl World for SharedMemory {
    const KNOWS_STALE: bool = false;

    async fn start() -> Self {
        let memory = Memory::start().await;
        let queue = MemoryQueue::shared(memory.clock.clone(), VISIBILITY, Arc::new(Fine));
        Self(Memory { queue, ledger: MemoryLedger::shared(Arc::new(Fine)), ..memory })
    }

    fn clock(&self) -> &FakeClock {
        &self.0.clock
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.0.queue.clone()
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        self.0.ledger.clone()
    }

    fn audit(&self) -> Arc<dyn AuditLog> {
        self.0.audit.clone()
    }

    fn notes(&self) -> Arc<dyn Notes> {
        self.0.notes.clone()
    }
}
