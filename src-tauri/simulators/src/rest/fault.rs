//! Faults that are injected into single calls: which calls, how often, and what goes wrong.
//!
//! What is wrong with the server as such (no 410, no type history, a stale cache) is not a fault but a setting of its own.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::reply::Reply;

/// What a call asks of the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Interaction {
    /// A request for a token.
    Token,
    /// `GET metadata` and `.well-known/smart-configuration`.
    Capabilities,
    /// `GET Type/id`.
    Read,
    /// `GET Type/id/_history/version`.
    VRead,
    /// `GET Type/id/_history`.
    InstanceHistory,
    /// `GET Type/_history`.
    TypeHistory,
    /// The first page of a search.
    Search,
    /// A further page of a search or a history.
    NextPage,
    /// `POST Type`, conditional or not.
    Create,
    /// `PUT Type/id` or `PUT Type?criteria`.
    Update,
    /// `DELETE Type/id`.
    Delete,
    /// `GET Subscription/id/$get-ws-binding-token`.
    BindingToken,
    /// `POST` of a batch; each entry is also counted as what it is.
    Batch,
    /// `GET` of a pre-signed address, at the door for files.
    Download,
    /// Anything else.
    Unknown,
}

/// Which calls a fault is for. [`Matching::any`] is all of them; each method narrows it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Matching {
    interaction: Option<Interaction>,
    firm: Option<String>,
    resource_type: Option<String>,
    id: Option<String>,
}

impl Matching {
    /// Every call.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Only this interaction.
    #[must_use]
    pub fn only(interaction: Interaction) -> Self {
        Self { interaction: Some(interaction), ..Self::default() }
    }

    /// Only calls of this firm, on a server that serves several.
    #[must_use]
    pub fn firm(mut self, name: &str) -> Self {
        self.firm = Some(name.to_owned());
        self
    }

    /// Only calls about this resource type.
    #[must_use]
    pub fn resource_type(mut self, name: &str) -> Self {
        self.resource_type = Some(name.to_owned());
        self
    }

    /// Only calls that name this id.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    fn covers(
        &self,
        interaction: Interaction,
        firm: Option<&str>,
        resource_type: Option<&str>,
        id: Option<&str>,
    ) -> bool {
        self.firm.as_deref().is_none_or(|wanted| Some(wanted) == firm)
            && self.interaction.is_none_or(|wanted| wanted == interaction)
            && self.resource_type.as_deref().is_none_or(|wanted| Some(wanted) == resource_type)
            && self.id.as_deref().is_none_or(|wanted| Some(wanted) == id)
    }
}

/// How often a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Times {
    /// The next so many matching calls.
    Next(u32),
    /// Every matching call, until the fault is cleared.
    Always,
}

/// A wait in real time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delay {
    /// This long.
    For(Duration),
    /// Until `release` of the control.
    UntilReleased,
}

/// A wait on the server's own clock, which tests can move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lag {
    /// This long.
    For(SignedDuration),
    /// Until `release` of the control.
    UntilReleased,
}

impl Lag {
    /// When it is over.
    pub(crate) fn due(self, now: Timestamp) -> Timestamp {
        match self {
            Self::For(wait) => now.checked_add(wait).unwrap_or(Timestamp::MAX),
            Self::UntilReleased => Timestamp::MAX,
        }
    }
}

/// What `Retry-After` says on a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RetryAfter {
    /// Nothing: most EHRs, and Medplum, do not send it.
    #[default]
    Absent,
    /// Whole seconds.
    Seconds(u32),
    /// An HTTP date so many seconds from now.
    HttpDate(u32),
}

/// An answer that comes instead of the true one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Canned {
    /// An OperationOutcome with this issue code.
    Outcome {
        /// HTTP status.
        status: u16,
        /// `issue[0].code`, from the value set issue-type.
        code: &'static str,
        /// The header, if any.
        retry_after: RetryAfter,
    },
    /// A body of any kind.
    Raw {
        /// HTTP status.
        status: u16,
        /// `Content-Type`.
        content_type: &'static str,
        /// The body as it is.
        body: String,
    },
}

/// What goes wrong. The comments name the row of FHIR fact sheet 1.13 where there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The call is refused; nothing is done.
    Answer(Canned),
    /// The call is carried out, and the answer lost for this one: a gateway that gave up too early.
    AnswerAfter(Canned),
    /// The connection closes; nothing is done.
    HangUpBefore,
    /// The call is carried out, and the connection closes without an answer.
    HangUpAfter,
    /// The connection closes half-way through the body.
    CutBody,
    /// "Truncated JSON": correct HTTP, half of the body.
    Truncate,
    /// The answer is as right as ever and this many bytes longer: white space between its members.
    Bulk(usize),
    /// The answer is JSON, but not what FHIR says.
    Wrong(Wrong),
    /// The call waits before it is carried out, and is carried out even if the caller has gone: with a wait longer
    /// than the caller's patience, a write that times out and lands later.
    DelayBefore(Delay),
    /// The call is carried out at once, and the answer waits.
    DelayAfter(Delay),
    /// Every token dies as the call comes in: with [`Interaction::NextPage`], "401 in mid walk".
    ExpireTokens,
    /// "Late-commit row": a write is stamped this much earlier than now, and neither reads nor searches show it
    /// until it commits.
    LateCommit {
        /// How much earlier than now it is stamped.
        stamped: SignedDuration,
        /// When it appears.
        visible: Lag,
    },
    /// A write that searches show at once and reads later: 404 for a resource just created, the old version for one
    /// just updated.
    ReadLag(Lag),
    /// A write that reads show at once and searches later, as with an eventually consistent index.
    SearchLag(Lag),
    /// "Duplicate across pages": a further page begins with the last entry of the page before.
    PageOverlap,
    /// A further page leaves out its first entry.
    PageSkip,
    /// "Page session expiry": a further page is answered with 410 as a search that is not known any more.
    PageExpired,
    /// "`next` on other host": the `next` link of this answer begins with this instead of the base.
    NextElsewhere(String),
    /// The `next` link of this answer leads back to the first page, also from the last.
    NextInCircle,
}

/// What is wrong with an answer that is JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It is another resource than was asked for.
    Resource,
    /// `entry` is an object instead of a list.
    Entry,
    /// Every resource has a number for its id.
    Id,
    /// Every resource has a number for `meta.lastUpdated`.
    Stamp,
    /// Every resource is stamped with a word that is no time.
    StampWord,
    /// Every resource has a list for its `status`.
    Status,
    /// Every resource has a number for its `subject` and its `context`.
    References,
}

impl Wrong {
    fn make(self, body: &mut Value) {
        match self {
            Self::Resource => *body = json!({"resourceType": "Basic", "id": "1"}),
            Self::Entry => {
                let first = body["entry"][0].take();
                body["entry"] = first;
            }
            _ => {
                if body["resourceType"] != "Bundle" {
                    self.make_in(body);
                }
                for entry in body["entry"].as_array_mut().into_iter().flatten() {
                    self.make_in(&mut entry["resource"]);
                }
            }
        }
    }

    fn make_in(self, resource: &mut Value) {
        match self {
            Self::Resource | Self::Entry => {}
            Self::Id => resource["id"] = json!(7),
            Self::Stamp => resource["meta"] = json!({"versionId": "1", "lastUpdated": 1_767_225_600}),
            Self::StampWord => resource["meta"] = json!({"versionId": "1", "lastUpdated": "yesterday"}),
            Self::Status => resource["status"] = json!(["current"]),
            Self::References => {
                resource["subject"] = json!(7);
                resource["context"] = json!(7);
            }
        }
    }
}

impl Fault {
    /// A refusal with an OperationOutcome.
    #[must_use]
    pub fn outcome(status: u16, code: &'static str, retry_after: RetryAfter) -> Self {
        Self::Answer(Canned::Outcome { status, code, retry_after })
    }

    /// 401, as for a token that is not known.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::outcome(401, "login", RetryAfter::Absent)
    }

    /// 429.
    #[must_use]
    pub fn throttled(retry_after: RetryAfter) -> Self {
        Self::outcome(429, "throttled", retry_after)
    }

    /// 503.
    #[must_use]
    pub fn unavailable(retry_after: RetryAfter) -> Self {
        Self::outcome(503, "transient", retry_after)
    }

    /// "409": a lock inside the server.
    #[must_use]
    pub fn conflict() -> Self {
        Self::outcome(409, "conflict", RetryAfter::Absent)
    }

    /// "412", whatever `If-Match` said.
    #[must_use]
    pub fn precondition_failed() -> Self {
        Self::outcome(412, "processing", RetryAfter::Absent)
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::outcome(404, "not-found", RetryAfter::Absent)
    }

    /// 410.
    #[must_use]
    pub fn gone() -> Self {
        Self::outcome(410, "deleted", RetryAfter::Absent)
    }

    /// "HTML 502", the page of a proxy.
    #[must_use]
    pub fn html_bad_gateway() -> Self {
        Self::Answer(Canned::Raw {
            status: 502,
            content_type: "text/html",
            body: "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
                .into(),
        })
    }

    /// The word the journal uses for it.
    fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::AnswerAfter(_) => "answer-after",
            Self::HangUpBefore => "hang-up-before",
            Self::HangUpAfter => "hang-up-after",
            Self::CutBody => "cut-body",
            Self::Truncate => "truncate",
            Self::Bulk(_) => "bulk",
            Self::Wrong(_) => "wrong",
            Self::DelayBefore(_) => "delay-before",
            Self::DelayAfter(_) => "delay-after",
            Self::ExpireTokens => "expire-tokens",
            Self::LateCommit { .. } => "late-commit",
            Self::ReadLag(_) => "read-lag",
            Self::SearchLag(_) => "search-lag",
            Self::PageOverlap => "page-overlap",
            Self::PageSkip => "page-skip",
            Self::PageExpired => "page-expired",
            Self::NextElsewhere(_) => "next-elsewhere",
            Self::NextInCircle => "next-in-circle",
        }
    }
}

/// Names an injected fault, to clear it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Injected {
    id: FaultId,
    fault: Fault,
    matching: Matching,
    times: Times,
}

/// The faults that wait for their calls.
#[derive(Default, Debug)]
pub(crate) struct Faults {
    injected: Vec<Injected>,
    last: u64,
}

impl Faults {
    pub(crate) fn inject(&mut self, fault: Fault, matching: Matching, times: Times) -> FaultId {
        self.last += 1;
        let id = FaultId(self.last);
        self.injected.push(Injected { id, fault, matching, times });
        id
    }

    pub(crate) fn clear(&mut self, id: FaultId) {
        self.injected.retain(|injected| injected.id != id);
    }

    pub(crate) fn clear_all(&mut self) {
        self.injected.clear();
    }

    /// How many more calls the fault waits for; `None` once it is spent or cleared, or when it stands.
    pub(crate) fn left(&self, id: FaultId) -> Option<u32> {
        let injected = self.injected.iter().find(|injected| injected.id == id)?;
        match injected.times {
            Times::Next(left) => Some(left),
            Times::Always => None,
        }
    }

    /// What strikes this call, in the order of injection. One-shot faults are spent by it.
    pub(crate) fn strike(
        &mut self,
        interaction: Interaction,
        firm: Option<&str>,
        resource_type: Option<&str>,
        id: Option<&str>,
    ) -> Struck {
        let mut struck = Vec::new();
        for injected in &mut self.injected {
            if !injected.matching.covers(interaction, firm, resource_type, id) {
                continue;
            }
            if let Times::Next(left) = &mut injected.times {
                if *left == 0 {
                    continue;
                }
                *left -= 1;
            }
            struck.push(injected.fault.clone());
        }
        self.injected.retain(|injected| injected.times != Times::Next(0));
        Struck(struck)
    }
}

/// The faults of one call.
#[derive(Default, Debug)]
pub struct Struck(Vec<Fault>);

impl Struck {
    pub(crate) fn has(&self, fault: &Fault) -> bool {
        self.0.contains(fault)
    }

    pub(crate) fn first<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(pick)
    }

    /// Does to the answer what the faults of its way back do.
    pub(crate) fn spoil(&self, reply: &mut Reply) {
        for fault in &self.0 {
            match fault {
                Fault::Truncate => reply.truncate(),
                Fault::Bulk(bytes) => reply.swell(*bytes),
                Fault::Wrong(wrong) => {
                    if let Ok(mut body) = serde_json::from_slice::<Value>(&reply.body) {
                        wrong.make(&mut body);
                        reply.body = body.to_string().into_bytes();
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(Fault::name).collect()
    }
}
