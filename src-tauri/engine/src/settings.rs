//! The engine's own settings; where they come from is the configuration's affair.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::tz::TimeZone;

use crate::{
    connection::Side,
    ehr::Classes,
    key::FirmId,
    keys::ClinicKey,
    ledger::Owner,
    mapping::Mapping,
    pace::Quota,
    ports::{Ehr, EhrFactory, FirmPorts},
    retry::Backoff,
    snapshot::Limits,
};

/// How one firm's FHIR server is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollPlan {
    pub every: Duration,
    /// How far behind the watermark each poll looks again: longer than any transaction of the server.
    pub overlap: Duration,
    /// How far the watermark stays behind the server's clock.
    pub settle: Duration,
    /// Between full comparisons.
    pub sweep_every: Duration,
    /// Between probes of a connection that nothing else has heard from.
    pub probe_every: Duration,
}

impl Default for PollPlan {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            overlap: Duration::from_secs(5 * 60),
            settle: Duration::from_secs(2 * 60),
            sweep_every: Duration::from_secs(60 * 60),
            probe_every: Duration::from_secs(20),
        }
    }
}

/// One clinic, ready to be served.
#[derive(Debug, Clone)]
pub struct Firm {
    pub ports: FirmPorts,
    pub mapping: Mapping,
    /// The clinic's own time: FileMaker keeps local times without a zone.
    pub zone: TimeZone,
    pub plan: PollPlan,
    /// How the clinic's database is watched.
    pub rows: PollPlan,
    pub brake: Brake,
}

impl Firm {
    pub fn plan_of(&self, side: Side) -> &PollPlan {
        match side {
            Side::Fhir => &self.plan,
            Side::FileMaker => &self.rows,
        }
    }
}

/// How many rows may be missing at once before a person must say that they were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    pub rows: u64,
    pub percent: u64,
}

impl Default for Brake {
    fn default() -> Self {
        Self { rows: 10, percent: 2 }
    }
}

impl Brake {
    /// Whether so many of all are too many. One or two never are.
    pub fn holds(&self, missing: u64, of: u64) -> bool {
        missing > self.rows || (missing > 2 && missing * 100 > of * self.percent)
    }
}

/// How an EHR without webhooks is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchPlan {
    /// No two looks at one thing are closer together than this, however large the quota.
    pub fastest: Duration,
    /// Nor further apart than this, however quiet the firm.
    pub slowest: Duration,
    /// How far behind the watermark each look reads again.
    pub overlap: Duration,
    /// How far the watermark stays behind the EHR's clock. Both grow by themselves where rows are seen to come later.
    pub settle: Duration,
    /// How long an encounter is followed after its last change.
    pub life: Duration,
    /// Encounters that are claimed at once, where each is asked about by itself.
    pub batch: usize,
    /// Claims that are worked off at once.
    pub workers: usize,
    /// How long a claim lasts without renewal.
    pub term: Duration,
    pub sweep_every: Duration,
}

impl Default for WatchPlan {
    fn default() -> Self {
        Self {
            fastest: Duration::from_secs(1),
            slowest: Duration::from_secs(5 * 60),
            overlap: Duration::from_secs(5 * 60),
            settle: Duration::from_secs(2 * 60),
            life: Duration::from_secs(24 * 60 * 60),
            batch: 50,
            workers: 2,
            term: Duration::from_secs(30),
            sweep_every: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// A firm whose EHR is watched.
#[derive(Debug, Clone)]
pub struct EhrFirm {
    pub ehr: Arc<dyn Ehr>,
    pub plan: WatchPlan,
    pub classes: Classes,
    /// Under which API key's quota it falls; none: nothing limits it.
    pub quota: Option<Arc<Quota>>,
    pub paused: bool,
    /// What the other stations are told of the firm, for their [`EhrFactory`]; none: nothing.
    pub definition: Option<String>,
}

/// Whom an engine serves.
#[derive(Debug, Clone, Default)]
pub struct Clinics {
    /// Whose chart and database are kept in step.
    pub synced: BTreeMap<FirmId, Firm>,
    /// Whose EHR is watched.
    pub watched: BTreeMap<FirmId, EhrFirm>,
    /// The API keys under which they are asked.
    pub quotas: Vec<Arc<Quota>>,
    /// Makes clients of firms that only other stations have configured.
    pub others: Option<Arc<dyn EhrFactory>>,
}

impl From<BTreeMap<FirmId, Firm>> for Clinics {
    fn from(synced: BTreeMap<FirmId, Firm>) -> Self {
        Self { synced, ..Self::default() }
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub owner: Owner,
    pub clinic_key: ClinicKey,
    /// Seed of all chance in the engine.
    pub seed: u64,
    /// Runs at once on this station.
    pub runs: usize,
    /// Messages asked for at once.
    pub receive_batch: usize,
    /// How long a receive waits for the first message.
    pub receive_wait: Duration,
    /// Between looks for records that have become due.
    pub due_every: Duration,
    pub lease_term: Duration,
    /// Failed attempts after which a record is dead-lettered.
    pub attempts: u32,
    pub backoff: Backoff,
    /// Between tries at a record that somebody has open.
    pub record_open_retry: Duration,
    /// How long a resource that was announced may stay invisible before it counts as not there.
    pub not_found_patience: Duration,
    /// No wait is longer; what is due later than this was written by a wrong clock.
    pub longest_wait: Duration,
    /// How long a drain waits for what runs.
    pub drain_grace: Duration,
    /// Whose a message is that names no clinic.
    pub default_firm: Option<FirmId>,
    pub limits: Limits,
}

impl Settings {
    pub fn new(owner: Owner, clinic_key: ClinicKey, seed: u64) -> Self {
        Self {
            owner,
            clinic_key,
            seed,
            runs: 16,
            receive_batch: 10,
            receive_wait: Duration::from_secs(20),
            due_every: Duration::from_secs(1),
            lease_term: Duration::from_secs(30),
            attempts: 8,
            backoff: Backoff { base: Duration::from_secs(1), most: Duration::from_secs(5 * 60) },
            record_open_retry: Duration::from_secs(60),
            not_found_patience: Duration::from_secs(10 * 60),
            longest_wait: Duration::from_secs(60 * 60),
            drain_grace: Duration::from_secs(20),
            default_firm: None,
            limits: Limits::default(),
        }
    }
}
