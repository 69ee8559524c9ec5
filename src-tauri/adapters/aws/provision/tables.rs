//! The tables: keys, indexes, encryption, recovery, tidying.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    PointInTimeRecoverySpecification, PointInTimeRecoveryStatus, Projection, ProjectionType, ScalarAttributeType,
    SseSpecification, SseType, TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use engine::error::{Code, Fault};

use super::{EXPIRES, Found, State, Wish};
use crate::adapters::aws::{
    Account,
    dynamodb::tables::{DUE, DUE_CARRIES, MARKED, MARKED_CARRIES, Shape},
    errors,
};

const COMPLETE: &str = "all that is required is given";

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().expect(COMPLETE)
}

fn keys(partition: &str, sort: Option<&str>) -> Vec<KeySchemaElement> {
    let key =
        |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect(COMPLETE);
    std::iter::once(key(partition, KeyType::Hash)).chain(sort.map(|sort| key(sort, KeyType::Range))).collect()
}

fn index(name: &str, sort: &str, carries: &[&str]) -> GlobalSecondaryIndex {
    let carries = carries.iter().map(ToString::to_string).collect();
    let projection =
        Projection::builder().projection_type(ProjectionType::Include).set_non_key_attributes(Some(carries)).build();
    let index = GlobalSecondaryIndex::builder().index_name(name).projection(projection);
    index.set_key_schema(Some(keys(name, Some(sort)))).build().expect(COMPLETE)
}

fn indexes(shape: &Shape) -> Vec<GlobalSecondaryIndex> {
    if shape.indexed {
        vec![index(DUE, "not_before", &DUE_CARRIES), index(MARKED, "id", &MARKED_CARRIES)]
    } else {
        Vec::new()
    }
}

fn attributes(shape: &Shape) -> Vec<AttributeDefinition> {
    let mut all = vec![attribute(shape.partition, ScalarAttributeType::S)];
    all.extend(shape.sort.map(|sort| attribute(sort, ScalarAttributeType::S)));
    if shape.indexed {
        all.push(attribute(DUE, ScalarAttributeType::S));
        all.push(attribute("not_before", ScalarAttributeType::N));
        all.push(attribute(MARKED, ScalarAttributeType::S));
    }
    all
}

pub(super) async fn table(
    account: &Account,
    wish: &Wish,
    shape: &Shape,
    change: bool,
    found: &mut Vec<Found>,
) -> Result<(), Fault> {
    let client = account.dynamodb();
    let name = &shape.name;
    let what = format!("table {name}");
    let state = match described(account, name).await? {
        None if !change => {
            found.push(Found { what, state: State::Missing });
            return Ok(());
        }
        None => {
            let indexes = indexes(shape);
            let call = client
                .create_table()
                .table_name(name)
                .billing_mode(BillingMode::PayPerRequest)
                .set_key_schema(Some(keys(shape.partition, shape.sort)))
                .set_attribute_definitions(Some(attributes(shape)))
                .set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes))
                .set_sse_specification(wish.kms_key.as_deref().map(encrypted))
                .deletion_protection_enabled(true);
            call.send().await.map_err(|error| errors::of(&error, "dynamodb:CreateTable", name))?;
            ready(account, name).await?;
            State::Created
        }
        Some(description) => {
            let settings = differences(shape, &description);
            // Keys of a table cannot be changed; an index that is missing is for a person to add.
            if !settings.is_empty() {
                State::Differs { settings, mended: false }
            } else if wish.kms_key.as_deref().is_none_or(|key| is_encrypted(&description, key)) {
                State::Right
            } else {
                if let Some(key) = wish.kms_key.as_deref().filter(|_| change) {
                    let call = client.update_table().table_name(name).sse_specification(encrypted(key));
                    call.send().await.map_err(|error| errors::of(&error, "dynamodb:UpdateTable", name))?;
                    ready(account, name).await?;
                }
                State::Differs { settings: vec!["SSESpecification".to_owned()], mended: change }
            }
        }
    };
    found.push(Found { what, state });
    if shape.recoverable {
        recovery(account, name, change, found).await?;
    }
    if shape.tidied {
        ttl(account, name, change, found).await?;
    }
    Ok(())
}

/// Without this DynamoDB encrypts with a key of its own; it cannot be switched off.
fn encrypted(key: &str) -> SseSpecification {
    SseSpecification::builder().enabled(true).sse_type(SseType::Kms).kms_master_key_id(key).build()
}

/// AWS tells the ARN of the key. Which one an alias means is not asked: any key of the clinic's own will do then.
fn is_encrypted(table: &TableDescription, key: &str) -> bool {
    let arn = table.sse_description().and_then(|sse| sse.kms_master_key_arn()).unwrap_or_default();
    let is_kms = table.sse_description().and_then(|sse| sse.sse_type()) == Some(&SseType::Kms);
    is_kms && (key.contains("alias/") || arn.ends_with(key))
}

/// What a sweep cannot bring back can be had as it was at any second of the last 35 days.
async fn recovery(account: &Account, name: &str, change: bool, found: &mut Vec<Found>) -> Result<(), Fault> {
    let client = account.dynamodb();
    let answer = client.describe_continuous_backups().table_name(name).send().await;
    let answer = answer.map_err(|error| errors::of(&error, "dynamodb:DescribeContinuousBackups", name))?;
    let on = answer
        .continuous_backups_description
        .and_then(|backups| backups.point_in_time_recovery_description)
        .is_some_and(|recovery| recovery.point_in_time_recovery_status == Some(PointInTimeRecoveryStatus::Enabled));
    let state = match (on, change) {
        (true, _) => State::Right,
        (false, false) => State::Missing,
        (false, true) => {
            let on = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true);
            let call = client.update_continuous_backups().table_name(name);
            let call = call.point_in_time_recovery_specification(on.build().expect(COMPLETE)).send().await;
            call.map_err(|error| errors::of(&error, "dynamodb:UpdateContinuousBackups", name))?;
            State::Created
        }
    };
    found.push(Found { what: format!("point-in-time recovery of table {name}"), state });
    Ok(())
}

async fn described(account: &Account, name: &str) -> Result<Option<TableDescription>, Fault> {
    match account.dynamodb().describe_table().table_name(name).send().await {
        Ok(answer) => Ok(answer.table),
        Err(error) => match errors::of(&error, "dynamodb:DescribeTable", name) {
            fault if fault.code == Code::TableMissing => Ok(None),
            fault => Err(fault),
        },
    }
}

/// Waits until a new table can be used.
async fn ready(account: &Account, name: &str) -> Result<(), Fault> {
    loop {
        let table = described(account, name).await?;
        if table.is_some_and(|table| table.table_status == Some(TableStatus::Active)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn differences(shape: &Shape, table: &TableDescription) -> Vec<String> {
    let mut wrong = Vec::new();
    if table.key_schema() != keys(shape.partition, shape.sort) {
        wrong.push("KeySchema".to_owned());
    }
    for wished in indexes(shape) {
        let there =
            table.global_secondary_indexes().iter().find(|index| index.index_name() == Some(wished.index_name()));
        if there.is_none_or(|there| there.key_schema() != wished.key_schema()) {
            wrong.push(format!("index {}", wished.index_name()));
        }
    }
    wrong
}

async fn ttl(account: &Account, name: &str, change: bool, found: &mut Vec<Found>) -> Result<(), Fault> {
    let client = account.dynamodb();
    let answer = client.describe_time_to_live().table_name(name).send().await;
    let answer = answer.map_err(|error| errors::of(&error, "dynamodb:DescribeTimeToLive", name))?;
    let on = answer.time_to_live_description.as_ref().is_some_and(|ttl| {
        matches!(ttl.time_to_live_status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling))
            && ttl.attribute_name() == Some(EXPIRES)
    });
    let what = format!("TTL of table {name}");
    let state = match (on, change) {
        (true, _) => State::Right,
        (false, false) => State::Missing,
        (false, true) => {
            let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES).build().expect(COMPLETE);
            let call = client.update_time_to_live().table_name(name).time_to_live_specification(ttl);
            call.send().await.map_err(|error| errors::of(&error, "dynamodb:UpdateTimeToLive", name))?;
            State::Created
        }
    };
    found.push(Found { what, state });
    Ok(())
}
