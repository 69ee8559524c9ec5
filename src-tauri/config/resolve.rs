//! From the file to what it means: relations between settings are checked here, each named with both sides and the mend.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use engine::{
    key::{FirmId, StationId},
    mapping::Mapping,
    retry::Backoff,
    settings::{Brake, PollPlan},
};
use jiff::tz::TimeZone;
use url::Url;

use crate::{
    secrets::SecretName,
    view::desk::{Role, Settings},
};

use super::{
    Config, Engine, Fhir, FileMaker, Firm, Mistakes, Roles, Shared, SignIn, Station, Trust, Watched,
    document::{Document, Way},
    ehr::{self, Quota},
    file::{self, File},
    form::{self, is_loopback, wrong},
    mapping,
    time::Time,
};

/// Where mistakes about the part at hand belong.
pub(super) struct At<'a, 'm, 't> {
    document: &'a Document,
    mistakes: &'m mut Mistakes<'t>,
    way: Way,
}

impl<'a, 't> At<'a, '_, 't> {
    pub(super) fn inside<'s>(&'s mut self, keys: &[&str]) -> At<'a, 's, 't> {
        let way = self.way.iter().cloned().chain(keys.iter().map(|key| (*key).to_owned())).collect();
        At { document: self.document, mistakes: self.mistakes, way }
    }

    fn way(&self, key: &str) -> Way {
        self.way.iter().cloned().chain((!key.is_empty()).then(|| key.to_owned())).collect()
    }

    /// A mistake in the value of `key`, or in the part itself if it is empty.
    pub(super) fn value(&mut self, key: &str, expected: impl Into<String>, mend: impl Into<String>) {
        let way = self.way(key);
        if !self.mistakes.known(&way) {
            self.mistakes.add(self.document.offset(&way), &way, wrong(expected, mend));
        }
    }

    /// A mistake about `key` as such: that it is there, or that it is not.
    pub(super) fn key(&mut self, key: &str, expected: impl Into<String>, mend: impl Into<String>) {
        let way = self.way(key);
        if !self.mistakes.known(&way) {
            self.mistakes.add(self.document.key_offset(&way), &way, wrong(expected, mend));
        }
    }

    /// A mistake between two settings: told at the first that is in the file.
    pub(super) fn between(&mut self, keys: [&str; 2], expected: impl Into<String>, mend: impl Into<String>) {
        let [first, second] = keys;
        let expected = format!("{first} to be {}", expected.into());
        let there = if self.document.has(&self.way(first)) { first } else { second };
        if !self.is_known(first) && !self.is_known(second) {
            self.key(there, expected, mend);
        }
    }

    /// Whether something is wrong here already.
    pub(super) fn is_known(&self, key: &str) -> bool {
        self.mistakes.known(&self.way(key))
    }
}

pub(super) fn resolve(file: File, folder: &Path, document: &Document, mistakes: &mut Mistakes<'_>) -> Option<Config> {
    let mut at = At { document, mistakes, way: Vec::new() };
    let station = station(file.station, folder);
    let desk = desk(&file.desk);
    let engine = engine(&file.engine, &mut at.inside(&["engine"]));
    let quotas = ehr::quotas(&file.quota, file.shared.is_none(), &mut at);
    let (mut firms, mut watched) = (Vec::new(), Vec::new());
    let mut ids = BTreeMap::new();
    let mut tables = BTreeMap::new();
    for (index, firm) in file.firm.into_iter().enumerate() {
        let index_text = index.to_string();
        let mut at = at.inside(&["firm", &index_text]);
        if let Some(first) = ids.insert(firm.id.clone(), index).filter(|_| !firm.id.is_empty()) {
            at.value(
                "id",
                format!("an id of its own; the firm at place {} has it too", first + 1),
                "Give each firm its own id",
            );
        }
        for (place, table) in firm.mapping.iter().enumerate() {
            let (Some(layout), Some(filemaker)) = (mapping::layout(table), &firm.filemaker) else { continue };
            let key = (filemaker.url.to_lowercase(), filemaker.database.to_lowercase(), layout);
            if let Some(other) = tables.insert(key, index).filter(|other| *other != index) {
                at.inside(&["mapping", &place.to_string()]).key(
                    if table.layout.is_some() { "layout" } else { "use" },
                    format!("a layout of this firm alone; the firm at place {} writes to it too", other + 1),
                    "Two clinics on one table would take each other's rows; give each its own file or layout",
                );
            }
        }
        watched.extend(self::watched(&firm, (&file.quota, &quotas), folder, &mut at));
        firms.extend(self::firm(firm, folder, &mut at));
    }
    let shared =
        file.shared.map(|shared| self::shared(shared, &mut At { document, mistakes, way: vec!["shared".to_owned()] }));
    let quotas = quotas.into_values().collect();
    Some(Config { station: station?, desk, engine, shared, firms, quotas, watched })
}

fn shared(shared: super::shared::Shared, at: &mut At<'_, '_, '_>) -> Shared {
    for (key, other, given, other_given) in [
        ("secret", "access-key-id", shared.secret.is_some(), shared.access_key_id.is_some()),
        ("access-key-id", "secret", shared.access_key_id.is_some(), shared.secret.is_some()),
    ] {
        if !given && other_given {
            let mend = format!("Add `{key}`, or take out `{other}` to use AWS's default chain");
            at.key(key, format!("`{key}`: access-key-id and secret belong together"), mend);
        }
    }
    let secret = shared.secret.and_then(|name| SecretName::parse(&name).ok());
    Shared {
        region: shared.region,
        endpoint: shared.endpoint.and_then(|endpoint| form::url(&endpoint).ok()),
        queue: shared.queue,
        prefix: shared.prefix,
        access_key: shared.access_key_id.zip(secret),
        default_firm: shared.default_firm.and_then(|firm| FirmId::new(firm).ok()),
        kms_key: shared.kms_key,
        roles: Roles { sync: shared.roles.sync, viewer: shared.roles.viewer },
    }
}

fn station(station: file::Station, folder: &Path) -> Option<Station> {
    Some(Station {
        id: StationId::new(station.id).ok()?,
        data_directory: station.data_directory.map(|directory| folder.join(directory)),
        log_level: station.log_level,
        log_days: station.log_days,
    })
}

/// Each part was checked by itself; what was wrong has its default here and is told.
fn desk(desk: &file::Desk) -> Settings {
    let usual = Settings::default();
    Settings {
        role: match desk.role {
            file::Role::FrontDesk => Role::FrontDesk,
            file::Role::Manager => Role::Manager,
            file::Role::Clinician => Role::Clinician,
            file::Role::It => Role::It,
        },
        privacy: desk.privacy,
        lock_after: desk.lock_after.0,
        opens: form::clock(&desk.opens).unwrap_or(usual.opens),
        closes: form::clock(&desk.closes).unwrap_or(usual.closes),
        autostart: desk.autostart,
    }
}

fn engine(engine: &file::Engine, at: &mut At<'_, '_, '_>) -> Engine {
    if engine.visibility < engine.lease_term {
        at.between(["visibility", "lease-term"], format!("no less than lease-term, which is {}", engine.lease_term),
            "A message that comes back while its record is still leased only waits; raise `visibility`, or lower `lease-term`",
        );
    }
    if engine.backoff_longest < engine.backoff_first {
        at.between(
            ["backoff-longest", "backoff-first"],
            format!("no less than backoff-first, which is {}", engine.backoff_first),
            "The wait grows from the first to the longest; raise `backoff-longest`, or lower `backoff-first`",
        );
    }
    Engine {
        runs: engine.runs,
        receive_batch: engine.receive_batch,
        lease_term: engine.lease_term.0,
        visibility: engine.visibility.0,
        attempts: engine.attempts,
        backoff: Backoff { base: engine.backoff_first.0, most: engine.backoff_longest.0 },
        record_open_retry: engine.record_open_retry.0,
        not_found_patience: engine.not_found_patience.0,
        drain_grace: engine.drain_grace.0,
    }
}

fn watched(
    firm: &file::Firm,
    (written, quotas): (&[file::Quota], &BTreeMap<String, Quota>),
    folder: &Path,
    at: &mut At<'_, '_, '_>,
) -> Option<Watched> {
    let quota = firm.ehr.as_ref()?.quota.as_ref();
    let written = (firm.ehr.clone()?, written.iter().find(|written| Some(&written.id) == quota).cloned());
    let ehr = ehr::ehr(&written.0, quotas, folder, &mut at.inside(&["ehr"]));
    let id = FirmId::new(firm.id.clone()).ok()?;
    let name = firm.name.clone().unwrap_or_else(|| id.to_string());
    Some(Watched { name, id, zone: TimeZone::get(&firm.time_zone).ok()?, ehr: ehr?, written })
}

/// What is kept in step takes all three parts; a firm that is only watched has none of them.
fn is_whole(firm: &file::Firm, at: &mut At<'_, '_, '_>) -> bool {
    let parts = [
        ("fhir", firm.fhir.is_some(), "Add a section [firm.fhir] with its entries"),
        ("filemaker", firm.filemaker.is_some(), "Add a section [firm.filemaker] with its entries"),
        ("mapping", !firm.mapping.is_empty(), "Add a section [[firm.mapping]], with `use = \"patient\"` for a start"),
    ];
    let any = parts.iter().any(|(key, given, _)| *given || at.is_known(key));
    if !any && (firm.ehr.is_some() || at.is_known("ehr")) {
        return false;
    }
    for (key, given, mend) in parts {
        if !given {
            at.key(key, format!("`{key}`, which is missing"), mend);
        }
    }
    true
}

fn firm(firm: file::Firm, folder: &Path, at: &mut At<'_, '_, '_>) -> Option<Firm> {
    if !is_whole(&firm, at) {
        return None;
    }
    let (written, table) = (firm.fhir.unwrap_or_default(), firm.filemaker.unwrap_or_default());
    let fhir = fhir(&written, folder, &mut at.inside(&["fhir"]));
    let filemaker = filemaker(&table, folder, &mut at.inside(&["filemaker"]));
    let bases: Vec<String> = std::iter::once(&written.base_url)
        .chain(&written.also_known_as)
        .filter(|base| !base.is_empty())
        .cloned()
        .collect();
    let mut mapping: Mapping = mapping::resolve(&firm.mapping, &bases, at);
    if !firm.both_ways {
        mapping.resources.values_mut().for_each(|mapping| mapping.table.changes = None);
    }
    let id = FirmId::new(firm.id).ok()?;
    Some(Firm {
        name: firm.name.unwrap_or_else(|| id.to_string()),
        id,
        zone: TimeZone::get(&firm.time_zone).ok()?,
        plan: PollPlan {
            every: written.poll_every.0,
            overlap: written.overlap.0,
            settle: written.settle.0,
            sweep_every: written.sweep_every.0,
            probe_every: written.probe_every.0,
        },
        rows: PollPlan {
            every: table.poll_every.0,
            overlap: table.overlap.0,
            settle: table.settle.0,
            sweep_every: table.sweep_every.0,
            probe_every: written.probe_every.0,
        },
        brake: Brake { rows: table.delete_brake_rows, percent: table.delete_brake_percent },
        fhir: fhir?,
        filemaker: filemaker?,
        mapping,
    })
}

fn fhir(fhir: &file::Fhir, folder: &Path, at: &mut At<'_, '_, '_>) -> Option<Fhir> {
    looks(fhir.poll_every, fhir.overlap, fhir.sweep_every, at);
    let trust = trust(fhir.ca_file.as_deref(), fhir.fingerprint.as_deref(), folder, at);
    let base_url = form::url(&fhir.base_url).ok();
    let given = [
        ("token-url", fhir.token_url.is_some()),
        ("client-id", fhir.client_id.is_some()),
        ("secret", fhir.secret.is_some()),
    ];
    let any = given.iter().any(|(key, is_given)| *is_given || at.is_known(key));
    for (key, _) in given.iter().filter(|(_, is_given)| any && !is_given) {
        at.key(
            key,
            format!("`{key}`: token-url, client-id and secret belong together"),
            format!("Add `{key}`, or take out the others"),
        );
    }
    if !any && base_url.as_ref().is_some_and(|url| !is_loopback(url)) {
        at.key(
            "token-url",
            "`token-url`: only a server on this machine may do without sign-in",
            "Add token-url, client-id and the name of the secret",
        );
    }
    let sign_in = match (&fhir.token_url, &fhir.client_id, &fhir.secret) {
        (Some(token_url), Some(client_id), Some(secret)) => Some(SignIn {
            token_url: form::url(token_url).ok()?,
            client_id: client_id.clone(),
            secret: SecretName::parse(secret).ok()?,
            secret_in: fhir.secret_in,
            scope: fhir.scope.clone(),
        }),
        _ => None,
    };
    let hook = match &fhir.hook {
        Some(hook) => Some((form::url(&hook.endpoint).ok()?, SecretName::parse(&hook.secret).ok()?)),
        None => None,
    };
    Some(Fhir {
        base_url: base_url?,
        flavour: fhir.flavour,
        sign_in,
        trust,
        timeout: fhir.timeout.0,
        page: fhir.page,
        websocket: fhir.websocket,
        hook,
    })
}

/// How often is looked for changes, and how far back.
fn looks(poll_every: Time, overlap: Time, sweep_every: Time, at: &mut At<'_, '_, '_>) {
    if sweep_every <= poll_every {
        at.between(
            ["sweep-every", "poll-every"],
            format!("more than poll-every, which is {poll_every}"),
            "A full comparison costs far more than a look for changes; an hour is usual",
        );
    }
    if overlap <= poll_every {
        at.between(["overlap", "poll-every"], format!("more than poll-every, which is {poll_every}"),
            "Each look must reach back over the one before it, or a change that became visible late is missed; raise `overlap`, or lower `poll-every`",
        );
    }
}

fn filemaker(filemaker: &file::FileMaker, folder: &Path, at: &mut At<'_, '_, '_>) -> Option<FileMaker> {
    let trust = trust(filemaker.ca_file.as_deref(), filemaker.fingerprint.as_deref(), folder, at);
    looks(filemaker.poll_every, filemaker.overlap, filemaker.sweep_every, at);
    if filemaker.read_timeout < filemaker.connect_timeout {
        at.between(
            ["read-timeout", "connect-timeout"],
            format!("no less than connect-timeout, which is {}", filemaker.connect_timeout),
            "A call includes its connection; raise `read-timeout`, or lower `connect-timeout`",
        );
    }
    let url: Url = form::url(&filemaker.url).ok()?;
    Some(FileMaker {
        url,
        database: filemaker.database.clone(),
        account: filemaker.account.clone(),
        password: SecretName::parse(&filemaker.password).ok()?,
        sessions: filemaker.sessions,
        trust,
        connect_timeout: filemaker.connect_timeout.0,
        read_timeout: filemaker.read_timeout.0,
        http1_only: filemaker.http1_only,
        exchange_after_writes: filemaker.exchange_after_writes,
        exchange_after: filemaker.exchange_after.0,
    })
}

pub(super) fn trust(ca_file: Option<&str>, fingerprint: Option<&str>, folder: &Path, at: &mut At<'_, '_, '_>) -> Trust {
    match (ca_file, fingerprint) {
        (None, None) => Trust::System,
        (Some(file), None) => Trust::Authority(folder.join(PathBuf::from(file))),
        (None, Some(fingerprint)) => Trust::Pin(fingerprint.to_owned()),
        (Some(_), Some(fingerprint)) => {
            at.key(
                "ca-file",
                "either ca-file or fingerprint",
                "Keep the fingerprint to trust one certificate, or the file to trust an authority",
            );
            Trust::Pin(fingerprint.to_owned())
        }
    }
}
