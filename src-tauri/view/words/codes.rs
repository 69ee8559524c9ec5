//! One sentence for each code.

use engine::error::Code;

/// One sentence for the front desk.
pub fn sentence(code: Code) -> &'static str {
    match code {
        Code::Malformed => {
            "A message could not be read. Nothing else waits for it, and the next full comparison finds what it announced."
        }
        Code::UnknownFirm => {
            "A change is for a clinic that this station does not serve. Another station may carry it over; if none serves the clinic, IT can add it."
        }
        Code::NotMapped => "A kind of record arrived that nobody has mapped. IT can add a mapping.",
        Code::RecordOpen => "Someone has this record open in FileMaker. We keep trying by ourselves.",
        Code::RecordChanged => "This record kept changing while we worked on it. We try again.",
        Code::DuplicateRows => {
            "FileMaker has more than one record with this key. IT must merge them; nothing was written."
        }
        Code::ValueRefused => "FileMaker did not accept a value. Please correct it in the portal.",
        Code::FieldReadOnly => "A mapped field cannot be changed in FileMaker. IT must correct the mapping.",
        Code::ValueUnmappable => {
            "A value does not fit its FileMaker field and was left out. Please look at the record."
        }
        Code::NotFound => "The chart system announced a record and does not have it.",
        Code::Gone => "The record was deleted in the chart system. The FileMaker record stays.",
        Code::SeveralMatches => {
            "The chart system has more than one record with this identifier. Please look at them; nothing was written."
        }
        Code::Unguarded => {
            "The chart system gives its records no versions, so nothing is written to it. Only IT can fix this."
        }
        Code::RowDeleted => "The clinic deleted this record in FileMaker. It is not made again.",
        Code::ParentMissing => "This waits for its patient's record.",
        Code::PatientMerged => "This patient was merged into another one in the chart system. Please look at both.",
        Code::Differs => "The clinic changed a field itself. Its value is kept.",
        Code::Conflict => "Both sides changed a field. Each keeps its own until you choose.",
        Code::Reshaped => "One side keeps a value in a form of its own. Please look whether anything is cut off.",
        Code::Looping => {
            "A field changes again and again after our writes, so it is written seldom now, and no more after half an hour. IT should look for a program that answers us."
        }
        Code::WentBack => {
            "One side shows an older state than before, like a restored copy. Nothing was written; please look at it."
        }
        Code::ManyDeleted => "Many records are gone at once. Nothing was flagged; please look before it goes on.",
        Code::ProbableDouble => {
            "This may be somebody who is in the chart system already. Nothing was made; write the right FHIR id into the FileMaker record, or correct it."
        }
        Code::KeyUnusable => {
            "The FHIR id of this FileMaker record cannot be one. Empty the field, or correct it; nothing was written."
        }
        Code::RowUnlinked => "This waits until its FileMaker record has the chart system's id.",
        Code::NotWatched => {
            "What the clinic changes here in FileMaker is not found: its layout lacks a field. chart-relay doctor says which."
        }
        Code::DeskClock => {
            "FileMaker's time stamps are not the host's, or the configured time zone is not its own, so the clinic's changes are found late, and none is lost. IT can mend it."
        }
        Code::RowsUnnamed => {
            "Some FileMaker records have no UUID, so what the clinic changes in them is not found. IT can fill the field."
        }
        Code::AwaitsModel => "This document waits to be read by a model.",
        Code::Unattached => {
            "This document belongs to no visit that is being watched. It is listed, and nothing is done with it."
        }
        Code::Unsorted => {
            "This document fits none of the categories that the clinic chose. It is listed, and nothing is done with it."
        }
        Code::LateRows => {
            "The EHR showed some changes later than we allow for. They were found, and we look further back from now on."
        }
        Code::MovedMeanwhile => "This changed after you saw it. Nothing was written; please look again.",
        Code::SignInRefused => "Our sign-in was refused. Only IT can fix this; changes wait here.",
        Code::AccessDenied => "Our account may not do this. Only IT can fix this; changes wait here.",
        Code::FileClosed => "The FileMaker file is closed. Changes wait here until it is open.",
        Code::LayoutMissing => "A FileMaker layout that we use is missing. Only IT can fix this; changes wait here.",
        Code::FieldMissing => {
            "A FileMaker field that we use is not on its layout. Only IT can fix this; changes wait here."
        }
        Code::ScriptMissing => "A FileMaker script that we use is missing. Only IT can fix this; changes wait here.",
        Code::LimitReached => "FileMaker's yearly data limit is used up. Only IT can fix this; changes wait here.",
        Code::LicenceExpired => "FileMaker Server's licence has expired. Only IT can fix this; changes wait here.",
        Code::HostFull => "FileMaker Server has no free place. We try again with fewer connections.",
        Code::Maintenance => "FileMaker Server is being maintained. Changes wait here.",
        Code::DiskFull => "The server's disk is full. Only IT can fix this; changes wait here.",
        Code::FileDamaged => "The FileMaker file is damaged or read-only. Only IT can fix this; changes wait here.",
        Code::Unreachable => "The server cannot be reached. Changes are kept.",
        Code::CertificateRefused => "The server's certificate is not trusted. Only IT can fix this; changes wait here.",
        Code::NotAnswering => "The server does not answer properly. Changes are kept.",
        Code::TimedOut => "The server took too long. We try again.",
        Code::Throttled => "The chart system asked us to slow down. It continues by itself.",
        Code::BadAnswer => "The server's answer could not be read. We try again.",
        Code::WebPage => {
            "A web page came in place of the server's answer, so something on the way answers for it. Nothing is lost; IT can look at the network."
        }
        Code::TooLarge => {
            "The server's answer is too large to be read whole. Nothing is lost; we ask for less at a time."
        }
        Code::EndlessPages => {
            "The server's pages lead in a circle, so its list never ends. Nothing counts as seen; we begin again."
        }
        Code::ForeignPage => {
            "The server names another server for its next page. We do not go there with our sign-in; only IT can fix this."
        }
        Code::ServerError => "The server reported an error of its own. We try again.",
        Code::Rejected => "The server or a setting does not accept what we ask. Only IT can fix this.",
        Code::OutcomeUnknown => "A write got no answer. We look whether it happened before doing anything else.",
        Code::UniquenessUnproven => {
            "Nothing is created until it is proven that FileMaker keeps keys unique: chart-relay doctor --write-probe."
        }
        Code::QueueMissing => "The shared queue is not there. Only IT can fix this; nothing new is taken in meanwhile.",
        Code::TableMissing => {
            "A table of the shared ledger is not there. Only IT can fix this; nothing is written meanwhile."
        }
        Code::CredentialsMissing => "No credentials for AWS were found. Only IT can fix this; changes wait.",
        Code::StationTaken => {
            "Another computer has this station's name. Give this one another name in [station], and start again."
        }
        Code::LeaseBusy => "Another station is at work on this record.",
        Code::LeaseLost => "Another station took this record over. Nothing was written by us.",
        Code::RetryBudgetSpent => "Too much fails just now; we try again more slowly.",
        Code::Unexpected => "Something unexpected happened. Nothing was lost.",
        Code::DatabaseBusy => "Another program has our database open. Close it and start again.",
        Code::DatabaseFull => "The disk is full. Nothing new is acknowledged; make room and start again.",
        Code::DatabaseReadOnly => "Our database cannot be written. Check the folder's permissions and start again.",
        Code::DatabaseForeign => "The database belongs to another program or a newer version of this one.",
        Code::DatabaseCorrupt => "Our database is damaged. Keep the file, restore a copy, and start again.",
        Code::DatabaseKey => {
            "The clinic key does not open this database. Restore the right one from its recovery sheet."
        }
        Code::DatabaseUnavailable => "Our database cannot be used. Nothing is acknowledged meanwhile.",
        Code::KeychainLocked => "The keychain is locked. Unlock it and start again.",
        Code::KeychainUnavailable => "No keychain can be reached. docs/secrets.md names the alternatives.",
        Code::NotSetUp => {
            "This clinic could not be set up at the start, so this station does not serve it. chart-relay doctor says why; \
             then start again."
        }
        Code::SecretMissing => {
            "A secret is missing, so this station does not serve the clinic: chart-relay secret set NAME, then start again."
        }
        Code::SyncRunning => "Everything is being checked already. The result is shown when it is done.",
        Code::Stopping => "Chart Relay is stopping. What waits is kept for the next start.",
        Code::TooMany => "That is too much at once. Nothing was done; choose fewer.",
        Code::NoLonger => "This has changed since it was shown and needs no attention now. Nothing was done.",
        Code::Nameless => "The chart has no patient's name for this.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_sentence_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let text = sentence(*code);
            assert!(text.ends_with('.'), "{code}");
            assert!(seen.insert(text), "{code} repeats another's sentence");
        }
    }
}
