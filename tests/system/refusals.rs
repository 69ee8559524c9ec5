//! A running station whose credentials or permissions in AWS go, and come back.

use serde_json::json;

use crate::{
    installation::assert_said,
    post::sharing,
    proxy::{Act, Proxy},
};

mod ministack {
    #[tokio::test(flavor = "multi_thread")]
    async fn a_refusal_is_said_in_a_sentence_and_over_when_it_ends() {
        super::a_refusal_is_said_in_a_sentence_and_over_when_it_ends(crate::emulator::ministack()).await;
    }
}

fn refusal(name: &str) -> Act {
    let name = format!("com.amazonaws.dynamodb.v20120810#{name}");
    Act::Answer(400, json!({ "__type": name, "message": "SYNTHETIC 123456789012" }).to_string())
}

async fn a_refusal_is_said_in_a_sentence_and_over_when_it_ends(address: &str) {
    let proxy = Proxy::start(address).await;
    let mut installation = sharing("refused", 2, 33, &proxy.address).await;
    let doctor = installation.run(&["doctor"]).await;
    assert_said(&doctor, "all roles");
    assert_said(&doctor, "$2.45");
    let relay = installation.start();
    installation.all_arrived().await;

    // The keys are revoked: one thing to do, whatever is refused for it, and nothing of AWS's words.
    proxy.always(Some((None, refusal("UnrecognizedClientException"))));
    installation.status("AWS refuses our credentials").await;
    let status = installation.run(&["status"]).await;
    assert_said(&status, "1 item needs attention");
    assert!(!String::from_utf8_lossy(&status.stdout).contains("123456789012"));
    proxy.always(None);
    installation.status("Up to date").await;

    // A permission is taken away: it is named, with what stops. What does not need it goes on.
    proxy.always(Some((Some("ReceiveMessage"), refusal("AccessDeniedException"))));
    let what = "AWS does not allow us sqs:ReceiveMessage on refused: no changes are taken from the queue";
    installation.status(what).await;
    let ids = installation.chart.control().ids("Patient");
    installation.chart.change("Patient", &ids[0]);
    proxy.always(None);
    installation.all_arrived().await;
    let status = installation.run(&["status"]).await;
    assert_said(&status, "AWS for each of");
    assert!(!String::from_utf8_lossy(&status.stdout).contains("does not allow"));
    installation.stop(relay).await;
}
