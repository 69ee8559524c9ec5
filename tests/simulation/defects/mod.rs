//! The defects of the bridge that this program replaces (fact sheet on reliability, section 1.1, by their numbers), put back one
//! at a time as wrappers around ports or as policies. A simulation that cannot find them proves nothing.

mod ledger;
mod queue;
mod sides;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    fakes::MemoryLedger,
    key::RecordKey,
    mapping::{Absent, Mapping},
    ports::{AuditLog, FirmPorts, Ledger, Queue},
    settings::{PollPlan, Settings},
};
use jiff::Timestamp;

use self::{
    ledger::{BrokenAudit, BrokenLedger},
    queue::BrokenQueue,
    sides::{BrokenClinic, BrokenFhir},
};

/// What defective stations believe, all of them the same.
#[derive(Debug, Default, Clone)]
pub struct Beliefs {
    /// When each lease was taken, by its holder's wall clock.
    taken: Arc<Mutex<BTreeMap<RecordKey, Timestamp>>>,
    /// Records that somebody has locked.
    locked: Arc<Mutex<BTreeSet<RecordKey>>>,
    /// Messages that are gone for good.
    deleted: Arc<Mutex<BTreeSet<String>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// 1: lock busy, so the message is deleted and nothing is marked.
    BusyIsDone,
    /// 2: a lock without expiry.
    NoExpiry,
    /// 3: a conditional write retried after a lost reply sees its own lock and takes it for somebody else's.
    OwnLockIsForeign,
    /// 4, 5: whatever goes wrong, the lock is freed, whoever holds it.
    ReleaseOfAny,
    /// 6, 7: every run creates; nothing looks for the row, and no key is unique.
    AlwaysCreates,
    /// 8: a write that timed out is sent again without looking.
    BlindRetry,
    /// 8: a write that timed out is taken for one that did not happen.
    UnknownIsRefused,
    /// 9: nothing at the resource refuses a stale writer.
    NoFence,
    /// 11: a message that cannot be parsed is never put away.
    PoisonStays,
    /// 12: what can never succeed is tried for ever.
    NothingIsPermanent,
    /// 14, 24: the message is deleted when it is received.
    AckOnReceipt,
    /// 16: the lock, and so the work, is the patient's alone; the event's own resource is never run.
    PatientOnly,
    /// 17: what arrives while the lock is held is taken for our own echo and thrown away.
    LockedIsAnEcho,
    /// 18: what the resource does not say is written as blank.
    AbsentIsBlank,
    /// 19: a deleted resource is an error like any other.
    GoneIsAnError,
    /// 21: the source is read from a cache, and versions are never compared.
    StaleReads,
    /// P1: the watermark is the newest row seen, with neither overlap nor settling time, and no sweep ever looks behind it.
    WatermarkWithoutOverlap,
    /// Not of the article: intents are not written down before the write.
    NoIntent,
    /// Not of the article: a write without its audit entry.
    NoAudit,
    /// Expiry judged by comparing one host's clock with another's (P3).
    ExpiryByWallClock,
    /// What SQS says is deleted is deleted: it cannot come again.
    DeleteIsTrusted,
    /// A second delivery of what is at work is a duplicate, and deleted at once.
    DuplicateIsDeleted,
    /// What an index shows as wanted, and not held, need not be marked again.
    MarkIsSkipped,
    /// A record is taken as an index has it.
    IndexIsTrusted,
    /// Leases are watched where they are listed, and one that was never renewed is not.
    OnlyTheListIsWatched,
    /// What was sent arrives: nobody looks whether it did.
    HintsAlwaysArrive,
}

impl Defect {
    pub const ALL: [Defect; 26] = [
        Defect::BusyIsDone,
        Defect::NoExpiry,
        Defect::OwnLockIsForeign,
        Defect::ReleaseOfAny,
        Defect::AlwaysCreates,
        Defect::BlindRetry,
        Defect::UnknownIsRefused,
        Defect::NoFence,
        Defect::PoisonStays,
        Defect::NothingIsPermanent,
        Defect::AckOnReceipt,
        Defect::PatientOnly,
        Defect::LockedIsAnEcho,
        Defect::AbsentIsBlank,
        Defect::GoneIsAnError,
        Defect::StaleReads,
        Defect::WatermarkWithoutOverlap,
        Defect::NoIntent,
        Defect::NoAudit,
        Defect::ExpiryByWallClock,
        Defect::DeleteIsTrusted,
        Defect::DuplicateIsDeleted,
        Defect::MarkIsSkipped,
        Defect::IndexIsTrusted,
        Defect::OnlyTheListIsWatched,
        Defect::HintsAlwaysArrive,
    ];

    /// Those that are looked for where both sides are edited as well.
    pub const OF_BOTH_WAYS: [Defect; 8] = [
        Defect::BusyIsDone,
        Defect::AlwaysCreates,
        Defect::LockedIsAnEcho,
        Defect::AbsentIsBlank,
        Defect::GoneIsAnError,
        Defect::StaleReads,
        Defect::NoFence,
        Defect::NoIntent,
    ];

    /// Those that do no harm in a queue and a ledger that are never odd.
    pub const OF_ODDITIES: [Defect; 4] =
        [Defect::MarkIsSkipped, Defect::IndexIsTrusted, Defect::OnlyTheListIsWatched, Defect::HintsAlwaysArrive];

    pub fn breaks_the_clinic(self) -> bool {
        matches!(self, Defect::AlwaysCreates | Defect::BlindRetry | Defect::NoFence)
    }

    pub fn put_back(self, settings: &mut Settings, plan: &mut PollPlan, mapping: &mut Mapping) {
        match self {
            Defect::NothingIsPermanent | Defect::GoneIsAnError => settings.attempts = u32::MAX,
            Defect::AbsentIsBlank => {
                for resource in mapping.resources.values_mut() {
                    for rule in &mut resource.rules {
                        rule.absent = Absent::Blank;
                    }
                }
            }
            Defect::WatermarkWithoutOverlap => {
                plan.overlap = Duration::ZERO;
                plan.settle = Duration::ZERO;
                plan.sweep_every = Duration::from_secs(1_000_000);
            }
            _ => {}
        }
    }

    /// The ledger's defects lie behind the oracle, which hears in whose name a call was accepted.
    pub fn wrap_ledger(self, memory: &Arc<MemoryLedger>, beliefs: &Beliefs) -> Arc<dyn Ledger> {
        Arc::new(BrokenLedger::new(self, memory.clone(), beliefs.clone()))
    }

    pub fn wrap_queue(self, queue: Arc<dyn Queue>, beliefs: &Beliefs) -> Arc<dyn Queue> {
        Arc::new(BrokenQueue::new(self, queue, beliefs.clone()))
    }

    pub fn wrap_audit(self, audit: Arc<dyn AuditLog>) -> Arc<dyn AuditLog> {
        Arc::new(BrokenAudit(self, audit))
    }

    pub fn wrap_sides(self, ports: FirmPorts) -> FirmPorts {
        FirmPorts {
            fhir: Arc::new(BrokenFhir(self, ports.fhir, Mutex::default())),
            clinic: Arc::new(BrokenClinic(self, ports.clinic)),
        }
    }
}
