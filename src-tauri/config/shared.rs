//! `[shared]` as it is written: what stations share in AWS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stations share. `chart-relay provision` makes it. The audit log stays on each station.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Shared {
    /// The AWS region; by default what AWS_REGION or the profile of this account says.
    #[schemars(extend("x-form" = "text"), example = &"eu-central-1")]
    pub(super) region: Option<String>,
    /// Another address than AWS's own, for a service that is compatible with it.
    #[schemars(extend("x-form" = "url"))]
    pub(super) endpoint: Option<String>,
    /// The name of the SQS queue; one that ends in .fifo is a FIFO queue.
    #[schemars(extend("x-form" = "queue-name"))]
    pub(super) queue: String,
    /// What the names of the DynamoDB tables begin with.
    #[schemars(extend("x-form" = "slug"))]
    pub(super) prefix: String,
    /// The id of an access key. Left out, AWS's default chain finds credentials: environment, profile, the machine's role.
    #[schemars(extend("x-form" = "text"))]
    pub(super) access_key_id: Option<String>,
    /// The name under which the keychain has the secret of that access key.
    #[schemars(extend("x-form" = "secret-name"))]
    pub(super) secret: Option<String>,
    /// The clinic that messages belong to which name none, by its id. Not needed where only one clinic is served; where stations
    /// serve different ones, it must be the same on each.
    #[schemars(extend("x-form" = "slug"))]
    pub(super) default_firm: Option<String>,
    /// A key of the clinic's own in KMS that encrypts queues and tables: its id, its ARN, or alias/NAME. Left out, AWS's own keys do.
    #[schemars(extend("x-form" = "text"), example = &"alias/clinic")]
    pub(super) kms_key: Option<String>,
    /// The roles in AWS that are taken on, by their ARN. Left out, everything is done with the credentials as they are.
    pub(super) roles: Roles,
}

/// Which role of AWS does what.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Roles {
    /// Syncs: the role of a running station.
    #[schemars(extend("x-form" = "role"), example = &"arn:aws:iam::123456789012:role/chart-relay-sync")]
    pub(super) sync: Option<String>,
    /// Looks: the role of `doctor`.
    #[schemars(extend("x-form" = "role"), example = &"arn:aws:iam::123456789012:role/chart-relay-viewer")]
    pub(super) viewer: Option<String>,
}

impl Default for Shared {
    fn default() -> Self {
        let name = "chart-relay";
        Self {
            region: None,
            endpoint: None,
            queue: name.into(),
            prefix: name.into(),
            access_key_id: None,
            secret: None,
            default_firm: None,
            kms_key: None,
            roles: Roles::default(),
        }
    }
}
