//! EHRs that are watched, and the quotas of their API keys: what the configuration means.

use std::{collections::BTreeMap, path::Path, time::Duration};

use engine::{
    ehr::{Chosen, Classes},
    key::{FirmId, QuotaId},
    pace::{Allowance, TooSmall, Window},
    settings::WatchPlan,
};
use jiff::tz::TimeZone;
use url::Url;

use super::{
    SignIn, Trust,
    file::{self, EhrSignIn as By},
    form::{self, is_loopback},
    resolve::{At, trust},
    schema::nearest,
};
use crate::secrets::SecretName;

pub use super::file::{DocumentsOf, EhrFlavour};

/// One API key, and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub id: QuotaId,
    pub allowance: Allowance,
}

/// A firm whose EHR is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    pub id: FirmId,
    /// For the screen.
    pub name: String,
    pub zone: TimeZone,
    pub ehr: Ehr,
    /// As it was written, with its quota.
    pub(super) written: (file::Ehr, Option<file::Quota>),
}

#[derive(Debug, Clone)]
pub struct Ehr {
    pub base_url: Url,
    pub flavour: EhrFlavour,
    pub sign_in: EhrSignIn,
    /// Goes with every request.
    pub api_key: Option<SecretName>,
    pub quota: Option<Quota>,
    pub trust: Trust,
    pub timeout: Duration,
    pub page: Option<u32>,
    pub documents: Option<DocumentsOf>,
    /// Where the value set of document categories is.
    pub categories: Option<String>,
    pub share_secret: bool,
    pub paused: bool,
    pub plan: WatchPlan,
    pub classes: Classes,
}

#[derive(Debug, Clone)]
pub enum EhrSignIn {
    /// Only on this machine.
    Nobody,
    ClientSecret(SignIn),
    PrivateKeyJwt {
        /// `None`: what the server itself names.
        token_url: Option<Url>,
        client_id: String,
        key: SecretName,
        key_id: Option<String>,
        scope: Option<String>,
    },
    RefreshToken {
        token_url: Url,
        client_id: String,
        secret: Option<SecretName>,
        secret_in: file::SecretIn,
        first: SecretName,
        scope: Option<String>,
    },
    Password {
        token_url: Url,
        account: String,
        password: SecretName,
    },
    Aws {
        region: String,
        /// Its id and the name of its secret; `None`: AWS's default chain.
        access_key: Option<(String, SecretName)>,
    },
}

impl EhrSignIn {
    fn secrets(&self) -> Vec<&SecretName> {
        match self {
            Self::Nobody | Self::Aws { access_key: None, .. } => Vec::new(),
            Self::ClientSecret(SignIn { secret, .. })
            | Self::PrivateKeyJwt { key: secret, .. }
            | Self::Password { password: secret, .. }
            | Self::Aws { access_key: Some((_, secret)), .. } => vec![secret],
            Self::RefreshToken { secret, first, .. } => secret.iter().chain([first]).collect(),
        }
    }
}

impl Ehr {
    /// The secrets that it takes to reach it.
    pub fn secrets(&self) -> Vec<&SecretName> {
        self.sign_in.secrets().into_iter().chain(&self.api_key).collect()
    }
}

/// `alone`: this station shares nothing.
pub(super) fn quotas(quotas: &[file::Quota], alone: bool, at: &mut At<'_, '_, '_>) -> BTreeMap<String, Quota> {
    let mut found = BTreeMap::new();
    for (index, quota) in quotas.iter().enumerate() {
        let mut at = at.inside(&["quota", &index.to_string()]);
        let Ok(id) = QuotaId::new(quota.id.clone()) else { continue };
        let allowance = Allowance {
            requests: quota.requests.into(),
            per: quota.per.0,
            window: match quota.window {
                file::Window::Sliding => Window::Sliding,
                file::Window::Calendar => Window::Calendar,
            },
            used: quota.r#use,
            reserve: quota.reserve,
            stations: if alone { 1 } else { quota.stations },
        };
        if let Err(small) = allowance.check() {
            let TooSmall { usable, needed, stations } = small;
            let expected =
                format!("at least {needed} that the relay may use for {stations} station(s), and this is {usable}");
            let mend = "Raise `use`, lower `stations`, or give `requests` and `per` of a longer window";
            at.between(["requests", "use"], expected, mend);
        }
        if found.insert(quota.id.clone(), Quota { id, allowance }).is_some() {
            at.value("id", "an id of its own; another quota has it too", "Give each API key one [[quota]]");
        }
    }
    found
}

pub(super) fn ehr(
    ehr: &file::Ehr,
    quotas: &BTreeMap<String, Quota>,
    folder: &Path,
    at: &mut At<'_, '_, '_>,
) -> Option<Ehr> {
    let trust = trust(ehr.ca_file.as_deref(), ehr.fingerprint.as_deref(), folder, at);
    let base_url = form::url(&ehr.base_url).ok();
    let sign_in = sign_in(ehr, base_url.as_ref(), at);
    let quota = ehr.quota.as_ref().and_then(|id| {
        let known: Vec<&str> = quotas.keys().map(String::as_str).collect();
        if !quotas.contains_key(id) {
            let mend = match nearest(id, &known) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => "Add a section [[quota]] with this id".to_owned(),
            };
            at.value("quota", "the id of a [[quota]] in this file", mend);
        }
        quotas.get(id).cloned()
    });
    if ehr.flavour == EhrFlavour::Ema {
        if ehr.api_key.is_none() {
            at.key("api-key", "`api-key`: EMA wants one with every request", "Add the name of its secret");
        }
        if ehr.documents.is_some_and(|of| of != DocumentsOf::Patient) {
            at.value("documents", "\"patient\": EMA searches for documents of one patient only", "Leave the line out");
        }
    }
    let plan = plan(&ehr.plan, &mut at.inside(&["plan"]));
    let classes = classes(&ehr.classes, &mut at.inside(&["classes"]));
    Some(Ehr {
        base_url: base_url?,
        flavour: ehr.flavour,
        sign_in: sign_in?,
        api_key: ehr.api_key.clone().and_then(|name| SecretName::parse(&name).ok()),
        quota,
        trust,
        timeout: ehr.timeout.0,
        page: ehr.page,
        documents: ehr.documents,
        categories: ehr.categories.clone(),
        share_secret: ehr.share_secret,
        paused: ehr.paused,
        plan,
        classes,
    })
}

/// What each way of signing in needs, and what it may have besides.
fn settings_of(by: By) -> (&'static str, &'static [&'static str], &'static [&'static str]) {
    match by {
        By::ClientSecret => ("client-secret", &["token-url", "client-id", "secret"], &["scope"]),
        By::PrivateKeyJwt => ("private-key-jwt", &["client-id", "secret"], &["token-url", "key-id", "scope"]),
        By::RefreshToken => ("refresh-token", &["token-url", "client-id", "refresh-token"], &["secret", "scope"]),
        By::Password => ("password", &["token-url", "account", "secret"], &[]),
        By::Aws => ("aws", &[], &["access-key-id", "secret", "region"]),
    }
}

fn sign_in(ehr: &file::Ehr, base_url: Option<&Url>, at: &mut At<'_, '_, '_>) -> Option<EhrSignIn> {
    let given = [
        ("token-url", ehr.token_url.is_some()),
        ("client-id", ehr.client_id.is_some()),
        ("secret", ehr.secret.is_some()),
        ("scope", ehr.scope.is_some()),
        ("key-id", ehr.key_id.is_some()),
        ("refresh-token", ehr.refresh_token.is_some()),
        ("account", ehr.account.is_some()),
        ("access-key-id", ehr.access_key_id.is_some()),
        ("region", ehr.region.is_some()),
    ];
    let any = given.iter().any(|(key, is_given)| *is_given || at.is_known(key));
    let by = match (ehr.sign_in, ehr.flavour) {
        (Some(by), _) => by,
        (None, EhrFlavour::Healthlake) => By::Aws,
        (None, _) if any => By::ClientSecret,
        (None, _) => {
            if base_url.is_some_and(|url| !is_loopback(url)) {
                at.key(
                    "sign-in",
                    "`sign-in`: only a server on this machine may do without",
                    "Add token-url, client-id and the name of the secret, or another way to sign in",
                );
            }
            return Some(EhrSignIn::Nobody);
        }
    };
    let (name, needed, allowed) = settings_of(by);
    for (key, is_given) in given {
        if needed.contains(&key) && !is_given {
            at.key(key, format!("`{key}`, which sign-in by {name} needs"), format!("Add `{key}`"));
        } else if is_given && !needed.contains(&key) && !allowed.contains(&key) {
            let mend = format!("Take it out; this way needs {}", listed(needed, allowed));
            at.key(key, format!("no `{key}`, which sign-in by {name} does not use"), mend);
        }
    }
    let token_url = ehr.token_url.as_ref().map(|url| form::url(url).ok());
    let secret = || ehr.secret.as_ref().and_then(|name| SecretName::parse(name).ok());
    Some(match by {
        By::ClientSecret => EhrSignIn::ClientSecret(SignIn {
            token_url: token_url??,
            client_id: ehr.client_id.clone()?,
            secret: secret()?,
            secret_in: ehr.secret_in,
            scope: ehr.scope.clone(),
        }),
        By::PrivateKeyJwt => EhrSignIn::PrivateKeyJwt {
            token_url: token_url.flatten(),
            client_id: ehr.client_id.clone()?,
            key: secret()?,
            key_id: ehr.key_id.clone(),
            scope: ehr.scope.clone(),
        },
        By::RefreshToken => EhrSignIn::RefreshToken {
            token_url: token_url??,
            client_id: ehr.client_id.clone()?,
            secret: secret(),
            secret_in: ehr.secret_in,
            first: ehr.refresh_token.as_ref().and_then(|name| SecretName::parse(name).ok())?,
            scope: ehr.scope.clone(),
        },
        By::Password => {
            EhrSignIn::Password { token_url: token_url??, account: ehr.account.clone()?, password: secret()? }
        }
        By::Aws => {
            if ehr.access_key_id.is_some() != ehr.secret.is_some() {
                let key = if ehr.secret.is_some() { "access-key-id" } else { "secret" };
                let mend = format!("Add `{key}`, or take out the other to use AWS's default chain");
                at.key(key, format!("`{key}`: access-key-id and secret belong together"), mend);
            }
            let region = ehr.region.clone().or_else(|| base_url.and_then(region));
            if region.is_none() {
                at.key(
                    "region",
                    "`region`, which this address does not name",
                    "Add it, such as region = \"us-east-1\"",
                );
            }
            EhrSignIn::Aws { region: region?, access_key: ehr.access_key_id.clone().zip(secret()) }
        }
    })
}

fn listed(needed: &[&str], allowed: &[&str]) -> String {
    let ticked = |keys: &[&str]| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    match (needed, allowed) {
        ([], _) => format!("nothing, and may have {}", ticked(allowed)),
        (_, []) => ticked(needed),
        _ => format!("{}, and may have {}", ticked(needed), ticked(allowed)),
    }
}

/// `healthlake.REGION.amazonaws.com` or `healthlake-fips.REGION.amazonaws.com`.
fn region(base_url: &Url) -> Option<String> {
    let (service, rest) = base_url.host_str()?.split_once('.')?;
    let region = rest.strip_suffix(".amazonaws.com")?;
    (service.starts_with("healthlake") && !region.contains('.')).then(|| region.to_owned())
}

fn plan(plan: &file::Plan, at: &mut At<'_, '_, '_>) -> WatchPlan {
    if plan.slowest < plan.fastest {
        at.between(
            ["slowest", "fastest"],
            format!("no less than fastest, which is {}", plan.fastest),
            "Raise `slowest`, or lower `fastest`",
        );
    }
    if plan.sweep_every <= plan.slowest {
        at.between(
            ["sweep-every", "slowest"],
            format!("more than slowest, which is {}", plan.slowest),
            "A full comparison costs far more than a look for changes; once a day is usual",
        );
    }
    WatchPlan {
        fastest: plan.fastest.0,
        slowest: plan.slowest.0,
        overlap: plan.overlap.0,
        settle: plan.settle.0,
        life: plan.life.0,
        batch: plan.batch as usize,
        workers: plan.workers as usize,
        term: plan.term.0,
        sweep_every: plan.sweep_every.0,
    }
}

fn classes(classes: &file::Classes, at: &mut At<'_, '_, '_>) -> Classes {
    let mut seen = BTreeMap::new();
    let mut of = |key: &'static str, texts: &[String]| {
        texts
            .iter()
            .filter_map(|text| {
                let Some(chosen) = Chosen::parse(text) else {
                    at.value(key, "a code, or system|code", "Take it from `chart-relay doctor --categories FIRM`");
                    return None;
                };
                if let Some(other) = seen.insert(chosen.clone(), key) {
                    let expected = format!("each category once; `{other}` has one of these too");
                    at.value(key, expected, "Keep it where it belongs");
                }
                Some(chosen)
            })
            .collect()
    };
    Classes {
        solitary: of("solitary", &classes.solitary),
        widespread: of("widespread", &classes.widespread),
        note: of("note", &classes.note),
        ignore: of("ignore", &classes.ignore),
    }
}
