//! How the adapters speak HTTP: which certificates they trust, where plain text is allowed, and what it means when no
//! answer comes.

use std::{error::Error as StdError, io, net::IpAddr, time::Duration};

use engine::error::{Class, Code, Fault};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{Certificate, ClientBuilder, redirect};
use url::{Host, Url};

use super::pin::{self, Fingerprint};

/// How long a connection may take to come about, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// Whose certificates are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// What the operating system trusts.
    #[default]
    System,
    /// Only what this certificate authority signed (one or more certificates in PEM). The system's roots are not asked: a
    /// clinic that names its own authority wants no other.
    Authority(Vec<u8>),
    /// Only this certificate. A FileMaker Server often has a self-signed one.
    Pin(Fingerprint),
}

/// The base address of a server: https, or http on this machine only; without user, query or fragment; ends with a slash, so
/// that relative paths are added to it and replace nothing.
///
/// # Errors
/// `Stop` / `Rejected` on `setting`, with what is wrong as the vendor's word.
pub fn base(setting: &str, text: &str) -> Result<Url, Fault> {
    let wrong = |what: &str| Fault::new(Class::Stop, Code::Rejected).on(setting).vendor(what);
    let mut url = Url::parse(text).map_err(|_| wrong("not a URL"))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err(wrong("http is allowed only on this machine; use https")),
        _ => return Err(wrong("not an https address")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a URL must not hold a user or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("the address must have no ? or #"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// Whether a server is on this machine, by its address and not by what a name resolves to (`localhost` excepted).
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// A builder for a client of the server at `base`. Redirects are not followed, since they would carry secrets and patient
/// data to wherever they point. A request is sent again on its own only where the protocol says that it was not processed.
///
/// # Errors
/// `Stop` / `CertificateRefused` where the authority's certificates cannot be read.
pub fn client(base: &Url, trust: &Trust) -> Result<ClientBuilder, Fault> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("chart-relay/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(redirect::Policy::none())
        .referer(false);
    if base.scheme() == "http" {
        // Loopback: neither a proxy nor the system's certificates have a part in it.
        return Ok(builder.no_proxy().tls_certs_only([]));
    }
    match trust {
        Trust::System => Ok(builder.https_only(true)),
        Trust::Authority(pem) => {
            let unreadable =
                || Fault::new(Class::Stop, Code::CertificateRefused).vendor("no certificate in the CA file");
            let certificates = Certificate::from_pem_bundle(pem).map_err(|_| unreadable())?;
            if certificates.is_empty() {
                return Err(unreadable());
            }
            Ok(builder.https_only(true).tls_certs_only(certificates))
        }
        Trust::Pin(fingerprint) => Ok(builder.https_only(true).tls_backend_preconfigured(pin::config(*fingerprint)?)),
    }
}

/// Builds the client.
///
/// # Errors
/// `Stop` / `CertificateRefused`: the only thing that can fail here is loading certificates.
pub fn build(builder: ClientBuilder) -> Result<reqwest::Client, Fault> {
    builder
        .build()
        .map_err(|_| Fault::new(Class::Stop, Code::CertificateRefused).vendor("certificates could not be loaded"))
}

/// An HTTP-date in its one current form (RFC 9110 section 5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Why no whole answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection: refused, no route, no such name, or no TLS at the other end.
    Unreachable,
    /// Its certificate is not trusted, has expired or is another host's.
    CertificateRefused,
    /// No connection in time.
    ConnectTimedOut,
    /// The connection was there and no whole answer came in time.
    TimedOut,
    /// The connection ended before the whole answer came.
    HungUp,
}

impl NoAnswer {
    pub fn of(error: &reqwest::Error) -> Self {
        if has_bad_certificate(error) {
            Self::CertificateRefused
        } else if error.is_connect() {
            if error.is_timeout() { Self::ConnectTimedOut } else { Self::Unreachable }
        } else if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::HungUp
        }
    }

    /// Whether the server may have carried the request out all the same.
    pub fn may_have_arrived(self) -> bool {
        matches!(self, Self::TimedOut | Self::HungUp)
    }

    /// The fault of a call that changes nothing. No connection is the side's fault, and it waits; an answer that broke off may
    /// be the one record's, and is tried again and counted.
    pub fn fault(self) -> Fault {
        match self {
            Self::Unreachable => Fault::new(Class::Away, Code::Unreachable),
            Self::CertificateRefused => Fault::new(Class::Stop, Code::CertificateRefused),
            Self::ConnectTimedOut => Fault::new(Class::Away, Code::TimedOut),
            Self::TimedOut => Fault::new(Class::Retry, Code::TimedOut),
            Self::HungUp => Fault::new(Class::Retry, Code::NotAnswering),
        }
    }
}

/// Looks for rustls's verdict in the chain of causes. An `io::Error` hides the error in it from `source`, so it is opened, as
/// often as one is wrapped in the next.
fn has_bad_certificate(error: &(dyn StdError + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented);
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => has_bad_certificate(inner),
        None => error.source().is_some_and(has_bad_certificate),
    }
}
