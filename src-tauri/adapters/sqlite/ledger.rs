//! The embedded ledger. Each change is a set-based statement whose condition is the lease, so that losing it and changing
//! nothing are one thing.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use engine::{
    error::{Code, Fault},
    key::{BootId, FirmId, Kind, RecordKey, ResourceId, ResourceType, StationId},
    ledger::{
        Claim, Commit, Dead, DeadLetter, Filter, Finish, Held, Lease, LedgerError, Owner, Record, Stamp, Survey, Take,
        Want, Wanted,
    },
    ports::Ledger,
};
use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    Database, duration_micros, fault, json, micros, timestamp,
    writer::{Operation, Store},
};

#[derive(Debug)]
pub(super) struct SqliteLedger(pub(super) Database);

fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::Link => 0,
        Kind::Cursor => 1,
        Kind::Proof => 2,
        Kind::Row => 3,
        Kind::Encounter => 4,
        Kind::Document => 5,
        Kind::Quota => 6,
        Kind::Token => 7,
        Kind::Definition => 8,
    }
}

/// As the table has it: see the migration.
fn stored(key: &RecordKey) -> String {
    format!("{} {} {} {}", key.firm, kind_number(key.kind), key.resource, key.id)
}

fn parse_key(text: &str) -> Result<RecordKey, sqlx::Error> {
    let parse = || {
        let mut parts = text.split(' ');
        let firm = FirmId::new(parts.next()?).ok()?;
        let number = parts.next()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind_number(*kind).to_string() == number)?;
        let resource = ResourceType::new(parts.next()?).ok()?;
        let id = ResourceId::new(parts.next()?).ok()?;
        Some(RecordKey { firm, kind, resource, id })
    };
    parse().ok_or_else(|| fault::unreadable("a key"))
}

fn count(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}

fn code(row: &SqliteRow, column: &str) -> Result<Option<Code>, sqlx::Error> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| Code::parse(text).ok_or_else(|| fault::unreadable("a code"))).transpose()
}

fn time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(column)?.map(timestamp).transpose()
}

fn key_of(row: &SqliteRow) -> Result<RecordKey, sqlx::Error> {
    parse_key(row.try_get("key")?)
}

fn stamp_of(row: &SqliteRow) -> Result<Stamp, sqlx::Error> {
    Ok(Stamp { epoch: count(row, "epoch")?, beat: count(row, "beat")? })
}

fn held_of(row: &SqliteRow) -> Result<Option<Held>, sqlx::Error> {
    let Some(station) = row.try_get::<Option<String>, _>("station")? else {
        return Ok(None);
    };
    let owner = Owner {
        station: StationId::new(station).map_err(|_| fault::unreadable("a station"))?,
        boot: BootId::new(row.try_get::<String, _>("boot")?).map_err(|_| fault::unreadable("a boot"))?,
    };
    Ok(Some(Held { owner, stamp: stamp_of(row)?, term: Duration::from_micros(count(row, "term")?) }))
}

fn record_of(row: &SqliteRow) -> Result<Record, sqlx::Error> {
    let wanted = match (time(row, "first_seen")?, time(row, "not_before")?) {
        (Some(first_seen), Some(not_before)) => {
            Some(Wanted { first_seen, not_before, waits_for: code(row, "waits_for")? })
        }
        _ => None,
    };
    let dead = match (code(row, "dead")?, time(row, "dead_since")?) {
        (Some(code), Some(since)) => Some(Dead { code, since, set_aside: row.try_get("set_aside")? }),
        _ => None,
    };
    Ok(Record {
        key: key_of(row)?,
        state: row.try_get("state")?,
        stamp: stamp_of(row)?,
        held: held_of(row)?,
        generation: count(row, "generation")?,
        wanted,
        attempts: u32::try_from(count(row, "attempts")?).unwrap_or(u32::MAX),
        dead,
        notice: code(row, "notice")?,
        updated: timestamp(row.try_get("updated")?)?,
    })
}

/// Deals operations on equal keys into successive rounds: in one statement a row changes once.
fn rounds<T>(items: &[T], key: impl Fn(&T) -> String) -> Vec<Vec<usize>> {
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let round = next.entry(key(item)).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(index);
        *round += 1;
    }
    rounds
}

impl SqliteLedger {
    async fn records(
        &self,
        query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, Fault> {
        query.fetch_all(&self.0.0.readers).await.map_err(|error| fault::of(&error))
    }
}

/// What a reader does with its rows: an unreadable one is damage.
fn collect<T>(rows: Vec<SqliteRow>, one: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>) -> Result<Vec<T>, Fault> {
    rows.iter().map(one).collect::<Result<_, _>>().map_err(|error| fault::of(&error))
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn take(&self, key: &RecordKey, claim: &Claim) -> Result<Take, Fault> {
        self.0.0.writer.call(Grab { key: key.clone(), claim: claim.clone() }).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<bool>, Fault> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        self.0.0.writer.call(Renew(leases.to_vec())).await
    }

    async fn save(&self, lease: &Lease, state: &str, now: Timestamp) -> Result<(), LedgerError> {
        let save = Save { lease: lease.clone(), state: state.to_owned(), now };
        if self.0.0.writer.call(save).await? { Ok(()) } else { Err(LedgerError::Lost) }
    }

    async fn commit(&self, lease: &Lease, commit: Commit) -> Result<bool, LedgerError> {
        self.0.0.writer.call(End { lease: lease.clone(), commit }).await?.ok_or(LedgerError::Lost)
    }

    async fn want(&self, wants: &[Want]) -> Result<(), Fault> {
        if wants.is_empty() {
            return Ok(());
        }
        self.0.0.writer.call(Wants(wants.to_vec())).await
    }

    async fn due(
        &self,
        firm: &FirmId,
        kinds: &[Kind],
        now: Timestamp,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Timestamp)>, Fault> {
        // Two ranges of one index for each kind, so that neither what waits for later nor all that is due is walked through.
        let ranges = kinds.iter().flat_map(|kind| {
            let range = move |rank: u8, bound: &str| {
                format!(
                    "SELECT {rank} AS rank, * FROM (
                        SELECT key, first_seen, not_before FROM record INDEXED BY record_wanted
                        WHERE first_seen IS NOT NULL AND dead IS NULL AND scope = ?1 || ' {kind}' AND not_before {bound}
                        ORDER BY not_before, key LIMIT ?4)",
                    kind = kind_number(*kind)
                )
            };
            [range(0, "> ?3"), range(1, "<= ?2")]
        });
        let ranges = ranges.collect::<Vec<_>>().join(" UNION ALL ");
        let query = format!("SELECT key, first_seen FROM ({ranges}) ORDER BY rank, not_before, key LIMIT ?4");
        let rows = self
            .records(
                sqlx::query(sqlx::AssertSqlSafe(query))
                    .bind(firm.as_str())
                    .bind(micros(now))
                    .bind(micros(now).saturating_add(duration_micros(horizon)))
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX)),
            )
            .await?;
        collect(rows, |row| Ok((key_of(row)?, timestamp(row.try_get("first_seen")?)?)))
    }

    async fn held(&self) -> Result<Vec<(RecordKey, Held)>, Fault> {
        let rows = self
            .records(sqlx::query(
                "SELECT key, station, boot, term, epoch, beat FROM record INDEXED BY record_held
                 WHERE station IS NOT NULL AND substr(scope, -1) <> '7' ORDER BY key",
            ))
            .await?;
        collect(rows, |row| Ok((key_of(row)?, held_of(row)?.ok_or_else(|| fault::unreadable("a lease"))?)))
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, Fault> {
        let rows = self.records(sqlx::query("SELECT * FROM record WHERE key = ?1").bind(stored(key))).await?;
        Ok(collect(rows, record_of)?.pop())
    }

    async fn page(&self, filter: Filter, after: Option<&RecordKey>, limit: usize) -> Result<Vec<Record>, Fault> {
        let rows = self
            .records(
                sqlx::query(match filter {
                    Filter::All => {
                        "SELECT * FROM record WHERE key > ?1 AND substr(scope, -1) <> '7' ORDER BY key LIMIT ?2"
                    },
                    // Sorts what is wanted; walking all that is known would be worse.
                    Filter::Wanted => {
                        "SELECT * FROM record INDEXED BY record_wanted
                         WHERE first_seen IS NOT NULL AND dead IS NULL AND substr(scope, -1) IN ('0', '3') AND key > ?1
                         ORDER BY key LIMIT ?2"
                    }
                    Filter::Held => {
                        "SELECT * FROM record INDEXED BY record_held
                         WHERE station IS NOT NULL AND substr(scope, -1) <> '7' AND key > ?1 ORDER BY key LIMIT ?2"
                    }
                    Filter::Dead => {
                        "SELECT * FROM record INDEXED BY record_dead
                         WHERE dead IS NOT NULL AND substr(scope, -1) IN ('0', '3') AND key > ?1 ORDER BY key LIMIT ?2"
                    }
                    Filter::Noticed => {
                        "SELECT * FROM record INDEXED BY record_noticed
                         WHERE notice IS NOT NULL AND substr(scope, -1) IN ('0', '3') AND key > ?1 ORDER BY key LIMIT ?2"
                    }
                })
                .bind(after.map(stored).unwrap_or_default())
                .bind(i64::try_from(limit).unwrap_or(i64::MAX)),
            )
            .await?;
        collect(rows, record_of)
    }

    async fn count(&self, filter: Filter) -> Result<u64, Fault> {
        let rows = self
            .records(sqlx::query(match filter {
                Filter::All => "SELECT coalesce(sum(records), 0) AS n FROM tally WHERE kind <> '7'",
                Filter::Wanted => {
                    "SELECT count(*) AS n FROM record INDEXED BY record_wanted
                     WHERE first_seen IS NOT NULL AND dead IS NULL AND substr(scope, -1) IN ('0', '3')"
                }
                Filter::Held => {
                    "SELECT count(*) AS n FROM record INDEXED BY record_held
                     WHERE station IS NOT NULL AND substr(scope, -1) <> '7'"
                }
                Filter::Dead => {
                    "SELECT count(*) AS n FROM record INDEXED BY record_dead
                     WHERE dead IS NOT NULL AND substr(scope, -1) IN ('0', '3')"
                }
                Filter::Noticed => {
                    "SELECT count(*) AS n FROM record INDEXED BY record_noticed
                     WHERE notice IS NOT NULL AND substr(scope, -1) IN ('0', '3')"
                }
            }))
            .await?;
        let counts = collect(rows, |row| count(row, "n"))?;
        counts.into_iter().next().ok_or_else(|| fault::corrupt("the number of records"))
    }

    async fn survey(&self) -> Result<Survey, Fault> {
        let rows = self
            .records(sqlx::query(
                // Links (0) are what a person means by records, and rows (3) are to become some. What is held may be anything.
                "SELECT (SELECT coalesce(sum(records), 0) FROM tally WHERE kind = '0') AS records,
                    wanted.n AS wanted, wanted.oldest AS oldest,
                    (SELECT count(*) FROM record INDEXED BY record_held
                        WHERE station IS NOT NULL AND substr(scope, -1) <> '7') AS held,
                    (SELECT count(*) FROM record INDEXED BY record_dead
                        WHERE dead IS NOT NULL AND set_aside = 0 AND substr(scope, -1) IN ('0', '3'))
                        + (SELECT count(*) FROM letter) AS dead,
                    (SELECT count(*) FROM record INDEXED BY record_noticed
                        WHERE notice IS NOT NULL AND substr(scope, -1) IN ('0', '3')) AS noticed,
                    (SELECT count(*) FROM record INDEXED BY record_noticed
                        WHERE notice = 'conflict' AND substr(scope, -1) IN ('0', '3')) AS conflicts
                 FROM (SELECT count(*) AS n, min(first_seen) AS oldest FROM record INDEXED BY record_wanted
                    WHERE first_seen IS NOT NULL AND dead IS NULL AND substr(scope, -1) IN ('0', '3')) AS wanted",
            ))
            .await?;
        let surveys = collect(rows, |row| {
            Ok(Survey {
                records: count(row, "records")?,
                wanted: count(row, "wanted")?,
                oldest_wanted: time(row, "oldest")?,
                held: count(row, "held")?,
                dead: count(row, "dead")?,
                noticed: count(row, "noticed")?,
                age: Duration::ZERO,
                conflicts: count(row, "conflicts")?,
            })
        })?;
        surveys.into_iter().next().ok_or_else(|| fault::corrupt("the tally of records"))
    }

    /// No other station works on this database.
    async fn unserved(&self, ours: &[FirmId]) -> Result<Vec<FirmId>, Fault> {
        let wanted = sqlx::query(
            "SELECT DISTINCT substr(scope, 1, length(scope) - 2) AS firm FROM record
             WHERE first_seen IS NOT NULL AND dead IS NULL AND substr(scope, -1) IN ('0', '3')",
        );
        let firms = collect(self.records(wanted).await?, |row| {
            FirmId::new(row.try_get::<String, _>("firm")?).map_err(|_| fault::unreadable("a firm"))
        })?;
        Ok(firms.into_iter().filter(|firm| !ours.contains(firm)).collect())
    }

    async fn set_aside(&self, keys: &[RecordKey], aside: bool) -> Result<(), Fault> {
        self.0.0.writer.call(SetAside { keys: keys.iter().map(stored).collect(), aside }).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Fault> {
        self.0.0.writer.call(Bury(letter)).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let rows = self
            .records(
                sqlx::query("SELECT id, code, reason, sealed_body, first_seen FROM letter ORDER BY seq LIMIT ?1")
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX)),
            )
            .await?;
        collect(rows, |row| {
            Ok(DeadLetter {
                id: row.try_get("id")?,
                code: code(row, "code")?.ok_or_else(|| fault::unreadable("a code"))?,
                reason: row.try_get("reason")?,
                sealed_body: row.try_get("sealed_body")?,
                first_seen: timestamp(row.try_get("first_seen")?)?,
            })
        })
    }

    async fn unbury(&self, ids: &[String]) -> Result<(), Fault> {
        self.0.0.writer.call(Unbury(ids.to_vec())).await
    }
}

pub(super) struct Grab {
    key: RecordKey,
    claim: Claim,
}

impl Operation for Grab {
    type Answer = Take;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<Take>, sqlx::Error> {
        let mut answers: Vec<Option<Take>> = vec![None; batch.len()];
        for round in rounds(batch, |grab| stored(&grab.key)) {
            let claims: Vec<_> = round
                .iter()
                .map(|index| {
                    let Grab { key, claim } = batch[*index];
                    let overdue = claim.overdue.map(|stamp| (stamp.epoch, stamp.beat)).unzip();
                    let (station, boot) = (&claim.owner.station, &claim.owner.boot);
                    (stored(key), station, boot, duration_micros(claim.term), overdue.0, overdue.1, micros(claim.now))
                })
                .collect();
            let claims = json(&claims);
            sqlx::query(
                "INSERT INTO record (key, updated) SELECT value ->> 0, value ->> 6 FROM json_each(?1) WHERE true
                 ON CONFLICT (key) DO NOTHING",
            )
            .bind(&claims)
            .execute(&mut store.connection)
            .await?;
            let taken = sqlx::query(
                "UPDATE record SET epoch = epoch + 1, beat = 0,
                    station = value ->> 1, boot = value ->> 2, term = value ->> 3
                 FROM json_each(?1) AS claim
                 WHERE record.key = claim.value ->> 0
                    AND (station IS NULL OR station = claim.value ->> 1
                        OR (epoch = claim.value ->> 4 AND beat = claim.value ->> 5))
                 RETURNING *",
            )
            .bind(&claims)
            .fetch_all(&mut store.connection)
            .await?;
            let mut taken = taken
                .iter()
                .map(|row| record_of(row).map(|record| (record.key.clone(), record)))
                .collect::<Result<BTreeMap<_, _>, _>>()?;
            let mut busy = BTreeMap::new();
            if taken.len() < round.len() {
                let refused: Vec<_> = round
                    .iter()
                    .map(|index| &batch[*index].key)
                    .filter(|key| !taken.contains_key(key))
                    .map(stored)
                    .collect();
                let rows = sqlx::query(
                    "SELECT key, station, boot, term, epoch, beat FROM record
                     WHERE key IN (SELECT value FROM json_each(?1))",
                )
                .bind(json(&refused))
                .fetch_all(&mut store.connection)
                .await?;
                for row in &rows {
                    busy.insert(key_of(row)?, held_of(row)?.ok_or_else(|| fault::unreadable("a lease"))?);
                }
            }
            for index in round {
                let Grab { key, claim } = batch[index];
                answers[index] = match taken.remove(key) {
                    Some(record) => {
                        let lease = Lease {
                            key: key.clone(),
                            owner: claim.owner.clone(),
                            epoch: record.stamp.epoch,
                            term: claim.term,
                        };
                        Some(Take::Taken(Box::new(record), lease))
                    }
                    None => busy.remove(key).map(Take::Busy),
                };
            }
        }
        answers.into_iter().map(|answer| answer.ok_or_else(|| fault::unreadable("a record that vanished"))).collect()
    }
}

/// What identifies a lease, for a condition in SQL.
fn lease_row(lease: &Lease) -> (String, &StationId, &BootId, u64) {
    (stored(&lease.key), &lease.owner.station, &lease.owner.boot, lease.epoch)
}

pub(super) struct Renew(Vec<Lease>);

impl Operation for Renew {
    type Answer = Vec<bool>;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<Vec<bool>>, sqlx::Error> {
        let leases: Vec<&Lease> = batch.iter().flat_map(|renew| &renew.0).collect();
        let mut renewed = vec![false; leases.len()];
        for round in rounds(&leases, |lease| stored(&lease.key)) {
            let rows: Vec<_> = round.iter().map(|index| lease_row(leases[*index])).collect();
            let keys: Vec<String> = sqlx::query_scalar(
                "UPDATE record SET beat = beat + 1 FROM json_each(?1) AS lease
                 WHERE record.key = lease.value ->> 0 AND station = lease.value ->> 1
                    AND boot = lease.value ->> 2 AND epoch = lease.value ->> 3
                 RETURNING record.key",
            )
            .bind(json(&rows))
            .fetch_all(&mut store.connection)
            .await?;
            for index in round {
                renewed[index] = keys.contains(&stored(&leases[index].key));
            }
        }
        let mut renewed = renewed.into_iter();
        Ok(batch.iter().map(|renew| renewed.by_ref().take(renew.0.len()).collect()).collect())
    }
}

pub(super) struct Save {
    lease: Lease,
    state: String,
    now: Timestamp,
}

impl Operation for Save {
    /// False if the lease was lost.
    type Answer = bool;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<bool>, sqlx::Error> {
        let mut saved = vec![false; batch.len()];
        for round in rounds(batch, |save| stored(&save.lease.key)) {
            let rows: Vec<_> = round
                .iter()
                .map(|index| {
                    let Save { lease, state, now } = batch[*index];
                    let (key, station, boot, epoch) = lease_row(lease);
                    (key, station, boot, epoch, state, micros(*now))
                })
                .collect();
            let keys: Vec<String> = sqlx::query_scalar(
                "UPDATE record SET state = value ->> 4, updated = value ->> 5 FROM json_each(?1) AS save
                 WHERE record.key = save.value ->> 0 AND station = save.value ->> 1
                    AND boot = save.value ->> 2 AND epoch = save.value ->> 3
                 RETURNING record.key",
            )
            .bind(json(&rows))
            .fetch_all(&mut store.connection)
            .await?;
            for index in round {
                saved[index] = keys.contains(&stored(&batch[index].lease.key));
            }
        }
        Ok(saved)
    }
}

pub(super) struct End {
    lease: Lease,
    commit: Commit,
}

#[derive(serde::Serialize)]
struct EndRow<'a> {
    key: String,
    station: &'a StationId,
    boot: &'a BootId,
    epoch: u64,
    state: &'a str,
    generation: u64,
    first_seen: i64,
    now: i64,
    notice: Option<&'a str>,
    finish: &'static str,
    not_before: Option<i64>,
    waits_for: Option<&'a str>,
    attempt: i64,
    dead: Option<&'a str>,
}

impl End {
    fn row(&self) -> EndRow<'_> {
        let Self { lease, commit } = self;
        let (key, station, boot, epoch) = lease_row(lease);
        let row = EndRow {
            key,
            station,
            boot,
            epoch,
            state: &commit.state,
            generation: commit.generation,
            first_seen: micros(commit.first_seen),
            now: micros(commit.now),
            notice: commit.notice.map(Code::as_str),
            finish: "done",
            not_before: None,
            waits_for: None,
            attempt: 0,
            dead: None,
        };
        match &commit.finish {
            Finish::Done => row,
            Finish::Later { not_before, waits_for, attempt } => EndRow {
                finish: "later",
                not_before: Some(micros(*not_before)),
                waits_for: waits_for.map(Code::as_str),
                attempt: i64::from(*attempt),
                ..row
            },
            Finish::Dead { code } => EndRow { finish: "dead", dead: Some(code.as_str()), ..row },
        }
    }
}

impl Operation for End {
    /// Whether the record is wanted now; `None` if the lease was lost.
    type Answer = Option<bool>;

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<Option<bool>>, sqlx::Error> {
        let mut ended = vec![None; batch.len()];
        for round in rounds(batch, |end| stored(&end.lease.key)) {
            let rows: Vec<_> = round.iter().map(|index| batch[*index].row()).collect();
            // A record that was marked since the run began is wanted anew: what the run found no longer makes it dead.
            let keys: Vec<(String, bool)> = sqlx::query_as(
                "UPDATE record SET
                    state = run.state, updated = run.now, notice = run.notice,
                    station = NULL, boot = NULL, term = NULL,
                    attempts = CASE run.finish WHEN 'later' THEN attempts + run.attempt ELSE 0 END,
                    first_seen = CASE WHEN run.finish = 'later' THEN min(coalesce(record.first_seen, run.first_seen), run.first_seen)
                        WHEN record.generation <> run.generation THEN record.first_seen END,
                    not_before = CASE WHEN record.generation <> run.generation
                            THEN min(coalesce(run.not_before, record.not_before), coalesce(record.not_before, run.not_before))
                        WHEN run.finish = 'later' THEN run.not_before END,
                    waits_for = CASE WHEN run.finish = 'later' THEN run.waits_for
                        WHEN record.generation <> run.generation THEN record.waits_for END,
                    dead = CASE WHEN run.finish = 'dead' AND record.generation = run.generation THEN run.dead END,
                    dead_since = CASE WHEN run.finish = 'dead' AND record.generation = run.generation THEN run.now END,
                    set_aside = 0
                 FROM (SELECT value ->> 'key' AS key, value ->> 'station' AS station, value ->> 'boot' AS boot,
                        value ->> 'epoch' AS epoch, value ->> 'state' AS state, value ->> 'generation' AS generation,
                        value ->> 'first_seen' AS first_seen, value ->> 'now' AS now,
                        value ->> 'notice' AS notice, value ->> 'finish' AS finish,
                        value ->> 'not_before' AS not_before, value ->> 'waits_for' AS waits_for,
                        value ->> 'attempt' AS attempt, value ->> 'dead' AS dead
                    FROM json_each(?1)) AS run
                 WHERE record.key = run.key AND record.station = run.station AND record.boot = run.boot
                    AND record.epoch = run.epoch
                 RETURNING record.key, first_seen IS NOT NULL",
            )
            .bind(json(&rows))
            .fetch_all(&mut store.connection)
            .await?;
            let keys: BTreeMap<_, _> = keys.into_iter().collect();
            for index in round {
                ended[index] = keys.get(&stored(&batch[index].lease.key)).copied();
            }
        }
        Ok(ended)
    }
}

pub(super) struct Wants(Vec<Want>);

impl Operation for Wants {
    type Answer = ();

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<()>, sqlx::Error> {
        let rows: Vec<_> = batch
            .iter()
            .flat_map(|wants| &wants.0)
            .map(|want| {
                let waits_for = want.waits_for.map(Code::as_str);
                (stored(&want.key), micros(want.first_seen), micros(want.not_before), waits_for)
            })
            .collect();
        sqlx::query(
            "INSERT INTO record (key, generation, first_seen, not_before, waits_for, updated)
             SELECT value ->> 0, 1, value ->> 1, value ->> 2, value ->> 3, value ->> 1 FROM json_each(?1) WHERE true
             ON CONFLICT (key) DO UPDATE SET
                generation = generation + 1,
                first_seen = min(coalesce(first_seen, excluded.first_seen), excluded.first_seen),
                not_before = min(coalesce(not_before, excluded.not_before), excluded.not_before),
                waits_for = excluded.waits_for,
                dead = NULL, dead_since = NULL, set_aside = 0",
        )
        .bind(json(&rows))
        .execute(&mut store.connection)
        .await?;
        Ok(vec![(); batch.len()])
    }
}

pub(super) struct SetAside {
    keys: Vec<String>,
    aside: bool,
}

impl Operation for SetAside {
    type Answer = ();

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<()>, sqlx::Error> {
        for SetAside { keys, aside } in batch {
            sqlx::query(
                "UPDATE record SET set_aside = ?2
                 WHERE key IN (SELECT value FROM json_each(?1)) AND dead IS NOT NULL",
            )
            .bind(json(keys))
            .bind(*aside)
            .execute(&mut store.connection)
            .await?;
        }
        Ok(vec![(); batch.len()])
    }
}

pub(super) struct Bury(DeadLetter);

impl Operation for Bury {
    type Answer = ();

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<()>, sqlx::Error> {
        for Bury(letter) in batch {
            sqlx::query(
                "INSERT INTO letter (id, code, reason, sealed_body, first_seen) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO NOTHING",
            )
            .bind(&letter.id)
            .bind(letter.code.as_str())
            .bind(&letter.reason)
            .bind(letter.sealed_body.as_slice())
            .bind(micros(letter.first_seen))
            .execute(&mut store.connection)
            .await?;
        }
        Ok(vec![(); batch.len()])
    }
}

pub(super) struct Unbury(Vec<String>);

impl Operation for Unbury {
    type Answer = ();

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<()>, sqlx::Error> {
        for id in batch.iter().flat_map(|unbury| &unbury.0) {
            sqlx::query("DELETE FROM letter WHERE id = ?1").bind(id).execute(&mut store.connection).await?;
        }
        Ok(vec![(); batch.len()])
    }
}

/// Records that are kept elsewhere from now on.
pub(super) struct Forget(pub(super) Vec<RecordKey>);

impl Operation for Forget {
    type Answer = ();

    async fn apply(batch: &[&Self], store: &mut Store) -> Result<Vec<()>, sqlx::Error> {
        for key in batch.iter().flat_map(|forget| &forget.0) {
            sqlx::query("DELETE FROM record WHERE key = ?1").bind(stored(key)).execute(&mut store.connection).await?;
        }
        Ok(vec![(); batch.len()])
    }
}
