//! An API that takes a FHIR server's rest-hooks and puts a hint into the queue: a CloudFormation template for API Gateway, without
//! any code of ours in between. The hook carries a whole resource; a mapping template takes its type and id, and nothing else of it
//! comes into the queue or into a log.
//!
//! Each clinic has a path of its own, `/hook/FIRM`, so that nobody can name another. API Gateway itself refuses a request without the
//! key, with a body that has no type and id of the right form, or of another content type.

use engine::{hint::VERSION, key::FirmId};
use serde_json::{Map, Value as Json, json};

use super::{provision::Wish, roles};

/// Sent by a FHIR server, and by whoever tries it out.
const CONTENT_TYPES: [&str; 2] = ["application/fhir+json", "application/json"];

/// Hooks a second, and at once. Far more than a clinic's chart system sends; the poll finds what is refused.
const RATE: u32 = 50;
const BURST: u32 = 100;

/// What API Gateway sends to SQS for one hook. Both values have been held against [`model`] before.
fn mapping(firm: &FirmId, fifo: bool) -> String {
    let (of, id) = ("$input.path('$.resourceType')", "$input.path('$.id')");
    let body =
        format!(r#"{{""v"":{VERSION},""hints"":[{{""firm"":""{firm}"",""resource"":""{of}"",""id"":""{id}""}}]}}"#);
    let mut text =
        format!("#set($hint = \"{body}\")\nAction=SendMessage&Version=2012-11-05&MessageBody=$util.urlEncode($hint)");
    if fifo {
        // One order for each entity, and an id for each request: two edits are two messages.
        text.push_str(&format!(
            "&MessageGroupId=$util.urlEncode(\"{firm}/link/{of}/{id}\")&MessageDeduplicationId=$util.urlEncode($context.requestId)"
        ));
    }
    text
}

/// What a hook's body must have.
fn model() -> Json {
    json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object",
        "required": ["resourceType", "id"],
        "properties": {
            "resourceType": { "type": "string", "pattern": "^[A-Z][A-Za-z]{0,63}$" },
            "id": { "type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$" }
        }
    })
}

/// The template. The queue must be there already, in the same account and region.
pub fn template(wish: &Wish, firms: &[FirmId]) -> Json {
    let queue = &wish.queue;
    let name = format!("{}-hooks", queue.trim_end_matches(".fifo"));
    let sub = |text: &str| json!({ "Fn::Sub": text });
    let arn = |of: &str, attribute: &str| json!({ "Fn::GetAtt": [of, attribute] });
    let api = json!({ "Ref": "Api" });
    let mut resources = Map::new();
    let mut add = |id: &str, kind: &str, properties: Json| {
        resources.insert(id.to_owned(), json!({ "Type": format!("AWS::{kind}"), "Properties": properties }));
    };
    let trust = json!({ "Effect": "Allow", "Principal": { "Service": "apigateway.amazonaws.com" }, "Action": "sts:AssumeRole" });
    let send = json!({
        "Effect": "Allow", "Action": "sqs:SendMessage",
        "Resource": sub(&format!("arn:${{AWS::Partition}}:sqs:${{AWS::Region}}:${{AWS::AccountId}}:{queue}"))
    });
    // A queue that is encrypted with a key of the clinic's own asks for the right to use it as well.
    let key = wish.kms_key.as_ref().map(|key| {
        roles::kms(key, &format!("arn:{}", wish.partition), &["kms:Decrypt", "kms:GenerateDataKey"], &["sqs"])
    });
    let may: Vec<_> = std::iter::once(send).chain(key).collect();
    add(
        "Role",
        "IAM::Role",
        json!({
            "Description": "Lets API Gateway put messages into the queue of Chart Relay, and nothing else",
            "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [trust] },
            "Policies": [{ "PolicyName": "send", "PolicyDocument": { "Version": "2012-10-17", "Statement": may } }]
        }),
    );
    add(
        "Api",
        "ApiGateway::RestApi",
        json!({
            "Name": name, "Description": "Rest-hooks to hints of Chart Relay: keeps ids only",
            "EndpointConfiguration": { "Types": ["REGIONAL"] }, "ApiKeySourceType": "HEADER"
        }),
    );
    add(
        "Resource",
        "ApiGateway::Model",
        json!({ "RestApiId": api, "ContentType": CONTENT_TYPES[1], "Schema": model() }),
    );
    add("Validator", "ApiGateway::RequestValidator", json!({ "RestApiId": api, "ValidateRequestBody": true }));
    add(
        "Hook",
        "ApiGateway::Resource",
        json!({ "RestApiId": api, "ParentId": arn("Api", "RootResourceId"), "PathPart": "hook" }),
    );
    let mut methods = Vec::new();
    for (number, firm) in firms.iter().enumerate() {
        let (path, method) = (format!("Firm{number}"), format!("Post{number}"));
        add(
            &path,
            "ApiGateway::Resource",
            json!({ "RestApiId": api, "ParentId": { "Ref": "Hook" }, "PathPart": firm }),
        );
        let mapping = mapping(firm, queue.ends_with(".fifo"));
        let of_each =
            |value: Json| Json::Object(CONTENT_TYPES.map(|of| (of.to_owned(), value.clone())).into_iter().collect());
        let answer = |status: &str, pattern: Option<&str>| {
            let mut answer = json!({ "StatusCode": status, "ResponseTemplates": { "application/json": "" } });
            if let Some(pattern) = pattern {
                answer["SelectionPattern"] = pattern.into();
            }
            answer
        };
        add(
            &method,
            "ApiGateway::Method",
            json!({
                "RestApiId": api, "ResourceId": { "Ref": path }, "HttpMethod": "POST",
                "AuthorizationType": "NONE", "ApiKeyRequired": true,
                "RequestValidatorId": { "Ref": "Validator" },
                "RequestModels": of_each(json!({ "Ref": "Resource" })),
                "MethodResponses": [{ "StatusCode": "200" }, { "StatusCode": "502" }],
                "Integration": {
                    "Type": "AWS", "IntegrationHttpMethod": "POST", "Credentials": arn("Role", "Arn"),
                    "Uri": sub(&format!("arn:${{AWS::Partition}}:apigateway:${{AWS::Region}}:sqs:path/${{AWS::AccountId}}/{queue}")),
                    "PassthroughBehavior": "NEVER",
                    "RequestParameters": { "integration.request.header.Content-Type": "'application/x-www-form-urlencoded'" },
                    "RequestTemplates": of_each(mapping.into()),
                    // Whatever else SQS answers: the FHIR server is to try again.
                    "IntegrationResponses": [answer("200", Some("200")), answer("502", None)]
                }
            }),
        );
        methods.push(method);
    }
    add("Deployment", "ApiGateway::Deployment", json!({ "RestApiId": api }));
    // A deployment is a picture of what is there when it is made.
    resources["Deployment"]["DependsOn"] = methods.into();
    let mut add = |id: &str, kind: &str, properties: Json| {
        resources.insert(id.to_owned(), json!({ "Type": format!("AWS::{kind}"), "Properties": properties }));
    };
    add(
        "Stage",
        "ApiGateway::Stage",
        json!({
            "RestApiId": api, "DeploymentId": { "Ref": "Deployment" }, "StageName": "v1",
            // Neither bodies nor lines about requests are logged.
            "MethodSettings": [{
                "ResourcePath": "/*", "HttpMethod": "*", "LoggingLevel": "OFF", "DataTraceEnabled": false, "MetricsEnabled": true
            }]
        }),
    );
    add("Key", "ApiGateway::ApiKey", json!({ "Name": name, "Enabled": true }));
    add(
        "Plan",
        "ApiGateway::UsagePlan",
        json!({
            "UsagePlanName": name,
            "ApiStages": [{ "ApiId": api, "Stage": { "Ref": "Stage" } }],
            "Throttle": { "RateLimit": RATE, "BurstLimit": BURST }
        }),
    );
    add(
        "KeyOfPlan",
        "ApiGateway::UsagePlanKey",
        json!({
            "KeyId": { "Ref": "Key" }, "KeyType": "API_KEY", "UsagePlanId": { "Ref": "Plan" }
        }),
    );
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Takes rest-hooks for Chart Relay and keeps ids only",
        "Resources": resources,
        "Outputs": {
            "Address": {
                "Description": "The address of hooks, to be followed by the clinic's id",
                "Value": sub("https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}/v1/hook/")
            },
            "KeyId": { "Description": "The id of the key; its value: aws apigateway get-api-key --include-value", "Value": { "Ref": "Key" } }
        }
    })
}
