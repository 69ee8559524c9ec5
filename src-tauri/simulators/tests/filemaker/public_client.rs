//! A public client that we did not write, `@proofkit/fmdapi`, drives the simulator: `tests/real/fmdapi`.

use crate::client::{ACCOUNT, PASSWORD};
use simulators::filemaker::{Clinic, FileMaker, Route};
use std::path::Path;
use std::process::{Command, Output};

#[tokio::test]
async fn a_public_client_finds_its_way() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/real/fmdapi");
    assert!(
        folder.join("node_modules/@proofkit/fmdapi").is_dir(),
        "the public client is not installed: run `npm ci` in tests/real/fmdapi"
    );
    let filemaker = FileMaker::start(Clinic::synthetic(ACCOUNT, PASSWORD)).await.expect("a free port");
    let url = filemaker.base_url();
    let run = move || Command::new("node").current_dir(folder).args(["drive.mjs", &url, ACCOUNT, PASSWORD]).output();
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(run).await.expect("a thread").expect("node");
    assert!(status.success(), "{}\n{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let control = filemaker.control();
    let counts = control.counts();
    assert_eq!(
        (control.count("Patient"), counts.of(Route::Logout), counts.logins, counts.open_sessions),
        (129, 1, 2, 1)
    );
}
