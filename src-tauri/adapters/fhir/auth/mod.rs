//! Signing in. One token serves everyone; it is renewed early, by one caller at a time, while the others go on with the old one.
//! Where stations share a sign-in, its [`Vault`] has one token for all of them.
//!
//! * `grant`: what is asked of the token endpoint, and its answer.
//! * `statement`: the signed statement of a client that has a key instead of a secret (SMART backend services).
//! * [`signer`]: signing each request, as AWS asks.

mod grant;
pub mod signer;
mod statement;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use engine::{
    error::{Class, Code, Fault},
    ports::{Budget, Clock, Grant, Granted, Vault},
};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderValue;
use url::Url;

use self::grant::TokenEndpoint;
use super::outcome::Answer;
use crate::adapters::{aws::Account, secret::Secret, transport::Trust};

/// A token is renewed this long before its end, or at 80 % of its life if that is earlier, but not in its first half.
const MARGIN: Duration = Duration::from_secs(60);
/// After a renewal failed and while the old token still holds, how long until the next try.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// A clock that is wrong by less breaks no signature.
const TOLERATED: SignedDuration = SignedDuration::from_secs(30);

/// How the relay signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignIn {
    /// Not at all: servers on this machine only.
    Nobody,
    /// OAuth 2 client credentials (RFC 6749 section 4.4).
    ClientCredentials { token_url: String, client_id: String, secret_in: SecretIn, scope: Option<String> },
    /// The same with a signed statement in place of the secret: SMART backend services.
    Statement {
        /// `None`: what the server's own `.well-known/smart-configuration` names.
        token_url: Option<String>,
        client_id: String,
        /// By which the server knows the key; a JWK brings its own.
        key_id: Option<String>,
        scope: Option<String>,
    },
    /// A refresh token (RFC 6749 section 6), which may change with each use.
    RefreshToken { token_url: String, client_id: String, secret_in: SecretIn, scope: Option<String> },
    /// Account and password (RFC 6749 section 4.3): EMA's older way.
    Password { token_url: String, account: String },
    /// Each request signed.
    Aws { region: String },
}

/// Where the client secret is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretIn {
    /// `Authorization: Basic`, each half form-encoded first (RFC 6749 section 2.3.1).
    Basic,
    /// `client_id` and `client_secret` in the body.
    Body,
}

/// What proves who signs in.
#[derive(Debug, Clone)]
pub enum Credentials {
    Nobody,
    ClientSecret(Secret),
    /// A private key, as PEM or JWK.
    Key(Secret),
    Refresh {
        secret: Option<Secret>,
        /// The one to begin with.
        first: Secret,
    },
    Password(Secret),
    Aws(Box<Account>),
}

/// The server that is signed in to.
pub(super) struct Door<'a> {
    pub(super) base: &'a Url,
    pub(super) trust: &'a Trust,
    pub(super) timeout: Duration,
}

/// A server's clock, for what counts only near its time.
#[derive(Debug)]
pub(super) struct TheirTime {
    clock: Arc<dyn Clock>,
    ahead: Mutex<SignedDuration>,
}

impl TheirTime {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ahead: Mutex::default() }
    }

    fn now(&self) -> Timestamp {
        let ahead = *self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock.now().checked_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// Whether an answer shows that what was signed by [`TheirTime::now`] was signed at a wrong time; the next is signed by the server's.
    pub(super) fn was_wrong(&self, answer: &Answer) -> bool {
        let Some(date) = answer.date() else { return false };
        let wrong = date.duration_since(self.now()).abs() > TOLERATED;
        if wrong {
            *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = date.duration_since(self.clock.now());
        }
        wrong
    }
}

/// An access token and its times, on the clock that runs through suspend.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    /// Counts the tokens, to tell whether one that was refused has been replaced already.
    number: u64,
    renew_at: Duration,
    ends_at: Duration,
}

/// Where tokens come from.
pub(super) struct Tokens {
    endpoint: TokenEndpoint,
    clock: Arc<dyn Clock>,
    vault: Option<Arc<dyn Vault>>,
    current: Mutex<Option<Token>>,
    /// The refresh token that is valid now, where no vault keeps it.
    refresh: Mutex<Option<Granted>>,
    requests: AtomicU64,
    turn: tokio::sync::Mutex<Turn>,
}

/// Whoever holds this may ask for a token.
#[derive(Default)]
struct Turn {
    /// Why the last request failed, for those who waited for it.
    failure: Option<Fault>,
    /// No request before this.
    not_before: Duration,
}

impl Tokens {
    /// # Errors
    /// `Stop`: `token_url` is not usable, or the CA file or the key is not.
    pub(super) fn new(
        sign_in: &SignIn,
        credentials: Credentials,
        door: &Door<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        Ok(Self {
            endpoint: TokenEndpoint::new(sign_in, credentials, door, clock.clone())?,
            clock,
            vault: None,
            current: Mutex::default(),
            refresh: Mutex::default(),
            requests: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// With what all stations share.
    pub(super) fn shared(self, vault: Option<Arc<dyn Vault>>) -> Self {
        Self { vault, ..self }
    }

    /// Where sign-ins go to the server itself, they count like any request, and its API key belongs to them.
    pub(super) fn counted(mut self, budget: &Arc<dyn Budget>, api_key: Option<&HeaderValue>) -> Self {
        self.endpoint.count(budget, api_key);
        self
    }

    /// The token to use now.
    pub(super) async fn token(&self) -> Result<Token, Fault> {
        let now = self.clock.elapsed();
        match self.current() {
            Some(token) if now < token.renew_at => Ok(token),
            Some(token) if now < token.ends_at => match self.turn.try_lock() {
                // A failure harms nobody yet, and the next caller after a pause tries again.
                Ok(turn) if now >= turn.not_before => Ok(self.request(turn).await.unwrap_or(token)),
                _ => Ok(token),
            },
            stale => self.renew(stale.map_or(0, |token| token.number)).await,
        }
    }

    /// A token newer than one that was refused.
    pub(super) async fn replace(&self, refused: &Token) -> Result<Token, Fault> {
        self.renew(refused.number).await
    }

    async fn renew(&self, number: u64) -> Result<Token, Fault> {
        let before = self.requests.load(Ordering::Acquire);
        let turn = self.turn.lock().await;
        if let Some(token) = self.current().filter(|token| token.number > number) {
            return Ok(token);
        }
        if let Some(failure) = turn.failure.clone() {
            // Somebody asked while we waited, and what they were told holds for us as well.
            if self.requests.load(Ordering::Acquire) != before {
                return Err(failure);
            }
            let left = turn.not_before.saturating_sub(self.clock.elapsed());
            if matches!(failure.class, Class::Wait(_)) && !left.is_zero() {
                return Err(Fault { class: Class::Wait(Some(left)), ..failure });
            }
        }
        self.request(turn).await
    }

    async fn request(&self, mut turn: tokio::sync::MutexGuard<'_, Turn>) -> Result<Token, Fault> {
        // Seldom, and large.
        let granted = Box::pin(self.grant()).await;
        self.requests.fetch_add(1, Ordering::AcqRel);
        match granted {
            Ok(token) => {
                *turn = Turn::default();
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
                Ok(token)
            }
            Err(fault) => {
                let pause = if let Class::Wait(Some(wait)) = fault.class { wait } else { PAUSE_AFTER_FAILURE };
                *turn = Turn { failure: Some(fault.clone()), not_before: self.clock.elapsed() + pause };
                Err(fault)
            }
        }
    }

    async fn grant(&self) -> Result<Token, Fault> {
        let held = self.current().map(|token| token.number);
        let Some(vault) = &self.vault else {
            let asked_at = self.clock.elapsed();
            let before = self.refresh.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let granted = self.endpoint.sign_in(before.as_ref()).await?;
            *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(granted.clone());
            return self.token_of(&granted, held.unwrap_or(0) + 1, asked_at);
        };
        let mut than = held;
        if than.is_none()
            && let Some(grant) = vault.read().await?
        {
            let token = self.shared_token(&grant)?;
            if self.clock.elapsed() < token.renew_at {
                return Ok(token);
            }
            than = Some(grant.number);
        }
        let sign_in = |there: Option<Grant>| {
            let asking = async move { self.endpoint.sign_in(there.map(|grant| grant.granted).as_ref()).await };
            Box::pin(asking) as futures::future::BoxFuture<'_, _>
        };
        let grant = vault.renew(than, Box::new(sign_in)).await?;
        self.shared_token(&grant)
    }

    /// Another station's clock says when it was asked for. If it is wrong, the token is renewed too soon, or refused and replaced.
    fn shared_token(&self, grant: &Grant) -> Result<Token, Fault> {
        let age = Duration::try_from(self.clock.now().duration_since(grant.at)).unwrap_or(Duration::ZERO);
        let asked_at = self.clock.elapsed().saturating_sub(age);
        // A clock that has just begun knows of no time before.
        let spent = age.saturating_sub(self.clock.elapsed());
        let left = Granted { life: grant.granted.life.saturating_sub(spent), ..grant.granted.clone() };
        self.token_of(&left, grant.number, asked_at)
    }

    fn token_of(&self, granted: &Granted, number: u64, asked_at: Duration) -> Result<Token, Fault> {
        let unusable = |_| Fault::new(Class::Away, Code::BadAnswer).on("token_url");
        let mut header = HeaderValue::from_str(&format!("Bearer {}", *granted.access)).map_err(unusable)?;
        header.set_sensitive(true);
        let life = granted.life;
        let fresh = (life * 4 / 5).min(life.saturating_sub(MARGIN)).max(life / 2);
        Ok(Token { header, number, renew_at: asked_at + fresh, ends_at: asked_at + life })
    }

    fn current(&self) -> Option<Token> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("number", &self.number).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
