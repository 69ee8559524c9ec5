//! HTTPS, so that clients can be tested on whom they trust.

use crate::client::{ACCOUNT, PASSWORD};
use reqwest::ClientBuilder;
use simulators::filemaker::{Clinic, FileMaker};
use simulators::tls::Certificate;

async fn reaches(certificate: &Certificate, trusting: Option<&str>) -> bool {
    let config = certificate.server_config().expect("a fitting key");
    let filemaker = FileMaker::start_tls(Clinic::synthetic(ACCOUNT, PASSWORD), config).await.expect("a free port");
    let roots: Vec<_> = trusting
        .into_iter()
        .map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate"))
        .collect();
    let client = ClientBuilder::new().tls_certs_only(roots).build().expect("a client");
    let url = format!("{}/fmi/data/v2/productInfo", filemaker.base_url());
    assert!(url.starts_with("https://127.0.0.1:"));
    client.get(url).send().await.is_ok_and(|response| response.status() == 200)
}

#[tokio::test]
async fn a_client_reaches_only_whom_it_trusts() {
    let known = Certificate::by_own_authority().expect("a certificate");
    let authority = known.authority_pem().expect("it has one").to_owned();
    assert!(reaches(&known, Some(&authority)).await);
    assert!(!reaches(&known, None).await);
    let other = Certificate::self_signed().expect("a certificate");
    assert!(!reaches(&other, Some(&authority)).await);
    assert!(!reaches(&Certificate::expired().expect("a certificate"), Some(&authority)).await);
}
