//! How an EHR that announces nothing is watched, and what its API keys allow, as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretIn, seconds};
use crate::config::time::Time;

/// One API key and the requests that it allows, shared by all clinics that name it and by all stations.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["id", "requests", "per"]))]
pub(in crate::config) struct Quota {
    /// What it is called: 1 to 32 of a-z, 0-9 and -. The same on each station.
    #[schemars(extend("x-form" = "slug"), example = &"ema")]
    pub(in crate::config) id: String,
    /// Requests that the server allows in each window, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000), extend("examples" = [1250]))]
    pub(in crate::config) requests: u32,
    /// How long a window is.
    #[schemars(extend("x-from" = "1s", "x-to" = "24h"), example = &"1min")]
    pub(in crate::config) per: Time,
    /// How the server counts.
    pub(in crate::config) window: Window,
    /// How much of it the relay may use, 1 to 100 per cent. Others may use the same key.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) r#use: u8,
    /// How much of that is kept for Sync now, writes and sign-ins, and for the time while stations cannot agree, 0 to 50 per cent.
    #[schemars(range(min = 0, max = 50))]
    pub(in crate::config) reserve: u8,
    /// Stations that may share it at most, 1 to 32; a station that works by itself counts as one. While they cannot agree, each keeps to its part of the reserve.
    #[schemars(range(min = 1, max = 32))]
    pub(in crate::config) stations: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Window {
    /// Any stretch of this length.
    Sliding,
    /// From full minute to full minute (or hour), by the server's clock.
    Calendar,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            id: String::new(),
            requests: 60,
            per: seconds(60),
            window: Window::Sliding,
            r#use: 60,
            reserve: 10,
            stations: 8,
        }
    }
}

/// The clinic's EHR, watched for new photographs and notes by asking: for an EHR that does not tell of changes by itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("required" = ["base-url"]))]
pub(in crate::config) struct Ehr {
    /// Its FHIR base address: https, or http on this machine only.
    #[schemars(extend("x-form" = "url"), example = &"https://ehr.example/firm/north/fhir/v2")]
    pub(in crate::config) base_url: String,
    /// Which server it is.
    pub(in crate::config) flavour: EhrFlavour,
    /// How the relay signs in. Left out: as AWS asks for HealthLake, else by client secret where `client-id` is given, else not at
    /// all.
    pub(in crate::config) sign_in: Option<EhrSignIn>,
    /// Where access tokens are fetched. With `private-key-jwt` it may be left out: the server's own
    /// `.well-known/smart-configuration` names it.
    #[schemars(extend("x-form" = "url"))]
    pub(in crate::config) token_url: Option<String>,
    /// The client id that the server gave the relay.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) client_id: Option<String>,
    /// The name in the keychain of what proves who signs in: the client secret, the private key (PEM or JWK), the password, or the
    /// secret of an AWS access key.
    #[schemars(extend("x-form" = "secret-name"), example = &"north-ehr")]
    pub(in crate::config) secret: Option<String>,
    /// How a client secret is sent: in the `Authorization` header or in the body of the request.
    pub(in crate::config) secret_in: SecretIn,
    /// The scopes to ask for, separated by spaces.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) scope: Option<String>,
    /// For `private-key-jwt`: the id under which the server knows the public key (`kid`). A JWK brings its own.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) key_id: Option<String>,
    /// For `refresh-token`: the name in the keychain of the first refresh token. Those that follow are kept in the ledger, sealed.
    #[schemars(extend("x-form" = "secret-name"))]
    pub(in crate::config) refresh_token: Option<String>,
    /// For `password`: the account.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) account: Option<String>,
    /// For `aws`: the id of an access key. Left out, AWS's default chain finds credentials.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) access_key_id: Option<String>,
    /// For `aws`: the region, where the address does not name it.
    #[schemars(extend("x-form" = "text"), example = &"us-east-1")]
    pub(in crate::config) region: Option<String>,
    /// The name of an API key in the keychain that goes with every request as `x-api-key`.
    #[schemars(extend("x-form" = "secret-name"), example = &"ema-key")]
    pub(in crate::config) api_key: Option<String>,
    /// The `[[quota]]` that its requests count for, by its id. Left out, nothing but the server's own answers limits them.
    #[schemars(extend("x-form" = "slug"))]
    pub(in crate::config) quota: Option<String>,
    /// A file with the certificates (PEM) of the authority that the server's certificate is from; the operating system's if left
    /// out. A path that is not absolute is taken from the folder of this file.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) ca_file: Option<String>,
    /// The SHA-256 fingerprint of the one certificate to trust, 64 hexadecimal digits.
    #[schemars(extend("x-form" = "fingerprint"))]
    pub(in crate::config) fingerprint: Option<String>,
    /// How long one call may take, answer included.
    #[schemars(extend("x-from" = "1s", "x-to" = "10min"))]
    pub(in crate::config) timeout: Time,
    /// Rows per page of a list, 1 to 1000; the flavour's own figures if left out. The server may give fewer.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) page: Option<u32>,
    /// What one search for documents covers; what the flavour allows if left out.
    pub(in crate::config) documents: Option<DocumentsOf>,
    /// The address of the value set with the document categories, or its part after `base-url`; `ValueSet/document-category` for
    /// EMA.
    #[schemars(extend("x-form" = "text"), example = &"ValueSet/document-category")]
    pub(in crate::config) categories: Option<String>,
    /// Whether stations that share the work get this clinic's secrets through the ledger, sealed with the clinic key. Otherwise only
    /// stations whose keychain has them watch it.
    pub(in crate::config) share_secret: bool,
    /// Watch nothing for now. What is known stays.
    pub(in crate::config) paused: bool,
    pub(in crate::config) plan: Plan,
    pub(in crate::config) classes: Classes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EhrFlavour {
    /// Any FHIR R4 server.
    Generic,
    Medplum,
    /// AWS HealthLake.
    Healthlake,
    /// ModMed EMA's proprietary API.
    Ema,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum EhrSignIn {
    /// OAuth 2 client credentials with a secret.
    ClientSecret,
    /// The same with a signed statement (SMART backend services): `client-id`, and a private key as `secret`.
    PrivateKeyJwt,
    /// A refresh token, which may change with each use.
    RefreshToken,
    /// Account and password at the token address (EMA's older way).
    Password,
    /// Each request signed as AWS asks (SigV4).
    Aws,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentsOf {
    /// Everything of the clinic that changed: one search for all.
    Firm,
    /// Some watched encounters at once.
    Encounters,
    /// One patient of a watched encounter.
    Patient,
}

/// How the EHR is watched. How often within these bounds follows from the quota and from how often something was found.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::config) struct Plan {
    /// No sooner again than this, however large the quota.
    #[schemars(extend("x-from" = "100ms", "x-to" = "5min"))]
    pub(in crate::config) fastest: Time,
    /// No later than this, as far as the quota allows.
    #[schemars(extend("x-from" = "5s", "x-to" = "1h"))]
    pub(in crate::config) slowest: Time,
    /// How far back each look goes over what was seen already. It grows by itself where rows turn up later.
    #[schemars(extend("x-from" = "1s", "x-to" = "24h"))]
    pub(in crate::config) overlap: Time,
    /// How far "complete up to" stays behind the server's clock. It grows by itself where rows turn up later.
    #[schemars(extend("x-from" = "0s", "x-to" = "1h"))]
    pub(in crate::config) settle: Time,
    /// How long an encounter is followed after its last change.
    #[schemars(extend("x-from" = "1h", "x-to" = "14d"))]
    pub(in crate::config) life: Time,
    /// Watched encounters that one worker takes at once, 1 to 200.
    #[schemars(range(min = 1, max = 200))]
    pub(in crate::config) batch: u32,
    /// Workers at the same time on this station, 1 to 16.
    #[schemars(range(min = 1, max = 16))]
    pub(in crate::config) workers: u32,
    /// How long the right to follow an encounter lasts without renewal.
    #[schemars(extend("x-from" = "10s", "x-to" = "10min"))]
    pub(in crate::config) term: Time,
    /// Between two full comparisons, which verify that nothing was missed.
    #[schemars(extend("x-from" = "1min", "x-to" = "7d"))]
    pub(in crate::config) sweep_every: Time,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            fastest: seconds(1),
            slowest: seconds(5 * 60),
            overlap: seconds(5 * 60),
            settle: seconds(2 * 60),
            life: seconds(24 * 60 * 60),
            batch: 50,
            workers: 2,
            term: seconds(30),
            sweep_every: seconds(24 * 60 * 60),
        }
    }
}

/// What the clinic's document categories mean. `chart-relay doctor --categories FIRM` prints those that the server offers. A document
/// of none of them is listed, and nothing is done with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::config) struct Classes {
    /// Photographs of one lesion: codes, or system|code.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) solitary: Vec<String>,
    /// Photographs of a rash.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) widespread: Vec<String>,
    /// Notes: text only.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) note: Vec<String>,
    /// Nothing is done with these, and they are not listed.
    #[schemars(extend("x-form" = "text"))]
    pub(in crate::config) ignore: Vec<String>,
}

impl Default for Ehr {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            flavour: EhrFlavour::Generic,
            sign_in: None,
            token_url: None,
            client_id: None,
            secret: None,
            secret_in: SecretIn::Header,
            scope: None,
            key_id: None,
            refresh_token: None,
            account: None,
            access_key_id: None,
            region: None,
            api_key: None,
            quota: None,
            ca_file: None,
            fingerprint: None,
            timeout: seconds(60),
            page: None,
            documents: None,
            categories: None,
            share_secret: false,
            paused: false,
            plan: Plan::default(),
            classes: Classes::default(),
        }
    }
}
