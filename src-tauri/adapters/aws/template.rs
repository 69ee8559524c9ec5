//! What `provision` would make, for people who make it with tools of their own: a CloudFormation template, and the policies that
//! the roles need.

use serde_json::{Map, Value as Json, json};

use super::{
    dynamodb::tables::{DUE, DUE_CARRIES, MARKED, MARKED_CARRIES, Tables},
    provision::{DEAD_LETTER_RETENTION, EXPIRES, RECEIVES, Wish},
};

/// Who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A station: it takes work from the queue, puts hints into it, and keeps the ledger.
    Sync,
    /// Whoever only looks: lists, figures, `doctor`.
    Viewer,
}

impl Role {
    pub const ALL: [Role; 2] = [Role::Sync, Role::Viewer];

    pub fn name(self) -> &'static str {
        match self {
            Role::Sync => "sync",
            Role::Viewer => "viewer",
        }
    }

    pub fn sqs_actions(self) -> &'static [&'static str] {
        match self {
            Role::Sync => &[
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:GetQueueUrl",
                "sqs:ReceiveMessage",
                "sqs:SendMessage",
            ],
            Role::Viewer => &["sqs:GetQueueAttributes", "sqs:GetQueueUrl"],
        }
    }

    /// It is emptied, and nothing is put into it.
    pub fn dead_letter_actions(self) -> Vec<&'static str> {
        let never = ["sqs:SendMessage", "sqs:ChangeMessageVisibility"];
        self.sqs_actions().iter().copied().filter(|action| !never.contains(action)).collect()
    }

    pub fn dynamodb_actions(self) -> &'static [&'static str] {
        match self {
            Role::Sync => &[
                "dynamodb:BatchGetItem",
                "dynamodb:DeleteItem",
                "dynamodb:DescribeTable",
                "dynamodb:DescribeTimeToLive",
                "dynamodb:GetItem",
                "dynamodb:Query",
                "dynamodb:Scan",
                "dynamodb:UpdateItem",
            ],
            Role::Viewer => &[
                "dynamodb:BatchGetItem",
                "dynamodb:DescribeTable",
                "dynamodb:DescribeTimeToLive",
                "dynamodb:GetItem",
                "dynamodb:Query",
                "dynamodb:Scan",
            ],
        }
    }
}

/// The least that a role needs, as IAM writes it. Deleting is for letters and names of stations alone, scanning for the lists of
/// firms and stations.
pub fn policy(wish: &Wish, role: Role) -> Json {
    let tables = Tables::new(&wish.prefix);
    let table = |name: &str| format!("arn:aws:dynamodb:*:*:table/{name}");
    let queue = |name: &str| format!("arn:aws:sqs:*:*:{name}");
    let all = tables.shapes().into_iter().flat_map(|shape| {
        let indexes = shape.indexed.then(|| format!("{}/index/*", table(&shape.name)));
        std::iter::once(table(&shape.name)).chain(indexes)
    });
    let narrow = ["dynamodb:DeleteItem", "dynamodb:Scan"];
    let wide: Vec<_> = role.dynamodb_actions().iter().filter(|action| !narrow.contains(*action)).collect();
    let mut statements = vec![
        json!({ "Sid": "Queue", "Effect": "Allow", "Action": role.sqs_actions(), "Resource": queue(&wish.queue) }),
        json!({
            "Sid": "DeadLetterQueue", "Effect": "Allow", "Action": role.dead_letter_actions(),
            "Resource": queue(&wish.dead_letter_queue())
        }),
        json!({ "Sid": "Ledger", "Effect": "Allow", "Action": wide, "Resource": all.collect::<Vec<_>>() }),
        json!({
            "Sid": "Lists", "Effect": "Allow", "Action": "dynamodb:Scan",
            "Resource": [table(&tables.firm), table(&tables.station)]
        }),
    ];
    if role.dynamodb_actions().contains(&"dynamodb:DeleteItem") {
        statements.push(json!({
            "Sid": "Deletes", "Effect": "Allow", "Action": "dynamodb:DeleteItem",
            "Resource": [table(&tables.letter), table(&tables.station)]
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn index(name: &str, sort: &str, carries: &[&str]) -> Json {
    json!({
        "IndexName": name,
        "KeySchema": [{ "AttributeName": name, "KeyType": "HASH" }, { "AttributeName": sort, "KeyType": "RANGE" }],
        "Projection": { "ProjectionType": "INCLUDE", "NonKeyAttributes": carries }
    })
}

/// The same queues and tables as `provision` makes. Numbers and names of AWS accounts are not in it.
pub fn cloudformation(wish: &Wish) -> Json {
    let mut resources = Map::new();
    let fifo = |settings: &mut Json| {
        if wish.is_fifo() {
            settings["FifoQueue"] = true.into();
            settings["ContentBasedDeduplication"] = false.into();
        }
    };
    let mut dead = json!({
        "QueueName": wish.dead_letter_queue(),
        "MessageRetentionPeriod": DEAD_LETTER_RETENTION.as_secs(),
        "SqsManagedSseEnabled": true
    });
    fifo(&mut dead);
    let mut main = json!({
        "QueueName": wish.queue,
        "RedrivePolicy": {
            "deadLetterTargetArn": { "Fn::GetAtt": ["DeadLetterQueue", "Arn"] }, "maxReceiveCount": RECEIVES
        }
    });
    for (name, value) in wish.queue_settings() {
        let plain: Json = serde_json::from_str(&value).unwrap_or_else(|_| value.clone().into());
        main[name.as_str()] = plain;
    }
    fifo(&mut main);
    for (name, settings) in [("DeadLetterQueue", dead), ("Queue", main)] {
        resources.insert(name.to_owned(), json!({ "Type": "AWS::SQS::Queue", "Properties": settings }));
        let statement = json!({
            "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "sqs:*",
            "Resource": { "Fn::GetAtt": [name, "Arn"] }, "Condition": { "Bool": { "aws:SecureTransport": "false" } }
        });
        let policy = json!({
            "Type": "AWS::SQS::QueuePolicy",
            "Properties": {
                "Queues": [{ "Ref": name }], "PolicyDocument": { "Version": "2012-10-17", "Statement": [statement] }
            }
        });
        resources.insert(format!("{name}Policy"), policy);
    }
    for shape in Tables::new(&wish.prefix).shapes() {
        let mut attributes = vec![json!({ "AttributeName": shape.partition, "AttributeType": "S" })];
        let mut keys = vec![json!({ "AttributeName": shape.partition, "KeyType": "HASH" })];
        if let Some(sort) = shape.sort {
            attributes.push(json!({ "AttributeName": sort, "AttributeType": "S" }));
            keys.push(json!({ "AttributeName": sort, "KeyType": "RANGE" }));
        }
        let mut settings = json!({
            "TableName": shape.name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": keys,
            "DeletionProtectionEnabled": true,
            "TimeToLiveSpecification": { "AttributeName": EXPIRES, "Enabled": true }
        });
        if shape.indexed {
            for (name, kind) in [(DUE, "S"), ("not_before", "N"), (MARKED, "S")] {
                attributes.push(json!({ "AttributeName": name, "AttributeType": kind }));
            }
            settings["GlobalSecondaryIndexes"] =
                json!([index(DUE, "not_before", &DUE_CARRIES), index(MARKED, "id", &MARKED_CARRIES)]);
        }
        settings["AttributeDefinitions"] = attributes.into();
        let kind = shape.name.rsplit('-').next().unwrap_or_default();
        let mut letters = kind.chars();
        let title = letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str());
        let table = json!({ "Type": "AWS::DynamoDB::Table", "DeletionPolicy": "Retain", "Properties": settings });
        resources.insert(format!("{}Table", title.unwrap_or_default()), table);
    }
    json!({ "AWSTemplateFormatVersion": "2010-09-09", "Description": "What stations of Chart Relay share", "Resources": resources })
}
