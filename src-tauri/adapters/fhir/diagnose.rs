//! The check-up of a FHIR connection: name, connection and TLS, sign-in, capability, then one search and one read per type.
//! After a step that everything else rests on has failed, the rest is skipped.

use engine::{
    error::{Class, Code, Fault},
    key::ResourceType,
    ports::{FhirServer, Read},
};
use reqwest::StatusCode;
use serde_json::Value as Json;

use super::{Access, Asking, Call, FhirClient};
use crate::adapters::{doctor::Step, transport::is_loopback};

pub(super) const NAME: &str = "name";
pub(super) const TLS: &str = "TLS";
pub(super) const SIGN_IN: &str = "sign-in";
pub(super) const CAPABILITY: &str = "capability";

impl FhirClient {
    /// Walks the connection step by step. Nothing is written, and no step shows more of a resource than its id.
    pub async fn diagnose(&self, types: &[ResourceType]) -> Vec<Step> {
        let mut steps = vec![self.name_step().await];
        let mut metadata = None;
        if went_well(&steps) {
            let (step, json) = self.reach_step().await;
            steps.push(step);
            metadata = json;
        }
        if went_well(&steps) {
            steps.push(self.sign_in_step().await);
        }
        if went_well(&steps) {
            steps.push(capability_step(metadata.as_ref(), types));
        }
        if !went_well(&steps) {
            let tried: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
            let left = [TLS, SIGN_IN, CAPABILITY].into_iter().filter(|name| !tried.iter().any(|tried| tried == name));
            steps.extend(left.map(|name| Step::skipped(name, "an earlier step failed")));
        }
        for resource in types {
            let (search, read) = (format!("search {resource}"), format!("read {resource}"));
            if !went_well(&steps[..4]) {
                steps.push(Step::skipped(search, "an earlier step failed"));
                steps.push(Step::skipped(read, "an earlier step failed"));
                continue;
            }
            steps.push(self.search_step(search, resource).await);
            steps.push(self.read_step(read, resource).await);
        }
        steps
    }

    pub(super) async fn name_step(&self) -> Step {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or(443);
        match tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await {
            Ok(addresses) => Step::passed(NAME, format!("{host} has {} address(es)", addresses.count())),
            Err(_) => Step::failed(
                NAME,
                Fault::new(Class::Away, Code::Unreachable).on("base_url"),
                format!("The name {host} is not known. Check base_url and this computer's network."),
            ),
        }
    }

    /// Fetches the capability statement, for which no sign-in is due; any answer at all proves connection and TLS.
    pub(super) async fn reach_step(&self) -> (Step, Option<Json>) {
        let answer = match self.url("metadata") {
            Ok(url) => {
                let call = Call::Get(url);
                self.send(&call, None, Asking::WORK).await
            }
            Err(fault) => Err(fault),
        };
        match answer {
            Ok(answer) => {
                let note = if is_loopback(&self.base) && self.base.scheme() == "http" {
                    "not used: the server is on this machine"
                } else {
                    "the certificate is trusted"
                };
                let json = (answer.status == StatusCode::OK).then(|| answer.json().ok()).flatten();
                (Step::passed(TLS, note), json)
            }
            Err(fault) => {
                let advice = match fault.code {
                    Code::CertificateRefused => {
                        "The server's certificate is not trusted, has expired or belongs to another name. Check the name in \
                         base_url and the CA file."
                    }
                    _ => "The server does not answer. Check that it runs, the port in base_url, and the firewall.",
                };
                (Step::failed(TLS, fault.on("base_url"), advice), None)
            }
        }
    }

    async fn sign_in_step(&self) -> Step {
        match self.probe().await {
            Ok(()) if matches!(self.access, Access::Anybody) => {
                Step::passed(SIGN_IN, "none is configured, and a search went through")
            }
            Ok(()) => Step::passed(SIGN_IN, "a token was granted, and a search with it went through"),
            Err(fault) => {
                let advice = match (fault.code, fault.subject.as_deref()) {
                    (Code::SignInRefused, Some("token_url")) => {
                        "The token endpoint refused. Check client_id, the client secret, secret_in and scope."
                    }
                    (_, Some("token_url")) => "The token endpoint does not answer as it should. Check token_url.",
                    (Code::SignInRefused, _) => {
                        "The server refused the token. Check that token_url belongs to this server, and the scope."
                    }
                    (Code::AccessDenied, _) => {
                        "Sign-in works, but this client may not search. Check its rights on the server."
                    }
                    (Code::Throttled, _) => "The server's quota is used up. Wait, and try again.",
                    _ => {
                        "The server does not answer a search as it should. Check base_url: it must be the FHIR base address."
                    }
                };
                Step::failed(SIGN_IN, fault, advice)
            }
        }
    }

    async fn search_step(&self, name: String, resource: &ResourceType) -> Step {
        // From now on: the answer is short, and a server that ignores the parameter shows itself by older rows.
        match self.changes(resource, Some(self.clock.now()), None).await {
            Ok(changes) if changes.server_time.is_none() => {
                Step::warned(name, "the server does not tell its time, so this computer's clock is used")
            }
            Ok(_) => Step::passed(name, "changes can be asked for by _lastUpdated"),
            Err(fault) => {
                let advice = match fault.code {
                    Code::AccessDenied => {
                        format!("This client may not search {resource}. Check its rights on the server.")
                    }
                    Code::Rejected => {
                        format!("The server cannot list changes of {resource} by _lastUpdated. Check the flavour.")
                    }
                    _ => format!(
                        "A search for {resource} failed. Try again; if it stays so, ask whoever runs the server."
                    ),
                };
                Step::failed(name, fault, advice)
            }
        }
    }

    async fn read_step(&self, name: String, resource: &ResourceType) -> Step {
        let id = match self.glance(resource).await {
            Ok(Some(id)) => id,
            Ok(None) => return Step::skipped(name, format!("the server holds no {resource} that this client may see")),
            Err(fault) => return Step::failed(name, fault, format!("No {resource} could be found to read.")),
        };
        match self.read(resource, &id).await {
            Ok(Read::Found(found)) if found.version.starts_with(super::STAND_IN) => Step::warned(
                name,
                format!(
                    "{resource}/{id}, but without a version: its content is compared instead, and nothing is written"
                ),
            ),
            Ok(Read::Found(_)) => Step::passed(name, format!("{resource}/{id}")),
            Ok(Read::Gone | Read::Missing) => {
                Step::warned(name, format!("{resource}/{id} was listed by a search but could not be read"))
            }
            Err(fault) => {
                let advice = match fault.code {
                    Code::AccessDenied => {
                        format!("This client may search {resource} but not read it. Check its rights.")
                    }
                    _ => format!("Reading {resource}/{id} failed."),
                };
                Step::failed(name, fault, advice)
            }
        }
    }
}

pub(super) fn went_well(steps: &[Step]) -> bool {
    !steps.iter().any(Step::has_failed)
}

/// What the server says about itself. Only another FHIR version is an error: statements are often incomplete, and the
/// searches that follow prove more.
fn capability_step(statement: Option<&Json>, types: &[ResourceType]) -> Step {
    let Some(statement) = statement.filter(|statement| statement["resourceType"] == "CapabilityStatement") else {
        return Step::warned(CAPABILITY, "the server publishes no capability statement");
    };
    let version = statement["fhirVersion"].as_str().unwrap_or_default();
    if !version.starts_with("4.") {
        let fault = Fault::new(Class::Stop, Code::Rejected).on("base_url").vendor("fhirVersion is not 4.x");
        return Step::failed(CAPABILITY, fault, "The server speaks another version of FHIR than R4. Check base_url.");
    }
    let empty = Vec::new();
    let rest = &statement["rest"][0];
    let served = rest["resource"].as_array().unwrap_or(&empty);
    let names = |parameters: &Json| {
        let parameters = parameters.as_array().unwrap_or(&empty);
        parameters.iter().any(|parameter| parameter["name"] == "_lastUpdated")
    };
    let mut missing = Vec::new();
    for resource in types {
        match served.iter().find(|served| served["type"] == resource.as_str()) {
            None => missing.push(format!("{resource} is not listed")),
            Some(served) if !names(&served["searchParam"]) && !names(&rest["searchParam"]) => {
                missing.push(format!("{resource} is not said to be searchable by _lastUpdated"));
            }
            Some(_) => {}
        }
    }
    // A version is a few digits; anything else would be text of the server's own choosing.
    let version: String = version.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(12).collect();
    if missing.is_empty() {
        Step::passed(CAPABILITY, format!("FHIR {version}"))
    } else {
        Step::warned(CAPABILITY, format!("FHIR {version}; {}", missing.join("; ")))
    }
}
