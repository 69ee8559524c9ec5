//! The demo, as a viewer starts it where there is neither terminal nor display.

use std::process::Stdio;

use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_of_ehrs_finds_every_document_once_and_keeps_to_the_quotas() {
    let output = Command::new(env!("CARGO_BIN_EXE_chart-relay"))
        .args(["demo", "--scenario", "ehr", "--for", "15s", "--seed", "7"])
        .stdin(Stdio::null())
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("opens") && said.contains("was found after"), "{said}");
    assert_eq!(said.matches("violations: 0").count(), 2, "{said}");
    assert!(said.contains("0 missed, 0 handed on twice, 0 of the wrong kind"), "{said}");
}
