//! What the window asks about both sides of a record, and has done about them. Values pass through and are not kept.

use std::time::Duration;

use engine::{
    action::Action,
    audit::{AuditId, Search},
    difference::Difference,
    key::RecordKey,
};
use futures::{StreamExt as _, stream};

use super::{Client, LISTED, Problem, Right, not_understood, record_keys};
use crate::{
    account,
    control::{Answer, Request},
    view::{
        conflicts::{self, Chosen, Conflicts, Settled},
        sides::{self, FieldValues, Resyncing, Sides},
    },
};

/// An action that is answered when both servers were written to.
const RUN_PATIENCE: Duration = Duration::from_secs(100);
/// Records of one patient that are looked at, and synced, together.
const TOGETHER: usize = 50;
/// Reads at once: a quota is shared with the sync.
const AT_ONCE: usize = 4;

impl Client {
    pub async fn conflicts(&self) -> Result<Conflicts, Problem> {
        let asked = Request::Conflicts { after: None, limit: LISTED };
        let Answer::Conflicts { conflicts, more } = self.call(&asked).await? else { return Err(not_understood()) };
        self.learn(conflicts.iter().map(|open| &open.key)).await;
        self.list(|_, context, _| conflicts::conflicts(&conflicts, more, context))
    }

    async fn difference(&self, key: RecordKey, versions: Vec<String>) -> Result<Difference, Problem> {
        match self.call(&Request::Difference { key, versions, person: account::name() }).await? {
            Answer::Difference(difference) => Ok(*difference),
            _ => Err(not_understood()),
        }
    }

    /// What both sides say now.
    pub async fn sides(&self, key: &str) -> Result<Sides, Problem> {
        self.entitled(Right::Reveal)?;
        let difference = self.difference(record_key(key)?, Vec::new()).await?;
        self.learn([&difference.key]).await;
        self.list(|_, context, _| sides::sides(&difference, context))
    }

    /// One choice after the other, each for itself: what came of each. The same token again does nothing.
    pub async fn settle(&self, key: &str, chosen: Vec<Chosen>, token: String) -> Result<Vec<Settled>, Problem> {
        self.entitled(Right::Mend)?;
        let key = record_key(key)?;
        let actions = chosen.into_iter().map(|chosen| {
            let field = chosen.field.clone();
            chosen.action(key.clone()).map(|action| (field, action))
        });
        let actions = actions.collect::<Result<Vec<_>, _>>()?;
        if !self.is_first(token) {
            return Ok(Vec::new());
        }
        let mut settled = Vec::with_capacity(actions.len());
        for (field, action) in actions {
            let problem = self.act_for(action, RUN_PATIENCE).await.err();
            let moved = problem.as_ref().is_some_and(|problem| problem.code.as_deref() == Some("moved-meanwhile"));
            settled.push(Settled { field, problem, moved });
        }
        Ok(settled)
    }

    /// What an entry of the history changed, as far as that is kept anywhere.
    pub async fn values(&self, entry: u64) -> Result<Vec<FieldValues>, Problem> {
        self.entitled(Right::Reveal)?;
        let search = Search { before: Some(AuditId(entry.saturating_add(1))), ..Search::newest(1) };
        let Answer::Found(found) = self.call(&Request::Search(search)).await? else { return Err(not_understood()) };
        let found = found.entries.into_iter().find(|found| found.id.0 == entry);
        let Some((entry, key)) = found.and_then(|found| found.begun.key.clone().map(|key| (found, key))) else {
            return Err(Problem::new("This entry is not in the history of this PC. Nothing was shown."));
        };
        Ok(sides::values(&entry, &self.difference(key, sides::versions(&entry)).await?))
    }

    /// The record, or every record of its patient.
    async fn together(&self, key: &str, whole: bool) -> Result<Vec<RecordKey>, Problem> {
        let of = record_key(key)?;
        if !whole {
            return Ok(vec![of]);
        }
        match self.call(&Request::Chart { of, limit: TOGETHER }).await? {
            Answer::Chart(keys) => Ok(keys),
            _ => Err(not_understood()),
        }
    }

    /// What syncing a record, or all of its patient, would do.
    pub async fn resyncing(&self, key: &str, whole: bool) -> Result<Vec<Resyncing>, Problem> {
        self.entitled(Right::Mend)?;
        let keys = self.together(key, whole).await?;
        self.learn(&keys).await;
        let looked = |key: RecordKey| async move { (key.clone(), self.difference(key, Vec::new()).await) };
        let looked: Vec<_> = stream::iter(keys).map(looked).buffered(AT_ONCE).collect().await;
        self.list(|_, context, _| {
            looked.iter().map(|(key, looked)| sides::resyncing(key, looked.as_ref(), context)).collect()
        })
    }

    /// Does it. The same token again does nothing.
    pub async fn resync(&self, key: &str, whole: bool, token: String) -> Result<(), Problem> {
        self.entitled(Right::Mend)?;
        let keys = self.together(key, whole).await?;
        if !self.is_first(token) {
            return Ok(());
        }
        self.act_for(Action::Resync { keys }, RUN_PATIENCE).await
    }
}

fn record_key(key: &str) -> Result<RecordKey, Problem> {
    record_keys(&[key.to_owned()]).map(|mut keys| keys.remove(0))
}
