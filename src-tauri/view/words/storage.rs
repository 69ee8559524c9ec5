//! The queue and the ledger that stations share: what is in the way, what stops by it, and what that means for the data.

use engine::{connection::Health, error::Code};
use jiff::{Timestamp, tz::TimeZone};

use super::{sentence, until};

/// In one line, for icon and card.
pub fn no_storage(code: Code, since: &str) -> String {
    match code {
        Code::Throttled => {
            format!("AWS has asked us to slow down since {since}. Changes are kept; it continues by itself.")
        }
        _ => format!("Can't reach the shared queue and ledger since {since}. Changes are kept."),
    }
}

/// What is in the way, with the permission that is missing.
pub fn storage(trouble: &Health, now: Timestamp, zone: &TimeZone) -> String {
    match trouble {
        Health::Away { since, code, .. } => no_storage(*code, &until(*since, now, zone)),
        Health::Stopped { code: Code::AccessDenied, subject: Some(subject), .. } => denied(subject),
        Health::Stopped { code: Code::SignInRefused, .. } => {
            "AWS refuses our credentials: expired, revoked, or this PC's clock is wrong. IT must renew them; it then goes on by itself, and changes wait.".to_owned()
        }
        Health::Stopped { code, .. } => format!("Shared queue and ledger: {}", sentence(*code)),
        Health::Unproven | Health::Up => String::new(),
    }
}

/// `sqs:ReceiveMessage on relay` as a sentence: the permission, and what stops without it.
pub fn denied(subject: &str) -> String {
    let (action, resource) = subject.split_once(" on ").unwrap_or((subject, ""));
    let resource = if resource.is_empty() { String::new() } else { format!(" on {resource}") };
    format!("AWS does not allow us {action}{resource}: {}. Only IT can fix this; nothing is lost.", what_stops(subject))
}

/// What does not work without a permission. The tables' names end in the kind of what they hold.
fn what_stops(subject: &str) -> &'static str {
    let (action, resource) = subject.split_once(" on ").unwrap_or((subject, ""));
    let table = resource.rsplit('-').next().unwrap_or_default();
    match (action, table) {
        ("sqs:ReceiveMessage", _) => "no changes are taken from the queue",
        ("sqs:DeleteMessage", _) => "what is done stays in the queue and is done again and again",
        ("sqs:ChangeMessageVisibility", _) => "what takes long is handed to a second station",
        ("sqs:SendMessage", _) => "what the polls find is not passed on",
        ("sqs:GetQueueAttributes", _) => "how much waits in the queue is not known, and nothing is called up to date",
        ("sqs:GetQueueUrl", _) => "the queue is not found at the next start",
        ("dynamodb:UpdateItem", "link") => "no record can be synced",
        ("dynamodb:UpdateItem", "row") => "new records of FileMaker's do not reach the chart system",
        ("dynamodb:UpdateItem", "cursor") => "nothing is polled",
        ("dynamodb:UpdateItem", "letter") => "messages that cannot be read are not set aside and come again",
        ("dynamodb:UpdateItem", "firm") => "records of a clinic that is new here cannot be begun",
        ("dynamodb:UpdateItem", "station") => "this station cannot join the others",
        ("dynamodb:UpdateItem", "proof") => "the proof of unique keys cannot be noted",
        ("dynamodb:UpdateItem", _) => "nothing can be noted there",
        ("dynamodb:DeleteItem", _) => "messages that were set aside cannot be sent again or thrown away",
        ("dynamodb:Query", "letter") => {
            "messages that were set aside are not counted, and nothing is called up to date"
        }
        ("dynamodb:Query", _) => "what waits is not found when its time has come, and nothing is called up to date",
        ("dynamodb:Scan", _) => "clinics are not found, and nothing is called up to date",
        ("dynamodb:GetItem", "proof") => "no row can be created",
        ("dynamodb:GetItem" | "dynamodb:BatchGetItem", _) => {
            "records cannot be looked at, and leases of stations that died are not seen"
        }
        ("dynamodb:DescribeTable" | "dynamodb:DescribeTimeToLive" | "dynamodb:DescribeContinuousBackups", _) => {
            "doctor cannot check the table; the sync goes on"
        }
        ("sts:AssumeRole", _) => "this worker has no credentials and does nothing",
        ("kms:Decrypt" | "kms:GenerateDataKey", _) => "what is encrypted with that key can be neither read nor written",
        _ => "what needs it does not happen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_named_with_what_stops() {
        assert_eq!(
            denied("sqs:ReceiveMessage on chart-relay"),
            "AWS does not allow us sqs:ReceiveMessage on chart-relay: no changes are taken from the queue. Only IT can fix this; nothing is lost."
        );
        assert!(denied("dynamodb:UpdateItem on chart-relay-link").contains("no record can be synced"));
        assert!(denied("dynamodb:UpdateItem on chart-relay-cursor").contains("nothing is polled"));
    }
}
