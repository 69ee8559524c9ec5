//! Asking sides that are silent whether they are there.

use std::time::Duration;

use super::Supervisor;
use crate::{
    connection::{Health, Side},
    consumer::Order,
    error::{Class, Code, Fault},
    key::FirmId,
};

impl Supervisor {
    /// Asks a side that nothing was heard from whether it is there. Outside the retry budget: it is one cheap call at a time.
    pub(super) async fn probe(&self, index: usize) {
        let (firm, side) = &self.probers[index];
        let (side, called) = (*side, &self.prober_calls[index]);
        let Some(serves) = self.reconciler.firms.get(firm) else { return };
        let connections = &self.reconciler.connections;
        let chance = &self.reconciler.chance;
        let mut failures = 0;
        let mut asked = false;
        loop {
            let Some(connection) = connections.all().remove(&(firm.clone(), side)) else { return };
            let silent = connection.answered.map(|answered| self.shared.clock.elapsed().saturating_sub(answered));
            let quiet = connections.blocked_side(firm, side) == Some(Code::Throttled);
            // Whoever asks wants to know how it is now: a side can be gone a moment after its last answer.
            let fresh = !asked
                && connection.health == Health::Up
                && silent.is_some_and(|silent| silent < serves.plan.probe_every);
            if !fresh && !quiet {
                let probe = match side {
                    Side::Fhir => serves.ports.fhir.probe(),
                    Side::FileMaker => serves.ports.clinic.probe(),
                };
                let probe = tokio::time::timeout(serves.plan.probe_every, probe).await;
                match probe.unwrap_or_else(|_| Err(Fault::new(Class::Away, Code::TimedOut))) {
                    Ok(()) => {
                        failures = 0;
                        connections.probe_passed(firm, side);
                        // Whatever waited for this connection is due now.
                        let _ = self.orders.try_send(Order::Look);
                    }
                    Err(fault) => {
                        failures += 1;
                        match fault.class {
                            Class::Away | Class::Stop => connections.failed(firm, side, &fault),
                            Class::Wait(Some(long)) => connections.quiet(firm, side, long),
                            _ => {}
                        }
                    }
                }
            }
            if std::mem::take(&mut asked) {
                self.pass.probed(firm, side);
                self.call_pollers(firm, side);
            }
            let wait = match connections.all().remove(&(firm.clone(), side)).map(|connection| connection.health) {
                Some(Health::Up) => serves.plan.probe_every / 2,
                _ => Duration::from_secs(2)
                    .saturating_mul(2_u32.saturating_pow(u32::min(failures, 5)))
                    .min(serves.plan.probe_every * 2),
            };
            tokio::select! {
                biased;
                () = called.notified() => asked = true,
                () = connections.changed() => tokio::time::sleep(chance.around(Duration::from_secs(1))).await,
                () = tokio::time::sleep(chance.around(wait)) => {}
            }
        }
    }

    /// For the pass: whether this side is there is known now, so it can be asked what changed.
    fn call_pollers(&self, firm: &FirmId, side: Side) {
        for ((of, at, _), calls) in self.pollers.iter().zip(&self.poller_calls) {
            if of == firm && *at == side && self.pass.is_running() {
                calls.pass.notify_one();
            }
        }
    }
}
