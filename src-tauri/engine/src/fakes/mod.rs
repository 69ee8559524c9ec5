//! In-memory ports for tests: they keep the contracts of [`crate::ports`] exactly and fail never. Whoever wants faults wraps
//! them. Queue and ledger can be made as odd as those of AWS. Time is tokio's, which tests pause.

use std::sync::{Mutex, MutexGuard, PoisonError};

mod audit;
mod clinic;
mod clock;
mod ehr;
mod faulty;
mod fhir;
mod ledger;
mod notes;
mod oddity;
mod queue;

pub use audit::MemoryAudit;
pub use clinic::MemoryClinic;
pub use clock::FakeClock;
pub use ehr::{FakeEhr, MemoryEhr, Meter, Walking, document};
pub use faulty::{FaultyLedger, Trouble};
pub use fhir::MemoryFhir;
pub use ledger::MemoryLedger;
pub use notes::MemoryNotes;
pub use oddity::{Oddities, Oddity};
pub use queue::MemoryQueue;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
