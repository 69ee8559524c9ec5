//! What every answer, and every missing one, means: FileMaker's codes (Claris help, "FileMaker error codes"; fact sheet 8.3)
//! in one table. The code decides; the HTTP status only where there is no code, since which status goes with which code is
//! written down nowhere.

use std::time::Duration;

use engine::error::{Class, Code, Fault};

use super::client::{Answer, Failure};
use crate::adapters::transport::NoAnswer;

/// How long to leave a host that is at its capacity alone: sessions end within seconds, calls within fractions of one.
const HOST_FULL: Duration = Duration::from_secs(5);

/// "No records match the request", "empty result", and "record is missing", which servers have been seen to say of a table
/// without a row. At whatever HTTP status; not to be taken for HTTP's own 401.
const NONE: [i64; 3] = [401, 8, 101];

/// What a call is for: the same code can mean another thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    SignIn,
    /// Changes nothing.
    Read,
    /// Changes nothing, and an answer of "none" is one.
    Find,
    Create,
    Edit,
    Delete,
}

impl Kind {
    /// If no answer comes, it may have been carried out, or may still be.
    pub(super) fn writes(self) -> bool {
        matches!(self, Kind::Create | Kind::Edit | Kind::Delete)
    }
}

/// A setting that cannot work.
pub(super) fn setting(name: &str, what: &str) -> Fault {
    Fault::new(Class::Stop, Code::Rejected).on(name).vendor(what)
}

/// After `close`.
pub(super) fn closed() -> Fault {
    Fault::new(Class::Away, Code::NotAnswering).vendor("connection closed")
}

/// An answer that says "done" and does not say what the documentation promises.
pub(super) fn bad_answer(kind: Kind) -> Fault {
    let vendor = "answer without its content";
    if kind.writes() {
        Fault::new(Class::Unknown, Code::OutcomeUnknown).vendor(vendor)
    } else {
        Fault::new(Class::Retry, Code::BadAnswer).vendor(vendor)
    }
}

/// Our own task came to grief, perhaps after it had sent its write.
pub(super) fn broken(kind: Kind) -> Fault {
    let (class, code) =
        if kind.writes() { (Class::Unknown, Code::OutcomeUnknown) } else { (Class::Retry, Code::Unexpected) };
    Fault::new(class, code)
}

/// An answer that says "done", or what to do about one that does not.
pub(super) fn judge(
    kind: Kind,
    sent: Result<Answer, Failure>,
    database: &str,
    layout: Option<&str>,
) -> Result<Answer, Fault> {
    match sent {
        Ok(answer) if answer.code == 0 || (kind == Kind::Find && NONE.contains(&answer.code)) => Ok(answer),
        Ok(answer) => {
            let (class, code) = meaning(kind, answer.code);
            let subject = if concerns_file(answer.code) { database } else { layout.unwrap_or(database) };
            Err(Fault::new(class, code).on(subject).vendor(format!("FileMaker {}", answer.code)))
        }
        Err(Failure::NoAnswer(why)) => Err(no_answer(kind, why)),
        Err(Failure::NotJson(status)) => Err(not_json(kind, status)),
    }
}

fn no_answer(kind: Kind, why: NoAnswer) -> Fault {
    if kind.writes() && why.may_have_arrived() {
        return Fault::new(Class::Unknown, Code::OutcomeUnknown).vendor("no answer");
    }
    match why {
        // A host that is pausing for its backup lets every call run into its time-out: that is not the record's fault.
        NoAnswer::TimedOut => Fault::new(Class::Away, Code::TimedOut),
        NoAnswer::HungUp => Fault::new(Class::Away, Code::NotAnswering),
        NoAnswer::Unreachable | NoAnswer::CertificateRefused | NoAnswer::ConnectTimedOut => why.fault(),
    }
}

/// An answer by somebody before FileMaker's engine: its web server, a proxy.
fn not_json(kind: Kind, status: u16) -> Fault {
    let (class, code) = match status {
        // It got past the one who answers, and nobody knows how far; or the good news was cut off.
        200..=299 | 408 | 500..=599 if kind.writes() => (Class::Unknown, Code::OutcomeUnknown),
        // We follow nobody: a redirect would carry the token and patient data to wherever it points.
        300..=399 => (Class::Stop, Code::BadAnswer),
        401 | 407 => (Class::Stop, Code::SignInRefused),
        403 | 405 => (Class::Stop, Code::AccessDenied),
        413 => (Class::Permanent, Code::ValueRefused),
        429 => (Class::Wait(Some(HOST_FULL)), Code::Throttled),
        _ => (Class::Away, Code::NotAnswering),
    };
    Fault::new(class, code).vendor(format!("HTTP {status}"))
}

/// Codes about the file, the account or the host, whatever the layout.
fn concerns_file(code: i64) -> bool {
    matches!(code, 10 | 100 | 210..=214 | 300 | 303 | 800..=899 | 950..=959 | 1626..=1635 | 1700..=1711)
}

/// The table. 401 and 8 of a find are no errors and do not come here.
fn meaning(kind: Kind, code: i64) -> (Class, Code) {
    match code {
        // Scripts are not run by us; a file's own may be.
        3 | 104 => (Class::Stop, Code::ScriptMissing),
        9 | 202 | 204 => (Class::Stop, Code::AccessDenied),
        // A proxy that takes the header away looks like this.
        10 | 1702 | 1705 => (Class::Stop, Code::SignInRefused),
        16 | 307 | 813 => (Class::Retry, Code::ServerError),

        100 => (Class::Stop, Code::FileClosed),
        // Deleted in the meantime: reading again tells.
        101 => (Class::Stale, Code::RecordChanged),
        102 | 111 => (Class::Stop, Code::FieldMissing),
        105 | 106 => (Class::Stop, Code::LayoutMissing),
        103 | 110 | 402 | 404 | 407..=417 => (Class::Stop, Code::Rejected),
        112 if kind.writes() => (Class::Unknown, Code::OutcomeUnknown),
        112 | 952 => (Class::Away, Code::NotAnswering),

        // A privilege set may lock single records (a signed note); that must not stop the others.
        200 if kind == Kind::Edit => (Class::Permanent, Code::AccessDenied),
        200 => (Class::Stop, Code::AccessDenied),
        201 => (Class::Permanent, Code::FieldReadOnly),
        // Asking again would lock the account.
        210..=212 | 214 => (Class::Stop, Code::SignInRefused),
        203 | 205..=209 | 213 | 215..=299 => (Class::Stop, Code::AccessDenied),

        301 => (Class::Wait(None), Code::RecordOpen),
        // Somebody is changing the file, a table or the layout.
        300 | 302..=304 | 870 => (Class::Away, Code::Maintenance),
        // 504 on our unique key: somebody made the row since we looked.
        306 | 504 | 512 => (Class::Stale, Code::RecordChanged),
        500..=503 | 505..=511 | 513 => (Class::Permanent, Code::ValueRefused),

        802 | 803 => (Class::Stop, Code::FileClosed),
        804 | 825 => (Class::Stop, Code::AccessDenied),
        805 => (Class::Stop, Code::FileDamaged),
        809 => (Class::Stop, Code::DiskFull),
        812 | 956 => (Class::Wait(Some(HOST_FULL)), Code::HostFull),
        // Being closed, or its host forced everybody out: either comes back, or signing in says 802.
        820 | 821 | 1701 => (Class::Away, Code::Maintenance),

        951 if kind.writes() => (Class::Unknown, Code::OutcomeUnknown),
        953 => (Class::Stop, Code::LimitReached),
        955 | 959 | 1200..=1225 | 1700 | 1704 => (Class::Stop, Code::Rejected),
        400 | 401 | 957 | 958 | 960 | 1706..=1708 | 1710 => (Class::Permanent, Code::Rejected),
        1626..=1635 => (Class::Away, Code::Unreachable),
        1711 => (Class::Stop, Code::LicenceExpired),

        // FileMaker finished with the call and says that it failed; a new attempt reads both sides first.
        _ => (Class::Retry, Code::ServerError),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn of(kind: Kind, code: i64) -> Fault {
        let answer = Answer { code, response: Json::Null, host_time: None };
        judge(kind, Ok(answer), "Clinic", Some("API_Patient")).err().unwrap()
    }

    #[test]
    fn every_code_of_the_sheet_has_its_class() {
        use {Class::*, Kind::*};
        let soon = Wait(Some(HOST_FULL));
        for (kind, code, class, word) in [
            (Read, 3, Stop, Code::ScriptMissing),
            (Read, 9, Stop, Code::AccessDenied),
            (Read, 10, Stop, Code::SignInRefused),
            (Read, 16, Retry, Code::ServerError),
            (Read, 100, Stop, Code::FileClosed),
            (Edit, 101, Stale, Code::RecordChanged),
            (Create, 102, Stop, Code::FieldMissing),
            (Read, 103, Stop, Code::Rejected),
            (Read, 104, Stop, Code::ScriptMissing),
            (Read, 105, Stop, Code::LayoutMissing),
            (Read, 106, Stop, Code::LayoutMissing),
            (Read, 110, Stop, Code::Rejected),
            (Edit, 111, Stop, Code::FieldMissing),
            (Read, 112, Away, Code::NotAnswering),
            (Create, 112, Unknown, Code::OutcomeUnknown),
            (Edit, 200, Permanent, Code::AccessDenied),
            (Create, 200, Stop, Code::AccessDenied),
            (Edit, 201, Permanent, Code::FieldReadOnly),
            (Edit, 202, Stop, Code::AccessDenied),
            (SignIn, 210, Stop, Code::SignInRefused),
            (SignIn, 211, Stop, Code::SignInRefused),
            (SignIn, 212, Stop, Code::SignInRefused),
            (SignIn, 214, Stop, Code::SignInRefused),
            (Read, 300, Away, Code::Maintenance),
            (Edit, 301, Wait(None), Code::RecordOpen),
            (Edit, 302, Away, Code::Maintenance),
            (Edit, 303, Away, Code::Maintenance),
            (Edit, 304, Away, Code::Maintenance),
            (Edit, 306, Stale, Code::RecordChanged),
            (Edit, 307, Retry, Code::ServerError),
            (Read, 400, Permanent, Code::Rejected),
            (Read, 404, Stop, Code::Rejected),
            (Read, 417, Stop, Code::Rejected),
            (Create, 500, Permanent, Code::ValueRefused),
            (Create, 503, Permanent, Code::ValueRefused),
            (Create, 504, Stale, Code::RecordChanged),
            (Create, 509, Permanent, Code::ValueRefused),
            (Create, 511, Permanent, Code::ValueRefused),
            (Edit, 512, Stale, Code::RecordChanged),
            (Edit, 513, Permanent, Code::ValueRefused),
            (SignIn, 802, Stop, Code::FileClosed),
            (Edit, 803, Stop, Code::FileClosed),
            (Edit, 804, Stop, Code::AccessDenied),
            (Edit, 805, Stop, Code::FileDamaged),
            (Edit, 809, Stop, Code::DiskFull),
            (SignIn, 812, soon, Code::HostFull),
            (Edit, 813, Retry, Code::ServerError),
            (Edit, 820, Away, Code::Maintenance),
            (Read, 821, Away, Code::Maintenance),
            (Read, 825, Stop, Code::AccessDenied),
            (Read, 870, Away, Code::Maintenance),
            (Read, 951, Retry, Code::ServerError),
            (Create, 951, Unknown, Code::OutcomeUnknown),
            (Read, 952, Away, Code::NotAnswering),
            (Read, 953, Stop, Code::LimitReached),
            (Read, 955, Stop, Code::Rejected),
            (SignIn, 956, soon, Code::HostFull),
            (Read, 958, Permanent, Code::Rejected),
            (Read, 959, Stop, Code::Rejected),
            (Read, 960, Permanent, Code::Rejected),
            (Read, 1204, Stop, Code::Rejected),
            (Read, 1631, Away, Code::Unreachable),
            (Read, 1700, Stop, Code::Rejected),
            (Read, 1701, Away, Code::Maintenance),
            (Read, 1702, Stop, Code::SignInRefused),
            (Read, 1704, Stop, Code::Rejected),
            (Read, 1708, Permanent, Code::Rejected),
            (Create, 1710, Permanent, Code::Rejected),
            (Read, 1711, Stop, Code::LicenceExpired),
            (Create, 718, Retry, Code::ServerError),
        ] {
            let fault = of(kind, code);
            assert_eq!((fault.class, fault.code), (class, word), "{code} on {kind:?}");
            assert_eq!(fault.vendor, Some(format!("FileMaker {code}")));
        }
    }

    #[test]
    fn the_subject_is_the_layout_or_the_file() {
        assert_eq!(of(Kind::Create, 102).subject.as_deref(), Some("API_Patient"));
        assert_eq!(of(Kind::Create, 802).subject.as_deref(), Some("Clinic"));
    }

    #[test]
    fn without_a_whole_answer_a_write_is_unknown_and_a_read_is_not() {
        use {Class::*, NoAnswer::*};
        for (why, read, write) in [
            (NoAnswer::Unreachable, Away, Away),
            (ConnectTimedOut, Away, Away),
            (CertificateRefused, Stop, Stop),
            (TimedOut, Away, Unknown),
            (HungUp, Away, Unknown),
        ] {
            assert_eq!(no_answer(Kind::Read, why).class, read, "{why:?}");
            assert_eq!(no_answer(Kind::Create, why).class, write, "{why:?}");
        }
        for (status, read, write) in [
            (200, Away, Unknown),
            (302, Stop, Stop),
            (401, Stop, Stop),
            (403, Stop, Stop),
            (404, Away, Away),
            (429, Wait(Some(HOST_FULL)), Wait(Some(HOST_FULL))),
            (500, Away, Unknown),
            (502, Away, Unknown),
            (503, Away, Unknown),
        ] {
            assert_eq!(not_json(Kind::Read, status).class, read, "{status}");
            assert_eq!(not_json(Kind::Edit, status).class, write, "{status}");
        }
    }
}
