//! `chart-relay doctor`: every connection, step by step, in the order in which it comes about.

mod ehr;

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use engine::{
    audit::{Act, Begun, Outcome},
    connection::Side,
    error::Code,
    key::RecordKey,
    mapping::{OneWay, ResourceMapping},
    ports::{ClinicDatabase as _, Clock, FhirServer as _},
    proof,
    server_clock::{self, Heard, Server, WrongClock},
};

use super::{
    complain,
    person::{Console, Person as _},
    place::Place,
    subscription,
};
use crate::{
    adapters::{
        aws::cost,
        clock::SystemClock,
        doctor::{Step, Verdict},
        sqlite::Database,
    },
    clinic_key,
    control::{Answer, Request},
    shared, socket,
    view::words,
    wiring::{Connected, DATABASE, command_owner},
};

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also write: one marked record per layout, its twin, a stale edit; then delete it. Needed once before anything is created
    #[arg(long)]
    write_probe: bool,
    /// Do not ask before writing
    #[arg(long, requires = "write_probe")]
    yes: bool,
    /// Only print the document categories that a watched clinic's EHR offers, to choose from in [firm.ehr.classes]
    #[arg(long, value_name = "FIRM", conflicts_with = "write_probe")]
    categories: Option<String>,
}

pub async fn run(args: DoctorArgs, place: &Place) -> ExitCode {
    if let Some(firm) = &args.categories {
        return match Box::pin(ehr::categories(firm, place)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        };
    }
    match Box::pin(examine(args, place)).await {
        Ok(0) => {
            println!("Everything works.");
            ExitCode::SUCCESS
        }
        Ok(1) => complain(&"One step failed."),
        Ok(failed) => complain(&format!("{failed} steps failed.")),
        Err(error) => complain(&error),
    }
}

/// How many steps failed.
async fn examine(args: DoctorArgs, place: &Place) -> Result<usize, Box<dyn std::error::Error>> {
    let mut console = Console;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    println!("Configuration {}: right.", place.file.display());
    let secrets = place.secrets(console.can_answer())?;
    if args.write_probe && !args.yes {
        if !console.can_answer() {
            return Err("Writing needs consent: add --yes where nobody can be asked.".into());
        }
        let layouts = place.config.firms.iter().flat_map(|firm| firm.mapping.resources.values());
        let layouts: Vec<_> = layouts.map(|mapping| mapping.table.layout.as_str()).collect();
        let question = format!(
            "One record marked as a probe will be made, tried and deleted on each of: {}. Go on? (yes/no) ",
            layouts.join(", ")
        );
        if console.ask(&question)? != "yes" {
            return Err("Nothing was written.".into());
        }
    }
    let mut failed = 0;
    let mut clocks = Vec::new();
    for firm in &place.config.firms {
        println!("\n{} ({})", firm.name, firm.id);
        // One clinic's missing secret must not keep the others from being examined.
        let connected = match Connected::new(firm, &*secrets, &clock).await {
            Ok(connected) => connected,
            Err(error) => {
                println!("  FAILED  set up: {error}");
                failed += 1;
                continue;
            }
        };
        println!(" Which way changes go");
        for mapping in firm.mapping.resources.values() {
            println!("  {}", ways(mapping));
        }
        let types: Vec<_> = firm.mapping.resources.keys().cloned().collect();
        println!(" The chart system, {}", firm.fhir.base_url);
        failed += print(&connected.fhir.diagnose(&types).await);
        match subscription::hook(firm, &*secrets).await {
            Ok(Some(hook)) => failed += print(&connected.fhir.diagnose_hooks(&types, &hook).await),
            Ok(None) => {}
            Err(error) => {
                println!("  FAILED  rest-hooks: {error}");
                failed += 1;
            }
        }
        let tables: Vec<_> = firm.mapping.resources.values().map(|mapping| mapping.table.clone()).collect();
        println!(" FileMaker, {}", firm.filemaker.url);
        let steps = connected.filemaker.diagnose(&tables).await;
        failed += print(&steps);
        if !steps.iter().any(Step::has_failed) {
            failed += print(&connected.filemaker.diagnose_changes(&tables, &firm.zone).await);
        }
        if args.write_probe {
            failed += prove(&connected, place, &*secrets, &clock).await?;
        }
        let of = |side| Server::Of(firm.id.clone(), side);
        clocks.push((of(Side::Fhir), connected.fhir.server_clock()));
        clocks.push((of(Side::FileMaker), connected.filemaker.server_clock()));
        connected.filemaker.close().await;
    }
    for watched in &place.config.watched {
        let (found, heard) = Box::pin(ehr::examine(watched, &*secrets, &clock)).await;
        failed += found;
        clocks.push((Server::Of(watched.id.clone(), Side::Fhir), heard));
    }
    if let Some(shared) = &place.config.shared {
        println!("\nWhat stations share: queue {}, tables {}-..", shared.queue, shared.prefix);
        failed += match shared::without_role(shared, &*secrets).await {
            Ok(account) => {
                let account = account.beside(clock.clone());
                let roles = &shared.roles;
                let named = [("sync", roles.sync.as_deref()), ("viewer", roles.viewer.as_deref())];
                let looking = account.in_role(roles.viewer.as_deref().or(roles.sync.as_deref()));
                let found = print(&account.diagnose_roles(&named).await)
                    + print(&looking.diagnose(&shared::wish(&place.config, shared)).await);
                clocks.push((Server::Shared, account.server_clock()));
                found
            }
            Err(error) => {
                println!("  FAILED  set up: {error}");
                1
            }
        };
        println!(" What AWS bills");
        let patience = std::time::Duration::from_secs(5);
        match socket::call(&place.data, &Request::Spent, patience).await {
            Ok(Answer::Spent(Some(spending))) => spending.lines().iter().for_each(|line| println!("  {line}")),
            _ => {
                let [nothing, written] = cost::at_best(shared.queue.ends_with(".fifo"));
                println!(
                    "  for a million events with full batches: ${nothing:.2} where nothing differs, ${written:.2} where each is written"
                );
                println!(
                    "  ({}; one message at a time, a loop of seven calls, is ${:.2})",
                    cost::PRICES,
                    cost::SEVEN_CALLS
                );
            }
        }
    }
    failed += print(&clock_steps(clocks, &*clock));
    Ok(failed)
}

/// Which of a mapping's fields go both ways, and why the others do not.
fn ways(mapping: &ResourceMapping) -> String {
    if mapping.table.changes.is_none() {
        return format!("{}: to FileMaker only: `both-ways` is off, or the mapping has no `changes`", mapping.resource);
    }
    let one_way = mapping.table.fields.keys().filter_map(|field| Some((field, mapping.one_way(field)?)));
    let mut reasons: Vec<(OneWay, Vec<&str>)> = Vec::new();
    for (field, reason) in one_way {
        match reasons.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, fields)) => fields.push(field),
            None => reasons.push((reason, vec![field])),
        }
    }
    let to_filemaker = reasons.iter().map(|(reason, fields)| format!("{}: {reason}", fields.join(", ")));
    let to_filemaker = to_filemaker.collect::<Vec<_>>().join("; ");
    if to_filemaker.is_empty() {
        format!("{}: every field both ways", mapping.resource)
    } else {
        format!("{}: both ways, but to FileMaker only {to_filemaker}", mapping.resource)
    }
}

/// Whether the clocks of this machine and of the servers agree.
fn clock_steps(heard: Vec<(Server, Option<Heard>)>, clock: &dyn Clock) -> Vec<Step> {
    println!("\nClocks");
    let measured: Vec<_> =
        heard.into_iter().filter_map(|(server, heard)| Some((server, heard?.ahead(clock)?))).collect();
    if measured.is_empty() {
        return vec![Step::skipped("clock", "no server said what time it is")];
    }
    let wrong = server_clock::judge(&measured);
    if wrong.is_empty() {
        return vec![Step::passed("clock", "in step with the servers")];
    }
    let step = |clock: &WrongClock| {
        let place = words::clock_of(clock).map(|firm| format!(" of {firm}")).unwrap_or_default();
        Step::warned("clock", words::wrong_clock(clock, &place))
    };
    wrong.iter().map(step).collect()
}

/// Tries whether keys are unique and edits guarded, and notes the proof in the ledger.
async fn prove(
    connected: &Connected,
    place: &Place,
    secrets: &dyn crate::secrets::Secrets,
    clock: &Arc<dyn Clock>,
) -> Result<usize, Box<dyn std::error::Error>> {
    let owner = command_owner(&place.config.station.id);
    if let Some(shared) = &place.config.shared {
        let account = shared::account(shared, secrets).await?;
        shared::key_is_here(shared, &account, secrets, &place.data, clock).await?;
    }
    let established = clinic_key::establish(secrets, &place.data).await?;
    if established.made_now {
        println!("{}", super::start::KEY_MADE);
    }
    let key = established.key;
    let database = Database::open(&place.data.join(DATABASE), &key, owner.clone(), clock.clone()).await;
    let database = database.map_err(|fault| {
        let hint = "Stop the running relay first (chart-relay stop): the proof is noted in its database.";
        format!("{} {hint} ({fault})", words::sentence(fault.code))
    })?;
    // The proof is for all who share the ledger.
    let ledger: Arc<dyn engine::ports::Ledger> = match &place.config.shared {
        Some(shared) => {
            let account = shared::account(shared, secrets).await?;
            let joined = shared::stores(&place.config, shared, &account, &place.data, &key, clock, &|_| {});
            let joined = tokio::time::timeout(std::time::Duration::from_secs(60), joined).await;
            joined
                .map_err(|_| "The shared queue and ledger do not answer; without them no proof can be noted.")??
                .ledger
        }
        None => database.ledger(),
    };
    let mut failed = 0;
    for (resource, mapping) in &connected.config.mapping.resources {
        println!(" Write probe on {}", mapping.table.layout);
        let begun = Begun {
            at: clock.now(),
            by: owner.clone(),
            person: crate::account::name(),
            act: Act::ProbeKey,
            key: Some(RecordKey::proof(connected.config.id.clone(), resource.clone())),
            epoch: 0,
            expected: None,
            fields: vec![mapping.table.key_field.clone()],
        };
        let entry = database.audit().begin(begun).await?;
        let found = connected.filemaker.write_probe(&mapping.table, rand::random()).await;
        let outcome = if found.unique && found.guarded {
            Outcome::Done { version: None }
        } else {
            Outcome::Refused { code: Code::UniquenessUnproven }
        };
        database.audit().complete(entry, outcome, clock.now()).await?;
        failed += print(&found.steps);
        if found.unique && found.guarded {
            let record = RecordKey::proof(connected.config.id.clone(), resource.clone());
            let term = place.config.engine.lease_term;
            proof::note(&*ledger, &record, &mapping.table, owner.clone(), term, clock.now()).await?;
        }
    }
    database.close().await?;
    Ok(failed)
}

fn print(steps: &[Step]) -> usize {
    for step in steps {
        let name = &step.name;
        match &step.verdict {
            Verdict::Passed(note) if note.is_empty() => println!("  ok      {name}"),
            Verdict::Passed(note) => println!("  ok      {name}: {note}"),
            Verdict::Warned(note) => println!("  notice  {name}: {note}"),
            Verdict::Failed { fault, advice } => {
                // A permission of AWS's is named, with what does not work without it.
                let denied = fault.subject.as_deref().filter(|subject| {
                    fault.code == Code::AccessDenied
                        && subject.split(' ').next().is_some_and(|action| action.contains(':'))
                });
                let said = denied.map(words::denied).map(|said| format!("{said} {advice}"));
                println!("  FAILED  {name}: {} ({fault})", said.as_ref().unwrap_or(advice));
            }
            Verdict::Skipped(why) => println!("  -       {name}: not tried, {why}"),
        }
    }
    steps.iter().filter(|step| step.has_failed()).count()
}
