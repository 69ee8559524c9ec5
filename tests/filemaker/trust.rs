//! Whom the client believes to be the clinic's server.

use chart_relay::adapters::{pin::Fingerprint, transport::Trust};
use engine::ports::ClinicDatabase as _;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use simulators::tls::Certificate;

use super::*;

async fn host(certificate: &Certificate) -> sim::FileMaker {
    let clinic = Clinic::synthetic(ACCOUNT, PASSWORD);
    sim::FileMaker::start_tls(clinic, certificate.server_config().unwrap()).await.unwrap()
}

async fn probe(host: &sim::FileMaker, trust: Trust) -> Result<(), Fault> {
    probe_at(&host.base_url(), trust).await
}

async fn probe_at(url: &str, trust: Trust) -> Result<(), Fault> {
    let mut config = config(url);
    config.trust = trust;
    let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
    FileMaker::new(config, Secret::new(PASSWORD), clock)?.probe().await
}

fn pin(certificate: &Certificate) -> Trust {
    Trust::Pin(Fingerprint::of(certificate.der()))
}

#[tokio::test]
async fn a_pinned_certificate_is_believed_and_no_other() {
    let own = Certificate::self_signed().unwrap();
    let other = Certificate::self_signed().unwrap();
    let host = host(&own).await;
    probe(&host, pin(&own)).await.unwrap();
    refused(probe(&host, pin(&other)).await, Class::Stop, Code::CertificateRefused);
    assert_eq!(host.control().counts().requests, 1, "whoever is not believed is told nothing");
}

#[tokio::test]
async fn a_pin_is_worth_no_more_than_the_key_behind_it() {
    #[derive(Debug)]
    struct Impostor {
        shows: Vec<u8>,
        signs_like: Arc<dyn ResolvesServerCert>,
    }
    impl ResolvesServerCert for Impostor {
        fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            let key = self.signs_like.resolve(hello)?.key.clone();
            Some(Arc::new(CertifiedKey::new(vec![self.shows.clone().into()], key)))
        }
    }
    let real = Certificate::self_signed().unwrap();
    let own = Certificate::self_signed().unwrap().server_config().unwrap();
    let impostor = Impostor { shows: real.der().to_vec(), signs_like: own.cert_resolver.clone() };
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(impostor));
    let host = sim::FileMaker::start_tls(Clinic::synthetic(ACCOUNT, PASSWORD), Arc::new(config)).await.unwrap();
    assert!(probe(&host, pin(&real)).await.is_err());
    assert_eq!(host.control().counts().requests, 0);
}

#[tokio::test]
async fn a_pin_holds_whatever_name_or_term_is_written_in_the_certificate() {
    let expired = Certificate::expired().unwrap();
    let host = host(&expired).await;
    probe(&host, pin(&expired)).await.unwrap();
}

#[tokio::test]
async fn an_own_authority_is_believed_and_no_other() {
    let own = Certificate::by_own_authority().unwrap();
    let other = Certificate::by_own_authority().unwrap();
    let authority = |certificate: &Certificate| Trust::Authority(certificate.authority_pem().unwrap().into());
    let host = host(&own).await;
    probe(&host, authority(&own)).await.unwrap();
    refused(probe(&host, authority(&other)).await, Class::Stop, Code::CertificateRefused);
    let nothing = Trust::Authority(b"SYNTHETIC".to_vec());
    refused(probe(&host, nothing).await, Class::Stop, Code::CertificateRefused);
    assert_eq!(host.control().counts().requests, 1);
}

#[tokio::test]
async fn a_server_without_tls_is_unreachable_over_it() {
    let host = sim::FileMaker::start(Clinic::synthetic(ACCOUNT, PASSWORD)).await.unwrap();
    let url = host.base_url().replace("http://", "https://");
    let certificate = Certificate::self_signed().unwrap();
    refused(probe_at(&url, pin(&certificate)).await, Class::Away, Code::Unreachable);
}

#[tokio::test]
async fn http_1_1_alone_will_do() {
    let own = Certificate::by_own_authority().unwrap();
    let host = host(&own).await;
    let mut config = config(&host.base_url());
    config.trust = Trust::Authority(own.authority_pem().unwrap().into());
    config.http1_only = true;
    let clock = FakeClock::at("2026-03-02T08:00:00Z".parse().unwrap());
    FileMaker::new(config, Secret::new(PASSWORD), clock).unwrap().probe().await.unwrap();
}
