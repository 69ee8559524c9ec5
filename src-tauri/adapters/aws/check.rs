//! The shared queue and ledger, step by step.

use std::time::Duration;

use engine::error::{Class, Code, Fault};

use super::{
    Account,
    provision::{Found, State, Wish, provision},
    sqs,
};
use crate::adapters::doctor::Step;

/// Longer than all tries of one call.
const PATIENCE: Duration = Duration::from_secs(60);

impl Account {
    /// Takes on each role that is configured. Without one, everything is done with whatever the credentials may do.
    pub async fn diagnose_roles(&self, roles: &[(&str, Option<&str>)]) -> Vec<Step> {
        let mut steps = Vec::new();
        for (name, arn) in roles {
            let Some(arn) = arn else { continue };
            let what = format!("role {name}");
            steps.push(match self.in_role(Some(arn)).identified().await {
                Ok(()) => Step::passed(what, ""),
                Err(fault) => {
                    let advice = advice(&fault);
                    Step::failed(what, fault, advice)
                }
            });
        }
        if roles.iter().all(|(_, arn)| arn.is_none()) {
            let note = "all roles: one set of keys may do everything here; [shared.roles] holds each worker to its own";
            steps.push(Step::warned("roles", note));
        }
        steps
    }

    /// Looks at everything that stations share, and changes nothing.
    pub async fn diagnose(&self, wish: &Wish) -> Vec<Step> {
        let Some(region) = self.region() else {
            let fault = Fault::new(Class::Stop, Code::NotSetUp).on("the region");
            let advice = "No region is known: set `region` in [shared], or AWS_REGION for this account.";
            return vec![Step::failed("region", fault, advice)];
        };
        let mut steps = vec![Step::passed("region", region)];
        let found = tokio::time::timeout(PATIENCE, provision(self, wish, false)).await;
        match found.unwrap_or_else(|_| Err(Fault::new(Class::Away, Code::TimedOut))) {
            Ok(found) => {
                steps.push(Step::passed("sign-in", ""));
                let there = |found: &&Found| {
                    found.what == format!("queue {}", wish.dead_letter_queue()) && found.state != State::Missing
                };
                let dead = found.iter().find(there).is_some();
                steps.extend(found.into_iter().map(step));
                if dead {
                    steps.push(self.put_away(wish).await);
                }
            }
            Err(fault) => {
                let advice = advice(&fault);
                steps.push(Step::failed("what stations share", fault, advice));
            }
        }
        steps
    }

    /// What SQS has moved to the dead-letter queue. The relay empties it; what is in it has come since it last looked.
    async fn put_away(&self, wish: &Wish) -> Step {
        let dead = wish.dead_letter_queue();
        let name = format!("messages in {dead}");
        match sqs::depth(self, &dead).await {
            Ok(0) => Step::passed(name, "none"),
            Ok(count) => Step::warned(
                name,
                format!(
                    "about {count}, received too often without a result; a running relay takes them over within half an hour"
                ),
            ),
            Err(fault) => {
                let advice = advice(&fault);
                Step::failed(name, fault, advice)
            }
        }
    }
}

fn step(Found { what, state }: Found) -> Step {
    let queue = what.starts_with("queue");
    // Without these nothing works; the rest is as good as it is safe.
    let needed = queue || what.starts_with("table");
    match state {
        State::Right | State::Created => Step::passed(what, ""),
        State::Missing if needed => {
            let code = if queue { Code::QueueMissing } else { Code::TableMissing };
            Step::failed(what, Fault::new(Class::Stop, code), "It is not there. `chart-relay provision` creates it.")
        }
        State::Missing => Step::warned(what, "not set; `chart-relay provision` sets it"),
        State::Differs { settings, .. } => {
            let names = settings.join(", ");
            // Two edits of one record within five minutes would count as one message, and the second would be dropped.
            if settings.iter().any(|setting| setting == "ContentBasedDeduplication") || what.starts_with("table") {
                let fault = Fault::new(Class::Stop, Code::Rejected).on(names.clone());
                Step::failed(
                    what,
                    fault,
                    format!("{names} must be otherwise; `chart-relay provision --dry-run` says how."),
                )
            } else {
                Step::warned(
                    what,
                    format!("{names} differ from what is recommended; `chart-relay provision` sets them"),
                )
            }
        }
    }
}

fn advice(fault: &Fault) -> String {
    match fault.code {
        Code::AccessDenied => "`chart-relay provision --print policy` prints what each role needs.".to_owned(),
        Code::SignInRefused => "AWS refused the credentials: renew them, or check the machine's clock.".to_owned(),
        Code::CredentialsMissing => {
            "No credentials: sign in with AWS's own tools, or set access-key-id and secret in [shared].".to_owned()
        }
        Code::Unreachable | Code::TimedOut | Code::NotAnswering => {
            "AWS cannot be reached from here: check network, proxy and `endpoint`.".to_owned()
        }
        _ => "AWS answered with an error; the details name it.".to_owned(),
    }
}
