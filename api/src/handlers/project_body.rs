//! What clients send to make or change a project.

use crate::{
    extract::not_blank,
    views::{project_priority, project_status},
};
use garde::Validate;
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{
    models::{Project, ProjectChanges, ProjectPriority, ProjectStatus},
    orchestration::keep_secret,
};
use utoipa::ToSchema;

/// A project to be made.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct CreateProject {
    #[garde(length(chars, min = 1, max = 200), custom(not_blank))]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: String,
    #[garde(length(chars, max = 20_000))]
    #[schema(max_length = 20_000)]
    pub(super) description: Option<String>,
    /// What its orchestrations are about unless they say otherwise.
    #[garde(length(chars, max = 20_000))]
    #[schema(max_length = 20_000)]
    pub(super) topic: Option<String>,
    /// `medium` unless it is given.
    #[garde(skip)]
    #[schema(schema_with = project_priority)]
    pub(super) priority: Option<ProjectPriority>,
    /// `active` unless it is given.
    #[garde(skip)]
    #[schema(schema_with = project_status)]
    pub(super) status: Option<ProjectStatus>,
    /// Anything; kept as it is.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    pub(super) metadata: Option<Map<String, Value>>,
}

/// What is to change in a project; what is not sent stays.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct UpdateProject {
    #[garde(length(chars, min = 1, max = 200), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[garde(length(chars, max = 20_000))]
    #[schema(max_length = 20_000)]
    description: Option<String>,
    #[garde(length(chars, max = 20_000))]
    #[schema(max_length = 20_000)]
    topic: Option<String>,
    #[garde(skip)]
    #[schema(schema_with = project_priority)]
    priority: Option<ProjectPriority>,
    /// `archived` puts it away.
    #[garde(skip)]
    #[schema(schema_with = project_status)]
    status: Option<ProjectStatus>,
    /// Replaces the whole.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

impl UpdateProject {
    /// What it really changes.
    pub(super) fn changes(self, stored: &Project) -> ProjectChanges {
        let metadata = self.metadata.map(|metadata| {
            let mut metadata = Value::Object(metadata);
            keep_secret(&mut metadata, &stored.metadata);
            metadata
        });
        ProjectChanges {
            name: self.name.filter(|name| *name != stored.name),
            description: self.description.filter(|description| *description != stored.description),
            topic: self.topic.filter(|topic| *topic != stored.topic),
            status: self.status.filter(|status| *status != stored.status),
            priority: self.priority.filter(|priority| *priority != stored.priority),
            metadata: metadata.filter(|metadata| *metadata != stored.metadata),
        }
    }
}

/// The names of what changes.
pub(super) fn names(changes: &ProjectChanges) -> Vec<&'static str> {
    let ProjectChanges { name, description, topic, status, priority, metadata } = changes;
    let all = [
        ("name", name.is_some()),
        ("description", description.is_some()),
        ("topic", topic.is_some()),
        ("status", status.is_some()),
        ("priority", priority.is_some()),
        ("metadata", metadata.is_some()),
    ];
    all.into_iter().filter_map(|(name, changed)| changed.then_some(name)).collect()
}
