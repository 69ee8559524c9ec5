//! Reading one resource, and the files behind pre-signed addresses, at a door of their own that is S3's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rand::Rng as _;
use serde_json::{Value, json};

use super::paths::{FILES, escaped};
use super::world::{World, error};
use crate::rest::call::Call;
use crate::rest::reply::Reply;

/// So long the server remembers addresses that work no more, to say why.
const REMEMBERED: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// What a pre-signed address opens.
pub(super) struct Link {
    firm: String,
    id: String,
    until: Timestamp,
}

impl World {
    pub(super) fn read(
        &mut self,
        call: &Call,
        firm: &str,
        kind: &str,
        id: &str,
        now: Timestamp,
    ) -> Result<Reply, Reply> {
        let found = self.firms.get(firm).and_then(|branch| branch.store.readable(kind, id)).cloned();
        let version = found.filter(|_| kind != "Composition").ok_or_else(|| error(404, "Not Found", call))?;
        let mut resource = self.shown(firm, &version);
        if kind == "DocumentReference" {
            let contents = resource["content"].as_array().map_or(0, Vec::len);
            for at in 0..contents {
                let url = self.signed(firm, id, now);
                let attachment = &mut resource["content"][at]["attachment"];
                if let Some(fields) = attachment.as_object_mut() {
                    fields.shift_remove("data");
                    fields.insert("url".into(), json!(url));
                }
            }
        }
        Ok(Reply::fhir(200, resource.to_string()))
    }

    /// A fresh address for the file of a document.
    fn signed(&mut self, firm: &str, id: &str, now: Timestamp) -> String {
        let signature =
            format!("{:032x}{:032x}", self.front.chance.random::<u128>(), self.front.chance.random::<u128>());
        let until = now.checked_add(self.behaviour.link_life).unwrap_or(Timestamp::MAX);
        self.links.retain(|_, link| now.duration_since(link.until) < REMEMBERED);
        self.links.insert(signature.clone(), Link { firm: firm.to_owned(), id: id.to_owned(), until });
        format!(
            "{}{FILES}{firm}/{}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={}&X-Amz-Expires={}\
             &X-Amz-Security-Token=synthetic&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}",
            self.files,
            escaped(id),
            now.strftime("%Y%m%dT%H%M%SZ"),
            self.behaviour.link_life.as_secs(),
        )
    }

    pub(super) fn download(&mut self, call: &Call, now: Timestamp) -> Reply {
        if call.header("authorization").is_some() || call.header("x-api-key").is_some() {
            self.leaks += 1;
        }
        if call.header("authorization").is_some() {
            return refusal(400, "InvalidArgument", "Only one auth mechanism allowed");
        }
        let link = call.value("X-Amz-Signature").and_then(|signature| self.links.get(signature));
        let Some(link) = link.filter(|link| call.line.path == format!("{FILES}{}/{}", link.firm, escaped(&link.id)))
        else {
            return refusal(403, "SignatureDoesNotMatch", "The signature does not match");
        };
        if link.until <= now {
            return refusal(403, "AccessDenied", "Request has expired");
        }
        let version = self.firms.get(&link.firm).and_then(|branch| branch.store.latest("DocumentReference", &link.id));
        let attachment = version.and_then(|version| version.content.as_ref());
        let attachment = attachment.map_or(&Value::Null, |content| &content.value["content"][0]["attachment"]);
        let bytes = attachment["data"].as_str().and_then(|data| STANDARD.decode(data).ok());
        let Some(bytes) = bytes else {
            return refusal(404, "NoSuchKey", "The specified key does not exist.");
        };
        Reply::raw(200, attachment["contentType"].as_str().unwrap_or("binary/octet-stream"), bytes)
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Reply::raw(status, "application/xml", body)
}
