//! What a connection's check-up is made of: steps in the order in which a connection comes about, so that the first one
//! that fails names the cause. The adapters walk them; `chart-relay doctor` prints them.

use engine::error::Fault;

/// One step of a check-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was tried, in a few words: `name`, `TLS`, `sign-in`, `search Patient`.
    pub name: String,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It works; a figure or version worth showing.
    Passed(String),
    /// It works, but a person should know this.
    Warned(String),
    /// What went wrong, and what to do about it in a sentence.
    Failed { fault: Fault, advice: String },
    /// Not tried, and why: mostly because an earlier step failed.
    Skipped(String),
}

impl Step {
    pub fn passed(name: impl Into<String>, note: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Passed(note.into()) }
    }

    pub fn warned(name: impl Into<String>, note: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Warned(note.into()) }
    }

    pub fn failed(name: impl Into<String>, fault: Fault, advice: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Failed { fault, advice: advice.into() } }
    }

    pub fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Skipped(why.into()) }
    }

    pub fn has_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed { .. })
    }
}
