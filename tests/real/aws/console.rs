//! What another program of the AWS account would ask: straight to the emulator, past the relay.

use serde_json::Value as Json;

/// `target` is the operation with its service's prefix, as the `x-amz-target` header has it.
pub(crate) async fn ask(address: &str, target: &str, body: Json) -> Json {
    let service = if target.starts_with("AmazonSQS") { "sqs" } else { "dynamodb" };
    let credential = format!("synthetic/20260302/us-east-1/{service}/aws4_request");
    let answer = reqwest::Client::new()
        .post(address)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", target)
        .header("authorization", format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"))
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{target}: {status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}
