//! What `provision` makes, for people who make it with tools of their own: a CloudFormation template.

use serde_json::{Map, Value as Json, json};

use super::{
    dynamodb::tables::{DUE, DUE_CARRIES, MARKED, MARKED_CARRIES, Tables},
    provision::{EXPIRES, RECEIVES, Wish},
    roles::{self, Role},
};

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
    let mut dead = json!({ "QueueName": wish.dead_letter_queue() });
    fifo(&mut dead);
    let mut main = json!({
        "QueueName": wish.queue,
        "RedrivePolicy": {
            "deadLetterTargetArn": { "Fn::GetAtt": ["DeadLetterQueue", "Arn"] }, "maxReceiveCount": RECEIVES
        }
    });
    for (queue, settings) in [(&mut main, wish.queue_settings()), (&mut dead, wish.dead_letter_settings())] {
        for (name, value) in settings {
            let plain: Json = serde_json::from_str(&value).unwrap_or_else(|_| value.clone().into());
            queue[name.as_str()] = plain;
        }
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
            "DeletionProtectionEnabled": true
        });
        if shape.tidied {
            settings["TimeToLiveSpecification"] = json!({ "AttributeName": EXPIRES, "Enabled": true });
        }
        if shape.recoverable {
            settings["PointInTimeRecoverySpecification"] = json!({ "PointInTimeRecoveryEnabled": true });
        }
        if let Some(key) = &wish.kms_key {
            settings["SSESpecification"] = json!({ "SSEEnabled": true, "SSEType": "KMS", "KMSMasterKeyId": key });
        }
        if shape.indexed {
            for (name, kind) in [(DUE, "S"), ("not_before", "N"), (MARKED, "S")] {
                attributes.push(json!({ "AttributeName": name, "AttributeType": kind }));
            }
            settings["GlobalSecondaryIndexes"] =
                json!([index(DUE, "not_before", &DUE_CARRIES), index(MARKED, "id", &MARKED_CARRIES)]);
        }
        settings["AttributeDefinitions"] = attributes.into();
        let kind = shape.name.rsplit('-').next().unwrap_or_default();
        let table = json!({ "Type": "AWS::DynamoDB::Table", "DeletionPolicy": "Retain", "Properties": settings });
        resources.insert(format!("{}Table", capitalised(kind)), table);
    }
    for role in Role::ALL {
        let name: String = role.name().split('-').map(capitalised).collect();
        let policy = json!({
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {
                "ManagedPolicyName": roles::policy_name(wish, role),
                "Path": roles::PATH,
                "Description": roles::DESCRIPTION,
                "PolicyDocument": roles::policy(wish, role)
            }
        });
        resources.insert(format!("{name}RolePolicy"), policy);
    }
    json!({ "AWSTemplateFormatVersion": "2010-09-09", "Description": "What stations of Chart Relay share", "Resources": resources })
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}
