//! Certificates for simulators that speak HTTPS, made anew each time, so that trust by fingerprint and by an own authority
//! can be tested. They are for `localhost` and `127.0.0.1`.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, Error, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io;
use std::sync::Arc;

/// A server's certificate with its key.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    pem: String,
    key: Vec<u8>,
    authority: Option<String>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("authority", &self.authority.is_some()).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Signed by itself, as the one that FileMaker Server comes with.
    ///
    /// # Errors
    /// If the machine gives no randomness.
    pub fn self_signed() -> io::Result<Self> {
        Self::alone(parameters()).map_err(io::Error::other)
    }

    /// Signed by itself, and it ran out in 2020.
    ///
    /// # Errors
    /// As [`Certificate::self_signed`].
    pub fn expired() -> io::Result<Self> {
        let parameters = parameters().map(|mut parameters| {
            parameters.not_before = date_time_ymd(2019, 1, 1);
            parameters.not_after = date_time_ymd(2020, 1, 1);
            parameters
        });
        Self::alone(parameters).map_err(io::Error::other)
    }

    /// Signed by an authority that no system knows; see [`Certificate::authority_pem`].
    ///
    /// # Errors
    /// As [`Certificate::self_signed`].
    pub fn by_own_authority() -> io::Result<Self> {
        Self::issued().map_err(io::Error::other)
    }

    fn alone(parameters: Result<CertificateParams, Error>) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let certificate = parameters?.self_signed(&key)?;
        Ok(Self { der: certificate.der().to_vec(), pem: certificate.pem(), key: key.serialize_der(), authority: None })
    }

    fn issued() -> Result<Self, Error> {
        let mut root = CertificateParams::new(Vec::new())?;
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = parameters()?.signed_by(&key, &root)?;
        let authority = Some(root.pem());
        Ok(Self { der: certificate.der().to_vec(), pem: certificate.pem(), key: key.serialize_der(), authority })
    }

    /// The certificate itself; its SHA-256 is the fingerprint.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate of the authority that signed it, for clients that are to trust it.
    #[must_use]
    pub fn authority_pem(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// What a server needs to present it.
    ///
    /// # Errors
    /// If certificate and key do not fit.
    pub fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![self.der.clone().into()], key))
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }
}

fn parameters() -> Result<CertificateParams, Error> {
    CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
}
