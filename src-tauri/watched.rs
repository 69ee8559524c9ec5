//! Which encounters and documents of the EHRs are in the ledger and still have something before them: ids, codes and times.

use engine::{
    ehr::{DocumentWatch, EncounterWatch, Watching},
    error::{Code, Fault},
    key::{FirmId, Kind, RecordKey},
    ledger::Record,
    ports::Ledger,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Whatever is wanted at all is wanted by then.
const EVER: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// An encounter or a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    pub key: RecordKey,
    /// When the next thing is to be done about it; none: nothing is.
    pub not_before: Option<Timestamp>,
    pub waits_for: Option<Code>,
    pub is: Is,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Is {
    Encounter(EncounterWatch),
    Document(DocumentWatch),
}

impl Watched {
    fn of(record: Record) -> Option<Self> {
        let is = match record.key.kind {
            Kind::Encounter => Is::Encounter(EncounterWatch::parse(&record.state)?),
            Kind::Document => Is::Document(DocumentWatch::parse(&record.state)?),
            _ => return None,
        };
        let (not_before, waits_for) =
            record.wanted.map_or((None, None), |wanted| (Some(wanted.not_before), wanted.waits_for));
        Some(Self { key: record.key, not_before, waits_for, is })
    }
}

/// Those of these firms, `limit` of each kind at most: what is followed or waits, and what is only listed.
///
/// # Errors
/// The ledger's.
pub async fn all(firms: &[Watching], now: Timestamp, limit: usize, ledger: &dyn Ledger) -> Result<Vec<Watched>, Fault> {
    let mut found = Vec::new();
    for kind in [Kind::Document, Kind::Encounter] {
        let mut keys = Vec::new();
        for firm in firms {
            keys.extend(wanted(&firm.firm, kind, now, limit - keys.len(), ledger).await?);
            if keys.len() == limit {
                break;
            }
        }
        found.extend(ledger.read_all(&keys).await?);
    }
    let listed: Vec<_> = firms.iter().flat_map(|firm| &firm.listed).map(|listed| listed.key.clone()).collect();
    found.extend(ledger.read_all(&listed[..listed.len().min(limit)]).await?);
    let mut watched: Vec<_> = found.into_iter().filter_map(Watched::of).collect();
    // One that was listed may wait again by now.
    watched.sort_by(|one, other| one.key.cmp(&other.key));
    watched.dedup_by(|one, other| one.key == other.key);
    Ok(watched)
}

async fn wanted(
    firm: &FirmId,
    kind: Kind,
    now: Timestamp,
    limit: usize,
    ledger: &dyn Ledger,
) -> Result<Vec<RecordKey>, Fault> {
    let by = now.saturating_add(EVER).unwrap_or(Timestamp::MAX);
    let due = ledger.due(firm, &[kind], by, EVER.unsigned_abs(), limit).await?;
    Ok(due.into_iter().map(|(key, _)| key).collect())
}
