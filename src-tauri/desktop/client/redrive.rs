//! Trying again everything that is dead, from the window.

use engine::error::Code;
use futures::{FutureExt, future::BoxFuture};

use super::{Client, not_understood};
use crate::{
    control::{Answer, Request},
    redrive::Plan,
    view::{
        desk::{Problem, Right},
        redrive::{self, Redrive},
        roles,
    },
};

impl Client {
    /// What it would be. It is remembered, so that what was shown is what is done.
    pub async fn plan_redrive(&self, reason: Option<&str>) -> Result<Redrive, Problem> {
        self.entitled(Right::Mend)?;
        let reason = match reason {
            Some(reason) => Some(Code::parse(reason).ok_or_else(not_understood)?),
            None => None,
        };
        let plan = Plan::ask(|request| self.answer(request), reason).await?;
        let plan = plan.map_err(|_| not_understood())?;
        self.learn(redrive::named(&plan)).await;
        let too_many = plan.items() > roles::FEW && self.entitled(Right::MendMany).is_err();
        let shown = self.list(|_, context, _| redrive::redrive(&plan, too_many, context));
        self.state().plan = Some(plan);
        shown
    }

    /// Does what was last shown, once.
    pub async fn redrive(&self) -> Result<(), Problem> {
        self.entitled(Right::Mend)?;
        let Some(plan) = self.state().plan.take() else { return Ok(()) };
        if plan.items() > roles::FEW {
            self.entitled(Right::MendMany)?;
        }
        let done = plan.carry_out(|request| self.answer(request)).await?;
        done.map_err(|_| not_understood())
    }

    fn answer(&self, request: Request) -> BoxFuture<'_, Result<Answer, Problem>> {
        async move { self.call(&request).await }.boxed()
    }
}
