//! What AWS says, as a [`Fault`]. Messages are left out: they hold account numbers and may quote a request. A refused permission
//! is named as a policy would name it.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use engine::error::{Class, Code, Fault};

/// The fault of a call that needed the permission `action` on `subject` (a queue's or table's name).
pub(super) fn of<E>(error: &SdkError<E, HttpResponse>, action: &str, subject: &str) -> Fault
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let on = |class, code| Fault::new(class, code).on(format!("{action} on {subject}"));
    if !matches!(error, SdkError::ServiceError(_))
        && let Some(fault) = of_credentials(error)
    {
        return fault;
    }
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let name = service.err().code().unwrap_or_default();
            of_name(name, status, action, subject)
        }
        // What was sent may have arrived; each call is such that it may be sent again.
        SdkError::TimeoutError(_) => on(Class::Away, Code::TimedOut),
        SdkError::ResponseError(_) => on(Class::Retry, Code::BadAnswer),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => on(Class::Away, Code::TimedOut),
        SdkError::DispatchFailure(failure) if failure.is_io() => on(Class::Away, Code::Unreachable),
        SdkError::DispatchFailure(_) => on(Class::Away, Code::NotAnswering),
        // No region, no endpoint: nothing was sent.
        SdkError::ConstructionFailure(_) => on(Class::Stop, Code::NotSetUp),
        _ => on(Class::Retry, Code::Unexpected),
    }
}

/// The fault that AWS names, as an answer to a whole call or to one entry of a batch.
pub(super) fn of_name(name: &str, status: u16, action: &str, subject: &str) -> Fault {
    // The JSON protocol puts a namespace in front.
    let name = name.rsplit(['#', '.']).next().unwrap_or(name);
    let (class, code) = match name {
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "TooManyRequestsException"
        | "OverLimit"
        | "KmsThrottled"
        | "SlowDown" => (Class::Wait(None), Code::Throttled),
        "AccessDenied"
        | "AccessDeniedException"
        | "NotAuthorized"
        | "AuthorizationError"
        | "KmsAccessDenied"
        | "KmsDisabled"
        | "KmsInvalidState"
        | "KmsNotFound"
        | "KmsOptInRequired" => (Class::Stop, Code::AccessDenied),
        name if REFUSED_CREDENTIALS.contains(&name) => (Class::Stop, Code::SignInRefused),
        "QueueDoesNotExist" | "NonExistentQueue" | "QueueDeletedRecently" => (Class::Stop, Code::QueueMissing),
        // Also where a table is still being made, or was deleted.
        "ResourceNotFoundException" | "TableNotFoundException" => (Class::Stop, Code::TableMissing),
        // Somebody else's transaction was quicker.
        "TransactionConflictException" | "TransactionInProgressException" | "ReplicatedWriteConflictException" => {
            (Class::Retry, Code::ServerError)
        }
        _ => match status {
            429 => (Class::Wait(None), Code::Throttled),
            403 => (Class::Stop, Code::AccessDenied),
            502..=504 => (Class::Away, Code::NotAnswering),
            500.. => (Class::Retry, Code::ServerError),
            // Sent again it would be refused again.
            _ => (Class::Permanent, Code::Rejected),
        },
    };
    let name = if name.is_empty() { "without a name" } else { name };
    Fault::new(class, code).on(format!("{action} on {subject}")).vendor(format!("AWS {status} {name}"))
}

/// The names under which AWS refuses who we say we are.
const REFUSED_CREDENTIALS: [&str; 12] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// Whether a text, such as the body of an answer, holds one of those names.
pub(super) fn names_refused_credentials(text: &str) -> bool {
    REFUSED_CREDENTIALS.iter().any(|name| text.contains(name))
}

fn chain<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let mut all = vec![error];
    let mut next = error.source();
    while let Some(cause) = next {
        all.push(cause);
        next = cause.source();
    }
    all
}

/// An error and its causes in words: to look for names in, and not to be shown.
pub(super) fn words(error: &(impl Error + 'static)) -> String {
    chain(error).iter().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Where there were no credentials to sign with.
pub(super) fn of_credentials(error: &(dyn Error + 'static)) -> Option<Fault> {
    let missing = chain(error).into_iter().find(|error| error.is::<CredentialsError>())?;
    let words = chain(missing).iter().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let (class, code) = if names_refused_credentials(&words) {
        (Class::Stop, Code::SignInRefused)
    } else if words.contains("AccessDenied") {
        (Class::Stop, Code::AccessDenied)
    } else if words.contains("dispatch failure") || words.contains("timeout") {
        (Class::Away, Code::Unreachable)
    } else {
        (Class::Stop, Code::CredentialsMissing)
    };
    Some(Fault::new(class, code).on("sts:AssumeRole on the role of this worker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_permission_is_named_and_throttling_waits() {
        let fault = of_name("AccessDenied", 403, "sqs:ReceiveMessage", "relay-queue");
        assert_eq!((fault.class, fault.code), (Class::Stop, Code::AccessDenied));
        assert_eq!(fault.to_string(), "access-denied on sqs:ReceiveMessage on relay-queue: AWS 403 AccessDenied");
        for (name, status, class, code) in [
            ("com.amazonaws.dynamodb.v20120810#ThrottlingException", 400, Class::Wait(None), Code::Throttled),
            ("ProvisionedThroughputExceededException", 400, Class::Wait(None), Code::Throttled),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, Class::Stop, Code::QueueMissing),
            ("ResourceNotFoundException", 400, Class::Stop, Code::TableMissing),
            ("ExpiredTokenException", 400, Class::Stop, Code::SignInRefused),
            ("ValidationException", 400, Class::Permanent, Code::Rejected),
            ("InternalServerError", 500, Class::Retry, Code::ServerError),
            ("ServiceUnavailable", 503, Class::Away, Code::NotAnswering),
            ("", 403, Class::Stop, Code::AccessDenied),
        ] {
            let fault = of_name(name, status, "a:B", "c");
            assert_eq!((fault.class, fault.code), (class, code), "{name}");
        }
    }
}
