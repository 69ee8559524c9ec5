//! The check-up of a watched EHR: what the engine relies on by its flavour, compared with what the server says of itself and with what it
//! does. Nothing is written, and of what lists show only their length is looked at.

use engine::{
    error::{Class, Code, Fault},
    key::ResourceType,
    ports::{Ehr as _, Manners, Purpose, Reach, Wish},
};
use reqwest::StatusCode;
use serde_json::Value as Json;

use super::{
    Access, Asking, Call, EhrClient,
    diagnose::{CAPABILITY, NAME, SIGN_IN, TLS, went_well},
};
use crate::adapters::doctor::Step;

const EARLIER: &str = "an earlier step failed";

impl EhrClient {
    /// Walks the connection step by step.
    pub async fn diagnose(&self) -> Vec<Step> {
        let manners = self.manners();
        let mut steps = vec![self.client.name_step().await];
        debug_assert_eq!(steps[0].name, NAME);
        let mut metadata = None;
        if went_well(&steps) {
            let (step, json) = self.client.reach_step().await;
            steps.push(step);
            metadata = json;
        } else {
            steps.push(Step::skipped(TLS, EARLIER));
        }
        steps.push(if went_well(&steps) { self.ehr_sign_in_step().await } else { Step::skipped(SIGN_IN, EARLIER) });
        if went_well(&steps) {
            if metadata.is_none() {
                metadata = self.metadata().await;
            }
            steps.push(capability_step(metadata.as_ref(), &manners));
        } else {
            steps.push(Step::skipped(CAPABILITY, EARLIER));
        }
        let all = went_well(&steps);
        steps.push(if all { self.encounters_step().await } else { Step::skipped("search Encounter", EARLIER) });
        for resource in &manners.documents {
            let name = format!("search {resource}");
            steps.push(if all {
                self.documents_step(name, resource, manners.reach).await
            } else {
                Step::skipped(name, EARLIER)
            });
        }
        steps
    }

    /// HealthLake and EMA show it only to who has signed in.
    async fn metadata(&self) -> Option<Json> {
        let call = Call::Get(self.client.url("metadata").ok()?);
        let asking = Asking { purpose: Purpose::Person, ..Asking::WORK };
        let answer = self.client.call(&call, asking).await.ok()?;
        (answer.status == StatusCode::OK).then(|| answer.json().ok())?
    }

    async fn ehr_sign_in_step(&self) -> Step {
        let fault = match (self.probe().await, &self.client.access) {
            (Ok(()), Access::Anybody) => return Step::passed(SIGN_IN, "none is configured, and a search went through"),
            (Ok(()), Access::Bearer(_)) => {
                return Step::passed(SIGN_IN, "a token was granted, and a search with it went through");
            }
            (Ok(()), Access::Signed(_)) => return Step::passed(SIGN_IN, "a signed search went through"),
            (Err(fault), _) => fault,
        };
        let advice = match (fault.code, fault.subject.as_deref(), &self.client.access) {
            (Code::CredentialsMissing, ..) => {
                "There are no credentials to sign with. Give access-key-id and secret, or sign in to AWS on this account."
            }
            (Code::SignInRefused | Code::AccessDenied, _, Access::Signed(_)) => {
                "AWS does not take the signature, or the account has no right to healthlake:SearchWithPost on this data store."
            }
            (Code::SignInRefused, Some("token_url"), _) => {
                "The token endpoint refused. Check client-id (or account), the secret, secret-in, key-id and scope."
            }
            (_, Some("token_url"), _) => "The token endpoint does not answer as it should. Check token-url.",
            (Code::SignInRefused | Code::AccessDenied, ..) if self.client.api_key.is_some() => {
                "A token was granted, and the EHR refused it or the API key. Check api-key, and the client's rights to Encounter."
            }
            (Code::SignInRefused, ..) => {
                "The EHR refused the token. Check that token-url belongs to this EHR, and the scope."
            }
            (Code::AccessDenied, ..) => {
                "Sign-in works, but this client may not search for encounters. Check its rights."
            }
            (Code::Throttled, ..) => "The quota of this API key is used up. Wait, and try again.",
            (Code::Rejected, ..) => {
                "The EHR does not know this address. Check base-url: with several firms behind one address, it names the firm."
            }
            _ => "The EHR does not answer a search as it should. Check base-url: it must be the FHIR base address.",
        };
        Step::failed(SIGN_IN, fault, advice)
    }

    async fn encounters_step(&self) -> Step {
        let name = "search Encounter";
        match self.encounters(Some(self.client.clock.now()), None, Purpose::Person).await {
            Ok(list) if list.server_time.is_none() => {
                Step::warned(name, "the EHR does not tell its time, so nothing can be called complete up to a time")
            }
            Ok(_) if self.manners().by_day => {
                Step::passed(name, "changes can be asked for by day, so that each look reads up to three days again")
            }
            Ok(_) => Step::passed(name, "changes can be asked for by _lastUpdated"),
            Err(fault) => Step::failed(name, fault, "Encounters cannot be listed by _lastUpdated. Check the flavour."),
        }
    }

    async fn documents_step(&self, name: String, resource: &ResourceType, reach: Reach) -> Step {
        let (wish, how) = match reach {
            Reach::Firm => (Wish::Since(Some(self.client.clock.now())), "one search covers the whole clinic"),
            // What they are of is somebody's; an id that nobody has shows as well whether the search is known.
            Reach::Encounters(_) => (Wish::OfEncounters(vec![nobody()]), "one search covers several encounters"),
            Reach::Patient => (Wish::OfPatient(nobody()), "each patient of a watched encounter costs a search"),
        };
        match self.documents(resource, &wish, None, Purpose::Person).await {
            Ok(_) => Step::passed(name, how),
            // Some servers look for the patient first.
            Err(fault) if matches!(reach, Reach::Patient) && fault.code == Code::Rejected => {
                Step::warned(name, format!("{how}; it could not be tried without a patient"))
            }
            Err(fault) => Step::failed(
                name,
                fault,
                format!("{resource} cannot be searched for in this way. Check flavour and documents."),
            ),
        }
    }
}

fn nobody() -> engine::key::ResourceId {
    engine::key::ResourceId::new("chart-relay-check-up").expect("a plain word")
}

/// What the server says of itself, beside what the flavour relies on. Statements are often incomplete, so only another version of FHIR
/// is an error.
fn capability_step(statement: Option<&Json>, manners: &Manners) -> Step {
    let Some(statement) = statement.filter(|statement| statement["resourceType"] == "CapabilityStatement") else {
        return Step::warned(CAPABILITY, "the EHR publishes no capability statement; the searches below tell");
    };
    let version = statement["fhirVersion"].as_str().unwrap_or_default();
    if !version.starts_with("4.") {
        let fault = Fault::new(Class::Stop, Code::Rejected).on("base_url").vendor("fhirVersion is not 4.x");
        return Step::failed(CAPABILITY, fault, "The EHR speaks another version of FHIR than R4. Check base-url.");
    }
    let none = Vec::new();
    let rest = &statement["rest"][0];
    let served = rest["resource"].as_array().unwrap_or(&none);
    let has = |resource: &str, parameter: &str| {
        let entry = served.iter().find(|entry| entry["type"] == resource)?;
        let named = |list: &Json| list.as_array().is_some_and(|list| list.iter().any(|one| one["name"] == parameter));
        Some(named(&entry["searchParam"]) || named(&rest["searchParam"]))
    };
    let (parameter, instead) = match manners.reach {
        Reach::Firm => ("_lastUpdated", "with documents = \"encounters\" or \"patient\" it would cost more requests"),
        Reach::Encounters(_) => ("encounter", "with documents = \"patient\" each patient costs a search"),
        Reach::Patient => ("patient", "documents cannot be found without it"),
    };
    let mut lacks = Vec::new();
    let wanted = manners.documents.iter().map(|resource| (resource.as_str(), parameter, instead));
    let encounters = ("Encounter", "_lastUpdated", "every look would read all encounters");
    for (resource, parameter, cost) in std::iter::once(encounters).chain(wanted) {
        match has(resource, parameter) {
            None => lacks.push(format!("{resource} is not listed, so none of it would be found")),
            Some(false) => lacks.push(format!("{resource} is not said to be searchable by {parameter}: {cost}")),
            Some(true) => {}
        }
    }
    // A version is a few digits; anything else would be text of the server's own choosing.
    let version: String = version.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(12).collect();
    if lacks.is_empty() {
        Step::passed(CAPABILITY, format!("FHIR {version}"))
    } else {
        Step::warned(CAPABILITY, format!("FHIR {version}; {}", lacks.join("; ")))
    }
}
