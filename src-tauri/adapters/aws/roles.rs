//! Who may do what: for each role the least that its work needs, as IAM writes it. `provision` makes a policy of each, and prints them.
//!
//! A table for each kind of record is what makes this possible: whoever polls encounters cannot touch a link, whoever delivers drafts
//! cannot change what is synced.

use serde_json::{Value as Json, json};

use super::{dynamodb::tables::Tables, provision::Wish};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A station: it takes work from the queue, puts hints into it, polls, and keeps the ledger.
    Sync,
    /// Follows encounters and hints what changed in them. Planned.
    EncounterPoller,
    /// Finds documents in followed encounters. Planned.
    DocumentPoller,
    /// Has documents read by models and writes drafts. Planned.
    Inference,
    /// Brings reviewed drafts back to the chart. Planned.
    Delivery,
    /// Whoever only looks: `doctor`.
    Viewer,
}

/// Something that permissions are given on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Queue,
    DeadLetterQueue,
    /// A table by its kind, and its indexes where it has some.
    Table(&'static str),
}

use Resource::{DeadLetterQueue, Queue, Table};

/// Kinds whose tables come with the workers that are planned.
const PLANNED: [&str; 1] = ["draft"];
const ALL_TABLES: [&str; 12] = [
    "link",
    "cursor",
    "proof",
    "row",
    "encounter",
    "document",
    "quota",
    "token",
    "definition",
    "letter",
    "firm",
    "station",
];
/// What watching an EHR takes beside its own records.
const WATCHES: [&str; 3] = ["cursor", "quota", "definition"];

/// A lease is taken, renewed, kept and given up by updates; waiting work is found through an index.
const RECORDS: &[&str] = &["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"];
/// What a sign-in granted is kept and never listed.
const KEEP: &[&str] = &["dynamodb:GetItem", "dynamodb:UpdateItem"];
const LOOK: &[&str] = &["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"];
const TAKE: &[&str] = &[
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl",
    "sqs:ReceiveMessage",
];
const SEE: &[&str] = &["sqs:GetQueueAttributes", "sqs:GetQueueUrl"];
/// What SQS has given up on is taken out, and nothing is put in.
const DRAIN: &[&str] = &["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ReceiveMessage"];
const SEND: &[&str] = &["sqs:GetQueueUrl", "sqs:SendMessage"];

type Grant = (&'static [&'static str], Vec<Resource>);

/// What `doctor` asks about.
fn checks() -> [Grant; 3] {
    [
        (&["dynamodb:DescribeTable"], ALL_TABLES.map(Table).to_vec()),
        (&["dynamodb:DescribeContinuousBackups"], vec![Table("link"), Table("letter")]),
        (&["dynamodb:DescribeTimeToLive"], vec![Table("station")]),
    ]
}

impl Role {
    pub const ALL: [Role; 6] =
        [Role::Sync, Role::EncounterPoller, Role::DocumentPoller, Role::Inference, Role::Delivery, Role::Viewer];

    pub fn name(self) -> &'static str {
        match self {
            Role::Sync => "sync",
            Role::EncounterPoller => "encounter-poller",
            Role::DocumentPoller => "document-poller",
            Role::Inference => "inference",
            Role::Delivery => "delivery",
            Role::Viewer => "viewer",
        }
    }

    fn grants(self) -> Vec<Grant> {
        // Each worker is on the list of stations and of firms.
        let joins: Grant = (&["dynamodb:UpdateItem"], vec![Table("firm"), Table("station")]);
        match self {
            Role::Sync => vec![
                (TAKE, vec![Queue]),
                (DRAIN, vec![DeadLetterQueue]),
                (&["sqs:SendMessage"], vec![Queue]),
                (&["dynamodb:Scan"], vec![Table("firm")]),
                // Who takes part, who is gone for good, and a clinic key on its way to a new station.
                (&["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:Scan"], vec![Table("station")]),
                (
                    RECORDS,
                    ["link", "proof", "row", "encounter", "document"].into_iter().chain(WATCHES).map(Table).collect(),
                ),
                (KEEP, vec![Table("token")]),
                (
                    &["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"],
                    vec![Table("letter")],
                ),
                joins,
                // A large state of a cursor has parts, of which old ones go.
                (&["dynamodb:DeleteItem"], vec![Table("cursor")]),
            ]
            .into_iter()
            .chain(checks())
            .collect(),
            Role::EncounterPoller => {
                let records = ["encounter"].into_iter().chain(WATCHES);
                vec![(SEND, vec![Queue]), (RECORDS, records.map(Table).collect()), (KEEP, vec![Table("token")]), joins]
            }
            Role::DocumentPoller => {
                // It leases the encounters in which it looks.
                let records = ["encounter", "document"].into_iter().chain(WATCHES);
                vec![(SEND, vec![Queue]), (RECORDS, records.map(Table).collect()), (KEEP, vec![Table("token")]), joins]
            }
            Role::Inference => {
                vec![(SEND, vec![Queue]), (RECORDS, vec![Table("document"), Table("draft")]), joins]
            }
            Role::Delivery => vec![(TAKE, vec![Queue]), (RECORDS, vec![Table("draft")]), joins],
            Role::Viewer => vec![
                (SEE, vec![Queue, DeadLetterQueue]),
                (
                    LOOK,
                    // Not what a sign-in granted.
                    ["link", "proof", "row", "encounter", "document", "cursor", "quota", "definition"]
                        .into_iter()
                        .chain(PLANNED)
                        .map(Table)
                        .collect(),
                ),
                (&["dynamodb:GetItem", "dynamodb:Query"], vec![Table("letter")]),
                (&["dynamodb:Scan"], vec![Table("firm"), Table("station")]),
            ]
            .into_iter()
            .chain(checks())
            .collect(),
        }
    }

    /// Whether the role may do this.
    pub fn may(self, action: &str, on: Resource) -> bool {
        self.grants().iter().any(|(actions, resources)| actions.contains(&action) && resources.contains(&on))
    }

    /// Each permission by itself: to compare with what was asked of AWS.
    pub fn permissions(self) -> Vec<(&'static str, Resource)> {
        let mut all: Vec<_> = self
            .grants()
            .into_iter()
            .flat_map(|(actions, resources)| {
                actions.iter().flat_map(move |action| resources.clone().into_iter().map(|one| (*action, one)))
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Where the policies stand in IAM, and what is said of them there.
pub const PATH: &str = "/chart-relay/";
pub const DESCRIPTION: &str = "What a role of Chart Relay needs";

/// The name of a role's policy in IAM.
pub fn policy_name(wish: &Wish, role: Role) -> String {
    format!("{}-{}", wish.prefix, role.name())
}

/// The least that a role needs. Accounts and regions are left open: they are not known to a configuration.
pub fn policy(wish: &Wish, role: Role) -> Json {
    let (tables, arn) = (Tables::new(&wish.prefix), format!("arn:{}", wish.partition));
    let indexed: Vec<String> =
        tables.shapes().into_iter().filter(|shape| shape.indexed).map(|shape| shape.name).collect();
    let arns = |one: Resource| match one {
        Queue => vec![format!("{arn}:sqs:*:*:{}", wish.queue)],
        DeadLetterQueue => vec![format!("{arn}:sqs:*:*:{}", wish.dead_letter_queue())],
        Table(kind) => {
            let name = format!("{}-{kind}", wish.prefix);
            let table = format!("{arn}:dynamodb:*:*:table/{name}");
            let index = (indexed.contains(&name) || PLANNED.contains(&kind)).then(|| format!("{table}/index/*"));
            std::iter::once(table).chain(index).collect()
        }
    };
    let mut statements: Vec<Json> = role
        .grants()
        .into_iter()
        .map(|(actions, resources)| {
            let resources: Vec<_> = resources.into_iter().flat_map(arns).collect();
            json!({ "Effect": "Allow", "Action": actions, "Resource": resources })
        })
        .collect();
    if let Some(key) = &wish.kms_key {
        statements.push(kms(key, &arn, &KMS, &["sqs", "dynamodb"]));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

const KMS: [&str; 6] =
    ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"];

/// What services do with a key of the clinic's own they do in the caller's name.
pub(super) fn kms(key: &str, arn: &str, actions: &[&str], services: &[&str]) -> Json {
    let via: Vec<_> = services.iter().map(|service| format!("{service}.*.amazonaws.com")).collect();
    let mut conditions = json!({ "StringLike": { "kms:ViaService": via } });
    let resource = match key.strip_prefix("alias/") {
        Some(_) => {
            conditions["ForAnyValue:StringEquals"] = json!({ "kms:ResourceAliases": key });
            format!("{arn}:kms:*:*:key/*")
        }
        None if key.starts_with("arn:") => key.to_owned(),
        None => format!("{arn}:kms:*:*:key/{key}"),
    };
    json!({ "Effect": "Allow", "Action": actions, "Resource": resource, "Condition": conditions })
}

/// Which of a wish's things a call concerned, by the name of the queue or table.
pub fn resource(wish: &Wish, name: &str) -> Option<Resource> {
    if name == wish.queue {
        return Some(Queue);
    }
    if name == wish.dead_letter_queue() {
        return Some(DeadLetterQueue);
    }
    let kind = name.strip_prefix(&format!("{}-", wish.prefix))?;
    ALL_TABLES.into_iter().chain(PLANNED).find(|one| *one == kind).map(Table)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::adapters::aws::dynamodb::tables::Shape;

    fn wish() -> Wish {
        Wish {
            queue: "relay".into(),
            prefix: "relay".into(),
            visibility: Duration::from_secs(60),
            kms_key: None,
            partition: "aws",
        }
    }

    #[test]
    fn every_table_is_known_by_its_kind_and_no_role_may_do_everything() {
        let shapes = Tables::new("relay").shapes();
        let known: Vec<_> = shapes.iter().map(|Shape { name, .. }| resource(&wish(), name)).collect();
        assert_eq!(known, ALL_TABLES.map(|kind| Some(Table(kind))));
        for role in Role::ALL {
            let text = policy(&wish(), role).to_string();
            assert!(!text.contains("\"*\"") && !text.contains(":*\""), "{text}");
        }
    }

    /// Whoever delivers drafts cannot touch what is synced, and whoever looks changes nothing.
    #[test]
    fn a_role_is_held_to_its_own() {
        for role in [Role::EncounterPoller, Role::DocumentPoller, Role::Inference, Role::Delivery, Role::Viewer] {
            for kind in ["link", "proof", "row", "letter"] {
                assert!(!role.may("dynamodb:UpdateItem", Table(kind)), "{role:?} on {kind}");
            }
        }
        assert!(!Role::EncounterPoller.may("dynamodb:UpdateItem", Table("document")));
        assert!(!Role::Viewer.may("dynamodb:GetItem", Table("token")));
        assert!(!Role::Inference.may("sqs:ReceiveMessage", Queue));
        let changes = |action: &str| {
            ["Update", "Put", "Delete", "Send", "Receive", "Change"].iter().any(|verb| action.contains(verb))
        };
        assert!(Role::Viewer.permissions().iter().all(|(action, _)| !changes(action)));
    }
}
