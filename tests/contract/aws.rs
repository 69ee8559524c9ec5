//! The AWS adapters against two emulators that this project did not write, which do not agree on everything. Each test has a
//! queue and tables of its own. `cargo xtask test` installs the emulators; `tests/real/aws/requirements.txt` names them.
//!
//! Where an emulator and AWS's documentation disagree, the adapters follow the documentation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chart_relay::adapters::{
    aws::{
        AccessKey, Account, Options,
        dynamodb::{self, DynamoLedger},
        provision::{Wish, provision},
        sqs::{self, SqsQueue},
    },
    secret::Secret,
};
use engine::{
    fakes::{FakeClock, MemoryAudit, MemoryNotes},
    ports::{AuditLog, Ledger, Notes, Queue},
};
use jiff::Timestamp;

pub(crate) use crate::emulator::{ministack, moto};
use crate::{at, worlds::World};

/// Real seconds: SQS counts in whole ones.
const VISIBILITY: Duration = Duration::from_secs(6);

pub(crate) async fn account(address: &str) -> Account {
    let access_key = AccessKey { id: "synthetic".into(), secret: Secret::new("synthetic") };
    let region = Some("us-east-1".to_owned());
    Account::new(Options { region, endpoint: Some(address.to_owned()), access_key: Some(Arc::new(access_key)) }).await
}

/// Names that no other test uses.
pub(crate) fn wish(fifo: bool) -> Wish {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let queue = if fifo { format!("{name}.fifo") } else { name.clone() };
    Wish { queue, prefix: name, visibility: VISIBILITY, kms_key: None, partition: "aws" }
}

/// The adapters on one emulator.
pub(crate) struct Aws {
    clock: Arc<FakeClock>,
    queue: Arc<SqsQueue>,
    ledger: Arc<DynamoLedger>,
}

impl Aws {
    async fn start(address: &str) -> Self {
        let clock = FakeClock::at(at(0));
        let account = account(address).await;
        let wish = wish(false);
        provision(&account, &wish, true).await.unwrap();
        let url = sqs::find(&account, &wish.queue).await.unwrap();
        let queue = sqs::Options { url, visibility: VISIBILITY, figures_every: Duration::ZERO };
        let ledger = dynamodb::Options { prefix: wish.prefix, figures_every: Duration::ZERO };
        Self {
            queue: Arc::new(SqsQueue::new(&account, queue, clock.clone())),
            ledger: Arc::new(DynamoLedger::new(&account, ledger, clock.clone())),
            clock,
        }
    }
}

macro_rules! world {
    ($name:ident, $address:ident) => {
        pub(crate) struct $name(Aws);

        impl World for $name {
            const KNOWS_STALE: bool = false;
            // On a busy machine moto does it, whose receivers run side by side without a lock.
            const HANDS_OUT_ONCE: bool = false;

            async fn start() -> Self {
                Self(Aws::start($address()).await)
            }

            fn clock(&self) -> &FakeClock {
                &self.0.clock
            }

            fn visibility(&self) -> Duration {
                VISIBILITY
            }

            /// It is another process that hides and shows messages, by its own clock.
            async fn pass(&self, long: Duration) {
                tokio::time::sleep(long).await;
            }

            #[allow(clippy::disallowed_methods, reason = "that process has the machine's clock")]
            fn now(&self) -> Timestamp {
                Timestamp::now()
            }

            fn queue(&self) -> Arc<dyn Queue> {
                self.0.queue.clone()
            }

            fn ledger(&self) -> Arc<dyn Ledger> {
                self.0.ledger.clone()
            }

            /// It is always local.
            fn audit(&self) -> Arc<dyn AuditLog> {
                MemoryAudit::new()
            }

            /// So are notes.
            fn notes(&self) -> Arc<dyn Notes> {
                MemoryNotes::new()
            }
        }
    };
}

world!(MiniStack, ministack);
world!(Moto, moto);
