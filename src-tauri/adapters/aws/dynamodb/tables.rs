//! Which tables there are, by name.

use engine::key::Kind;

/// The tables of one installation.
#[derive(Debug, Clone)]
pub struct Tables {
    pub link: String,
    pub cursor: String,
    pub proof: String,
    pub row: String,
    pub encounter: String,
    pub document: String,
    pub quota: String,
    pub token: String,
    pub definition: String,
    pub letter: String,
    /// The firms that have records, and how many links each has.
    pub firm: String,
    /// Who takes part.
    pub station: String,
}

/// What is wanted, by firm and by when it becomes due.
pub const DUE: &str = "due";
/// What a person may look for: dead, remarked or held, by firm and key.
pub const MARKED: &str = "marked";

impl Tables {
    pub fn new(prefix: &str) -> Self {
        let name = |kind: &str| format!("{prefix}-{kind}");
        Self {
            link: name("link"),
            cursor: name("cursor"),
            proof: name("proof"),
            row: name("row"),
            encounter: name("encounter"),
            document: name("document"),
            quota: name("quota"),
            token: name("token"),
            definition: name("definition"),
            letter: name("letter"),
            firm: name("firm"),
            station: name("station"),
        }
    }

    pub fn of(&self, kind: Kind) -> &str {
        match kind {
            Kind::Link => &self.link,
            Kind::Cursor => &self.cursor,
            Kind::Proof => &self.proof,
            Kind::Row => &self.row,
            Kind::Encounter => &self.encounter,
            Kind::Document => &self.document,
            Kind::Quota => &self.quota,
            Kind::Token => &self.token,
            Kind::Definition => &self.definition,
        }
    }
}

/// How a table is keyed: the partition key, the sort key, and its indexes. All keys are texts but the sort key of [`DUE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub name: String,
    pub partition: &'static str,
    pub sort: Option<&'static str>,
    /// Those with [`DUE`] and [`MARKED`].
    pub indexed: bool,
    /// With point-in-time recovery: nothing else brings back what it holds.
    pub recoverable: bool,
    /// With TTL: some of its items may go by themselves.
    pub tidied: bool,
}

/// What each index carries beside the keys.
pub const DUE_CARRIES: [&str; 1] = ["first_seen"];
pub const MARKED_CARRIES: [&str; 4] = ["station", "dead", "set_aside", "notice"];

impl Tables {
    pub fn shapes(&self) -> Vec<Shape> {
        let shape = |name: &str, partition, sort, indexed| Shape {
            recoverable: [&self.link, &self.letter].into_iter().any(|kept| kept == name),
            tidied: name == self.station,
            name: name.to_owned(),
            partition,
            sort,
            indexed,
        };
        let records = Kind::ALL.map(|kind| shape(self.of(kind), "firm", Some("id"), true));
        let others = [
            shape(&self.letter, "shelf", Some("id"), false),
            shape(&self.firm, "firm", None, false),
            shape(&self.station, "name", None, false),
        ];
        records.into_iter().chain(others).collect()
    }
}
