//! What sign-ins granted, sealed in the ledger, so that all stations share one grant and only one of them signs in.
//!
//! A refresh token that changes with each use is worth nothing once it was used, and everything once it was answered. So a station signs
//! in only under the record's lease, which it renews meanwhile, and a grant is in the ledger before anybody uses it. Where the ledger does
//! not take it, the station keeps it and hands it in before anybody signs in again. What is left is a station that dies between the
//! server's answer and the ledger's: then the token in the ledger has been used, the server refuses it, and a person signs in once more.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    error::{Class, Code, Fault},
    key::RecordKey,
    keys::Seal,
    lease::Watch,
    ledger::{Claim, Commit, Finish, Lease, LedgerError, Owner, Record, Take},
    ports::{Clock, Grant, Granted, Ledger, SignIn, Vault},
};

const TERM: Duration = Duration::from_secs(30);
/// How often it is looked whether another station is done.
const LOOK: Duration = Duration::from_millis(250);
/// For how long another station's sign-in is waited for: its term, if it dies, and some more.
const PATIENCE: Duration = Duration::from_secs(75);

/// One sign-in's grants.
pub struct LedgerVault {
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub owner: Owner,
    pub seal: Seal,
    pub key: RecordKey,
    watch: Watch,
    /// One at a time on this station, which its own leases would not keep out. Holds a grant that the ledger does not have yet.
    unsaved: Mutex<Option<Grant>>,
}

impl fmt::Debug for LedgerVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerVault").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The state of the record.
#[derive(Serialize, Deserialize)]
struct Kept {
    number: u64,
    /// A [`Secret`].
    sealed: String,
}

#[derive(Serialize, Deserialize)]
struct Secret {
    access: String,
    refresh: Option<String>,
    life_ms: u64,
    at: Timestamp,
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.access.zeroize();
        self.refresh.zeroize();
    }
}

impl Kept {
    fn parse(state: &str) -> Option<Self> {
        serde_json::from_str(state).ok()
    }
}

impl LedgerVault {
    pub fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>, owner: Owner, seal: Seal, key: RecordKey) -> Self {
        Self { ledger, clock, owner, seal, key, watch: Watch::default(), unsaved: Mutex::default() }
    }

    /// What was sealed under another key, or by a version that knows more, is as good as not there.
    fn open(&self, state: &str) -> Option<Grant> {
        if state.is_empty() {
            return None;
        }
        let opened = self.unseal(state);
        if opened.is_none() {
            tracing::warn!(key = %self.key, "what a sign-in granted cannot be opened");
        }
        opened
    }

    fn unseal(&self, state: &str) -> Option<Grant> {
        let kept = Kept::parse(state)?;
        let sealed = STANDARD_NO_PAD.decode(kept.sealed).ok()?;
        let plain = Zeroizing::new(self.seal.open(&self.about(kept.number), &sealed).ok()?);
        let secret: Secret = serde_json::from_slice(&plain).ok()?;
        Some(Grant {
            number: kept.number,
            granted: Granted {
                access: Zeroizing::new(secret.access.clone()),
                refresh: secret.refresh.clone().map(Zeroizing::new),
                life: Duration::from_millis(secret.life_ms),
            },
            at: secret.at,
        })
    }

    fn close(&self, grant: &Grant) -> String {
        let secret = Secret {
            access: grant.granted.access.to_string(),
            refresh: grant.granted.refresh.as_ref().map(|refresh| refresh.to_string()),
            life_ms: u64::try_from(grant.granted.life.as_millis()).unwrap_or(u64::MAX),
            at: grant.at,
        };
        let plain = Zeroizing::new(serde_json::to_vec(&secret).expect("texts and numbers"));
        let sealed = STANDARD_NO_PAD.encode(self.seal.seal(&self.about(grant.number), &plain));
        serde_json::to_string(&Kept { number: grant.number, sealed }).expect("texts and numbers")
    }

    /// Bound into the seal, so that an old grant cannot be passed for a new one.
    fn about(&self, number: u64) -> String {
        format!("{}/{number}", self.key)
    }

    /// Ends the lease with this state.
    async fn commit(&self, record: &Record, lease: &Lease, state: String) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let finish = Finish::Done;
        let commit = Commit { state, finish, notice: None, generation: record.generation, first_seen: now, now };
        self.ledger.commit(lease, commit).await.map(|_| ())
    }

    /// Commits what was granted, more than once where the answer is lost.
    async fn save(&self, record: &Record, lease: &Lease, grant: &Grant) -> Result<(), Fault> {
        let state = self.close(grant);
        let until = self.clock.elapsed() + TERM;
        loop {
            match self.commit(record, lease, state.clone()).await {
                Ok(()) => return Ok(()),
                // Also where an earlier commit arrived, and only its answer was lost.
                Err(LedgerError::Lost) => {
                    let there = self.ledger.read(&self.key).await?.is_some_and(|record| record.state == state);
                    let lost = || Fault::new(Class::Retry, Code::LeaseLost);
                    return if there { Ok(()) } else { Err(lost()) };
                }
                Err(LedgerError::Fault(fault)) if self.clock.elapsed() >= until || fault.class == Class::Fatal => {
                    return Err(fault);
                }
                Err(LedgerError::Fault(fault)) => tracing::debug!(key = %self.key, %fault, "a grant was not saved"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Signs in while the lease is kept.
    async fn sign_in(
        &self,
        lease: &Lease,
        number: u64,
        grant: Option<Grant>,
        sign_in: SignIn<'_>,
    ) -> Result<Grant, Fault> {
        let at = self.clock.now();
        let mut asked = sign_in(grant);
        let granted = loop {
            tokio::select! {
                biased;
                granted = &mut asked => break granted?,
                () = tokio::time::sleep(TERM / 3) => {
                    // Whether or not it is still ours: what was asked for is waited for.
                    let _ = self.ledger.renew(std::slice::from_ref(lease)).await;
                }
            }
        };
        Ok(Grant { number, granted, at })
    }

    async fn take(&self) -> Result<Take, Fault> {
        let claim = Claim {
            owner: self.owner.clone(),
            term: TERM,
            overdue: self.watch.overdue(&self.key, self.clock.elapsed()),
            now: self.clock.now(),
        };
        self.ledger.take(&self.key, &claim).await
    }
}

fn is_after(grant: &Grant, than: Option<u64>) -> bool {
    than.is_none_or(|than| grant.number > than)
}

#[async_trait]
impl Vault for LedgerVault {
    async fn read(&self) -> Result<Option<Grant>, Fault> {
        Ok(self.ledger.read(&self.key).await?.and_then(|record| self.open(&record.state)))
    }

    async fn renew<'a>(&self, than: Option<u64>, sign_in: SignIn<'a>) -> Result<Grant, Fault> {
        let mut unsaved = self.unsaved.lock().await;
        let began = self.clock.elapsed();
        let (record, lease) = loop {
            if let Some(grant) = self.read().await?
                && is_after(&grant, than)
            {
                return Ok(grant);
            }
            match self.take().await? {
                Take::Taken(record, lease) => break (record, lease),
                Take::Busy(held) => self.watch.observe(&self.key, &held, self.clock.elapsed()),
            }
            if self.clock.elapsed().saturating_sub(began) > PATIENCE {
                return Err(Fault::new(Class::Wait(None), Code::LeaseBusy));
            }
            tokio::time::sleep(LOOK).await;
        };
        self.watch.forget(&self.key);
        let there = self.open(&record.state);
        let number = Kept::parse(&record.state).map_or(0, |kept| kept.number) + 1;
        // Nobody has signed in since: what this station was granted is what the server holds to.
        let mine = unsaved.take().filter(|mine| mine.number == number);
        if let Some(there) = there.as_ref().filter(|there| mine.is_none() && is_after(there, than)) {
            // Else others wait for the lease to run out, and no more.
            let _ = self.commit(&record, &lease, record.state.clone()).await;
            return Ok(there.clone());
        }
        let grant = match mine {
            Some(mine) => mine,
            None => match self.sign_in(&lease, number, there, sign_in).await {
                Ok(grant) => grant,
                Err(fault) => {
                    let _ = self.commit(&record, &lease, record.state.clone()).await;
                    return Err(fault);
                }
            },
        };
        *unsaved = Some(grant.clone());
        self.save(&record, &lease, &grant).await?;
        *unsaved = None;
        Ok(grant)
    }
}

#[cfg(test)]
#[cfg(feature = "fakes")]
mod tests;
