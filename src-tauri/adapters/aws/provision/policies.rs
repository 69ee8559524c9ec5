//! One policy of each role in IAM, for whoever makes users and roles to attach. IAM has few calls that concern us, so they are made by
//! hand: its SDK alone would be larger than all others together.

#![allow(clippy::disallowed_methods, reason = "a signature is of a time of day")]

use std::time::{Duration, SystemTime};

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use engine::error::{Class, Code, Fault};
use reqwest::Client;
use serde_json::Value as Json;
use url::Url;

use super::{Found, State, Wish};
use crate::adapters::{
    aws::{
        Account, errors,
        roles::{DESCRIPTION, PATH, Role, policy, policy_name},
    },
    transport::{self, Trust},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// IAM keeps so many versions of a policy; the oldest has to go before a sixth.
const VERSIONS: usize = 5;

/// Goes through the policies of all roles; with `change` what is missing is made and what differs gets a new version.
///
/// # Errors
/// The first call that failed, named as the permission that it needs.
pub async fn policies(account: &Account, wish: &Wish, change: bool) -> Result<Vec<Found>, Fault> {
    let iam = Iam::of(account, wish)?;
    let mut found = Vec::new();
    let there = iam.call("ListPolicies", &[("Scope", "Local"), ("PathPrefix", PATH), ("MaxItems", "1000")]).await?;
    for role in Role::ALL {
        let name = policy_name(wish, role);
        let wished = policy(wish, role);
        let entry = members(&there).into_iter().find(|entry| tag(entry, "PolicyName") == Some(&name));
        let state = match entry {
            None if !change => State::Missing,
            None => {
                let document = wished.to_string();
                let parameters = [
                    ("PolicyName", name.as_str()),
                    ("Path", PATH),
                    ("Description", DESCRIPTION),
                    ("PolicyDocument", &document),
                ];
                iam.call("CreatePolicy", &parameters).await?;
                State::Created
            }
            Some(entry) => {
                let arn = tag(entry, "Arn").unwrap_or_default();
                let version = tag(entry, "DefaultVersionId").unwrap_or_default();
                let answer = iam.call("GetPolicyVersion", &[("PolicyArn", arn), ("VersionId", version)]).await?;
                if document(&answer).as_ref() == Some(&wished) {
                    State::Right
                } else {
                    if change {
                        iam.replace(arn, &wished).await?;
                    }
                    State::Differs { settings: vec!["PolicyDocument".to_owned()], mended: change }
                }
            }
        };
        found.push(Found { what: format!("policy {name}"), state });
    }
    Ok(found)
}

struct Iam<'a> {
    account: &'a Account,
    client: Client,
    address: Url,
    region: &'static str,
}

impl<'a> Iam<'a> {
    /// IAM has one address for a whole partition.
    fn of(account: &'a Account, wish: &Wish) -> Result<Self, Fault> {
        let (address, region) = match wish.partition {
            "aws-cn" => ("https://iam.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
            "aws-us-gov" => ("https://iam.us-gov.amazonaws.com/", "us-gov-west-1"),
            _ => ("https://iam.amazonaws.com/", "us-east-1"),
        };
        let address = transport::base("endpoint", account.sdk.endpoint_url().unwrap_or(address))?;
        let client = transport::client(&address, &Trust::System)?.timeout(PATIENCE).build();
        let client = client.map_err(|_| Fault::new(Class::Stop, Code::NotSetUp).on("TLS"))?;
        Ok(Self { account, client, address, region })
    }

    /// The answer's XML.
    async fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Result<String, Fault> {
        let permission = format!("iam:{action}");
        let common = [("Action", action), ("Version", "2010-05-08")];
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(common.iter().chain(parameters));
        let body = form.finish();
        let content_type = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let host = match (self.address.host_str(), self.address.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let headers = [("host", host.as_str()), content_type];
        let credentials = self.account.source.credentials().await;
        let identity = credentials
            .map_err(|error| {
                errors::of_credentials(&error).unwrap_or_else(|| Fault::new(Class::Stop, Code::CredentialsMissing))
            })?
            .into();
        let unsigned = || Fault::new(Class::Stop, Code::NotSetUp).on(permission.clone());
        let settings = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name("iam")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| unsigned())?
            .into();
        let signable = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new("POST", self.address.as_str(), headers.into_iter(), signable);
        let (signature, _) = sign(request.map_err(|_| unsigned())?, &settings).map_err(|_| unsigned())?.into_parts();
        let mut call = self.client.post(self.address.clone()).header(content_type.0, content_type.1);
        for (name, value) in signature.headers() {
            call = call.header(name, value);
        }
        let answer = call.body(body).send().await;
        let away = |_| Fault::new(Class::Away, Code::Unreachable).on(permission.clone());
        let answer = answer.map_err(away)?;
        let status = answer.status();
        let text = answer.text().await.map_err(away)?;
        if status.is_success() {
            return Ok(text);
        }
        Err(errors::of_name(tag(&text, "Code").unwrap_or_default(), status.as_u16(), &permission, PATH))
    }

    async fn replace(&self, arn: &str, wished: &Json) -> Result<(), Fault> {
        let listed = self.call("ListPolicyVersions", &[("PolicyArn", arn)]).await?;
        let versions = members(&listed);
        if versions.len() >= VERSIONS {
            let spare = versions.iter().filter(|version| tag(version, "IsDefaultVersion") != Some("true"));
            let oldest = spare
                .filter_map(|version| tag(version, "VersionId"))
                .min_by_key(|id| id.trim_start_matches('v').parse::<u64>().unwrap_or(u64::MAX));
            if let Some(oldest) = oldest {
                self.call("DeletePolicyVersion", &[("PolicyArn", arn), ("VersionId", oldest)]).await?;
            }
        }
        let document = wished.to_string();
        let parameters = [("PolicyArn", arn), ("PolicyDocument", document.as_str()), ("SetAsDefault", "true")];
        self.call("CreatePolicyVersion", &parameters).await.map(drop)
    }
}

/// What stands in the first element of this name. IAM's answers are flat enough for that.
fn tag<'t>(xml: &'t str, name: &str) -> Option<&'t str> {
    let from = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let long = xml[from..].find(&format!("</{name}>"))?;
    Some(&xml[from..from + long])
}

/// The entries of a list.
fn members(xml: &str) -> Vec<&str> {
    xml.split("<member>").skip(1).filter_map(|rest| rest.split("</member>").next()).collect()
}

/// A policy comes back with everything escaped that a URL would escape.
fn document(xml: &str) -> Option<Json> {
    let escaped = tag(xml, "Document")?.replace('+', "%2B");
    let pair = format!("d={escaped}");
    let (_, plain) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
    serde_json::from_str(&plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let xml = "<R><Policies><member><PolicyName>one</PolicyName><Arn>a</Arn></member><member><PolicyName>two</PolicyName></member></Policies></R>";
        let names: Vec<_> = members(xml).into_iter().filter_map(|entry| tag(entry, "PolicyName")).collect();
        assert_eq!(names, ["one", "two"]);
        let version = "<Document>%7B%22Version%22%3A%20%222012-10-17%22%7D</Document>";
        assert_eq!(document(version), Some(serde_json::json!({ "Version": "2012-10-17" })));
    }
}
