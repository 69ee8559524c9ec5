//! Subscriptions: asking the server to tell of changes by itself. What it tells is a hint; the poll goes on beside it.
//!
//! A rest-hook goes to an address outside this machine, which puts it into the shared queue (`chart-relay provision --print
//! apigateway`). There is one for each mapped type, found again by its address and criteria. A server may switch it off after
//! failures, and says why in `error`; it is then switched on again by an update.

use std::fmt;

use engine::{
    error::{Class, Code, Fault},
    key::{ResourceId, ResourceType},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use url::Url;

use super::{Asking, Call, FhirClient, Write, outcome::Asked, version};
use crate::adapters::{doctor::Step, secret::Secret};

/// What our subscriptions say they are for.
const REASON: &str = "Chart Relay";

/// As much of a server's own words as is shown.
const LONGEST_REASON: usize = 200;

/// Where rest-hooks go, and what lets them in.
#[derive(Clone, Debug)]
pub struct Hook {
    pub endpoint: Url,
    /// Sent as `x-api-key`. Without a colon: Medplum cuts header values there.
    pub key: Secret,
}

/// How a type's rest-hook stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Active,
    /// The server has not begun yet.
    Requested,
    Missing,
    /// Active, and not as it should be: the key or the form differs.
    Differs,
    /// Switched off or in error, with the server's own word.
    Off(Option<String>),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Active => f.write_str("active"),
            Standing::Requested => f.write_str("asked for; the server has not begun yet"),
            Standing::Missing => f.write_str("not there"),
            Standing::Differs => f.write_str("active, but not as configured"),
            Standing::Off(Some(reason)) => write!(f, "switched off by the server: {reason}"),
            Standing::Off(None) => f.write_str("switched off; the server does not say why"),
        }
    }
}

/// A type's rest-hook on the server, if there is one.
struct Found {
    standing: Standing,
    resource: Option<(ResourceId, String, Json)>,
}

impl FhirClient {
    /// How the rest-hook of each type stands.
    ///
    /// # Errors
    /// What a search for subscriptions ended with.
    pub async fn hooks(&self, types: &[ResourceType], hook: &Hook) -> Result<Vec<(ResourceType, Standing)>, Fault> {
        let all = self.subscriptions(hook).await?;
        Ok(types.iter().map(|r#type| (r#type.clone(), self.hook_of(&all, r#type, hook).standing)).collect())
    }

    /// Makes what is missing, and mends or switches on again what is not as it should be. Answers with how each stood before.
    ///
    /// # Errors
    /// What a search or the first write that failed ended with.
    pub async fn hook_up(&self, types: &[ResourceType], hook: &Hook) -> Result<Vec<(ResourceType, Standing)>, Fault> {
        let all = self.subscriptions(hook).await?;
        let mut before = Vec::new();
        for r#type in types {
            let found = self.hook_of(&all, r#type, hook);
            let wanted = self.rest_hook(r#type, hook);
            match (&found.standing, found.resource) {
                (Standing::Active | Standing::Requested, _) => {}
                (_, None) => drop(self.subscribe(&wanted).await?),
                (_, Some((id, version, mut json))) => {
                    for (name, member) in wanted.as_object().into_iter().flatten() {
                        json[name] = member.clone();
                    }
                    if let Some(json) = json.as_object_mut() {
                        json.shift_remove("error");
                    }
                    self.put(&subscription(), &id, &version, &json).await?;
                }
            }
            before.push((r#type.clone(), found.standing));
        }
        Ok(before)
    }

    /// The same as steps of a check-up.
    pub async fn diagnose_hooks(&self, types: &[ResourceType], hook: &Hook) -> Vec<Step> {
        let hooks = match self.hooks(types, hook).await {
            Ok(hooks) => hooks,
            Err(fault) => {
                let advice = "The server does not list its subscriptions. This client needs the right to read them.";
                return vec![Step::failed("rest-hooks", fault, advice)];
            }
        };
        let step = |(r#type, standing): (ResourceType, Standing)| {
            let name = format!("rest-hook {type}");
            match standing {
                Standing::Active | Standing::Requested => Step::passed(name, standing.to_string()),
                // Changes are found all the same, only later.
                _ => Step::warned(name, format!("{standing}; chart-relay subscription --create mends it")),
            }
        };
        hooks.into_iter().map(step).collect()
    }

    fn rest_hook(&self, r#type: &ResourceType, hook: &Hook) -> Json {
        let mut wanted = json!({
            "resourceType": "Subscription",
            "status": self.flavour.subscription_status,
            "reason": REASON,
            "criteria": r#type.as_str(),
            "channel": {
                "type": "rest-hook",
                "endpoint": hook.endpoint.as_str(),
                "payload": "application/fhir+json",
                "header": [format!("x-api-key: {}", hook.key.reveal())],
            },
        });
        if let Some((url, attempts)) = self.flavour.subscription_attempts {
            wanted["extension"] = json!([{"url": url, "valueInteger": attempts}]);
        }
        wanted
    }

    fn hook_of(&self, all: &[Json], r#type: &ResourceType, hook: &Hook) -> Found {
        let ours = all.iter().filter(|one| one["criteria"] == r#type.as_str());
        // Of several, one that works.
        let found = ours.max_by_key(|one| one["status"] == "active");
        let Some(found) = found else { return Found { standing: Standing::Missing, resource: None } };
        let wanted = self.rest_hook(r#type, hook);
        let standing = match found["status"].as_str() {
            Some("active" | "requested") if found["channel"] != wanted["channel"] => Standing::Differs,
            Some("active") => Standing::Active,
            Some("requested") => Standing::Requested,
            _ => Standing::Off(
                found["error"]
                    .as_str()
                    .map(|error| error.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect()),
            ),
        };
        let id = found["id"].as_str().and_then(|id| ResourceId::new(id).ok());
        let resource = id.zip(version(found)).map(|(id, version)| (id, version, found.clone()));
        Found { standing, resource }
    }

    /// The rest-hooks that go to this address.
    async fn subscriptions(&self, hook: &Hook) -> Result<Vec<Json>, Fault> {
        let parameters = vec![
            ("url", hook.endpoint.as_str().to_owned()),
            ("type", "rest-hook".to_owned()),
            ("_count", "100".to_owned()),
        ];
        let answer = self.call(&Call::Form(self.url("Subscription/_search")?, parameters), Asking::WORK).await;
        let on = |fault: Fault| super::concerning(fault, &subscription());
        let answer = answer.map_err(on)?;
        if answer.status != StatusCode::OK {
            return Err(on(answer.fault(Asked::Search, self.clock.now())));
        }
        let bundle = answer.json().map_err(on)?;
        let rows = bundle["entry"].as_array().into_iter().flatten().map(|entry| entry["resource"].clone());
        let ours = rows.filter(|row| {
            row["resourceType"] == "Subscription"
                && row["channel"]["type"] == "rest-hook"
                && row["channel"]["endpoint"] == hook.endpoint.as_str()
        });
        Ok(ours.collect())
    }

    /// Creates a subscription; answers with its id. Twice the same does no harm: two hints for one change.
    pub(super) async fn subscribe(&self, wanted: &Json) -> Result<ResourceId, Fault> {
        let write =
            Write { method: Method::POST, url: self.url("Subscription")?, guard: None, body: wanted.to_string() };
        let on = |fault: Fault| super::concerning(fault, &subscription());
        let answer = self.call(&Call::Write(write), Asking::WORK).await.map_err(on)?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => answer
                .created(&subscription())
                .ok_or_else(|| on(Fault::new(Class::Retry, Code::BadAnswer).vendor("created, and not told where"))),
            _ => Err(on(answer.fault(Asked::Search, self.clock.now()))),
        }
    }

    /// Deletes a subscription of ours that has served; whether that succeeds does not matter.
    pub(super) async fn unsubscribe(&self, id: &ResourceId) {
        let Ok(url) = self.url(&format!("Subscription/{id}")) else { return };
        let _ = self
            .call(&Call::Write(Write { method: Method::DELETE, url, guard: None, body: String::new() }), Asking::WORK)
            .await;
    }
}

fn subscription() -> ResourceType {
    ResourceType::new("Subscription").expect("a FHIR resource type")
}
